//! What `lull-worker doctor` and `lull-worker logs` tell of real agents and real faults.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_tests::{DEADLINE, Grid, binary};
use serde_json::Value;

const OK: i32 = 0;
const UNWELL: i32 = 6;

fn say(arguments: &[&str], state_dir: &Path, environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(binary("lull-worker"));
    command.args(arguments).arg("--state-dir").arg(state_dir).env_clear();
    Ok(command.envs(environment.iter().copied()).output()?)
}

/// The level of a check, and what was found and advised.
fn doctor(state_dir: &Path, options: &[&str], environment: &[(&str, &str)]) -> Result<(i32, Vec<Value>)> {
    let arguments: Vec<&str> =
        ["doctor", "--output", "json"].into_iter().chain(options.iter().copied()).collect();
    let output = say(&arguments, state_dir, environment)?;
    let findings = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code().context("it was killed")?, findings))
}

fn check(findings: &[Value], check: &str, level: &str, found: &str) {
    let is_it = |finding: &&Value| {
        finding["check"] == check
            && finding["level"] == level
            && finding["found"].as_str().is_some_and(|text| text.contains(found))
            && (level == "ok") == (finding["advice"] == "")
    };
    assert!(
        findings.iter().any(|finding| is_it(&finding)),
        "no {level} of {check} with {found}: {findings:#?}"
    );
}

#[test]
fn a_sound_agent_is_called_sound_and_each_fault_is_named() -> Result<()> {
    let mut grid = Grid::start(60)?;
    let agent = grid.agent("ada", "desk")?;
    let state_dir = agent.state_dir.clone();
    let deadline = Instant::now() + DEADLINE;
    let (code, findings) = loop {
        let seen = doctor(&state_dir, &["--dedicated"], &[]);
        match seen {
            // Before it listens, all is well too, but for the agent.
            Ok((OK, findings))
                if findings.iter().any(|found| found["check"] == "agent" && found["level"] == "ok") =>
            {
                break (OK, findings);
            }
            seen => ensure!(Instant::now() < deadline, "never sound: {seen:?}"),
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    };
    assert_eq!(code, OK);
    check(&findings, "coordinator", "ok", &grid.url);
    check(&findings, "clock", "ok", "s from the coordinator's");
    check(&findings, "identity", "ok", "running agent");
    check(&findings, "agent", "ok", "process");
    check(&findings, "presence", "ok", "dedicated");
    check(&findings, "walls", "ok", "seccomp");
    check(&findings, "state directory", "ok", "desk");

    // Without an agent the doctor shows the device's own key, and looks for a person itself.
    let _at_rest = agent.kill()?;
    let (code, findings) = doctor(&state_dir, &["--dedicated"], &[("https_proxy", "http://proxy:1")])?;
    assert_eq!(code, OK, "{findings:#?}");
    check(&findings, "agent", "warning", "no agent runs");
    check(&findings, "identity", "ok", "knows this PC");
    check(&findings, "proxy", "warning", "https_proxy is set");
    let (code, findings) = doctor(&state_dir, &[], &[])?;
    assert_eq!(code, UNWELL);
    check(&findings, "presence", "problem", "cannot be told");

    grid.kill_coordinator()?;
    let (code, findings) = doctor(&state_dir, &["--dedicated"], &[])?;
    assert_eq!(code, UNWELL);
    check(&findings, "coordinator", "problem", "cannot be reached");
    let (code, findings) = doctor(
        &grid.dir().join("nothing"),
        &["--dedicated", "--runner", "/bin/false", "--coordinator", "x y"],
        &[],
    )?;
    assert_eq!(code, UNWELL);
    check(&findings, "walls", "problem", "runner");
    check(&findings, "coordinator", "problem", "`x y` is no address");
    let file = grid.dir().join("config.toml");
    std::fs::write(&file, "slot = 3\n")?;
    let (_, findings) = doctor(&state_dir, &["--config", file.to_str().context("UTF-8")?], &[])?;
    check(&findings, "settings", "problem", "slots");
    Ok(())
}

#[test]
fn the_log_can_be_read_when_the_agent_has_ended() -> Result<()> {
    let grid = Grid::start(60)?;
    let agent = grid.agent("ada", "desk")?;
    let state_dir = agent.state_dir.clone();
    let deadline = Instant::now() + DEADLINE;
    while !agent.log().contains("running") {
        ensure!(Instant::now() < deadline, "it does not start: {}", agent.log());
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let _at_rest = agent.kill()?;

    let logs = say(&["logs", "--lines", "1000"], &state_dir, &[])?;
    let text = String::from_utf8(logs.stdout)?;
    assert!(logs.status.success() && text.contains("running"), "{text}");
    let last = say(&["logs", "-n", "1"], &state_dir, &[])?;
    assert_eq!(
        String::from_utf8(last.stdout)?.lines().collect::<Vec<_>>(),
        [text.lines().last().context("lines")?]
    );
    let none = say(&["logs"], &grid.dir().join("nothing"), &[])?;
    assert!(!none.status.success());
    assert!(String::from_utf8(none.stderr)?.contains("no agent has logged"), "and what to do");
    Ok(())
}
