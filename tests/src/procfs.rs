//! What /proc tells of a process.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::process::Pid;

fn threads(pid: Pid) -> Result<Vec<PathBuf>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))?;
    Ok(tasks.flatten().map(|task| task.path()).collect())
}

/// The state letter of each thread of a process; none when it is gone.
fn states(pid: Pid) -> Vec<char> {
    let state = |thread: PathBuf| {
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    };
    threads(pid).unwrap_or_default().into_iter().filter_map(state).collect()
}

/// Whether a process is there, and every thread of it is stopped.
#[must_use]
pub fn is_stopped(pid: Pid) -> bool {
    let states = states(pid);
    !states.is_empty() && states.iter().all(|state| *state == 'T')
}

/// Whether no thread of a process executes another instruction of its program: it is stopped, or the signal
/// that stops it has arrived. The system acts on that before it returns to the program. On a busy machine a
/// thread of low priority can wait long for the moment in which it would be marked as stopped.
#[must_use]
pub fn is_halted(pid: Pid) -> bool {
    const STOP: u64 = 1 << (19 - 1);
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    pending.is_some_and(|mask| mask & STOP != 0) || states(pid).contains(&'T')
}

/// CPU time that all threads of a process have taken, in nanoseconds.
///
/// # Errors
/// When it is gone.
pub fn cpu_nanos(pid: Pid) -> Result<u64> {
    let mut nanos = 0;
    for thread in threads(pid)? {
        let text = fs::read_to_string(thread.join("schedstat"))?;
        nanos += text.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(nanos)
}

/// Memory of a process that is in RAM, in bytes.
///
/// # Errors
/// When it is gone.
pub fn resident_bytes(pid: Pid) -> Result<u64> {
    memory(pid, "VmRSS:")
}

/// The most memory that a process ever had in RAM, in bytes.
///
/// # Errors
/// When it is gone.
pub fn peak_bytes(pid: Pid) -> Result<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: Pid, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
