//! What an owner's results are worth, and how often they are checked.
//!
//! A job buys a share of wrong units, [`Share`], not a number of copies. Whoever lies does not know which of its
//! results another owner will repeat. Let y be the chance that one lie goes unnoticed. Of b lies told before
//! the first is noticed, b y^b are expected to stay, as everything unchecked of an owner that is caught is run
//! again. The liar chooses b: at most W(y) = max over b >= 1 of b y^b stays, which is y for y <= 1/e (it lies
//! once) and below 1/(e ln(1/y)) otherwise. With f M liars among the M owners of a job of N units, f M W(y)
//! wrong units are expected, and y is chosen so that this is at most the share that the job allows, times N.
//!
//! A unit that one owner of M made is checked with probability q, by an owner who lies too with probability f.
//! A checker cannot tell a check from a first attempt, so each check tests two owners: of 1 + q attempts, 2 q are
//! compared with another, and y = 1 - (1 - f) 2q / (1 + q). Where two copies of each unit do not suffice, a part
//! of them gets a third, and so on: a lie of m liars who agree goes unnoticed with f^(m - 1).
//!
//! Sources: L. F. G. Sarmenta, Sabotage-tolerance mechanisms for volunteer computing systems, Future Generation
//! Computer Systems 18 (2002), for spot checks and the credibility of groups that agree; the bound on b lies
//! with everything run again, and that a check tests two, are derived in `docs/TRUST.md`.

#![allow(clippy::float_arithmetic, reason = "probabilities; money is never here")]

use lull_job::Share;
use lull_ledger::Amount;

use super::ids::{DeviceId, OwnerId, UnitKey};

#[allow(clippy::cast_precision_loss, reason = "counts that only set a probability")]
fn float(count: u64) -> f64 {
    count as f64
}

/// How many times one amount is in another, to set a probability.
fn ratio(amount: Amount, unit: Amount) -> f64 {
    let float = |amount: Amount| f64::try_from(amount.decimal()).unwrap_or(0.0);
    float(amount) / float(unit)
}

/// What a grid's operator assumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Share of owners that may lie, all together if they like.
    pub liars: Share,
}

impl Default for Policy {
    fn default() -> Self {
        Self { liars: Share::parts(Share::WHOLE / 20) }
    }
}

/// Copies of a work unit on average, in parts of 2^32: of 2.25, three quarters of the units get two and the
/// others three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copies(u64);

/// The part of the promised errors that is left to liars whom nobody notices.
const UNNOTICED: f64 = 0.95;
/// The part that is left to lies which friends of liars that were caught have confirmed.
const CONFIRMED: f64 = 0.05;
/// Checks never become rarer than one in a hundred: pay is then held back for at most two hundred results.
const CHECKS_MIN: f64 = 0.01;
/// Owners of units that are made from the work, at least: one alone could spoil the answer.
pub const SERVICE_OWNERS_MIN: u32 = 2;
/// And at most.
const SERVICE_OWNERS_MAX: u32 = 8;
/// More owners than this for one unit: the grid's assumption leaves no hope.
const COPIES_MAX: f64 = 8.0;
/// Right results of a new owner that are checked one and all.
pub(super) const STRANGER_RESULTS: u64 = 10;
/// Right results from which on an owner that is caught counts as one of the liars whose number sets how many copies there
/// are: who lies as soon as it is known was hardly ever alone, and anybody could make all copies dear with new names.
pub const CENSUS_RESULTS: u64 = 20;
/// Work that an owner does not get after its first catch.
const REST_SECS: u64 = 3_600;
/// The longest rest is 2^7 hours: five days.
const REST_DOUBLINGS_MAX: u32 = 7;
/// Results for which an owner may drop another unit.
const RESULTS_PER_DROP: u64 = 8;
/// Results for which an owner may drop another unit and still settle disputes.
const RESULTS_PER_DROP_OF_JUDGES: u64 = 50;
/// Units that an owner may drop besides one for each that it answers, until it gets no work: two of the largest leases.
const DROPS_MAX: u64 = 2_000;
/// The same for a stranger, who has one unit at a time on each of its devices: some hundred PCs that are switched off at
/// night.
const DROPS_MAX_OF_STRANGERS: u64 = 400;
/// Results for which an owner may drop another unit without being checked more: a quarter of the others, as what it has
/// been handed it knows before it reports.
const RESULTS_PER_DROP_WHEN_CHECKED: u64 = 32;
/// So many times as often as others are compared are those checked who may have chosen what they answer: what they know
/// and others do not, they use.
const MORE_WHERE_CHOSEN: f64 = 1.25;
/// Units that it may drop besides without being checked more.
const DROPS_ALLOWED_WHEN_CHECKED: u64 = 2;
/// Units that it may drop besides: a few leases of a laptop that is closed.
const DROPS_ALLOWED: u64 = 10;
/// Twice the results after which one check is expected: pay is held back for so many, so that lying once
/// costs more than it brings, and lying always too.
const HELD_CHECKS: f64 = 2.0;
/// Results for which pay is held back at least: until a dispute is settled its owner goes on, and what friends of its
/// have confirmed meanwhile must not be out of reach.
const HELD_RESULTS_MIN: u64 = 20;

