//! Long readings of the ledger: one at a time for each reader, as each keeps a connection of the database for as long
//! as its reader takes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

use super::status;
use crate::core::{DeviceId, OwnerId, SubmitterId};
use crate::store::Subject;

/// Who reads. Operators read as they like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reader {
    /// Its owner asks on it.
    Device(DeviceId),
    /// Its agent's calls, which go on meanwhile.
    Agent(DeviceId),
    Owner(OwnerId),
    Submitter(SubmitterId),
}

impl Reader {
    /// Whoever a token speaks for; `None` for operators.
    pub(super) const fn of(subject: Subject) -> Option<Self> {
        match subject {
            Subject::Operator(_) => None,
            Subject::Owner(owner) => Some(Self::Owner(owner)),
            Subject::Submitter(submitter) => Some(Self::Submitter(submitter)),
        }
    }
}

/// Who is reading.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<BTreeSet<Reader>>>);

/// A reader's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    reader: Reader,
}

impl Turns {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Reader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This reader's turn.
    ///
    /// # Errors
    /// While it is reading already.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub(super) fn take(&self, reader: Reader) -> Result<Turn, Status> {
        if self.lock().insert(reader) {
            Ok(Turn { turns: self.clone(), reader })
        } else {
            Err(status::reading())
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_for_each() {
        let turns = Turns::default();
        let ada = turns.take(Reader::Owner(OwnerId(1))).unwrap();
        assert_eq!(turns.take(Reader::Owner(OwnerId(1))).unwrap_err().code(), tonic::Code::ResourceExhausted);
        turns.take(Reader::Owner(OwnerId(2))).unwrap();
        turns.take(Reader::Device(DeviceId(1))).unwrap();
        drop(ada);
        turns.take(Reader::Owner(OwnerId(1))).unwrap();
    }
}
