//! One owner among others cheats with checkpoints, results and witnesses, whatever the order of things: no
//! wrong result is accepted, nobody else is blamed, and the job comes to its end.

use proptest::prelude::*;

use super::*;

/// The owner that cheats.
const CHEAT: OwnerId = OwnerId(1);
const QUORUM: usize = 2;

#[derive(Debug, Clone)]
enum Move {
    Ask {
        device: u8,
    },
    /// A unit of a lease is given back, with a checkpoint so many steps further.
    HandBack {
        lease: u8,
        at: u8,
        steps: u8,
    },
    Report {
        lease: u8,
        at: u8,
        lies: bool,
    },
    Expire {
        lease: u8,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        4 => (0u8..12).prop_map(|device| Move::Ask { device }),
        4 => (any::<u8>(), any::<u8>(), 0u8..4).prop_map(|(lease, at, steps)| Move::HandBack { lease, at, steps }),
        3 => (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(lease, at, lies)| Move::Report { lease, at, lies }),
        1 => any::<u8>().prop_map(|lease| Move::Expire { lease }),
    ];
    prop::collection::vec(step, 1..160)
}

/// A grid in which everybody but one computes honestly, from whatever they were given.
struct Grid {
    model: Model,
    /// Whether honest agents keep states that they were offered once and go on from them unasked.
    hoard: bool,
    /// Who was offered a poisoned state of a unit at some time.
    spoilt: BTreeSet<(UnitKey, OwnerId)>,
    /// Names of poisoned checkpoints.
    poisoned: BTreeSet<(UnitKey, LeaseToken)>,
}

fn state(unit: UnitKey, steps: u64, poisoned: bool) -> Digest {
    Digest::of(format!("{unit:?} after {steps}, {poisoned}").as_bytes())
}

impl Grid {
    fn lease(&self, lease: u8) -> Option<Lease> {
        let count = self.model.leases.len();
        self.model.leases.values().nth(usize::from(lease) % count.max(1)).cloned()
    }

    fn unit(lease: &Lease, at: u8) -> Option<UnitKey> {
        let index = *lease.open.get(usize::from(at) % lease.open.len().max(1))?;
        Some(UnitKey { job: lease.job, stage: lease.stage, index })
    }

    /// Whether what this lease makes of a unit is spoilt, without its owner knowing.
    fn is_spoilt(&self, lease: &Lease, unit: UnitKey) -> bool {
        let origin = lease.offers.get(&unit.index).and_then(|offer| offer.origin);
        origin.is_some_and(|name| self.poisoned.contains(&(unit, name)))
            || (self.hoard && self.spoilt.contains(&(unit, lease.owner)))
    }

    fn ask(&mut self, device: i64, owner: i64) {
        let want = Some(Want { leases: 1, units_max: 3 });
        let request = Request { want, ..self.model.request(device, owner) };
        self.model.decide(&[request]);
        for lease in self.model.leases.values() {
            for (index, offer) in &lease.offers {
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
                if offer.origin.is_some_and(|name| self.poisoned.contains(&(unit, name))) {
                    self.spoilt.insert((unit, lease.owner));
                }
            }
        }
    }

    fn hand_back(&mut self, lease: &Lease, unit: UnitKey, more: u8) {
        let origin = lease.offers.get(&unit.index).and_then(|offer| offer.origin);
        let known = self.model.checkpoints.get(&unit).map_or(&[][..], Vec::as_slice);
        let from = known.iter().find(|one| Some(one.made_under) == origin).map_or(0, |one| one.steps);
        let steps = from + u64::from(more);
        let poisoned = lease.owner == CHEAT || self.is_spoilt(lease, unit);
        if poisoned {
            self.poisoned.insert((unit, lease.token));
        }
        let state = state(unit, steps, poisoned);
        let made =
            Made { index: unit.index, steps, state, blob: state, size_bytes: 100, signature: vec![0; 64] };
        let hand_back = HandBack { token: lease.token, indexes: vec![unit.index], checkpoints: vec![made] };
        let request =
            Request { hand_backs: vec![hand_back], ..self.model.request(lease.device.0, lease.owner.0) };
        self.model.decide(&[request]);
    }

