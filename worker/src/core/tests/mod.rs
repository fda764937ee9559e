//! The agent against a coordinator that is a few maps: named cases, and random days.

mod checkpoints;
mod drain;
mod named;
mod network;
mod random;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lull_job::{Digest, Stage};
use lull_proto::v1;

use super::agent::{Agent, Command, Event, SyncFailure, UploadEnd};
use super::{Attempt, AttemptKey, AttemptOutcome, Body, Presence, UnitName};

const TTL: Duration = Duration::from_secs(30);

/// An agent, its clock, and what it asked for.
struct Rig {
    agent: Agent,
    now: Instant,
    commands: Vec<Command>,
    /// The call under way.
    call: Option<(u64, v1::SyncRequest)>,
    started: BTreeSet<u64>,
    running: BTreeSet<AttemptKey>,
    uploading: BTreeSet<AttemptKey>,
    uploading_checkpoints: BTreeSet<AttemptKey>,
    forgotten: Vec<AttemptKey>,
}

impl Rig {
    fn new(slots: u32) -> Self {
        let now = Instant::now();
        Self {
            agent: Agent::new(slots, now),
            now,
            commands: Vec::new(),
            call: None,
            started: BTreeSet::new(),
            running: BTreeSet::new(),
            uploading: BTreeSet::new(),
            uploading_checkpoints: BTreeSet::new(),
            forgotten: Vec::new(),
        }
    }

    /// A rig on a free PC, whose first call has been made.
    fn idle(slots: u32) -> Self {
        let mut rig = Self::new(slots);
        rig.event(Event::PresenceChanged(Presence::Idle));
        rig
    }

    fn event(&mut self, event: Event) {
        let is_free = matches!(event, Event::PresenceChanged(presence) if presence.is_free())
            || (self.agent.presence.is_free() && !matches!(event, Event::PresenceChanged(_)));
        for command in self.agent.handle(event, self.now, 7) {
            self.note(&command, is_free);
            self.commands.push(command);
        }
        assert!(self.started.len() <= self.agent.slots as usize, "more runners than slots");
    }

    /// What must hold for each command.
    fn note(&mut self, command: &Command, is_free: bool) {
        match command {
            Command::Start(lease) => {
                assert!(is_free, "a runner was started while a person is there");
                assert!(self.started.insert(lease.token), "two runners for lease {}", lease.token);
            }
            Command::Run(key) => {
                assert!(is_free, "a unit was started while a person is there");
                assert!(self.started.contains(&key.token), "{key:?} has no runner");
                assert!(self.running.insert(*key), "{key:?} runs twice");
                let of_lease = self.running.iter().filter(|other| other.token == key.token).count();
                assert_eq!(of_lease, 1, "two units at once in lease {}", key.token);
            }
            Command::End { token } => {
                assert!(self.started.remove(token), "lease {token} has no runner");
                self.running.retain(|key| key.token != *token);
            }
            Command::Sync { id, request, .. } => {
                if let Some((_, before)) = &self.call {
                    let wait = before.wait.unwrap_or_default();
                    assert!(wait.seconds > 0 || wait.nanos > 0, "a call that reports was let go of");
                    assert!(before.reports.is_empty() && before.hand_backs.is_empty());
                }
                assert!(is_free || request.free_slots == 0, "work was asked for while a person is there");
                self.call = Some((*id, request.clone()));
            }
            Command::Upload(attempt) => {
                assert!(self.uploading.insert(attempt.key), "{:?} is uploaded twice at once", attempt.key);
            }
            Command::UploadCheckpoint(key, _) => {
                assert!(!self.running.contains(key), "{key:?} is handed back while it runs");
                assert!(
                    self.uploading_checkpoints.insert(*key),
                    "the checkpoint of {key:?} is uploaded twice"
                );
            }
            Command::Forget(key) => self.forgotten.push(*key),
            _ => {}
        }
    }

