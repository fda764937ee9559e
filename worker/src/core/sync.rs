//! When to call the coordinator, and what to say.
//!
//! One call at a time. A call that reports something is answered at once; one that only asks for work is a
//! long poll, which gives way to the next thing that has to be said: the coordinator sends leases again
//! that the device does not list as held, so that nothing is lost with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lull_job::stage_to_proto;
use lull_proto::v1;

use super::agent::Progress;
use super::{Agent, AttemptKey, Backoff, Command, Network, Presence};

/// Time after which a person's presence sends unstarted units to somebody else.
pub const HAND_BACK_AFTER: Duration = Duration::from_secs(60);
/// How long the coordinator holds a call when there is no work.
pub const LONG_POLL: Duration = Duration::from_secs(20);
/// Finished units of a lease that is not done are reported this often.
pub const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Time for handing everything back when the agent ends.
pub const SHUTDOWN_TIME: Duration = Duration::from_secs(2);

/// An agent with nothing to say shows that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(60);
/// Time that an answer may take, beside the time that the call is held.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// A coordinator that answers long polls at once with nothing is asked this often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Attempts in one call, so that it stays well under the size of a message.
const REPORTS_MAX: usize = 1000;
/// Bytes of results in one call.
const REPORT_BYTES_MAX: usize = 1024 * 1024;

/// A call that is under way.
#[derive(Debug, Clone)]
pub(super) struct Call {
    id: u64,
    started_at: Instant,
    wait: Duration,
    free_slots: u32,
    pub(super) reports: Vec<AttemptKey>,
    pub(super) hand_backs: BTreeMap<u64, BTreeSet<u64>>,
    /// Whether the calls before it had failed.
    pub(super) is_first_in_a_while: bool,
}

impl Call {
    /// Whether it can be let go of: it only asks for work.
    const fn is_long_poll(&self) -> bool {
        !self.wait.is_zero()
    }
}

/// What there is to know about calls.
#[derive(Debug, Default)]
pub(super) struct Sync {
    last_id: u64,
    call: Option<Call>,
    last_call_at: Option<Instant>,
    last_report_at: Option<Instant>,
    told: Option<Presence>,
    backoff: Backoff,
    not_before: Option<Instant>,
    ask_not_before: Option<Instant>,
}

impl Sync {
    /// The call that this answers, if it is the one under way.
    pub(super) fn answered(&mut self, id: u64, is_empty: bool) -> Option<Call> {
        let mut call = self.call.take_if(|call| call.id == id)?;
        call.is_first_in_a_while = self.backoff.is_failing();
        self.backoff.reset();
        self.not_before = None;
        if is_empty && call.is_long_poll() {
            self.ask_not_before(call.started_at + ASK_EVERY);
        }
        Some(call)
    }

    /// Whether it is the call under way that failed.
    pub(super) fn failed(&mut self, id: u64, now: Instant, random: u32) -> bool {
        if self.call.take_if(|call| call.id == id).is_none() {
            return false;
        }
        // Nobody heard it: say all of it again.
        self.told = None;
        self.not_before = Some(now + self.backoff.next(random));
        true
    }

    /// Asks for no work before then.
    pub(super) fn ask_not_before(&mut self, at: Instant) {
        self.ask_not_before = Some(self.ask_not_before.map_or(at, |before| before.max(at)));
    }

    /// Says what is left to say now or never.
    pub(super) const fn hurry(&mut self) {
        self.not_before = None;
        self.last_report_at = None;
    }

    /// Whether the last call failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.backoff.is_failing()
    }

    pub(super) const fn is_quiet(&self) -> bool {
        self.call.is_none()
    }
}

impl Agent {
    /// Slots to ask for.
    pub(super) fn free_slots(&self) -> u32 {
        let is_resting = !self.presence.is_free() || self.network == Network::Metered;
        let is_hindered = self.is_disk_full || self.is_runner_unusable;
        if is_resting || is_hindered || self.is_draining || self.is_stopping() {
            return 0;
        }
        let busy = self.leases.values().filter(|lease| lease.has_work()).count();
        self.slots.saturating_sub(u32::try_from(busy).unwrap_or(u32::MAX))
    }

