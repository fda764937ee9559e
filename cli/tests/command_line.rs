//! The binary as people and scripts meet it: bad input, no coordinator, help.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const JOB: &str =
    "name = \"study\"\nmodule = \"m.wasm\"\nsplit.range = { end = 10 }\npay = { item_price = \"0.01\" }\n";

fn folder(job: &str, module: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("job.toml"), job).expect("job.toml");
    std::fs::write(folder.path().join("m.wasm"), module).expect("m.wasm");
    folder
}

/// An address at which nobody listens.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

fn lull(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lull"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("lull runs")
}

#[track_caller]
fn check(output: &Output, exit: i32, stderr: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    for expected in stderr {
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
    assert!(output.stdout.is_empty(), "a failure prints no data");
}

#[test]
fn a_wrong_job_file_is_bad_input() {
    let check = |job: &str, args: &[&str], stderr: &[&str]| {
        let folder = folder(job, &module());
        for command in ["submit", "run-local"] {
            check(&lull(folder.path(), &[&[command, "job.toml"], args].concat()), 2, stderr);
        }
    };
    check(&JOB.replace("module", "modul"), &[], &["lull: job file job.toml", "unknown field `modul`"]);
    check(&JOB.replace("m.wasm", "n.wasm"), &[], &["lull: module n.wasm: No such file"]);
    check(&JOB.replace("m.wasm", "."), &[], &["lull: module", "is not a file"]);
    check(&JOB.replace("end = 10", "end = 0"), &[], &["lull: split.range: 0..0 is empty"]);
    check(&format!("copies = 9\n{JOB}"), &[], &["copies: 9 is out of range: 1 to 8"]);
    check(&format!("inputs = {{ a = \"a.csv\" }}\n{JOB}"), &[], &["lull: input `a` a.csv: No such file"]);
    check(&JOB.replace("range = { end = 10 }", "files = [\"m.wasm\"]"), &["--items", "0..5"], &["--items"]);
    check(JOB, &["--items", "5..5"], &["the range is empty"]);
    let nowhere = tempfile::tempdir().expect("a folder");
    self::check(
        &lull(nowhere.path(), &["submit", "job.toml"]),
        2,
        &["lull: job file job.toml: No such file"],
    );
}

#[test]
fn a_wrong_module_is_bad_input() {
    let check = |module: &[u8], stderr: &str| {
        let folder = folder(JOB, module);
        for command in ["submit", "run-local"] {
            check(&lull(folder.path(), &[command, "job.toml"]), 2, &["lull: m.wasm: ", stderr]);
        }
    };
    check(b"#!/bin/sh\n", "not a WebAssembly module");
    check(b"\0asm\x01\0\0\0", "the module does not export its memory");
    check(&vec![0; 16 * 1024 * 1024 + 1], "more than the 16777216 allowed");
}

#[test]
fn without_a_coordinator_every_command_says_so() {
    let folder = folder(JOB, &module());
    let url = closed_port();
    let commands: [&[&str]; 14] = [
        &["submit", "job.toml"],
        &["jobs"],
        &["jobs", "12"],
        &["watch", "12"],
        &["results", "jobs/12"],
        &["cancel", "12"],
        &["devices"],
        &["fund", "clinic", "10"],
        &["balance"],
        &["earnings"],
        &["books"],
        &["statement", "--me", "--month", "2026-11"],
        &["admin", "payout", "list"],
        &["admin", "create-owner", "bob"],
    ];
    for command in commands {
        let output = lull(folder.path(), &[&["--coordinator", &url], command].concat());
        check(
            &output,
            3,
            &["lull: cannot reach the coordinator at", &url, "Connection refused", "--coordinator"],
        );
    }
    let from_env = Command::new(env!("CARGO_BIN_EXE_lull"))
        .arg("jobs")
        .env_clear()
        .env("LULL_COORDINATOR", &url)
        .output()
        .expect("lull runs");
    check(&from_env, 3, &[&url]);
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |args: &[&str], stderr: &str| check(&lull(folder.path(), args), 2, &[stderr]);
    check(&["jobs", "twelve"], "a job is named jobs/12 or 12");
    check(&["--coordinator", "https://grid.example", "jobs"], "do not speak TLS yet");
    check(&["fund", "clinic", "1e3"], "write an exact decimal");
    check(&["job"], "jobs");
    check(&["--token-file", "none", "jobs"], "lull: token file none: No such file");
}

#[test]
fn without_a_runner_a_local_run_says_where_it_looked() {
    let folder = folder(JOB, &module());
    let output = lull(folder.path(), &["run-local", "job.toml", "--runner", "no/runner"]);
    check(&output, 1, &["lull: no runner at no/runner"]);
}

#[test]
fn every_help_has_an_example() {
    let folder = tempfile::tempdir().expect("a folder");
    let commands = [
        "submit",
        "jobs",
        "watch",
        "results",
        "cancel",
        "devices",
        "fund",
        "balance",
        "earnings",
        "statement",
        "books",
        "admin",
        "run-local",
    ];
    let admin = [
        "create-submitter",
        "create-owner",
        "create-token",
        "create-enrolment-token",
        "operator",
        "referee",
        "payer",
        "payee",
        "payout",
        "reverse-deposit",
    ];
    let mut lines: Vec<Vec<&str>> = vec![vec![]];
    lines.extend(commands.map(|command| vec![command]));
    lines.extend(admin.map(|command| vec!["admin", command]));
    for mut line in lines {
        line.push("--help");
        let output = lull(folder.path(), &line);
        let help = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(help.contains("Example"), "{line:?}: {help}");
    }
    let help = lull(folder.path(), &["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("the books do not balance"));
}

/// The smallest module with what a runner asks for; its functions only trap.
fn module() -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    // () -> i32, (i32) -> i32, (i32, i32, i32, i32) -> (), (i32, i32) -> i32
    let types = b"\x04\x60\0\x01\x7f\x60\x01\x7f\x01\x7f\x60\x04\x7f\x7f\x7f\x7f\0\x60\x02\x7f\x7f\x01\x7f";
    let functions: [(&str, u8); 8] = [
        ("lull_abi_version", 0),
        ("lull_alloc", 1),
        ("lull_input", 2),
        ("lull_prepare", 0),
        ("lull_begin", 3),
        ("lull_step", 0),
        ("lull_result_ptr", 0),
        ("lull_result_len", 0),
    ];
    let mut section = |id: u8, content: &[u8]| {
        assert!(content.len() < 0x4000);
        let length = content.len() as u16;
        wasm.extend([id, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        wasm.extend_from_slice(content);
    };
    section(1, types);
    section(3, &[&[8_u8][..], &functions.map(|(_, kind)| kind)].concat());
    section(5, b"\x01\0\x01");
    let mut exports = vec![9, 6];
    exports.extend_from_slice(b"memory\x02\0");
    for (index, (name, _)) in functions.iter().enumerate() {
        exports.push(name.len() as u8);
        exports.extend_from_slice(name.as_bytes());
        exports.extend([0, index as u8]);
    }
    section(7, &exports);
    section(10, &[&[8_u8][..], &[3_u8, 0, 0, 0x0b].repeat(8)].concat());
    wasm
}