    fn report(&mut self, lease: &Lease, unit: UnitKey, lies: bool) {
        let lies = lies && lease.owner == CHEAT;
        let wrong = lies || self.is_spoilt(lease, unit);
        let result = format!("{unit:?} {wrong}").into_bytes();
        let steps = self.model.checkpoints.get(&unit).into_iter().flatten().map(|one| one.steps);
        // The cheat frames others with what it says to have witnessed, too.
        let witnessed = steps.map(|steps| (steps, state(unit, steps, lease.owner == CHEAT))).collect();
        let report = Report {
            token: lease.token,
            unit,
            outcome: Outcome::Result,
            digest: Digest::of(&result),
            size_bytes: result.len() as u64,
            result: Some(result),
            cpu_micros: 1_000,
            witnessed,
            strict: (lease.mode == RunMode::Referee)
                .then(|| (Outcome::Result, Digest::of(format!("{unit:?} {wrong}").as_bytes()))),
            fuel: (lease.mode != RunMode::Normal).then_some(7),
        };
        let request = Request { reports: vec![report], ..self.model.request(lease.device.0, lease.owner.0) };
        self.model.decide(&[request]);
    }

    fn make(&mut self, step: &Move) {
        match *step {
            Move::Ask { device } => self.ask(i64::from(device), 1 + i64::from(device % 6)),
            Move::HandBack { lease, at, steps } => {
                let Some(lease) = self.lease(lease) else { return };
                let Some(unit) = Self::unit(&lease, at) else { return };
                self.hand_back(&lease, unit, steps);
            }
            Move::Report { lease, at, lies } => {
                let Some(lease) = self.lease(lease) else { return };
                let Some(unit) = Self::unit(&lease, at) else { return };
                self.report(&lease, unit, lies);
            }
            Move::Expire { lease } => {
                let Some(lease) = self.lease(lease) else { return };
                self.model.expire(lease.token);
            }
        }
    }

    fn check(&self) {
        for (unit, verdict) in &self.model.verdicts {
            // Where confidence is bought, some are accepted, and run again once somebody is caught.
            if verdict.outcome == Outcome::Result && !self.model.job.buys_confidence() {
                let right = Digest::of(format!("{unit:?} false").as_bytes());
                assert_eq!(verdict.digest, right, "a wrong result of {unit:?} was accepted");
            }
            assert!(
                self.model.is_open(unit) || !self.model.checkpoints.contains_key(unit),
                "checkpoints of {unit:?} outlive its verdict"
            );
        }
        for blame in &self.model.blames {
            assert!(self.hoard || blame.owner == CHEAT, "an honest owner is blamed: {blame:?}");
        }
        let is_lost = |one: &&Transfer| one.code == lull_ledger::Code::Forfeit;
        let lost = self.model.transfers.iter().filter(is_lost).map(|one| one.key.attempt);
        let caught = self.model.caught();
        for owner in caught.into_iter().chain(lost) {
            assert!(self.hoard || owner == CHEAT.0, "owner {owner} is honest, and caught");
        }
    }

    fn drain(&mut self) {
        for round in 0i64..5_000 {
            if self.model.job.state != JobState::Running {
                return;
            }
            if self.model.job.awaits_review() {
                self.model.review();
            }
            for lease in self.model.leases.values().cloned().collect::<Vec<_>>() {
                if let Some(unit) = Self::unit(&lease, 0) {
                    self.report(&lease, unit, true);
                    self.check();
                }
            }
            self.ask(100 + round % 40, 1 + round % 40);
        }
        panic!("the queue does not drain: {:?}", self.model.job);
    }
}

fn grid(units: u64, hoard: bool) -> Grid {
    let model = Model::new(job(units, u32::try_from(QUORUM).expect("small"), Reduce::None));
    Grid { model, hoard, spoilt: BTreeSet::new(), poisoned: BTreeSet::new() }
}

