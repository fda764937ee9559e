//! The answer of a job: p-values by exact integer arithmetic, as CSV.

use std::borrow::Cow;
use std::fmt::Write;

use lull_sdk::Error;

use crate::{Counts, Study};

/// Decimals of a p-value.
const DECIMALS: usize = 12;

/// The answer as CSV (RFC 4180, lines end in a newline): `rank,gene,raw_count,stepdown_count,raw_p,adj_p`,
/// a line per gene, by rank.
///
/// `raw_p` is raw count / relabelings; `adj_p` is the running maximum over the ranks of stepdown count /
/// relabelings. Both have twelve decimals, rounded half up. Of a pilot's counts they are estimates.
///
/// # Errors
/// When the counts are of no relabeling, or of another study.
pub fn answer(study: &Study, counts: &Counts) -> Result<String, Error> {
    if counts.relabelings == 0 {
        return Err(Error::new("no relabelings were counted: the job needs at least one unit"));
    }
    let genes = study.genes();
    if counts.raw.len() != genes.len() || counts.stepdown.len() != genes.len() {
        return Err(Error::new(
            "these counts are of another number of genes: answer with the job's own table",
        ));
    }
    let mut out = "rank,gene,raw_count,stepdown_count,raw_p,adj_p\n".to_owned();
    let mut running = 0;
    for (index, (gene, (&raw, &stepdown))) in
        genes.iter().zip(counts.raw.iter().zip(&counts.stepdown)).enumerate()
    {
        running = running.max(stepdown);
        writeln!(
            out,
            "{},{},{raw},{stepdown},{},{}",
            index + 1,
            quoted(gene),
            share(raw, counts.relabelings),
            share(running, counts.relabelings)
        )?;
    }
    Ok(out)
}

/// `count / total` as a decimal.
fn share(count: u64, total: u64) -> String {
    let scale = 10_u128.pow(DECIMALS as u32);
    let (count, total) = (u128::from(count), u128::from(total));
    let rounded = (2 * count * scale + total) / (2 * total);
    format!("{}.{:0DECIMALS$}", rounded / scale, rounded % scale)
}

fn quoted(field: &str) -> Cow<'_, str> {
    if field.contains(['"', ',', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", field.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_half_up() {
        assert_eq!(share(1, 1), "1.000000000000");
        assert_eq!(share(0, 7), "0.000000000000");
        assert_eq!(share(2, 3), "0.666666666667");
        assert_eq!(share(1, 2_000_000_000_000), "0.000000000001");
        assert_eq!(share(1, 2_000_000_000_001), "0.000000000000");
        assert_eq!(share(u64::MAX, u64::MAX), "1.000000000000");
    }

    #[test]
    fn adjusted_p_values_never_fall_and_names_are_quoted() {
        let table = b"gene,a,a,b,b\n\"x,\"\"y\"\"\",0,0,5,6\nz,1,2,2,1.5\n";
        let study = Study::new(table, None).unwrap();
        let counts = Counts { relabelings: 8, raw: vec![2, 3], stepdown: vec![4, 3] };
        assert_eq!(
            answer(&study, &counts).unwrap(),
            "rank,gene,raw_count,stepdown_count,raw_p,adj_p\n\
             1,\"x,\"\"y\"\"\",2,4,0.250000000000,0.500000000000\n\
             2,z,3,3,0.375000000000,0.500000000000\n"
        );
        assert!(answer(&study, &Counts::none(2)).is_err());
        assert!(answer(&study, &Counts { relabelings: 1, ..Counts::none(3) }).is_err());
    }
}
