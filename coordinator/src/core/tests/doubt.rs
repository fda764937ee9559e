//! How far the rules that decide without anybody's word can be turned by liars who know each other.

use super::trust::known_to_all;
use super::*;
use crate::core::network::Network;

fn first() -> UnitKey {
    UnitKey { job: JobId(1), stage: Stage::Work, index: 0 }
}

fn trusting(units: u64, max_error: f64) -> Job {
    Job { max_error: Share::of(max_error), ..job(units, 2, Reduce::None) }
}

impl Model {
    /// What this owner said says nothing any more.
    fn void(&mut self, owner: i64) {
        let attempts = self.attempts.values_mut().flatten();
        attempts.filter(|one| one.owner == OwnerId(owner)).for_each(|one| one.void = true);
    }

    fn fails(&mut self, owner: i64, outcome: Outcome) {
        let lease = self.ask(owner).expect("a lease");
        let mut report = self.report(lease.token, 0, "trap").expect("an open unit");
        report.outcome = outcome;
        report.strict = report.strict.map(|(_, digest)| (outcome, digest));
        self.decide(&[Request { reports: vec![report], ..self.request(owner, owner) }]);
    }
}

#[test]
fn in_a_dispute_nobody_is_preferred_for_being_elsewhere() {
    let mut model = known_to_all(trusting(1, 1e-4));
    model.says(1, "wrong");
    model.says(2, "right");
    // Whoever contradicts sits in an office, with everybody who is honest; liars are where they like.
    let office = Network(1);
    for owner in 2..=9 {
        model.networks.known.insert(OwnerId(owner), [office].into());
    }
    model.networks.known.insert(OwnerId(10), [Network(2)].into());
    model.networks.asking = (2..=10).map(OwnerId).collect();
    let request = Request {
        want: Some(Want { leases: 1, units_max: 1 }),
        network: Some(office),
        ..model.request(3, 3)
    };
    assert_eq!(model.decide(&[request])[0].leases.len(), 1, "it does not wait for somebody from elsewhere");
}

#[test]
fn a_program_has_not_failed_because_two_friends_say_so() {
    for outcome in [Outcome::GuestFailed, Outcome::Limit] {
        let mut model = known_to_all(trusting(1, 1e-4));
        for owner in 1..=3 {
            model.fails(owner, outcome);
            assert!(!model.verdicts.contains_key(&first()), "{outcome:?} of {owner}");
        }
        model.fails(4, outcome);
        assert_eq!(model.verdicts[&first()].outcome, outcome, "four are enough");
    }
}

#[test]
fn what_is_run_again_has_another_coin() {
    // Of units that one owner was believed on, as many are checked when they are run again as of any.
    let mut job = trusting(1_000, 1e-4);
    job.wish_copies = crate::core::Copies::from_number((1 << 32) + (1 << 31));
    let rule = |index, voided: usize| {
        let unit = UnitKey { index, ..first() };
        let mut attempts = vec![super::super::judge::tests::attempt(1, Outcome::Result, "a"); voided];
        attempts.iter_mut().for_each(|one| one.void = true);
        job.rule(unit, &attempts, None, Policy::default()).needed
    };
    let believed: Vec<u64> = (0..1_000).filter(|index| rule(*index, 0) == 1).collect();
    let checked = believed.iter().filter(|index| rule(**index, 1) == 2).count();
    assert!((200..300).contains(&checked), "{checked} of {}", believed.len());
}

#[test]
fn what_two_agreed_on_is_run_again_when_that_matters() {
    for (max_error, wanted) in [(0.5, 0), (1e-6, 1)] {
        let mut model = known_to_all(trusting(1, 0.5));
        model.job.wish_copies = crate::core::Copies::whole(2);
        model.says(1, "a");
        model.says(2, "a");
        model.job.max_error = Share::of(max_error);
        model.job.wish_copies = crate::core::Copies::whole(1);
        model.void(2);
        let mut slice = model.slice(&[]);
        slice.catches = 1;
        slice.policy.liars = Share::of(0.001);
        let changes = review(&mut slice, JobId(1));
        assert_eq!(changes.wanted_added.len(), wanted, "with a promise of {max_error}");
    }
}

#[test]
fn an_answer_that_must_be_right_is_made_by_as_many_as_that_takes() {
    let mut job = Job { max_answer_error: Share::of(0.01), ..job(30, 2, Reduce::Tree) };
    let made = job.plan.service_units().total();
    job.service_owners = service_owners(job.max_answer_error, Policy::default().liars, made);
    let merge = UnitKey { stage: Stage::Merge(1), ..first() };
    // 15 merges and a finish or so: 0.05 to the fourth times that is less than a thousandth.
    assert_eq!(job.rule(merge, &[], None, Policy::default()).needed, 4);
    let cost = job.expected_cost(&job.plan).expect("a cost");
    job.service_owners = 2;
    assert!(cost > job.expected_cost(&job.plan).expect("a cost"), "and that is what it costs");
}
