//! What the agent answers its owner: a status, whether it pauses, what it earned.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::{Answer, Ask, LeaseStatus, PAUSE_SECS_MAX, Pause, Request, SourceView, Status};
use crate::core::{Agent, Event, Whereabouts};
use crate::notify::Clerk;
use crate::presence::{Meter, Watcher};
use crate::remote::unix_secs;
use crate::walls::Walls;

/// While it is paused, the wall clock is looked at this often: the PC may have slept, or the clock was set.
const PAUSE_LOOK_EVERY: Duration = Duration::from_secs(30);

/// While guests rest, it is looked this often whether a person has come or gone: presence stays the same where the
/// PC rests for two reasons.
const PEOPLE_LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known of the coordinator.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    problem: Option<String>,
    since_unix_secs: Option<u64>,
}

impl Contact {
    /// A call ended. Whether it ended in another way than the one before.
    pub(crate) fn note(&mut self, problem: Option<String>, now_unix_secs: u64) -> bool {
        let is_news = self.since_unix_secs.is_none() || self.problem != problem;
        if self.since_unix_secs.is_none() || self.problem.is_some() != problem.is_some() {
            self.since_unix_secs = Some(now_unix_secs);
        }
        self.problem = problem;
        is_news
    }
}

/// Answers the owner.
pub(crate) struct Desk {
    watcher: Watcher,
    meter: Meter,
    walls: Walls,
    pause: Pause,
    coordinator: String,
    contact: Arc<Mutex<Contact>>,
    clerk: Clerk,
    /// When to look for people again; `None` while presence itself would tell.
    people_at: Option<Instant>,
    is_paused: bool,
    finished: u64,
}

impl Desk {
    /// Pauses at once if an earlier run was paused, and that is not over.
    pub(crate) fn new(
        watcher: Watcher,
        pause: Pause,
        coordinator: String,
        contact: Arc<Mutex<Contact>>,
        clerk: Clerk,
    ) -> Self {
        let mut desk = Self {
            watcher,
            meter: Meter::unwatched(),
            walls: Walls::default(),
            pause,
            coordinator,
            contact,
            clerk,
            people_at: None,
            is_paused: false,
            finished: 0,
        };
        let Self { pause, watcher, is_paused, .. } = &mut desk;
        hold(pause, watcher, is_paused, unix_secs());
        desk
    }

    /// The same, that tells of a network whose price matters.
    pub(crate) fn with_meter(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// The same, that tells what holds runners back.
    pub(crate) fn with_walls(self, walls: Walls) -> Self {
        Self { walls, ..self }
    }

    /// A lease could not be worked on: it may be that no runner can be used any more.
    pub(crate) fn look_at_walls_again(&self) {
        self.walls.look_again();
    }

    /// A unit ended.
    pub(crate) const fn count_finished(&mut self) {
        self.finished += 1;
    }

    /// When [`Desk::look`] has something to do.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let pause_at = self.is_paused.then(|| Instant::now() + PAUSE_LOOK_EVERY);
        pause_at.into_iter().chain(self.people_at).min()
    }

    /// Ends a pause that is over by either clock, and looks whether somebody has come or gone.
    pub(crate) fn look(&mut self, has_presence_changed: bool) {
        let now = Instant::now();
        if has_presence_changed || self.people_at.is_some_and(|at| at <= now) {
            let seen = self.watcher.status();
            self.people_at = (!seen.presence.is_free()).then(|| now + PEOPLE_LOOK_EVERY);
            self.clerk.see(Whereabouts::of(seen.people, &seen.rests));
        }
        if self.is_paused && self.pause.until(unix_secs(), now).is_none() {
            self.end_pause();
        }
    }

    /// Answers, and says what the core has to hear.
    pub(crate) fn answer(&mut self, ask: Ask, agent: &Agent) -> Option<Event> {
        let now = unix_secs();
        let (answer, event) = match ask.request {
            Request::Status {} => (Answer::Status(Box::new(self.status(agent, now))), None),
            Request::Earnings {} => {
                self.clerk.answer(ask.answer);
                return None;
            }
            Request::Pause { until_unix_secs } => (self.start_pause(until_unix_secs, now), None),
            Request::Resume {} => {
                self.end_pause();
                (Answer::Done {}, None)
            }
            Request::Drain {} => {
                tracing::info!("draining: what runs is finished, nothing new is taken");
                (Answer::Done {}, Some(Event::DrainRequested))
            }
        };
        // A client that did not wait hears nothing.
        let _ = ask.answer.send(answer);
        event
    }

    fn start_pause(&mut self, until: u64, now: u64) -> Answer {
        if until <= now || until - now > PAUSE_SECS_MAX {
            return Answer::Refused {
                message: "a pause ends within 30 days, and not in the past".to_owned(),
            };
        }
        let Self { pause, watcher, is_paused, .. } = self;
        match pause.begin(until, |pause| hold(pause, watcher, is_paused, now)) {
            Ok(()) => Answer::Done {},
            Err(error) => Answer::Refused {
                message: format!(
                    "it is paused, but not beyond a restart: the state directory cannot be written: {error}"
                ),
            },
        }
    }

    fn end_pause(&mut self) {
        if let Err(error) = self.pause.end() {
            tracing::warn!(%error, "the end of a pause cannot be kept: a restart would pause again");
        }
        self.watcher.resume();
        if std::mem::take(&mut self.is_paused) {
            tracing::info!("the pause is over");
        }
    }

    fn status(&self, agent: &Agent, now_unix_secs: u64) -> Status {
        let now = Instant::now();
        let (snapshot, seen) = (agent.snapshot(), self.watcher.status());
        let contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        let leases = snapshot.leases.into_iter().map(|lease| LeaseStatus {
            token: lease.token,
            job_id: lease.job_id,
            units: lease.units,
            done: lease.done,
            running: lease.running,
        });
        let network =
            SourceView { name: "network".to_owned(), is_readable: true, detail: self.meter.detail() };
        let sources = seen.sources.into_iter().map(SourceView::from);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            coordinator: self.coordinator.clone(),
            coordinator_problem: contact.problem.clone(),
            coordinator_since_unix_secs: contact.since_unix_secs,
            presence: seen.presence.word().to_owned(),
            presence_secs: now.saturating_duration_since(seen.since).as_secs(),
            rests: seen.rests.iter().map(|rest| rest.sentence(now)).collect(),
            sources: sources.chain([network]).collect(),
            walls: self.walls.line(),
            slots: snapshot.slots,
            earned: self.clerk.latest(),
            leases: leases.collect(),
            finished: self.finished,
            unreported: snapshot.unreported,
            is_disk_full: snapshot.is_disk_full,
            runner_problem: self.walls.problem(),
            network_problem: self.meter.is_metered().then(|| self.meter.detail()),
            is_draining: snapshot.is_draining,
            paused_until_unix_secs: self.pause.until(now_unix_secs, now),
        }
    }
}

/// Freezes every runner if there is a pause.
fn hold(pause: &mut Pause, watcher: &Watcher, is_paused: &mut bool, now_unix_secs: u64) {
    let now = Instant::now();
    if let Some(ends_at) = pause.hold(now_unix_secs, now) {
        watcher.pause(ends_at);
        *is_paused = true;
        tracing::info!(until_unix_secs = pause.until(now_unix_secs, now), "paused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_that_is_away_is_news_once() {
        let mut contact = Contact::default();
        let away = || Some("Unavailable".to_owned());
        let news = [None, None, away(), away(), Some("another".to_owned()), None];
        let news = news.map(|problem| contact.note(problem, 7));
        assert_eq!(news, [true, false, true, false, true, true]);
    }
}
