//! What the owner says to a running agent. stdout is data, stderr is talk.

mod earnings;
mod logs;
mod verify;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Days, Local, NaiveTime};

use crate::args::{Command, DoctorArgs, EarningsCommand, Output, PauseArgs, PlaceArgs, state_dir};
use crate::control::{Answer, AskError, Request, Status, ask, socket_path, text};
use crate::doctor;
use crate::remote::unix_secs;

const EXIT_UNEXPECTED: u8 = 1;
const EXIT_NOT_RUNNING: u8 = 5;
const EXIT_UNWELL: u8 = 6;
const EXIT_DIFFERS: u8 = 7;

/// How often `drain --wait` looks whether the agent has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Carries out any command but `run` and `config`. `config` is the settings file that was named.
#[must_use]
pub fn run(command: &Command, config: Option<&Path>) -> ExitCode {
    match carry_out(command, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Unwell>() => ExitCode::from(EXIT_UNWELL),
        Err(error) if error.is::<verify::Differs>() => ExitCode::from(EXIT_DIFFERS),
        // Whoever read it has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}", whole(&error)));
            let is_absent = matches!(error.downcast_ref(), Some(AskError::NotRunning));
            ExitCode::from(if is_absent { EXIT_NOT_RUNNING } else { EXIT_UNEXPECTED })
        }
    }
}

/// Whether stdout is a pipe that nobody reads any more. What goes wrong with the agent's socket is another error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn carry_out(command: &Command, config: Option<&Path>) -> anyhow::Result<()> {
    match command {
        Command::Run(_) | Command::Config(_) => unreachable!("carried out elsewhere"),
        Command::Status(arguments) => {
            let status = status(&socket(&arguments.place)?)?;
            let shown = match arguments.output {
                Output::Json => serde_json::to_string(&status)?,
                Output::Text => text(&status, unix_secs(), |secs| clock(secs, Local::now())),
            };
            writeln!(io::stdout().lock(), "{shown}").context("stdout cannot be written")
        }
        Command::Earnings(arguments) => match &arguments.command {
            Some(EarningsCommand::Verify(arguments)) => verify::run(arguments),
            None => earnings::run(arguments),
        },
        Command::Pause(arguments) => pause(arguments),
        Command::Resume(place) => {
            ask(&socket(place)?, &Request::Resume {})?;
            say("Not paused. Guests run whenever the PC is free.");
            Ok(())
        }
        Command::Drain(arguments) => drain(&socket(&arguments.place)?, arguments.wait),
        Command::Doctor(arguments) => doctor(arguments, config),
        Command::Logs(arguments) => logs::logs(arguments),
    }
}

fn doctor(arguments: &DoctorArgs, config: Option<&Path>) -> anyhow::Result<()> {
    let findings = doctor::examine(&arguments.run, config);
    let shown = match arguments.output {
        Output::Json => serde_json::to_string_pretty(&findings)?,
        Output::Text => doctor::text(&findings),
    };
    writeln!(io::stdout().lock(), "{shown}").context("stdout cannot be written")?;
    let has_problem = findings.iter().any(|finding| finding.level == doctor::Level::Problem);
    if has_problem { Err(Unwell.into()) } else { Ok(()) }
}

/// The doctor found a problem, and has said so.
#[derive(Debug, thiserror::Error)]
#[error("the doctor found a problem")]
struct Unwell;

fn pause(arguments: &PauseArgs) -> anyhow::Result<()> {
    let now = Local::now();
    let until = match (arguments.secs, arguments.until) {
        (Some(secs), _) => unix_secs().saturating_add(secs),
        (None, Some(time)) => next(time, now).context("that time of day does not exist on that day")?,
        (None, None) => unreachable!("clap demands one of them"),
    };
    ask(&socket(&arguments.place)?, &Request::Pause { until_unix_secs: until })?;
    say(&format!("Paused until {}. `lull-worker resume` ends it before.", clock(until, now)));
    Ok(())
}

fn drain(socket: &Path, wait: bool) -> anyhow::Result<()> {
    let before = status(socket)?;
    ask(socket, &Request::Drain {})?;
    if !wait {
        say("Draining: the agent finishes what runs, takes nothing new, and ends.");
        return Ok(());
    }
    loop {
        match status(socket) {
            // Whoever keeps the agent alive may have started another.
            Ok(now) if now.pid == before.pid => thread::park_timeout(LOOK_EVERY),
            Ok(_) => break,
            Err(_) if !socket.exists() => break,
            Err(error) => match error.downcast_ref() {
                Some(AskError::NotRunning) => break,
                _ => thread::park_timeout(LOOK_EVERY),
            },
        }
    }
    say("The agent has ended; nothing was lost.");
    Ok(())
}

fn status(socket: &Path) -> anyhow::Result<Status> {
    match ask(socket, &Request::Status {})? {
        Answer::Status(status) => Ok(*status),
        other => anyhow::bail!(
            "the agent answered {other:?} to a question about its status: is it of another version?"
        ),
    }
}

