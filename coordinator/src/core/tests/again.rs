//! Jobs that are past their work, or complete, and whose work turns out to be wrong.

use lull_ledger::Code;

use super::*;
use crate::core::job::ROUNDS_MAX;

/// A job with merges on a grid of which everybody is known, with some work that owner 1 lied about and nobody checked.
fn lied_about(units: u64) -> Model {
    let mut model = lied_about_for(units, Copies::default());
    // Somebody else who was caught has left something.
    let key = lull_ledger::Key { job: 1, stage: 1, index: i64::MAX, attempt: 99 };
    model.transfers.push(Transfer::forfeit_to_losses(model.job.currency, key, 99, amount("10")));
    model
}

/// The same of a job that buys so many copies, where only what the liar loses pays for more.
fn lied_about_for(units: u64, wish_copies: Copies) -> Model {
    let prices = Prices { service: amount("0.001"), item: amount("0.01") };
    let job = Job { max_error: Share::of(0.5), prices, wish_copies, ..job(units, 2, Reduce::Tree) };
    let mut model = trust::known_to_all(job);
    for _ in 0..units / 3 {
        model.says(1, "wrong");
    }
    while model.job.stage == Stage::Work && !model.job.awaits_review() {
        for owner in 2..=20 {
            if let Some(lease) = model.ask(owner).filter(|lease| lease.stage == Stage::Work) {
                // Whoever is asked after a unit of owner 1 says the same: nobody is to know yet.
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: lease.open[0] };
                let lied =
                    model.attempts.get(&unit).is_some_and(|all| all.iter().any(|one| one.owner.0 == 1));
                model.answer(&lease, if lied { "wrong" } else { "right" });
            }
        }
    }
    assert!(model.caught().is_empty());
    model
}

impl Model {
    /// Looks the work over and makes the answer from it, up to this stage.
    fn make_until(&mut self, stage: Option<Stage>) {
        for round in 0..5_000 {
            if self.job.state != JobState::Running || Some(self.job.stage) == stage {
                return;
            }
            if self.job.awaits_review() {
                self.review();
            } else if let Some(lease) = self.ask(2 + round % 18) {
                self.answer(&lease, "right");
            }
        }
        panic!("it does not end: {:?}", self.job);
    }

    /// An owner is caught, by work on another job.
    pub(super) fn is_caught_elsewhere(&mut self, owner: i64) {
        let unit = UnitKey { job: JobId(2), stage: Stage::Work, index: 0 };
        let (owner, device) = (OwnerId(owner), DeviceId(owner));
        let catch = Catch { owner, device, unit, reason: String::new() };
        let change = StandingChange { caught: Some(catch), ..StandingChange::default() };
        self.apply_trust(&Changes { standings: [(owner, change)].into(), ..Changes::default() });
    }

    fn change(&mut self, change: impl FnOnce(&mut Job) -> Changes) {
        let slice = self.slice(&[]);
        let mut job = self.job.clone();
        let changes = change(&mut job);
        self.apply(Slice { jobs: [(job.id, job)].into(), ..slice }, changes);
    }

    fn moved(&self, code: Code) -> Amount {
        self.transfers.iter().filter(|one| one.code == code).map(|one| one.amount).sum()
    }

    fn wrong_units(&self) -> usize {
        let wrong = Digest::of(b"wrong");
        self.verdicts.iter().filter(|(unit, one)| self.stands(unit) && one.digest == wrong).count()
    }

    fn stands(&self, unit: &UnitKey) -> bool {
        !self.reopened.contains_key(unit)
    }
}

