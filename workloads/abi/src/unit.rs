//! The encoding of a unit as its guest sees it. Integers are little-endian; lists are a `u32` count
//! and then, for each entry, a `u32` length and its bytes.

use std::fmt;

/// What a unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The module's own split into items.
    Split,
    /// The work itself.
    Work,
    /// One level of the merge tree, counted from 1.
    Merge(u8),
    /// The merged result becomes the answer.
    Finish,
}

impl Stage {
    const FINISH: u8 = u8::MAX;

    /// Number of the stage; stages of a job run in the order of their codes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Split => 0,
            Self::Work => 1,
            Self::Merge(level) => 1 + level,
            Self::Finish => Self::FINISH,
        }
    }

    /// The stage with that code.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Split,
            1 => Self::Work,
            Self::FINISH => Self::Finish,
            level => Self::Merge(level - 1),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split => f.write_str("split"),
            Self::Work => f.write_str("work"),
            Self::Merge(level) => write!(f, "merge({level})"),
            Self::Finish => f.write_str("finish"),
        }
    }
}

/// One parameter combination of a grid: (axis, value) in the order of the axes.
pub type Point = Vec<(String, String)>;

/// What a unit is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the unit of a split.
    Nothing,
    /// The integers `start <= i < end`.
    Range {
        /// First integer.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Lines without their endings.
    Lines(Vec<Vec<u8>>),
    /// The contents of files.
    Files(Vec<Vec<u8>>),
    /// Points of a grid.
    Points(Vec<Point>),
    /// Items that the module's own split listed.
    Items(Vec<Vec<u8>>),
    /// Results to merge, in the order of their units; one for finish.
    Parts(Vec<Vec<u8>>),
}

/// One unit, as its guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it is for.
    pub stage: Stage,
    /// Its number in the whole job, the same in a pilot and a full run.
    pub number: u64,
    /// What it is given.
    pub payload: Payload,
}

/// Bytes that are not a unit, or not a list of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// What could not be read.
    pub expected: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}", self.expected)
    }
}

impl std::error::Error for DecodeError {}

impl Unit {
    /// The bytes that a guest's `lull_begin` takes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.stage.code()];
        out.extend_from_slice(&self.number.to_le_bytes());
        match &self.payload {
            Payload::Nothing => out.push(Tag::Nothing as u8),
            Payload::Range { start, end } => {
                out.push(Tag::Range as u8);
                out.extend_from_slice(&start.to_le_bytes());
                out.extend_from_slice(&end.to_le_bytes());
            }
            Payload::Lines(list) => put_list(&mut out, Tag::Lines, list),
            Payload::Files(list) => put_list(&mut out, Tag::Files, list),
            Payload::Points(points) => {
                out.push(Tag::Points as u8);
                put_len(&mut out, points.len());
                for point in points {
                    put_len(&mut out, point.len());
                    for (axis, value) in point {
                        put_bytes(&mut out, axis.as_bytes());
                        put_bytes(&mut out, value.as_bytes());
                    }
                }
            }
            Payload::Items(list) => put_list(&mut out, Tag::Items, list),
            Payload::Parts(list) => put_list(&mut out, Tag::Parts, list),
        }
        out
    }

    /// Reads what [`Unit::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are not exactly one unit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (stage, number) = reader.name()?;
        let payload = match reader.tag()? {
            Tag::Nothing => Payload::Nothing,
            Tag::Range => {
                let (start, end) = reader.range()?;
                Payload::Range { start, end }
            }
            Tag::Lines => Payload::Lines(reader.list("lines")?),
            Tag::Files => Payload::Files(reader.list("files")?),
            Tag::Points => Payload::Points(reader.points()?),
            Tag::Items => Payload::Items(reader.list("items")?),
            Tag::Parts => Payload::Parts(reader.list("parts")?),
        };
        reader.finish("a unit")?;
        Ok(Self { stage, number, payload })
    }
}

/// The result of a split: its items as bytes.
#[must_use]
pub fn encode_items(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_items(&mut out, items);
    out
}

/// Reads the result of a split.
///
/// # Errors
/// When the bytes are not exactly one list of items.
pub fn decode_items(bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let items = reader.list("a list of items")?;
    reader.finish("a list of items")?;
    Ok(items)
}

