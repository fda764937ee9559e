//! The agent against a coordinator that is a few maps: named cases, then random ones.

use lull_job::{Digest, Stage};
use proptest::prelude::*;

use super::*;

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

fn attempt(key: AttemptKey, is_large: bool) -> Attempt {
    Attempt {
        key,
        job_id: 1,
        stage: Stage::Work,
        outcome: super::super::AttemptOutcome::Result,
        digest: Digest::of(b"x"),
        size_bytes: 1,
        cpu_micros: 1,
        body: if is_large { Body::File } else { Body::Inline(b"x".to_vec()) },
    }
}

fn key(token: u64, index: u64) -> AttemptKey {
    AttemptKey { token, index }
}

#[test]
fn an_idle_pc_asks_by_long_poll_and_runs_what_it_gets() {
    let mut rig = Rig::idle(2);
    let request = rig.request().clone();
    assert_eq!((request.free_slots, request.wait.unwrap().seconds), (2, 20));
    assert_eq!(request.presence(), v1::Presence::Idle);
    rig.answer_with(vec![lease(1, [5, 3])]);
    assert_eq!(rig.running, BTreeSet::from([key(1, 5)]), "in the lease's order");
    let request = rig.request();
    assert_eq!((request.free_slots, &request.held_leases[..]), (1, &[1][..]));
    assert!(request.wait.unwrap().seconds < 10, "it renews in time");
}

#[test]
fn a_lease_that_is_done_is_reported_at_once_and_its_slot_asked_for() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    rig.finish_and_store(1, 0);
    assert_eq!(rig.running, BTreeSet::from([key(1, 1)]));
    assert_eq!(rig.reported(), [(1, 0)], "nothing was reported for a second");
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 1);
    assert!(rig.started.is_empty());
    assert_eq!((rig.reported(), rig.request().free_slots), (vec![(1, 1)], 1));
    assert_eq!(rig.request().wait, Some(prost_types::Duration::default()), "reports are answered at once");
    rig.answer_with(vec![]);
    assert_eq!(rig.forgotten, [key(1, 0), key(1, 1)]);
    assert!(rig.request().held_leases.is_empty());
    assert_eq!(rig.request().wait.unwrap().seconds, 20, "then it waits for work");
}

#[test]
fn units_of_a_long_lease_are_reported_once_a_second() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, 0..100)]);
    rig.finish_and_store(1, 0);
    rig.answer_with(vec![]);
    for index in 1..20 {
        rig.finish_and_store(1, index);
    }
    assert!(rig.call.is_none());
    rig.secs(1);
    assert_eq!(rig.reported().len(), 19);
}

#[test]
fn running_units_are_renewed_at_a_third_of_the_time_to_live() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    assert!(rig.call.is_none());
    rig.secs(9);
    assert!(rig.call.is_none());
    rig.secs(1);
    assert_eq!(rig.request().held_leases, [1]);
}

#[test]
fn a_person_ends_asking_at_once_and_gets_the_rest_handed_back_after_a_minute() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0, 1, 2]), lease(2, [7])]);
    rig.event(Event::PresenceChanged(Presence::Active));
    let request = rig.request();
    assert_eq!((request.free_slots, request.presence()), (0, v1::Presence::Active));
    rig.answer_with(vec![lease(3, [4])]);
    assert!(!rig.started.contains(&3), "what was on its way waits");
    rig.live(59);
    assert!(rig.agent.hand_backs.is_empty());
    rig.live(1);
    let all = |token, indices: &[u64]| v1::HandBack { lease_token: token, indices: indices.to_vec() };
    assert_eq!(rig.request().hand_backs, [all(1, &[1, 2]), all(3, &[])]);
    assert_eq!(rig.started, BTreeSet::from([1, 2]), "frozen units are kept");
    assert_eq!(rig.request().held_leases, [1, 2]);
}

#[test]
fn a_lost_lease_is_stopped() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    rig.secs(10);
    rig.answer(v1::SyncResponse { lost_leases: vec![1], ..Default::default() });
    assert!(rig.started.is_empty());
    assert_eq!((rig.request().free_slots, rig.request().held_leases.len()), (1, 0));
}