impl Copies {
    /// One whole copy.
    const ONE: u64 = 1 << 32;

    /// So many of every unit.
    #[must_use]
    pub const fn whole(copies: u32) -> Self {
        Self(copies as u64 * Self::ONE)
    }

    /// Attempts that `units` take, with those of `owners` strangers all checked.
    #[must_use]
    pub fn attempts(self, units: u64, owners: u64) -> u64 {
        let planned = self.times(units);
        let strange = owners.saturating_mul(STRANGER_RESULTS).min(units);
        planned.max(units.saturating_add(strange)).min(planned.saturating_add(strange))
    }

    /// `count` times these copies, rounded up.
    #[must_use]
    pub fn times(self, count: u64) -> u64 {
        let product = u128::from(count) * u128::from(self.0);
        u64::try_from(product.div_ceil(u128::from(Self::ONE))).unwrap_or(u64::MAX)
    }

    /// From its number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// In parts of 2^32.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// As a number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        float(self.0) / float(Self::ONE)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 8")]
    fn of(copies: f64) -> Self {
        Self((copies.clamp(1.0, COPIES_MAX) * float(Self::ONE)).ceil() as u64)
    }

    /// What holds the share of wrong units below `max_error`, when `liars` of `owners` lie in a job of
    /// `units`: the formula at the head of this module.
    #[must_use]
    pub fn for_error(max_error: Share, liars: Share, owners: u64, units: u64) -> Self {
        let f = liars.as_f64();
        let lying = f * float(owners.max(2));
        let allowed = UNNOTICED * max_error.as_f64() * float(units.max(1));
        if lying <= 0.0 {
            return Self::of(1.0 + CHECKS_MIN);
        }
        if allowed <= 0.0 {
            return Self::of(COPIES_MAX);
        }
        let each = allowed / lying;
        let e = std::f64::consts::E;
        let unnoticed = if each <= 1.0 / e { each } else { (-1.0 / (e * each)).exp() };
        let noticed = (1.0 - unnoticed).max(0.0);
        if noticed <= 1.0 - f {
            // 2q / (1 + q) (1 - f) = noticed
            let rate = noticed / (1.0 - f);
            return Self::of(1.0 + (rate / (2.0 - rate)).max(CHECKS_MIN));
        }
        // Of m copies f^(m - 1) goes unnoticed; between m and m + 1 a part theta gets one more.
        let mut copies = 2.0;
        let mut left = f;
        while copies < COPIES_MAX {
            let next = left * f;
            if next <= unnoticed {
                return Self::of(copies + ((left - unnoticed) / (left - next)).clamp(0.0, 1.0));
            }
            left = next;
            copies += 1.0;
        }
        Self::of(COPIES_MAX)
    }

