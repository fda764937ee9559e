//! A runner in which wasm has already failed: after the same lock-down it does natively what a unit's number
//! says, and answers what came of it. Started by `tests/drills.rs` only, by names that say what is different:
//! `drill,seccomp,landlock` leaves out those two walls, `drill,cap` the cap on memory, and `drill,unprivileged` is
//! nobody's process.
#![allow(unsafe_code, clippy::unwrap_used, reason = "it does what must not be possible")]

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use lull_abi::{Payload, Unit};
use lull_runner::Layer;
use lull_sandbox::Outcome;
use lull_sandbox::frame::{self, HostFrame, RunnerFrame};

/// User and group of nobody.
const NOBODY: u32 = 65534;

/// Memory is taken in pieces that no system refuses for their size alone.
const PIECE_BYTES: usize = 64 << 20;

/// Whether the cap on memory is left out.
static IS_UNCAPPED: AtomicBool = AtomicBool::new(false);

/// Where it is, left out or not.
static CAP_BYTES: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let parent = arguments[2].parse().ok().and_then(rustix::process::Pid::from_raw);
    let name = Path::new(&arguments[0]).file_name().unwrap().to_str().unwrap().to_owned();
    let mut left_out = Vec::new();
    for word in name.split(',').skip(1) {
        match word {
            "namespaces" => left_out.push(Layer::Namespaces),
            "capabilities" => left_out.push(Layer::Capabilities),
            "landlock" => left_out.push(Layer::Landlock),
            "seccomp" => left_out.push(Layer::Seccomp),
            "cap" => IS_UNCAPPED.store(true, Ordering::Relaxed),
            "unprivileged" => become_nobody(),
            _ => return ExitCode::FAILURE,
        }
    }
    lull_runner::run_with(parent.unwrap(), &left_out, work)
}

fn become_nobody() {
    // SAFETY: these change what the process may do, and nothing in its memory.
    let answers =
        unsafe { [libc::setgroups(0, std::ptr::null()), libc::setgid(NOBODY), libc::setuid(NOBODY)] };
    assert_eq!(answers, [0; 3]);
}

fn work(frames: &mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Ok(bytes) = frames.recv() {
        let answer = match frame::decode(&bytes)? {
            HostFrame::Input { .. } | HostFrame::Compile { .. } => continue,
            HostFrame::Load { limits, .. } | HostFrame::LoadCompiled { limits, .. } => {
                CAP_BYTES.store(lull_runner::process_bytes_max(&limits, 0), Ordering::Relaxed);
                if !IS_UNCAPPED.load(Ordering::Relaxed) {
                    lull_runner::cap_memory(&limits, 0)?;
                }
                RunnerFrame::Loaded
            }
            HostFrame::Run { unit } | HostFrame::RunOn { unit, .. } => {
                let outcome = match drill(unit) {
                    Ok(()) => Outcome::Result(b"broke out".to_vec()),
                    Err(error) => Outcome::GuestFailed(error.raw_os_error().map_or(-1, |e| e).to_string()),
                };
                RunnerFrame::Finished { outcome, cpu_micros: 0, fuel: None }
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
    // What the test holds ready outside: a process, a port of its TCP listener, and its other sockets.
    let parent = i32::try_from(target & u64::from(u32::MAX)).unwrap();
    let port = u16::try_from(target >> 32).unwrap();
    let file = |path: &str| std::fs::read(path).map(drop);
    // Opened only: the cap on the size of files is another wall.
    let write = |folder: &str| {
        std::fs::OpenOptions::new().write(true).open(format!("{folder}/lull-drill-{port}")).map(drop)
    };
    let list = |folder: &str| match std::fs::read_dir(folder)?.next() {
        Some(_) => Ok(()),
        None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
    };
    match unit.number {
        0 => file("/etc/passwd"),
        1 => list("/root"),
        2 => list("/proc"),
        3 => file(&format!("/proc/{parent}/environ")),
        4 => TcpStream::connect(("127.0.0.1", port)).map(drop),
        5 => TcpListener::bind("127.0.0.1:0").map(drop),
        6 => UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", ("127.0.0.1", port)).map(drop),
        7 => UnixStream::connect(format!("/tmp/lull-drill-{port}.sock")).map(drop),
        8 => UnixListener::bind_addr(&SocketAddr::from_abstract_name("lull-drill")?).map(drop),
        9 => call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]),
        10 => call(libc::SYS_clone3, [0; 6]),
        11 => Command::new("/bin/true").spawn().map(drop),
        12 => call(libc::SYS_execve, [c"/bin/true".as_ptr() as i64, 0, 0, 0, 0, 0]),
        13 => call(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), parent.into(), 0, 0, 0, 0]),
        14 => read_memory(parent),
        15 => call(libc::SYS_kill, [parent.into(), 0, 0, 0, 0, 0]),
        16 => call(libc::SYS_tgkill, [parent.into(), parent.into(), 0, 0, 0, 0]),
        17 => write("/tmp"),
        18 => write("/dev/shm"),
        19 => call(libc::SYS_memfd_create, [c"x".as_ptr() as i64, 0, 0, 0, 0, 0]),
        20 => map(READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, 1 << 20).map(drop),
        21 => past_the_cap(|| map_piece(READ_WRITE, 0)),
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
        32 => std::process::abort(),
        33 => denied_if(is_undumpable()),
        34 => call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0, 0]),
        35 => raise(libc::RLIMIT_CORE),
        36 => idle_no_more(),
        37 => {
            UnixStream::connect_addr(&SocketAddr::from_abstract_name(format!("lull-drill-{port}"))?).map(drop)
        }
        38 => file(&format!("/proc/{parent}/status")),
        39 => file("/proc/self/status"),
        40 => list("/"),
        41 => call(libc::SYS_chroot, [c"..".as_ptr() as i64, 0, 0, 0, 0, 0]),
        42 => list("../../../../.."),
        43 => call(libc::SYS_pidfd_open, [parent.into(), 0, 0, 0, 0, 0]),
        44 => past_the_cap(|| map_piece(READ_WRITE, libc::MAP_GROWSDOWN)),
        45 => past_the_cap(|| {
            let piece = map_piece(libc::PROT_NONE, 0)?;
            let [start, length] = [piece as i64, PIECE_BYTES as i64];
            call(libc::SYS_mprotect, [start, length, READ_WRITE.into(), 0, 0, 0]).map(|()| piece)
        }),
        46 => grow_the_stack(),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether a crash of this process leaves nothing behind.
