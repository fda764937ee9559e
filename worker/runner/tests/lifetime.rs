//! Freezing, time limits, and every way that a runner or its host can end.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use lull_sandbox::{Error, Flavour, Freezer, Limits, Outcome, Program, Runner, RunnerConfig};
use support::{
    Guest, KillOnDrop, LIMITS, REQUIRE, config, cpu_nanos, is_gone, is_stopped, kill, start, start_with,
    unit, until,
};

const FOREVER: Guest = Guest::new().step("(loop $again (br $again)) i32.const 0");

/// Counts long enough to be caught in the middle.
const LONG: Guest = Guest::new().step(
    "(loop $again
         (global.set $count (i64.add (global.get $count) (i64.const 1)))
         (br_if $again (i64.lt_u (global.get $count) (i64.const 300000000))))
     (i64.store (i32.const 0) (global.get $count))
     (call $answer (i32.const 0) (i32.const 8))
     i32.const 1",
);

#[test]
fn a_guest_that_never_ends_is_ended_at_its_time_limit() {
    let limits = Limits { unit_secs: 1, ..LIMITS };
    let mut runner = start_with(&FOREVER.wasm(), limits, &Freezer::new()).unwrap();
    let number = runner.pid();
    let run = runner.run(&unit(0)).unwrap();
    assert_eq!(run.outcome, Outcome::Limit("ran longer than 1 s".to_owned()));
    assert!(run.cpu_micros > 0);
    assert!(!runner.is_usable());
    assert!(is_gone(number));
    assert!(matches!(runner.run(&unit(0)), Err(Error::RunnerDied { .. })));
}

#[test]
fn a_killed_runner_blames_nobody() {
    let mut runner = start(&FOREVER);
    let number = runner.pid();
    let (ended, expected) = std::thread::scope(|scope| {
        let running = scope.spawn(|| runner.run(&unit(0)));
        let expected = kill(number);
        (running.join().unwrap(), expected)
    });
    match ended {
        Err(Error::RunnerDied { how }) => assert_eq!(how, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_runner_ends_with_its_host() {
    let runner = start(&Guest::new());
    let number = runner.pid();
    drop(runner);
    assert!(is_gone(number));
}

#[test]
fn the_end_of_standard_input_ends_a_running_unit() {
    let mut process = Command::new(config().path)
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let mut stdout = process.stdout.take().unwrap();
    use lull_sandbox::frame::{self, HostFrame, RunnerFrame};
    let mut hear = || frame::read(&mut stdout).unwrap().unwrap();
    let ready: RunnerFrame = frame::decode(&hear()).unwrap();
    assert!(matches!(ready, RunnerFrame::Ready { protocol: frame::PROTOCOL, .. }));
    frame::write(
        &mut stdin,
        &HostFrame::Load { module: &FOREVER.wasm(), limits: LIMITS, flavour: Flavour::Normal },
    )
    .unwrap();
    let loaded: RunnerFrame = frame::decode(&hear()).unwrap();
    assert_eq!(loaded, RunnerFrame::Loaded);
    frame::write(&mut stdin, &HostFrame::Run { unit: &unit(0).encode() }).unwrap();
    drop(stdin);
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_runner_dies_with_the_process_that_started_it() {
    let helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_runs_a_guest_for_ever", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn();
    let mut helper = helper.unwrap();
    let runner = BufReader::new(helper.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("runner=").map(|number| number.parse::<u32>().unwrap()))
        .unwrap();
    let before = cpu_nanos(runner);
    until("the guest runs", || cpu_nanos(runner) > before);
    helper.kill().unwrap();
    helper.wait().unwrap();
    until("the runner is gone", || is_gone(runner));
}

#[test]
#[ignore = "started by a_runner_dies_with_the_process_that_started_it, which kills it"]
fn helper_that_runs_a_guest_for_ever() {
    let mut runner = start(&FOREVER);
    println!("\nrunner={}", runner.pid());
    let _ = runner.run(&unit(0));
}

#[cfg(unix)]
#[test]
fn a_runner_whose_parent_is_gone_does_not_serve() {
    let output = Command::new(config().path).args(["--parent", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is gone"));
}

/// What a frozen runner may seem to take: where time is counted in slices, the last ones may be counted late.
const SLICE_NANOS: u64 = if cfg!(windows) { 32_000_000 } else { 0 };

#[test]
fn a_frozen_runner_takes_no_cpu_and_loses_nothing() {
    let freezer = Freezer::new();
    let mut runner = start_with(&LONG.wasm(), LIMITS, &freezer).unwrap();
    let number = runner.pid();
    let before = cpu_nanos(number);
    std::thread::scope(|scope| {
        let _end = KillOnDrop(&freezer);
        let running = scope.spawn(|| runner.run(&unit(0)).unwrap());
        until("the guest runs", || cpu_nanos(number) > before);
        freezer.freeze();
        until("the runner is stopped", || is_stopped(number));
        let frozen = cpu_nanos(number);

        // In the meantime as much is done elsewhere as the frozen one has to do in all.
        start(&LONG).run(&unit(0)).unwrap();
        let taken = cpu_nanos(number) - frozen;
        assert_eq!(taken.saturating_sub(SLICE_NANOS), 0, "{taken} ns");
        assert!(!running.is_finished());

        freezer.thaw();
        let run = running.join().unwrap();
        assert_eq!(run.outcome, Outcome::Result(300_000_000u64.to_le_bytes().to_vec()));
    });
}

#[test]
fn a_frozen_runner_can_be_killed() {
    let freezer = Freezer::new();
    let mut runner = start_with(&FOREVER.wasm(), LIMITS, &freezer).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| runner.run(&unit(0)));
        freezer.freeze();
        freezer.kill();
        assert!(matches!(running.join().unwrap(), Err(Error::RunnerDied { .. })));
    });
    assert!(freezer.is_killed());
    assert!(matches!(Runner::start(&config(), &freezer), Err(Error::RunnerDied { .. })));
}

#[test]
fn a_runner_that_is_started_frozen_waits() {
    let freezer = Freezer::new();
    freezer.freeze();
    let mut runner = Runner::start(&config(), &freezer).unwrap();
    let number = runner.pid();
    until("the runner is stopped", || is_stopped(number));
    let wasm = Guest::new().wasm();
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            runner.load(&Program { module: &wasm, inputs: &[], limits: LIMITS, flavour: Flavour::Normal })
        });
        assert!(is_stopped(number));
        freezer.thaw();
        loading.join().unwrap().unwrap();
    });
    assert!(matches!(runner.run(&unit(0)).unwrap().outcome, Outcome::Result(_)));
}

