//! One agent a machine: two that watch one PC would both take it when its person leaves. Each system has a lock of its own
//! for it, one file each.
//!
//! Only agents that watch for a person take it. Where nobody sits (`--dedicated`) several agents with their own
//! slots are the owner's business, and `--beside-others` says the same of a PC.

#[cfg(target_os = "linux")]
mod linux;
// It asks nothing of macOS, so that its tests can run here.
#[cfg(any(target_os = "macos", all(test, target_os = "linux")))]
#[cfg_attr(target_os = "linux", allow(dead_code, unreachable_pub, reason = "only its tests run"))]
mod macos;
#[cfg(windows)]
mod windows;

use std::fmt;
use std::io;

#[cfg(target_os = "linux")]
pub use linux::{Alone, MACHINE};
#[cfg(target_os = "macos")]
pub use macos::{Alone, MACHINE};
#[cfg(windows)]
pub use windows::{Alone, MACHINE};

/// Why an agent may not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent has the machine.
    #[error(
        "another agent ({holder}) watches this PC already: stop it, or pass --beside-others to run both, each with its own slots"
    )]
    Taken {
        /// Whose.
        holder: Holder,
    },
    /// The system refuses.
    #[error(
        "it cannot be told whether another agent watches this PC ({0}): pass --beside-others to start all the same"
    )]
    Refused(#[from] io::Error),
}

/// Who holds the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// That process of that user.
    Known {
        /// The process.
        pid: i32,
        /// The user's name, or number.
        user: String,
    },
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { pid, user } => write!(f, "process {pid} of user {user}"),
            Self::Unknown => f.write_str("of which process cannot be told"),
        }
    }
}