/// How many items a split listed, without copying them.
///
/// # Errors
/// When the bytes are not exactly one list of items.
pub fn item_count(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32("a list of items")?;
    for _ in 0..count {
        reader.bytes("a list of items")?;
    }
    reader.finish("a list of items")?;
    Ok(u64::from(count))
}

fn put_list(out: &mut Vec<u8>, tag: Tag, list: &[Vec<u8>]) {
    out.push(tag as u8);
    put_items(out, list);
}

fn put_items(out: &mut Vec<u8>, list: &[Vec<u8>]) {
    put_len(out, list.len());
    for entry in list {
        put_bytes(out, entry);
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Lengths fit `u32` because a guest's memory does.
fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
}

/// Which payload follows.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Tag {
    Nothing = 0,
    Range = 1,
    Lines = 2,
    Files = 3,
    Points = 4,
    Items = 5,
    Parts = 6,
}

impl Tag {
    const ALL: [Self; 7] =
        [Self::Nothing, Self::Range, Self::Lines, Self::Files, Self::Points, Self::Items, Self::Parts];
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Stage and number of a unit.
    pub(crate) fn name(&mut self) -> Result<(Stage, u64), DecodeError> {
        Ok((Stage::from_code(self.byte("a stage")?), self.u64("a unit number")?))
    }

    pub(crate) fn tag(&mut self) -> Result<Tag, DecodeError> {
        let tag = self.byte("a payload")?;
        let known = Tag::ALL.into_iter().find(|known| *known as u8 == tag);
        known.ok_or(DecodeError { expected: "a known payload" })
    }

    pub(crate) fn range(&mut self) -> Result<(u64, u64), DecodeError> {
        Ok((self.u64("a range")?, self.u64("a range")?))
    }

    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError { expected })?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(1, expected)?[0])
    }

    pub(crate) fn u32(&mut self, expected: &'static str) -> Result<u32, DecodeError> {
        let bytes = self.take(4, expected)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u64(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        let low = self.u32(expected)?;
        let high = self.u32(expected)?;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    pub(crate) fn bytes(&mut self, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(expected)?;
        self.take(len as usize, expected)
    }

    fn list(&mut self, expected: &'static str) -> Result<Vec<Vec<u8>>, DecodeError> {
        let count = self.u32(expected)?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(self.bytes(expected)?.to_vec());
        }
        Ok(list)
    }

    fn points(&mut self) -> Result<Vec<Point>, DecodeError> {
        let expected = "points of a grid";
        let text = |reader: &mut Self| {
            let bytes = reader.bytes(expected)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError { expected })
        };
        let mut points = Vec::new();
        for _ in 0..self.u32(expected)? {
            let mut point = Vec::new();
            for _ in 0..self.u32(expected)? {
                let axis = text(self)?;
                point.push((axis, text(self)?));
            }
            points.push(point);
        }
        Ok(points)
    }

    pub(crate) fn finish(self, expected: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError { expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_survives_the_road() {
        let list = vec![b"one".to_vec(), Vec::new(), vec![0, 255]];
        let point = vec![("x".to_owned(), "1".to_owned()), ("y".to_owned(), String::new())];
        let payloads = [
            Payload::Nothing,
            Payload::Range { start: 7, end: u64::MAX },
            Payload::Lines(list.clone()),
            Payload::Files(list.clone()),
            Payload::Points(vec![point, Vec::new()]),
            Payload::Items(list.clone()),
            Payload::Parts(list),
        ];
        for payload in payloads {
            for stage in [Stage::Split, Stage::Work, Stage::Merge(3), Stage::Finish] {
                let unit = Unit { stage, number: u64::MAX - 1, payload: payload.clone() };
                let bytes = unit.encode();
                assert_eq!(Unit::decode(&bytes), Ok(unit));
                for cut in 0..bytes.len() {
                    assert!(Unit::decode(&bytes[..cut]).is_err(), "{payload:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn items_are_counted_without_being_copied() {
        let items = vec![b"a".to_vec(), b"bc".to_vec()];
        let bytes = encode_items(&items);
        assert_eq!(item_count(&bytes), Ok(2));
        assert_eq!(decode_items(&bytes), Ok(items));
        assert!(item_count(&bytes[1..]).is_err());
    }
}
