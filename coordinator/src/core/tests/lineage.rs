//! Jobs that buy confidence, and results that go on from other people's states.

use lull_ledger::Code;

use super::*;

const UNIT: UnitKey = UnitKey { job: JobId(1), stage: Stage::Work, index: 0 };
/// Who hands states back.
const MAKER: i64 = 2;
/// Who goes on from them.
const RESUMER: i64 = 3;

/// A job of one unit for which one owner that is known is enough, on a grid where all are known.
fn trusting() -> Model {
    trust::known_to_all(Job { max_error: Share::of(0.5), ..job(1, 2, Reduce::None) })
}

impl Model {
    /// This owner takes the unit and hands it back, with a state after so many steps more, if any.
    fn passes_on(&mut self, owner: i64, steps: Option<u64>) {
        let lease = self.ask(owner).expect("a lease");
        let made = steps.map(|steps| Made {
            index: 0,
            steps,
            state: Digest::of(&steps.to_le_bytes()),
            blob: Digest::of(&steps.to_le_bytes()),
            size_bytes: 100,
            signature: vec![0; 64],
        });
        let checkpoints = made.into_iter().collect();
        let hand_back = HandBack { token: lease.token, indexes: Vec::new(), checkpoints };
        self.decide(&[Request { hand_backs: vec![hand_back], ..self.request(owner, owner) }]);
    }

    /// Whose states a lease of the unit comes with.
    fn came_with(lease: &Lease) -> Vec<i64> {
        let offer = lease.offers.get(&0).filter(|offer| offer.origin.is_some());
        offer.into_iter().flat_map(|offer| &offer.lineage).map(|owner| owner.0).collect()
    }

    /// An owner takes the unit with the maker's state and says that.
    fn goes_on(&mut self, owner: i64, text: &str) {
        let lease = self.ask(owner).expect("a lease");
        assert_eq!(Self::came_with(&lease), [MAKER]);
        self.answer(&lease, text);
    }

    /// Owners that were paid.
    fn paid_owners(&self) -> Vec<i64> {
        let rewards = self.transfers.iter().filter(|one| one.code == Code::Reward);
        rewards.map(|one| one.key.attempt).collect()
    }
}

#[test]
fn a_strangers_state_is_passed_on_only_where_copies_are_named() {
    let mut model = trusting();
    model.standings.remove(&OwnerId(MAKER));
    model.passes_on(MAKER, Some(100));
    assert!(model.checkpoints.values().all(Vec::is_empty), "it is not even kept");
    let lease = model.ask(RESUMER).expect("a lease");
    assert!(lease.offers.is_empty());

    let mut model = Model::new(job(1, 2, Reduce::None));
    model.passes_on(MAKER, Some(100));
    let lease = model.ask(RESUMER).expect("a lease");
    assert_eq!(Model::came_with(&lease), [MAKER]);
}

#[test]
fn a_result_is_believed_no_more_than_any_owner_whose_work_is_in_it() {
    let mut model = trusting();
    model.passes_on(MAKER, Some(100));
    model.goes_on(RESUMER, "right");
    assert!(model.job.awaits_review(), "both are known, and have much to lose");

    let mut model = trusting();
    // Known, with nothing to lose: whatever it returns is checked.
    let known = Standing { correct: crate::core::trust::STRANGER_RESULTS, ..Standing::default() };
    model.staked.remove(&OwnerId(MAKER));
    model.standings.insert(OwnerId(MAKER), known);
    model.passes_on(MAKER, Some(100));
    model.goes_on(RESUMER, "poisoned");
    assert!(model.verdicts.is_empty(), "who went on from it is known, who made it is not trusted alone");
    assert_eq!(model.job.wanted, 1);
}