fn state_dir_of(place: &PlaceArgs) -> anyhow::Result<PathBuf> {
    state_dir(place.state_dir.as_deref())
        .context("neither HOME nor XDG_STATE_HOME says where the agent keeps things: pass --state-dir")
}

fn socket(place: &PlaceArgs) -> anyhow::Result<PathBuf> {
    let state_dir = state_dir_of(place)?;
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    Ok(socket_path(&state_dir, runtime_dir.as_deref())?)
}

/// When it is that time of day next, in Unix seconds; `None` in the hour that a change of clocks leaves out.
fn next<Z: chrono::TimeZone>(time: NaiveTime, now: DateTime<Z>) -> Option<u64> {
    let today = now.date_naive();
    let day = if time > now.time() { today } else { today.checked_add_days(Days::new(1))? };
    // In the hour that a change of clocks repeats there are two.
    let at = now.timezone().from_local_datetime(&day.and_time(time));
    let at = [at.clone().earliest(), at.latest()].into_iter().flatten().find(|at| *at > now)?;
    u64::try_from(at.timestamp()).ok()
}

/// A moment as people say it: the time, with the day if it is another.
fn clock<Z: chrono::TimeZone>(unix_secs: u64, now: DateTime<Z>) -> String
where
    Z::Offset: std::fmt::Display,
{
    let at = i64::try_from(unix_secs).ok().and_then(|secs| DateTime::from_timestamp(secs, 0));
    let Some(at) = at.map(|at| at.with_timezone(&now.timezone())) else { return "a far day".to_owned() };
    let format = if at.date_naive() == now.date_naive() { "%H:%M" } else { "%H:%M on %a %-d %B" };
    at.format(format).to_string()
}

/// An error with its causes, each said once: some name theirs themselves.
#[must_use]
pub fn whole(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let join = |said: String, cause: String| {
        if said.ends_with(&cause) { said } else { format!("{said}: {cause}") }
    };
    causes.reduce(join).unwrap_or_default()
}

/// A line of talk. A stderr that nobody reads stops nothing.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};

    use super::*;

    /// Clocks that are set back from 3:00 to 2:00 on 25 October 2026, at 1:00 UTC.
    #[derive(Debug, Clone, Copy)]
    struct Autumn;

    impl Autumn {
        fn summer(self) -> FixedOffset {
            FixedOffset::east_opt(7200).unwrap()
        }

        fn winter(self) -> FixedOffset {
            FixedOffset::east_opt(3600).unwrap()
        }

        fn change(self) -> NaiveDateTime {
            NaiveDate::from_ymd_opt(2026, 10, 25).unwrap().and_hms_opt(1, 0, 0).unwrap()
        }
    }

    impl TimeZone for Autumn {
        type Offset = FixedOffset;

        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }

        fn offset_from_local_date(&self, _: &NaiveDate) -> MappedLocalTime<FixedOffset> {
            MappedLocalTime::None
        }

        fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
            if *local < self.change() + TimeDelta::hours(1) {
                MappedLocalTime::Single(self.summer())
            } else if *local < self.change() + TimeDelta::hours(2) {
                MappedLocalTime::Ambiguous(self.summer(), self.winter())
            } else {
                MappedLocalTime::Single(self.winter())
            }
        }

        fn offset_from_utc_date(&self, _: &NaiveDate) -> FixedOffset {
            self.winter()
        }

        fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
            if *utc < self.change() { self.summer() } else { self.winter() }
        }
    }

    #[test]
    fn in_the_hour_that_comes_twice_a_time_of_day_is_still_to_come() {
        let at = |hour, minute, second| {
            let day = NaiveDate::from_ymd_opt(2026, 10, 25).unwrap();
            Autumn.from_utc_datetime(&day.and_hms_opt(hour, minute, second).unwrap())
        };
        let until = NaiveTime::from_hms_opt(2, 45, 0).unwrap();
        let check = |now: DateTime<Autumn>, wanted: DateTime<Autumn>| {
            assert_eq!(next(until, now), u64::try_from(wanted.timestamp()).ok(), "{now}");
        };
        check(at(0, 30, 0), at(0, 45, 0));
        check(at(1, 30, 0), at(1, 45, 0));
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = AskError::Broken { path: "/s".to_owned(), source };
        assert_eq!(
            whole(&anyhow::Error::from(error).context("not asked")),
            "not asked: the agent at /s cannot be spoken to: permission denied"
        );
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let now = Utc.with_ymd_and_hms(2026, 11, 24, 16, 30, 0).unwrap();
        let at = |hour, minute| next(NaiveTime::from_hms_opt(hour, minute, 0).unwrap(), now).unwrap();
        assert_eq!(clock(at(18, 0), now), "18:00");
        assert_eq!(clock(at(16, 30), now), "16:30 on Wed 25 November");
    }
}
