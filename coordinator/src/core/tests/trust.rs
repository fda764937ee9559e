//! Who is believed, who is caught, and who is not.

use lull_proto::v1::RefusalReason;

use super::*;

/// A job that buys confidence, on a grid of which everybody is known.
fn trusting(units: u64, max_error: f64) -> Model {
    known_to_all(Job { max_error: Share::of(max_error), ..job(units, 2, Reduce::None) })
}

/// This job, on such a grid.
pub(super) fn known_to_all(job: Job) -> Model {
    let mut model = Model::new(job);
    // So long that a lease holds one.
    model.cpu_micros = 200_000_000;
    for owner in 1..=20 {
        let known = Standing { correct: 1_000, ..Standing::default() };
        model.standings.insert(OwnerId(owner), known);
        model.staked.insert(OwnerId(owner), amount("100"));
    }
    model
}

impl Model {
    pub(super) fn ask(&mut self, owner: i64) -> Option<Lease> {
        let want = Some(Want { leases: 1, units_max: 1 });
        let request = Request { want, ..self.request(owner, owner) };
        let token = *self.decide(&[request])[0].leases.last()?;
        Some(self.leases[&token].clone())
    }

    pub(super) fn answer(&mut self, lease: &Lease, text: &str) {
        self.answer_as(lease, text, text, false);
    }

    fn answer_as(&mut self, lease: &Lease, text: &str, strict: &str, referee: bool) {
        let mut report = self.report(lease.token, 0, text).expect("an open unit");
        report.strict = report.strict.map(|(outcome, _)| (outcome, Digest::of(strict.as_bytes())));
        let request =
            Request { reports: vec![report], referee, ..self.request(lease.device.0, lease.owner.0) };
        self.decide(&[request]);
    }

    /// This owner takes a unit and says that.
    pub(super) fn says(&mut self, owner: i64, text: &str) {
        let lease = self.ask(owner).expect("a lease");
        self.answer(&lease, text);
    }

    pub(super) fn caught(&self) -> Vec<i64> {
        self.caught.iter().map(|catch| catch.owner.0).collect()
    }
}

#[test]
fn known_owners_are_believed_and_strangers_checked() {
    let mut model = trusting(1, 0.5);
    model.says(1, "right");
    assert!(model.job.awaits_review(), "one owner that is known is enough for so loose a promise");
    let mut model = trusting(1, 0.5);
    model.standings.clear();
    model.says(1, "right");
    assert_eq!(model.job.wanted, 1, "a stranger is checked");
    model.says(2, "right");
    assert!(model.job.awaits_review());
    assert_eq!(model.standings[&OwnerId(1)].correct, 1);
}

#[test]
fn pay_for_what_could_still_be_wrong_is_held_back() {
    let mut model = trusting(1_000, 0.5);
    model.says(1, "right");
    let held = &model.held[&OwnerId(1)];
    assert_eq!((held.len(), held[0].checked), (1, false));
    assert_eq!(held[0].results, 200, "at one check in a hundred, twice as many results as a check takes");
    let reward = model.transfers.last().expect("a reward");
    assert_eq!(reward.credit(), lull_ledger::AccountId::new(yen(), lull_ledger::AccountKind::Pending, 1));
}

#[test]
fn a_liar_is_caught_by_the_owners_asked_after_it_and_nobody_sooner() {
    let mut model = trusting(1, 1e-4);
    model.says(1, "wrong");
    model.says(2, "right");
    for owner in 3..=5 {
        assert!(model.caught().is_empty(), "two owners ahead are not enough to blame anybody");
        assert!(!model.verdicts.contains_key(&UnitKey { job: JobId(1), stage: Stage::Work, index: 0 }));
        model.says(owner, "right");
    }
    assert!(model.caught().is_empty());
    model.says(6, "right");
    assert_eq!(model.caught(), [1]);
    assert_eq!(model.standings[&OwnerId(1)], Standing { catches: 1, ..Standing::default() });
}

#[test]
fn one_liar_frames_nobody() {
    let mut model = trusting(1, 1e-4);
    model.says(1, "right");
    model.says(2, "wrong");
    for owner in 3..=6 {
        model.says(owner, "right");
    }
    assert_eq!(model.caught(), [2]);
}

/// The referee of these tests.
const REFEREE: i64 = 9;

impl Model {
    /// A call of the referee for work.
    fn ask_referee(&mut self) -> Option<Lease> {
        let want = Some(Want { leases: 1, units_max: 0 });
        let request = Request { want, referee: true, ..self.request(REFEREE, REFEREE) };
        let token = *self.decide(&[request])[0].leases.last()?;
        Some(self.leases[&token].clone())
    }