    /// The most owners that a unit may need.
    #[must_use]
    pub fn most(self) -> u64 {
        self.0.div_ceil(Self::ONE)
    }

    /// Owners that a unit needs, by its coin.
    #[must_use]
    pub fn needed(self, coin: Coin) -> usize {
        let whole = usize::try_from(self.0 / Self::ONE).unwrap_or(usize::MAX);
        whole.max(1) + usize::from(u64::from(coin.0) < self.0 % Self::ONE)
    }

    /// The same, where one owner only has spoken, whose results are checked at a rate of its own, and who is paid so
    /// much for the unit.
    #[must_use]
    pub fn needed_after(self, coin: Coin, standing: Standing, pay: Amount) -> usize {
        let own = standing.check_rate(pay);
        let had_choice = standing.knew_first || standing.may_have_picked();
        let rate = if had_choice { own.max(MORE_WHERE_CHOSEN * self.compared()) } else { own };
        self.needed(coin).max(1 + usize::from(f64::from(coin.0) < rate * float(Self::ONE)))
    }

    /// The share of attempts that are compared with another: of 1 + q attempts, 2 q. Who makes no checks has as much
    /// of its own work checked, so that its lies are noticed as often as anybody's.
    fn compared(self) -> f64 {
        let q = (self.as_f64() - 1.0).clamp(0.0, 1.0);
        2.0 * q / (1.0 + q)
    }

    /// How many times a reward its owner must earn after it until it is released: where all pay the same, so many later
    /// results.
    #[must_use]
    pub fn held_results(self) -> u64 {
        let rate = (self.as_f64() - 1.0).clamp(CHECKS_MIN, HELD_CHECKS / float(HELD_RESULTS_MIN));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 20 and 200")]
        let results = (HELD_CHECKS / rate).ceil() as u64;
        results
    }

    /// The most units among `units` that are expected to be wrong, when `liars` of `owners` lie: W(y) of the
    /// head of this module for these copies.
    #[must_use]
    pub fn expected_errors(self, liars: Share, owners: u64) -> f64 {
        let f = liars.as_f64();
        let copies = self.as_f64();
        let unnoticed = if copies <= 2.0 {
            let q = copies - 1.0;
            1.0 - (1.0 - f) * 2.0 * q / (1.0 + q)
        } else {
            let (whole, part) = (copies.floor(), copies.fract());
            f.powf(whole - 1.0) * (1.0 - part) + f.powf(whole) * part
        };
        let e = std::f64::consts::E;
        let each = if unnoticed <= 1.0 / e { unnoticed } else { -1.0 / (e * unnoticed.ln()) };
        each * f * float(owners)
    }
}

/// A secret number of each unit that decides how many owners it needs. It stays the same however often it is
/// looked at: nobody gets a second throw, unless somebody who answered the unit is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coin(u32);