#[test]
fn something_that_is_no_runner_is_found_out() {
    let check = |path: &str| {
        let mut runner =
            Runner::start(&RunnerConfig { path: path.into(), require: REQUIRE }, &Freezer::new())?;
        runner.load(&Program { module: b"", inputs: &[], limits: LIMITS, flavour: Flavour::Normal })
    };
    assert!(matches!(check("/nowhere/lull-runner"), Err(Error::Start { .. })));
    if cfg!(unix) {
        assert!(matches!(check("/bin/false"), Err(Error::NotReady { .. })));
        assert!(matches!(check("/bin/echo"), Err(Error::NotReady { .. })));
    } else {
        // These tests do not take a runner's arguments.
        let tests = std::env::current_exe().unwrap();
        assert!(matches!(check(tests.to_str().unwrap()), Err(Error::NotReady { .. })));
    }
}

#[cfg(windows)]
#[test]
fn a_runner_is_in_a_job_that_ends_it_with_its_host() {
    let runner = start(&Guest::new());
    let report = |wall| runner.walls().iter().find(|report| report.wall == wall).unwrap();
    let job = report(lull_sandbox::Wall::Job);
    // wine does not tell of a job's limits.
    let is_untold =
        matches!(&job.standing, lull_sandbox::Standing::Missing { reason } if reason.contains("is in a job"));
    assert!(job.stands() || is_untold, "{job:?}");
    // Whether they stand depends on the system; that they are told of does not.
    let others = [lull_sandbox::Wall::AppContainer, lull_sandbox::Wall::Mitigations].map(report);
    for report in others.into_iter().chain([job]) {
        println!("{}: {:?}", report.wall, report.standing);
    }
}

#[cfg(unix)]
#[test]
fn the_process_has_given_up_what_it_does_not_need() {
    let runner = start(&Guest::new());
    let number = runner.pid();
    let proc = |what: &str| std::fs::read_to_string(format!("/proc/{number}/{what}")).unwrap();
    assert_eq!(proc("environ"), "");
    assert!(proc("status").contains("NoNewPrivs:\t1"));
    assert_eq!(proc("oom_score_adj").trim(), "1000");
    let limits = proc("limits");
    let soft = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(soft("Max core file size"), "0");
    assert_eq!(soft("Max processes"), "0");
    assert_eq!(soft("Max open files"), "32");
    assert!(soft("Max data size").parse::<u64>().unwrap() < 1 << 31);
    // Its root and directory are the empty one that hides /proc from it.
    for link in ["root", "cwd"] {
        let path = format!("/proc/{number}/{link}");
        assert_eq!(std::fs::read_link(&path).unwrap(), std::path::Path::new("/proc"));
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }
    let files = std::fs::read_dir(format!("/proc/{number}/fd")).unwrap().count();
    assert_eq!(files, 3);
    let nice = proc("stat");
    assert_eq!(nice.rsplit(") ").next().unwrap().split(' ').nth(16), Some("19"));
}

#[test]
fn it_tells_its_version_and_its_usage() {
    let version = Command::new(config().path).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("lull-runner "));
    let usage = Command::new(config().path).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("usage: lull-runner"));
}