    /// The lease of the referee for the one unit that is in dispute.
    fn dispute(&mut self) -> Lease {
        self.referees = [OwnerId(REFEREE)].into();
        let lease = self.ask_referee().expect("a dispute");
        assert_eq!(lease.mode, RunMode::Referee);
        lease
    }
}

#[test]
fn a_referee_has_the_last_word() {
    let mut model = trusting(1, 1e-4);
    model.referees = [OwnerId(REFEREE)].into();
    model.says(1, "right");
    model.says(2, "wrong");
    assert!(model.ask(3).is_none(), "it waits for a referee");
    let lease = model.dispute();
    model.answer_as(&lease, "right", "right", true);
    assert_eq!(model.caught(), [2]);
}

#[test]
fn a_referee_that_lost_its_time_is_a_voice_like_any_other() {
    let mut model = trusting(1, 1e-4);
    model.says(1, "right");
    model.says(2, "wrong");
    let lease = model.dispute();
    let mut report = model.report(lease.token, 0, "wrong").expect("an open unit");
    (report.strict, report.fuel) = (Some((Outcome::Limit, Digest::of(b"too long"))), None);
    let request = Request { reports: vec![report], referee: true, ..model.request(REFEREE, REFEREE) };
    model.decide(&[request]);
    assert!(!model.job.strict, "a limit of a PC says nothing of NaN");
    assert!(model.caught().is_empty());
    assert_eq!(model.job.wanted, 1);
    for owner in 3..=8 {
        let Some(lease) = model.ask(owner) else { break };
        model.answer(&lease, "right");
    }
    assert_eq!(model.caught(), [2, REFEREE], "it is asked on until one answer is ahead");
}

#[test]
fn a_dispute_does_not_wait_for_a_referee_that_has_a_voice_in_it() {
    let mut model = trusting(1, 1e-4);
    model.referees = [OwnerId(REFEREE)].into();
    let lease = model.ask_referee().expect("a lease");
    assert_eq!(lease.mode, RunMode::Normal, "a referee does other work too");
    model.answer_as(&lease, "one", "one", true);
    model.says(2, "two");
    assert!(model.caught().is_empty(), "its normal run may have gone by bits of NaN");
    assert!(model.ask_referee().is_none(), "its owner has a voice already");
    assert_eq!(model.ask(3).expect("it does not wait").mode, RunMode::Referee);
}

#[test]
fn a_referee_is_given_disputes_first_whatever_is_known_of_its_owner() {
    let mut model = trusting(500, 1e-4);
    model.referees = [OwnerId(REFEREE)].into();
    model.standings.insert(OwnerId(REFEREE), Standing { dropped: 1_000, ..Standing::default() });
    let mut at = 0;
    while !model.wanted.values().any(|row| row.contested) {
        at += 1;
        assert!(at < 400, "a liar is never checked");
        let owner = 1 + at % 8;
        model.says(owner, if owner == 2 { "wrong" } else { "right" });
    }
    let disputed = model.wanted.values().find(|row| row.contested).expect("a dispute").unit.index;
    let lease = model.ask_referee().expect("a dispute");
    assert_eq!((lease.open.as_slice(), lease.mode), (&[disputed][..], RunMode::Referee));
}

#[test]
fn what_was_not_run_as_leased_is_refused_and_wanted_again() {
    fn claims_strict(report: &mut Report) {
        report.strict = Some((Outcome::Result, report.digest));
    }
    fn claims_fuel(report: &mut Report) {
        report.fuel = Some(7);
    }
    fn knows_nothing(report: &mut Report) {
        (report.fuel, report.strict) = (None, None);
    }
    let check = |mode: RunMode, change: fn(&mut Report)| {
        let mut model = trusting(1, 1e-4);
        let owner = match mode {
            RunMode::Normal => 1,
            RunMode::Strict => {
                model.job.strict = true;
                1
            }
            RunMode::Referee => {
                model.says(1, "right");
                model.says(2, "wrong");
                3
            }
        };
        let lease = model.ask(owner).expect("a lease");
        assert_eq!(lease.mode, mode);
        let before = model.attempts.clone();
        let mut report = model.report(lease.token, 0, "right").expect("an open unit");
        change(&mut report);
        let request = Request { reports: vec![report], ..model.request(owner, owner) };
        let reply = model.decide(&[request]).remove(0);
        let reasons: Vec<RefusalReason> = reply.refusals.iter().map(|(_, _, reason)| *reason).collect();
        assert_eq!(reasons, [RefusalReason::WrongRun], "{mode:?}");
        assert_eq!(model.attempts, before, "it is nobody's voice");
        model.check();
        // Nothing is lost: somebody else runs it, or the same owner once more.
        let again = model.ask(owner).expect("the unit again");
        assert_eq!((again.open, again.mode), (vec![0], mode));
    };
    check(RunMode::Normal, claims_strict);
    check(RunMode::Normal, claims_fuel);
    check(RunMode::Strict, knows_nothing);
    check(RunMode::Strict, claims_strict);
    check(RunMode::Referee, knows_nothing);
    check(RunMode::Referee, |report| report.strict = None);
    check(RunMode::Referee, |report| report.fuel = None);
}

