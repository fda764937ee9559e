//! Whatever is killed in the middle of a job delays it, and changes neither its answer nor the sums.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use lull_tests::{Agent, Grid, JobFile, study};
use rustix::process::{Signal, kill_process};

/// Short, so that what a killed agent held is soon leased again.
const LEASE_TTL_SECS: u64 = 3;
/// Units of the job; each takes about half a second of CPU time.
const UNITS: u64 = 4;
const OWNERS: [&str; 3] = ["ada", "grace", "mary"];

/// A grid in the middle of the job.
struct Scene {
    grid: Grid,
    agents: Vec<Agent>,
    token: String,
    job: String,
}

fn job_file(grid: &Grid) -> Result<std::path::PathBuf> {
    JobFile::of("maxt")
        .path("inputs.expression", &study::table())
        .set("split.range", format!("{{ start = 500_000_000, end = {} }}", 500_000_000 + UNITS * 300_000))
        .set("items_per_unit", 300_000)
        .set("merge_fan_in", 4)
        .set("pay.item_price", "\"0.000001\"")
        .set("pay.budget", "\"50\"")
        .write(grid.dir(), "study")
}

/// The answer when nothing is killed, computed once.
fn undisturbed(grid: &Grid) -> Result<&'static [u8]> {
    static ANSWER: OnceLock<Vec<u8>> = OnceLock::new();
    if ANSWER.get().is_none() {
        let answer = grid.run_local(&job_file(grid)?, &[])?;
        return Ok(ANSWER.get_or_init(|| answer));
    }
    ANSWER.get().map(Vec::as_slice).context("just seen")
}

impl Scene {
    /// The job has been started, and its first attempt is back: others run.
    fn set() -> Result<Self> {
        let grid = Grid::start(LEASE_TTL_SECS)?;
        let token = grid.submitter("clinic", "100")?;
        let agents = grid.agents(OWNERS)?;
        let job = grid.submit(&token, &job_file(&grid)?, &[])?;
        grid.wait_job(&job, "begun", |state| state["progress"]["attempts"].as_u64() >= Some(1))?;
        Ok(Self { grid, agents, token, job })
    }

    fn check_end(self) -> Result<()> {
        let answer = self.grid.answer(&self.token, &self.job)?;
        assert!(answer == undisturbed(&self.grid)?, "the answer is another");
        let job = self.grid.job(&self.job)?;
        // One merge of all four, and the finish.
        assert_eq!(job["progress"]["units_accepted"], UNITS + 1 + 1, "{job}");
        assert_eq!(job["progress"]["units_failed"], 0, "{job}");
        self.grid.check_money(&self.job)
    }
}

#[test]
fn a_killed_agent_comes_back_to_its_work() -> Result<()> {
    let mut scene = Scene::set()?;
    let agent = scene.agents.remove(0);
    let restarted = agent.kill_and_restart()?;
    scene.agents.push(restarted);
    scene.check_end()
}

#[test]
fn a_killed_runner_is_replaced() -> Result<()> {
    let scene = Scene::set()?;
    let mut killed = 0;
    // Kill whichever runs now; between two leases there is none.
    scene.grid.wait_job(&scene.job, "running in a runner", |state| {
        for runner in scene.agents.iter().filter_map(|agent| agent.runners().ok()).flatten() {
            killed += usize::from(kill_process(runner, Signal::KILL).is_ok());
        }
        killed > 0 || state["state"] != "running"
    })?;
    ensure!(killed > 0, "the job ended before a runner was seen");
    scene.check_end()
}

#[test]
fn a_killed_coordinator_goes_on_where_it_stood() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.grid.kill_coordinator()?;
    scene.grid.restart_coordinator()?;
    scene.check_end()
}

#[test]
fn a_killed_database_is_started_again() -> Result<()> {
    let scene = Scene::set()?;
    let before = scene.grid.postmaster_pid()?;
    kill_process(before, Signal::KILL)?;
    scene.grid.wait_job(&scene.job, "served by a new database", |_| {
        scene.grid.postmaster_pid().is_ok_and(|now| now != before)
    })?;
    scene.check_end()
}

#[test]
fn an_agent_frozen_past_its_leases_changes_nothing_when_it_thaws() -> Result<()> {
    let scene = Scene::set()?;
    let frozen = &scene.agents[0];
    kill_process(frozen.pid(), Signal::STOP)?;
    // The other two owners are enough for every unit.
    scene.grid.wait_end(&scene.job, "complete")?;
    let paid = scene.grid.paid(&scene.job)?;

    kill_process(frozen.pid(), Signal::CONT)?;

    // It finds its leases gone, and is there for the next job.
    let file = JobFile::probe_lines(scene.grid.dir(), "after", &["echo a"])?;
    let after =
        scene.grid.submit(&scene.token, &file.write(scene.grid.dir(), "after")?, &["--copies", "3"])?;
    assert_eq!(scene.grid.answer(&scene.token, &after)?, b"a\n");
    assert_eq!(scene.grid.paid(&scene.job)?, paid, "a late result was paid");
    scene.check_end()
}
