//! A serial computation outlives whatever is killed under it: the Lucas-Lehmer test, whose residues are known.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use lull_abi::{Payload, Stage, Unit};
use lull_job::Digest;
use lull_sandbox::checkpoint::Progress;
use lull_sandbox::{
    FUEL_MAX, Flavour, Freezer, Limits, Outcome, Program, RunOn, Runner, RunnerConfig, WallPolicy,
};
use lull_tests::grid::{AgentAtRest, wait_until};
use lull_tests::{Agent, DEADLINE, Grid, JobFile, binary, guest};
use lull_worker::checkpoints::{CHECKPOINTS_BYTES_MAX, Store};
use lull_worker::core::UnitName;
use lull_worker::identity::Identity;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Signal, kill_process};

/// Longer than the test: a lease is lost by nobody's silence.
const LEASE_TTL_SECS: u64 = 120;
/// How often an agent checkpoints, in seconds: after the first step, then as often as a hundredth of the time allows.
const OPTIONS: [&str; 5] = ["--dedicated", "--slots", "1", "--checkpoint-secs", "0.001"];

/// Exponents, and what is known of them: all but 9697 are those of Mersenne primes (OEIS A000043); the residue of
/// 9697 is as the Great Internet Mersenne Prime Search lists it.
const KNOWN: [&str; 4] = [
    "9689 prime 0000000000000000",
    "9697 composite a23dad2328692889",
    "11213 prime 0000000000000000",
    "21701 prime 0000000000000000",
];
/// The last of them, which takes some seconds, for tests that need one unit only.
const ONE: usize = KNOWN.len() - 1;
/// Two that make a unit which takes twice as long: memory is looked at every few seconds only.
const LONG: [&str; 2] = ["21701 prime 0000000000000000", "23209 prime 0000000000000000"];

/// Checkpoints from one blow to the next, at most: some step of a unit each.
const CHECKPOINTS_BETWEEN_MAX: u32 = 3;

/// More than a unit has.
const STEPS_MAX: u64 = 2000;

/// What befalls units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// Their runner is killed.
    Runner,
    /// So is their agent, and started again.
    Agent,
    /// Their agent ends, and hands them back; the other owner's is started.
    Migration,
}

/// How often: a hundred times in all.
const BLOWS: [(Blow, usize); 3] = [(Blow::Runner, 55), (Blow::Agent, 27), (Blow::Migration, 18)];

fn submit(grid: &Grid, token: &str, known: &[&str]) -> Result<String> {
    submit_in_units(grid, token, known, 1)
}

fn submit_in_units(grid: &Grid, token: &str, known: &[&str], each: usize) -> Result<String> {
    let path = grid.dir().join("exponents.txt");
    let exponents: Vec<&str> = known.iter().filter_map(|line| line.split(' ').next()).collect();
    std::fs::write(&path, exponents.join("\n") + "\n")?;
    let file = JobFile::of("lucas")
        .path("split.lines", &path)
        .set("items_per_unit", each)
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

/// The state of a unit after some steps, by its index and the steps.
type States = BTreeMap<(u64, u64), Digest>;

/// Every state that units come through that nothing befalls.
fn undisturbed(known: &[&str]) -> Result<States> {
    let config = RunnerConfig { path: binary("lull-runner"), require: WallPolicy::Required };
    let mut runner = Runner::start(&config, &Freezer::new())?;
    let limits = Limits { memory_bytes: 64 << 20, unit_secs: 3600, result_bytes: 4096, fuel: FUEL_MAX };
    runner.load(&Program {
        module: &std::fs::read(guest("lucas"))?,
        inputs: &[],
        limits,
        flavour: Flavour::Normal,
    })?;
    let mut states = States::new();
    for (index, line) in (0..).zip(known) {
        let exponent = line.split(' ').next().unwrap_or_default();
        let payload = Payload::Lines(vec![exponent.into()]);
        let unit = Unit { stage: Stage::Work, number: index, payload };
        let how = RunOn { witnesses: (1..=STEPS_MAX).collect(), ..RunOn::default() };
        let run = runner.run_on(&unit, how, &mut |progress| {
            if let Progress::Witnessed { steps, digest } = progress {
                states.insert((index, steps), Digest::from_bytes(digest));
            }
        })?;
        ensure!(run.outcome == Outcome::Result(format!("{line}\n").into_bytes()), "{:?}", run.outcome);
    }
    Ok(states)
}

/// The states of units that an agent has on disk.
fn states_on_disk(agent: &Agent) -> Result<States> {
    // A copy: opening a folder of checkpoints removes what is being written there.
    let copy = tempfile::tempdir()?;
    for name in checkpoints(agent).keys() {
        // One that was just handed in is gone.
        let _ = std::fs::copy(agent.state_dir.join("checkpoints").join(name), copy.path().join(name));
    }
    let identity = Identity::read_in(&agent.state_dir)?.context("the agent is enrolled")?;
    let store = Store::open(copy.path(), CHECKPOINTS_BYTES_MAX, identity)?;
    let mut states = States::new();
    for entry in std::fs::read_dir(copy.path())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let parts: Vec<&str> = name.splitn(4, '-').collect();
        let [job_id, stage, index, made_of] = parts[..] else { bail!("a checkpoint is called {name}") };
        let stage = Stage::from_code(stage.parse()?);
        let unit =
            UnitName { job_id: job_id.parse()?, stage, index: index.parse()?, made_of: made_of.parse()? };
        let (saved, _) = store.get(&unit).with_context(|| format!("the checkpoint {name} is damaged"))?;
        if stage == Stage::Work {
            states.insert((unit.index, saved.steps), saved.state_digest);
        }
    }
    Ok(states)
}