#[test]
fn bits_of_nan_blame_nobody_and_turn_the_job_strict() {
    let mut model = trusting(1, 1e-4);
    model.referees = [OwnerId(REFEREE)].into();
    model.says(1, "nan 1");
    model.says(2, "nan 2");
    let lease = model.dispute();
    model.answer_as(&lease, "nan 1", "canonical", true);
    assert!(model.caught().is_empty());
    assert!(model.job.strict);
    for owner in 3..=10 {
        let Some(lease) = model.ask(owner) else { break };
        assert_eq!(lease.mode, RunMode::Strict);
        model.answer(&lease, "canonical");
    }
    assert!(model.job.awaits_review());
    let verdict = model.verdicts.values().next().expect("a verdict");
    assert_eq!(verdict.digest, Digest::of(b"canonical"));
    assert!(model.caught().is_empty());
    let paid: BTreeSet<i64> = model.transfers.iter().map(|transfer| transfer.key.attempt).collect();
    assert!(paid.contains(&REFEREE), "who found it is paid, as its strict run was right");
    assert!(!paid.contains(&1) && !paid.contains(&2), "the two whom nobody can compare are not");
}

#[test]
fn without_a_referee_a_nan_is_found_by_those_asked_after_it() {
    let mut model = trusting(1, 1e-4);
    model.says(1, "nan 1");
    model.says(2, "nan 2");
    for owner in 3..=6 {
        let lease = model.ask(owner).expect("a lease");
        model.answer_as(&lease, "nan 1", "canonical", false);
    }
    assert!(model.job.strict);
    assert!(model.caught().is_empty());
}

#[test]
fn two_attempts_that_were_out_together_are_one_voice() {
    let mut model = trusting(1, 1e-4);
    let stalled = model.ask(1).expect("a lease");
    model.expire(stalled.token);
    let second = model.ask(2).expect("a lease");
    model.answer(&stalled, "agreed in secret");
    model.answer(&second, "agreed in secret");
    assert_eq!(model.job.wanted, 1, "two who may have known of each other do not check each other");
    model.says(3, "right");
    for owner in 4..=8 {
        let Some(lease) = model.ask(owner) else { break };
        model.answer(&lease, "right");
    }
    assert_eq!(model.caught(), [1, 2]);
}

#[test]
fn what_a_liar_got_accepted_is_run_again_and_its_pay_is_lost() {
    let mut model = trusting(50, 0.5);
    for _ in 0..25 {
        model.says(1, "wrong");
    }
    let accepted = model.job.stage_accepted;
    assert!(accepted > 15, "most are believed: {accepted}");
    let mut owner = 2;
    while model.caught().is_empty() {
        if let Some(lease) = model.ask(owner) {
            model.answer(&lease, "right");
        }
        owner = 2 + (owner - 1) % 18;
        if model.job.awaits_review() {
            model.job.wish_copies = Copies::whole(2);
            model.review();
        }
    }
    let forfeited =
        model.transfers.iter().filter(|one| one.code == lull_ledger::Code::Forfeit).count() as u64;
    assert!(forfeited >= accepted, "{forfeited} of {accepted}");
    model.review();
    model.drain_from(2);
    let right = Digest::of(b"right");
    assert!(model.verdicts.values().all(|verdict| verdict.digest == right));
    assert!(model.verdicts.values().any(|verdict| verdict.version > 1));
}

impl Model {
    /// Everybody from `first` on works honestly until the job is done.
    fn drain_from(&mut self, first: i64) {
        for round in 0..5_000 {
            if self.job.state != JobState::Running {
                return;
            }
            if self.job.awaits_review() {
                self.review();
                continue;
            }
            let owner = first + round % 18;
            if let Some(lease) = self.ask(owner) {
                self.answer(&lease, "right");
            }
        }
        panic!("the queue does not drain: {:?}", self.job);
    }
}

