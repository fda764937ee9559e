//! What a seal is made of: the digest of rows, the record that is hashed to its head, and the key that signs heads.
//!
//! There is no SQL here. `docs/LEDGER.md` says the same byte by byte, for whoever wants to recompute a seal.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::{Signer as _, SigningKey};

/// First bytes of every record: nothing else that is hashed or signed begins so.
const MAGIC: &[u8] = b"lull seal 1\n";
/// The head before the first seal.
pub const GENESIS: [u8; 32] = [0; 32];
/// Bytes of a row's digest that are kept, to tell which row was changed.
const MARK_BYTES: usize = 4;
/// Where the key lies in the state directory, and the public half of it, for auditors.
const KEY_FILE: &str = "seal.key";
const PUBLIC_KEY_FILE: &str = "seal.pub";

/// The key that signs heads.
pub struct SealKey(SigningKey);

impl SealKey {
    /// The key of this state directory, made at the first start. Only its owner may read it; what auditors need
    /// lies beside it.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no key.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let key = Self(SigningKey::from_bytes(&seed(state_dir)?));
        let path = state_dir.join(PUBLIC_KEY_FILE);
        fs::write(&path, format!("{}\n", hex::encode(key.public_key())))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(key)
    }

    /// Whoever knows this can check the signatures.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of a head.
    #[must_use]
    pub fn sign(&self, head: &[u8; 32]) -> [u8; 64] {
        self.0.sign(head).to_bytes()
    }
}

fn seed(state_dir: &Path) -> Result<[u8; 32]> {
    let path = state_dir.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut seed = [0; 32];
            let decoded = hex::decode_to_slice(text.trim(), &mut seed);
            ensure!(
                decoded.is_ok(),
                "{} holds no key of 64 hexadecimal digits: put the right file back, or move it away to seal with a \
                 new key, which auditors must be told",
                path.display()
            );
            Ok(seed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed: [u8; 32] = rand::random();
            // Temporary files are made with mode 0600.
            let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
            file.write_all(format!("{}\n", hex::encode(seed)).as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).with_context(|| format!("writing {}", path.display()))?;
            fs::File::open(state_dir)?.sync_all()?;
            Ok(seed)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The rows of one table in a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Number of the table.
    pub kind: i16,
    /// How many rows.
    pub rows: u64,
    /// BLAKE3 of their bytes.
    pub digest: [u8; 32],
    /// The first four bytes of each row's BLAKE3.
    pub marks: Vec<u8>,
}

/// What a head is the hash of.
#[derive(Debug)]
pub struct Record<'a> {
    /// Whose ledger it is.
    pub grid_id: &'a str,
    /// Number of the seal, from 1.
    pub number: u64,
    /// The head before.
    pub previous: [u8; 32],
    /// Transactions with these numbers.
    pub xids: std::ops::Range<u64>,
    /// Microseconds since 2000-01-01 UTC.
    pub created_at: i64,
    /// Who signs.
    pub public_key: [u8; 32],
    /// In the order of their kinds.
    pub parts: &'a [Part],
}

impl Record<'_> {
    /// BLAKE3 of the record's bytes. Numbers are big-endian.
    #[must_use]
    pub fn head(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC);
        hasher.update(&(self.grid_id.len() as u64).to_be_bytes());
        hasher.update(self.grid_id.as_bytes());
        hasher.update(&self.number.to_be_bytes());
        hasher.update(&self.previous);
        hasher.update(&self.xids.start.to_be_bytes());
        hasher.update(&self.xids.end.to_be_bytes());
        hasher.update(&self.created_at.to_be_bytes());
        hasher.update(&self.public_key);
        hasher.update(&(self.parts.len() as u64).to_be_bytes());
        for part in self.parts {
            hasher.update(&part.kind.to_be_bytes());
            hasher.update(&part.rows.to_be_bytes());
            hasher.update(&part.digest);
            hasher.update(blake3::hash(&part.marks).as_bytes());
        }
        hasher.finalize().into()
    }
}

/// Makes a part of what PostgreSQL sends for `COPY .. (FORMAT binary)`, whatever pieces that comes in.
pub struct Rows {
    kind: i16,
    pending: Vec<u8>,
    begun: bool,
    ended: bool,
    rows: u64,
    digest: blake3::Hasher,
    marks: Vec<u8>,
}

/// `PGCOPY\n\xff\r\n\0`, flags, and the length of an extension that does not exist.
const COPY_HEADER_BYTES: usize = 11 + 4 + 4;

