//! Drills: native code in a runner's place, behind the same walls, as if WebAssembly had failed. They hold for
//! root too, which is who runs these tests in a container.
//!
//! Each wall is also tried alone, with the others left out, as the user that runs the tests and, if that is root, as
//! nobody. `x`: denied by that wall alone. `namespaces` are those with the empty root directory and without
//! capabilities. Whatever is blank there rests on seccomp alone:
//!
//! ```text
//!                                               seccomp  Landlock  namespaces
//! read a file, a home directory, the root           x        x          x
//! list /proc, read of another process there         x        x          x
//! open a file in /tmp or /dev/shm to write            x        x          x
//! connect by TCP to a listener on this PC           x        x          x
//! connect to an abstract Unix socket                x        x          x
//! trace another process, read its memory            x        x          x
//! send by UDP to a port of this PC                  x                   x
//! connect to a Unix socket in the file system       x                   x
//! signal another process of the same user           x        x
//! shared memory (memfd, mmap, System V)             x
//! become dumpable again (cores stay at 0 bytes)     x
//! ```
//!
//! The cap on memory is tried in the same way, in pieces that no system refuses for their size. It does not count memory
//! that grows downwards like a stack, which seccomp refuses:
//!
//! ```text
//!                                               seccomp  cap on memory
//! map memory past the cap                                     x
//! the same, made writable later                               x
//! the same, that grows downwards                    x
//! write below the stack past the limit on it      (that limit alone)
//! ```
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use lull_abi::{Payload, Stage, Unit};
use lull_sandbox::{
    Error, Flavour, Freezer, Limits, Outcome, Program, Runner, RunnerConfig, Wall, WallPolicy, probe,
};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use support::{KillOnDrop, LIMITS, config, cpu_nanos, is_gone, is_stopped, until};

const EPERM: &str = "1";
const ENOMEM: &str = "12";

/// A drill, locked down like a runner; what it is loaded with does not matter.
fn start(limits: Limits, freezer: &Freezer) -> Runner {
    start_as("drill", WallPolicy::Required, limits, freezer)
}

/// The same by another name, which says what is left out.
fn start_as(name: &str, require: WallPolicy, limits: Limits, freezer: &Freezer) -> Runner {
    let mut runner = Runner::start(&named(name, require), freezer).unwrap();
    runner.load(&Program { module: b"", inputs: &[], limits, flavour: Flavour::Normal }).unwrap();
    runner
}

/// The drill by another name.
fn named(name: &str, require: WallPolicy) -> RunnerConfig {
    let tests = std::env::current_exe().unwrap();
    let drill = tests.parent().unwrap().parent().unwrap().join("examples/drill");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Another test may have made it.
    let _ = std::os::unix::fs::symlink(drill, &path);
    RunnerConfig { path, require }
}

fn unit(number: u64) -> Unit {
    let parent = u64::from(std::process::id());
    Unit { stage: Stage::Work, number, payload: Payload::Range { start: parent, end: parent + 1 } }
}

/// Runs drills in one process; each must be denied with this error number.
fn denied(drills: &[u64], errno: &str) {
    let mut runner = start(LIMITS, &Freezer::new());
    for drill in drills {
        let outcome = runner.run(&unit(*drill)).unwrap().outcome;
        assert_eq!(outcome, Outcome::GuestFailed(errno.to_owned()), "drill {drill}");
    }
}

#[test]
fn every_wall_stands_here() {
    let walls = probe(&config()).unwrap();
    assert!(walls.iter().all(lull_sandbox::WallReport::stands), "{walls:?}");
    assert!(
        walls.iter().any(|report| matches!(report.wall, Wall::Landlock { abi } if abi >= 6)),
        "{walls:?}"
    );
}