impl Coin {
    /// The coin of a unit, of a job with this secret key, of which so many attempts are void: it is another one then, as a
    /// result that was believed alone tells what the first was.
    #[must_use]
    pub fn of(key: &[u8; 32], unit: UnitKey, voided: usize) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(b"coin");
        hasher.update(&[unit.stage.code()]);
        hasher.update(&unit.index.to_le_bytes());
        if voided > 0 {
            hasher.update(&voided.to_le_bytes());
        }
        Self::from_hash(&hasher)
    }

    /// The coin of the next lease of a job with this secret key: it is another one after each lease.
    #[must_use]
    pub fn of_lease(key: &[u8; 32], frontier: u64, wanted: u64) -> Self {
        Self::of_moment(key, b"lease", frontier, wanted)
    }

    /// The coin of the place where the next lease's repeats are looked for, likewise.
    #[must_use]
    pub fn of_place(key: &[u8; 32], frontier: u64, wanted: u64) -> Self {
        Self::of_moment(key, b"place", frontier, wanted)
    }

    fn of_moment(key: &[u8; 32], what: &[u8], frontier: u64, wanted: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(what);
        hasher.update(&frontier.to_le_bytes());
        hasher.update(&wanted.to_le_bytes());
        Self::from_hash(&hasher)
    }

    fn from_hash(hasher: &blake3::Hasher) -> Self {
        let hash = hasher.finalize();
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&hash.as_bytes()[..4]);
        Self(u32::from_le_bytes(bytes))
    }

    /// A number up to `most`, evenly.
    #[must_use]
    pub fn spread(self, most: i64) -> i64 {
        i64::try_from((i128::from(self.0) * i128::from(most)) >> 32).unwrap_or(0)
    }

    /// A number below `end`, evenly.
    #[must_use]
    pub fn below(self, end: u64) -> u64 {
        u64::try_from((u128::from(self.0) * u128::from(end)) >> 32).unwrap_or(0)
    }
}

/// What is known of an owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Checked results that were right, since the last wrong one.
    pub correct: u64,
    /// What it would lose, in the currency of the job in question: filled in where one of its units is judged.
    pub stake: Amount,
    /// Accepted results, ever, of jobs that buy confidence.
    pub results: u64,
    /// Units of such jobs that it was handed and did not answer, or only with a limit where others had a result.
    pub dropped: u64,
    /// Wrong results found.
    pub catches: u32,
    /// Seconds since the last of them.
    pub secs_since_catch: u64,
    /// Of whoever alone has answered a unit: whether it was handed a checkpoint of it, and so could tell that nobody had
    /// answered before.
    pub knew_first: bool,
}

impl Standing {
    /// How often a result of this owner that pays so much is checked whatever its job wants: always while it is a
    /// stranger, then as often as makes a lie cost more than it brings, by the pay that it would lose.
    #[must_use]
    pub fn check_rate(self, pay: Amount) -> f64 {
        if self.is_stranger() || !self.stake.is_positive() {
            1.0
        } else if pay.is_positive() {
            HELD_CHECKS / (HELD_CHECKS + ratio(self.stake, pay))
        } else {
            // A lie brings nothing.
            0.0
        }
    }

    /// Whether little is known of this owner.
    #[must_use]
    pub const fn is_stranger(self) -> bool {
        self.correct < STRANGER_RESULTS
    }

    /// Whether a state that it hands back is passed on to others, where a job buys confidence: whoever goes on from it is
    /// believed no more than its maker. A stranger's would always be checked, so that it saves nothing; and as
    /// nobody goes on from work of an owner that was caught, whatever rests on its work was made before.
    #[must_use]
    pub const fn passes_on(self) -> bool {
        !self.is_stranger() && self.catches == 0
    }

