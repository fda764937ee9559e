//! Processes, from outside: Linux.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

/// Ends a process, with what its end is called.
pub(crate) fn kill(pid: u32) -> &'static str {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    "killed by signal 9"
}

/// Whether a process is gone, or a zombie.
pub(crate) fn is_gone(pid: u32) -> bool {
    states(pid).is_empty()
}

/// Whether every thread of a process is stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let states = states(pid);
    !states.is_empty() && states.iter().all(|state| *state == 'T')
}

/// The state letter of each live thread of a process.
fn states(pid: u32) -> Vec<char> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
        .filter_map(|stat| stat.rsplit(") ").next()?.chars().next())
        .filter(|state| !"ZX".contains(*state))
        .collect()
}

/// CPU time of a process in nanoseconds.
pub(crate) fn cpu_nanos(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let nanos = |stat: String| stat.split(' ').next().unwrap().parse::<u64>().unwrap();
    threads.map(|thread| nanos(read(thread.unwrap().path().join("schedstat")))).sum()
}
