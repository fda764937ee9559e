//! What becomes of guests that work, fail, lie and grow.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use lull_sandbox::{Error, Flavour, Freezer, Limits, Outcome, Program, Runner};
use support::{Guest, LIMITS, config, outcome, run_with, start, start_with, unit};

fn failed(guest: &Guest, expected: &str) {
    match outcome(guest) {
        Outcome::GuestFailed(message) => assert_eq!(message, expected),
        other => panic!("{other:?} instead of a failure with {expected:?}"),
    }
}

fn limited(guest: &Guest, expected: &str) {
    match outcome(guest) {
        Outcome::Limit(message) => assert!(message.contains(expected), "{message:?}, not {expected:?}"),
        other => panic!("{other:?} instead of a limit with {expected:?}"),
    }
}

#[test]
fn a_unit_is_answered_by_its_result() {
    let mut runner = start(&Guest::new());
    for number in [0, 1, u64::MAX] {
        let run = runner.run(&unit(number)).unwrap();
        assert_eq!(run.outcome, Outcome::Result(unit(number).encode()));
    }
}

#[test]
fn inputs_are_given_in_order() {
    let last =
        Guest::new().step("(call $answer (global.get $content) (global.get $content_len)) i32.const 1");
    assert_eq!(outcome(&last), Outcome::Result(b"second".to_vec()));
}

#[test]
fn every_unit_gets_a_fresh_guest() {
    let counting = Guest::new().step(
        "(global.set $count (i64.add (global.get $count) (i64.const 1)))
         (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (global.get $count)))
         (call $answer (i32.const 0) (i32.const 8))
         (i32.eq (i64.eq (global.get $count) (i64.const 3)) (i32.const 1))",
    );
    let mut runner = start(&counting);
    for _ in 0..3 {
        let run = runner.run(&unit(0)).unwrap();
        assert_eq!(run.outcome, Outcome::Result(6u64.to_le_bytes().to_vec()));
    }
}

#[test]
fn a_failure_keeps_its_message() {
    let fails = Guest::new().step("(call $answer (i32.const 16) (i32.const 22)) i32.const 2");
    failed(&fails, "the table has no row 7");
    let at_begin = Guest::new().begin("(call $answer (i32.const 16) (i32.const 9)) (return (i32.const 2))");
    failed(&at_begin, "the table");
}

#[test]
fn a_trap_is_named_without_addresses() {
    let silent = "(call $answer (i32.const 0) (i32.const 0)) ";
    let trap = |code: &str| Guest::new().step(Box::leak(format!("{silent} {code}").into_boxed_str()));
    failed(&trap("unreachable"), "wasm trap: wasm `unreachable` instruction executed");
    failed(&trap("(i32.div_s (i32.const 1) (i32.const 0))"), "wasm trap: integer divide by zero");
    failed(&trap("(i32.load (i32.const -4))"), "wasm trap: out of bounds memory access");
}

#[test]
fn a_panic_is_told_by_its_message() {
    let panics = Guest::new().step("(call $answer (i32.const 16) (i32.const 22)) unreachable");
    failed(&panics, "the table has no row 7");
}

#[test]
fn a_long_message_is_cut() {
    let fails = Guest::new().step("(call $answer (i32.const 16) (i32.const 60000)) i32.const 2");
    let Outcome::GuestFailed(message) = outcome(&fails) else { panic!("a failure") };
    assert_eq!(message.len(), lull_sandbox::MESSAGE_BYTES_MAX);
}

#[test]
fn memory_ends_at_the_jobs_limit() {
    let grows = Guest::new()
        .step("(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) i32.const 0");
    limited(&grows, "refused more than 1048576 bytes of memory");
    // 16 pages are the whole limit: the 17th is one past it.
    let at_the_limit = Guest::new()
        .step("(if (i32.eq (memory.grow (i32.const 13)) (i32.const -1)) (then unreachable)) i32.const 1");
    assert!(matches!(outcome(&at_the_limit), Outcome::Result(_)));
    limited(&Guest::new().memory("(memory (export \"memory\") 17)"), "refused more than");
}

#[test]
fn a_guest_that_copes_with_refused_memory_has_a_result() {
    let copes = Guest::new().step("(drop (memory.grow (i32.const 1000))) i32.const 1");
    assert!(matches!(outcome(&copes), Outcome::Result(_)));
}

