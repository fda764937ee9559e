//! One record of the log: a length, the start of a BLAKE3 digest, and that many bytes of `postcard`.

use std::io;

use lull_job::{Digest, Stage};
use serde::{Deserialize, Serialize};

use crate::core::{Attempt, AttemptKey, AttemptOutcome, Body, StrictRun};

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

/// A record. What stands here already must not change: logs are read by later versions.
#[derive(Serialize, Deserialize)]
enum Stored<'a> {
    /// An attempt that knows of no states.
    Put(#[serde(borrow)] Finished<'a>),
    Forget {
        token: u64,
        index: u64,
    },
    /// An attempt, and what came of its lease's checkpoints.
    PutOn {
        #[serde(borrow)]
        finished: Finished<'a>,
        resumed_from: Option<[u8; 32]>,
        witnessed: Vec<(u64, [u8; 32])>,
    },
    /// An attempt of a strict run, or of both.
    PutStrict {
        #[serde(borrow)]
        finished: Finished<'a>,
        fuel: Option<u64>,
        /// Of both: how the strict one ended.
        strict: Option<(u8, [u8; 32])>,
    },
}

const fn outcome_code(outcome: AttemptOutcome) -> u8 {
    match outcome {
        AttemptOutcome::Result => 0,
        AttemptOutcome::GuestFailed => 1,
        AttemptOutcome::Limit => 2,
    }
}

const fn outcome(code: u8) -> Option<AttemptOutcome> {
    match code {
        0 => Some(AttemptOutcome::Result),
        1 => Some(AttemptOutcome::GuestFailed),
        2 => Some(AttemptOutcome::Limit),
        _ => None,
    }
}

#[derive(Serialize, Deserialize)]
struct Finished<'a> {
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
}

impl<'a> Finished<'a> {
    fn of(attempt: &'a Attempt) -> Self {
        Self {
            token: attempt.key.token,
            index: attempt.key.index,
            job_id: attempt.job_id,
            stage: attempt.stage.code(),
            outcome: outcome_code(attempt.outcome),
            digest: *attempt.digest.as_bytes(),
            size_bytes: attempt.size_bytes,
            cpu_micros: attempt.cpu_micros,
            inline: match &attempt.body {
                Body::Inline(bytes) => Some(bytes.as_slice()),
                Body::File => None,
            },
        }
    }

    fn attempt(self, resumed_from: Option<[u8; 32]>, witnessed: Vec<(u64, [u8; 32])>) -> Option<Attempt> {
        let witnessed = witnessed.into_iter().map(|(steps, state)| (steps, Digest::from_bytes(state)));
        Some(Attempt {
            key: AttemptKey { token: self.token, index: self.index },
            job_id: self.job_id,
            stage: Stage::from_code(self.stage),
            outcome: outcome(self.outcome)?,
            digest: Digest::from_bytes(self.digest),
            size_bytes: self.size_bytes,
            cpu_micros: self.cpu_micros,
            body: self.inline.map_or(Body::File, |bytes| Body::Inline(bytes.to_vec())),
            resumed_from: resumed_from.map(Digest::from_bytes),
            witnessed: witnessed.collect(),
            fuel: None,
            strict: None,
        })
    }
}

impl Record {
    /// Appends the record to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let stored = match self {
            Self::Forget(AttemptKey { token, index }) => Stored::Forget { token: *token, index: *index },
            // Those go from the start, and are asked for no states.
            Self::Put(attempt) if attempt.fuel.is_some() || attempt.strict.is_some() => Stored::PutStrict {
                finished: Finished::of(attempt),
                fuel: attempt.fuel,
                strict: attempt
                    .strict
                    .map(|strict| (outcome_code(strict.outcome), *strict.digest.as_bytes())),
            },
            Self::Put(attempt) if attempt.resumed_from.is_none() && attempt.witnessed.is_empty() => {
                Stored::Put(Finished::of(attempt))
            }
            Self::Put(attempt) => Stored::PutOn {
                finished: Finished::of(attempt),
                resumed_from: attempt.resumed_from.map(|state| *state.as_bytes()),
                witnessed: attempt
                    .witnessed
                    .iter()
                    .map(|(steps, state)| (*steps, *state.as_bytes()))
                    .collect(),
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
            Stored::Put(finished) => Self::Put(finished.attempt(None, Vec::new())?),
            Stored::PutOn { finished, resumed_from, witnessed } => {
                Self::Put(finished.attempt(resumed_from, witnessed)?)
            }
            Stored::PutStrict { finished, fuel, strict } => {
                let strict = match strict {
                    Some((code, digest)) => {
                        Some(StrictRun { outcome: outcome(code)?, digest: Digest::from_bytes(digest) })
                    }
                    None => None,
                };
                Self::Put(Attempt { fuel, strict, ..finished.attempt(None, Vec::new())? })
            }
        };
        Some((record, rest))
    }
}

#[cfg(test)]
mod tests {
    use lull_sandbox::{Outcome, UnitRun};

    use super::*;

    #[test]
    fn attempts_keep_what_came_of_them() {
        let run = UnitRun { outcome: Outcome::Result(vec![1]), cpu_micros: 5, fuel: None };
        let (plain, _) = Attempt::of(AttemptKey { token: 1, index: 2 }, 3, Stage::Work, run);
        let resumed = Attempt {
            resumed_from: Some(Digest::of(b"a")),
            witnessed: vec![(4, Digest::of(b"b"))],
            ..plain.clone()
        };
        let strict = Attempt { fuel: Some(u64::MAX), ..plain.clone() };
        let ended = StrictRun { outcome: AttemptOutcome::Limit, digest: Digest::of(b"c") };
        let both = Attempt { strict: Some(ended), ..plain.clone() };
        for attempt in [plain, resumed, strict, both] {
            let mut bytes = Vec::new();
            Record::Put(attempt.clone()).encode(&mut bytes).unwrap();
            assert_eq!(Record::decode(&bytes), Some((Record::Put(attempt), &[][..])));
        }
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        // As 0.1.0 wrote them: `Put`, `Forget`, `PutOn`.
        let run = UnitRun { outcome: Outcome::Result(vec![1]), cpu_micros: 5, fuel: None };
        let (attempt, _) = Attempt::of(AttemptKey { token: 1, index: 2 }, 3, Stage::Work, run);
        for (record, kind) in [
            (Record::Put(attempt.clone()), 0),
            (Record::Forget(attempt.key), 1),
            (Record::Put(Attempt { resumed_from: Some(Digest::of(b"a")), ..attempt }), 2),
        ] {
            let mut bytes = Vec::new();
            record.encode(&mut bytes).unwrap();
            assert_eq!(bytes[4 + CHECK_BYTES], kind);
        }
    }
}