/// As on a kernel that is too old for some of them, or forbids them.
#[test]
fn where_a_wall_cannot_stand_that_is_said_and_the_policy_decides() {
    let missing = |name: &str| match probe(&named(name, WallPolicy::Required)) {
        Ok(walls) => {
            let stands = walls.iter().filter(|report| report.stands()).count();
            assert!(stands < walls.len(), "{name}: {walls:?}");
            String::new()
        }
        Err(Error::WallsMissing { missing }) => missing,
        Err(error) => panic!("{name}: {error}"),
    };
    assert_eq!(missing("drill,landlock"), "", "seccomp and namespaces are enough");
    assert_eq!(missing("drill,namespaces,capabilities"), "", "and so are seccomp and Landlock");
    assert!(missing("drill,seccomp").contains("seccomp (left out"), "{}", missing("drill,seccomp"));
    let old = "drill,landlock,namespaces,capabilities";
    assert!(missing(old).contains("Landlock (left out") && missing(old).contains("namespaces (left out"));
    for name in ["drill,seccomp", old, "drill,seccomp,landlock,namespaces,capabilities"] {
        start_as(name, WallPolicy::BestEffort, LIMITS, &Freezer::new());
    }
}

#[test]
fn files_and_processes_cannot_be_read() {
    denied(&[0, 1, 2, 3, 38, 39, 40, 41, 42], EPERM);
}

#[test]
fn there_are_no_sockets() {
    denied(&[4, 5, 6, 7, 8, 37], EPERM);
}

#[test]
fn nothing_can_be_started() {
    denied(&[9, 10, 11, 12], EPERM);
}

#[test]
fn the_parent_cannot_be_traced_read_or_signalled() {
    denied(&[13, 14, 15, 16, 43], EPERM);
}

#[test]
fn nothing_can_be_written() {
    denied(&[17, 18, 19], EPERM);
}

#[test]
fn shared_memory_is_refused() {
    denied(&[20, 29], EPERM);
}

#[test]
fn memory_ends_at_the_cap() {
    const MAP: u64 = 21;
    const GROW_DOWN: u64 = 44;
    const MAKE_WRITABLE: u64 = 45;
    let ended = |name: &str, drill| {
        let mut runner = start_as(name, WallPolicy::BestEffort, LIMITS, &Freezer::new());
        runner.run(&unit(drill)).unwrap().outcome
    };
    let refused = |errno: &str| Outcome::GuestFailed(errno.to_owned());
    let broke_out = || Outcome::Result(b"broke out".to_vec());
    for drill in [MAP, MAKE_WRITABLE] {
        assert_eq!(ended("drill", drill), refused(ENOMEM), "drill {drill}");
        assert_eq!(ended("drill,seccomp", drill), refused(ENOMEM), "drill {drill}: the cap alone");
        assert_eq!(ended("drill,cap", drill), broke_out(), "drill {drill} would be none");
    }
    assert_eq!(ended("drill", GROW_DOWN), refused(EPERM));
    assert_eq!(ended("drill,cap", GROW_DOWN), refused(EPERM), "seccomp alone");
    assert_eq!(ended("drill,seccomp", GROW_DOWN), broke_out(), "the cap does not count it");
}

