//! The same as `harden.rs`, for Windows.
//!
//! The host has started the process in a job, where the system allows in an AppContainer, with no handle but its two
//! pipes, no environment and the lowest priority: all of that stands before the first instruction.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use lull_sandbox::{CompileLimits, Limits, WallReport};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_PROCESS_MEMORY, JOB_OBJECT_LIMIT_PROCESS_TIME, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use crate::budget::process_bytes_max;
use crate::os::Parent;
use crate::walls::{self, Layer};

/// Units of 100 ns in a second.
const TICKS_PER_SEC: u64 = 10_000_000;

/// Looks which walls stand. Those that the host has built cannot be left out.
///
/// # Errors
/// None here.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn process(_: Parent, _: &[Layer]) -> io::Result<Vec<WallReport>> {
    Ok(walls::at_start())
}

/// Nothing: the job forbids processes, and threads are nobody else's business here.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) const fn no_more_threads() -> io::Result<()> {
    Ok(())
}

/// Caps the memory of the whole process, as a second wall behind the guest's own limit: by a job inside its host's,
/// whose only handle is closed at once, so that nobody can lift it.
///
/// # Errors
/// When the system refuses.
pub fn memory(limits: &Limits, input_bytes: u64) -> io::Result<()> {
    enter_job(process_bytes_max(limits, input_bytes), None)
}

/// Caps what the process may take to compile a module, in the same way. Past its CPU time the system ends it; refused
/// memory, it aborts.
pub(crate) fn compiling(limits: &CompileLimits) -> io::Result<()> {
    enter_job(limits.memory_bytes, Some(limits.cpu_secs))
}

fn enter_job(bytes: u64, cpu_secs: Option<u64>) -> io::Result<()> {
    let mut information = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    information.BasicLimitInformation.LimitFlags =
        JOB_OBJECT_LIMIT_PROCESS_MEMORY | JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
    information.BasicLimitInformation.ActiveProcessLimit = 1;
    if let Some(secs) = cpu_secs {
        information.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_PROCESS_TIME;
        information.BasicLimitInformation.PerProcessUserTimeLimit =
            i64::try_from(secs.saturating_mul(TICKS_PER_SEC)).unwrap_or(i64::MAX);
    }
    information.ProcessMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
    let information_bytes =
        u32::try_from(size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>()).map_err(io::Error::other)?;
    // SAFETY: no name and no attributes are given; the job's handle is open until the end of the block; the structure
    // is of the class that is named, and of that size.
    #[allow(unsafe_code, reason = "std has no job objects")]
    let is_set = unsafe {
        let job = CreateJobObjectW(std::ptr::null(), std::ptr::null());
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        let job = OwnedHandle::from_raw_handle(job);
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            (&raw const information).cast(),
            information_bytes,
        ) != 0
            && AssignProcessToJobObject(job.as_raw_handle(), GetCurrentProcess()) != 0
    };
    if is_set { Ok(()) } else { Err(io::Error::last_os_error()) }
}