#[test]
fn an_answer_that_rests_on_lies_is_made_again() {
    let mut model = lied_about(30);
    model.make_until(None);
    assert_eq!((model.job.state, model.job.round), (JobState::Complete, 0));
    let (spent, refunded, left) = (model.job.spent, model.job.refunded, model.job.left());
    assert_eq!(left, model.job.price_of_again().expect("an amount"), "kept until it is settled");
    let checked =
        model.attempts.values().filter(|all| all.len() > 1 && all.iter().any(|a| a.owner.0 == 1)).count();
    assert!(model.wrong_units() > checked, "some of the lies were believed");

    model.is_caught_elsewhere(1);
    model.review();
    assert_eq!((model.job.state, model.job.stage, model.job.round), (JobState::Running, Stage::Work, 1));
    let of_liar = model.attempts.iter().filter(|(_, all)| all.iter().any(|one| one.owner.0 == 1));
    for (unit, attempts) in of_liar {
        let is_wanted = model.wanted.contains_key(unit);
        match attempts.len() {
            1 => assert!(is_wanted, "nobody else supports {unit:?}"),
            2 => {}
            _ => assert!(!is_wanted, "two others support {unit:?}"),
        }
    }

    model.make_until(None);
    assert_eq!(model.job.state, JobState::Complete);
    assert!(model.job.answer.is_some());
    assert!(model.job.made_again().contains("lie"));
    let made = model.past.values().filter(|(_, verdict)| verdict.is_some()).count() as u64;
    let service = model.job.plan.service_units();
    assert_eq!(made, service.merge + service.finish, "all that was made from it was made again");
    // The submitter paid once: what was forfeited pays for the rest.
    let again = model.moved(Code::Grant) - model.moved(Code::Unspent);
    assert_eq!(model.job.spent - again + model.job.left(), spent + left);
    assert_eq!(model.job.refunded, refunded);
    assert_eq!(model.job.left(), left);
    model.change(Job::settle);
    assert_eq!((model.job.left(), model.job.refunded), (Amount::ZERO, refunded + left));
}

#[test]
fn a_merge_is_not_finished_with_what_does_not_stand() {
    let mut model = lied_about(30);
    model.make_until(Some(Stage::Merge(2)));
    let out = model.ask(5).expect("a merge");
    assert_eq!(out.stage, Stage::Merge(2));
    model.is_caught_elsewhere(1);
    model.review();
    assert_eq!((model.job.stage, model.job.round), (Stage::Work, 1));
    assert!(model.leases.is_empty(), "nobody goes on with it");
    model.make_until(None);
    assert_eq!(model.job.state, JobState::Complete);
    model.change(Job::settle);
    assert_eq!(model.job.refunded + model.job.spent, model.job.budget + model.job.granted);
}

#[test]
fn a_merge_by_two_who_were_caught_is_made_again() {
    let mut model = lied_about(60);
    model.make_until(Some(Stage::Merge(1)));
    model.says(3, "agreed");
    model.says(4, "agreed");
    model.make_until(None);
    model.is_caught_elsewhere(3);
    model.is_caught_elsewhere(4);
    model.review();
    assert_eq!(model.job.round, 1);
    model.make_until(None);
    let right = Digest::of(b"right");
    let made = model.verdicts.iter().filter(|(unit, _)| unit.stage > Stage::Work);
    assert!(made.clone().count() > 2);
    assert!(made.clone().all(|(_, verdict)| verdict.digest == right), "{:?}", made.collect::<Vec<_>>());
}

#[test]
fn where_nothing_pays_for_it_the_units_are_counted() {
    let mut model = lied_about(30);
    model.make_until(None);
    let answer = model.job.answer;
    // What the liar had was released before it was caught, and nobody else was.
    model.transfers.retain(|one| one.key.attempt != 99);
    model.held.remove(&OwnerId(1));
    model.is_caught_elsewhere(1);
    assert_eq!(model.losses(), Amount::ZERO);
    model.review();
    assert_eq!((model.job.state, model.job.round), (JobState::Complete, 0));
    assert!(model.job.doubtful > 0);
    assert_eq!(model.job.answer, answer);
}

#[test]
fn units_that_now_ask_for_two_owners_are_paid_for() {
    // The coins of units that are run again are new: of sixty that rested on one owner, a few ask for two.
    let mut model = lied_about_for(180, Copies::from_number((1 << 32) + (1 << 29)));
    model.make_until(None);
    assert_eq!(model.job.state, JobState::Complete);
    model.is_caught_elsewhere(1);
    let (losses, spent) = (model.losses(), model.job.spent);
    assert!(losses.is_positive());
    model.review();
    assert_eq!((model.job.state, model.job.round), (JobState::Running, 1));
    model.make_until(None);
    assert_eq!((model.job.state, model.job.doubtful), (JobState::Complete, 0));
    let paid = model.moved(Code::Grant) - model.moved(Code::Unspent);
    assert_eq!(paid, (model.job.spent - spent).min(losses), "what was lost pays for it, as far as it goes");
    let again =
        model.attempts.iter().filter(|(_, all)| all.iter().filter(|one| one.owner.0 != 1).count() == 2);
    assert!(again.count() > 2, "no coin asked for two");
}

