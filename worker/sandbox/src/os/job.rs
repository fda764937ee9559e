//! The job object that a runner is in: it ends with its host, starts nothing, and yields the CPU to everybody.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOB_OBJECT_LIMIT_PRIORITY_CLASS, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::IDLE_PRIORITY_CLASS;

/// A job of one process. Its only handle is here: when that is closed, also by the end of this process however it ends,
/// the system ends the runner.
///
/// It sets no limits on windows and clipboards: a job with those can neither be inside another, as the agent may be in
/// one, nor have another in it, as the cap on memory is.
#[derive(Debug)]
pub(super) struct Job(#[allow(dead_code, reason = "closing it ends the runner")] OwnedHandle);

impl Job {
    /// Makes a job and puts a process into it that has not run yet.
    pub(super) fn confine(process: RawHandle) -> io::Result<Self> {
        // SAFETY: no name and no attributes are given: both may be null.
        #[allow(unsafe_code, reason = "std has no job objects")]
        let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just made and belongs to nobody else.
        #[allow(unsafe_code, reason = "std has no job objects")]
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            | JOB_OBJECT_LIMIT_ACTIVE_PROCESS
            | JOB_OBJECT_LIMIT_PRIORITY_CLASS
            | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION;
        limits.BasicLimitInformation.ActiveProcessLimit = 1;
        limits.BasicLimitInformation.PriorityClass = IDLE_PRIORITY_CLASS;
        let bytes = u32::try_from(size_of_val(&limits)).map_err(io::Error::other)?;
        // SAFETY: the handle is open, and the pointer is to a structure of that class and size.
        #[allow(unsafe_code, reason = "std has no job objects")]
        let answer = unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                bytes,
            )
        };
        if answer == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both handles are open.
        #[allow(unsafe_code, reason = "std has no job objects")]
        let assigned = unsafe { AssignProcessToJobObject(job.as_raw_handle(), process) };
        if assigned == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(job))
    }
}
