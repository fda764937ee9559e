//! What the runner asks of the system besides its walls. One file for each system, with the same items.

use std::io::{self, Read};

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

/// Names the process that started this one.
pub type Parent = Pid;

/// The process with that number; `None` if that is no number of a process.
#[must_use]
pub fn parent(number: &str) -> Option<Parent> {
    number.parse().ok().and_then(Pid::from_raw)
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Number of the calling thread, if a signal can be sent to it by that.
#[cfg(target_os = "linux")]
pub(crate) fn thread_number() -> Option<u32> {
    Some(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs())
}

/// There is no signal to a thread of another process.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn thread_number() -> Option<u32> {
    None
}

/// Standard input without the standard library's buffer: large inputs are copied once less.
pub(crate) struct RawStdin(io::Stdin);

impl RawStdin {
    #[allow(clippy::unnecessary_wraps, reason = "on Windows it can fail")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(io::stdin()))
    }
}

impl Read for RawStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }
}
