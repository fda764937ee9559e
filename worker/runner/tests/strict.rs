//! Strict runs: one NaN, and fuel.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::time::Duration;

use lull_sandbox::{
    CompileLimits, Error, FUEL_MAX, Flavour, Freezer, Limits, Outcome, Program, RunOn, Runner, UnitRun,
    compile,
};
use support::{Guest, LIMITS, config, start_as, unit};

/// Adds one to a NaN that carries a number; its result is the sum.
const NAN: &str = "(i64.store (i32.const 0) (i64.const 0x7ff8000000000123))
    (f64.store (i32.const 8) (f64.add (f64.load (i32.const 0)) (f64.const 1)))
    (call $answer (i32.const 8) (i32.const 8)) i32.const 1";

/// Takes a thousand turns.
const TURNS: &str = "(global.set $count (i64.add (global.get $count) (i64.const 1)))
    (i64.ge_u (global.get $count) (i64.const 1000))";

fn run(flavour: Flavour, guest: &Guest, limits: Limits) -> UnitRun {
    start_as(flavour, &guest.wasm(), limits, &Freezer::new()).unwrap().run(&unit(1)).unwrap()
}

#[test]
fn a_result_of_nan_bits_is_another_in_a_strict_run_and_any_other_is_the_same() {
    let nan = Guest::new().step(NAN);
    let bits = |bits: u64| Outcome::Result(bits.to_le_bytes().to_vec());
    assert_eq!(run(Flavour::Strict, &nan, LIMITS).outcome, bits(0x7ff8_0000_0000_0000));
    assert_eq!(run(Flavour::Normal, &nan, LIMITS).outcome, bits(0x7ff8_0000_0000_0123));
    for plain in [Guest::new(), Guest::new().step(TURNS), Guest::new().step("unreachable")] {
        assert_eq!(
            run(Flavour::Strict, &plain, LIMITS).outcome,
            run(Flavour::Normal, &plain, LIMITS).outcome
        );
    }
}

#[test]
fn fuel_is_counted_in_strict_runs_only_and_is_the_same_each_time() {
    let turns = Guest::new().step(TURNS);
    assert_eq!(run(Flavour::Normal, &turns, LIMITS).fuel, None);
    let mut runner = start_as(Flavour::Strict, &turns.wasm(), LIMITS, &Freezer::new()).unwrap();
    let fuels = [(); 2].map(|()| runner.run(&unit(1)).unwrap().fuel.unwrap());
    assert_eq!(fuels[0], fuels[1], "two units of one runner");
    assert_eq!(run(Flavour::Strict, &turns, LIMITS).fuel, Some(fuels[0]), "another runner");
    assert!((5_000..50_000).contains(&fuels[0]), "{} for a thousand turns", fuels[0]);
    let failing = run(Flavour::Strict, &Guest::new().step("unreachable"), LIMITS);
    assert!(failing.fuel.is_some_and(|fuel| fuel > 0), "a failure took some too");
}

#[test]
fn fuel_that_is_used_up_is_a_limit() {
    let turns = Guest::new().step(TURNS);
    let needed = run(Flavour::Strict, &turns, LIMITS).fuel.unwrap();
    let with = |fuel| run(Flavour::Strict, &turns, Limits { fuel, ..LIMITS });
    let endless = run(
        Flavour::Strict,
        &Guest::new().step("(loop br 0) i32.const 1"),
        Limits { fuel: needed, ..LIMITS },
    );
    for short in [with(needed / 2), with(0), endless] {
        assert!(matches!(&short.outcome, Outcome::Limit(message) if message.contains("fuel")), "{short:?}");
    }
    assert!(matches!(with(needed + 1).outcome, Outcome::Result(_)), "one more than it takes");
    assert!(matches!(run(Flavour::Normal, &turns, Limits { fuel: 0, ..LIMITS }).outcome, Outcome::Result(_)));
    const { assert!(FUEL_MAX < i64::MAX as u64) };
}

#[test]
fn what_was_compiled_runs_in_its_flavour_only() {
    let nan = Guest::new().step(NAN);
    let made = |flavour| {
        compile(&config(), &Freezer::new(), &nan.wasm(), flavour, CompileLimits::default()).unwrap()
    };
    let run = |artefact: &[u8], flavour| {
        let mut runner = Runner::start(&config(), &Freezer::new()).unwrap();
        runner.load_compiled(artefact, &Program { module: b"", inputs: &[], limits: LIMITS, flavour })?;
        runner.run(&unit(1)).map(|run| run.outcome)
    };
    let (normal, strict) = (made(Flavour::Normal), made(Flavour::Strict));
    let canonical = Outcome::Result(0x7ff8_0000_0000_0000_u64.to_le_bytes().to_vec());
    assert_eq!(run(&strict, Flavour::Strict).unwrap(), canonical);
    assert_ne!(run(&normal, Flavour::Normal).unwrap(), canonical);
    for (artefact, flavour) in [(&strict, Flavour::Normal), (&normal, Flavour::Strict)] {
        let error = run(artefact, flavour).unwrap_err();
        assert!(matches!(error, Error::ArtefactRefused { .. }), "{error}");
    }
}

#[test]
fn strict_runs_take_no_checkpoints() {
    let turns = Guest::new().step(TURNS);
    for (flavour, tells) in [(Flavour::Normal, true), (Flavour::Strict, false)] {
        let mut runner = start_as(flavour, &turns.wasm(), LIMITS, &Freezer::new()).unwrap();
        let how = RunOn { checkpoint_every: Some(Duration::ZERO), witnesses: vec![3], ..RunOn::default() };
        let mut told = 0;
        let run = runner.run_on(&unit(1), how, &mut |_| told += 1).unwrap();
        assert!(matches!(run.outcome, Outcome::Result(_)));
        assert_eq!(told > 0, tells, "{flavour:?}");
    }
}