/// The same for a job that buys confidence, of which everybody is known.
fn confident_grid(units: u64) -> Grid {
    let job = Job { max_error: Share::of(0.1), ..job(units, 2, Reduce::None) };
    Grid { model: trust::known_to_all(job), ..grid(units, false) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn one_cheat_spoils_no_result_and_is_the_only_one_to_be_blamed(
        units in 1u64..4,
        hoard in any::<bool>(),
        moves in moves(),
    ) {
        let mut grid = grid(units, hoard);
        for step in &moves {
            grid.make(step);
            grid.check();
        }
        grid.drain();
    }

    #[test]
    fn where_confidence_is_bought_only_the_cheat_is_caught_and_nothing_rests_on_its_states_then(
        units in 1u64..8,
        moves in moves(),
    ) {
        let mut grid = confident_grid(units);
        for step in &moves {
            grid.make(step);
            grid.check();
        }
        grid.model.is_caught_elsewhere(CHEAT.0);
        if grid.model.job.stage == Stage::Work {
            grid.model.review();
        }
        // The cheat goes on: it is no longer passed on what it makes.
        grid.drain();
        for (unit, verdict) in &grid.model.verdicts {
            let said = grid.model.attempts[unit].iter().filter(|one| one.digest == verdict.digest && !one.void);
            prop_assert!(said.clone().next().is_some(), "nobody who says something supports {unit:?}");
            prop_assert!(said.clone().all(|one| one.origin.is_none() || !one.owners().contains(&CHEAT) || one.owner == CHEAT));
        }
    }

    #[test]
    fn lineages_that_overlap_never_outvote(
        lineages in prop::collection::vec((prop::collection::btree_set(1i64..7, 1..4), 0u8..2), 0..9),
        quorum in 1usize..4,
    ) {
        let attempts: Vec<Attempt> = (100..).zip(&lineages).map(|(owner, (lineage, result))| {
            let lineage: Vec<OwnerId> = lineage.iter().copied().map(OwnerId).collect();
            Attempt { lineage, ..attempt(owner, &result.to_string()) }
        }).collect();
        let decided = |attempts: &[Attempt]| match judge(attempts, Rule { needed: quorum, strict: false, lead: 20, to_fail: 20, by_vote: true }) {
            Judgement::Decided { digest, .. } => Some(digest),
            _ => None,
        };
        // By hand: the largest set of agreeing attempts, no two with an owner in common.
        let most = |digest| (0u32..1 << attempts.len()).filter_map(|set| {
            let chosen: Vec<&Attempt> = attempts.iter().enumerate()
                .filter(|(at, attempt)| set >> at & 1 == 1 && attempt.digest == digest)
                .map(|(_, attempt)| attempt).collect();
            let owners: Vec<&OwnerId> = chosen.iter().flat_map(|attempt| attempt.owners()).collect();
            let different: BTreeSet<&OwnerId> = owners.iter().copied().collect();
            (different.len() == owners.len()).then_some(chosen.len())
        }).max().unwrap_or(0);
        let votes = [0, 1].map(|result| most(Digest::of(result.to_string().as_bytes())));
        match decided(&attempts) {
            Some(digest) => prop_assert!(most(digest) >= quorum && most(digest) == votes[0].max(votes[1])),
            None => prop_assert!(votes.iter().all(|votes| *votes < quorum)),
        }
        let mut backwards = attempts.clone();
        backwards.reverse();
        if votes[0] != votes[1] {
            prop_assert_eq!(decided(&attempts), decided(&backwards));
        }
    }
}

fn attempt(owner: i64, result: &str) -> Attempt {
    super::super::judge::tests::attempt(owner, Outcome::Result, result)
}

/// A leases the unit, gives it back with a checkpoint; B goes on from it; then others run it from the start.
fn passed_on(grid: &mut Grid, makers: &[i64]) {
    for (maker, more) in makers.iter().zip([100, 50, 25]) {
        grid.ask(*maker, *maker);
        let lease = grid.model.leases.values().next().cloned().expect("a lease");
        let unit = Grid::unit(&lease, 0).expect("an open unit");
        grid.hand_back(&lease, unit, more);
    }
}

fn run(grid: &mut Grid, owner: i64) -> Lease {
    grid.ask(owner, owner);
    let lease = grid.model.leases.values().find(|lease| !lease.expired).cloned().expect("a lease");
    let unit = Grid::unit(&lease, 0).expect("an open unit");
    grid.report(&lease, unit, true);
    lease
}

#[test]
fn a_poisoned_checkpoint_is_blamed_on_its_maker_and_not_on_who_went_on_from_it() {
    let mut grid = grid(1, false);
    passed_on(&mut grid, &[CHEAT.0]);
    let resumed = run(&mut grid, 2);
    assert!(resumed.offers[&0].origin.is_some());
    let check = run(&mut grid, 3);
    assert!(check.offers.is_empty(), "a check starts from the beginning");
    assert!(grid.model.verdicts.is_empty());
    run(&mut grid, 4);
    grid.check();
    assert_eq!(grid.model.job.state, JobState::Complete);
    let [blame] = &grid.model.blames[..] else { panic!("{:?}", grid.model.blames) };
    assert_eq!((blame.owner, blame.fault, blame.witnesses), (CHEAT, Fault::Poisoned, 2));
    assert_eq!(blame.checkpoint.steps, 100);
}

#[test]
fn blame_follows_the_first_state_that_differs() {
    // An honest owner's checkpoint, poisoned by the second, passed on by the third.
    let mut grid = grid(1, false);
    passed_on(&mut grid, &[2, CHEAT.0, 3]);
    for owner in [4, 5, 6] {
        run(&mut grid, owner);
    }
    grid.check();
    let [blame] = &grid.model.blames[..] else { panic!("{:?}", grid.model.blames) };
    assert_eq!((blame.owner, blame.fault, blame.checkpoint.steps), (CHEAT, Fault::Poisoned, 150));
}

#[test]
fn who_makes_a_wrong_result_of_a_right_checkpoint_is_blamed() {
    let mut grid = grid(1, false);
    passed_on(&mut grid, &[2]);
    for owner in [CHEAT.0, 4, 5] {
        run(&mut grid, owner);
    }
    let [blame] = &grid.model.blames[..] else { panic!("{:?}", grid.model.blames) };
    assert_eq!((blame.owner, blame.fault, blame.checkpoint.owner), (CHEAT, Fault::Resumed, OwnerId(2)));
}

#[test]
fn a_unit_is_not_passed_to_the_last_owner_who_could_check_it() {
    let mut grid = grid(1, false);
    grid.model.owners_there = [2, 3].map(OwnerId).into();
    passed_on(&mut grid, &[2]);
    grid.ask(3, 3);
    let lease = grid.model.leases.values().next().cloned().expect("a lease");
    assert!(lease.offers.is_empty(), "{lease:?}");
    grid.hand_back(&lease, Grid::unit(&lease, 0).expect("a unit"), 10);
    assert_eq!(grid.model.checkpoints.values().map(Vec::len).sum::<usize>(), 2, "each keeps their own");
    // Each goes on from their own work, and both together decide the unit.
    for (owner, steps) in [(2, 100), (3, 10)] {
        let lease = run(&mut grid, owner);
        let origin = lease.offers[&0].origin;
        assert!(origin.is_some() && lease.offers[&0].lineage == [OwnerId(owner)], "{lease:?} {steps}");
    }
    assert_eq!(grid.model.job.state, JobState::Complete);
}

#[test]
fn who_was_offered_a_state_once_has_it_in_their_lineage_ever_after() {
    let mut grid = grid(1, false);
    passed_on(&mut grid, &[CHEAT.0]);
    grid.ask(2, 2);
    let lease = grid.model.leases.values().next().cloned().expect("a lease");
    grid.model.expire(lease.token);
    // The maker's own result is there first: its checkpoint is offered to nobody any more.
    run(&mut grid, CHEAT.0);
    grid.ask(2, 2);
    let again = grid.model.leases.values().find(|lease| !lease.expired);
    assert!(again.is_none(), "owner 2 may still have the cheat's state: {again:?}");
    grid.ask(3, 3);
    assert!(grid.model.leases.values().any(|lease| !lease.expired && lease.owner == OwnerId(3)));
}

#[test]
fn nobody_witnesses_about_work_of_their_own() {
    let unit = UnitKey { job: JobId(1), stage: Stage::Work, index: 0 };
    let checkpoint = |name: i64, owner: OwnerId, parent: Option<i64>, lineage: &[i64], poisoned| Checkpoint {
        made_under: LeaseToken(name),
        steps: name.unsigned_abs(),
        state: state(unit, name.unsigned_abs(), poisoned),
        blob: Digest::of(b"blob"),
        size_bytes: 1,
        device: DeviceId(owner.0),
        owner,
        signature: Vec::new(),
        parent: parent.map(LeaseToken),
        lineage: lineage.iter().copied().map(OwnerId).collect(),
    };
    let known =
        [checkpoint(10, OwnerId(2), None, &[2], false), checkpoint(20, CHEAT, Some(10), &[1, 2], true)];
    let wrong = Attempt {
        origin: Some(LeaseToken(20)),
        lineage: [1, 2, 3].map(OwnerId).to_vec(),
        ..attempt(3, "wrong")
    };
    let told = |owner, lies| Attempt {
        witnessed: vec![(10, state(unit, 10, lies)), (20, state(unit, 20, false))],
        ..attempt(owner, "right")
    };
    let verdict = (Outcome::Result, Digest::of(b"right"));
    let blame = |attempts: &[Attempt]| {
        let blames = super::super::checkpoint::blame(unit, &known, attempts, verdict);
        blames.iter().map(|blame| blame.owner.0).collect::<Vec<_>>()
    };
    // The cheat's own late result says that owner 2's state was wrong, then that its own was right.
    assert_eq!(blame(&[wrong.clone(), told(CHEAT.0, true), attempt(5, "right")]), [0i64; 0]);
    assert_eq!(blame(&[wrong.clone(), told(CHEAT.0, true), told(5, false)]), [CHEAT.0]);
    // Nobody is caught for one witness, who could be a friend of whoever made the wrong result.
    let is_caught = |attempts: &[Attempt]| {
        let blames = super::super::checkpoint::blame(unit, &known, attempts, verdict);
        blames.iter().map(Blame::is_beyond_doubt).collect::<Vec<_>>()
    };
    assert_eq!(is_caught(&[wrong.clone(), told(5, false), attempt(6, "right")]), [false]);
    assert_eq!(is_caught(&[wrong.clone(), told(5, false), told(6, false)]), [true]);
    let caught = Attempt { void: true, caught: true, ..told(6, false) };
    assert_eq!(is_caught(&[wrong.clone(), told(5, false), caught]), [false], "nor for one who lied");
    // Witnesses that contradict each other say nothing.
    assert_eq!(blame(&[wrong, told(4, true), told(5, false)]), [0i64; 0]);
}

#[test]
fn a_late_result_may_be_made_from_a_state_that_its_owner_was_offered_since() {
    let mut grid = grid(1, true);
    grid.ask(3, 3);
    let old = grid.lease(0).expect("a lease");
    grid.model.expire(old.token);
    grid.ask(1, 1);
    let cheats = grid.model.leases.values().find(|lease| lease.owner == CHEAT).cloned().expect("a lease");
    let unit = Grid::unit(&cheats, 0).expect("an open unit");
    grid.hand_back(&cheats, unit, 1);
    grid.ask(33, 3);
    assert!(grid.spoilt.contains(&(unit, OwnerId(3))), "its owner goes on from the poisoned state");
    grid.report(&old, unit, false);
    grid.check();
    assert_eq!(grid.model.attempts[&unit][0].owners(), [CHEAT, OwnerId(3)]);
    grid.drain();
}
