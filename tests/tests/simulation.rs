//! What the coordinator's core promises, shown by simulation; `make trust` runs more of the same for longer.

use std::collections::BTreeSet;

use lull_coordinator::core::JobId;
use lull_job::{Share, Stage};
use lull_tests::sim::table::{Trial, adversaries, trials};
use lull_tests::sim::{AfterCatch, Call, Conduct, Lull, Lying, Scene, Server, Unit, Work, audit, run};

/// Small enough for a build without optimisation.
const SMALL: Trial = Trial {
    owners: 60,
    percent: 5,
    units_an_owner: 100,
    max_error: 1e-3,
    assumed: 0.05,
    unit_micros: 10_000_000,
};

#[test]
fn whatever_adversaries_do_the_books_are_right_and_nobody_is_framed() {
    for adversary in adversaries() {
        let (findings, run) = SMALL.lull(1, adversary.conduct);
        assert_eq!(findings.faults, Vec::<String>::new(), "{}", adversary.name);
        assert_eq!(findings.framed, 0, "{}", adversary.name);
        assert_eq!(findings.units, SMALL.units());
        let liars = !run.liars.is_empty();
        assert!(!liars || findings.lies_paid <= 3 + findings.honest_lost, "{}: {findings:?}", adversary.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let conduct = Conduct::Liar(Lying::sleeper(10, 3));
    let told = |seed| {
        let (findings, run) = SMALL.lull(seed, conduct);
        format!("{findings:?} {run:?}")
    };
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
}

#[test]
fn liars_who_agree_stay_below_the_promise() {
    let trial = Trial { percent: 20, assumed: 0.2, max_error: 5e-3, ..SMALL };
    let lies = trials(0..6, |seed| trial.lull(seed, Conduct::Liar(Lying::sleeper(20, 3))));
    assert!(lies.error <= 5e-3, "{lies:?}");
    assert!(lies.net_pay < 0.0, "{lies:?}");
    let lies = trials(0..6, |seed| trial.boinc(seed, Conduct::Liar(Lying::sleeper(20, 3)), 10));
    assert!(lies.error > 5e-3, "with BOINC's rule it is broken, so that the trial is a hard one: {lies:?}");
}

#[test]
fn honest_devices_that_die_or_err_lose_no_unit() {
    let mut lull = Lull::new(3, 3_000, Share::of(1e-3), Share::of(0.05), 10_000_000);
    let cast = vec![
        (10, Conduct::Dying(0.3)),
        (10, Conduct::Slow(20.0)),
        (5, Conduct::GivesUp),
        (5, Conduct::Flaky(0.01)),
        (20, Conduct::Honest),
    ];
    let run = run(&mut lull, &Scene { seed: 3, unit_micros: 10_000_000, cast });
    let findings = audit(&lull, &run);
    assert_eq!(findings.faults, Vec::<String>::new());
    assert_eq!((findings.accepted, findings.framed), (3_000, 0), "{findings:?}");
}

#[test]
fn a_friend_who_looks_for_checks_finds_few() {
    let trial = Trial { percent: 20, assumed: 0.2, units_an_owner: 150, ..SMALL };
    let fishing = Lying { fishes: Some(u64::MAX), ..Lying::sleeper(20, 3) };
    let looks = trials(0..4, |seed| trial.lull(seed, Conduct::Liar(fishing)));
    assert_eq!(looks.framed, 0, "they settle no disputes");
    assert!(looks.error <= trial.max_error, "{looks:?}");
    assert!(looks.net_pay < 0.0, "{looks:?}");
}

#[test]
fn enrolling_again_brings_nothing() {
    let lying = Lying { after: 10, agrees: true, after_catch: AfterCatch::ComesBack(5), ..Lying::ALWAYS };
    let (findings, _) = SMALL.lull(2, Conduct::Liar(lying));
    assert!(findings.lies_paid <= findings.honest_lost, "{findings:?}");
    assert_eq!(findings.faults, Vec::<String>::new());
}

/// Notes what each lease shows, and whether its units had been out before.
struct Watched {
    lull: Lull,
    out: BTreeSet<u64>,
    /// By third of the lease, by order of index: units that were new, and repeats.
    thirds: [[u64; 2]; 3],
}

impl Server for Watched {
    fn set_clock(&mut self, now: u64) {
        self.lull.set_clock(now);
    }

    fn call(&mut self, call: &Call<'_>) -> Option<Work> {
        let work = self.lull.call(call)?;
        let length = work.units.len();
        for (at, unit) in work.units.iter().enumerate() {
            let is_repeat = usize::from(!self.out.insert(*unit));
            // Near the end everything is a repeat, and a device that knows the job's size knows that.
            if self.lull.has_new() && length > 1 {
                self.thirds[at * 3 / length][is_repeat] += 1;
            }
        }
        Some(work)
    }

    fn lapse(&mut self, token: i64) {
        self.lull.lapse(token);
    }

    fn chores(&mut self) {
        self.lull.chores();
    }

    fn is_over(&self) -> bool {
        self.lull.is_over()
    }

    fn has_new(&self) -> bool {
        self.lull.has_new()
    }

    fn catches(&self, owner: i64) -> u32 {
        self.lull.catches(owner)
    }

    fn enrol(&mut self, owner: i64, devices: u64) {
        self.lull.enrol(owner, devices);
    }
}

#[test]
#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "shares of units")]
fn where_a_unit_stands_in_its_lease_does_not_tell_a_check_from_a_first_attempt() {
    let lull = Lull::new(4, 12_000, Share::of(1e-3), Share::of(0.2), 10_000_000);
    let mut watched = Watched { lull, out: BTreeSet::new(), thirds: [[0; 2]; 3] };
    let cast = vec![(60, Conduct::Honest)];
    run(&mut watched, &Scene { seed: 4, unit_micros: 10_000_000, cast });
    let share = |[new, repeats]: [u64; 2]| repeats as f64 / (new + repeats) as f64;
    let shares = watched.thirds.map(share);
    assert!(shares.iter().all(|one| *one > 0.05), "{shares:?}");
    let (least, most) =
        (shares.iter().copied().fold(1.0, f64::min), shares.iter().copied().fold(0.0, f64::max));
    assert!(most - least < 0.04, "{shares:?}");
}

#[test]
fn what_takes_too_long_at_the_end_is_done_twice_and_the_job_ends_sooner() {
    let cast = vec![(3, Conduct::Slow(100.0)), (57, Conduct::Honest)];
    let scene = Scene { seed: 6, unit_micros: 10_000_000, cast };
    let job = || Lull::new(6, 6_000, Share::of(1e-3), Share::of(0.05), 10_000_000);
    let ends = |mut lull: Lull| {
        let run = run(&mut lull, &scene);
        let findings = audit(&lull, &run);
        assert_eq!(findings.faults, Vec::<String>::new());
        (run.micros, findings.attempts)
    };
    let (without, attempts) = ends(job().without_copies());
    let (with, attempts_with) = ends(job());
    println!(
        "{with} us and {attempts_with} attempts with copies, {without} us and {attempts} attempts without"
    );
    assert!(with * 10 < without * 7, "{with} with copies, {without} without");
    assert!(
        attempts_with < attempts + attempts / 50,
        "{attempts_with} attempts with copies, {attempts} without"
    );
}

#[test]
fn friends_on_one_network_hardly_check_each_other() {
    let both_lied = |neighbours| {
        let liar = Conduct::Liar(Lying { neighbours, agrees: true, rate: 0.0, ..Lying::ALWAYS });
        let mut lull = Lull::new(8, 6_000, Share::of(1e-3), Share::of(0.2), 10_000_000);
        let run = run(
            &mut lull,
            &Scene { seed: 8, unit_micros: 10_000_000, cast: vec![(12, liar), (48, Conduct::Honest)] },
        );
        let units = lull.store().units(JobId(1), Stage::Work).iter();
        let by_two =
            |unit: &&Unit| unit.attempts().filter(|one| run.liars.contains(&one.owner.0)).count() > 1;
        units.filter(by_two).count()
    };
    let (apart, together) = (both_lied(false), both_lied(true));
    assert!(
        together * 4 < apart,
        "{together} units by two of them where they are neighbours, {apart} where they are not"
    );
}
