//! Programs of WASI preview 1: what they see, each function at its limits, and what becomes of those that lie.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use lull_abi::{Payload, Stage, Unit, decode_items, wasi};
use lull_sandbox::checkpoint::Progress;
use lull_sandbox::{
    CompileLimits, Error, Freezer, Limits, MESSAGE_BYTES_MAX, Outcome, Program, RunOn, Runner, compile,
};
use support::{LIMITS, config, start_with};

/// Bytes of the memory of each program here.
const MEMORY_BYTES: u32 = 2 * 65536;

/// A program with this in its `_start` and this beside it. `$out` writes bytes to standard output, `$say` the four
/// of a number, `$fd_write` and so on are preview 1. Addresses below 1024 are the program's own.
fn program_with(start: &str, more: &str) -> Vec<u8> {
    let mut imports = String::new();
    for (name, letters) in wasi::FUNCTIONS {
        let params: String =
            letters.chars().map(|letter| if letter == 'l' { " i64" } else { " i32" }).collect();
        let result = if name == wasi::PROC_EXIT { "" } else { "(result i32)" };
        let module = wasi::MODULE;
        writeln!(imports, "(import \"{module}\" \"{name}\" (func ${name} (param{params}) {result}))")
            .unwrap();
    }
    let text = format!(
        r#"(module {imports}
            (memory (export "memory") 2)
            (global $count (mut i32) (i32.const 0))
            (func $iov (param $at i32) (param $ptr i32) (param $len i32)
                (i32.store (local.get $at) (local.get $ptr))
                (i32.store (i32.add (local.get $at) (i32.const 4)) (local.get $len)))
            (func $to (param $fd i32) (param $ptr i32) (param $len i32)
                (call $iov (i32.const 0) (local.get $ptr) (local.get $len))
                (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
            (func $out (param $ptr i32) (param $len i32) (call $to (i32.const 1) (local.get $ptr) (local.get $len)))
            (func $say (param i32) (i32.store (i32.const 12) (local.get 0)) (call $out (i32.const 12) (i32.const 4)))
            {more}
            (func (export "_start") {start}))"#
    );
    wat::parse_str(text).unwrap()
}

fn program(start: &str) -> Vec<u8> {
    program_with(start, "")
}

/// Copies standard input to standard output.
const CAT: &str = "(loop $more
    (call $iov (i32.const 0) (i32.const 2048) (i32.const 1000))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (global.set $count (i32.load (i32.const 8)))
    (if (global.get $count) (then (call $out (i32.const 2048) (global.get $count)) (br $more))))";

/// Writes its arguments, each with its 0.
const ARGS: &str = "(if (call $args_sizes_get (i32.const 512) (i32.const 516)) (then unreachable))
    (if (call $args_get (i32.const 520) (i32.const 2048)) (then unreachable))
    (call $out (i32.const 2048) (i32.load (i32.const 516)))";

fn unit_of(stage: Stage, payload: Payload) -> Unit {
    Unit { stage, number: 5, payload }
}

fn lines(list: &[&str]) -> Unit {
    unit_of(Stage::Work, Payload::Lines(list.iter().map(|line| line.as_bytes().to_vec()).collect()))
}

fn load(wasm: &[u8], inputs: &[(&str, &[u8])]) -> Runner {
    let mut runner = Runner::start(&config(), &Freezer::new()).unwrap();
    runner.load(&Program { module: wasm, inputs, limits: LIMITS }).unwrap();
    runner
}

fn outcome_of(wasm: &[u8], unit: &Unit) -> Outcome {
    load(wasm, &[]).run(unit).unwrap().outcome
}

fn result_of(wasm: &[u8], unit: &Unit) -> Vec<u8> {
    match outcome_of(wasm, unit) {
        Outcome::Result(bytes) => bytes,
        other => panic!("{other:?} instead of a result"),
    }
}

