//! What the process gives up before it reads a byte.
//!
//! The host has already cleared the environment and the directory. WebAssembly is the first wall; this is
//! for the day it has a hole, together with `walls`.

use std::fs;
use std::io;
use std::os::fd::RawFd;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, getppid, setpriority_process, setrlimit};

use lull_sandbox::{CompileLimits, Limits, WallReport};

use crate::budget::process_bytes_max;
use crate::os::Parent;
use crate::walls::{self, Layer};

/// Open files that the process may have: the three standard ones and what wasmtime opens for a moment.
const OPEN_FILES_MAX: u64 = 32;

/// The stack of the first thread, which only reads frames: what systems give it as a rule, where this one may give it more.
/// It grows without being counted against the cap on memory.
const FIRST_STACK_BYTES_MAX: u64 = 8 << 20;

/// The weakest claim on memory that is left: proc(5).
const OOM_SCORE_MAX: &str = "1000";

/// The weakest claim on the CPU within a scheduling class, so that the PC stays responsive.
const NICENESS: i32 = 19;

/// Locks the process down while it has one thread, and tells which walls stand. `parent` is who started it.
///
/// # Errors
/// When the system refuses, or the parent is gone already: then nothing may run.
pub(crate) fn process(parent: Parent, left_out: &[Layer]) -> io::Result<Vec<WallReport>> {
    // While there is a file system to list them in.
    close_inherited_files()?;
    first_to_go();
    // Early: a change of credentials may take back the signal that is asked for next.
    let mut walls = walls::before_threads(left_out);
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the signal was asked for.
    if getppid() != Some(parent) {
        return Err(io::Error::other("the process that started it is gone"));
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, OPEN_FILES_MAX)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Stack, FIRST_STACK_BYTES_MAX)?;
    setpriority_process(None, NICENESS)?;
    run_when_idle()?;
    walls.push(walls::shut_files(left_out));
    Ok(walls)
}

/// Where memory runs out, the system ends this process before any of the owner's. One that does not let its processes say so
/// chooses as it likes.
fn first_to_go() {
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_MAX);
}

/// Runs this thread, and those that it starts, when nobody else wants the CPU: a guest never keeps the thread that
/// watches for people from running. But on a busy PC a thread of this class that sleeps may be woken late: what is to
/// stop the guest has to reach the thread that runs it.
fn run_when_idle() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    #[allow(unsafe_code, reason = "the scheduling class, for which there is no safe call")]
    // SAFETY: the structure lives through the call, which changes nothing in memory.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the process start no more threads or processes. The system does not hold root to it.
pub(crate) fn no_more_threads() -> io::Result<()> {
    limit(Resource::Nproc, 0)
}

/// Caps the memory of the whole process, as a second wall behind the guest's own limit.
///
/// # Errors
/// When the system refuses.
pub fn memory(limits: &Limits, input_bytes: u64) -> io::Result<()> {
    limit(Resource::Data, process_bytes_max(limits, input_bytes))
}

/// Caps what the process may take to compile a module. Past its CPU time it is ended by SIGXCPU; refused memory, it aborts.
pub(crate) fn compiling(limits: &CompileLimits) -> io::Result<()> {
    limit(Resource::Data, limits.memory_bytes)?;
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

/// Closes every file but the three standard ones: the host may have leaked some.
fn close_inherited_files() -> io::Result<()> {
    let mut leaked: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) {
            leaked.push(number);
        }
    }
    leaked.retain(|number| *number > 2 && fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
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
