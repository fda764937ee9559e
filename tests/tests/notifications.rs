//! Who comes back to an office PC is told what it earned: a real agent, grid, display and bus.

use std::process::Command;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lull_tests::bus::{Bus, Desktop};
use lull_tests::display::Display;
use lull_tests::money::parts;
use lull_tests::{Agent, DEADLINE, Grid, JobFile, binary};
use serde_json::Value;

/// An office PC whose display is the only reason to rest, and a rack that checks its results.
struct Office {
    grid: Grid,
    display: Display,
    agent: Agent,
    token: String,
    _rack: Agent,
}

fn office(bus: &Bus) -> Result<Office> {
    office_at("DBUS_SESSION_BUS_ADDRESS", bus.address())
}

/// The same, whose session bus is told of by that variable.
fn office_at(variable: &str, value: &str) -> Result<Office> {
    let display = Display::start()?;
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "10")?;
    let rack = grid.agent("grace", "rack")?;
    let desktop = [("DISPLAY", display.name()), (variable, value)];
    let calm = ["--cpu-wanted-percent=off", "--memory-free-bytes=off", "--idle-delay-secs=1", "--slots=1"];
    let sessions = ["--on-battery=run", "--inhibited=run", "--remote-sessions=run", "--other-sessions=run"];
    let agent = grid.office_agent("ada", "desk", &desktop, &[&calm[..], &sessions[..]].concat())?;
    let office = Office { grid, display, agent, token, _rack: rack };
    office.wait("in touch", |office| Ok(office.earnings().is_ok()))?;
    Ok(office)
}

impl Office {
    fn earnings(&self) -> Result<Value> {
        let mut command = Command::new(binary("lull-worker"));
        command.args(["earnings", "--output", "json", "--state-dir"]).arg(&self.agent.state_dir);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Whether nobody is there, as the agent remembers it.
    fn is_away(&self) -> Result<bool> {
        let text = std::fs::read(self.agent.state_dir.join("absence.json")).unwrap_or_default();
        let memory: Value = serde_json::from_slice(&text).unwrap_or_default();
        Ok(memory["is_away"] == true)
    }

    fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !done(self)? {
            ensure!(Instant::now() < deadline, "{what}: not in time; {}", self.agent.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }

    /// While nobody is there, a job of so many units is done and paid.
    fn earn(&self, name: &str, items: &[&str]) -> Result<()> {
        self.wait("away", Self::is_away)?;
        let file = JobFile::probe_lines(self.grid.dir(), name, items)?.write(self.grid.dir(), name)?;
        let job = self.grid.submit(&self.token, &file, &[])?;
        self.grid.wait_end(&job, "complete").map(drop)
    }

    /// Somebody moves the mouse, and the agent has seen them.
    fn come_back(&self, x: i16) -> Result<()> {
        self.display.move_mouse(x, 7)?;
        // Each look takes long enough for them to have left again, which counts all the same.
        self.wait("back", |office| {
            office.display.move_mouse(x, 8)?;
            office.display.move_mouse(x, 9)?;
            Ok(!office.is_away()?)
        })
    }
}

fn amount(figure: &Value) -> Result<i128> {
    Ok(parts(figure["amount"].as_str().context("an amount")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_once_in_an_hour_what_was_earned() -> Result<()> {
    let bus = Bus::start()?;
    let desktop = Desktop::start(&bus).await?;
    let office = office(&bus)?;
    office.earn("first", &["echo a", "echo b", "echo c"])?;

    office.come_back(5)?;

    let shown = desktop.shown.recv_timeout(DEADLINE).context(office.agent.log())?;
    let earned = office.earnings()?;
    let total = amount(&earned["total"])?;
    assert!(total >= parts("0.03"), "three units at 0.01, and the finish unit: {earned}");
    assert_eq!(shown.app, "Lull");
    let said = shown.summary.strip_prefix("While you were away this PC earned ").context("the amount")?;
    let said = said.strip_suffix(" EUR").context("its currency")?;
    assert_eq!(said.len() - said.find('.').context("a point")? - 1, 6, "six places: {said}");
    assert_eq!(parts(said), total, "{shown:?} {earned}");
    let units = format!("{} units, verified and paid so far.\n", earned["total"]["units"]);
    assert_eq!(shown.body, format!("{units}This month: {said} EUR"), "{earned}");

    office.earn("second", &["echo d"])?;
    office.come_back(50)?;
    // The clerk does one thing after the other: whatever the return has brought is over when this is answered.
    let more = office.earnings()?;
    assert!(amount(&more["total"])? > total, "{more}");
    assert!(amount(&more["since_left"])? < amount(&more["total"])?, "{more}");
    assert_eq!(desktop.shown.try_recv(), Err(TryRecvError::Empty), "the hour is not over");
    office.grid.check_books()
}

#[test]
fn a_desktop_without_notifications_is_no_error_and_is_asked_once() -> Result<()> {
    let bus = Bus::start()?;
    let office = office(&bus)?;
    office.earn("first", &["echo a"])?;
    office.come_back(5)?;
    let before = office.earnings()?;
    let log = office.agent.log();
    assert_eq!(log.matches("no notification was shown").count(), 1, "{log}");
    office.earn("second", &["echo b"])?;
    office.come_back(50)?;
    let after = office.earnings()?;
    assert!(amount(&after["total"])? > amount(&before["total"])?, "{before} {after}");
    let log = office.agent.log();
    assert_eq!(log.matches("no notification was shown").count(), 1, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_bus_at_its_usual_place_needs_no_address() -> Result<()> {
    let bus = Bus::start()?;
    let desktop = Desktop::start(&bus).await?;
    let runtime_dir = tempfile::tempdir()?;
    let socket = bus.address().split([',', ';']).find_map(|part| part.strip_prefix("unix:path="));
    std::os::unix::fs::symlink(socket.context("a path")?, runtime_dir.path().join("bus"))?;
    let office = office_at("XDG_RUNTIME_DIR", runtime_dir.path().to_str().context("a path in UTF-8")?)?;
    office.earn("first", &["echo a"])?;

    office.come_back(5)?;

    let shown = desktop.shown.recv_timeout(DEADLINE).context(office.agent.log())?;
    assert!(shown.summary.starts_with("While you were away this PC earned "), "{shown:?}");
    Ok(())
}
