//! One checkpoint as the bytes of a file: the state, what is known of it, the length and digest of that, a mark.

use std::time::Duration;

use lull_job::{Digest, Stage};
use lull_proto::v1;
use serde::{Deserialize, Serialize};

use crate::core::UnitName;

/// The last bytes of a file.
const MARK: &[u8] = b"lull checkpoint 1\n";
/// Bytes of the digest of what is known.
const DIGEST_BYTES: usize = 32;

/// What is known of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Whose state it is.
    pub unit: UnitName,
    /// Steps done.
    pub steps: u64,
    /// Of the state: the same on every device.
    pub state_digest: Digest,
    /// Of the state as it is kept and uploaded.
    pub blob_digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// This device's, over all of that.
    pub signature: Vec<u8>,
    /// The checkpoint of somebody that this run went on from; `None`: it ran from the start.
    pub base: Option<Digest>,
    /// CPU time that the unit has taken on this device.
    pub cpu_micros: u64,
    /// Time that it has run on this device, freezes not counted.
    pub ran: Duration,
    /// States that were asked for, up to here.
    pub witnessed: Vec<(u64, Digest)>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    job_id: u64,
    stage: u8,
    index: u64,
    module: [u8; 32],
    steps: u64,
    state_digest: [u8; 32],
    blob_digest: [u8; 32],
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
    base: Option<[u8; 32]>,
    cpu_micros: u64,
    ran_micros: u64,
    witnessed: Vec<(u64, [u8; 32])>,
}

impl Saved {
    /// Whether a lease that comes with this checkpoint, or none, can go on from it: it ran from the start, or from that very
    /// checkpoint.
    #[must_use]
    pub fn is_good_for(&self, leased: Option<Digest>) -> bool {
        self.base.is_none() || self.base == leased
    }

    /// As a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Checkpoint {
        v1::Checkpoint {
            index: self.unit.index,
            steps: self.steps,
            state_digest: self.state_digest.as_bytes().to_vec(),
            blob_digest: self.blob_digest.as_bytes().to_vec(),
            size_bytes: self.size_bytes,
            signature: self.signature.clone(),
            maker_device_id: 0,
        }
    }

    /// Appends what is known to the state in `file`.
    pub(super) fn seal(&self, file: &mut Vec<u8>) -> std::io::Result<()> {
        let stored = Stored {
            job_id: self.unit.job_id,
            stage: self.unit.stage.code(),
            index: self.unit.index,
            module: *self.unit.made_of.as_bytes(),
            steps: self.steps,
            state_digest: *self.state_digest.as_bytes(),
            blob_digest: *self.blob_digest.as_bytes(),
            signature: self.signature.clone(),
            base: self.base.map(|base| *base.as_bytes()),
            cpu_micros: self.cpu_micros,
            ran_micros: u64::try_from(self.ran.as_micros()).unwrap_or(u64::MAX),
            witnessed: self.witnessed.iter().map(|(steps, state)| (*steps, *state.as_bytes())).collect(),
        };
        let known = postcard::to_stdvec(&stored).map_err(std::io::Error::other)?;
        file.extend_from_slice(&known);
        file.extend_from_slice(&u32::try_from(known.len()).map_err(std::io::Error::other)?.to_le_bytes());
        file.extend_from_slice(Digest::of(&known).as_bytes());
        file.extend_from_slice(MARK);
        Ok(())
    }

    /// What is known of a file, and its state; `None` if a bit of it is not as it was written.
    pub(super) fn open(mut file: Vec<u8>) -> Option<(Self, Vec<u8>)> {
        let rest = file.strip_suffix(MARK)?;
        let (rest, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST_BYTES)?)?;
        let (rest, length) = rest.split_last_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (state, known) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
        if Digest::of(known).as_bytes() != digest {
            return None;
        }
        let known: Stored = postcard::from_bytes(known).ok()?;
        if Digest::of(state).as_bytes() != &known.blob_digest {
            return None;
        }
        let size_bytes = state.len();
        file.truncate(size_bytes);
        let saved = Self {
            unit: UnitName {
                job_id: known.job_id,
                stage: Stage::from_code(known.stage),
                index: known.index,
                made_of: Digest::from_bytes(known.module),
            },
            steps: known.steps,
            state_digest: Digest::from_bytes(known.state_digest),
            blob_digest: Digest::from_bytes(known.blob_digest),
            size_bytes: size_bytes as u64,
            signature: known.signature,
            base: known.base.map(Digest::from_bytes),
            cpu_micros: known.cpu_micros,
            ran: Duration::from_micros(known.ran_micros),
            witnessed: known
                .witnessed
                .into_iter()
                .map(|(steps, state)| (steps, Digest::from_bytes(state)))
                .collect(),
        };
        Some((saved, file))
    }
}
