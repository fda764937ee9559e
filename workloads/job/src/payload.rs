//! The input of one unit: it follows from the job and the index by arithmetic, and from blobs.

use lull_abi::text::lines;
use lull_abi::{DecodeError, Payload, Point, Stage, Unit, decode_items};

use crate::{Plan, Split};

/// Why the input of a unit cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A blob that the unit needs was not given.
    #[error("{stage} unit {index} needs {needed} blobs and got {given}")]
    MissingBlobs {
        /// Stage of the unit.
        stage: Stage,
        /// Its index.
        index: u64,
        /// Blobs that it needs.
        needed: u64,
        /// Blobs that it got.
        given: u64,
    },
    /// The result of the module's split is not a list of items.
    #[error("the result of the module's split: {0}")]
    Split(#[from] DecodeError),
}

/// The input of unit (`stage`, `index`).
///
/// `blobs` are: the file for a split by lines; the unit's files; the split's result for a module's own
/// split; the results to merge for merge and finish, of units that did not fail.
///
/// # Errors
/// When blobs are missing or are not what they should be.
pub fn unit_payload(
    plan: &Plan,
    split: &Split,
    stage: Stage,
    index: u64,
    blobs: Vec<Vec<u8>>,
) -> Result<Unit, PayloadError> {
    let payload = match stage {
        Stage::Split => Payload::Nothing,
        Stage::Work => work_payload(plan, split, index, blobs)?,
        Stage::Merge(_) | Stage::Finish => Payload::Parts(blobs),
    };
    let number = if stage == Stage::Work { plan.number(index) } else { index };
    Ok(Unit { stage, number, payload })
}

fn work_payload(
    plan: &Plan,
    split: &Split,
    index: u64,
    blobs: Vec<Vec<u8>>,
) -> Result<Payload, PayloadError> {
    let items = plan.items_of(index);
    let first =
        || blobs.first().ok_or(PayloadError::MissingBlobs { stage: Stage::Work, index, needed: 1, given: 0 });
    let (skip, take) = (to_usize(items.start), to_usize(items.end - items.start));
    Ok(match split {
        Split::Range { start, .. } => Payload::Range { start: start + items.start, end: start + items.end },
        Split::Lines(_) => {
            Payload::Lines(lines(first()?).skip(skip).take(take).map(<[u8]>::to_vec).collect())
        }
        Split::Files(_) => {
            let (needed, given) = (items.end - items.start, blobs.len() as u64);
            if needed != given {
                return Err(PayloadError::MissingBlobs { stage: Stage::Work, index, needed, given });
            }
            Payload::Files(blobs)
        }
        Split::Grid(axes) => Payload::Points(items.map(|item| point(axes, item)).collect()),
        Split::Module => Payload::Items(decode_items(first()?)?.into_iter().skip(skip).take(take).collect()),
    })
}

fn to_usize(items: u64) -> usize {
    usize::try_from(items).unwrap_or(usize::MAX)
}

fn point(axes: &[(String, Vec<String>)], item: u64) -> Point {
    let mut rest = item;
    let mut point: Point = axes
        .iter()
        .rev()
        .map(|(axis, values)| {
            let count = values.len() as u64;
            let value = &values[to_usize(rest % count)];
            rest /= count;
            (axis.clone(), value.clone())
        })
        .collect();
    point.reverse();
    point
}

/// How many lines a file has, as a split by lines counts them.
#[must_use]
pub fn count_lines(file: &[u8]) -> u64 {
    lines(file).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, InputFile, Reduce};

    fn plan(items: u64, items_per_unit: u64) -> Plan {
        Plan {
            has_split: false,
            items,
            items_per_unit,
            pilot_units: 0,
            reduce: Reduce::Tree,
            merge_fan_in: 2,
        }
    }

    fn file() -> InputFile {
        InputFile { name: "f".to_owned(), digest: Digest::of(b""), size_bytes: 0 }
    }

    fn work(plan: &Plan, split: &Split, index: u64, blobs: &[&[u8]]) -> Payload {
        let blobs = blobs.iter().map(|blob| blob.to_vec()).collect();
        unit_payload(plan, split, Stage::Work, index, blobs).expect("a unit").payload
    }

    #[test]
    fn ranges_start_where_the_job_does() {
        let split = Split::Range { start: 100, end: 110 };
        assert_eq!(work(&plan(10, 4), &split, 2, &[]), Payload::Range { start: 108, end: 110 });
    }

    #[test]
    fn lines_lose_their_endings() {
        let text = b"a\r\nb\n\nd";
        assert_eq!(count_lines(text), 4);
        assert_eq!(count_lines(b"a\n"), 1);
        assert_eq!(count_lines(b""), 0);
        let unit = work(&plan(4, 3), &Split::Lines(file()), 0, &[text]);
        assert_eq!(unit, Payload::Lines(vec![b"a".to_vec(), b"b".to_vec(), Vec::new()]));
    }

    #[test]
    fn the_last_axis_of_a_grid_varies_fastest() {
        let axis =
            |name: &str, values: &[&str]| (name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect());
        let split = Split::Grid(vec![axis("x", &["1", "2"]), axis("y", &["a", "b", "c"])]);
        let Payload::Points(points) = work(&plan(6, 2), &split, 1, &[]) else { panic!("points") };
        let text: Vec<String> = points.iter().map(|p| format!("{}{}", p[0].1, p[1].1)).collect();
        assert_eq!(text, ["1c", "2a"]);
    }

    #[test]
    fn items_of_a_split_and_missing_blobs() {
        let items = lull_abi::encode_items(&[b"p".to_vec(), b"q".to_vec(), b"r".to_vec()]);
        assert_eq!(work(&plan(3, 2), &Split::Module, 1, &[&items]), Payload::Items(vec![b"r".to_vec()]));
        let missing = unit_payload(&plan(3, 2), &Split::Files(Vec::new()), Stage::Work, 0, vec![Vec::new()]);
        assert_eq!(missing.expect_err("one file short").to_string(), "work unit 0 needs 2 blobs and got 1");
    }
}
