//! Second copies of what takes too long.

use super::trust::known_to_all;
use super::*;

/// One unit each, of which a device takes a second.
const SECOND: u64 = 1_000_000;

fn unit(index: u64) -> UnitKey {
    UnitKey { job: JobId(1), stage: Stage::Work, index }
}

/// A job of which owner 1 holds the last unit, that it should have answered in a second.
fn one_left(mut job: Job) -> (Model, Lease) {
    job.unit_micros = SECOND;
    let mut model = known_to_all(job);
    let lease = model.ask(1).expect("a lease");
    (model, lease)
}

fn confident(units: u64, max_error: f64) -> Job {
    Job { max_error: Share::of(max_error), ..job(units, 2, Reduce::None) }
}

/// A job of two units that goes on while owner 9 holds one, and owners 1 and 2 both the other. One owner that is known is
/// enough for so loose a promise.
fn one_out_twice() -> (Model, Lease, Lease) {
    let mut model = known_to_all(confident(2, 0.5));
    model.job.unit_micros = SECOND;
    model.ask(9).expect("the other unit");
    let lease = model.ask(1).expect("a lease");
    model.straggle(lease.token, &[2]);
    let copy = model.ask(2).expect("the copy");
    assert_eq!(copy.open, lease.open);
    (model, lease, copy)
}

#[test]
fn a_lease_that_takes_too_long_is_copied_to_one_other_owner() {
    let (mut model, lease) = one_left(job(1, 2, Reduce::None));
    assert_eq!(model.ask(2), None, "nothing is left");
    model.straggle(lease.token, &[1]);
    assert_eq!(model.job.wanted, 0, "nobody else is there");
    model.straggle_after(lease.token, &[1, 2], 9 * SECOND);
    assert_eq!(model.job.wanted, 0, "it may take ten seconds, whatever its units should");
    model.straggle_after(lease.token, &[1, 2], 10 * SECOND);
    assert_eq!(model.job.wanted, 1);
    model.straggle(lease.token, &[1, 2, 3]);
    assert_eq!(model.job.wanted, 1, "once");
    assert_eq!(model.ask(1), None, "not to its owner");
    let copy = model.ask(2).expect("the copy");
    assert_eq!(copy.open, lease.open);
    model.straggle(lease.token, &[1, 2, 3]);
    model.straggle(copy.token, &[1, 2, 3]);
    assert_eq!(model.job.wanted, 0, "no third");
}

#[test]
fn what_others_do_not_wait_for_may_take_longer() {
    let mut calm = job(3, 2, Reduce::None);
    calm.unit_micros = 60 * SECOND;
    let mut model = Model::new(calm);
    let want = Some(Want { leases: 1, units_max: 1 });
    let token = model.decide(&[Request { want, ..model.request(1, 1) }])[0].leases[0];
    model.straggle_after(token, &[2], 299 * SECOND);
    assert_eq!(model.job.wanted, 0, "there are units that nobody had");
    model.straggle_after(token, &[2], 300 * SECOND);
    assert_eq!(model.job.wanted, 1);
}

#[test]
fn while_nobody_knows_what_a_unit_takes_a_quarter_of_an_hour_is_long() {
    let mut model = Model::new(job(1, 2, Reduce::None));
    let lease = model.ask(1).expect("a lease");
    model.straggle_after(lease.token, &[2], 899 * SECOND);
    assert_eq!(model.job.wanted, 0);
    model.straggle_after(lease.token, &[2], 900 * SECOND);
    assert_eq!(model.job.wanted, 1);
}

#[test]
fn both_copies_are_paid_and_the_first_that_suffices_decides() {
    let mut model = known_to_all(job(2, 1, Reduce::None));
    model.job.unit_micros = SECOND;
    model.ask(9).expect("the other unit");
    let lease = model.ask(1).expect("a lease");
    model.straggle(lease.token, &[2]);
    let copy = model.ask(2).expect("the copy");
    model.answer(&copy, "right");
    assert!(model.verdicts.contains_key(&unit(copy.open[0])), "one is enough");
    assert_eq!(model.job.state, JobState::Running);
    model.answer(&lease, "right");
    let rewards = model.transfers.iter().filter(|one| one.code == lull_ledger::Code::Reward).count();
    assert_eq!(rewards, 2);
    assert_eq!(model.standings[&OwnerId(1)].correct, 1_001, "in a job that names copies it is a check");
}