#[test]
fn the_first_stack_ends_at_its_limit() {
    // What this process may do its children may: without the runner's own limit the stack would go on.
    let limit = getrlimit(Resource::Stack);
    setrlimit(Resource::Stack, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let died = start(LIMITS, &Freezer::new()).run(&unit(46)).unwrap_err();
    assert!(matches!(&died, Error::RunnerDied { how } if how == "killed by signal 11"), "{died}");
}

#[test]
fn limits_and_priority_cannot_be_raised() {
    denied(&[22, 23, 24, 36], EPERM);
}

#[test]
fn what_the_system_is_attacked_by_is_refused() {
    denied(&[25, 26, 27, 28], EPERM);
}

#[test]
fn burning_cpu_ends_at_the_time_limit() {
    let mut runner = start(Limits { unit_secs: 1, ..LIMITS }, &Freezer::new());
    let number = runner.pid();
    let run = runner.run(&unit(30)).unwrap();
    assert_eq!(run.outcome, Outcome::Limit("ran longer than 1 s".to_owned()));
    assert!(is_gone(number));
}

#[test]
fn native_code_that_burns_cpu_can_be_frozen() {
    let freezer = Freezer::new();
    let mut runner = start(LIMITS, &freezer);
    let number = runner.pid();
    let before = cpu_nanos(number);
    std::thread::scope(|scope| {
        let _end = KillOnDrop(&freezer);
        let running = scope.spawn(|| runner.run(&unit(30)));
        until("the drill runs", || cpu_nanos(number) > before + 1_000_000);
        freezer.freeze();
        until("it is stopped", || is_stopped(number));
        let frozen = cpu_nanos(number);
        drop(probe(&config()).unwrap());
        assert_eq!(cpu_nanos(number), frozen);
        freezer.kill();
        assert!(matches!(running.join().unwrap(), Err(Error::RunnerDied { .. })));
    });
}

#[test]
fn a_flood_of_output_ends_the_runner() {
    let limits = Limits { result_bytes: 1 << 10, ..LIMITS };
    let mut runner = start(limits, &Freezer::new());
    let number = runner.pid();
    assert!(matches!(runner.run(&unit(31)), Err(Error::Protocol { .. })));
    assert!(is_gone(number));
}

#[test]
fn a_crash_leaves_nothing_behind() {
    // What this process may do its children may: without the runner's own limit there would be a core.
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    denied(&[34, 35], EPERM);
    // seccomp refuses the question too.
    let mut asked = start_as("drill,seccomp", WallPolicy::BestEffort, LIMITS, &Freezer::new());
    assert_eq!(asked.run(&unit(33)).unwrap().outcome, Outcome::GuestFailed(EPERM.to_owned()));
    let mut runner = start(LIMITS, &Freezer::new());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", runner.pid())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    let died = runner.run(&unit(32)).unwrap_err();
    assert!(matches!(&died, Error::RunnerDied { how } if how == "killed by signal 6"), "{died}");
}

#[test]
fn every_thread_runs_only_when_nobody_else_wants_the_cpu() {
    /// Of a line of /proc/PID/task/TID/stat, after the name: niceness, and the scheduling class.
    const NICE: usize = 16;
    const POLICY: usize = 38;
    const SCHED_IDLE: &str = "5";
    let runner = start(LIMITS, &Freezer::new());
    let threads = std::fs::read_dir(format!("/proc/{}/task", runner.pid())).unwrap();
    let stats: Vec<String> =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()).collect();
    assert_eq!(stats.len(), 2);
    for stat in stats {
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        assert_eq!((fields[NICE], fields[POLICY]), ("19", SCHED_IDLE), "{stat}");
    }
}

/// Files that drills try to write.
fn files(port: u16) -> [String; 2] {
    ["/tmp", "/dev/shm"].map(|folder| format!("{folder}/lull-drill-{port}"))
}

/// What drills try to reach: a process of the same user, and sockets.
struct Outside {
    victim: Child,
    port: u16,
    _open: (TcpListener, UnixListener, UnixListener),
}

