//! A runner's process as the system sees it: starting, stopping, continuing, ending and measuring it. One file for each
//! system, with the same items; all that differs between systems stands there.
//!
//! - `spawn`: the process, and how it is signalled;
//! - [`Process`]: names it; means nothing once the [`Child`] has been waited for and dropped;
//! - [`ReadWithin`]: reading its answers, which may not come in time;
//! - `describe`: how it ended, in words; `OUT_OF_CPU`, `OUT_OF_MEMORY`: those for a cap that it reached.

use std::io;
use std::time::Duration;

#[cfg(windows)]
mod container;
#[cfg(windows)]
mod job;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Child, ChildStdin, ChildStdout, OUT_OF_CPU, OUT_OF_MEMORY, Process, describe, spawn};
#[cfg(windows)]
pub(crate) use windows::{
    Child, ChildStdin, ChildStdout, OUT_OF_CPU, OUT_OF_MEMORY, Process, describe, spawn,
};

/// Reading that gives up in time.
pub(crate) trait ReadWithin {
    /// Reads what has arrived, waiting up to `time` for it: the number of bytes, 0 at the end; `None` if nothing
    /// came. May give up early.
    ///
    /// # Errors
    /// Those of the pipe.
    fn read_within(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Option<usize>>;
}
