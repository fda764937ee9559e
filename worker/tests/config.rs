//! `lull-worker config`, as a process: flag, environment, file and default, in that order.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn worker(config: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lull-worker"));
    // Nothing of this environment may set anything.
    command.env_clear().envs(environment.iter().copied()).args(arguments).arg("--config").arg(config);
    command.output().unwrap()
}

fn shown(config: &Path, environment: &[(&str, &str)], key: &str) -> (Value, Value) {
    let output = worker(config, environment, &["config", "show", "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let one = all.iter().find(|setting| setting["key"] == key).unwrap();
    (one["value"].clone(), one["origin"].clone())
}

#[test]
fn the_environment_beats_the_file_and_the_file_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let name = path.display().to_string();
    fs::write(
        &path,
        "idle_delay_secs = 5\ndedicated = true\ncpu_wanted_percent = 40\nenrolment_token = \"t0k\"\n",
    )
    .unwrap();
    let environment = [("LULL_IDLE_DELAY_SECS", "7"), ("LULL_DEDICATED", "false")];
    let check = |environment: &[_], key, value: &str, origin: Value| {
        assert_eq!(shown(&path, environment, key), (value.into(), origin), "{key}");
    };
    let file = || serde_json::json!({ "file": name });
    check(&[], "idle_delay_secs", "5", file());
    check(&environment, "idle_delay_secs", "7", serde_json::json!({ "environment": "LULL_IDLE_DELAY_SECS" }));
    check(&[], "cpu_wanted_percent", "40", file());
    check(&[], "on_battery", "run", "default".into());
    check(&environment, "on_battery", "rest", "default".into());
    check(&[], "enrolment_token", "(secret)", file());
    assert_eq!(shown(&path, &[], "slots"), (Value::Null, "default".into()));
}

#[test]
fn what_is_shown_is_a_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.toml"), folder.path().join("second.toml"));
    fs::write(&first, "schedule = \"Sat-Sun\"\nslots = 3\n").unwrap();
    let output = worker(&first, &[], &["config", "show", "--origin"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("schedule = \"Sat-Sun\"") && text.contains("first.toml"), "{text}");
    fs::write(&second, &text).unwrap();
    assert_eq!(shown(&second, &[], "slots").0, "3");
    assert_eq!(shown(&second, &[], "schedule").0, "Sat-Sun");
}

#[test]
fn a_wrong_file_stops_run_and_check_but_no_word_to_a_running_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "idle_delay = 5\n").unwrap();
    let state = folder.path().join("state").display().to_string();
    for arguments in [&["config", "check"][..], &["run", "--state-dir", &state]] {
        let output = worker(&path, &[], arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("did you mean `idle_delay_secs`?"), "{said}");
    }
    let output = worker(&path, &[], &["status", "--state-dir", &state]);
    assert_eq!(output.status.code(), Some(5), "no agent runs: {output:?}");
    fs::write(&path, format!("state_dir = \"{state}\"\n")).unwrap();
    let output = worker(&path, &[], &["status"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(!worker(&folder.path().join("none.toml"), &[], &["config", "check"]).status.success());
    assert!(worker(&path, &[("LULL_SLOTS", "9")], &["config", "check"]).status.success());
    assert!(!worker(&path, &[("LULL_SLOTS", "x")], &["config", "check"]).status.success());
}
