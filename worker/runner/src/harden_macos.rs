//! The same as `harden.rs`, for macOS, where less can be given up.
//!
//! The system caps open files, files' sizes, core dumps, processes and, while compiling, CPU time. It does not cap the memory
//! of a process: `RLIMIT_DATA` does not count what is mapped, so that the guest's own limit is the one that counts. There is no
//! signal at the end of a parent: standard input ends then, and with it this process; one that is stopped at that moment is
//! hung up on (see `spawn` in `lull_sandbox`).

use std::fs;
use std::io;
use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, getppid, setpriority_process, setrlimit};

use lull_sandbox::{CompileLimits, Limits, WallReport};

use crate::budget::process_bytes_max;
use crate::os::Parent;
use crate::walls::Layer;

/// Open files that the process may have: the three standard ones and what wasmtime opens for a moment.
const OPEN_FILES_MAX: u64 = 32;

/// The weakest claim on the CPU that there is without a class of its own.
const NICENESS: i32 = 19;

/// Gives up what can be given up. `parent` is who started it.
///
/// # Errors
/// When the system refuses, or the parent is gone already: then nothing may run.
pub(crate) fn process(parent: Parent, _: &[Layer]) -> io::Result<Vec<WallReport>> {
    close_inherited_files()?;
    if getppid() != Some(parent) {
        return Err(io::Error::other("the process that started it is gone"));
    }
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, OPEN_FILES_MAX)?;
    limit(Resource::Fsize, 0)?;
    setpriority_process(None, NICENESS)?;
    Ok(Vec::new())
}

/// Lets the process start no more processes; threads are not counted here. The system does not hold root to it.
pub(crate) fn no_more_threads() -> io::Result<()> {
    limit(Resource::Nproc, 0)
}

/// Asks for a cap on the memory of the whole process. This system takes it, and counts next to nothing towards it.
///
/// # Errors
/// When the system refuses.
pub fn memory(limits: &Limits, input_bytes: u64) -> io::Result<()> {
    limit(Resource::Data, process_bytes_max(limits, input_bytes))
}

/// Caps the CPU time that the process may take to compile a module. Past it, it is ended by SIGXCPU.
pub(crate) fn compiling(limits: &CompileLimits) -> io::Result<()> {
    // The harder limit, one second later, would end it by SIGKILL, which does not tell why.
    let (current, maximum) = (Some(limits.cpu_secs), Some(limits.cpu_secs.saturating_add(1)));
    Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum })?)
}

/// Lowers a limit for good; one that is lower already stays.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let value = now.maximum.map_or(value, |maximum| maximum.min(value));
    Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
}

/// Closes every file but the three standard ones: pipes of other runners among them, which this system cannot make so
/// that nobody inherits them, and which would keep those runners from seeing the end of their host.
fn close_inherited_files() -> io::Result<()> {
    let mut leaked: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir("/dev/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) {
            leaked.push(number);
        }
    }
    leaked.retain(|number| *number > 2 && fs::metadata(format!("/dev/fd/{number}")).is_ok());
    for number in leaked {
        #[allow(unsafe_code, reason = "closing files that nothing in this process has opened")]
        // SAFETY: the process has just started, has one thread, and holds no file but the standard three; the
        // listing's own is closed by now, and a number that no longer names a file was left out.
        unsafe {
            rustix::io::close(number);
        }
    }
    Ok(())
}
