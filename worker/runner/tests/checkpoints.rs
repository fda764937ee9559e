//! Guests captured between two steps and brought back in another process: the result is as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use lull_sandbox::checkpoint::{Image, PAGE_BYTES, Progress, StateDigest};
use lull_sandbox::{
    Error, Flavour, Freezer, Limits, Outcome, Program, RunOn, Runner, RunnerConfig, WallPolicy,
};
use support::{Guest, LIMITS, start, start_with, unit};

/// Steps of [`WALKER`].
const STEPS: u64 = 12;

/// Goes on for twelve steps. Each changes globals that nobody exported, of every type, grows the memory at two of
/// them, empties a page at one, and mixes all of it into the result.
const WALKER: Guest = Guest::new()
    .memory("(memory (export \"memory\") 3 8)")
    .more(
        "(global $f32 (mut f32) (f32.const 1.5)) (global $f64 (mut f64) (f64.const 2.5))
         (global $v (mut v128) (v128.const i64x2 1 2)) (global $sum (mut i64) (i64.const 7))
         (func $mix (param i64) (global.set $sum (i64.add (i64.mul (global.get $sum) (i64.const 6364136223846793005)) (local.get 0))))",
    )
    .step(
        "(global.set $count (i64.add (global.get $count) (i64.const 1)))
         (global.set $f32 (f32.mul (global.get $f32) (f32.const 1.25)))
         (global.set $f64 (f64.div (global.get $f64) (f64.const 3)))
         (global.set $v (i64x2.add (global.get $v) (i64x2.splat (global.get $count))))
         (if (i64.eq (i64.rem_u (global.get $count) (i64.const 4)) (i64.const 3)) (then (drop (memory.grow (i32.const 1)))))
         (i64.store (i32.add (i32.const 65536) (i32.mul (i32.wrap_i64 (global.get $count)) (i32.const 8192))) (global.get $sum))
         (if (i64.eq (global.get $count) (i64.const 9)) (then (memory.fill (i32.const 65536) (i32.const 0) (i32.const 65536))))
         (call $mix (i64.extend_i32_u (i32.reinterpret_f32 (global.get $f32))))
         (call $mix (i64.reinterpret_f64 (global.get $f64)))
         (call $mix (i64x2.extract_lane 0 (global.get $v)))
         (call $mix (i64.load (i32.const 131072)))
         (call $mix (i64.load (i32.const 65544)))
         (call $mix (i64.extend_i32_u (memory.size)))
         (if (i64.lt_u (global.get $count) (i64.const 12)) (then (return (i32.const 0))))
         (i64.store (i32.const 32) (global.get $sum))
         (call $answer (i32.const 32) (i32.const 8))
         i32.const 1",
    );

/// A checkpoint, as a host keeps it.
#[derive(Clone)]
struct Kept {
    steps: u64,
    digest: StateDigest,
    bytes: Vec<u8>,
}

type Witnessed = Vec<(u64, StateDigest)>;

fn every_step() -> RunOn {
    RunOn { checkpoint_every: Some(Duration::ZERO), ..RunOn::default() }
}

fn from(kept: &Kept) -> RunOn {
    let image = Image::decode(&kept.bytes, LIMITS.memory_bytes).unwrap();
    RunOn { from: Some((image, kept.digest)), ..every_step() }
}

/// Runs a unit, and keeps its checkpoints and what it witnessed.
fn run_on(runner: &mut Runner, how: RunOn) -> (Result<Outcome, Error>, Vec<Kept>, Witnessed) {
    let (mut all, mut witnessed) = (Vec::new(), Vec::new());
    let run = runner.run_on(&unit(1), how, &mut |progress| match progress {
        Progress::Checkpoint(image, told) => {
            all.push(Kept { steps: image.head().steps, digest: told.digest, bytes: image.encode().unwrap() })
        }
        Progress::Witnessed { steps, digest } => witnessed.push((steps, digest)),
    });
    (run.map(|run| run.outcome), all, witnessed)
}

#[test]
fn a_guest_goes_on_from_each_of_its_steps() {
    let plain = start(&WALKER).run(&unit(1)).unwrap().outcome;
    assert!(matches!(&plain, Outcome::Result(bytes) if bytes.len() == 8), "{plain:?}");

    let (outcome, all, _) = run_on(&mut start(&WALKER), every_step());

    assert_eq!(outcome.unwrap(), plain, "checkpoints change nothing");
    assert_eq!(all.iter().map(|kept| kept.steps).collect::<Vec<_>>(), (1..STEPS).collect::<Vec<_>>());
    // One runner for all of them: nothing of one guest is left for the next.
    let mut runner = start(&WALKER);
    for kept in &all {
        let (outcome, rest, _) = run_on(&mut runner, from(kept));
        assert_eq!(outcome.unwrap(), plain, "from step {}", kept.steps);
        let ahead = &all[usize::try_from(kept.steps).unwrap()..];
        assert_eq!(rest.len(), ahead.len());
        for (again, before) in rest.iter().zip(ahead) {
            assert_eq!((again.steps, again.digest), (before.steps, before.digest));
            assert!(again.bytes == before.bytes, "step {} from {}", again.steps, kept.steps);
        }
    }
}

