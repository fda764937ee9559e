//! Units that fail: the guest's own words reach the submitter, once two owners agree.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use lull_tests::{Agent, DEADLINE, Grid, JobFile, binary};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

struct Scene {
    grid: Grid,
    token: String,
    _agents: Vec<Agent>,
}

impl Scene {
    fn set() -> Result<Self> {
        let grid = Grid::start(60)?;
        let token = grid.submitter("clinic", "100")?;
        let agents = grid.agents(["ada", "grace"])?;
        Ok(Self { grid, token, _agents: agents })
    }

    /// Submits a job that ends incomplete, and returns what failed in it.
    fn failed(&self, file: &JobFile, name: &str) -> Result<Vec<Value>> {
        let job = self.grid.submit(&self.token, &file.write(self.grid.dir(), name)?, &[])?;
        let state = self.grid.wait_end(&job, "incomplete")?;
        let reason = state["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("`lull results --failed`"), "{state}");
        let no_answer = self.grid.lull_as(&self.token, &["results", &job])?;
        assert_eq!(no_answer.status.code(), Some(6), "{no_answer:?}");
        self.grid.check_money(&job)?;
        self.list(&job)
    }

    fn list(&self, job: &str) -> Result<Vec<Value>> {
        let arguments = ["results", job, "--failed", "--output", "json"];
        let output = self.grid.lull_as(&self.token, &arguments)?;
        let lines = String::from_utf8(output.stdout)?;
        Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

/// A failed unit is this one, says this, and two owners said so.
fn check(failed: &Value, stage: &str, index: u64, says: &str) {
    assert_eq!((&failed["stage"], &failed["index"]), (&stage.into(), &index.into()), "{failed}");
    assert!(
        failed["message"].as_str().is_some_and(|message| message.contains(says)),
        "{failed}, not: {says}"
    );
    assert_eq!(failed["agreeing"], 2, "{failed}");
}

#[test]
fn the_guests_own_words_are_kept() -> Result<()> {
    let scene = Scene::set()?;
    let items = ["echo a", "fail the mill broke", "panic at the disco", "trap", "sing"];
    let file = JobFile::probe_lines(scene.grid.dir(), "items", &items)?;

    let failed = scene.failed(&file, "failing")?;

    assert_eq!(failed.len(), 4, "{failed:?}");
    check(&failed[0], "work", 1, "the mill broke");
    check(&failed[1], "work", 2, "at the disco");
    check(&failed[2], "work", 3, "unreachable");
    check(&failed[3], "work", 4, "`sing` is no command");
    Ok(())
}

#[test]
fn what_may_be_missing_is_left_out() -> Result<()> {
    let scene = Scene::set()?;
    let dir = scene.grid.dir();
    let file =
        JobFile::probe_lines(dir, "items", &["echo a", "fail b", "echo c"])?.set("allow_missing", true);
    let job = scene.grid.submit(&scene.token, &file.write(dir, "missing")?, &[])?;
    assert_eq!(scene.grid.answer(&scene.token, &job)?, b"a\nc\n");
    let failed = scene.list(&job)?;
    check(&failed[0], "work", 1, "b");
    assert_eq!(failed.len(), 1);
    scene.grid.check_money(&job)
}

#[test]
fn a_finish_that_fails_leaves_no_answer() -> Result<()> {
    let scene = Scene::set()?;
    let dir = scene.grid.dir();
    std::fs::write(dir.join("finish.txt"), "fail nothing adds up")?;
    let file =
        JobFile::probe_lines(dir, "items", &["echo a"])?.path("inputs.finish", &dir.join("finish.txt"));
    let failed = scene.failed(&file, "finishing")?;
    check(&failed[0], "finish", 0, "nothing adds up");
    Ok(())
}

#[test]
fn limits_fail_a_unit_once_two_owners_met_them() -> Result<()> {
    let scene = Scene::set()?;
    let items = ["hang", "grow 64", "bytes 2000000", "grow 4"];
    let file = JobFile::probe_lines(scene.grid.dir(), "items", &items)?
        .set("limits.unit_secs", 1)
        .set("limits.memory_mib", 16)
        .set("limits.result_mib", 1);

    let failed = scene.failed(&file, "limited")?;

    let indexes: Vec<u64> = failed.iter().filter_map(|unit| unit["index"].as_u64()).collect();
    assert_eq!(indexes, [0, 1, 2], "{failed:?}");
    for unit in &failed {
        check(unit, "work", unit["index"].as_u64().unwrap_or_default(), "");
    }
    Ok(())
}

/// Puts a program in a runner's place that ends before it has said a word, at one stroke.
fn break_runner(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let broken = path.with_extension("broken");
    std::fs::write(&broken, "#!/bin/sh\nexit 3\n")?;
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755))?;
    Ok(std::fs::rename(&broken, path)?)
}

/// An agent with a runner of its own.
fn agent_with_runner(grid: &Grid, runner: &Path) -> Result<Agent> {
    let runner = runner.display().to_string();
    let options = ["--dedicated", "--slots", "1", "--checkpoint-secs", "0.001", "--runner", &runner];
    grid.office_agent("eve", "broken", &[], &options)
}

fn wait_log(agent: &Agent, times: usize, what: &str) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while agent.log().matches(what).count() < times {
        ensure!(Instant::now() < deadline, "not {times} times in time: {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    Ok(())
}

const HANDED_BACK: &str = "a lease cannot be worked on; it is handed back";

#[test]
fn a_runner_that_is_broken_as_such_blames_no_unit_and_gets_no_more() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "1")?;
    let runner = grid.dir().join("runner");
    std::fs::copy(binary("lull-runner"), &runner)?;
    let broken = agent_with_runner(&grid, &runner)?;
    // It was sound when it was looked at.
    wait_log(&broken, 1, "a wall around runners stands wall=seccomp")?;
    break_runner(&runner)?;
    let file = JobFile::probe_lines(grid.dir(), "one", &["echo a"])?.write(grid.dir(), "one")?;
    let job = grid.submit(&token, &file, &[])?;

    wait_log(&broken, 1, HANDED_BACK)?;
    wait_log(&broken, 1, "no runner can be used")?;

    let state = grid.job(&job)?;
    assert_eq!(state["progress"]["attempts"], 0, "{state}");
    let _agents = grid.agents(["ada", "grace"])?;
    assert_eq!(grid.answer(&token, &job)?, b"a\n");
    grid.check_money(&job)
}

#[test]
fn a_runner_that_breaks_after_a_checkpoint_is_not_started_for_ever() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "1")?;
    let runner = grid.dir().join("runner");
    std::fs::copy(binary("lull-runner"), &runner)?;
    let agent = agent_with_runner(&grid, &runner)?;
    std::fs::write(grid.dir().join("exponents.txt"), "21701\n")?;
    let file = JobFile::of("lucas")
        .path("split.lines", &grid.dir().join("exponents.txt"))
        .set("items_per_unit", 1)
        .set("limits.unit_secs", 3600)
        .write(grid.dir(), "lucas")?;
    grid.submit(&token, &file, &["--copies", "1"])?;
    let checkpoints = agent.state_dir.join("checkpoints");
    let deadline = Instant::now() + DEADLINE;
    while std::fs::read_dir(&checkpoints).map_or(0, Iterator::count) == 0 {
        ensure!(Instant::now() < deadline, "no checkpoint in time");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }

    break_runner(&runner)?;
    for pid in agent.runners()? {
        kill_process(pid, Signal::KILL)?;
    }

    wait_log(&agent, 1, HANDED_BACK)?;
    let log = agent.log();
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}
