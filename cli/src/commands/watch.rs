//! `lull watch`: a job, live, until it ends. It survives a coordinator that is away for an hour.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lull_proto::v1;
use tokio::time::{Instant, MissedTickBehavior};

use super::progress::{self, Pace};
use super::summary;
use crate::error::{Error, Exit, Result, is_in_transit};
use crate::grid::{Grid, interruptible, pause};
use crate::out::{self, Format};
use crate::text::name;
use crate::view;

/// Rhythm of lines where nobody watches a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// JSON lines at the most this often, apart from changes of stage.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// How long a coordinator may be away before its job is given up here.
const AWAY_MAX: Duration = Duration::from_secs(3600);
/// First wait before connecting again; it doubles up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY_MIN: Duration = Duration::from_millis(500);
/// Longest wait: somebody may stand before the screen.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(15);

/// Follow a job until it ends, then summarise it
///
/// On a terminal a bar, elsewhere a line every ten seconds and at every change of stage.
/// Ctrl-C stops watching; the job goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lull watch 12

Ends with 0 when the answer is there, with 6 when the job ended without one.

JSON: one job, as `lull jobs JOB` prints it, on each line: at most one a second and
one at every change of stage; the last line is the end.")]
pub(crate) struct WatchArgs {
    /// The job, such as 12 or jobs/12
    #[arg(value_name = "JOB", value_parser = name::job)]
    pub(crate) job: String,
}

/// Watches.
///
/// # Errors
/// A job that ended without an answer; a coordinator away for too long; Ctrl-C.
pub(crate) async fn run(grid: &Grid, name: &str, format: Format) -> Result<()> {
    let mut display = Display::new(name, format);
    let followed = follow(grid, name, &mut display).await;
    display.clear();
    let job = followed.map_err(|error| match error.exit {
        Exit::Interrupted => Error::new(
            Exit::Interrupted,
            format!("stopped watching; {name} goes on (`lull watch {name}` returns to it, `lull cancel {name}` ends it)"),
        ),
        _ => error.about(name),
    })?;
    match format {
        Format::Json => out::json(&view::Job::from(&job))?,
        Format::Table => out::line(&summary::ended(&job))?,
    }
    verdict(&job)
}

/// Whether a job that ended has its answer.
fn verdict(job: &v1::Job) -> Result<()> {
    let advice = match job.state() {
        v1::JobState::Complete => return Ok(()),
        v1::JobState::Incomplete => {
            format!("`lull results {} --failed` says which units failed and why", job.name)
        }
        _ => "submit it again to have its answer".to_owned(),
    };
    let message = format!("{} is {}: {advice}", job.name, view::job_state(job.state()));
    Err(Error::new(Exit::NoAnswer, message))
}

/// How one stream ended.
enum Followed {
    Ended(Box<v1::Job>),
    Lost(tonic::Status),
}

