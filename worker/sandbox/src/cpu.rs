//! CPU time of a process, from outside.

use std::fs;

use rustix::process::Pid;

/// CPU time that all threads of a process have taken, in microseconds; 0 where the system does not tell.
pub(crate) fn cpu_micros(pid: Pid) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return 0 };
    let nanos: u64 = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
        .sum();
    nanos / 1000
}