#[test]
fn a_lease_that_comes_twice_is_one_lease() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0]), lease(1, [0])]);
    rig.answer_with(vec![lease(1, [0])]);
    assert_eq!(rig.started.len(), 1);
}

#[test]
fn after_a_restart_what_is_in_the_outbox_is_reported_and_not_run_again() {
    let mut rig = Rig::new(1);
    rig.event(Event::Stored(attempt(key(1, 0), false)));
    rig.event(Event::Stored(attempt(key(2, 0), true)));
    assert_eq!((rig.reported(), rig.request().held_leases.len()), (vec![(1, 0)], 0));
    rig.event(Event::PresenceChanged(Presence::Dedicated));
    rig.answer_with(vec![lease(2, [0, 1])]);
    assert_eq!(rig.forgotten, [key(1, 0)]);
    assert_eq!(rig.running, BTreeSet::from([key(2, 1)]), "the other one's result is being uploaded");
}

#[test]
fn refusals_are_dropped_and_logged() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish_and_store(1, 0);
    let refusal = v1::Refusal { lease_token: 1, index: 0, reason: 1, message: "late".to_owned() };
    rig.answer(v1::SyncResponse { refusals: vec![refusal.clone()], ..Default::default() });
    assert_eq!(rig.forgotten, [key(1, 0)]);
    assert!(rig.commands.iter().any(|c| matches!(c, Command::LogRefusal(r) if *r == refusal)));
}

#[test]
fn large_results_are_uploaded_before_they_are_reported() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish(key(1, 0));
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    assert!(rig.reported().is_empty());
    assert_eq!(rig.request().held_leases, [1]);
    rig.end_upload(key(1, 0), UploadEnd::TryAgain);
    rig.secs(1);
    rig.end_upload(key(1, 0), UploadEnd::Done);
    assert_eq!(rig.reported(), [(1, 0)]);
}

#[test]
fn a_damaged_result_is_handed_back() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish(key(1, 0));
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    rig.end_upload(key(1, 0), UploadEnd::Unreadable);
    assert_eq!(rig.forgotten, [key(1, 0)]);
    assert_eq!(rig.request().hand_backs, [v1::HandBack { lease_token: 1, indices: vec![0] }]);
}

#[test]
fn a_full_disk_asks_for_no_work_until_it_is_written() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0]), lease(2, [0, 1])]);
    rig.finish(key(1, 0));
    rig.event(Event::StoreFailed);
    rig.finish_and_store(2, 0);
    assert!(rig.running.is_empty(), "what would not be kept is not run");
    rig.live(10);
    assert_eq!(rig.agent.free_slots(), 0);
    assert_eq!(rig.forgotten, [key(2, 0)]);
    rig.event(Event::Stored(attempt(key(1, 0), false)));
    assert_eq!(rig.running, BTreeSet::from([key(2, 1)]));
    rig.live(2);
    assert_eq!((&rig.forgotten[..], rig.agent.free_slots()), (&[key(2, 0), key(1, 0)][..], 1));
}

#[test]
fn a_coordinator_that_is_away_for_an_hour_loses_nothing() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    let mut calls = 0;
    for minute in 0..60 {
        if minute == 5 {
            rig.finish_and_store(1, 0);
        }
        for _ in 0..60 {
            if rig.call.is_some() {
                calls += 1;
                rig.fail(SyncFailure::Unreachable);
            }
            rig.secs(1);
        }
    }
    assert!((50..150).contains(&calls), "{calls} calls in an hour");
    assert_eq!(rig.running, BTreeSet::from([key(1, 1)]), "it goes on");
    rig.finish_and_store(1, 1);
    while rig.call.is_none() {
        rig.secs(1);
    }
    assert_eq!(rig.reported(), [(1, 0), (1, 1)]);
}

#[test]
fn a_coordinator_that_answers_long_polls_at_once_is_not_flooded() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![]);
    assert!(rig.call.is_none());
    rig.secs(1);
    rig.answer_with(vec![]);
    assert!(rig.call.is_none());
}

#[test]
fn a_lease_that_fails_is_handed_back_and_the_next_waits() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::LeaseFailed { token: 1 });
    assert!(rig.started.is_empty());
    let request = rig.request();
    assert_eq!(
        (&request.hand_backs[..], request.free_slots),
        (&[v1::HandBack { lease_token: 1, indices: vec![] }][..], 0)
    );
    rig.answer_with(vec![]);
    assert!(rig.call.is_none());
    rig.secs(1);
    assert_eq!(rig.request().free_slots, 1);
}