/// Two owners' agents, of which one runs.
struct Relay {
    here: Agent,
    there: Option<AgentAtRest>,
}

impl Relay {
    fn suffer(self, blow: Blow, grid: &Grid) -> Result<Self> {
        let Self { here, there } = self;
        Ok(match blow {
            Blow::Runner => {
                for runner in here.runners()? {
                    kill_process(runner, Signal::KILL)?;
                }
                Self { here, there }
            }
            Blow::Agent => Self { here: here.kill_and_restart()?, there },
            Blow::Migration => {
                let rested = here.stop();
                let here = there.map_or_else(|| agent(grid, "grace"), AgentAtRest::start)?;
                Self { here, there: Some(rested) }
            }
        })
    }
}

#[test]
fn units_survive_a_hundred_kills_and_migrations() -> Result<()> {
    let seed = seed()?;
    #[allow(clippy::print_stdout, reason = "to run a failed test again")]
    {
        println!("LULL_SEED={seed}");
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut blows: Vec<Blow> = BLOWS.iter().flat_map(|(blow, times)| vec![*blow; *times]).collect();
    blows.shuffle(&mut random);
    let wanted = std::thread::spawn(|| undisturbed(&KNOWN));
    let grid = Grid::start(LEASE_TTL_SECS)?;
    let token = grid.submitter("search", "100")?;
    let mut relay = Relay { here: agent(&grid, "ada")?, there: None };
    let mut jobs = vec![submit(&grid, &token, &KNOWN)?];
    let (mut seen, mut states) = (BTreeMap::new(), States::new());
    for blow in &blows {
        for _ in 0..random.random_range(1..=CHECKPOINTS_BETWEEN_MAX) {
            // On a quick machine the work is done before its time: then there is more of it.
            while !wait_new_checkpoint(&grid, jobs.last().context("a job")?, &relay.here, &seen)? {
                ensure!(jobs.len() < blows.len(), "no job lasts for a blow");
                jobs.push(submit(&grid, &token, &KNOWN)?);
            }
            seen = checkpoints(&relay.here);
        }
        states.extend(states_on_disk(&relay.here)?);
        relay = relay.suffer(*blow, &grid)?;
        seen = checkpoints(&relay.here);
    }
    // Merging is always checked by another owner.
    let Relay { here, there } = relay;
    let agents = [here, there.context("a migration")?.start()?];
    for job in &jobs {
        check_answer(&grid, &token, job, &KNOWN)?;
    }
    let undisturbed = wanted.join().map_err(|_| anyhow!("the undisturbed run panicked"))??;
    for (unit, state) in &states {
        assert_eq!(undisturbed.get(unit), Some(state), "unit and steps {unit:?}");
    }
    let log: String = agents.iter().map(Agent::log).collect();
    let (resumed, handed_back) = (
        log.matches("goes on from its checkpoint").count(),
        log.matches("a checkpoint is handed back").count(),
    );
    #[allow(clippy::print_stdout, reason = "what the test has shown")]
    {
        println!(
            "{BLOWS:?}: {} states as undisturbed, went on from a checkpoint {resumed} times, handed {handed_back} back",
            states.len()
        );
    }
    // A blow may fall between two units.
    assert!(resumed >= blows.len() / 2, "went on {resumed} times only");
    assert!(states.len() >= blows.len() / 2, "{} states seen only", states.len());
    assert!(handed_back > 0);
    assert!(!log.contains("is damaged") && !log.contains("is of no use"), "a checkpoint was damaged");
    for agent in &agents {
        assert_eq!(checkpoints(agent), BTreeMap::new(), "what is reported needs no checkpoint");
    }
    Ok(())
}

#[test]
fn what_an_agent_hands_back_another_finishes() -> Result<()> {
    let known = &KNOWN[ONE..];
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
    let known = &KNOWN[ONE..];
    let grid = Grid::start(LEASE_TTL_SECS)?;
    let token = grid.submitter("search", "100")?;
    let options: Vec<&str> = OPTIONS.into_iter().chain(["--evict-secs", "1"]).collect();
    let agent = grid.office_agent("ada", "agent-ada", &[], &options)?;
    let job = submit(&grid, &token, known)?;
    ensure!(wait_new_checkpoint(&grid, &job, &agent, &BTreeMap::new())?, "the unit was too quick");

    say(&agent, &["pause", "--for", "1h"])?;

    wait_no_runner(&agent)?;
    assert!(!checkpoints(&agent).is_empty());
    say(&agent, &["resume"])?;
    let _grace = self::agent(&grid, "grace")?;
    check_answer(&grid, &token, &job, known)?;
    let log = agent.log();
    assert!(log.contains("its memory went back"), "{log}");
    assert!(log.contains("goes on from its checkpoint"), "{log}");
    Ok(())
}

#[test]
fn a_unit_whose_lease_was_lost_goes_on_when_it_comes_again() -> Result<()> {
    let known = &KNOWN[ONE..];
    let grid = Grid::start(3)?;
    let token = grid.submitter("search", "100")?;
    let agent = agent(&grid, "ada")?;
    let job = submit(&grid, &token, known)?;
    ensure!(wait_new_checkpoint(&grid, &job, &agent, &BTreeMap::new())?, "the unit was too quick");

    // The PC is away for longer than its lease lives. First its runner: it could end the unit meanwhile.
    for runner in agent.runners()? {
        kill_process(runner, Signal::STOP)?;
    }
    kill_process(agent.pid(), Signal::STOP)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        wait_until(&client, "expired", "NOT EXISTS (SELECT FROM lease WHERE NOT expired)").await
    })?;
    kill_process(agent.pid(), Signal::CONT)?;

    let deadline = Instant::now() + DEADLINE;
    while !agent.log().contains("goes on from its checkpoint") {
        ensure!(Instant::now() < deadline, "it began anew: {}", agent.log());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(agent.log().contains("a lease is lost"), "{}", agent.log());
    // What is merged is checked by both.
    let _grace = self::agent(&grid, "grace")?;
    check_answer(&grid, &token, &job, known)
}