#[test]
fn what_a_caught_owners_state_led_to_is_run_again_and_who_went_on_from_it_keeps_its_pay() {
    let mut model = trusting();
    model.passes_on(MAKER, Some(100));
    model.goes_on(RESUMER, "poisoned");
    assert_eq!(model.verdicts[&UNIT].digest, Digest::of(b"poisoned"));
    model.is_caught_elsewhere(MAKER);
    model.review();
    assert_eq!(model.job.wanted, 1, "nobody who was not caught supports it");
    // Of so few owners one was caught: two are asked.
    for owner in [4, 5] {
        if model.wanted.contains_key(&UNIT) {
            model.says(owner, "right");
        }
    }
    assert_eq!(model.verdicts[&UNIT].digest, Digest::of(b"right"));
    assert_eq!(model.caught(), [MAKER]);
    assert_eq!(model.paid_owners(), [RESUMER, 4, 5]);
    assert!(
        model.transfers.iter().all(|one| one.code != Code::Forfeit),
        "nothing is anybody's fault but the maker's"
    );
}

#[test]
fn who_went_on_from_a_caught_owners_state_has_no_voice_and_is_paid_if_right() {
    for (said, paid) in [("right", vec![RESUMER, 4, 5]), ("poisoned", vec![4, 5])] {
        let mut model = trusting();
        model.job.wish_copies = Copies::whole(2);
        model.passes_on(MAKER, Some(100));
        model.goes_on(RESUMER, said);
        model.is_caught_elsewhere(MAKER);
        model.says(4, "right");
        assert!(model.verdicts.is_empty(), "one voice of two");
        model.says(5, "right");
        assert_eq!(model.verdicts[&UNIT].digest, Digest::of(b"right"));
        assert_eq!(model.paid_owners(), paid);
        assert_eq!(model.caught(), [MAKER]);
    }
}

#[test]
fn who_is_caught_in_the_same_batch_takes_what_others_made_of_its_states_along() {
    let mut model = trusting();
    model.job.wish_copies = Copies::whole(2);
    model.passes_on(MAKER, Some(100));
    let lease = model.ask(RESUMER).expect("a lease");
    model.answer(&lease, "poisoned");
    // Those who are asked after it ran the unit from the start, and tell the right state.
    let mut owner = 4;
    while model.caught().is_empty() {
        let lease = model.ask(owner).expect("a check");
        assert!(Model::came_with(&lease).is_empty());
        let mut report = model.report(lease.token, 0, "right").expect("an open unit");
        report.witnessed = vec![(100, Digest::of(b"another state"))];
        let request = Request { reports: vec![report], ..model.request(owner, owner) };
        let mut slice = model.slice(&[]);
        let (_, changes) = decide(&mut slice, &mut Fairness::default(), &mut std::iter::empty(), &[request]);
        if !changes.standings.values().all(|change| change.caught.is_none()) {
            let attempts = &slice.attempts[&UNIT];
            let resumed = attempts.iter().find(|one| one.owner.0 == RESUMER).expect("its attempt");
            assert!(resumed.void && !resumed.caught);
        }
        model.apply(slice, changes);
        owner += 1;
    }
    assert_eq!(model.caught(), [MAKER]);
}

#[test]
fn nobody_goes_on_from_a_state_of_whoever_was_caught() {
    let mut model = trusting();
    model.passes_on(MAKER, Some(100));
    let before = model.ask(RESUMER).expect("a lease");
    assert_eq!(Model::came_with(&before), [MAKER]);
    model.is_caught_elsewhere(MAKER);
    // It is known again, and what it made before it was caught is still there.
    let again = Standing { correct: 1_000, catches: 1, secs_since_catch: 1_000_000, ..Standing::default() };
    model.standings.insert(OwnerId(MAKER), again);
    model.answer(&before, "poisoned");
    assert!(model.verdicts.is_empty(), "it was handed the state before");

    let mut model = trusting();
    model.passes_on(MAKER, Some(100));
    model.is_caught_elsewhere(MAKER);
    model.standings.insert(OwnerId(MAKER), again);
    assert!(model.ask(RESUMER).expect("a lease").offers.is_empty(), "its state is still there");

    let mut model = trusting();
    model.standings.insert(OwnerId(MAKER), again);
    model.passes_on(MAKER, Some(100));
    assert!(model.ask(RESUMER).expect("a lease").offers.is_empty(), "nor from a new one");
}