/// The numbers that a program says.
fn numbers(start: &str) -> Vec<u32> {
    let result = result_of(&program(start), &lines(&["input"]));
    result.chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn failed(start: &str, expected: &str) {
    match outcome_of(&program(start), &lines(&["input"])) {
        Outcome::GuestFailed(message) => assert_eq!(message, expected),
        other => panic!("{other:?} instead of a failure with {expected:?}"),
    }
}

fn limited(start: &str, expected: &str) {
    match outcome_of(&program(start), &lines(&["input"])) {
        Outcome::Limit(message) => assert!(message.contains(expected), "{message:?}, not {expected:?}"),
        other => panic!("{other:?} instead of a limit with {expected:?}"),
    }
}

#[test]
fn standard_input_is_the_unit() {
    let cat = program(CAT);
    let list = || vec![b"one".to_vec(), b"two".to_vec()];
    let check = |payload, expected: &[u8]| {
        assert_eq!(result_of(&cat, &unit_of(Stage::Work, payload)), expected);
    };
    check(Payload::Lines(list()), b"one\ntwo\n");
    check(Payload::Items(list()), b"one\ntwo\n");
    check(Payload::Files(list()), b"onetwo");
    check(Payload::Range { start: 9, end: 12 }, b"9\n10\n11\n");
    let point = vec![("x".to_owned(), "1".to_owned()), ("y".to_owned(), "b c".to_owned())];
    check(Payload::Points(vec![point]), b"1\tb c\n");
    let long: Vec<String> = (0..4000).map(|line| line.to_string()).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    assert_eq!(result_of(&cat, &lines(&long)), (long.join("\n") + "\n").into_bytes());
}

#[test]
fn arguments_are_the_stage_and_those_of_the_job() {
    let run = |wasm: &[u8], inputs: &[(&str, &[u8])], stage, payload| {
        load(wasm, inputs).run(&unit_of(stage, payload)).unwrap().outcome
    };
    let nothing = || Payload::Lines(Vec::new());
    let args = program(ARGS);
    assert_eq!(run(&args, &[], Stage::Work, nothing()), Outcome::Result(b"guest\0work\0".to_vec()));
    let more: &[(&str, &[u8])] = &[("args", b"--min\r\n3\n\nlast")];
    let expected = Outcome::Result(b"guest\0work\0--min\x003\0\0last\0".to_vec());
    assert_eq!(run(&args, more, Stage::Work, nothing()), expected);
    let asks = program_with(ARGS, r#"(func (export "lull_merge")) (func (export "lull_finish"))"#);
    let parts = || Payload::Parts(vec![b"a".to_vec(), b"b".to_vec()]);
    assert_eq!(run(&asks, &[], Stage::Merge(3), parts()), Outcome::Result(b"guest\0merge\0".to_vec()));
    assert_eq!(run(&asks, &[], Stage::Finish, parts()), Outcome::Result(b"guest\0finish\0".to_vec()));
}

#[test]
fn a_program_that_does_not_merge_is_not_run_for_it() {
    let traps = program("unreachable");
    let parts = |bytes: usize| Payload::Parts(vec![b"one\n".to_vec(), vec![b'x'; bytes]]);
    for stage in [Stage::Merge(1), Stage::Finish] {
        assert_eq!(result_of(&traps, &unit_of(stage, parts(3))), b"one\nxxx");
        let at_the_limit = result_of(&traps, &unit_of(stage, parts(65_532)));
        assert_eq!(at_the_limit.len(), 65_536);
        let Outcome::Limit(message) = outcome_of(&traps, &unit_of(stage, parts(65_533))) else {
            panic!("a limit")
        };
        assert_eq!(message, "the result has more than the 65536 bytes that its job allows");
    }
    let merges = program_with(CAT, r#"(func (export "lull_merge"))"#);
    assert_eq!(result_of(&merges, &unit_of(Stage::Merge(1), parts(3))), b"one\nxxx");
}

#[test]
fn a_split_prints_items() {
    let data = |text: &str| format!("(data (i32.const 2048) {text:?}) (func (export \"lull_split\"))");
    let split = unit_of(Stage::Split, Payload::Nothing);
    let prints = program_with("(call $out (i32.const 2048) (i32.const 8))", &data("a\nbc\n\n12"));
    let items = decode_items(&result_of(&prints, &split)).unwrap();
    assert_eq!(items, [b"a".to_vec(), b"bc".to_vec(), Vec::new(), b"12".to_vec()]);
    // An empty line takes 4 bytes in the list, and the list 4 more.
    let newlines = |count: u32| {
        program_with(
            &format!(
                "(memory.fill (i32.const 2048) (i32.const 10) (i32.const {count})) (call $out (i32.const 2048) (i32.const {count}))"
            ),
            &data(""),
        )
    };
    assert_eq!(decode_items(&result_of(&newlines(16_383), &split)).unwrap().len(), 16_383);
    assert!(matches!(outcome_of(&newlines(16_384), &split), Outcome::Limit(_)));
    let Outcome::GuestFailed(message) = outcome_of(&program(""), &split) else { panic!("a failure") };
    assert_eq!(message, "the program does not ask to be run for split");
}

#[test]
fn output_ends_at_the_jobs_limit() {
    assert_eq!(result_of(&program("(call $out (i32.const 0) (i32.const 65536))"), &lines(&[])).len(), 65_536);
    let too_large = "the result has more than the 65536 bytes that its job allows";
    limited("(call $out (i32.const 0) (i32.const 65537))", too_large);
    limited("(call $out (i32.const 0) (i32.const 65536)) (call $out (i32.const 0) (i32.const 1))", too_large);
    let many = "(call $iov (i32.const 16) (i32.const 0) (i32.const 60000)) (call $iov (i32.const 24) (i32.const 0) (i32.const 60000))
        (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 2) (i32.const 8)))";
    limited(many, too_large);
    assert_eq!(result_of(&program(""), &lines(&["a"])), b"", "no output is a result too");
}

#[test]
fn exit_codes_say_whether_the_result_counts() {
    let exits = |code: i32| {
        format!(
            "(i32.store8 (i32.const 2048) (i32.const 65)) (call $out (i32.const 2048) (i32.const 1)) (call $proc_exit (i32.const {code}))"
        )
    };
    assert_eq!(result_of(&program(&exits(0)), &lines(&[])), b"A");
    failed(&exits(1), "the program exited with 1");
    failed(&exits(-1), "the program exited with -1");
    let says = |end: &str| {
        format!(
            "(i64.store (i32.const 2048) (i64.const 0x0a6b726f66206f6e)) (call $to (i32.const 2) (i32.const 2048) (i32.const 8)) {end}"
        )
    };
    failed(&says("(call $proc_exit (i32.const 3))"), "the program exited with 3: no fork");
    failed(&says("unreachable"), "wasm trap: wasm `unreachable` instruction executed: no fork");
    assert_eq!(result_of(&program(&says("")), &lines(&[])), b"", "a warning is no failure");
}

#[test]
fn a_long_complaint_keeps_its_end() {
    let long = "(memory.fill (i32.const 2048) (i32.const 120) (i32.const 60000)) (i32.store8 (i32.const 62047) (i32.const 121))
        (call $to (i32.const 2) (i32.const 2048) (i32.const 60000)) (call $proc_exit (i32.const 1))";
    let Outcome::GuestFailed(message) = outcome_of(&program(long), &lines(&[])) else { panic!("a failure") };
    assert!(message.starts_with("the program exited with 1: xxx") && message.ends_with("xxy"), "{message}");
    assert!(message.len() <= MESSAGE_BYTES_MAX && message.len() > 900);
}

#[test]
fn addresses_outside_the_memory_end_the_program() {
    let outside = "the program gave an address outside its memory";
    let last = MEMORY_BYTES - 4;
    let check = |call: &str| failed(&format!("(drop {call})"), outside);
    for address in [MEMORY_BYTES - 3, MEMORY_BYTES, u32::MAX] {
        let at = format!("(i32.const {})", address.cast_signed());
        check(&format!("(call $args_get {at} (i32.const 0))"));
        check(&format!("(call $args_get (i32.const 0) {at})"));
        check(&format!("(call $args_sizes_get {at} (i32.const 0))"));
        check(&format!("(call $args_sizes_get (i32.const 0) {at})"));
        check(&format!("(call $environ_sizes_get (i32.const 0) {at})"));
        check(&format!("(call $clock_time_get (i32.const 0) (i64.const 0) {at})"));
        check(&format!("(call $clock_res_get (i32.const 0) {at})"));
        check(&format!("(call $random_get {at} (i32.const 4))"));
        check(&format!("(call $random_get (i32.const 4) {at})"));
        check(&format!("(call $fd_fdstat_get (i32.const 0) {at})"));
        for (call, fd) in [("fd_read", 0), ("fd_write", 1)] {
            check(&format!("(call ${call} (i32.const {fd}) {at} (i32.const 1) (i32.const 8))"));
            check(&format!("(call ${call} (i32.const {fd}) (i32.const 0) (i32.const 1) {at})"));
            let buffer = |address: &str, len: &str| {
                failed(
                    &format!(
                        "(call $iov (i32.const 0) {address} {len}) (drop (call ${call} (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))"
                    ),
                    outside,
                );
            };
            buffer(&at, "(i32.const 4)");
            buffer("(i32.const 4)", &at);
        }
        check(&format!("(call $poll_oneoff {at} (i32.const 0) (i32.const 1) (i32.const 8))"));
        check(&format!("(call $poll_oneoff (i32.const 0) {at} (i32.const 1) (i32.const 8))"));
        check(&format!("(call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) {at})"));
    }
    let at_the_end = format!("(call $say (call $random_get (i32.const {last}) (i32.const 4)))");
    assert_eq!(numbers(&at_the_end), [0], "the last bytes of the memory");
    assert_eq!(
        numbers(&format!("(call $say (call $random_get (i32.const {MEMORY_BYTES}) (i32.const 0)))")),
        [0]
    );
}

#[test]
fn buffers_have_limits() {
    let call = |name: &str, fd: u32, count: u32| {
        format!(
            "(call $say (call ${name} (i32.const {fd}) (i32.const 4096) (i32.const {count}) (i32.const 8)))"
        )
    };
    for (name, fd) in [("fd_read", 0), ("fd_write", 1)] {
        assert_eq!(numbers(&call(name, fd, 1024)), [0], "{name} at the limit");
        assert_eq!(numbers(&call(name, fd, 1025)), [28], "{name} one past it");
    }
    assert_eq!(numbers(&call("fd_read", 1, 0)), [8], "output cannot be read");
    assert_eq!(numbers(&call("fd_write", 0, 0)), [8], "input cannot be written");
}

#[test]
fn random_bytes_follow_from_the_unit() {
    let random = program("(drop (call $random_get (i32.const 2048) (i32.const 24))) (drop (call $random_get (i32.const 2072) (i32.const 8)))
        (call $out (i32.const 2048) (i32.const 32))");
    let first = result_of(&random, &lines(&["a"]));
    assert_eq!(result_of(&random, &lines(&["a"])), first, "in another process");
    let mut runner = load(&random, &[]);
    let again = [runner.run(&lines(&["a"])).unwrap().outcome, runner.run(&lines(&["a"])).unwrap().outcome];
    assert_eq!(again, [Outcome::Result(first.clone()), Outcome::Result(first.clone())]);
    assert_ne!(first[..8], first[8..16]);
    assert_ne!(result_of(&random, &lines(&["b"])), first, "another input");
    assert_ne!(result_of(&random, &Unit { number: 6, ..lines(&["a"]) }), first, "another number");
    let other = load(&random, &[("args", b"x")]).run(&lines(&["a"])).unwrap().outcome;
    assert_ne!(other, Outcome::Result(first), "other arguments");
}

#[test]
fn every_clock_stands_at_the_same_instant() {
    let clock = |id: u32| {
        numbers(&format!(
            "(call $say (call $clock_time_get (i32.const {id}) (i64.const 1) (i32.const 2048))) (call $out (i32.const 2048) (i32.const 8))
             (call $say (call $clock_res_get (i32.const {id}) (i32.const 2056))) (call $out (i32.const 2056) (i32.const 8))"
        ))
    };
    let nanos: u64 = 946_684_800_000_000_000;
    let [low, high] = [nanos as u32, (nanos >> 32) as u32];
    for id in 0..4 {
        assert_eq!(clock(id), [0, low, high, 0, 1, 0], "clock {id}");
    }
    assert_eq!(clock(4), [28, 0, 0, 28, 0, 0]);
}

/// A subscription to a clock at an address.
fn clock_subscription(at: u32, userdata: u32, id: u32, nanos: u64, flags: u32) -> String {
    format!(
        "(i32.store (i32.const {at}) (i32.const {userdata})) (i32.store8 offset=8 (i32.const {at}) (i32.const 0))
         (i32.store offset=16 (i32.const {at}) (i32.const {id})) (i64.store offset=24 (i32.const {at}) (i64.const {}))
         (i32.store offset=40 (i32.const {at}) (i32.const {flags}))",
        nanos.cast_signed()
    )
}

fn fd_subscription(at: u32, userdata: u32, kind: u32, fd: u32) -> String {
    format!(
        "(i32.store (i32.const {at}) (i32.const {userdata})) (i32.store8 offset=8 (i32.const {at}) (i32.const {kind}))
         (i32.store offset=16 (i32.const {at}) (i32.const {fd}))"
    )
}

/// What a poll of subscriptions from 4096 on answers, how many events there are, and how far the clock went.
fn poll(subscriptions: &[String], count: u32, events: u32) -> Vec<u32> {
    let mut start = subscriptions.concat();
    write!(
        start,
        "(call $say (call $poll_oneoff (i32.const 4096) (i32.const 512) (i32.const {count}) (i32.const 500)))
         (call $out (i32.const 500) (i32.const 4))
         (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 504)))
         (i64.store (i32.const 504) (i64.sub (i64.load (i32.const 504)) (i64.const 946684800000000000)))
         (call $out (i32.const 504) (i32.const 4))"
    )
    .unwrap();
    for event in 0..events {
        // Its userdata, then its errno and kind.
        let at = 512 + event * 32;
        write!(
            start,
            "(call $out (i32.const {at}) (i32.const 4)) (call $out (i32.const {}) (i32.const 4))",
            at + 8
        )
        .unwrap();
    }
    numbers(&start)
}