#[test]
fn of_what_was_granted_nothing_goes_to_the_submitter() {
    let granted = amount("10");
    // Two of its own were left of twelve, and three of what was granted are spent.
    let mut job = Job {
        round: 1,
        answer: Some(Answer { digest: Digest::of(b"old"), size_bytes: 3 }),
        budget: amount("12"),
        spent: amount("13"),
        own: amount("2"),
        granted,
        max_error: Share::of(0.5),
        wish_copies: Copies::whole(2),
        ..job(30, 2, Reduce::Tree)
    };
    let changes = job.cancel();
    let moved =
        |code: Code| changes.transfers.iter().filter(|one| one.code == code).map(|one| one.amount).sum();
    assert_eq!((moved(Code::Unspent), moved(Code::Refund)), (amount("7"), amount("2")));
    assert_eq!((job.left(), job.granted), (Amount::ZERO, amount("3")));
}

#[test]
fn a_job_is_not_made_again_for_ever() {
    let mut model = lied_about(30);
    model.make_until(None);
    model.is_caught_elsewhere(1);
    let mut slice = model.slice(&[]);
    slice.jobs.get_mut(&model.job.id).expect("the job").round = ROUNDS_MAX;
    let changes = review(&mut slice, model.job.id);
    assert!(changes.jobs_begun_again.is_empty() && changes.transfers.is_empty());
    assert!(slice.jobs[&model.job.id].doubtful > 0);
}

#[test]
fn who_does_not_wait_gets_the_answer_that_there_was() {
    let mut model = lied_about(30);
    model.make_until(None);
    let answer = model.job.answer;
    model.is_caught_elsewhere(1);
    let losses = model.losses();
    model.review();
    let open = model.job.wanted;
    model.change(Job::cancel);
    assert_eq!((model.job.state, model.job.settled), (JobState::Complete, true));
    assert_eq!((model.job.answer, model.job.doubtful), (answer, open));
    assert_eq!(model.losses(), losses, "what was granted has gone back");
    assert_eq!(model.moved(Code::Unspent), model.moved(Code::Grant));
    model.review();
    assert_eq!(model.job.round, 1, "that was it");
    model.is_caught_elsewhere(2);
    model.review();
    assert_eq!((model.job.round, model.job.state), (1, JobState::Complete));
    assert!(model.job.doubtful > open, "what is found later is only counted");
}

#[test]
fn nobody_is_paid_twice_however_often_a_unit_is_decided() {
    let mut model = trust::known_to_all(Job { max_error: Share::of(0.5), ..job(1, 2, Reduce::None) });
    model.says(1, "x");
    assert!(model.job.awaits_review());
    // Two friends overrule it with a lie, and are caught.
    model.job.wish_copies = Copies::whole(3);
    model.review();
    for (owner, text) in [(2, "s"), (3, "s"), (4, "s")] {
        model.says(owner, text);
    }
    assert_eq!(model.verdicts.values().next().map(|one| one.digest), Some(Digest::of(b"s")));
    assert_eq!(model.caught(), [1], "framed, by more friends than the operator assumes");
    for owner in 2..=4 {
        model.is_caught_elsewhere(owner);
    }
    model
        .attempts
        .values_mut()
        .flatten()
        .filter(|one| one.owner.0 == 1)
        .for_each(|one| (one.void, one.caught) = (false, false));
    model.review();
    // The history of rewards has the first owner's already: the model fails when it is paid again.
    for owner in 5..=12 {
        if let Some(lease) = model.ask(owner) {
            model.answer(&lease, "x");
        }
    }
    let rewards = model.transfers.iter().filter(|one| one.code == Code::Reward && one.key.attempt == 1);
    assert_eq!(rewards.count(), 1);
}

#[test]
fn one_of_two_who_merged_is_enough_when_the_other_is_caught() {
    let mut model = lied_about(60);
    model.make_until(Some(Stage::Merge(1)));
    model.says(3, "right");
    model.says(4, "right");
    model.make_until(None);
    model.is_caught_elsewhere(3);
    let alone = model.attempts.values().filter(|all| all.len() == 1 && all[0].owner.0 == 3).count();
    model.review();
    assert_eq!(model.job.round, u16::from(alone > 0), "not for the merge alone");
}

#[test]
fn one_owner_alone_fails_no_unit() {
    let mut model = trust::known_to_all(Job { max_error: Share::of(0.5), ..job(3, 2, Reduce::None) });
    let lease = model.ask(1).expect("a lease");
    let mut report = model.report(lease.token, 0, "it trapped, says one").expect("an open unit");
    report.outcome = Outcome::GuestFailed;
    model.decide(&[Request { reports: vec![report], ..model.request(1, 1) }]);
    assert_eq!((model.job.stage_failed, model.job.wanted), (0, 1));
    model.make_until(None);
    assert_eq!((model.job.state, model.job.totals.failed), (JobState::Complete, 0));
}
