//! The job object that a runner is in: it ends with its host, starts nothing, and yields the CPU to everybody.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOB_OBJECT_LIMIT_PRIORITY_CLASS, JOB_OBJECT_UILIMIT_DESKTOP, JOB_OBJECT_UILIMIT_DISPLAYSETTINGS,
    JOB_OBJECT_UILIMIT_EXITWINDOWS, JOB_OBJECT_UILIMIT_GLOBALATOMS, JOB_OBJECT_UILIMIT_HANDLES,
    JOB_OBJECT_UILIMIT_READCLIPBOARD, JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS, JOB_OBJECT_UILIMIT_WRITECLIPBOARD,
    JOBOBJECT_BASIC_UI_RESTRICTIONS, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JOBOBJECTINFOCLASS,
    JobObjectBasicUIRestrictions, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::IDLE_PRIORITY_CLASS;

/// Windows, clipboards, atoms and the like of others: a runner has no business there.
const UI_LIMITS: u32 = JOB_OBJECT_UILIMIT_DESKTOP
    | JOB_OBJECT_UILIMIT_DISPLAYSETTINGS
    | JOB_OBJECT_UILIMIT_EXITWINDOWS
    | JOB_OBJECT_UILIMIT_GLOBALATOMS
    | JOB_OBJECT_UILIMIT_HANDLES
    | JOB_OBJECT_UILIMIT_READCLIPBOARD
    | JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS
    | JOB_OBJECT_UILIMIT_WRITECLIPBOARD;

/// A job of one process. Its only handle is here: when that is closed, also by the end of this process however it
/// ends, the system ends the runner.
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
        set(&job, JobObjectExtendedLimitInformation, &limits)?;
        let ui = JOBOBJECT_BASIC_UI_RESTRICTIONS { UIRestrictionsClass: UI_LIMITS };
        set(&job, JobObjectBasicUIRestrictions, &ui)?;
        // SAFETY: both handles are open.
        #[allow(unsafe_code, reason = "std has no job objects")]
        let assigned = unsafe { AssignProcessToJobObject(job.as_raw_handle(), process) };
        if assigned == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(job))
    }
}

/// Sets one class of a job's limits; `T` has to be the structure of that class.
fn set<T>(job: &OwnedHandle, class: JOBOBJECTINFOCLASS, value: &T) -> io::Result<()> {
    let bytes = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the handle is open, and the pointer is to a structure of that many bytes.
    #[allow(unsafe_code, reason = "std has no job objects")]
    let answer = unsafe {
        SetInformationJobObject(job.as_raw_handle(), class, std::ptr::from_ref(value).cast(), bytes)
    };
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
