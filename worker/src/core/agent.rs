//! Leases, units and reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lull_proto::v1;

use super::checkpoint::Held;
use super::lease::Lease;
use super::sync::{HAND_BACK_AFTER, SHUTDOWN_TIME, Sync};
use super::{Attempt, AttemptKey, Backoff, Body, CHECKPOINT_UPLOAD_TIME_AT_END, Network, Presence, UnitName};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Presence is this now. Freezing is done already: it does not wait for this.
    PresenceChanged(Presence),
    /// The network is this now.
    NetworkChanged(Network),
    /// A unit ended, and is being written to the outbox.
    UnitFinished(AttemptKey),
    /// An attempt is on disk. Also sent for each one that an earlier run left there.
    Stored(Attempt),
    /// The outbox cannot be written: attempts wait in memory.
    StoreFailed,
    /// The outbox can be written again, and all that waited is on disk.
    StoreRecovered,
    /// No runner can be used: it is not there, or less holds it back than the owner asks for.
    RunnerUnusable,
    /// One can be used.
    RunnerUsable,
    /// The upload of an attempt's result ended.
    UploadEnded(AttemptKey, UploadEnd),
    /// A unit has a checkpoint on disk, under a lease that is held.
    CheckpointSaved(AttemptKey, UnitName),
    /// The upload of a checkpoint ended: as it is to be named to the coordinator, if that has it.
    CheckpointUploaded(AttemptKey, Option<Box<v1::Checkpoint>>),
    /// A lease cannot be worked on.
    LeaseFailed {
        /// Which.
        token: u64,
    },
    /// The coordinator answered.
    SyncAnswered {
        /// Which call.
        id: u64,
        /// What it said.
        response: v1::SyncResponse,
    },
    /// The coordinator did not answer.
    SyncFailed {
        /// Which call.
        id: u64,
        /// Why.
        failure: SyncFailure,
    },
    /// The time that [`Agent::wake_at`] named has come.
    Woken,
    /// The agent is to finish what runs, take nothing new, and end.
    DrainRequested,
    /// The agent is to end.
    StopRequested,
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadEnd {
    /// The coordinator has it.
    Done,
    /// It may work later.
    TryAgain,
    /// The coordinator will not have it; the report is sent all the same, and says why.
    Refused,
    /// The file is gone or is not what it was: the attempt is lost, the unit has to be run again.
    Unreadable,
}

/// Why the coordinator did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncFailure {
    /// It may answer later.
    Unreachable,
    /// It does not know this device.
    Unauthenticated,
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// Start a runner for a lease. It runs what [`Command::Run`] names.
    Start(Arc<v1::Lease>),
    /// Run a unit of a started lease.
    Run(AttemptKey),
    /// End the runner of a lease and forget what it does.
    End {
        /// Which lease.
        token: u64,
    },
    /// Call the coordinator, and let go of the call that is under way.
    Sync {
        /// Stands in the event that answers.
        id: u64,
        /// What to say.
        request: v1::SyncRequest,
        /// When to give up.
        timeout: Duration,
    },
    /// Upload the result of an attempt.
    Upload(Attempt),
    /// Take an attempt out of the outbox.
    Forget(AttemptKey),
    /// Look whether units of a lease have checkpoints on disk, and tell of each.
    FindCheckpoints(Arc<v1::Lease>),
    /// Upload the last checkpoint of a unit, whose lease is about to be handed back.
    UploadCheckpoint(AttemptKey, UnitName),
    /// Remove the checkpoint of a unit from the disk.
    DropCheckpoint(UnitName),
    /// Tell the log that a report was not recorded.
    LogRefusal(v1::Refusal),
    /// Tell the log that a lease ended before its units did.
    LogLost {
        /// Which lease.
        token: u64,
    },
    /// End the process: everything is handed back, or could not be in time.
    Exit,
    /// End the process: the coordinator does not know this device any more.
    ExitUnknownDevice,
}

/// A coordinator has to deny for so long that it knows this device before the agent gives up: one that was started on
/// another's state for a moment must not end every agent of a grid.
const UNKNOWN_FOR: Duration = Duration::from_secs(600);
/// And so often: a call may have been held up by a PC that slept, before and after it was offline for days.
const DENIALS_MIN: u32 = 3;

/// Where a finished attempt is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// On its way to the disk.
    Storing,
    /// On disk; its result is on its way to the coordinator.
    Uploading(Attempt),
    /// On disk; its result could not be uploaded.
    UploadAt(Attempt, Instant),
    /// To be reported.
    Ready(Attempt),
}