fn is_undumpable() -> bool {
    // SAFETY: a question.
    let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    dumpable == 0 && limit.current == Some(0) && limit.maximum == Some(0)
}

fn denied_if(denied: bool) -> io::Result<()> {
    if denied { Err(io::Error::from_raw_os_error(libc::EPERM)) } else { Ok(()) }
}

/// Reads some of another process's memory, at an address where every program of this machine that is linked as usual
/// has none: one that may be read answers that there is none (EFAULT), which is as good as broken out.
fn read_memory(process: i32) -> io::Result<()> {
    let mut byte = 0_u8;
    let here = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: std::ptr::without_provenance_mut(8), iov_len: 1 };
    let (here, there) = (&raw const here as i64, &raw const there as i64);
    match call(libc::SYS_process_vm_readv, [process.into(), here, 1, there, 1, 0]) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other,
    }
}

fn idle_no_more() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    call(libc::SYS_sched_setscheduler, [0, libc::SCHED_OTHER.into(), &raw const priority as i64, 0, 0, 0])
}

fn call(number: i64, arguments: [i64; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: it is refused; if it is not, the drill fails and the process is killed.
    answered(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn answered(answer: i64) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Maps memory.
fn map(protection: i32, flags: i32, bytes: usize) -> io::Result<*mut u8> {
    // SAFETY: a new mapping, which nothing else uses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn map_piece(protection: i32, more_flags: i32) -> io::Result<*mut u8> {
    map(protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | more_flags, PIECE_BYTES)
}

/// Takes piece after piece, and writes to each, until it has more than the process may have.
fn past_the_cap(mut piece: impl FnMut() -> io::Result<*mut u8>) -> io::Result<()> {
    let wanted = usize::try_from(CAP_BYTES.load(Ordering::Relaxed)).unwrap() / PIECE_BYTES + 1;
    let mut pieces = Vec::with_capacity(wanted);
    let mut outcome = Ok(());
    while pieces.len() < wanted {
        match piece() {
            // SAFETY: its own mapping, which can be written.
            Ok(start) => unsafe {
                start.write_volatile(1);
                pieces.push(start);
            },
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    for start in pieces {
        // SAFETY: nothing points into it any more.
        unsafe { libc::munmap(start.cast(), PIECE_BYTES) };
    }
    outcome
}

/// Writes below the stack of the first thread, page by page: what the system adds to it is not counted by the cap.
fn grow_the_stack() -> io::Result<()> {
    const PAGE_BYTES: usize = 4096;
    unsafe extern "C" {
        static environ: *mut u8;
    }
    // SAFETY: it was set before `main`, and lies at the top of that stack.
    let top = unsafe { environ };
    for page in 1..PIECE_BYTES / PAGE_BYTES {
        // SAFETY: there is none: past the limit on stacks the process is ended, which is the drill.
        unsafe { top.wrapping_sub(page * PAGE_BYTES).write_volatile(0) };
    }
    Ok(())
}

fn raise(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    let unlimited = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    call(libc::SYS_prlimit64, [0, resource.into(), &raw const unlimited as i64, 0, 0, 0])
}
