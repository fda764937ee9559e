//! A serial computation outlives whatever is killed under it: the Lucas-Lehmer test, whose residues are known.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lull_tests::{Agent, DEADLINE, Grid, JobFile, binary};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Signal, kill_process};

/// Longer than the test: a lease is lost by nobody's silence.
const LEASE_TTL_SECS: u64 = 120;
/// How often an agent checkpoints, in seconds: a unit has dozens.
const OPTIONS: [&str; 5] = ["--dedicated", "--slots", "1", "--checkpoint-secs", "0.2"];
/// At least so many kills: fewer would mean that the units were too quick to be hit.
const KILLS_MIN: usize = 12;

/// Exponents, and what is known of them: 9689, 11213 and 21701 are those of Mersenne primes (OEIS A000043); the
/// residue of 9697 is as the Great Internet Mersenne Prime Search lists it.
const KNOWN: [&str; 4] = [
    "9689 prime 0000000000000000",
    "9697 composite a23dad2328692889",
    "11213 prime 0000000000000000",
    "21701 prime 0000000000000000",
];

fn submit(grid: &Grid, token: &str, known: &[&str]) -> Result<String> {
    let path = grid.dir().join("exponents.txt");
    let exponents: Vec<&str> = known.iter().filter_map(|line| line.split(' ').next()).collect();
    std::fs::write(&path, exponents.join("\n") + "\n")?;
    let file = JobFile::of("lucas")
        .path("split.lines", &path)
        .set("items_per_unit", 1)
        .set("copies", 1)
        .set("limits.unit_secs", 3600)
        .write(grid.dir(), "lucas")?;
    grid.submit(token, &file, &[])
}

fn check_answer(grid: &Grid, token: &str, job: &str, known: &[&str]) -> Result<()> {
    let answer = String::from_utf8(grid.answer(token, job)?)?;
    let mut lines: Vec<&str> = answer.lines().collect();
    lines.sort_unstable();
    let mut known = known.to_vec();
    known.sort_unstable();
    assert_eq!(lines, known);
    grid.check_money(job)
}

/// The checkpoints of an agent by name: each new one is a new file.
fn checkpoints(agent: &Agent) -> BTreeMap<String, u64> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(agent.state_dir.join("checkpoints")) else { return BTreeMap::new() };
    let named = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().ok()?;
        let written = u64::try_from(metadata.mtime_nsec()).ok()? ^ metadata.ino();
        (!name.starts_with(".tmp-")).then_some((name, written))
    });
    named.collect()
}

