//! Processes, from outside: Windows.
#![allow(unsafe_code, reason = "std tells nothing of processes that are not its children")]

use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{FILETIME, WAIT_TIMEOUT};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, OpenThread, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    PROCESS_TERMINATE, ResumeThread, SuspendThread, THREAD_SUSPEND_RESUME, TerminateProcess,
    WaitForSingleObject,
};

fn open(pid: u32, access: u32) -> Option<OwnedHandle> {
    // SAFETY: a handle that is opened is closed by its owner.
    unsafe {
        let process = OpenProcess(access, 0, pid);
        (!process.is_null()).then(|| OwnedHandle::from_raw_handle(process))
    }
}

/// Ends a process, with what its end is called.
pub(crate) fn kill(pid: u32) -> &'static str {
    let process = open(pid, PROCESS_TERMINATE).unwrap();
    // SAFETY: the handle is open.
    assert_ne!(unsafe { TerminateProcess(process.as_raw_handle(), 9) }, 0);
    "exit code 9"
}

/// Whether a process is gone.
pub(crate) fn is_gone(pid: u32) -> bool {
    // SAFETY: the handle is open.
    open(pid, PROCESS_SYNCHRONIZE)
        .is_none_or(|process| unsafe { WaitForSingleObject(process.as_raw_handle(), 0) != WAIT_TIMEOUT })
}

/// Whether every thread of a process is stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let counts: Vec<u32> = threads(pid).into_iter().filter_map(stops).collect();
    !counts.is_empty() && counts.iter().all(|count| *count > 0)
}

fn threads(pid: u32) -> Vec<u32> {
    let mut threads = Vec::new();
    // SAFETY: the snapshot is closed by its owner; the entry says its size and outlives the calls.
    unsafe {
        let snapshot = OwnedHandle::from_raw_handle(CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0));
        let mut entry = THREADENTRY32 {
            dwSize: u32::try_from(size_of::<THREADENTRY32>()).unwrap(),
            ..THREADENTRY32::default()
        };
        let mut found = Thread32First(snapshot.as_raw_handle(), &raw mut entry);
        while found != 0 {
            if entry.th32OwnerProcessID == pid {
                threads.push(entry.th32ThreadID);
            }
            found = Thread32Next(snapshot.as_raw_handle(), &raw mut entry);
        }
    }
    threads
}

/// How often a thread was stopped; `None` if it has ended.
fn stops(thread: u32) -> Option<u32> {
    // SAFETY: the thread's handle is closed by its owner; one more stop is taken back at once.
    unsafe {
        let handle = OpenThread(THREAD_SUSPEND_RESUME, 0, thread);
        if handle.is_null() {
            return None;
        }
        let handle = OwnedHandle::from_raw_handle(handle);
        let before = SuspendThread(handle.as_raw_handle());
        if before == u32::MAX {
            return None;
        }
        ResumeThread(handle.as_raw_handle());
        Some(before)
    }
}

/// CPU time of a process in nanoseconds.
pub(crate) fn cpu_nanos(pid: u32) -> u64 {
    let process = open(pid, PROCESS_QUERY_LIMITED_INFORMATION).unwrap();
    let [mut created, mut exited, mut kernel, mut user] = [FILETIME::default(); 4];
    let handle = process.as_raw_handle();
    // SAFETY: the handle is open; the four times outlive the call.
    let answer =
        unsafe { GetProcessTimes(handle, &raw mut created, &raw mut exited, &raw mut kernel, &raw mut user) };
    assert_ne!(answer, 0);
    let ticks = |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    (ticks(kernel) + ticks(user)) * 100
}
