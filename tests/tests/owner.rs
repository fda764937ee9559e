//! The owner of a PC speaks to its agent: real agents, a real coordinator.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_tests::display::Display;
use lull_tests::money::parts;
use lull_tests::procfs::{guest_cpu_nanos, is_stopped};
use lull_tests::{Agent, DEADLINE, Grid, JobFile, binary};
use rustix::process::Pid;
use serde_json::Value;

fn say(agent: &Agent, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("lull-worker"));
    command.args(arguments).arg("--state-dir").arg(&agent.state_dir).env("TZ", "UTC");
    Ok(command.output()?)
}

fn status(agent: &Agent) -> Result<Value> {
    let output = say(agent, &["status", "--output", "json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn wait(agent: &Agent, what: &str, mut done: impl FnMut(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let last = status(agent);
        match &last {
            Ok(status) if done(status) => return last,
            _ => ensure!(Instant::now() < deadline, "the agent was not {what} in time: {last:?}"),
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
}

fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !done()? {
        ensure!(Instant::now() < deadline, "{what}: not in time");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    Ok(())
}

/// The runner whose guest computes: not the one that compiles its module, which is over by then.
fn running_guest(agent: &Agent) -> Result<Pid> {
    const COMPUTES_NANOS: u64 = 100_000_000;
    let mut found = None;
    until("a guest computes", || {
        let is_compiled = std::fs::read_dir(agent.state_dir.join("compiled"))?.next().is_some();
        found = agent.runners()?.first().copied().filter(|runner| {
            is_compiled && guest_cpu_nanos(*runner).is_ok_and(|nanos| nanos > COMPUTES_NANOS)
        });
        Ok(found.is_some())
    })?;
    found.context("just seen")
}

fn is_paused(status: &Value) -> bool {
    !status["paused_until_unix_secs"].is_null()
}

#[test]
fn a_pause_freezes_what_runs_survives_a_kill_and_ends_when_told() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "1")?;
    let agent = grid.agent("ada", "desk")?;
    let file = JobFile::probe_lines(grid.dir(), "long", &["hang"])?.write(grid.dir(), "long")?;
    grid.submit(&token, &file, &[])?;
    let running = wait(&agent, "running", |status| status["leases"][0]["running"] == 0)?;
    let runner = running_guest(&agent)?;
    assert_eq!(running["rests"], Value::Array(Vec::new()), "{running}");
    let text = String::from_utf8(say(&agent, &["status"])?.stdout)?;
    assert!(text.starts_with("Running 1 unit in 1 slot\n"), "{text}");

    let paused = say(&agent, &["pause", "--for", "2h"])?;

    assert!(paused.status.success() && paused.stdout.is_empty(), "{paused:?}");
    let words = String::from_utf8(paused.stderr)?;
    assert!(words.starts_with("Paused until ") && words.contains("lull-worker resume"), "{words}");
    wait(&agent, "paused", is_paused)?;
    let text = String::from_utf8(say(&agent, &["status"])?.stdout)?;
    assert!(text.starts_with("Paused until ") && text.contains("1 unit frozen"), "{text}");
    until("every thread of the runner is stopped", || Ok(is_stopped(runner)))?;
    let frozen = guest_cpu_nanos(runner)?;
    wait(&agent, "still paused", is_paused)?;
    assert_eq!(guest_cpu_nanos(runner)?, frozen, "it computes while it is paused");

    ensure!(say(&agent, &["resume"])?.status.success());
    until("the same guest computes again", || Ok(guest_cpu_nanos(runner)? > frozen + 1_000_000))?;
    assert_eq!(agent.runners()?, [runner]);
    ensure!(say(&agent, &["pause", "--for", "2h"])?.status.success());
    until("it is stopped again", || Ok(is_stopped(runner)))?;

    let agent = agent.kill_and_restart()?;
    wait(&agent, "paused after a restart", is_paused)?;
    ensure!(say(&agent, &["resume"])?.status.success());
    wait(&agent, "free again", |status| !is_paused(status) && status["rests"] == Value::Array(Vec::new()))?;
    Ok(())
}

#[test]
fn status_names_what_is_watched_and_what_holds_runners_back() -> Result<()> {
    let display = Display::start()?;
    let grid = Grid::start(60)?;
    let agent = grid.office_agent("ada", "desk", &[("DISPLAY", display.name())], &["--slots", "1"])?;
    let is_watched = |status: &Value| {
        let mut sources = status["sources"].as_array().into_iter().flatten();
        sources.any(|source| source["name"] == "X11" && source["is_readable"] == true)
    };

    let seen =
        wait(&agent, "watching the display", |status| is_watched(status) && !status["walls"].is_null())?;

    assert!(seen["walls"].as_str().is_some_and(|walls| walls.contains("seccomp")), "{seen}");
    let text = String::from_utf8(say(&agent, &["status"])?.stdout)?;
    assert!(text.contains("  watching     X11: "), "{text}");
    assert!(text.contains("  walls        ") && text.contains("seccomp"), "{text}");
    let log = agent.log();
    assert!(log.contains("a wall around runners stands wall=seccomp"), "{log}");
    Ok(())
}

#[test]
fn a_drained_agent_ends_and_says_so() -> Result<()> {
    let grid = Grid::start(60)?;
    let agent = grid.agent("ada", "desk")?;
    wait(&agent, "in touch", |status| !status["coordinator_since_unix_secs"].is_null())?;

    let drained = say(&agent, &["drain", "--wait"])?;

    assert!(drained.status.success(), "{drained:?}");
    let absent = say(&agent, &["status"])?;
    assert_eq!(absent.status.code(), Some(5), "{absent:?}");
    let words = String::from_utf8(absent.stderr)?;
    assert!(words.contains("no agent runs here") && words.contains("lull-worker run"), "{words}");
    assert!(absent.stdout.is_empty());
    Ok(())
}

#[test]
fn the_owner_learns_why_nothing_runs_and_that_the_coordinator_is_away() -> Result<()> {
    let mut grid = Grid::start(60)?;
    let agent = grid.watching_agent("ada", "desk")?;
    let resting = wait(&agent, "in touch", |status| !status["coordinator_since_unix_secs"].is_null())?;
    assert_eq!(resting["presence"], "unknown", "{resting}");
    let why = resting["rests"][0].as_str().context("a reason to rest")?;
    assert!(why.contains("--dedicated"), "{why}");

    // This one waits for work in a call, so that it notices at once.
    let agent = grid.agent("grace", "rack")?;
    wait(&agent, "in touch", |status| !status["coordinator_since_unix_secs"].is_null())?;
    grid.kill_coordinator()?;

    let away = wait(&agent, "without a coordinator", |status| !status["coordinator_problem"].is_null())?;
    let text = String::from_utf8(say(&agent, &["status"])?.stdout)?;
    assert!(text.contains("it is tried again"), "{text} {away}");
    grid.restart_coordinator()?;
    wait(&agent, "in touch again", |status| status["coordinator_problem"].is_null())?;
    Ok(())
}

#[test]
fn without_a_runner_no_unit_is_taken_and_status_and_doctor_say_why() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "1")?;
    let file = JobFile::probe_lines(grid.dir(), "one", &["echo a"])?.write(grid.dir(), "one")?;
    grid.submit(&token, &file, &[])?;
    // It ends before it has said which walls stand.
    let agent = grid.office_agent("ada", "desk", &[], &["--dedicated", "--runner", "/bin/true"])?;

    let seen = wait(&agent, "in touch and told of its runner", |status| {
        !status["coordinator_since_unix_secs"].is_null() && !status["runner_problem"].is_null()
    })?;

    assert_eq!(seen["presence"], "dedicated", "{seen}");
    assert_eq!(seen["leases"], Value::Array(Vec::new()), "{seen}");
    let text = String::from_utf8(say(&agent, &["status"])?.stdout)?;
    assert!(text.starts_with("Taking no work\n"), "{text}");
    assert!(text.contains("no guest can be run here: the runner did not come up"), "{text}");
    let doctor = say(&agent, &["doctor", "--dedicated"])?;
    assert_eq!(doctor.status.code(), Some(6), "{doctor:?}");
    let text = String::from_utf8(doctor.stdout)?;
    assert!(text.contains("the running agent can run no guest"), "{text}");
    let log = agent.log();
    assert!(log.contains("no runner can be used") && !log.contains("it is handed back"), "{log}");
    Ok(())
}

