//! Modules that one runner compiles and another runs.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fmt::Write as _;

use lull_sandbox::{CompileLimits, Error, Flavour, Freezer, Outcome, Program, Runner, compile};
use support::{Guest, LIMITS, config, unit};

const MIB: u64 = 1 << 20;

fn compiled(wasm: &[u8], limits: CompileLimits) -> Result<Vec<u8>, Error> {
    compile(&config(), &Freezer::new(), wasm, Flavour::Normal, limits)
}

fn load(artefact: &[u8]) -> Result<Runner, Error> {
    let mut runner = Runner::start(&config(), &Freezer::new())?;
    let program =
        Program { module: b"", inputs: &[("a", b"first")], limits: LIMITS, flavour: Flavour::Normal };
    runner.load_compiled(artefact, &program)?;
    Ok(runner)
}

/// A module of one function that is very long.
fn bomb() -> Vec<u8> {
    let mut body = String::new();
    for number in 0..400_000 {
        write!(body, "(global.set $count (i64.add (global.get $count) (i64.const {number})))").unwrap();
    }
    let text = Guest::new().text();
    let end = text.rfind(')').unwrap();
    wat::parse_str(format!("{}(func {body}))", &text[..end])).unwrap()
}

#[test]
fn what_one_runner_compiled_another_runs() {
    let guest = Guest::new();
    let artefact = compiled(&guest.wasm(), CompileLimits::default()).unwrap();
    for _ in 0..2 {
        let mut runner = load(&artefact).unwrap();
        let run = runner.run(&unit(1)).unwrap();
        assert_eq!(run.outcome, support::outcome(&guest));
        assert_eq!(run.outcome, Outcome::Result(unit(1).encode()));
    }
}

#[test]
fn a_wrong_module_is_blamed_when_it_is_compiled() {
    for wrong in [&b"no wasm"[..], &wat::parse_str("(module)").unwrap()] {
        let error = compiled(wrong, CompileLimits::default()).unwrap_err();
        assert!(matches!(error, Error::LoadFailed { .. }), "{error}");
    }
}

#[test]
fn what_is_no_artefact_of_this_runner_is_refused() {
    let artefact = compiled(&Guest::new().wasm(), CompileLimits::default()).unwrap();
    // How the section begins that names the version of the engine.
    let version = [0, 2, b'4', b'8'];
    let at = artefact.windows(version.len()).position(|bytes| bytes == version).unwrap();
    let mut older = artefact.clone();
    older[at + 3] = b'7';
    for wrong in [&b""[..], b"junk", &older] {
        let error = load(wrong).unwrap_err();
        assert!(matches!(error, Error::ArtefactRefused { .. }), "{error}");
    }
}

#[test]
fn a_module_that_takes_too_long_to_compile_is_refused() {
    let limits = CompileLimits { cpu_secs: 1, memory_bytes: 8 << 30 };
    let error = compiled(&bomb(), limits).unwrap_err();
    assert!(matches!(&error, Error::CompileLimit { message } if message.contains("1 s of CPU")), "{error}");
}

#[test]
fn a_module_that_takes_too_much_memory_to_compile_is_refused() {
    let limits = CompileLimits { cpu_secs: 600, memory_bytes: 64 * MIB };
    let error = compiled(&bomb(), limits).unwrap_err();
    assert!(
        matches!(&error, Error::CompileLimit { message } if message.contains("bytes of memory")),
        "{error}"
    );
}