/// Writes what `/proc/meminfo` says, in one piece and as long as before: whoever reads meanwhile sees the one or the other.
fn write_meminfo(path: &Path, available_mib: u64) -> Result<()> {
    let text = format!("MemAvailable: {:12} kB\n", available_mib * 1024);
    let mut file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

#[test]
fn a_guest_is_evicted_when_memory_is_short_and_goes_on_when_it_is_not() -> Result<()> {
    let known = &LONG;
    let grid = Grid::start(LEASE_TTL_SECS)?;
    let token = grid.submitter("search", "100")?;
    let meminfo = grid.dir().join("meminfo");
    write_meminfo(&meminfo, 4096)?;
    // Not by the time that it is frozen: that is switched off.
    let options: Vec<&str> = OPTIONS[3..]
        .iter()
        .copied()
        .chain(["--memory-free-bytes", "1073741824", "--evict-secs", "0"])
        .collect();
    let agent = grid.agent_with_meminfo("ada", "agent-ada", &meminfo, &options)?;
    let job = submit_in_units(&grid, &token, known, LONG.len())?;
    ensure!(wait_new_checkpoint(&grid, &job, &agent, &BTreeMap::new())?, "the unit was too quick");

    write_meminfo(&meminfo, 1023)?;

    wait_no_runner(&agent)?;
    assert!(!checkpoints(&agent).is_empty());
    let log = agent.log();
    assert!(log.contains("only 1023 MiB of memory are available"), "{log}");
    assert!(!log.contains("goes on from its checkpoint"), "{log}");
    write_meminfo(&meminfo, 4096)?;
    let _grace = self::agent(&grid, "grace")?;
    check_answer(&grid, &token, &job, known)?;
    let log = agent.log();
    assert!(log.contains("its memory went back"), "{log}");
    assert!(log.contains("goes on from its checkpoint"), "{log}");
    Ok(())
}

fn wait_no_runner(agent: &Agent) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !agent.runners()?.is_empty() {
        ensure!(Instant::now() < deadline, "the frozen runner keeps its memory");
        std::thread::park_timeout(Duration::from_millis(10));
    }
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