    /// What is known of two whose work is in one result: in everything the worse.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            correct: self.correct.min(other.correct),
            stake: self.stake.min(other.stake),
            results: self.results.min(other.results),
            dropped: self.dropped.max(other.dropped),
            catches: self.catches.max(other.catches),
            secs_since_catch: self.secs_since_catch.min(other.secs_since_catch),
            knew_first: self.knew_first || other.knew_first,
        }
    }

    /// Whether it was caught so lately that it gets no work.
    #[must_use]
    pub const fn rests(self) -> bool {
        self.rest_secs() > 0
    }

    /// For how long yet it gets no work: an hour after the first catch, and twice as long each time.
    #[must_use]
    pub const fn rest_secs(self) -> u64 {
        if self.catches == 0 {
            return 0;
        }
        let before = self.catches - 1;
        let doublings = if before < REST_DOUBLINGS_MAX { before } else { REST_DOUBLINGS_MAX };
        (REST_SECS << doublings).saturating_sub(self.secs_since_catch)
    }

    /// Whether it gets no work, as it answers next to nothing of what it is handed.
    #[must_use]
    pub const fn wastes(self) -> bool {
        let most = if self.is_stranger() { DROPS_MAX_OF_STRANGERS } else { DROPS_MAX };
        self.dropped > self.results + most
    }

    /// Whether it may settle disputes: it is known, and drops next to nothing.
    #[must_use]
    pub const fn settles(self) -> bool {
        !self.is_stranger() && self.dropped <= self.results / RESULTS_PER_DROP_OF_JUDGES + 1
    }

    /// Whether it drops so many units that it may be after certain ones, checks of its friends' results: it makes no
    /// checks then, and gets one unit at a time. An honest device that is interrupted often drops nothing of that
    /// size, and so comes out of it; half of what was dropped is forgotten each day.
    #[must_use]
    pub const fn picks(self) -> bool {
        self.dropped > self.results / RESULTS_PER_DROP + DROPS_ALLOWED
    }

    /// Whether it may have picked its units when it was handed them: what it returns before it reports lies must not
    /// make it forgotten.
    const fn may_have_picked(self) -> bool {
        self.dropped > self.results / RESULTS_PER_DROP_WHEN_CHECKED + DROPS_ALLOWED_WHEN_CHECKED
    }
}

/// By how many owners one answer must be ahead of another before whoever gave the other is blamed: each vote
/// multiplies the odds by (1 - f) / f, and the odds have to reach 1 / `max_error` (Sarmenta's credibility of a
/// group, for two groups).
#[must_use]
pub fn lead(liars: Share, max_error: Share) -> usize {
    let f = liars.as_f64().clamp(0.01, 0.4);
    let doubt = max_error.as_f64().clamp(1e-12, 0.5);
    let votes = ((1.0 / doubt).ln() / ((1.0 - f) / f).ln()).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 70")]
    let votes = votes as usize;
    votes.clamp(2, LEAD_MAX)
}

/// Of a promise for the answer one part in so many is left to what is made from the work.
pub(super) const OF_MAKING: u64 = 10;

/// Owners that must agree on each of so many units that are made from the work, where the answer may be wrong with this
/// chance; two where nothing is promised for it. Whatever liars do, all the owners of a unit lie with f to that power.
#[must_use]
pub fn service_owners(max_answer_error: Share, liars: Share, units: u64) -> u32 {
    let allowed = max_answer_error.as_f64() / float(OF_MAKING);
    let f = liars.as_f64();
    let mut owners = SERVICE_OWNERS_MIN;
    let mut wrong = float(units.max(1)) * f * f;
    while allowed > 0.0 && wrong > allowed && owners < SERVICE_OWNERS_MAX {
        owners += 1;
        wrong *= f;
    }
    owners
}

/// Whether what liars had confirmed is run again too. A liar has f / (1 - f) lies confirmed by friends before one is
/// noticed, as each check goes to one with f: so long as that of all catches is a small part of what is promised, what two
/// agreed on stays when one of them is caught.
#[must_use]
pub(super) fn doubts_confirmed(liars: Share, max_error: Share, units: u64, catches: u64) -> bool {
    let f = liars.as_f64();
    float(catches) * f > CONFIRMED * max_error.as_f64() * float(units) * (1.0 - f)
}

/// With so many votes more the other answer has no friends left.
const LEAD_MAX: usize = 7;

/// What an owner would lose in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stake {
    /// Pay that is held back.
    pub held: Amount,
    /// What is left of it by any release: what its dearest result takes, and less once that is long ago.
    pub level: Amount,
}

impl Stake {
    /// What will still be held when a lie that is told now is noticed.
    #[must_use]
    pub fn lasting(self) -> Amount {
        self.held.min(self.level)
    }
}

/// What is known of an owner changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandingChange {
    /// Whether it starts from nothing: what came before is void.
    pub caught: Option<Catch>,
    /// Checked results that were right, since.
    pub correct: u64,
    /// Units that it dropped.
    pub dropped: u64,
}

