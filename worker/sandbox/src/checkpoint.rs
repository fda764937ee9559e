//! A guest between two steps, as bytes: what a runner tells of it, and what another goes on from.
//!
//! A state is its steps, its mutable globals, and its memory in pages of 64 KiB, each compressed by itself and
//! left out where it is all zero. A runner tells the pages that changed since it last told them; the host puts
//! them together in an [`Image`]. The host opens no page: a runner does, and checks the digest of the whole.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of a page: what WebAssembly's memory grows by.
pub const PAGE_BYTES: usize = 64 * 1024;
/// Bytes of a page with its number and length, at most: one that does not shrink is sent as it is.
pub const PAGE_RECORD_BYTES_MAX: usize = 2 * size_of::<u32>() + PAGE_BYTES;
/// Bytes of pages in one frame, at most.
pub const PAGES_FRAME_BYTES_MAX: usize = 16 * PAGE_RECORD_BYTES_MAX;
/// Bytes of one global: its type, and its value in little-endian.
pub const GLOBAL_BYTES: usize = 17;
/// Bytes of all globals; a module with more runs without checkpoints.
pub const GLOBALS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a compressed state; a guest with more runs without checkpoints.
pub const IMAGE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The first bytes of a state.
const MAGIC: &[u8] = b"lull state 1\n";

/// Digest of a state: the same on every device.
pub type StateDigest = [u8; 32];

/// A state without its memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHead {
    /// Steps done.
    pub steps: u64,
    /// Whether the guest has been refused more memory than its job allows: tells how a later failure counts.
    pub was_refused_memory: bool,
    /// The mutable globals in their order, [`GLOBAL_BYTES`] each.
    #[serde(with = "serde_bytes")]
    pub globals: Vec<u8>,
    /// Size of the memory, in pages.
    pub memory_pages: u32,
}

/// A checkpoint that a runner has told of; its pages came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Of the state.
    pub digest: StateDigest,
    /// CPU time that the unit has taken in this runner, in microseconds.
    pub cpu_micros: u64,
    /// Time that it has run in this runner, freezes not counted.
    pub ran: Duration,
}

/// What a runner tells while it runs a unit.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A checkpoint: the image is this now.
    Checkpoint(&'a Image, &'a Told),
    /// The digest of a state that it was asked for.
    Witnessed {
        /// Steps done.
        steps: u64,
        /// Of the state after them.
        digest: StateDigest,
    },
}

/// A state, its pages still compressed. It may come from somebody who lies: only its form is sound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    head: StateHead,
    pages: BTreeMap<u32, Vec<u8>>,
    pages_bytes: u64,
}

impl Image {
    /// What is in it beside memory.
    #[must_use]
    pub const fn head(&self) -> &StateHead {
        &self.head
    }

    /// Bytes of [`Image::encode`], roughly.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.pages_bytes + (self.head.globals.len() + 64) as u64
    }

    /// Takes in a page that changed; an empty one is all zero.
    pub(crate) fn put(&mut self, number: u32, page: &[u8]) {
        let record = |page: &[u8]| (2 * size_of::<u32>() + page.len()) as u64;
        let before = if page.is_empty() {
            self.pages.remove(&number)
        } else {
            self.pages_bytes += record(page);
            self.pages.insert(number, page.to_vec())
        };
        self.pages_bytes -= before.map_or(0, |before| record(&before));
    }

    /// Takes in the rest of a state. False if a page lies beyond its memory.
    pub(crate) fn set_head(&mut self, head: StateHead) -> bool {
        self.head = head;
        self.pages.last_key_value().is_none_or(|(last, _)| *last < self.head.memory_pages)
    }

    /// As bytes.
    ///
    /// # Errors
    /// Never in fact: the head is small.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let head = postcard::to_stdvec(&self.head).map_err(io::Error::other)?;
        let length = u32::try_from(head.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(usize::try_from(self.size_bytes()).unwrap_or(0));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&head);
        for (number, page) in &self.pages {
            write_page(&mut bytes, *number, page);
        }
        Ok(bytes)
    }

    /// The image that these bytes are.
    ///
    /// # Errors
    /// When they are none, or it has more memory than `memory_bytes_max`.
    pub fn decode(bytes: &[u8], memory_bytes_max: u64) -> io::Result<Self> {
        let (head, pages) = open(bytes)?;
        if u64::from(head.memory_pages) * PAGE_BYTES as u64 > memory_bytes_max {
            return Err(invalid("its memory is larger than the job allows"));
        }
        let mut image = Self { head, ..Self::default() };
        let mut pages = Pages::of(pages);
        while let Some((number, page)) = pages.next_page()? {
            if number >= image.head.memory_pages || page.is_empty() {
                return Err(invalid("a page lies beyond its memory"));
            }
            image.put(number, page);
        }
        Ok(image)
    }
}