#[test]
fn stopping_hands_everything_back_and_ends() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0, 1, 2]), lease(2, [5])]);
    rig.secs(10);
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 0);
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 1);
    rig.event(Event::StopRequested);
    assert!(rig.started.is_empty());
    let request = rig.request();
    assert_eq!(request.free_slots, 0);
    assert_eq!(
        request.hand_backs,
        [v1::HandBack { lease_token: 1, indices: vec![2] }, v1::HandBack { lease_token: 2, indices: vec![] },]
    );
    assert_eq!(rig.reported(), [(1, 1)]);
    rig.answer_with(vec![lease(9, [1])]);
    assert_eq!(rig.request().hand_backs, [v1::HandBack { lease_token: 9, indices: vec![] }]);
    rig.answer_with(vec![]);
    assert!(rig.has_exited());
}

#[test]
fn stopping_takes_two_seconds_at_most() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::StopRequested);
    assert!(!rig.has_exited());
    rig.secs(2);
    assert!(rig.has_exited());
    let mut rig = Rig::idle(1);
    rig.event(Event::StopRequested);
    rig.fail(SyncFailure::Unreachable);
    assert!(rig.has_exited());
}

#[test]
fn a_device_that_is_not_known_any_more_ends_after_three_calls() {
    let mut rig = Rig::idle(1);
    for _ in 0..2 {
        rig.fail(SyncFailure::Unauthenticated);
        rig.secs(10);
    }
    rig.fail(SyncFailure::Unauthenticated);
    assert!(matches!(rig.commands.last(), Some(Command::ExitUnknownDevice)));
}

/// What a random day is made of.
#[derive(Debug, Clone)]
enum Step {
    Presence(u8),
    Pass(u16),
    Answer { lease_units: Vec<u8>, loses: bool },
    FailCall,
    FinishUnit(u8),
    Store(u8),
    StoreFails,
    EndUpload(u8, u8),
    FailLease(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u8..4).prop_map(Step::Presence),
        4 => (0u16..40_000).prop_map(Step::Pass),
        6 => (proptest::collection::vec(1u8..5, 0..3), proptest::bool::weighted(0.1))
            .prop_map(|(lease_units, loses)| Step::Answer { lease_units, loses }),
        1 => Just(Step::FailCall),
        6 => any::<u8>().prop_map(Step::FinishUnit),
        6 => any::<u8>().prop_map(Step::Store),
        1 => Just(Step::StoreFails),
        3 => (any::<u8>(), 0u8..4).prop_map(|(which, end)| Step::EndUpload(which, end)),
        1 => any::<u8>().prop_map(Step::FailLease),
    ]
}

/// A coordinator that remembers which units each lease still owes.
#[derive(Default)]
struct Coordinator {
    last_token: u64,
    owed: BTreeMap<u64, BTreeSet<u64>>,
}

impl Coordinator {
    fn answer(&mut self, request: &v1::SyncRequest, lease_units: &[u8], loses: bool) -> v1::SyncResponse {
        for report in &request.reports {
            if let Some(owed) = self.owed.get_mut(&report.lease_token) {
                owed.retain(|index| report.attempts.iter().all(|attempt| attempt.index != *index));
            }
        }
        for back in &request.hand_backs {
            match self.owed.get_mut(&back.lease_token) {
                Some(owed) if back.indices.is_empty() => owed.clear(),
                Some(owed) => owed.retain(|index| !back.indices.contains(index)),
                None => {}
            }
        }
        self.owed.retain(|_, owed| !owed.is_empty());
        if loses && let Some(token) = request.held_leases.first() {
            self.owed.remove(token);
        }
        let lost = request.held_leases.iter().copied().filter(|token| !self.owed.contains_key(token));
        let lost_leases = lost.collect();
        let resent = self.owed.iter().filter(|(token, _)| !request.held_leases.contains(token));
        let mut leases: Vec<v1::Lease> =
            resent.map(|(token, owed)| lease(*token, owed.iter().copied())).collect();
        for units in lease_units.iter().take(request.free_slots as usize) {
            self.last_token += 1;
            let indices: BTreeSet<u64> = (0..u64::from(*units)).collect();
            leases.push(lease(self.last_token, indices.iter().copied()));
            self.owed.insert(self.last_token, indices);
        }
        v1::SyncResponse { leases, lost_leases, refusals: Vec::new() }
    }
}

