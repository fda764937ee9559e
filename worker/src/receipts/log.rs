//! One month of receipts on disk: sheets, each a record of its length, the start of a BLAKE3 digest, and that many
//! bytes of a compressed message.

use lull_job::Digest;
use lull_proto::v1;
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};
use prost::Message as _;

/// The first bytes of a month.
pub(super) const MAGIC: &[u8] = b"lull receipts log 1\n";
/// Bytes of the digest that a record carries: enough to tell a torn record from a whole one.
const CHECK_BYTES: usize = 8;
const HEADER_BYTES: usize = 4 + CHECK_BYTES;
/// What a record may be unpacked to: more than any answer of a coordinator.
const SHEET_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a month holds.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Sheets, in the order in which they came.
    pub sheets: Vec<v1::Receipts>,
    /// Where records begin that are not what was written.
    pub damaged_at: Vec<u64>,
    /// Where the next record goes: what lies behind was torn by a crash.
    pub end: u64,
}

/// A record.
pub(super) fn encode(sheet: &v1::Receipts) -> Vec<u8> {
    let content = compress_prepend_size(&sheet.encode_to_vec());
    let mut record = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    record.extend_from_slice(&Digest::of(&content).as_bytes()[..CHECK_BYTES]);
    record.extend_from_slice(&content);
    record
}

/// Reads a month; `None` if it is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Kept> {
    let mut kept = Kept { end: MAGIC.len() as u64, ..Kept::default() };
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        // A crash while it was made.
        return MAGIC.starts_with(bytes).then_some(kept);
    };
    while let Some((length, after)) = rest.split_first_chunk::<4>()
        && let Some((check, after)) = after.split_first_chunk::<CHECK_BYTES>()
        && let Some((content, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize)
    {
        let is_whole = Digest::of(content).as_bytes().starts_with(check);
        match is_whole.then(|| sheet(content)).flatten() {
            Some(sheet) => kept.sheets.push(sheet),
            // At the very end it is what a crash left.
            None if after.is_empty() => break,
            None => kept.damaged_at.push(kept.end),
        }
        kept.end += (HEADER_BYTES + content.len()) as u64;
        rest = after;
    }
    Some(kept)
}

fn sheet(content: &[u8]) -> Option<v1::Receipts> {
    let (length, _) = content.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*length) as usize > SHEET_BYTES_MAX {
        return None;
    }
    v1::Receipts::decode(decompress_size_prepended(content).ok()?.as_slice()).ok()
}
