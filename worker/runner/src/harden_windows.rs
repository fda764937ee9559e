//! The same as `harden.rs`, for Windows.
//!
//! The host has started the process in a job, where the system allows in an AppContainer, with no handle but its two
//! pipes, no environment and the lowest priority: all of that stands before the first instruction.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use lull_sandbox::{Limits, WallReport};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_PROCESS_MEMORY, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use crate::budget::process_bytes_max;
use crate::os::Parent;
use crate::walls;

/// Looks which walls stand.
///
/// # Errors
/// None here.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn process(_: Parent) -> io::Result<Vec<WallReport>> {
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
    let bytes = process_bytes_max(limits, input_bytes);
    let mut information = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    information.BasicLimitInformation.LimitFlags =
        JOB_OBJECT_LIMIT_PROCESS_MEMORY | JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
    information.BasicLimitInformation.ActiveProcessLimit = 1;
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