/// The agent's state.
#[derive(Debug)]
pub struct Agent {
    pub(super) slots: u32,
    pub(super) presence: Presence,
    /// Since when the PC has not been free.
    busy_since: Option<Instant>,
    pub(super) network: Network,
    pub(super) leases: BTreeMap<u64, Lease>,
    pub(super) attempts: BTreeMap<AttemptKey, Progress>,
    /// What the coordinator is still to hear: units of a lease, or all of it (empty).
    pub(super) hand_backs: BTreeMap<u64, BTreeSet<u64>>,
    /// Where started units stand.
    pub(super) checkpoints: BTreeMap<AttemptKey, Held>,
    pub(super) is_disk_full: bool,
    pub(super) is_runner_unusable: bool,
    pub(super) sync: Sync,
    failed_leases: Backoff,
    uploads: Backoff,
    /// Since when the coordinator says that it does not know this device.
    unknown_since: Option<Instant>,
    /// How often it has said so since.
    denials: u32,
    pub(super) is_draining: bool,
    stop_by: Option<Instant>,
    is_over: bool,
}

impl Agent {
    /// An agent with nothing to do, on a PC of which nothing is known.
    #[must_use]
    pub fn new(slots: u32, now: Instant) -> Self {
        Self {
            slots: slots.max(1),
            presence: Presence::Unknown,
            busy_since: Some(now),
            network: Network::Free,
            leases: BTreeMap::new(),
            attempts: BTreeMap::new(),
            hand_backs: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            is_disk_full: false,
            is_runner_unusable: false,
            sync: Sync::default(),
            failed_leases: Backoff::default(),
            uploads: Backoff::default(),
            unknown_since: None,
            denials: 0,
            is_draining: false,
            stop_by: None,
            is_over: false,
        }
    }