    /// Lets time pass, waking the agent whenever it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.agent.wake_at(self.now).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.event(Event::Woken);
            wakes += 1;
            assert!(wakes < 1000, "the agent wakes up again and again: {:?}", self.agent);
        }
        self.now = end;
    }

    fn secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    /// The same, while a coordinator without work answers.
    fn live(&mut self, secs: u64) {
        for _ in 0..secs {
            if self.call.is_some() {
                self.answer_with(Vec::new());
            }
            self.secs(1);
        }
    }

    fn request(&self) -> &v1::SyncRequest {
        &self.call.as_ref().expect("a call is under way").1
    }

    fn answer(&mut self, response: v1::SyncResponse) {
        let (id, _) = self.call.take().expect("a call is under way");
        self.event(Event::SyncAnswered { id, response });
    }

    fn answer_with(&mut self, leases: Vec<v1::Lease>) {
        self.answer(v1::SyncResponse { leases, ..Default::default() });
    }

    fn fail(&mut self, failure: SyncFailure) {
        let (id, _) = self.call.take().expect("a call is under way");
        self.event(Event::SyncFailed { id, failure });
    }

    fn finish(&mut self, key: AttemptKey) {
        assert!(self.running.remove(&key), "{key:?} does not run");
        self.event(Event::UnitFinished(key));
    }

    fn finish_and_store(&mut self, token: u64, index: u64) {
        let key = AttemptKey { token, index };
        self.finish(key);
        self.event(Event::Stored(attempt(key, false)));
    }

    fn end_upload(&mut self, key: AttemptKey, end: UploadEnd) {
        assert!(self.uploading.remove(&key));
        self.event(Event::UploadEnded(key, end));
    }

    fn save_checkpoint(&mut self, key: AttemptKey) {
        self.event(Event::CheckpointSaved(key, unit(key.index)));
    }

    fn end_checkpoint_upload(&mut self, key: AttemptKey, is_done: bool) {
        assert!(self.uploading_checkpoints.remove(&key));
        self.event(Event::CheckpointUploaded(key, is_done.then(|| Box::new(checkpoint(key.index)))));
    }

    /// Units whose checkpoints were removed from the disk.
    fn dropped_checkpoints(&self) -> Vec<u64> {
        let dropped = self.commands.iter().filter_map(|command| match command {
            Command::DropCheckpoint(unit) => Some(unit.index),
            _ => None,
        });
        dropped.collect()
    }

    fn reported(&self) -> Vec<(u64, u64)> {
        let reports = self.request().reports.iter();
        reports.flat_map(|r| r.attempts.iter().map(|attempt| (r.lease_token, attempt.index))).collect()
    }

    fn has_exited(&self) -> bool {
        matches!(self.commands.last(), Some(Command::Exit))
    }
}

fn lease(token: u64, indices: impl IntoIterator<Item = u64>) -> v1::Lease {
    v1::Lease {
        token,
        time_to_live: prost_types::Duration::try_from(TTL).ok(),
        indices: indices.into_iter().collect(),
        ..Default::default()
    }
}

fn hand_back(lease_token: u64, indices: Vec<u64>) -> v1::HandBack {
    v1::HandBack { lease_token, indices, ..v1::HandBack::default() }
}

fn attempt(key: AttemptKey, is_large: bool) -> Attempt {
    Attempt {
        key,
        job_id: 1,
        stage: Stage::Work,
        outcome: AttemptOutcome::Result,
        digest: Digest::of(b"x"),
        size_bytes: 1,
        cpu_micros: 1,
        body: if is_large { Body::File } else { Body::Inline(b"x".to_vec()) },
        resumed_from: None,
        witnessed: Vec::new(),
        fuel: None,
        strict: None,
    }
}

fn unit(index: u64) -> UnitName {
    UnitName { job_id: 1, stage: Stage::Work, index, made_of: Digest::of(b"module") }
}

fn checkpoint(index: u64) -> v1::Checkpoint {
    v1::Checkpoint { index, steps: 7, ..v1::Checkpoint::default() }
}

fn key(token: u64, index: u64) -> AttemptKey {
    AttemptKey { token, index }
}
