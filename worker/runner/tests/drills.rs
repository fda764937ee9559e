//! Drills: native code in a runner's place, behind the same walls, as if WebAssembly had failed. They hold for
//! root too, which is who runs these tests in a container.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use lull_abi::{Payload, Stage, Unit};
use lull_sandbox::{Error, Freezer, Limits, Outcome, Program, Runner, RunnerConfig, Wall, WallPolicy, probe};
use support::{KillOnDrop, LIMITS, config, cpu_nanos, is_gone, is_stopped, until};

const EPERM: &str = "1";
const ENOMEM: &str = "12";

/// A drill, locked down like a runner; what it is loaded with does not matter.
fn start(limits: Limits, freezer: &Freezer) -> Runner {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples/drill");
    let config = RunnerConfig { path, require: WallPolicy::Required };
    let mut runner = Runner::start(&config, freezer).unwrap();
    runner.load(&Program { module: b"", inputs: &[], limits }).unwrap();
    runner
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

#[test]
fn files_and_processes_cannot_be_read() {
    denied(&[0, 1, 2, 3], EPERM);
}

#[test]
fn there_are_no_sockets() {
    denied(&[4, 5, 6, 7, 8], EPERM);
}

#[test]
fn nothing_can_be_started() {
    denied(&[9, 10, 11, 12], EPERM);
}

#[test]
fn the_parent_cannot_be_traced_read_or_signalled() {
    denied(&[13, 14, 15, 16], EPERM);
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
    denied(&[21], ENOMEM);
}

#[test]
fn limits_and_priority_cannot_be_raised() {
    denied(&[22, 23, 24], EPERM);
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