#[test]
fn a_unit_is_not_passed_to_the_last_owner_who_could_check_it_where_one_may_be_enough() {
    let mut model = trusting();
    model.job.copies = 0;
    model.owners_there = [MAKER, RESUMER].map(OwnerId).into();
    model.passes_on(MAKER, Some(100));
    assert!(model.ask(RESUMER).expect("a lease").offers.is_empty());
    let mut model = trusting();
    model.job.copies = 0;
    model.passes_on(MAKER, Some(100));
    assert_eq!(Model::came_with(&model.ask(RESUMER).expect("a lease")), [MAKER]);
}

#[test]
fn who_runs_a_dispute_from_the_start_answers_for_it_whatever_it_was_shown_before() {
    let mut model = trusting();
    // Two who will differ have the unit, for too long.
    let late: Vec<Lease> = [4, 5]
        .map(|owner| {
            let lease = model.ask(owner).expect("a lease");
            model.expire(lease.token);
            lease
        })
        .into();
    model.passes_on(MAKER, Some(100));
    let shown = model.ask(RESUMER).expect("a lease");
    assert_eq!(Model::came_with(&shown), [MAKER]);
    let hand_back = HandBack { token: shown.token, indexes: Vec::new(), checkpoints: Vec::new() };
    model.job.wish_copies = Copies::whole(2);
    model.decide(&[Request { hand_backs: vec![hand_back], ..model.request(RESUMER, RESUMER) }]);
    model.answer(&late[0], "right");
    model.answer(&late[1], "wrong");
    let dispute = model.ask(RESUMER).expect("the dispute");
    assert_eq!((dispute.mode, Model::came_with(&dispute)), (RunMode::Referee, vec![]));
    model.answer(&dispute, "a lie");
    let attempt = model.attempts[&UNIT].iter().find(|one| one.owner.0 == RESUMER).expect("its attempt");
    assert_eq!(attempt.owners(), [MAKER, RESUMER].map(OwnerId), "no voice besides the maker's");
    assert_eq!(attempt.rests_on(), [OwnerId(RESUMER)]);
    for owner in 6..=12 {
        let Some(lease) = model.ask(owner) else { break };
        model.answer(&lease, "right");
    }
    assert_eq!(model.caught(), [RESUMER, 5]);
}

#[test]
fn whoever_was_handed_a_state_is_checked_as_often_as_others_are_compared() {
    // 2 q / (1 + q) is 0.1818 where q is a tenth.
    let tenth = Copies::from_number((1 << 32) / 10 * 11);
    let is_between = |key: &[u8; 32]| (1_100..1_800).contains(&Coin::of(key, UNIT, 0).below(10_000));
    let key = (0..=255).map(|byte| [byte; 32]).find(is_between).expect("a key");
    let mut model = trusting();
    (model.job.wish_copies, model.job.key) = (tenth, key);
    model.says(RESUMER, "right");
    assert!(model.job.awaits_review(), "from the start it is not checked");

    let mut model = trusting();
    (model.job.wish_copies, model.job.key) = (tenth, key);
    model.passes_on(MAKER, Some(100));
    model.goes_on(RESUMER, "right");
    assert_eq!((model.verdicts.len(), model.job.wanted), (0, 1), "it could tell that it was the first");
}

#[test]
fn every_state_of_a_unit_is_to_be_witnessed_whether_or_not_somebody_has_answered() {
    let mut model = trusting();
    assert_eq!(steps_to_witness(&[]), [0u64; 0]);
    model.passes_on(MAKER, Some(100));
    assert_eq!(steps_to_witness(&model.checkpoints[&UNIT]), [100]);
    model.passes_on(RESUMER, Some(150));
    model.job.wish_copies = Copies::whole(2);
    assert_eq!(steps_to_witness(&model.checkpoints[&UNIT]), [100, 150]);
}
