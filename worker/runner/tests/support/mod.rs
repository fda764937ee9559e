//! Guests as WebAssembly text, and what every test of the runner needs.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lull_abi::{Payload, Stage, Unit};
use lull_sandbox::{
    Error, FUEL_MAX, Flavour, Freezer, Limits, Outcome, Program, Runner, RunnerConfig, UnitRun, WallPolicy,
};

#[cfg(unix)]
pub(crate) use unix::{cpu_nanos, is_gone, is_stopped, kill};
#[cfg(windows)]
pub(crate) use windows::{cpu_nanos, is_gone, is_stopped, kill};

/// No event of these tests takes longer, on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const LIMITS: Limits =
    Limits { memory_bytes: 1 << 20, unit_secs: 60, result_bytes: 1 << 16, fuel: FUEL_MAX };

/// A guest whose result is its unit until one of its parts is replaced.
pub(crate) struct Guest {
    memory: &'static str,
    alloc: &'static str,
    begin: &'static str,
    step: &'static str,
    result_ptr: &'static str,
    more: &'static str,
}

impl Guest {
    pub(crate) const fn new() -> Self {
        Self {
            memory: "(memory (export \"memory\") 3)",
            alloc: "global.get $heap (global.set $heap (i32.add (global.get $heap) (local.get 0)))",
            begin: "i32.const 0",
            step: "i32.const 1",
            result_ptr: "global.get $ptr",
            more: "",
        }
    }

    pub(crate) const fn memory(self, memory: &'static str) -> Self {
        Self { memory, ..self }
    }

    pub(crate) const fn alloc(self, alloc: &'static str) -> Self {
        Self { alloc, ..self }
    }

    pub(crate) const fn begin(self, begin: &'static str) -> Self {
        Self { begin, ..self }
    }

    pub(crate) const fn step(self, step: &'static str) -> Self {
        Self { step, ..self }
    }

    pub(crate) const fn result_ptr(self, result_ptr: &'static str) -> Self {
        Self { result_ptr, ..self }
    }

    pub(crate) const fn more(self, more: &'static str) -> Self {
        Self { more, ..self }
    }

    pub(crate) fn text(&self) -> String {
        let Self { memory, alloc, begin, step, result_ptr, more } = self;
        format!(
            r#"(module
                {memory}
                (data (i32.const 16) "the table has no row 7")
                (global $heap (mut i32) (i32.const 65536))
                (global $ptr (mut i32) (i32.const 0))
                (global $len (mut i32) (i32.const 0))
                (global $content (mut i32) (i32.const 0))
                (global $content_len (mut i32) (i32.const 0))
                (global $count (mut i64) (i64.const 0))
                (func $answer (param i32 i32) (global.set $ptr (local.get 0)) (global.set $len (local.get 1)))
                (func (export "lull_abi_version") (result i32) i32.const 1)
                (func (export "lull_alloc") (param i32) (result i32) {alloc})
                (func (export "lull_input") (param i32 i32 i32 i32)
                    (global.set $content (local.get 2)) (global.set $content_len (local.get 3)))
                (func (export "lull_prepare") (result i32) i32.const 1)
                (func (export "lull_begin") (param i32 i32) (result i32)
                    (call $answer (local.get 0) (local.get 1)) {begin})
                (func $step (export "lull_step") (result i32) {step})
                (func (export "lull_result_ptr") (result i32) {result_ptr})
                (func (export "lull_result_len") (result i32) global.get $len)
                {more})"#
        )
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }
}

/// How these tests insist on walls: wine, where those for Windows run, has no AppContainer.
pub(crate) const REQUIRE: WallPolicy =
    if cfg!(windows) { WallPolicy::BestEffort } else { WallPolicy::Required };

pub(crate) fn config() -> RunnerConfig {
    RunnerConfig { path: PathBuf::from(env!("CARGO_BIN_EXE_lull-runner")), require: REQUIRE }
}

pub(crate) fn start_with(wasm: &[u8], limits: Limits, freezer: &Freezer) -> Result<Runner, Error> {
    start_as(Flavour::Normal, wasm, limits, freezer)
}

pub(crate) fn start_as(
    flavour: Flavour,
    wasm: &[u8],
    limits: Limits,
    freezer: &Freezer,
) -> Result<Runner, Error> {
    let mut runner = Runner::start(&config(), freezer)?;
    runner.load(&Program { module: wasm, inputs: &[("a", b"first"), ("b", b"second")], limits, flavour })?;
    Ok(runner)
}

pub(crate) fn start(guest: &Guest) -> Runner {
    start_with(&guest.wasm(), LIMITS, &Freezer::new()).unwrap()
}

/// Kills what a freezer governs when it is dropped, so that a failed test does not wait for a frozen runner.
pub(crate) struct KillOnDrop<'a>(pub(crate) &'a Freezer);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

pub(crate) fn unit(number: u64) -> Unit {
    Unit { stage: Stage::Work, number, payload: Payload::Range { start: 3, end: 9 } }
}

pub(crate) fn run_with(guest: &Guest, limits: Limits) -> UnitRun {
    start_with(&guest.wasm(), limits, &Freezer::new()).unwrap().run(&unit(1)).unwrap()
}

pub(crate) fn outcome(guest: &Guest) -> Outcome {
    run_with(guest, LIMITS).outcome
}

/// Waits until `happened`, or fails.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}");
        std::thread::yield_now();
    }
}
