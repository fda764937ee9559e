//! A runner in which wasm has already failed: after the same lock-down it does natively what a unit's number
//! says, and answers what came of it. Started by `tests/drills.rs` only.
#![allow(unsafe_code, clippy::unwrap_used, reason = "it does what must not be possible")]

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, ExitCode};
use std::sync::mpsc;

use lull_abi::{Payload, Unit};
use lull_sandbox::Outcome;
use lull_sandbox::frame::{self, HostFrame, RunnerFrame};

fn main() -> ExitCode {
    let parent =
        std::env::args().nth(2).and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
    lull_runner::run_with(parent.unwrap(), work)
}

fn work(frames: &mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Ok(bytes) = frames.recv() {
        let answer = match frame::decode(&bytes)? {
            HostFrame::Input { .. } => continue,
            HostFrame::Load { limits, .. } => {
                lull_runner::cap_memory(&limits, 0)?;
                RunnerFrame::Loaded
            }
            HostFrame::Run { unit } | HostFrame::RunOn { unit, .. } => {
                let outcome = match drill(unit) {
                    Ok(()) => Outcome::Result(b"broke out".to_vec()),
                    Err(error) => Outcome::GuestFailed(error.raw_os_error().map_or(-1, |e| e).to_string()),
                };
                RunnerFrame::Finished { outcome, cpu_micros: 0 }
            }
        };
        frame::write(&mut io::stdout().lock(), &answer)?;
    }
    Ok(())
}

fn drill(unit: &[u8]) -> io::Result<()> {
    let unit = Unit::decode(unit).ok().ok_or(io::ErrorKind::InvalidData)?;
    let Payload::Range { start: target, .. } = unit.payload else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let parent = i32::try_from(target).unwrap();
    let file = |path: &str| std::fs::read(path).map(drop);
    let write = |path: &str| std::fs::write(path, "x");
    match unit.number {
        0 => file("/etc/passwd"),
        1 => std::fs::read_dir("/root").map(drop),
        2 => std::fs::read_dir("/proc").map(drop),
        3 => file(&format!("/proc/{parent}/environ")),
        4 => TcpStream::connect("127.0.0.1:9").map(drop),
        5 => TcpListener::bind("127.0.0.1:0").map(drop),
        6 => UdpSocket::bind("127.0.0.1:0").map(drop),
        7 => UnixStream::connect("/run/x").map(drop),
        8 => UnixListener::bind_addr(&SocketAddr::from_abstract_name("lull-drill")?).map(drop),
        9 => call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]),
        10 => call(libc::SYS_clone3, [0; 6]),
        11 => Command::new("/bin/true").spawn().map(drop),
        12 => call(libc::SYS_execve, [c"/bin/true".as_ptr() as i64, 0, 0, 0, 0, 0]),
        13 => call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), parent.into(), 0, 0, 0, 0]),
        14 => call(libc::SYS_process_vm_readv, [parent.into(), 0, 0, 0, 0, 0]),
        15 => call(libc::SYS_kill, [parent.into(), 0, 0, 0, 0, 0]),
        16 => call(libc::SYS_tgkill, [parent.into(), parent.into(), 0, 0, 0, 0]),
        17 => write("/tmp/lull-drill"),
        18 => write("/dev/shm/lull-drill"),
        19 => call(libc::SYS_memfd_create, [c"x".as_ptr() as i64, 0, 0, 0, 0, 0]),
        20 => map(libc::MAP_SHARED | libc::MAP_ANONYMOUS, 1 << 20),
        21 => map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, 64 << 30),
        22 => rustix::process::setpriority_process(None, 0).map_err(io::Error::from),
        23 => raise(libc::RLIMIT_DATA),
        24 => raise(libc::RLIMIT_NPROC),
        25 => call(libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        26 => call(libc::SYS_bpf, [0; 6]),
        27 => call(libc::SYS_userfaultfd, [0; 6]),
        28 => call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0, 0]),
        29 => call(libc::SYS_shmget, [0, 4096, 0o1600, 0, 0, 0]),
        30 => loop {
            std::hint::spin_loop();
        },
        31 => loop {
            frame::write(&mut io::stdout().lock(), &vec![7_u8; 1 << 16])?;
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn call(number: i64, arguments: [i64; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: it is refused; if it is not, the drill fails and the process is killed.
    answered(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn answered(answer: i64) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Maps memory and, where it is granted, touches it.
fn map(flags: i32, bytes: usize) -> io::Result<()> {
    // SAFETY: a new mapping, which nothing else uses.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raise(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    let unlimited = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    call(libc::SYS_prlimit64, [0, resource.into(), &raw const unlimited as i64, 0, 0, 0])
}