#[test]
fn looking_over_asks_for_the_checks_that_the_promise_needs() {
    let mut model = trusting(200, 0.5);
    for round in 0..400 {
        if model.job.awaits_review() {
            break;
        }
        if let Some(lease) = model.ask(1 + round % 3) {
            model.answer(&lease, "right");
        }
    }
    assert!(model.job.awaits_review());
    model.job.max_error = Share::of(0.001);
    model.review();
    assert!(model.job.wanted > 5, "{} units are checked after all", model.job.wanted);
    let short = (0..200).filter(|index| {
        let unit = UnitKey { job: JobId(1), stage: Stage::Work, index: *index };
        model.verdicts.get(&unit).is_some_and(|verdict| model.job.is_short(unit, verdict.agreeing))
    });
    assert_eq!(short.count() as u64, model.job.wanted, "these and no others");
    model.drain_from(1);
}

#[test]
fn a_unit_that_somebody_still_has_is_not_given_to_another_when_it_is_looked_over() {
    let mut model = trusting(1, 0.5);
    let stalled = model.ask(1).expect("a lease");
    model.expire(stalled.token);
    let other = model.ask(2).expect("a lease");
    model.answer(&stalled, "right");
    assert!(model.job.awaits_review(), "the late result decided it");
    model.job.wish_copies = Copies::whole(2);
    model.review();
    assert_eq!((model.job.wanted, model.leases.len()), (0, 1), "its second owner is at it already");
    model.answer(&other, "right");
    model.drain_from(3);
}

#[test]
fn a_stranger_whose_checker_is_caught_is_checked_again() {
    let mut model = trusting(1, 0.5);
    for owner in [1, 2] {
        model.standings.remove(&OwnerId(owner));
    }
    model.says(1, "wrong");
    model.says(2, "wrong");
    assert!(model.job.awaits_review());
    model
        .attempts
        .values_mut()
        .flatten()
        .filter(|one| one.owner == OwnerId(2))
        .for_each(|one| one.void = true);
    model.review();
    assert_eq!(model.job.wanted, 1, "a stranger alone is not believed");
}

#[test]
fn who_hands_back_too_much_gets_one_unit_at_a_time_and_no_checks() {
    let mut model = trusting(400, 1e-3);
    model.cpu_micros = 1_000_000;
    model.job.unit_micros = 1_000_000;
    // Some units wait to be checked.
    for owner in 2..=4 {
        let lease = model.ask(owner).expect("a lease");
        for _ in &lease.open {
            model.answer(&lease, "right");
        }
    }
    let checks = model.wanted.len();
    assert!(checks > 0, "of so many some are checked");
    let first = model.ask(1).expect("a lease");
    assert!(first.open.len() > 10);
    let hand_back = HandBack { token: first.token, indexes: Vec::new(), checkpoints: Vec::new() };
    model.decide(&[Request { hand_backs: vec![hand_back], ..model.request(1, 1) }]);
    assert!(model.standings[&OwnerId(1)].picks());
    for _ in 0..20 {
        let lease = model.ask(1).expect("a lease");
        assert_eq!(lease.open.len(), 1);
        let unit = UnitKey { job: JobId(1), stage: Stage::Work, index: lease.open[0] };
        assert!(!model.attempts.contains_key(&unit), "a check");
        model.answer(&lease, "right");
    }
}

#[test]
fn whoever_was_caught_rests_and_longer_each_time() {
    let caught = |catches, secs_since_catch| Standing { catches, secs_since_catch, ..Standing::default() };
    assert!(!caught(0, 0).rests());
    assert!(caught(1, 3_599).rests() && !caught(1, 3_600).rests());
    assert!(caught(3, 14_399).rests() && !caught(3, 14_400).rests());
    assert_eq!(caught(1_000, 0).rest_secs(), 128 * 3_600, "five days at most");
}

#[test]
fn what_nobody_checked_for_long_is_checked_once() {
    let mut model = trusting(3, 0.5);
    model.ask(9).expect("a unit that is out");
    model.says(1, "right");
    let unit = *model.verdicts.keys().next().expect("a verdict of one owner");
    let look = |model: &mut Model| {
        let mut slice = model.slice(&[]);
        let changes = check_overdue(&mut slice);
        model.apply(slice, changes);
    };
    look(&mut model);
    assert_eq!(model.wanted[&unit].excluded, [OwnerId(1)]);
    look(&mut model);
    for owner in 2..=4 {
        if model.wanted.contains_key(&unit) {
            model.says(owner, "right");
        }
    }
    assert_eq!((model.verdicts[&unit].agreeing, model.verdicts[&unit].version), (2, 2));
    look(&mut model);
    assert!(!model.wanted.contains_key(&unit), "once");
}