#[test]
fn states_are_witnessed_as_checkpoints_name_them() {
    let (_, all, _) = run_on(&mut start(&WALKER), every_step());
    let how = RunOn { witnesses: vec![0, 1, 5, 11, 12, 400], ..RunOn::default() };
    let (outcome, none, witnessed) = run_on(&mut start(&WALKER), how);
    assert!(outcome.is_ok() && none.is_empty());
    let wanted: Vec<_> = [1, 5, 11].iter().map(|steps| (*steps, all[*steps as usize - 1].digest)).collect();
    assert_eq!(witnessed, wanted);
    // From a later state only what comes after it.
    let how = RunOn { witnesses: vec![1, 5, 11], ..from(&all[4]) };
    let (_, _, witnessed) = run_on(&mut start(&WALKER), how);
    assert_eq!(witnessed, wanted[2..]);
}

#[test]
fn only_what_changed_is_told() {
    let (_, all, _) = run_on(&mut start(&WALKER), every_step());
    let pages = |kept: &Kept| Image::decode(&kept.bytes, u64::MAX).unwrap().size_bytes();
    // Zero pages take nothing: a state is far smaller than its memory.
    assert!(pages(&all[10]) < PAGE_BYTES as u64, "{}", pages(&all[10]));
}

#[test]
fn a_state_that_is_not_what_its_digest_says_is_refused_and_the_runner_stays() {
    let (outcome, all, _) = run_on(&mut start(&WALKER), every_step());
    let plain = outcome.unwrap();
    let mut runner = start(&WALKER);
    let mut refused = |how: RunOn, expected: &str| match run_on(&mut runner, how).0 {
        Err(Error::NotResumed { message }) => assert!(message.contains(expected), "{message}"),
        other => panic!("{expected}: {other:?}"),
    };
    let mut poisoned = from(&all[3]);
    poisoned.from.as_mut().unwrap().1 = all[4].digest;
    refused(poisoned, "not the state");
    let at = all[3].bytes.len() - 5;
    let mut damaged = all[3].clone();
    damaged.bytes[at] ^= 1;
    refused(from(&damaged), "");
    refused(RunOn { from: Some((Image::default(), [0; 32])), ..every_step() }, "number of globals");
    assert_eq!(run_on(&mut runner, from(&all[3])).0.unwrap(), plain);
}

#[test]
fn a_module_that_cannot_be_captured_runs_without_checkpoints() {
    let guest = Guest::new().more("(table 1 funcref)").step(
        "(table.set (i32.const 0) (ref.null func))
             (global.set $count (i64.add (global.get $count) (i64.const 1)))
             (i64.ge_u (global.get $count) (i64.const 3))",
    );
    let (outcome, none, _) = run_on(&mut start(&guest), every_step());
    assert!(matches!(outcome, Ok(Outcome::Result(_))), "{outcome:?}");
    assert!(none.is_empty());
}

#[test]
fn a_reserved_name_is_the_modules_fault() {
    let guest = Guest::new().more("(global (export \"lull.state.0\") i32 (i32.const 1))");
    match start_with(&guest.wasm(), LIMITS, &Freezer::new()) {
        Err(Error::LoadFailed { message }) => assert!(message.contains("`lull.state.0`"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_that_was_refused_memory_fails_as_it_would_have() {
    // Refused at its first step, it gives up at its third.
    let guest = Guest::new().step(
        "(global.set $count (i64.add (global.get $count) (i64.const 1)))
         (if (i64.eq (global.get $count) (i64.const 1)) (then (drop (memory.grow (i32.const 1000)))))
         (if (i64.eq (global.get $count) (i64.const 3)) (then unreachable))
         i32.const 0",
    );
    let (plain, all, _) = run_on(&mut start(&guest), every_step());
    let plain = plain.unwrap();
    assert!(matches!(&plain, Outcome::Limit(message) if message.contains("was refused")), "{plain:?}");
    for kept in &all {
        assert_eq!(run_on(&mut start(&guest), from(kept)).0.unwrap(), plain);
    }
}

#[test]
fn time_that_has_run_counts_against_the_limit() {
    let limits = Limits { unit_secs: 3, ..LIMITS };
    let forever = Guest::new().step("i32.const 0");
    let mut runner = start_with(&forever.wasm(), limits, &Freezer::new()).unwrap();
    let how = RunOn { ran: Duration::from_secs(3), ..RunOn::default() };
    let (outcome, _, _) = run_on(&mut runner, how);
    assert_eq!(outcome.unwrap(), Outcome::Limit("ran longer than 3 s".to_owned()));
}

/// A runner that tells whatever it likes.
fn liar(what: &str) -> Result<Outcome, Error> {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_lull-runner"));
    let path = path.parent().unwrap().join("examples/liar");
    let config = RunnerConfig { path, require: WallPolicy::BestEffort };
    let mut runner = Runner::start(&config, &Freezer::new()).unwrap();
    runner
        .load(&Program { module: what.as_bytes(), inputs: &[], limits: LIMITS, flavour: Flavour::Normal })
        .unwrap();
    let how =
        RunOn { checkpoint_every: Some(Duration::from_secs(3600)), witnesses: vec![3], ..RunOn::default() };
    run_on(&mut runner, how).0
}

#[test]
fn a_lying_runner_is_not_believed() {
    for (what, expected) in [
        ("far page", "page 16, past the memory"),
        ("same page", "out of order"),
        ("long page", "too long"),
        ("page past the state", "past its memory"),
        ("many checkpoints", "far more checkpoints"),
        ("large memory", "does not allow"),
        ("not resumed", "NotResumed"),
        ("other witness", "Witnessed"),
        ("witness twice", "Witnessed"),
        ("long frame", "a frame of"),
    ] {
        match liar(what) {
            Err(Error::Protocol { problem }) => assert!(problem.contains(expected), "{what}: {problem}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(liar("honest").unwrap(), Outcome::Result(b"honest".to_vec()));
}
