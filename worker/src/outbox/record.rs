//! One record of the log: a length, the start of a BLAKE3 digest, and that many bytes of `postcard`.

use std::io;

use lull_job::{Digest, Stage};
use serde::{Deserialize, Serialize};

use crate::core::{Attempt, AttemptKey, AttemptOutcome, Body};

/// Bytes of the digest that a record carries: enough to tell a torn record from a whole one.
const CHECK_BYTES: usize = 8;

/// What the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// An attempt finished.
    Put(Attempt),
    /// The coordinator has it.
    Forget(AttemptKey),
}

#[derive(Serialize, Deserialize)]
enum Stored<'a> {
    Put {
        token: u64,
        index: u64,
        job_id: u64,
        stage: u8,
        outcome: u8,
        digest: [u8; 32],
        size_bytes: u64,
        cpu_micros: u64,
        #[serde(with = "serde_bytes", borrow)]
        inline: Option<&'a [u8]>,
    },
    Forget {
        token: u64,
        index: u64,
    },
}

impl Record {
    /// Appends the record to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let stored = match self {
            Self::Forget(AttemptKey { token, index }) => Stored::Forget { token: *token, index: *index },
            Self::Put(attempt) => Stored::Put {
                token: attempt.key.token,
                index: attempt.key.index,
                job_id: attempt.job_id,
                stage: attempt.stage.code(),
                outcome: match attempt.outcome {
                    AttemptOutcome::Result => 0,
                    AttemptOutcome::GuestFailed => 1,
                    AttemptOutcome::Limit => 2,
                },
                digest: *attempt.digest.as_bytes(),
                size_bytes: attempt.size_bytes,
                cpu_micros: attempt.cpu_micros,
                inline: match &attempt.body {
                    Body::Inline(bytes) => Some(bytes),
                    Body::File => None,
                },
            },
        };
        let content = postcard::to_stdvec(&stored).map_err(io::Error::other)?;
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&Digest::of(&content).as_bytes()[..CHECK_BYTES]);
        out.extend_from_slice(&content);
        Ok(())
    }

    /// The record at the start of `bytes`, and what follows it; `None` if there is no whole one.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (check, rest) = rest.split_first_chunk::<CHECK_BYTES>()?;
        let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if !Digest::of(content).as_bytes().starts_with(check) {
            return None;
        }
        let record = match postcard::from_bytes::<Stored<'_>>(content).ok()? {
            Stored::Forget { token, index } => Self::Forget(AttemptKey { token, index }),
            Stored::Put { token, index, job_id, stage, outcome, digest, size_bytes, cpu_micros, inline } => {
                Self::Put(Attempt {
                    key: AttemptKey { token, index },
                    job_id,
                    stage: Stage::from_code(stage),
                    outcome: match outcome {
                        0 => AttemptOutcome::Result,
                        1 => AttemptOutcome::GuestFailed,
                        2 => AttemptOutcome::Limit,
                        _ => return None,
                    },
                    digest: Digest::from_bytes(digest),
                    size_bytes,
                    cpu_micros,
                    body: inline.map_or(Body::File, |bytes| Body::Inline(bytes.to_vec())),
                })
            }
        };
        Some((record, rest))
    }
}
