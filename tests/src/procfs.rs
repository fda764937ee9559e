//! What /proc tells of a process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::Pid;

fn threads(pid: Pid) -> Result<Vec<PathBuf>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))?;
    Ok(tasks.flatten().map(|task| task.path()).collect())
}

/// The name of the thread that a runner runs its guest on.
const GUEST: &str = "guest";

/// The state letter of a thread, if it is there.
fn state(thread: &Path) -> Option<char> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn is_guest(thread: &Path) -> bool {
    fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == GUEST)
}

/// Whether a process is there, and every thread of it is stopped.
#[must_use]
pub fn is_stopped(pid: Pid) -> bool {
    let threads = threads(pid).unwrap_or_default();
    !threads.is_empty() && threads.iter().all(|thread| state(thread) == Some('T'))
}

/// Whether the thread of a runner's guest is there, and stopped: not only asked to, and not another thread of it.
#[must_use]
pub fn is_guest_stopped(pid: Pid) -> bool {
    let guest = threads(pid).unwrap_or_default().into_iter().find(|thread| is_guest(thread));
    guest.is_some_and(|thread| state(&thread) == Some('T'))
}

/// CPU time that the guest of a runner has taken, in nanoseconds.
///
/// # Errors
/// When the runner is gone, or has no guest yet.
pub fn guest_cpu_nanos(pid: Pid) -> Result<u64> {
    let guest = threads(pid)?.into_iter().find(|thread| is_guest(thread));
    thread_cpu_nanos(&guest.context("no thread of a guest")?)
}

fn thread_cpu_nanos(thread: &Path) -> Result<u64> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    Ok(text.split(' ').next().context("schedstat is empty")?.parse()?)
}

/// CPU time that all threads of a process have taken, in nanoseconds.
///
/// # Errors
/// When it is gone.
pub fn cpu_nanos(pid: Pid) -> Result<u64> {
    threads(pid)?.iter().map(|thread| thread_cpu_nanos(thread)).sum()
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