#[test]
fn waiting_takes_no_time() {
    let (first, second) = (4096, 4096 + 48);
    let start_nanos = 946_684_800_000_000_000;
    let sleep = [clock_subscription(first, 7, 1, 5000, 0)];
    assert_eq!(poll(&sleep, 1, 1), [0, 1, 5000, 7, 0]);
    let until = [clock_subscription(first, 7, 0, start_nanos + 9, 1)];
    assert_eq!(poll(&until, 1, 1), [0, 1, 9, 7, 0]);
    let past = [clock_subscription(first, 7, 0, 3, 1)];
    assert_eq!(poll(&past, 1, 1), [0, 1, 0, 7, 0], "what is past is due now");
    let earliest = [clock_subscription(first, 1, 1, 90, 0), clock_subscription(second, 2, 1, 80, 0)];
    assert_eq!(poll(&earliest, 2, 1), [0, 1, 80, 2, 0]);
    let input = [clock_subscription(first, 1, 1, 90, 0), fd_subscription(second, 2, 1, 0)];
    assert_eq!(poll(&input, 2, 1), [0, 1, 0, 2, 1 << 16], "input is there before a clock has moved");
    let output = [fd_subscription(first, 1, 2, 2), fd_subscription(second, 2, 2, 0)];
    assert_eq!(poll(&output, 2, 2), [0, 2, 0, 1, 2 << 16, 2, 8 | 2 << 16], "input cannot be written");
    assert_eq!(poll(&[clock_subscription(first, 1, 9, 90, 0)], 1, 1), [0, 1, 0, 1, 28], "no such clock");
    assert_eq!(poll(&[fd_subscription(first, 1, 3, 0)], 1, 0)[0], 28, "no such kind");
    assert_eq!(poll(&[], 0, 0)[0], 28, "nothing to wait for");
    assert_eq!(poll(&[], 1025, 0)[0], 28, "one past the limit");
    assert_eq!(poll(&[], 1024, 0)[..2], [0, 1024], "at the limit");
}

