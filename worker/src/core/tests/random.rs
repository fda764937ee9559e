//! Random days: no unit is lost, and nobody is disturbed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

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
    StoreRecovers,
    RunnerBreaks,
    RunnerIsMended,
    EndUpload(u8, u8),
    FailLease(u8),
    Checkpoint(u8),
    EndCheckpointUpload(u8, bool),
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
        2 => Just(Step::StoreRecovers),
        1 => Just(Step::RunnerBreaks),
        2 => Just(Step::RunnerIsMended),
        3 => (any::<u8>(), 0u8..4).prop_map(|(which, end)| Step::EndUpload(which, end)),
        1 => any::<u8>().prop_map(Step::FailLease),
        3 => any::<u8>().prop_map(Step::Checkpoint),
        3 => any::<(u8, bool)>().prop_map(|(which, is_done)| Step::EndCheckpointUpload(which, is_done)),
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
        v1::SyncResponse { leases, lost_leases, ..Default::default() }
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
            Step::StoreFails => rig.event(Event::StoreFailed),
            Step::StoreRecovers => rig.event(Event::StoreRecovered),
            Step::RunnerBreaks => rig.event(Event::RunnerUnusable),
            Step::RunnerIsMended => rig.event(Event::RunnerUsable),
            Step::EndUpload(which, end) => {
                let ends = [UploadEnd::Done, UploadEnd::TryAgain, UploadEnd::Refused, UploadEnd::Unreadable];
                if let Some(key) = pick(rig.uploading.iter().copied(), which) {
                    rig.end_upload(key, ends[usize::from(end)]);
                }
            }
            Step::Checkpoint(which) => {
                if let Some(key) = pick(rig.running.iter().copied(), which) {
                    rig.save_checkpoint(key);
                }
            }
            Step::EndCheckpointUpload(which, is_done) => {
                if let Some(key) = pick(rig.uploading_checkpoints.iter().copied(), which) {
                    rig.end_checkpoint_upload(key, is_done);
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
        self.take(Step::StoreRecovers);
        self.take(Step::RunnerIsMended);
        for _ in 0..400 {
            self.take(Step::FinishUnit(0));
            self.take(Step::Store(0));
            self.take(Step::EndUpload(0, 0));
            self.take(Step::EndCheckpointUpload(0, true));
            self.take(Step::Answer { lease_units: Vec::new(), loses: false });
            self.take(Step::Pass(1000));
        }
        let agent = &self.rig.agent;
        assert!(agent.leases.is_empty(), "leases are left: {agent:?}");
        assert!(agent.attempts.is_empty(), "attempts are left: {agent:?}");
        assert!(agent.checkpoints.is_empty(), "checkpoints are left: {agent:?}");
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
