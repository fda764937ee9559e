//! A unit as text, for programs that read standard input; and the lines that a split printed, as items.
//!
//! | payload | text |
//! |---|---|
//! | range | its integers, one a line |
//! | lines, items | one a line |
//! | points | one a line: the values, in the order of the axes, with a tab between two |
//! | files, parts | one after the other, with nothing between |
//! | nothing | nothing |
//!
//! Bytes are passed on as they are: an item or a value with a line end in it becomes two lines.

use crate::unit::{Reader, Tag};
use crate::{DecodeError, Stage};

/// What a program reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The integers `start <= i < end`, one a line: too many to be written down at once.
    Numbers {
        /// First integer.
        start: u64,
        /// One past the last.
        end: u64,
    },
}

impl Text {
    /// The text of a unit as [`crate::Unit::encode`] wrote it, and its stage. It has no more bytes than the unit.
    ///
    /// # Errors
    /// When the bytes are not exactly one unit.
    pub fn of(unit: &[u8]) -> Result<(Stage, Self), DecodeError> {
        let mut reader = Reader::new(unit);
        let (stage, _) = reader.name()?;
        let mut text = Vec::with_capacity(unit.len());
        match reader.tag()? {
            Tag::Nothing => {}
            Tag::Range => {
                let (start, end) = reader.range()?;
                reader.finish("a unit")?;
                return Ok((stage, Self::Numbers { start, end }));
            }
            Tag::Lines | Tag::Items => {
                for _ in 0..reader.u32("lines")? {
                    text.extend_from_slice(reader.bytes("lines")?);
                    text.push(b'\n');
                }
            }
            Tag::Files | Tag::Parts => {
                for _ in 0..reader.u32("files")? {
                    text.extend_from_slice(reader.bytes("files")?);
                }
            }
            Tag::Points => {
                for _ in 0..reader.u32("points of a grid")? {
                    put_point(&mut text, &mut reader)?;
                }
            }
        }
        reader.finish("a unit")?;
        Ok((stage, Self::Bytes(text)))
    }
}

fn put_point(text: &mut Vec<u8>, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let expected = "points of a grid";
    for axis in 0..reader.u32(expected)? {
        reader.bytes(expected)?;
        if axis > 0 {
            text.push(b'\t');
        }
        text.extend_from_slice(reader.bytes(expected)?);
    }
    text.push(b'\n');
    Ok(())
}

/// Lines without their endings (LF or CRLF); what follows the last ending is a line unless it is empty.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

/// Lines as [`crate::encode_items`] writes items; `None` if that takes more than `bytes_max`.
#[must_use]
pub fn encode_lines(text: &[u8], bytes_max: u64) -> Option<Vec<u8>> {
    const LENGTH_BYTES: u64 = size_of::<u32>() as u64;
    let (count, size) = lines(text)
        .fold((0, LENGTH_BYTES), |(count, size), line| (count + 1, size + LENGTH_BYTES + line.len() as u64));
    let count: u32 = count;
    if size > bytes_max {
        return None;
    }
    let mut items = count.to_le_bytes().to_vec();
    for line in lines(text) {
        items.extend_from_slice(&u32::try_from(line.len()).ok()?.to_le_bytes());
        items.extend_from_slice(line);
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, Unit, decode_items};

    fn check(payload: Payload, expected: &[u8]) {
        let unit = Unit { stage: Stage::Merge(2), number: 7, payload }.encode();
        assert_eq!(Text::of(&unit), Ok((Stage::Merge(2), Text::Bytes(expected.to_vec()))));
        assert!(expected.len() <= unit.len());
        for cut in 0..unit.len() {
            assert!(Text::of(&unit[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_payload_has_its_text() {
        let list = || vec![b"one".to_vec(), Vec::new(), b"\xff".to_vec()];
        let value = |axis: &str, value: &str| (axis.to_owned(), value.to_owned());
        check(Payload::Nothing, b"");
        check(Payload::Lines(list()), b"one\n\n\xff\n");
        check(Payload::Items(list()), b"one\n\n\xff\n");
        check(Payload::Files(list()), b"one\xff");
        check(Payload::Parts(list()), b"one\xff");
        let point = vec![value("x", "1"), value("y", ""), value("z", "3")];
        check(Payload::Points(vec![point, vec![value("x", "2")], Vec::new()]), b"1\t\t3\n2\n\n");

        let range =
            Unit { stage: Stage::Work, number: 0, payload: Payload::Range { start: 3, end: u64::MAX } };
        let expected = (Stage::Work, Text::Numbers { start: 3, end: u64::MAX });
        assert_eq!(Text::of(&range.encode()), Ok(expected));
        assert!(Text::of(&[range.encode(), vec![0]].concat()).is_err());
    }

    #[test]
    fn printed_lines_are_items_up_to_a_size() {
        let text = b"a\r\n\nbc";
        let items = encode_lines(text, 19).expect("4 + 5 + 4 + 6 bytes");
        assert_eq!(items.len(), 19);
        assert_eq!(decode_items(&items), Ok(vec![b"a".to_vec(), Vec::new(), b"bc".to_vec()]));
        assert_eq!(encode_lines(text, 18), None);
        assert_eq!(encode_lines(b"", 4), Some(vec![0; 4]));
    }
}
