//! The walls of Windows. The host builds them before the process runs (`lull_sandbox`), but for the mitigation policies:
//! here it is asked which of them stand. They are for the day that WebAssembly has a hole.
//!
//! - the job: no second process, and the end of the host is the end of this one;
//! - the AppContainer: no capability, so no network, no files of the user's, no other processes;
//! - mitigation policies: no calls into the desktop's part of the kernel, no libraries from a network or from a less
//!   trusted place, none that others inject. Code made at run time stays allowed: that is what a compiler does.

use std::io;

use lull_sandbox::{Wall, WallReport};
use windows_sys::Win32::Security::{GetTokenInformation, TOKEN_QUERY, TokenIsAppContainer};
use windows_sys::Win32::System::JobObjects::{
    IsProcessInJob, JOB_OBJECT_LIMIT_ACTIVE_PROCESS, JOB_OBJECT_LIMIT_BREAKAWAY_OK,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, QueryInformationJobObject,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcessToken, PROCESS_MITIGATION_POLICY, ProcessExtensionPointDisablePolicy,
    ProcessImageLoadPolicy, ProcessSystemCallDisablePolicy, SetProcessMitigationPolicy,
};

use crate::report::report;

/// Each policy, its flags, and its name.
const POLICIES: [(PROCESS_MITIGATION_POLICY, u32, &str); 3] = [
    // DisallowWin32kSystemCalls.
    (ProcessSystemCallDisablePolicy, 1, "system calls of the desktop"),
    // DisableExtensionPoints.
    (ProcessExtensionPointDisablePolicy, 1, "extension points"),
    // NoRemoteImages, NoLowMandatoryLabelImages.
    (ProcessImageLoadPolicy, 0b11, "image loads"),
];

/// A wall that a drill can leave out: here only what the runner builds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The mitigation policies.
    Mitigations,
}

/// Those that the host has built.
pub(crate) fn at_start() -> Vec<WallReport> {
    vec![report(Wall::Job, in_job()), report(Wall::AppContainer, in_container())]
}

/// What must not be there before all threads are.
pub(crate) fn after_threads(left_out: &[Layer]) -> WallReport {
    let left_out = left_out.contains(&Layer::Mitigations);
    report(Wall::Mitigations, if left_out { Err("left out by a drill".to_owned()) } else { mitigate() })
}

fn in_job() -> Result<(), String> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let bytes = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>();
    let bytes = u32::try_from(bytes).map_err(|error| error.to_string())?;
    // SAFETY: no handle means this process's own job; the structure is of that class and size, and outlives the call.
    #[allow(unsafe_code, reason = "std has no job objects")]
    let answer = unsafe {
        QueryInformationJobObject(
            std::ptr::null_mut(),
            JobObjectExtendedLimitInformation,
            (&raw mut limits).cast(),
            bytes,
            std::ptr::null_mut(),
        )
    };
    if answer == 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    let limits = limits.BasicLimitInformation;
    let needed = JOB_OBJECT_LIMIT_ACTIVE_PROCESS | JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    let forbidden = JOB_OBJECT_LIMIT_BREAKAWAY_OK | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK;
    if limits.LimitFlags & needed == needed
        && limits.LimitFlags & forbidden == 0
        && limits.ActiveProcessLimit == 1
    {
        Ok(())
    } else if limits.LimitFlags == 0 && is_in_some_job() {
        // wine keeps a job's limits, some of them, and tells of none.
        Err("it is in a job, of whose limits this system tells nothing".to_owned())
    } else {
        let flags = limits.LimitFlags;
        Err(format!("it was not started in a job of one process that ends with its host (flags {flags:#x})"))
    }
}

fn is_in_some_job() -> bool {
    let mut is_in = 0;
    // SAFETY: a process's name for itself, which needs no closing; no handle means any job; the answer outlives the call.
    #[allow(unsafe_code, reason = "std has no job objects")]
    let answer = unsafe { IsProcessInJob(GetCurrentProcess(), std::ptr::null_mut(), &raw mut is_in) };
    answer != 0 && is_in != 0
}

fn in_container() -> Result<(), String> {
    let mut token = std::ptr::null_mut();
    let mut is_contained: u32 = 0;
    let mut returned = 0;
    // SAFETY: the token's handle is asked for and given back here; the answer has four bytes and outlives the call.
    #[allow(unsafe_code, reason = "std has no AppContainers")]
    let is_known = unsafe {
        if OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) == 0 {
            return Err(io::Error::last_os_error().to_string());
        }
        let answer = GetTokenInformation(
            token,
            TokenIsAppContainer,
            (&raw mut is_contained).cast(),
            4,
            &raw mut returned,
        );
        let error = io::Error::last_os_error();
        windows_sys::Win32::Foundation::CloseHandle(token);
        if answer == 0 { Err(error.to_string()) } else { Ok(()) }
    };
    is_known?;
    if is_contained == 0 { Err("the runner could not be started in one".to_owned()) } else { Ok(()) }
}

fn mitigate() -> Result<(), String> {
    let mut refused = Vec::new();
    for (policy, flags, name) in POLICIES {
        // SAFETY: each of these policies is a structure of four bytes of flags.
        #[allow(unsafe_code, reason = "std has no mitigation policies")]
        let answer = unsafe { SetProcessMitigationPolicy(policy, (&raw const flags).cast(), 4) };
        if answer == 0 {
            refused.push(format!("{name}: {}", io::Error::last_os_error()));
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(refused.join("; ")) }
}