/// A wrong result was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catch {
    /// Whose.
    pub owner: OwnerId,
    /// Which of its devices made it.
    pub device: DeviceId,
    /// Of which unit.
    pub unit: UnitKey,
    /// What was wrong, in words.
    pub reason: String,
}

/// Pay that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub owner: OwnerId,
    /// For which unit.
    pub unit: UnitKey,
    /// How much.
    pub amount: Amount,
    /// Until the owner has earned so many times as much by later results.
    pub results: u64,
    /// Whether another owner returned the same.
    pub checked: bool,
}

impl Held {
    /// What its owner must have earned by later results until it is released, all of which is held back then.
    #[must_use]
    pub fn needed(&self) -> Amount {
        self.amount.times(self.results).unwrap_or(Amount::MAX)
    }
}

#[cfg(test)]
mod tests {
    use lull_job::Stage;

    use super::*;
    use crate::core::JobId;

    fn copies(max_error: f64, liars: f64, owners: u64, units: u64) -> f64 {
        Copies::for_error(Share::of(max_error), Share::of(liars), owners, units).as_f64()
    }

    #[test]
    fn what_a_promise_costs() {
        let near = |copies: f64, expected: f64| {
            assert!((copies - expected).abs() < 0.005, "{copies} instead of {expected}");
        };
        near(copies(1e-4, 0.05, 200, 200_000), 1.102);
        near(copies(1e-4, 0.05, 200, 2_000_000), 1.01);
        near(copies(1e-4, 0.20, 200, 200_000), 1.508);
        near(copies(1e-3, 0.05, 200, 200_000), 1.01);
    }

    #[test]
    fn what_it_costs_is_what_it_promises() {
        for (owners, units, error) in
            [(3, 20, 1e-3), (200, 200_000, 1e-4), (1_000, 5_000, 1e-3), (50, 100, 1e-6)]
        {
            for liars in [0.01, 0.05, 0.2, 0.3] {
                let copies = Copies::for_error(Share::of(error), Share::of(liars), owners, units);
                let wrong = copies.expected_errors(Share::of(liars), owners.max(2));
                #[allow(clippy::cast_precision_loss, reason = "a test's own number")]
                let allowed = error * units as f64;
                assert!(
                    wrong <= allowed * 1.001 || copies.as_f64() >= COPIES_MAX,
                    "{owners} owners, {liars} liars: {wrong} of {allowed} with {copies:?}"
                );
            }
        }
    }

    #[test]
    fn coins_are_spread_evenly_and_stay_as_they_are() {
        let unit = |index| UnitKey { job: JobId(1), stage: Stage::Work, index };
        let copies = Copies::of(1.25);
        let checked =
            (0..10_000).filter(|index| copies.needed(Coin::of(&[7; 32], unit(*index), 0)) == 2).count();
        assert!((2_400..2_600).contains(&checked), "{checked}");
        assert_eq!(Coin::of(&[7; 32], unit(3), 0), Coin::of(&[7; 32], unit(3), 0));
        assert_ne!(Coin::of(&[7; 32], unit(3), 0), Coin::of(&[7; 32], unit(3), 1));
        assert_ne!(Coin::of(&[7; 32], unit(3), 0), Coin::of(&[8; 32], unit(3), 0));
    }

    #[test]
    fn strangers_are_always_checked_and_nobody_never() {
        let known = |correct, stake| at_stake(correct, stake).check_rate(amount("0.5"));
        assert!((known(0, "25") - 1.0).abs() < 1e-9);
        assert!((known(STRANGER_RESULTS, "0") - 1.0).abs() < 1e-9);
        assert!(known(1_000, "9") < 0.11);
        assert!(Copies::for_error(Share::of(0.5), Share::of(0.05), 10, 1_000_000).as_f64() >= 1.01);
    }

