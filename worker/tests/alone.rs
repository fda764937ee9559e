//! A second agent on a machine, as a process.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

use lull_worker::alone::{Alone, MACHINE};

fn run(arguments: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lull-worker"));
    command.env_clear().args(["run", "--runner", "/bin/true", "--state-dir"]).arg(state.path());
    command.args(arguments).output().unwrap()
}

#[test]
fn a_second_agent_that_watches_says_who_is_the_first() {
    // An agent that really runs here is as good a first one.
    let _first = Alone::take(MACHINE);
    let second = run(&[]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("watches this PC already") && said.contains("process "), "{said}");
    for arguments in ["--dedicated", "--beside-others"] {
        let said = run(&[arguments]);
        assert_eq!(said.status.code(), Some(2), "it gets as far as to miss its coordinator: {said:?}");
        assert!(String::from_utf8_lossy(&said.stderr).contains("no coordinator is known"), "{said:?}");
    }
}