fn pick<T: Copy>(set: impl IntoIterator<Item = T>, which: u8) -> Option<T> {
    let all: Vec<T> = set.into_iter().collect();
    all.get(usize::from(which) % all.len().max(1)).copied()
}

struct Day {
    rig: Rig,
    coordinator: Coordinator,
    storing: BTreeSet<AttemptKey>,
}

impl Day {
    fn take(&mut self, step: Step) {
        let Self { rig, coordinator, storing } = self;
        match step {
            Step::Presence(which) => {
                let all = [Presence::Active, Presence::Idle, Presence::Unknown, Presence::Dedicated];
                rig.event(Event::PresenceChanged(all[usize::from(which)]));
            }
            Step::Pass(millis) => rig.pass(Duration::from_millis(millis.into())),
            Step::Answer { lease_units, loses } => {
                if let Some((_, request)) = rig.call.clone() {
                    rig.answer(coordinator.answer(&request, &lease_units, loses));
                }
            }
            Step::FailCall => {
                if rig.call.is_some() {
                    rig.fail(SyncFailure::Unreachable);
                }
            }
            Step::FinishUnit(which) => {
                if let Some(key) = pick(rig.running.iter().copied(), which) {
                    storing.insert(key);
                    rig.finish(key);
                }
            }
            Step::Store(which) => {
                if let Some(key) = pick(storing.iter().copied(), which) {
                    storing.remove(&key);
                    rig.event(Event::Stored(attempt(key, key.index % 3 == 2)));
                }
            }
            Step::StoreFails => {
                if !storing.is_empty() {
                    rig.event(Event::StoreFailed);
                }
            }
            Step::EndUpload(which, end) => {
                let ends = [UploadEnd::Done, UploadEnd::TryAgain, UploadEnd::Refused, UploadEnd::Unreadable];
                if let Some(key) = pick(rig.uploading.iter().copied(), which) {
                    rig.end_upload(key, ends[usize::from(end)]);
                }
            }
            Step::FailLease(which) => {
                if let Some(token) = pick(rig.started.iter().copied(), which) {
                    rig.event(Event::LeaseFailed { token });
                }
            }
        }
        // Each unit that a held lease still owes is waiting, running, finished, or on its way back.
        for (token, owed) in &self.coordinator.owed {
            let Some(lease) = self.rig.agent.leases.get(token) else { continue };
            for index in owed {
                let places = [
                    lease.waiting.contains(index),
                    lease.running == Some(*index),
                    lease.unrecorded.contains(index),
                    self.rig.agent.hand_backs.get(token).is_some_and(|back| back.contains(index)),
                ];
                assert_eq!(
                    places.iter().filter(|is_there| **is_there).count(),
                    1,
                    "unit {index} of {token}: {places:?}"
                );
            }
        }
    }

    /// Everything works again and nothing new comes: it must all come to an end.
    fn drain(&mut self) {
        self.take(Step::Presence(1));
        for _ in 0..400 {
            self.take(Step::FinishUnit(0));
            self.take(Step::Store(0));
            self.take(Step::EndUpload(0, 0));
            self.take(Step::Answer { lease_units: Vec::new(), loses: false });
            self.take(Step::Pass(1000));
        }
        let agent = &self.rig.agent;
        assert!(agent.leases.is_empty(), "leases are left: {agent:?}");
        assert!(agent.attempts.is_empty(), "attempts are left: {agent:?}");
        assert!(agent.hand_backs.is_empty(), "hand-backs are left: {agent:?}");
        assert!(self.coordinator.owed.is_empty(), "units are owed: {:?}", self.coordinator.owed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_unit_is_lost_and_nobody_is_disturbed(
        slots in 1u32..4,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut day = Day { rig: Rig::new(slots), coordinator: Coordinator::default(), storing: BTreeSet::new() };
        steps.into_iter().for_each(|step| day.take(step));
        day.drain();
    }
}
