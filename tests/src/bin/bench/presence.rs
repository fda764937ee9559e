//! What the person at a PC feels of the agent: how soon guests stop, how little it takes at rest.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lull_tests::display::Display;
use lull_tests::grid::DEADLINE;
use lull_tests::procfs::{cpu_nanos, guest_cpu_nanos, is_guest_stopped, resident_bytes};
use lull_tests::{Agent, Grid, JobFile};
use rustix::process::Pid;

use crate::{Figure, percentile_ms};

/// Times that the person comes back.
const TRIALS: i16 = 200;
/// The shortest idle delay that the agent allows.
const IDLE_DELAY_SECS: u64 = 1;
/// Guests that run: one for each core.
const GUESTS: u32 = 2;
/// How long the agent is watched at rest.
const REST: Duration = Duration::from_secs(60);
/// How often a process is looked at: seldom enough to leave it the CPU.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// After a movement guests are looked at for this long: shorter than the idle delay, after which they go on.
const WATCH: Duration = Duration::from_millis(900);
/// CPU time that it may take a thread to be stopped. One that waits for the CPU is stopped when it gets it, which can be late
/// on a busy PC: it takes that time then, and does nothing else.
const TAKES_TO_STOP_NANOS: u64 = 200_000;

/// From a mouse movement to guests that take no CPU any more, and from the end of the idle delay to guests whose threads are
/// not stopped, while two busy loops want both cores.
pub(crate) fn latencies() -> Result<Vec<Figure>> {
    let display = Display::start()?;
    let grid = Grid::start(60)?;
    let agent = office_agent(&grid, &display, GUESTS)?;
    let token = grid.submitter("lab", "1000")?;
    // Units that never end: what is measured is the PC, not the guest.
    let items = vec!["hang"; GUESTS as usize];
    let file = JobFile::probe_lines(grid.dir(), "endless", &items)?
        .set("copies", 1)
        .set("limits.unit_secs", 3600)
        .write(grid.dir(), "endless")?;
    let job = grid.submit(&token, &file, &[])?;
    let runners = wait_for_guests(&agent)?;
    let _busy = [Busy::start()?, Busy::start()?];
    let (mut stops, mut resumes) = (Vec::new(), Vec::new());
    for trial in 0..TRIALS {
        let moved = display.move_mouse(10 + trial % 100, 20)?;
        let (stop, are_stopped) = watch_stop(&runners, moved)?;
        stops.push(stop);
        if !are_stopped {
            // They wait for the CPU, and have not been marked as stopped: whether they go on again cannot be seen.
            let idle_delay = Duration::from_secs(IDLE_DELAY_SECS);
            until("the idle delay is over", || moved.elapsed() > idle_delay * 2)?;
            continue;
        }
        until("guests go on", || runners.iter().all(|pid| !is_guest_stopped(*pid)))?;
        resumes.push(moved.elapsed().saturating_sub(Duration::from_secs(IDLE_DELAY_SECS)));
    }
    ensure!(resumes.len() >= stops.len() / 2, "too busy a machine: {} of {TRIALS} stops seen", resumes.len());
    ensure!(agent.runners()? == runners, "a runner was replaced while it was measured");
    grid.lull_as(&token, &["cancel", &job])?;
    let ms = |name, value| Figure { name, value, unit: "ms" };
    Ok(vec![
        ms("stop_latency_p50_ms", percentile_ms(&mut stops, 50)),
        ms("stop_latency_p99_ms", percentile_ms(&mut stops, 99)),
        ms("resume_latency_p99_ms", percentile_ms(&mut resumes, 99)),
    ])
}

/// When the last of these guests took its last CPU time after a movement, but for what stopping takes; and whether all were
/// marked as stopped meanwhile.
fn watch_stop(runners: &[Pid], moved: Instant) -> Result<(Duration, bool)> {
    let mut looks: Vec<(Duration, Vec<u64>)> = Vec::new();
    let are_stopped = loop {
        // First the state: a guest takes nothing once it is stopped.
        let are_stopped = runners.iter().all(|pid| is_guest_stopped(*pid));
        let taken = runners.iter().map(|pid| guest_cpu_nanos(*pid)).collect::<Result<_>>()?;
        looks.push((moved.elapsed(), taken));
        if are_stopped || moved.elapsed() > WATCH {
            break are_stopped;
        }
        std::thread::park_timeout(LOOK_EVERY);
    };
    let (at, taken) = looks.last().context("it was looked at least once")?;
    let is_done = |now: &[u64]| now.iter().zip(taken).all(|(now, end)| now + TAKES_TO_STOP_NANOS >= *end);
    Ok((looks.iter().find(|(_, now)| is_done(now)).map_or(*at, |(at, _)| *at), are_stopped))
}

/// An agent whose person is there: it watches, holds no work, and keeps in touch with its coordinator.
pub(crate) fn at_rest() -> Result<Vec<Figure>> {
    let display = Display::start()?;
    let grid = Grid::start(60)?;
    let agent = office_agent(&grid, &display, GUESTS)?;
    until("the agent is idle", || agent.log().contains("presence=Idle"))?;
    let (start, cpu) = (Instant::now(), cpu_nanos(agent.pid())?);
    while let Some(left) = REST.checked_sub(start.elapsed()) {
        std::thread::park_timeout(left);
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_nanos(agent.pid())? - cpu);
    let rss = resident_bytes(agent.pid())?;
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
    let (mib, percent) = (rss as f64 / f64::from(1 << 20), cpu as f64 / elapsed.as_nanos() as f64 * 100.0);
    Ok(vec![
        Figure { name: "agent_rss_mib", value: mib, unit: "MiB" },
        Figure { name: "agent_cpu_percent", value: percent, unit: "% of a core" },
    ])
}

fn office_agent(grid: &Grid, display: &Display, slots: u32) -> Result<Agent> {
    let (idle_delay, slots) = (IDLE_DELAY_SECS.to_string(), slots.to_string());
    // The busy loops beside it, and the machine's other work, are no reason to rest here: what is measured is the
    // way from the input to the guests.
    let options = ["--idle-delay-secs", &idle_delay, "--slots", &slots, "--cpu-wanted-percent", "off"];
    grid.office_agent("owner", "office-pc", &[("DISPLAY", display.name())], &options)
}

/// The runners, once their guests compute.
fn wait_for_guests(agent: &Agent) -> Result<Vec<Pid>> {
    let computes = |pid: &Pid| cpu_nanos(*pid).is_ok_and(|nanos| nanos > 500_000_000);
    let mut runners = Vec::new();
    until("guests compute", || {
        runners = agent.runners().unwrap_or_default();
        runners.len() == GUESTS as usize && runners.iter().all(computes)
    })?;
    Ok(runners)
}

fn until(what: &str, mut happened: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !happened() {
        ensure!(start.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}");
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

/// Somebody else's program that takes a core.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Ok(Self(command.spawn().context("a busy loop")?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