#[test]
fn descriptors_are_three_and_no_file_can_be_opened() {
    let check = |call: &str, expected: &[u32]| assert_eq!(numbers(call), expected, "{call}");
    let say = |call: &str| format!("(call $say {call})");
    for fd in [0, 1, 2] {
        check(
            &say(&format!("(call $fd_seek (i32.const {fd}) (i64.const 0) (i32.const 0) (i32.const 512))")),
            &[70],
        );
        check(&say(&format!("(call $fd_tell (i32.const {fd}) (i32.const 512))")), &[70]);
        check(&say(&format!("(call $fd_sync (i32.const {fd}))")), &[52]);
        let right = if fd == 0 { 1 << 1 } else { 1 << 6 };
        let stat = format!(
            "(call $say (call $fd_fdstat_get (i32.const {fd}) (i32.const 2048))) (call $out (i32.const 2048) (i32.const 24))"
        );
        check(&stat, &[0, 0, 0, 1 << 27 | right, 0, 0, 0]);
    }
    for fd in [3, 4, -1] {
        check(&say(&format!("(call $fd_prestat_get (i32.const {fd}) (i32.const 512))")), &[8]);
        check(
            &say(&format!("(call $fd_seek (i32.const {fd}) (i64.const 0) (i32.const 0) (i32.const 512))")),
            &[8],
        );
        check(&say(&format!("(call $fd_fdstat_get (i32.const {fd}) (i32.const 512))")), &[8]);
        check(
            &say(&format!("(call $fd_read (i32.const {fd}) (i32.const 0) (i32.const 0) (i32.const 8))")),
            &[8],
        );
        check(
            &say(&format!("(call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 0) (i32.const 8))")),
            &[8],
        );
        check(&say(&format!("(call $fd_close (i32.const {fd}))")), &[8]);
        check(
            &say(&format!(
                "(call $path_open (i32.const {fd}) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 512))"
            )),
            &[8],
        );
        check(&say(&format!("(call $sock_accept (i32.const {fd}) (i32.const 0) (i32.const 0))")), &[8]);
    }
    let open_at_stdin = "(call $path_open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 512))";
    check(&say(open_at_stdin), &[52]);
    check(
        "(call $say (call $fd_close (i32.const 0))) (call $say (call $fd_close (i32.const 0))) (call $say (call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))",
        &[0, 8, 8],
    );
    check(
        "(call $say (call $environ_sizes_get (i32.const 512) (i32.const 516))) (call $out (i32.const 512) (i32.const 8)) (call $say (call $environ_get (i32.const 0) (i32.const 0)))",
        &[0, 0, 0, 0],
    );
    check("(call $say (call $sched_yield)) (call $say (call $proc_raise (i32.const 9)))", &[0, 52]);
}