/// The head of a state, and its pages as they stand in it.
///
/// # Errors
/// When the bytes are no state.
pub fn open(bytes: &[u8]) -> io::Result<(StateHead, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| invalid("it is no state of this version"))?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| invalid("it ends too early"))?;
    let (head, pages) = rest
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(|| invalid("it ends too early"))?;
    let head: StateHead = postcard::from_bytes(head).map_err(|_| invalid("its head is damaged"))?;
    if head.globals.len() > GLOBALS_BYTES_MAX || !head.globals.len().is_multiple_of(GLOBAL_BYTES) {
        return Err(invalid("its globals are damaged"));
    }
    Ok((head, pages))
}

/// Appends a page, compressed or empty, and its number.
pub fn write_page(out: &mut Vec<u8>, number: u32, page: &[u8]) {
    out.extend_from_slice(&number.to_le_bytes());
    // A page has 64 KiB at most.
    out.extend_from_slice(&u32::try_from(page.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(page);
}

/// Pages one after another, by rising number.
#[derive(Debug)]
pub struct Pages<'a> {
    rest: &'a [u8],
    next: u32,
}

impl<'a> Pages<'a> {
    /// The pages in these bytes.
    #[must_use]
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, next: 0 }
    }

    /// The same, from a number on.
    pub(crate) const fn from_number(bytes: &'a [u8], next: u32) -> Self {
        Self { rest: bytes, next }
    }

    /// The least number that the next page may have.
    pub(crate) const fn next_number(&self) -> u32 {
        self.next
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// When pages are cut off, too long, or out of order.
    pub fn next_page(&mut self) -> io::Result<Option<(u32, &'a [u8])>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let cut = || invalid("a page is cut off");
        let (number, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (number, length) = (u32::from_le_bytes(*number), u32::from_le_bytes(*length) as usize);
        if length > PAGE_BYTES || number < self.next || number == u32::MAX {
            return Err(invalid("pages are too long or out of order"));
        }
        let (page, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        (self.rest, self.next) = (rest, number + 1);
        Ok(Some((number, page)))
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::default();
        image.put(0, &[1; 10]);
        image.put(3, &[2; PAGE_BYTES]);
        let head =
            StateHead { steps: 7, globals: vec![9; GLOBAL_BYTES], memory_pages: 4, ..StateHead::default() };
        assert!(image.set_head(head));
        image
    }

    #[test]
    fn images_survive_their_bytes() {
        let image = image();
        let bytes = image.encode().unwrap();
        let again = Image::decode(&bytes, 4 * PAGE_BYTES as u64).unwrap();
        assert_eq!((&again, again.size_bytes()), (&image, image.size_bytes()));
        assert!(bytes.len() as u64 <= image.size_bytes());
        assert!(Image::decode(&bytes, 4 * PAGE_BYTES as u64 - 1).is_err(), "more than the job allows");
    }

    #[test]
    fn pages_are_replaced_and_emptied() {
        let mut changed = image();
        changed.put(0, &[]);
        changed.put(3, &[5; 10]);
        changed.put(2, &[]);
        let mut wanted = Image::default();
        wanted.put(3, &[5; 10]);
        wanted.set_head(changed.head().clone());
        assert_eq!(changed, wanted);
        assert!(!changed.set_head(StateHead { memory_pages: 3, ..StateHead::default() }), "page 3 of 3");
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = image().encode().unwrap();
        for cut in 0..bytes.len() {
            // Cut between two pages it is a state, if another one: its digest will tell.
            let is_whole = Image::decode(&bytes[..cut], u64::MAX).is_ok();
            let boundary = bytes.len() - PAGE_BYTES - 8;
            assert!(!is_whole || [boundary, boundary - 18].contains(&cut), "cut at {cut}");
        }
        let check = |records: &[(u32, usize)], expected: &str| {
            let mut bytes = Vec::new();
            records.iter().for_each(|(number, length)| write_page(&mut bytes, *number, &vec![1; *length]));
            let mut pages = Pages::of(&bytes);
            let end = loop {
                match pages.next_page() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert!(end.expect_err(expected).to_string().contains(expected), "{records:?}");
        };
        check(&[(1, 1), (1, 1)], "out of order");
        check(&[(0, PAGE_BYTES + 1)], "too long");
    }
}