#[test]
fn a_copy_that_nobody_took_is_not_needed_when_the_unit_comes_back() {
    for comes in ["answered", "handed back", "expired"] {
        let (mut model, lease) = one_left(job(1, 2, Reduce::None));
        model.straggle(lease.token, &[2]);
        assert!(model.wanted[&unit(0)].copy);
        match comes {
            "answered" => model.answer(&lease, "right"),
            "expired" => model.expire(lease.token),
            _ => {
                let hand_backs =
                    vec![HandBack { token: lease.token, indexes: Vec::new(), checkpoints: Vec::new() }];
                model.decide(&[Request { hand_backs, ..model.request(1, 1) }]);
            }
        }
        assert_eq!(model.job.wanted, 1, "{comes}");
        assert!(!model.wanted[&unit(0)].copy, "{comes}");
    }
}

#[test]
fn a_copy_is_not_made_of_what_the_rest_of_the_job_takes() {
    let mut poor = job(1, 2, Reduce::Tree);
    poor.budget = poor.expected_cost(&poor.plan).expect("a cost");
    let (mut model, lease) = one_left(poor.clone());
    model.straggle(lease.token, &[2]);
    assert_eq!(model.job.wanted, 0);
    poor.budget = poor.budget + poor.prices.item;
    let (mut model, lease) = one_left(poor);
    model.straggle(lease.token, &[2]);
    assert_eq!(model.job.wanted, 1);
    model.drain();
}

#[test]
fn two_who_were_out_together_are_one_voice() {
    // Nearly every unit of this job takes two owners.
    let (mut model, lease) = one_left(confident(1, 1e-9));
    model.straggle(lease.token, &[2]);
    let copy = model.ask(2).expect("the copy");
    model.answer(&copy, "lie");
    model.answer(&lease, "lie");
    assert!(model.verdicts.is_empty(), "they may know each other");
    assert_eq!(model.standings[&OwnerId(1)].correct, 1_000, "and are not thought better of");
    for owner in 3..=12 {
        if model.verdicts.is_empty() {
            model.says(owner, "right");
        }
    }
    assert_eq!(model.caught(), [1, 2]);
}

#[test]
fn a_copy_that_differs_is_a_dispute_like_any_other() {
    let (mut model, lease, copy) = one_out_twice();
    model.answer(&lease, "lie");
    assert!(model.verdicts.contains_key(&unit(lease.open[0])), "unchecked");
    model.answer(&copy, "right");
    assert!(model.wanted[&unit(lease.open[0])].contested);
}

#[test]
fn who_is_checked_always_is_checked_by_somebody_who_was_not_out_meanwhile() {
    let (mut model, lease) = one_left(confident(1, 0.5));
    model.standings.remove(&OwnerId(1));
    model.straggle(lease.token, &[2]);
    let copy = model.ask(2).expect("the copy");
    model.answer(&lease, "same");
    model.answer(&copy, "same");
    assert!(model.verdicts.is_empty(), "a stranger and its friend");
    model.says(3, "same");
    assert!(model.job.awaits_review());
}

#[test]
fn what_only_a_friend_of_a_liar_supports_is_run_again() {
    let (mut model, lease, copy) = one_out_twice();
    model.answer(&copy, "lie");
    model.answer(&lease, "lie");
    model.is_caught_elsewhere(2);
    model.review();
    assert!(model.wanted.contains_key(&unit(lease.open[0])));
}

#[test]
fn whoever_lets_others_answer_has_dropped_its_units() {
    let (mut model, lease, copy) = one_out_twice();
    model.answer(&copy, "right");
    model.expire(lease.token);
    assert_eq!(model.standings[&OwnerId(1)].dropped, 1);
}

#[test]
fn one_device_that_lies_about_its_time_sets_nothing() {
    for lie in [0, 1, u64::MAX] {
        let mut job = confident(1_000, 1e-3);
        job.learn_time(lie);
        for report in 0..400u64 {
            job.learn_time(if report % 20 == 0 { lie } else { 1_000_000 });
            let settled = report < 250 || (500_000..4_000_000).contains(&job.unit_micros);
            assert!(settled, "{} after {report} reports and lies of {lie}", job.unit_micros);
        }
    }
}