    /// When the next call is due; `None` while it has to wait for the one under way.
    pub(super) fn next_sync_at(&self, now: Instant) -> Option<Instant> {
        let sync = &self.sync;
        if sync.call.as_ref().is_some_and(|call| !call.is_long_poll()) {
            return None;
        }
        let due =
            [self.report_at(now), self.hand_back_or_presence_at(now), self.ask_at(now), self.alive_at(now)];
        let due = due.into_iter().flatten().min()?;
        Some(sync.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    fn report_at(&self, now: Instant) -> Option<Instant> {
        let mut ready = self.attempts.iter().filter(|(_, progress)| matches!(progress, Progress::Ready(_)));
        let is_done = |key: &AttemptKey| self.leases.get(&key.token).is_none_or(|lease| !lease.has_work());
        let (first, _) = ready.next()?;
        if is_done(first) || ready.any(|(key, _)| is_done(key)) {
            // The rest of a lease that is done is on its way to the disk: one call for all.
            return (!self.is_storing() || self.is_disk_full)
                .then_some(now)
                .or_else(|| self.report_later(now));
        }
        self.report_later(now)
    }

    fn report_later(&self, now: Instant) -> Option<Instant> {
        Some(self.sync.last_report_at.map_or(now, |last| last + REPORT_EVERY))
    }

    fn hand_back_or_presence_at(&self, now: Instant) -> Option<Instant> {
        let is_news = self.sync.told != Some(self.presence) && !self.is_stopping();
        let can_hand_back = self.hand_backs.keys().any(|token| self.can_hand_back(*token));
        (can_hand_back || is_news).then_some(now)
    }

    fn ask_at(&self, now: Instant) -> Option<Instant> {
        let free = self.free_slots();
        let asked = self.sync.call.as_ref().map_or(0, |call| call.free_slots);
        if free == asked || self.is_storing() {
            return None;
        }
        Some(self.sync.ask_not_before.map_or(now, |not_before| not_before.max(now)))
    }

    fn alive_at(&self, now: Instant) -> Option<Instant> {
        if self.is_stopping() {
            return None;
        }
        let every = self.renewal().map_or(ALIVE_EVERY, |time| time / 3);
        Some(self.sync.last_call_at.map_or(now, |last| last + every))
    }

    /// The shortest time to live of a held lease.
    fn renewal(&self) -> Option<Duration> {
        self.leases.values().map(|lease| lease.time_to_live).min()
    }

    /// The next call.
    pub(super) fn call(&mut self, now: Instant) -> Command {
        let (reports, keys) = self.reports();
        let free_slots = match self.sync.ask_not_before {
            Some(not_before) if not_before > now => 0,
            _ => self.free_slots(),
        };
        let (hand_backs, later): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.hand_backs.clone().into_iter().partition(|(token, _)| self.can_hand_back(*token));
        let is_only_asking = keys.is_empty() && hand_backs.is_empty() && free_slots > 0;
        let wait = if is_only_asking {
            self.renewal().map_or(LONG_POLL, |time| LONG_POLL.min(time / 4))
        } else {
            Duration::ZERO
        };
        let messages = hand_backs.iter().map(|(token, indices)| v1::HandBack {
            lease_token: *token,
            indices: indices.iter().copied().collect(),
            checkpoints: self.checkpoints_to_hand_back(*token, indices),
        });
        // What waits for its checkpoints to be uploaded is still held.
        let held: BTreeSet<u64> = self.leases.keys().chain(later.keys()).copied().collect();
        let request = v1::SyncRequest {
            presence: self.presence.to_proto().into(),
            free_slots,
            max_units: 0,
            reports,
            held_leases: held.into_iter().collect(),
            hand_backs: messages.collect(),
            wait: prost_types::Duration::try_from(wait).ok(),
            // Whoever keeps the receipts says which there are.
            held_receipts: None,
        };
        let sync = &mut self.sync;
        sync.last_id += 1;
        sync.last_call_at = Some(now);
        sync.told = Some(self.presence);
        if !keys.is_empty() {
            sync.last_report_at = Some(now);
        }
        let id = sync.last_id;
        sync.call = Some(Call {
            id,
            started_at: now,
            wait,
            free_slots,
            reports: keys,
            hand_backs,
            is_first_in_a_while: false,
        });
        let timeout = if self.is_stopping() { SHUTDOWN_TIME } else { wait + ANSWER_TIME };
        Command::Sync { id, request, timeout }
    }

    /// What is ready, by lease, up to the size of a call.
    fn reports(&self) -> (Vec<v1::LeaseReport>, Vec<AttemptKey>) {
        let mut reports: Vec<v1::LeaseReport> = Vec::new();
        let mut keys = Vec::new();
        let mut bytes = 0;
        for (key, progress) in &self.attempts {
            let Progress::Ready(attempt) = progress else { continue };
            bytes += attempt.message_bytes();
            if keys.len() == REPORTS_MAX || (bytes > REPORT_BYTES_MAX && !keys.is_empty()) {
                break;
            }
            keys.push(*key);
            match reports.last_mut() {
                Some(report) if report.lease_token == key.token => report.attempts.push(attempt.to_proto()),
                _ => reports.push(v1::LeaseReport {
                    lease_token: key.token,
                    job_id: attempt.job_id,
                    stage: Some(stage_to_proto(attempt.stage)),
                    attempts: vec![attempt.to_proto()],
                }),
            }
        }
        (reports, keys)
    }
}