async fn follow(grid: &Grid, name: &str, display: &mut Display) -> Result<v1::Job> {
    let mut delay = RETRY_DELAY_MIN;
    let mut last_word = Instant::now();
    loop {
        let words_before = display.words;
        let status = match interruptible(follow_stream(grid, name, display)).await? {
            Followed::Ended(job) => return Ok(*job),
            Followed::Lost(status) => status,
        };
        if display.words > words_before {
            last_word = Instant::now();
            delay = RETRY_DELAY_MIN;
        }
        let is_first_contact = display.words == 0;
        if is_first_contact || last_word.elapsed() > AWAY_MAX {
            return Err(grid.explain(&status));
        }
        display.away(&grid.explain(&status));
        pause(delay).await?;
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

async fn follow_stream(grid: &Grid, name: &str, display: &mut Display) -> Result<Followed> {
    let request = v1::WatchJobRequest { name: name.to_owned() };
    let mut stream = match grid.jobs().watch_job(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return lost(grid, status),
    };
    let mut ticks = tokio::time::interval(LINE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = ticks.tick() => {
                display.tick();
                continue;
            }
        };
        match message {
            Ok(Some(job)) if is_running(&job) => display.show(job)?,
            Ok(Some(job)) => {
                display.show(job.clone())?;
                return Ok(Followed::Ended(Box::new(job)));
            }
            Ok(None) => return Ok(Followed::Lost(tonic::Status::unavailable("the stream ended"))),
            Err(status) => return lost(grid, status),
        }
    }
}

fn is_running(job: &v1::Job) -> bool {
    matches!(job.state(), v1::JobState::Running | v1::JobState::Unspecified)
}

fn lost(grid: &Grid, status: tonic::Status) -> Result<Followed> {
    if is_in_transit(&status) { Ok(Followed::Lost(status)) } else { Err(grid.explain(&status)) }
}

/// What a person or a log sees of the job.
struct Display {
    name: String,
    format: Format,
    start: Instant,
    pace: Pace,
    bar: Option<ProgressBar>,
    latest: Option<v1::Job>,
    json_at: Option<Instant>,
    /// Messages shown so far.
    words: u64,
}

impl Display {
    fn new(name: &str, format: Format) -> Self {
        let bar = out::is_watched().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{wide_bar}] {percent}%\n{msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        Self {
            name: name.to_owned(),
            format,
            start: Instant::now(),
            pace: Pace::default(),
            bar,
            latest: None,
            json_at: None,
            words: 0,
        }
    }

    fn show(&mut self, job: v1::Job) -> Result<()> {
        let progress = job.progress.unwrap_or_default();
        self.pace.record(self.start.elapsed(), progress::decided(&progress));
        let stage = |job: &v1::Job| job.progress.as_ref().and_then(|progress| progress.stage);
        let is_news = self.latest.as_ref().is_none_or(|latest| stage(latest) != stage(&job));
        let is_first_back = self.words == 0 || is_news;
        self.words += 1;
        if let Some(bar) = &self.bar {
            bar.set_length(progress.units.max(1));
            bar.set_position(progress::decided(&progress));
            bar.set_message(format!("{}\n{}", progress::units(&job), progress::figures(&job, &self.pace)));
        } else if is_first_back {
            out::say(&progress::line(&job, &self.pace));
        }
        let json_is_due = self.json_at.is_none_or(|at| at.elapsed() >= JSON_INTERVAL);
        if self.format == Format::Json && is_running(&job) && (is_news || json_is_due) {
            self.json_at = Some(Instant::now());
            out::json(&view::Job::from(&job))?;
        }
        self.latest = Some(job);
        Ok(())
    }

    /// Ten seconds went by.
    fn tick(&mut self) {
        let Some(job) = &self.latest else { return };
        let decided = progress::decided(&job.progress.unwrap_or_default());
        self.pace.record(self.start.elapsed(), decided);
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{}\n{}", progress::units(job), progress::figures(job, &self.pace)));
            }
            None => out::say(&progress::line(job, &self.pace)),
        }
    }

    fn away(&self, error: &Error) {
        let text = format!("{}: {error}; trying again", self.name);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => out::say(&text),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_decides_the_exit() {
        let check = |state: v1::JobState, expected: Option<(Exit, &str)>| {
            let job = v1::Job { name: "jobs/3".to_owned(), state: state.into(), ..Default::default() };
            match (verdict(&job), expected) {
                (Ok(()), None) => {}
                (Err(error), Some((exit, text))) => {
                    assert_eq!(error.exit, exit);
                    assert!(error.message.contains(text), "{error}");
                }
                (given, expected) => panic!("{given:?}, not {expected:?}"),
            }
        };
        check(v1::JobState::Complete, None);
        check(v1::JobState::Incomplete, Some((Exit::NoAnswer, "`lull results jobs/3 --failed`")));
        check(v1::JobState::Cancelled, Some((Exit::NoAnswer, "jobs/3 is cancelled")));
    }
}