    /// Takes an event in, and says what to do. `random` spreads retries.
    pub fn handle(&mut self, event: Event, now: Instant, random: u32) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.is_over {
            return commands;
        }
        match event {
            Event::PresenceChanged(presence) => self.presence_changed(presence, now),
            Event::NetworkChanged(network) => self.network = network,
            Event::UnitFinished(key) => self.unit_finished(key),
            Event::Stored(attempt) => self.stored(attempt, now, &mut commands),
            Event::StoreFailed => self.is_disk_full = true,
            Event::StoreRecovered => self.is_disk_full = false,
            Event::RunnerUnusable => self.is_runner_unusable = true,
            Event::RunnerUsable => self.is_runner_unusable = false,
            Event::UploadEnded(key, end) => self.upload_ended(key, end, now, random, &mut commands),
            Event::CheckpointSaved(key, unit) => self.checkpoint_saved(key, unit),
            Event::CheckpointUploaded(key, checkpoint) => self.checkpoint_uploaded(key, checkpoint),
            Event::LeaseFailed { token } => self.lease_failed(token, now, random, &mut commands),
            Event::SyncAnswered { id, response } => self.sync_answered(id, response, now, &mut commands),
            Event::SyncFailed { id, failure } => self.sync_failed(id, failure, now, random, &mut commands),
            Event::Woken => {}
            Event::DrainRequested => self.is_draining = true,
            Event::StopRequested => self.stop(now, &mut commands),
        }
        self.advance(now, &mut commands);
        commands
    }

    /// When to send [`Event::Woken`], if nothing happens before.
    #[must_use]
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let uploads = self.upload_at().into_iter().chain(self.checkpoint_uploads_end());
        uploads.chain(self.stop_by).chain(self.hand_back_at()).chain(self.next_sync_at(now)).min()
    }

    /// Whether an event could still make it run a guest.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    fn presence_changed(&mut self, presence: Presence, now: Instant) {
        self.presence = presence;
        self.busy_since = if presence.is_free() { None } else { Some(self.busy_since.unwrap_or(now)) };
    }

    fn unit_finished(&mut self, key: AttemptKey) {
        if let Some(lease) = self.leases.get_mut(&key.token) {
            if lease.running == Some(key.index) {
                lease.running = None;
            }
            lease.unrecorded.insert(key.index);
        }
        self.attempts.insert(key, Progress::Storing);
    }

    fn stored(&mut self, attempt: Attempt, now: Instant, commands: &mut Vec<Command>) {
        let key = attempt.key;
        self.drop_checkpoint(key, commands);
        let progress = match attempt.body {
            Body::Inline(_) => Progress::Ready(attempt),
            Body::File if self.network == Network::Metered => Progress::UploadAt(attempt, now),
            Body::File => {
                commands.push(Command::Upload(attempt.clone()));
                Progress::Uploading(attempt)
            }
        };
        self.attempts.insert(key, progress);
    }

    pub(super) fn is_storing(&self) -> bool {
        self.attempts.values().any(|progress| matches!(progress, Progress::Storing))
    }

    fn upload_ended(
        &mut self,
        key: AttemptKey,
        end: UploadEnd,
        now: Instant,
        random: u32,
        commands: &mut Vec<Command>,
    ) {
        let Some(Progress::Uploading(attempt)) = self.attempts.remove(&key) else { return };
        match end {
            UploadEnd::Done | UploadEnd::Refused => {
                self.uploads.reset();
                self.attempts.insert(key, Progress::Ready(attempt));
            }
            UploadEnd::TryAgain => {
                let at = now + self.uploads.next(random);
                self.attempts.insert(key, Progress::UploadAt(attempt, at));
            }
            UploadEnd::Unreadable => {
                commands.push(Command::Forget(key));
                if let Some(lease) = self.leases.get_mut(&key.token) {
                    lease.unrecorded.remove(&key.index);
                    self.hand_backs.entry(key.token).or_default().insert(key.index);
                }
            }
        }
    }

    fn lease_failed(&mut self, token: u64, now: Instant, random: u32, commands: &mut Vec<Command>) {
        if self.leases.contains_key(&token) {
            self.give_up(token, commands);
            let wait = self.failed_leases.next(random);
            self.sync.ask_not_before(now + wait);
        }
    }

    /// Hands back all of a lease that is not finished.
    fn give_up(&mut self, token: u64, commands: &mut Vec<Command>) {
        let Some(lease) = self.leases.remove(&token) else { return };
        if lease.is_started {
            commands.push(Command::End { token });
        }
        if lease.unrecorded.is_empty() {
            self.hand_backs.insert(token, BTreeSet::new());
        } else {
            // An empty list would give back what is finished here too, and is not reported yet.
            let unfinished = lease.running.iter().chain(&lease.waiting).copied();
            let hand_back = self.hand_backs.entry(token).or_default();
            hand_back.extend(unfinished);
            if hand_back.is_empty() {
                self.hand_backs.remove(&token);
            }
        }
    }

    fn sync_answered(
        &mut self,
        id: u64,
        response: v1::SyncResponse,
        now: Instant,
        commands: &mut Vec<Command>,
    ) {
        let Some(call) = self.sync.answered(id, response.leases.is_empty()) else { return };
        (self.unknown_since, self.denials) = (None, 0);
        if call.is_first_in_a_while {
            self.uploads.reset();
            for progress in self.attempts.values_mut() {
                if let Progress::UploadAt(_, at) = progress {
                    *at = now;
                }
            }
        }
        for key in call.reports {
            self.attempts.remove(&key);
            if let Some(lease) = self.leases.get_mut(&key.token) {
                lease.unrecorded.remove(&key.index);
            }
            commands.push(Command::Forget(key));
        }
        commands.extend(response.refusals.into_iter().map(Command::LogRefusal));
        for (token, indices) in call.hand_backs {
            if self.hand_backs.get(&token) == Some(&indices) {
                self.hand_backs.remove(&token);
                self.drop_checkpoints(token, &indices, commands);
            }
        }
        for token in response.lost_leases {
            if let Some(lease) = self.leases.remove(&token) {
                commands.push(Command::LogLost { token });
                if lease.is_started {
                    commands.push(Command::End { token });
                }
            }
            self.hand_backs.remove(&token);
            self.leave_checkpoints(token);
        }
        for message in response.leases {
            self.take(message, commands);
        }
        if self.stop_by.is_some() {
            self.stop(now, commands);
        }
    }

    fn take(&mut self, message: v1::Lease, commands: &mut Vec<Command>) {
        let token = message.token;
        if self.leases.contains_key(&token) || self.hand_backs.contains_key(&token) {
            return;
        }
        let is_finished = |index| self.attempts.contains_key(&AttemptKey { token, index });
        let lease = Lease::new(message, is_finished);
        commands.push(Command::FindCheckpoints(Arc::clone(&lease.message)));
        self.leases.insert(token, lease);
    }

    fn sync_failed(
        &mut self,
        id: u64,
        failure: SyncFailure,
        now: Instant,
        random: u32,
        commands: &mut Vec<Command>,
    ) {
        if !self.sync.failed(id, now, random) {
            return;
        }
        self.unknown_since = match failure {
            SyncFailure::Unreachable => self.unknown_since,
            SyncFailure::Unauthenticated => {
                self.denials += 1;
                Some(self.unknown_since.unwrap_or(now))
            }
        };
        if self.stop_by.is_some() {
            self.end(Command::Exit, commands);
        } else if self.denials >= DENIALS_MIN
            && self.unknown_since.is_some_and(|since| since + UNKNOWN_FOR <= now)
        {
            self.end(Command::ExitUnknownDevice, commands);
        }
    }

    fn stop(&mut self, now: Instant, commands: &mut Vec<Command>) {
        let uploads =
            if self.checkpoints.is_empty() { Duration::ZERO } else { CHECKPOINT_UPLOAD_TIME_AT_END };
        self.stop_by.get_or_insert(now + uploads + SHUTDOWN_TIME);
        let held: Vec<u64> = self.leases.keys().copied().collect();
        for token in held {
            self.give_up(token, commands);
        }
        self.sync.hurry();
    }

    fn end(&mut self, command: Command, commands: &mut Vec<Command>) {
        let started = self.leases.iter().filter(|(_, lease)| lease.is_started);
        commands.extend(started.map(|(token, _)| Command::End { token: *token }));
        self.leases.clear();
        self.is_over = true;
        commands.push(command);
    }

    /// When a person has been there long enough for others to do the rest.
    fn hand_back_at(&self) -> Option<Instant> {
        let is_waiting = self.leases.values().any(|lease| !lease.waiting.is_empty());
        self.busy_since.filter(|_| is_waiting).map(|since| since + HAND_BACK_AFTER)
    }

    /// Everything that follows from the state and the time.
    fn advance(&mut self, now: Instant, commands: &mut Vec<Command>) {
        if self.is_over {
            return;
        }
        // What is not started may need what cannot be fetched or run now; somebody else can.
        if self.is_draining
            || self.network == Network::Metered
            || self.is_runner_unusable
            || self.hand_back_at().is_some_and(|at| at <= now)
        {
            self.hand_back_waiting(commands);
        }
        self.run_units(commands);
        self.end_finished(commands);
        self.retry_uploads(now, commands);
        self.upload_checkpoints(now, commands);
        if self.is_drained() || self.stop_by.is_some_and(|by| by <= now || self.has_nothing_to_say()) {
            self.end(Command::Exit, commands);
        } else if self.next_sync_at(now).is_some_and(|at| at <= now) {
            commands.push(self.call(now));
        }
    }

    /// Whether it was to finish what ran, and has. What a coordinator that is away has not heard of is on disk:
    /// the next run reports it.
    fn is_drained(&self) -> bool {
        let is_idle = !self.leases.values().any(Lease::has_work) && !self.is_storing();
        let is_said = self.has_nothing_to_say() || (self.sync.is_quiet() && self.only_waits_for_network());
        self.is_draining && is_idle && (is_said || self.sync.is_failing())
    }

    fn has_nothing_to_say(&self) -> bool {
        self.sync.is_quiet() && self.attempts.is_empty() && self.hand_backs.is_empty()
    }

    fn hand_back_waiting(&mut self, commands: &mut Vec<Command>) {
        let waiting: Vec<u64> =
            self.leases.iter().filter(|(_, l)| !l.waiting.is_empty()).map(|(t, _)| *t).collect();
        for token in waiting {
            let Some(lease) = self.leases.get_mut(&token) else { continue };
            if lease.running.is_none() && lease.unrecorded.is_empty() {
                self.give_up(token, commands);
            } else {
                self.hand_backs.entry(token).or_default().extend(lease.waiting.drain(..));
            }
        }
    }

    fn run_units(&mut self, commands: &mut Vec<Command>) {
        if !self.presence.is_free() || self.is_disk_full || self.is_runner_unusable || self.stop_by.is_some()
        {
            return;
        }
        let mut busy = self.leases.values().filter(|lease| lease.is_started && lease.has_work()).count();
        for (token, lease) in &mut self.leases {
            if !lease.is_started {
                if busy >= self.slots as usize || lease.waiting.is_empty() {
                    continue;
                }
                busy += 1;
                lease.is_started = true;
                commands.push(Command::Start(Arc::clone(&lease.message)));
            }
            if lease.running.is_none()
                && let Some(index) = lease.waiting.pop_front()
            {
                lease.running = Some(index);
                commands.push(Command::Run(AttemptKey { token: *token, index }));
            }
        }
    }

    fn end_finished(&mut self, commands: &mut Vec<Command>) {
        for (token, lease) in &mut self.leases {
            if lease.is_started && !lease.has_work() {
                lease.is_started = false;
                self.failed_leases.reset();
                commands.push(Command::End { token: *token });
            }
        }
        self.leases.retain(|_, lease| !lease.is_over());
    }

    fn retry_uploads(&mut self, now: Instant, commands: &mut Vec<Command>) {
        if self.network == Network::Metered {
            return;
        }
        for progress in self.attempts.values_mut() {
            if let Progress::UploadAt(attempt, at) = progress
                && *at <= now
            {
                commands.push(Command::Upload(attempt.clone()));
                *progress = Progress::Uploading(attempt.clone());
            }
        }
    }
}