impl Outside {
    fn of(user: Option<u32>) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let path = format!("/tmp/lull-drill-{port}.sock");
        let in_files = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let name = SocketAddr::from_abstract_name(format!("lull-drill-{port}")).unwrap();
        let in_the_abstract = UnixListener::bind_addr(&name).unwrap();
        for file in files(port) {
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        }
        let mut sleep = Command::new("sleep");
        if let Some(user) = user {
            sleep.uid(user).gid(user);
        }
        let victim = sleep.arg("1000").spawn().unwrap();
        Self { victim, port, _open: (tcp, in_files, in_the_abstract) }
    }

    fn unit(&self, number: u64) -> Unit {
        let target = u64::from(self.victim.id()) | u64::from(self.port) << 32;
        Unit { stage: Stage::Work, number, payload: Payload::Range { start: target, end: target + 1 } }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let _ = std::fs::remove_file(format!("/tmp/lull-drill-{}.sock", self.port));
        for file in files(self.port) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// What stands in a column of the table.
const COLUMNS: [(&str, &str); 5] = [
    ("no wall", "drill,seccomp,landlock,namespaces,capabilities"),
    ("seccomp", "drill,landlock,namespaces,capabilities"),
    ("Landlock", "drill,seccomp,namespaces,capabilities"),
    ("namespaces", "drill,seccomp,landlock"),
    ("all but seccomp", "drill,seccomp"),
];

/// Drills in their order, and for each column whether it is denied. Without any wall all of them succeed: they
/// would be no drills otherwise.
const TABLE: [(u64, &str, [bool; 5]); 19] = [
    (0, "read a file", [false, true, true, true, true]),
    (1, "list a home directory", [false, true, true, true, true]),
    (2, "list /proc", [false, true, true, true, true]),
    (38, "read of another process in /proc", [false, true, true, true, true]),
    (40, "list the root", [false, true, true, true, true]),
    (42, "list the root from below", [false, true, true, true, true]),
    (17, "open a file in /tmp to write", [false, true, true, true, true]),
    (18, "open a file in /dev/shm to write", [false, true, true, true, true]),
    (4, "connect by TCP", [false, true, true, true, true]),
    (37, "connect to an abstract Unix socket", [false, true, true, true, true]),
    (13, "trace another process", [false, true, true, true, true]),
    (14, "read another process's memory", [false, true, true, true, true]),
    (6, "send by UDP", [false, true, false, true, true]),
    (7, "connect to a Unix socket in the file system", [false, true, false, true, true]),
    (15, "signal another process", [false, true, true, false, true]),
    (19, "memory that is a file", [false, true, false, false, false]),
    (20, "shared memory", [false, true, false, false, false]),
    (29, "System V shared memory", [false, true, false, false, false]),
    (34, "become dumpable", [false, true, false, false, false]),
];

/// How the system says no: EPERM, ENOENT, EACCES, EADDRNOTAVAIL, ENETUNREACH, ECONNREFUSED. What is not there behind
/// a wall is there without any.
const REFUSALS: [&str; 6] = ["1", "2", "13", "99", "101", "111"];

/// Runs the whole table, as another user if one is named.
fn check_table(suffix: &str, user: Option<u32>) {
    let mut wrong = Vec::new();
    for (column, (walls, name)) in COLUMNS.iter().enumerate() {
        let outside = Outside::of(user);
        let name = format!("{name}{suffix}");
        let mut runner = start_as(&name, WallPolicy::BestEffort, LIMITS, &Freezer::new());
        for (number, what, expected) in TABLE {
            // Only its owner may list a home directory, whatever walls there are.
            if number == 1 && user.is_some() {
                continue;
            }
            let outcome = runner.run(&outside.unit(number));
            let outcome = outcome.unwrap_or_else(|error| panic!("{walls}: {what}: {error}")).outcome;
            let was_denied =
                matches!(&outcome, Outcome::GuestFailed(errno) if REFUSALS.contains(&errno.as_str()));
            let broke_out = matches!(outcome, Outcome::Result(_));
            if (was_denied, broke_out) != (expected[column], !expected[column]) {
                wrong.push(format!("{walls}: {what}: {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_wall_alone_denies_what_the_table_says() {
    check_table("", None);
}

#[test]
fn each_wall_alone_denies_the_same_to_an_unprivileged_user() {
    const NOBODY: u32 = 65534;
    // Only root can become somebody else; the other test has run without privileges then.
    if geteuid().is_root() {
        check_table(",unprivileged", Some(NOBODY));
    }
}

#[test]
fn the_empty_root_cannot_be_left() {
    let mut runner = start_as("drill,seccomp,landlock", WallPolicy::BestEffort, LIMITS, &Freezer::new());
    let mut ended = |drill| runner.run(&unit(drill)).unwrap().outcome;
    let drills = [41, 42, 40, 39];
    let outcomes = drills.map(&mut ended);
    let was_denied = |outcome: &Outcome| matches!(outcome, Outcome::GuestFailed(errno) if REFUSALS.contains(&errno.as_str()));
    assert!(outcomes.iter().all(was_denied), "{drills:?}: {outcomes:?}");
}

/// A signal to the process would be taken by its first thread: the guest would run on until that is scheduled.
#[test]
fn what_freezes_a_runner_is_sent_to_the_thread_of_its_guest() {
    /// The bit of SIGSTOP in a mask of /proc.
    const STOP: u64 = 1 << (19 - 1);
    let freezer = Freezer::new();
    let runner = start(LIMITS, &freezer);
    let thread_of_guest = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", runner.pid())).unwrap();
        let mut threads = threads.map(|thread| thread.unwrap().path());
        threads.find(|thread| std::fs::read_to_string(thread.join("comm")).unwrap() == "guest\n").unwrap()
    };
    let is_pending = |thread: &Path| {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & STOP != 0
    };
    let guest = thread_of_guest();
    freezer.freeze();
    until("it is stopped", || is_stopped(runner.pid()));
    // While it is stopped, it takes no other: what is sent stays where it was sent to.
    freezer.freeze();
    assert!(is_pending(&guest));
    freezer.thaw();
    until("it goes on", || !is_stopped(runner.pid()) && !is_pending(&guest));
    assert_eq!(runner.pid(), freezer.runner_pid().unwrap());
}