impl Rows {
    /// No rows yet.
    #[must_use]
    pub fn new(kind: i16) -> Self {
        Self {
            kind,
            pending: Vec::new(),
            begun: false,
            ended: false,
            rows: 0,
            digest: blake3::Hasher::new(),
            marks: Vec::new(),
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
        let mut at = 0;
        if !self.begun {
            if self.pending.len() < COPY_HEADER_BYTES {
                return;
            }
            at = COPY_HEADER_BYTES;
            self.begun = true;
        }
        while !self.ended {
            let rest = &self.pending[at..];
            match row_bytes(rest) {
                Next::Row(bytes) => {
                    let row = &rest[..bytes];
                    self.rows += 1;
                    self.digest.update(row);
                    self.marks.extend_from_slice(&blake3::hash(row).as_bytes()[..MARK_BYTES]);
                    at += bytes;
                }
                Next::End => self.ended = true,
                Next::Unfinished => break,
            }
        }
        self.pending.drain(..at);
    }

    /// The part, unless there were no rows.
    ///
    /// # Errors
    /// When the rows ended in the middle of one.
    pub fn finish(self) -> Result<Option<Part>, &'static str> {
        if !self.ended {
            return Err("rows ended in the middle of one");
        }
        let digest = self.digest.finalize().into();
        let part = Part { kind: self.kind, rows: self.rows, digest, marks: self.marks };
        Ok((part.rows > 0).then_some(part))
    }
}

enum Next {
    Row(usize),
    End,
    Unfinished,
}

/// Looks for the end of a row: the number of its fields, then each with its length.
fn row_bytes(bytes: &[u8]) -> Next {
    let Some((fields, _)) = bytes.split_first_chunk::<2>() else { return Next::Unfinished };
    let Ok(fields) = u16::try_from(i16::from_be_bytes(*fields)) else { return Next::End };
    let mut at = 2;
    for _ in 0..fields {
        let Some((length, _)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<4>()) else {
            return Next::Unfinished;
        };
        // A null has the length -1 and no bytes.
        at += 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    }
    if bytes.len() < at { Next::Unfinished } else { Next::Row(at) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn rows_come_in_pieces_of_any_size() {
        let row = |fields: &[Option<&[u8]>]| {
            let mut bytes = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
            for field in fields {
                let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
                bytes.extend(length.to_be_bytes());
                bytes.extend(field.unwrap_or_default());
            }
            bytes
        };
        let rows =
            [row(&[Some(b"one"), None]), row(&[]), row(&[Some(&[7; 300])]), row(&[Some(b""), Some(b"x")])];
        let mut stream = vec![0; COPY_HEADER_BYTES];
        stream.extend(rows.concat());
        stream.extend([0xff, 0xff]);
        for size in [1, 2, 3, 7, 50, stream.len()] {
            let mut part = Rows::new(3);
            stream.chunks(size).for_each(|piece| part.push(piece));
            let part = part.finish().unwrap().unwrap();
            let marks: Vec<u8> =
                rows.iter().flat_map(|row| blake3::hash(row).as_bytes()[..4].to_vec()).collect();
            assert_eq!((part.kind, part.rows, part.marks), (3, 4, marks), "pieces of {size}");
            assert_eq!(part.digest, *blake3::hash(&rows.concat()).as_bytes(), "pieces of {size}");
        }
        let mut half = Rows::new(3);
        half.push(&stream[..stream.len() - 5]);
        half.finish().unwrap_err();
    }

    #[test]
    fn a_head_covers_every_field() {
        let part = Part { kind: 3, rows: 1, digest: [1; 32], marks: vec![1; 4] };
        let head = |change: fn(&mut Record<'_>), part: Part| {
            let parts = [part];
            let mut record = Record {
                grid_id: "grid",
                number: 2,
                previous: [3; 32],
                xids: 4..5,
                created_at: 6,
                public_key: [7; 32],
                parts: &parts,
            };
            change(&mut record);
            record.head()
        };
        let changes: [fn(&mut Record<'_>); 9] = [
            |_| {},
            |record| record.grid_id = "grip",
            |record| record.number = 3,
            |record| record.previous = [4; 32],
            |record| record.xids.start = 3,
            |record| record.xids.end = 6,
            |record| record.created_at = 7,
            |record| record.public_key = [8; 32],
            |record| record.parts = &[],
        ];
        let mut heads: Vec<[u8; 32]> = changes.into_iter().map(|change| head(change, part.clone())).collect();
        heads.push(head(|_| {}, Part { kind: 4, ..part.clone() }));
        heads.push(head(|_| {}, Part { rows: 2, ..part.clone() }));
        heads.push(head(|_| {}, Part { digest: [2; 32], ..part.clone() }));
        heads.push(head(|_| {}, Part { marks: vec![2; 4], ..part }));
        let count = heads.len();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), count);
    }

    #[test]
    fn the_key_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let key = SealKey::open(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SealKey::open(dir.path()).unwrap().public_key(), key.public_key());
        let public = fs::read_to_string(dir.path().join(PUBLIC_KEY_FILE)).unwrap();
        assert_eq!(public.trim(), hex::encode(key.public_key()));
        fs::write(&path, "no key").unwrap();
        assert!(SealKey::open(dir.path()).is_err());
    }
}