#[test]
fn limits_hold_for_programs_too() {
    let grows = "(loop $more (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (call $proc_exit (i32.const 1)))) (br $more))";
    limited(grows, "refused more than 1048576 bytes of memory: the program exited with 1");
    let recursion = program_with("(call $deep)", "(func $deep (call $deep) (call $deep))");
    assert!(
        matches!(outcome_of(&recursion, &lines(&[])), Outcome::Limit(message) if message.contains("stack"))
    );
    let hangs = program("(loop $more (br $more))");
    let limits = Limits { unit_secs: 1, ..LIMITS };
    let mut runner = start_with(&hangs, limits, &Freezer::new()).unwrap();
    let Outcome::Limit(message) = runner.run(&lines(&[])).unwrap().outcome else { panic!("a limit") };
    assert!(message.contains("ran longer than 1 s"), "{message}");
}

#[test]
fn a_unit_is_never_resumed_and_tells_no_checkpoints() {
    let wasm = program(CAT);
    let mut runner = load(&wasm, &[]);
    let how = || RunOn { checkpoint_every: Some(Duration::ZERO), witnesses: vec![1], ..RunOn::default() };
    let mut told = 0;
    let mut tell = |_: Progress<'_>| told += 1;
    let run = runner.run_on(&lines(&["a"]), how(), &mut tell).unwrap();
    assert_eq!(run.outcome, Outcome::Result(b"a\n".to_vec()));
    assert_eq!(told, 0);
    let from = RunOn { from: Some((lull_sandbox::checkpoint::Image::default(), [0; 32])), ..how() };
    let error = runner.run_on(&lines(&["a"]), from, &mut |_| {}).unwrap_err();
    assert!(
        matches!(&error, Error::NotResumed { message } if message.contains("starts every unit anew")),
        "{error}"
    );
    let again = runner.run_on(&lines(&["b"]), how(), &mut |_| {}).unwrap();
    assert_eq!(again.outcome, Outcome::Result(b"b\n".to_vec()), "the runner is as good as before");
}