/// Waits for a checkpoint that is not among `before`; false if all of its units of work are done first.
fn wait_new_checkpoint(
    grid: &Grid,
    job: &str,
    agent: &Agent,
    before: &BTreeMap<String, u64>,
) -> Result<bool> {
    let deadline = Instant::now() + DEADLINE;
    let mut looks = 0_u32;
    loop {
        if checkpoints(agent).iter().any(|(name, written)| before.get(name) != Some(written)) {
            return Ok(true);
        }
        // What follows is merging, which takes no time.
        if looks.is_multiple_of(20) && grid.job(job)?["progress"]["stage"] != "work" {
            return Ok(false);
        }
        ensure!(Instant::now() < deadline, "no checkpoint was written in time");
        looks += 1;
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn agent(grid: &Grid, owner: &str) -> Result<Agent> {
    grid.office_agent(owner, &format!("agent-{owner}"), &[], &OPTIONS)
}

fn seed() -> Result<u64> {
    match std::env::var("LULL_SEED") {
        Ok(seed) => seed.parse().context("LULL_SEED is a number"),
        Err(_) => Ok(rand::random()),
    }
}

#[test]
fn units_survive_any_number_of_kills() -> Result<()> {
    let seed = seed()?;
    #[allow(clippy::print_stdout, reason = "to run a failed test again")]
    {
        println!("LULL_SEED={seed}");
    }
    let mut random = StdRng::seed_from_u64(seed);
    let grid = Grid::start(LEASE_TTL_SECS)?;
    let token = grid.submitter("search", "100")?;
    let mut agent = agent(&grid, "ada")?;
    let job = submit(&grid, &token, &KNOWN)?;
    let (mut of_runners, mut of_agents) = (0, 0);
    let mut seen = BTreeMap::new();
    while wait_new_checkpoint(&grid, &job, &agent, &seen)? {
        if random.random_bool(0.6) {
            for runner in agent.runners()? {
                of_runners += usize::from(kill_process(runner, Signal::KILL).is_ok());
            }
        } else {
            agent = agent.kill_and_restart()?;
            of_agents += 1;
        }
        seen = checkpoints(&agent);
    }
    // Merging is always checked by another owner.
    let _grace = self::agent(&grid, "grace")?;
    check_answer(&grid, &token, &job, &KNOWN)?;
    let log = agent.log();
    let resumed = log.matches("goes on from its checkpoint").count();
    #[allow(clippy::print_stdout, reason = "what the test has shown")]
    {
        println!(
            "killed {of_runners} runners and {of_agents} agents; went on from a checkpoint {resumed} times"
        );
    }
    assert!(of_runners + of_agents >= KILLS_MIN, "killed {of_runners} runners and {of_agents} agents only");
    assert!(resumed >= KILLS_MIN / 2, "went on {resumed} times only");
    assert!(!log.contains("is damaged") && !log.contains("is of no use"), "a checkpoint was damaged");
    assert_eq!(checkpoints(&agent), BTreeMap::new(), "what is reported needs no checkpoint");
    Ok(())
}

#[test]
fn what_an_agent_hands_back_another_finishes() -> Result<()> {
    let known = &KNOWN[3..];
    let grid = Grid::start(LEASE_TTL_SECS)?;
    let token = grid.submitter("search", "100")?;
    let ada = agent(&grid, "ada")?;
    let job = submit(&grid, &token, known)?;
    ensure!(wait_new_checkpoint(&grid, &job, &ada, &BTreeMap::new())?, "the unit was too quick");
    let log = grid.dir().join("agent-ada.log");

    // It is told to end, and given the time for it.
    drop(ada);

    check_log(&log, "a checkpoint is handed back")?;
    // The one or the other; what is merged is checked by both.
    let _others = [agent(&grid, "grace")?, agent(&grid, "mary")?];
    check_answer(&grid, &token, &job, known)
}

#[test]
fn a_frozen_guest_gives_its_memory_back_and_goes_on() -> Result<()> {
    let known = &KNOWN[3..];
    let grid = Grid::start(LEASE_TTL_SECS)?;
    let token = grid.submitter("search", "100")?;
    let options: Vec<&str> = OPTIONS.into_iter().chain(["--evict-secs", "1"]).collect();
    let agent = grid.office_agent("ada", "agent-ada", &[], &options)?;
    let job = submit(&grid, &token, known)?;
    ensure!(wait_new_checkpoint(&grid, &job, &agent, &BTreeMap::new())?, "the unit was too quick");

    say(&agent, &["pause", "--for", "1h"])?;

    let deadline = Instant::now() + DEADLINE;
    while !agent.runners()?.is_empty() {
        ensure!(Instant::now() < deadline, "the frozen runner keeps its memory");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert!(!checkpoints(&agent).is_empty());
    say(&agent, &["resume"])?;
    let _grace = self::agent(&grid, "grace")?;
    check_answer(&grid, &token, &job, known)?;
    let log = agent.log();
    assert!(log.contains("its memory went back"), "{log}");
    assert!(log.contains("goes on from its checkpoint"), "{log}");
    Ok(())
}

fn say(agent: &Agent, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(binary("lull-worker"));
    let output = command.args(arguments).arg("--state-dir").arg(&agent.state_dir).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn check_log(log: &Path, what: &str) -> Result<()> {
    let text = std::fs::read_to_string(log)?;
    ensure!(text.contains(what), "`{what}` is not in {}: {text}", log.display());
    Ok(())
}