    fn amount(text: &str) -> Amount {
        text.parse().expect("an amount")
    }

    fn at_stake(correct: u64, stake: &str) -> Standing {
        Standing { correct, stake: amount(stake), ..Standing::default() }
    }

    #[test]
    fn what_could_be_lost_counts_by_what_a_lie_would_bring() {
        let rate = |pay| at_stake(1_000, "0.2").check_rate(amount(pay));
        let near = |rate: f64, expected: f64| assert!((rate - expected).abs() < 1e-9, "{rate}");
        near(rate("0.01"), 2.0 / 22.0);
        near(rate("0.1"), 0.5);
        near(rate("1000000"), 2.0 / (2.0 + 2e-7));
        near(rate("0"), 0.0);
        near(at_stake(1_000, "0").check_rate(Amount::ZERO), 1.0);
    }

    #[test]
    fn what_is_about_to_be_released_is_no_stake() {
        let stake = |held, level| Stake { held: amount(held), level: amount(level) }.lasting();
        assert_eq!(stake("5", "2"), amount("2"));
        assert_eq!(stake("1", "2"), amount("1"));
    }

    #[test]
    fn who_makes_no_checks_is_checked_as_often_as_others_are_compared() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
        let coin = |share: f64| Coin((share * float(Copies::ONE)) as u32);
        let known = Standing { results: 1_000, ..at_stake(100, "1000") };
        let one = amount("1");
        let picks = Standing { dropped: 200, ..known };
        assert!(picks.picks() && !picks.wastes());
        let copies = Copies::of(1.1);
        // 2 q / (1 + q) is 0.1818, and a quarter more 0.2273.
        assert_eq!(copies.needed_after(coin(0.15), known, one), 1);
        assert_eq!(copies.needed_after(coin(0.15), picks, one), 2);
        assert_eq!(copies.needed_after(coin(0.22), picks, one), 2);
        assert_eq!(copies.needed_after(coin(0.24), picks, one), 1);
    }

    #[test]
    fn a_stranger_who_answers_nothing_soon_gets_nothing() {
        let stranger = |dropped| Standing { dropped, ..Standing::default() };
        assert!(!stranger(DROPS_MAX_OF_STRANGERS).wastes());
        assert!(stranger(DROPS_MAX_OF_STRANGERS + 1).wastes());
        let known = |dropped| Standing { correct: STRANGER_RESULTS, results: 10, ..stranger(dropped) };
        assert!(!known(DROPS_MAX + 10).wastes());
        assert!(known(DROPS_MAX + 11).wastes());
    }

    #[test]
    fn pay_is_held_for_twenty_results_at_least() {
        assert_eq!(Copies::of(2.5).held_results(), HELD_RESULTS_MIN);
        assert_eq!(Copies::of(1.05).held_results(), 40);
        assert_eq!(Copies::of(1.0).held_results(), 200);
    }

    #[test]
    fn what_is_made_from_the_work_is_as_sure_as_the_answer_has_to_be() {
        let owners =
            |error: f64, liars: f64, units| service_owners(Share::of(error), Share::of(liars), units);
        assert_eq!(owners(0.0, 0.05, 1_000), 2, "a share of errors says nothing of the answer");
        assert_eq!(owners(0.05, 0.05, 1), 2);
        assert_eq!(owners(0.01, 0.05, 1), 3, "0.05^2 is more than a tenth of 0.01");
        assert_eq!(owners(0.01, 0.05, 200), 5);
        assert_eq!(owners(1e-9, 0.4, 1_000_000), 8, "no hope");
    }

    #[test]
    fn how_far_ahead_is_enough() {
        assert_eq!(lead(Share::of(0.05), Share::of(1e-4)), 4);
        assert_eq!(lead(Share::of(0.2), Share::of(1e-4)), 7);
        assert_eq!(lead(Share::of(0.05), Share::of(0.5)), 2);
    }
}
