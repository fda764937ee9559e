//! What should have been accepted and paid. Computed from what devices really did and from the tables, with none of
//! the core's own rules.

use std::collections::{BTreeMap, BTreeSet};

use lull_coordinator::core::{Outcome, OwnerId};
use lull_job::Stage;
use lull_ledger::{AccountId, AccountKind, Amount, Code, CurrencyId, Transfer};

use super::lull::{JOB, Lull, digest, reward};
use super::world::{Answer, Run};

/// What an audit finds.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Units of the job.
    pub units: u64,
    /// Accepted units.
    pub accepted: u64,
    /// Accepted units of which the result is wrong.
    pub wrong: u64,
    /// Attempts of all units.
    pub attempts: u64,
    /// Rewards for lies that were not taken back.
    pub lies_paid: u64,
    /// Rewards for honest results of liars that were taken back.
    pub honest_lost: u64,
    /// Owners that never returned anything wrong and were caught all the same.
    pub framed: u64,
    /// Liars that were caught.
    pub caught: u64,
    /// What must not be, in words: empty when all is well.
    pub faults: Vec<String>,
}

/// Audits a job that has ended.
#[must_use]
pub fn audit(lull: &Lull, run: &Run) -> Findings {
    let mut findings = Findings::default();
    results(lull, &mut findings);
    pay(lull, run, &mut findings);
    balances(lull, &mut findings);
    let wrongdoers: BTreeSet<i64> = run.lies.iter().map(|(owner, _)| *owner).collect();
    let caught: BTreeSet<i64> = lull.store().catches().map(|catch| catch.owner.0).collect();
    findings.framed = caught.difference(&wrongdoers).count() as u64;
    findings.caught = caught.intersection(&run.liars).count() as u64;
    findings
}

fn results(lull: &Lull, findings: &mut Findings) {
    let right = digest(Answer::Right);
    let units = lull.store().units(JOB, Stage::Work);
    findings.units = units.len() as u64;
    for (index, unit) in units.iter().enumerate() {
        let count = unit.attempts().count();
        findings.attempts += count as u64;
        let Some(verdict) = unit.standing() else {
            findings.faults.push(format!("unit {index} has no verdict"));
            continue;
        };
        if verdict.outcome != Outcome::Result {
            continue;
        }
        findings.accepted += 1;
        findings.wrong += u64::from(verdict.digest != right);
        if !unit.attempts().any(|attempt| attempt.digest == verdict.digest) {
            findings.faults.push(format!("nobody returned what was accepted of unit {index}"));
        }
        let owners = || unit.attempts().map(|attempt| attempt.owner).collect::<BTreeSet<OwnerId>>();
        if count > 1 && owners().len() != count {
            findings.faults.push(format!("unit {index} has two attempts of one owner"));
        }
    }
}

/// Each reward pays one attempt; what agrees with what was accepted is paid, unless its owner was caught.
fn pay(lull: &Lull, run: &Run, findings: &mut Findings) {
    let store = lull.store();
    let mut all = |code| {
        let of_code: Vec<&Transfer> = store.transfers().iter().filter(|one| one.code == code).collect();
        let mut keys: Vec<(u64, i64)> =
            of_code.iter().map(|one| (one.key.index.unsigned_abs(), one.key.attempt)).collect();
        keys.sort_unstable();
        let others = of_code.iter().filter(|one| one.amount != reward());
        findings.faults.extend(others.map(|one| format!("{one:?} is of another amount")));
        let twice = keys.windows(2).filter(|two| two[0] == two[1]);
        findings.faults.extend(twice.map(|two| format!("{code:?} of {:?} was made twice", two[0])));
        keys
    };
    let (paid, taken_back) = (all(Code::Reward), all(Code::Forfeit));
    for key in taken_back.iter().filter(|key| paid.binary_search(key).is_err()) {
        findings.faults.push(format!("{key:?} was taken back and never paid"));
    }
    let caught: BTreeSet<i64> = store.catches().map(|catch| catch.owner.0).collect();
    for (index, unit) in (0..).zip(store.units(JOB, Stage::Work)) {
        let accepted = unit.standing().filter(|verdict| verdict.outcome == Outcome::Result);
        for attempt in unit.attempts() {
            let agrees = accepted.is_some_and(|verdict| verdict.digest == attempt.digest);
            let is_paid = paid.binary_search(&(index, attempt.owner.0)).is_ok();
            if agrees && !is_paid && !caught.contains(&attempt.owner.0) {
                findings.faults.push(format!("{} was not paid for unit {index}", attempt.owner));
            }
            let version = accepted.map_or(1, |verdict| verdict.version);
            if is_paid && !agrees && accepted.is_some() && version == 1 {
                findings
                    .faults
                    .push(format!("{} was paid for unit {index} and did not agree", attempt.owner));
            }
        }
    }
    for (index, owner) in &paid {
        let is_lie = run.lies.contains(&(*owner, *index));
        let was_lost = taken_back.binary_search(&(*index, *owner)).is_ok();
        if run.liars.contains(owner) {
            findings.lies_paid += u64::from(is_lie && !was_lost);
            findings.honest_lost += u64::from(!is_lie && was_lost);
        }
    }
}

/// Nothing is negative, all of it is where it came from or went to, and what is pending is what is held.
fn balances(lull: &Lull, findings: &mut Findings) {
    let store = lull.store();
    let mut balances: BTreeMap<AccountId, Amount> = BTreeMap::new();
    let mut deposits = Amount::ZERO;
    for one in store.transfers() {
        let Transfer { amount, code, .. } = one;
        let giver = balances.entry(one.debit()).or_default();
        *giver = *giver - *amount;
        let taker = balances.entry(one.credit()).or_default();
        *taker = *taker + *amount;
        if *code == Code::Deposit {
            deposits = deposits + *amount;
        }
    }
    let bank = AccountId::of_grid(CurrencyId::DEFAULT, AccountKind::Bank);
    let elsewhere: Amount =
        balances.iter().filter(|(account, _)| **account != bank).map(|(_, held)| *held).sum();
    if elsewhere != deposits {
        findings.faults.push(format!("{elsewhere} are in accounts, {deposits} were deposited"));
    }
    for (account, held) in &balances {
        if *account != bank && *held < Amount::ZERO {
            findings.faults.push(format!("account {} holds {held}", account.number()));
        }
    }
    let escrow = balances
        .get(&AccountId::new(CurrencyId::DEFAULT, AccountKind::Escrow, JOB.0))
        .copied()
        .unwrap_or_default();
    // A complete job keeps something until it is settled.
    let left = store.job(JOB).map(|job| if job.settled { Amount::ZERO } else { job.left() });
    if left.is_some_and(|left| left != escrow) {
        findings.faults.push(format!("{escrow} are in escrow instead of {left:?}"));
    }
    for (account, pending) in &balances {
        if account.kind() == Some(AccountKind::Pending) {
            let owner = OwnerId(account.holder());
            let held = store.pending(owner);
            if *pending != held {
                findings.faults.push(format!("owner {owner} has {pending} pending, and {held} are held"));
            }
        }
    }
}
