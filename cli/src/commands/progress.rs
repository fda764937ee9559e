//! How far a job is, in words and figures: pure functions of what the coordinator said and when.

use std::collections::VecDeque;
use std::time::Duration;

use lull_proto::v1;

use crate::text::{amount, human};
use crate::view;

/// A rate is that of the last minute: long enough to be steady, short enough to follow the grid.
const WINDOW: Duration = Duration::from_secs(60);

/// Rate at which units are decided.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// (when, units decided by then), oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Notes that so many units were decided at this time since the watch began.
    pub(crate) fn record(&mut self, at: Duration, decided: u64) {
        self.samples.push_back((at, decided));
        // One sample older than the window stays: the window begins at it.
        while self.samples.get(1).is_some_and(|(next, _)| at.saturating_sub(*next) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Units decided in the window, and its length in milliseconds; `None` until there is anything to say.
    fn window(&self) -> Option<(u128, u128)> {
        let (start, before) = self.samples.front()?;
        let (end, after) = self.samples.back()?;
        let units = u128::from(after.saturating_sub(*before));
        let millis = end.saturating_sub(*start).as_millis();
        (units > 0 && millis > 0).then_some((units, millis))
    }

    /// Units a second with one digit, such as `3.2 units/s`, or an hour where that says more.
    fn rate(&self) -> Option<String> {
        let (units, millis) = self.window()?;
        let tenths = units * 10_000 / millis;
        Some(match tenths {
            0 => format!("{} units/h", units * 3_600_000 / millis),
            1..1_000 => format!("{}.{} units/s", tenths / 10, tenths % 10),
            _ => format!("{} units/s", human::count(u64::try_from(tenths / 10).unwrap_or(u64::MAX))),
        })
    }

    /// How long so many units take at this rate.
    fn eta(&self, left: u64) -> Option<Duration> {
        let (units, millis) = self.window()?;
        let millis = u128::from(left) * millis / units;
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// Units with a verdict.
pub(crate) fn decided(progress: &v1::Progress) -> u64 {
    progress.units_accepted.saturating_add(progress.units_failed)
}

/// Units done, running and left: what stands beside a bar.
pub(crate) fn units(job: &v1::Job) -> String {
    let progress = job.progress.unwrap_or_default();
    let failed = match progress.units_failed {
        0 => String::new(),
        failed => format!(", {} failed", human::count(failed)),
    };
    format!(
        "{}/{} units, {} running, {} left{failed}",
        human::count(progress.units_accepted),
        human::count(progress.units),
        human::count(progress.units_running),
        human::count(view::units_left(&progress)),
    )
}

/// Stage, copies, rate, time left and money: what stands below a bar.
pub(crate) fn figures(job: &v1::Job, pace: &Pace) -> String {
    let progress = job.progress.unwrap_or_default();
    let costs = job.costs.clone().unwrap_or_default();
    let mut parts = vec![
        view::stage(progress.stage.as_ref()),
        match progress.attempts {
            1 => "1 copy run".to_owned(),
            attempts => format!("{} copies run", human::count(attempts)),
        },
    ];
    parts.extend(pace.rate());
    let undecided = progress.units.saturating_sub(decided(&progress));
    parts.extend(pace.eta(undecided).map(|eta| format!("ETA {}", human::duration(eta))));
    let budget = amount::money(&costs.budget, view::currency(job));
    parts.push(format!("spent {} of {budget}", amount::show(&costs.spent)));
    if job.state() == v1::JobState::Running && !job.reason.is_empty() {
        parts.push(human::plain(&job.reason));
    }
    parts.join(", ")
}

/// All of it on one line, for logs.
pub(crate) fn line(job: &v1::Job, pace: &Pace) -> String {
    format!("{}: {}; {}", human::plain(&job.name), units(job), figures(job, pace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> v1::Job {
        v1::Job {
            name: "jobs/3".to_owned(),
            state: v1::JobState::Running.into(),
            progress: Some(v1::Progress {
                stage: Some(v1::Stage { kind: v1::StageKind::Work.into(), level: 0 }),
                units: 2_488,
                units_accepted: 1_200,
                units_running: 8,
                attempts: 2_405,
                ..Default::default()
            }),
            costs: Some(v1::Costs {
                budget: "2500".to_owned(),
                spent: "1200.5".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn pace(samples: &[(u64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (secs, decided) in samples {
            pace.record(Duration::from_secs(*secs), *decided);
        }
        pace
    }

    #[test]
    fn one_line_says_everything() {
        assert_eq!(
            line(&job(), &pace(&[(0, 1_184), (10, 1_200)])),
            "jobs/3: 1,200/2,488 units, 8 running, 1,280 left; \
             work, 2,405 copies run, 1.6 units/s, ETA 13 min 25 s, spent 1200.500000 of 2500.000000"
        );
    }

    #[test]
    fn nothing_is_guessed_before_something_happened() {
        let line = line(&job(), &pace(&[(0, 1_200), (10, 1_200)]));
        assert!(!line.contains("units/s") && !line.contains("ETA"), "{line}");
    }

    #[test]
    fn failures_and_reasons_are_told() {
        let mut job = job();
        job.reason = "waits for a second owner".to_owned();
        job.progress.as_mut().unwrap().units_failed = 2;
        let line = line(&job, &Pace::default());
        assert!(line.contains("1,278 left, 2 failed"), "{line}");
        assert!(line.ends_with("of 2500.000000, waits for a second owner"), "{line}");
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let check = |samples: &[(u64, u64)], rate: Option<&str>| {
            assert_eq!(pace(samples).rate().as_deref(), rate, "{samples:?}");
        };
        check(&[], None);
        check(&[(0, 5)], None);
        check(&[(0, 0), (10, 32)], Some("3.2 units/s"));
        check(&[(0, 0), (10, 20_000)], Some("2,000 units/s"));
        check(&[(0, 0), (60, 1)], Some("60 units/h"));
        // What happened before the window does not count.
        check(&[(0, 0), (100, 100_000), (200, 100_100)], Some("1.0 units/s"));
        // A replaced result takes a verdict back.
        check(&[(0, 10), (10, 9)], None);
    }
}