#[test]
fn a_result_ends_at_its_limit() {
    let exact = Guest::new().step("(call $answer (i32.const 0) (i32.const 65536)) i32.const 1");
    assert_eq!(outcome(&exact), {
        let mut bytes = vec![0; 65536];
        bytes[16..38].copy_from_slice(b"the table has no row 7");
        Outcome::Result(bytes)
    });
    let larger = Guest::new().step("(call $answer (i32.const 0) (i32.const 65537)) i32.const 1");
    limited(&larger, "the result has 65537 bytes, more than the 65536");
}

#[test]
fn claims_about_memory_are_checked() {
    let outside = "the guest's result lies outside its memory";
    failed(&Guest::new().result_ptr("i32.const -1"), outside);
    failed(&Guest::new().step("(call $answer (i32.const 196600) (i32.const 9)) i32.const 1"), outside);
    failed(&Guest::new().alloc("i32.const -1"), "`lull_alloc` answered an address outside the memory");
    limited(&Guest::new().alloc("i32.const 0"), "no memory for the 1 bytes");
}

#[test]
fn statuses_are_checked() {
    failed(
        &Guest::new().step("i32.const 3"),
        "`lull_step` answered 3, which is no status that belongs there",
    );
    failed(
        &Guest::new().begin("i32.const 1 return"),
        "`lull_begin` answered 1, which is no status that belongs there",
    );
}

#[test]
fn a_bottomless_recursion_blames_nobody() {
    limited(&Guest::new().step("call $step"), "call stack exhausted");
}

#[test]
fn modules_that_cannot_be_loaded_are_named() {
    let check = |wasm: &[u8], expected: &str| match start_with(wasm, LIMITS, &Freezer::new()) {
        Err(Error::LoadFailed { message }) => assert!(message.contains(expected), "{message}"),
        other => panic!("{other:?} instead of {expected:?}"),
    };
    check(b"not wasm", "magic");
    check(&wat::parse_str("(module)").unwrap(), "does not export its memory");
    check(
        &wat::parse_str("(module (memory (export \"memory\") 1))").unwrap(),
        "does not export the function `lull_abi_version` with 0 i32 parameters and 1 i32 results",
    );
    let text = Guest::new().text();
    let imports = text.replacen("(module", "(module (import \"env\" \"now\" (func))", 1);
    check(&wat::parse_str(imports).unwrap(), "unknown import: `env::now` has not been defined");
    let threads =
        text.replacen("(memory (export \"memory\") 3)", "(memory (export \"memory\") 3 4 shared)", 1);
    check(&wat::parse_str(threads).unwrap(), "threads");
    let relaxed = Guest::new()
        .more("(func (result v128) (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))");
    check(&relaxed.wasm(), "relaxed");
}

#[test]
fn a_module_of_another_interface_is_refused() {
    let text = Guest::new().text().replacen("(result i32) i32.const 1)", "(result i32) i32.const 9)", 1);
    let mut runner = start_with(&wat::parse_str(text).unwrap(), LIMITS, &Freezer::new()).unwrap();
    let Outcome::GuestFailed(message) = runner.run(&unit(0)).unwrap().outcome else { panic!("a failure") };
    assert!(message.contains("speaks version 9"), "{message}");
}

#[test]
fn a_trap_while_starting_is_the_guests() {
    failed(
        &Guest::new().more("(func $start unreachable) (start $start)"),
        "wasm trap: wasm `unreachable` instruction executed",
    );
}

#[test]
fn cpu_time_is_reported() {
    let busy = Guest::new().step(
        "(global.set $count (i64.add (global.get $count) (i64.const 1)))
         (i64.gt_u (global.get $count) (i64.const 100000))",
    );
    let run = run_with(&busy, LIMITS);
    assert!(matches!(run.outcome, Outcome::Result(_)));
    assert!(run.cpu_micros > 0);
}

#[test]
fn inputs_larger_than_a_pipe_arrive() {
    let guest = Guest::new()
        .memory("(memory (export \"memory\") 400)")
        .step("(call $answer (global.get $content) (global.get $content_len)) i32.const 1");
    let content: Vec<u8> = (0..20_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
    let limits = Limits { memory_bytes: 1 << 25, result_bytes: 1 << 25, ..LIMITS };
    let mut runner = Runner::start(&config(), &Freezer::new()).unwrap();
    runner
        .load(&Program {
            module: &guest.wasm(),
            inputs: &[("a", &content)],
            limits,
            flavour: Flavour::Normal,
        })
        .unwrap();
    assert!(runner.run(&unit(0)).unwrap().outcome == Outcome::Result(content));
}
