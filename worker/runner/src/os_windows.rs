//! The same as `os.rs`, for Windows.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::windows::io::AsHandle as _;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Threading::{GetCurrentThread, GetThreadTimes};

/// Names the process that started this one. The job ends this process with it, so that nothing is done with it here.
pub type Parent = NonZeroU32;

/// The process with that number; `None` if that is no number of a process.
#[must_use]
pub fn parent(number: &str) -> Option<Parent> {
    number.parse().ok()
}

/// CPU time of the calling thread, in nanoseconds; the system counts it in ticks of its timer, about 15 ms.
pub(crate) fn thread_cpu_nanos() -> u64 {
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is this thread's own, which needs no closing; the four times outlive the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe {
        GetThreadTimes(GetCurrentThread(), &raw mut created, &raw mut exited, &raw mut kernel, &raw mut user)
    };
    let ticks = |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    if answer == 0 { 0 } else { (ticks(kernel) + ticks(user)).saturating_mul(100) }
}

/// A process is stopped as a whole.
pub(crate) const fn thread_number() -> Option<u32> {
    None
}

/// Standard input without the standard library's buffer: large inputs are copied once less.
pub(crate) struct RawStdin(File);

impl RawStdin {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(File::from(io::stdin().as_handle().try_clone_to_owned()?)))
    }
}

impl Read for RawStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            // The host's end is closed: that is how a pipe ends here.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}
