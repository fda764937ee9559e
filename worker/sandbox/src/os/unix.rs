//! Unix: signals and poll; Linux also has pidfds.
//!
//! A stopped process cannot see that its host is gone. Linux kills it (`lull-runner` asks for that); on macOS it starts in a
//! process group of its own: when the host ends, that group is orphaned, and the system hangs up on what is stopped in it.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
#[cfg(target_os = "macos")]
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::ReadWithin;

pub(crate) use std::process::{Child, ChildStdin, ChildStdout};

/// How often it is looked whether a process has ended.
#[cfg(target_os = "macos")]
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A process that has not been waited for: it exists, if only as a zombie, so that signals cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: Pid,
    /// The thread that guests run on, once the runner has named it.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "no signal goes to a thread of another process there")
    )]
    guest: Option<Pid>,
}

/// Starts a runner, with no environment, no standard error, and `/` as its directory.
pub(crate) fn spawn(path: &Path) -> io::Result<(Child, Process)> {
    let mut command = Command::new(path);
    #[cfg(target_os = "macos")]
    command.process_group(0);
    let child = command
        .arg("--parent")
        .arg(std::process::id().to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let process = Process::of(&child);
    Ok((child, process))
}

impl Process {
    /// The process of a child.
    pub(crate) fn of(child: &Child) -> Self {
        Self { pid: Pid::from_child(child), guest: None }
    }

    /// Its number.
    pub(crate) fn id(self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The same, with the thread that its guests run on.
    pub(crate) fn with_guest_thread(self, thread: Option<u32>) -> Self {
        let number = thread.and_then(|number| i32::try_from(number).ok());
        Self { guest: number.and_then(Pid::from_raw), ..self }
    }

    /// Stops it. Any thread may take a signal that is sent to a process, and Linux prefers the first, which sleeps: the others
    /// run on until it has been scheduled, and that can take long for one of the idle class. So the guest's own
    /// thread is told first: it stops before its next instruction, and all others with it.
    pub(crate) fn stop(self) {
        #[cfg(target_os = "linux")]
        if let Some(guest) = self.guest {
            stop_thread(self.pid, guest);
        }
        // For a runner that has not named a thread, or not rightly. A second stop changes nothing, and one continuation
        // takes both back.
        let _ = kill_process(self.pid, Signal::STOP);
    }

    /// Continues it.
    pub(crate) fn cont(self) {
        let _ = kill_process(self.pid, Signal::CONT);
    }

    /// Ends it, stopped or not.
    pub(crate) fn kill(self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Waits up to `time` until it has ended; it still has to be waited for.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait_ended(self, time: Duration) {
        use rustix::process::{PidfdFlags, pidfd_open};

        if let Ok(process) = pidfd_open(self.pid, PidfdFlags::empty()) {
            let _ = wait_readable(&process, time);
        }
    }

    /// Waits up to `time` until it has ended, looking now and then; it still has to be waited for.
    #[cfg(target_os = "macos")]
    pub(crate) fn wait_ended(self, time: Duration) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};

        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let until = std::time::Instant::now() + time;
        while let Ok(None) = waitid(WaitId::Pid(self.pid), look) {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left.min(LOOK_EVERY));
        }
    }

    /// CPU time that all of its threads have taken, in microseconds; 0 where the system does not tell.
    pub(crate) fn cpu_micros(self) -> u64 {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id())) else { return 0 };
        let nanos: u64 = threads
            .flatten()
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
            .sum();
        nanos / 1000
    }
}

/// Sends one thread of a process the signal that stops the whole. Where the process has no such thread nothing happens.
#[cfg(target_os = "linux")]
fn stop_thread(process: Pid, thread: Pid) {
    let [process, thread] = [process, thread].map(|number| number.as_raw_nonzero().get());
    #[allow(unsafe_code, reason = "no safe crate here sends a signal to a thread of another process")]
    // SAFETY: three numbers are passed; the process is a child that has not been waited for, so its number is its own.
    unsafe {
        libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGSTOP);
    }
}

impl ReadWithin for ChildStdout {
    fn read_within(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Option<usize>> {
        match wait_readable(self, time) {
            Ok(true) => {}
            Ok(false) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        match self.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            read => read.map(Some),
        }
    }
}

/// Whether something can be read within `time`; the end of a pipe counts.
fn wait_readable(source: &impl AsFd, time: Duration) -> rustix::io::Result<bool> {
    let time = rustix::event::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    Ok(poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&time))? > 0)
}

/// How a runner ends that reached its cap on CPU time (SIGXCPU), in the words of [`describe`].
pub(crate) const OUT_OF_CPU: &str = "killed by signal 24";

/// How one ends that was refused memory (SIGABRT).
pub(crate) const OUT_OF_MEMORY: &str = "killed by signal 6";

/// How it ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            // Never, behind the walls: what a guest works on is not for a disk.
            let dumped = if status.core_dumped() { ", its memory was dumped" } else { "" };
            format!("killed by signal {signal}{dumped}")
        }
        (None, None) => status.to_string(),
    }
}