#[test]
fn a_compiled_program_is_the_same() {
    let wasm = program(CAT);
    let artefact = compile(&config(), &Freezer::new(), &wasm, CompileLimits::default()).unwrap();
    let mut runner = Runner::start(&config(), &Freezer::new()).unwrap();
    runner.load_compiled(&artefact, &Program { module: &wasm, inputs: &[], limits: LIMITS }).unwrap();
    assert_eq!(runner.run(&lines(&["a"])).unwrap().outcome, Outcome::Result(b"a\n".to_vec()));
}

#[test]
fn modules_that_are_no_programs_are_named() {
    let check = |text: &str, expected: &str| {
        let wasm = wat::parse_str(format!("(module {text})")).unwrap();
        match start_with(&wasm, LIMITS, &Freezer::new()) {
            Err(Error::LoadFailed { message }) => assert!(message.contains(expected), "{message}"),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    };
    let memory = "(memory (export \"memory\") 1)";
    let import = |name: &str, of: &str| format!("(import \"{}\" \"{name}\" (func {of}))", wasi::MODULE);
    check(&import("sched_yield", "(result i32)"), "does not export its memory");
    check(
        &format!("{} {memory}", import("sched_yield", "(result i32)")),
        "does not export the function `_start`",
    );
    check(&format!("{} {memory} (func (export \"_start\"))", import("fd_dream", "")), "unknown import");
    check(
        &format!("{} {memory} (func (export \"_start\"))", import("fd_read", "")),
        "incompatible import type",
    );
}
