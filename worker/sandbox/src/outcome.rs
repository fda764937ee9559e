//! How a unit ended.

use serde::{Deserialize, Serialize};

use crate::cut_message;

/// How a unit ended in a runner that did its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The guest returned a result.
    Result(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The guest trapped or returned an error: the same on every PC. Its message.
    GuestFailed(String),
    /// A limit of the job, or of this PC, ended the guest. What it was.
    Limit(String),
}

impl Outcome {
    /// The same, with its message as long as one may be: the runner that sent it is not trusted.
    pub(crate) fn cut(self) -> Self {
        match self {
            Self::Result(bytes) => Self::Result(bytes),
            Self::GuestFailed(message) => Self::GuestFailed(cut_message(message.as_bytes())),
            Self::Limit(message) => Self::Limit(cut_message(message.as_bytes())),
        }
    }
}

/// One unit, run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRun {
    /// How it ended.
    pub outcome: Outcome,
    /// CPU time it took, in microseconds.
    pub cpu_micros: u64,
    /// Fuel it burnt in a strict run that came to its own end; `None` otherwise.
    pub fuel: Option<u64>,
}