#[test]
fn garbage_on_the_socket_holds_nobody_up() -> Result<()> {
    let grid = Grid::start(60)?;
    let agent = grid.agent("ada", "desk")?;
    wait(&agent, "there", |_| true)?;
    let connect = || UnixStream::connect(agent.state_dir.join("control.sock"));
    let silent = connect()?;
    let mut flood = connect()?;
    let _ = flood.write_all(&[b'x'; 100_000]);
    let mut answer = String::new();
    let _ = flood.read_to_string(&mut answer);
    assert!(answer.contains("refused") && answer.contains("4096 bytes"), "{answer}");
    let mut unknown = connect()?;
    unknown.write_all(b"{\"do\":\"pay me\"}\n")?;
    let mut answer = String::new();
    unknown.read_to_string(&mut answer)?;
    assert!(answer.contains("refused"), "{answer}");
    status(&agent)?;
    drop(silent);
    Ok(())
}

fn earnings(agent: &Agent) -> Result<Value> {
    let output = say(agent, &["earnings", "--output", "json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn what_was_earned_is_told_by_the_agent_and_without_one() -> Result<()> {
    let mut grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "1")?;
    let agents = grid.agents(["ada", "grace"])?;
    let file = JobFile::probe_lines(grid.dir(), "two", &["echo a", "echo b"])?.write(grid.dir(), "two")?;
    let job = grid.submit(&token, &file, &[])?;
    grid.wait_end(&job, "complete")?;
    let agent = agents.into_iter().next().context("an agent")?;

    let told = earnings(&agent)?;

    let paid = grid.paid(&job)?;
    let (_, amount, units) = paid.iter().find(|(owner, ..)| owner.contains("ada")).context("ada is paid")?;
    assert_eq!(parts(told["total"]["amount"].as_str().context("an amount")?), *amount, "{told}");
    assert_eq!(told["total"]["units"], *units, "{told}");
    assert_eq!(told["this_month"], told["total"]);
    assert_eq!(told["problem"], Value::Null, "{told}");
    let text = String::from_utf8(say(&agent, &["earnings"])?.stdout)?;
    assert!(text.starts_with("This PC earned, verified and paid so far:\n"), "{text}");
    assert!(text.contains(&format!("{units} units")), "{text}");
    let seen = status(&agent)?;
    assert_eq!(seen["earned"]["total"], told["total"], "{seen}");
    let text = String::from_utf8(say(&agent, &["status"])?.stdout)?;
    assert!(text.contains("this month") && text.contains("in all"), "{text}");

    ensure!(say(&agent, &["drain", "--wait"])?.status.success());
    let directly = earnings(&agent)?;
    assert_eq!((&directly["total"], &directly["month"]), (&told["total"], &told["month"]));
    grid.kill_coordinator()?;
    let nobody = say(&agent, &["earnings"])?;
    let words = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!(nobody.status.code(), Some(1), "{words}");
    assert!(words.contains("no agent runs here") && words.contains("cannot be asked"), "{words}");
    assert!(nobody.stdout.is_empty());
    Ok(())
}
