//! Every reward against its unit: rewards and forfeits, attempts, verdicts and pay that was held back go by side by
//! side, in the order of units. Nothing of a unit is kept once it has gone by.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::amount::Amount;
use crate::books::{account, code};
use crate::fault::{Check, broken};
use crate::plan::{Asked, Plan};
use crate::source::{Row, Rows, Session, Source};

const CHECK: &str = "rewards";
/// Stage of units of work; the others have a price of their own.
const WORK: i64 = 1;
/// How a unit can end: with a result, or because its guest failed, which is paid too; by limits, which are not.
const RESULT: i64 = 1;
const GUEST_FAILED: i64 = 2;
const LIMIT: i64 = 3;
/// An attempt that was reported this much later than its owner was caught, by the clock of the database, counts again.
const CATCH_MICROS: i64 = 60_000_000;

/// Job, stage and index.
type Unit = (i64, i64, i64);

struct Terms {
    currency: i64,
    item_price: Amount,
    service_price: Amount,
    fee_millionths: i64,
    plan: Plan,
}

/// Somebody was caught: pay from one place of the owner's queue up to another is lost.
struct Catch {
    id: i64,
    from_seq: i64,
    to_seq: i64,
    created_at: i64,
}

/// What is looked up while units go by: of jobs, and of what is rare.
struct Lists {
    jobs: BTreeMap<i64, Terms>,
    catches: BTreeMap<i64, Vec<Catch>>,
    /// Jobs that have not been looked through after a catch.
    rechecks: BTreeSet<(i64, i64)>,
    reopened: BTreeSet<Unit>,
}

struct Move {
    owner: i64,
    code: i64,
    debit: i64,
    credit: i64,
    amount: Amount,
    created_at: i64,
}

struct Attempt {
    owner: i64,
    device: i64,
    outcome: i64,
    digest: [u8; 32],
    /// How the strict run ended where the unit was run both ways.
    strict: Option<(i64, [u8; 32])>,
    created_at: i64,
}

struct Verdict {
    version: i64,
    outcome: i64,
    digest: [u8; 32],
    agreeing: i64,
    attempts: i64,
}

struct Held {
    owner: i64,
    seq: i64,
    amount: Amount,
}

/// Rows that belong to units, in their order, and the next of them.
struct Stream<'a, T> {
    rows: Rows<'a>,
    read: fn(&Row<'_>) -> Result<T>,
    next: Option<(Unit, T)>,
}

impl<'a, T> Stream<'a, T> {
    fn open(session: &'a mut Session, select: &str, read: fn(&Row<'_>) -> Result<T>) -> Result<Self> {
        let mut stream = Self { rows: session.rows(select)?, read, next: None };
        stream.advance()?;
        Ok(stream)
    }

    fn advance(&mut self) -> Result<Option<(Unit, T)>> {
        let next = match self.rows.next()? {
            Some(row) => Some(((row.int(0)?, row.int(1)?, row.int(2)?), (self.read)(&row)?)),
            None => None,
        };
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn unit(&self) -> Option<Unit> {
        self.next.as_ref().map(|(unit, _)| *unit)
    }

    /// All rows of this unit. Each must have a key of its own.
    fn take<K: Ord>(
        &mut self,
        unit: Unit,
        list: &mut Vec<T>,
        table: &str,
        key: impl Fn(&T) -> K,
    ) -> Check<()> {
        list.clear();
        while self.unit() == Some(unit) {
            let Some((_, row)) = self.advance()? else { break };
            if list.last().is_some_and(|last| key(last) >= key(&row)) {
                return broken("uniqueness", format!("{table} {}", name(unit)), "is there twice");
            }
            list.push(row);
        }
        Ok(())
    }
}

/// The order in which units go by. Sorting by the index first is cheap: there are few jobs, and many units of each.
fn order(&(job, stage, idx): &Unit) -> (i64, i64, i64) {
    (idx, job, stage)
}

fn name((job, stage, idx): Unit) -> String {
    format!("(job_id {job}, stage {stage}, idx {idx})")
}

/// Of an owner's row of a unit.
fn owned(table: &str, (job, stage, idx): Unit, owner: i64) -> String {
    match table {
        "transfer" => format!("transfer (code 3, job_id {job}, stage {stage}, idx {idx}, attempt {owner})"),
        "fee" => format!("transfer (code 10, job_id {job}, stage {stage}, idx {idx}, attempt {owner})"),
        "fee back" => format!("transfer (code 11, job_id {job}, stage {stage}, idx {idx}, attempt {owner})"),
        "forfeit" => format!("transfer (code 6, job_id {job}, stage {stage}, idx {idx}, attempt {owner})"),
        _ => format!("{table} (job_id {job}, stage {stage}, idx {idx}, owner_id {owner})"),
    }
}

/// What was looked at.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Units.
    pub(crate) units: u64,
    /// Rewards.
    pub(crate) rewards: u64,
    /// Attempts.
    pub(crate) attempts: u64,
}

/// Checks all units.
pub(crate) fn check(source: &Source) -> Check<Counts> {
    let lists = Lists::load(&mut source.session()?)?;
    let (mut one, mut two, mut three, mut four) =
        (source.session()?, source.session()?, source.session()?, source.session()?);
    let mut moves = Stream::open(
        &mut one,
        "SELECT job_id, stage, idx, attempt, code, debit, credit, amount, created_at FROM transfer
         WHERE code IN (3, 6, 10, 11) ORDER BY idx, job_id, stage, attempt, code",
        |row| {
            Ok(Move {
                owner: row.int(3)?,
                code: row.int(4)?,
                debit: row.int(5)?,
                credit: row.int(6)?,
                amount: row.amount(7)?,
                created_at: row.int(8)?,
            })
        },
    )?;
    let mut attempts = Stream::open(
        &mut two,
        "SELECT job_id, stage, idx, owner_id, device_id, outcome, digest, created_at,
             coalesce(strict_outcome, 0), coalesce(strict_digest, digest) FROM attempt
         ORDER BY idx, job_id, stage, owner_id",
        |row| {
            Ok(Attempt {
                owner: row.int(3)?,
                device: row.int(4)?,
                outcome: row.int(5)?,
                digest: row.digest(6)?,
                created_at: row.int(7)?,
                strict: match row.int(8)? {
                    0 => None,
                    outcome => Some((outcome, row.digest(9)?)),
                },
            })
        },
    )?;
    let mut verdicts = Stream::open(
        &mut three,
        "SELECT job_id, stage, idx, version, outcome, digest, agreeing, attempts FROM verdict
         ORDER BY idx, job_id, stage, version",
        |row| {
            Ok(Verdict {
                version: row.int(3)?,
                outcome: row.int(4)?,
                digest: row.digest(5)?,
                agreeing: row.int(6)?,
                attempts: row.int(7)?,
            })
        },
    )?;
    let mut held = Stream::open(
        &mut four,
        "SELECT job_id, stage, idx, owner_id, seq, amount FROM held ORDER BY idx, job_id, stage, owner_id",
        |row| Ok(Held { owner: row.int(3)?, seq: row.int(4)?, amount: row.amount(5)? }),
    )?;
    let mut counts = Counts::default();
    let mut of = OfUnit::default();
    let mut earned = BTreeMap::new();
    while let Some(unit) =
        [moves.unit(), attempts.unit(), verdicts.unit(), held.unit()].into_iter().flatten().min_by_key(order)
    {
        moves.take(unit, &mut of.moves, "transfer", |one| (one.owner, one.code))?;
        attempts.take(unit, &mut of.attempts, "attempt", |one| one.owner)?;
        verdicts.take(unit, &mut of.verdicts, "verdict", |one| one.version)?;
        held.take(unit, &mut of.held, "held", |one| one.owner)?;
        of.check(unit, &lists, &mut earned)?;
        counts.units += 1;
        counts.attempts += of.attempts.len() as u64;
        counts.rewards += of.rewards().count() as u64;
    }
    check_earnings(&mut source.session()?, earned)?;
    Ok(counts)
}

impl Lists {
    fn load(session: &mut Session) -> Check<Self> {
        let mut lists = Self {
            jobs: BTreeMap::new(),
            catches: BTreeMap::new(),
            rechecks: BTreeSet::new(),
            reopened: BTreeSet::new(),
        };
        let mut rows = session.rows(
            "SELECT id, item_price, service_price, fee_millionths::bigint, currency, spec, items, budget, coalesce(code, '')
            FROM job LEFT JOIN currency ON number = currency ORDER BY id",
        )?;
        while let Some(row) = rows.next()? {
            if let Err(problem) = check_asked(&row) {
                return broken(CHECK, format!("job (id {})", row.int(0)?), format!("{problem:#}"));
            }
            let plan = match Plan::read(row.bytes(5)?, u64::try_from(row.int(6)?)?) {
                Ok(plan) => plan,
                Err(problem) => {
                    return broken(CHECK, format!("job (id {})", row.int(0)?), format!("{problem:#}"));
                }
            };
            let terms = Terms {
                plan,
                item_price: row.amount(1)?,
                service_price: row.amount(2)?,
                fee_millionths: row.int(3)?,
                currency: row.int(4)?,
            };
            lists.jobs.insert(row.int(0)?, terms);
        }
        drop(rows);
        let mut rows =
            session.rows("SELECT owner_id, id, from_seq, to_seq, created_at FROM catch ORDER BY id")?;
        while let Some(row) = rows.next()? {
            let catch = Catch {
                id: row.int(1)?,
                from_seq: row.int(2)?,
                to_seq: row.int(3)?,
                created_at: row.int(4)?,
            };
            lists.catches.entry(row.int(0)?).or_default().push(catch);
        }
        drop(rows);
        let mut rows = session.rows("SELECT catch_id, job_id FROM recheck")?;
        while let Some(row) = rows.next()? {
            lists.rechecks.insert((row.int(0)?, row.int(1)?));
        }
        drop(rows);
        let mut rows = session.rows("SELECT job_id, stage, idx FROM reopened")?;
        while let Some(row) = rows.next()? {
            lists.reopened.insert((row.int(0)?, row.int(1)?, row.int(2)?));
        }
        Ok(lists)
    }

    /// The catch that took the pay at this place of an owner's queue.
    fn lost(&self, owner: i64, seq: i64) -> Option<&Catch> {
        let catches = self.catches.get(&owner)?;
        catches.iter().find(|catch| catch.from_seq < seq && seq <= catch.to_seq)
    }

    /// Whether an attempt was made before its owner was caught, and so counts no more.
    fn is_void(&self, attempt: &Attempt) -> bool {
        let catches = self.catches.get(&attempt.owner);
        catches.is_some_and(|list| {
            list.iter().any(|catch| attempt.created_at <= catch.created_at.saturating_add(CATCH_MICROS))
        })
    }
}

/// A job costs what it was submitted with.
fn check_asked(row: &Row<'_>) -> Result<()> {
    let asked = Asked::read(row.bytes(5)?)?;
    let same = |name: &str, asked: Option<Amount>, at: usize| {
        let kept = row.amount(at)?;
        let problem = || format!("was submitted with {name} {}, and has {kept}", asked.unwrap_or_default());
        ensure!(asked.is_none_or(|asked| asked == kept), problem());
        Ok(())
    };
    same("an item price of", asked.item_price, 1)?;
    same("a service price of", asked.service_price, 2)?;
    same("a budget of", asked.budget, 7)?;
    let code = row.text(8)?;
    let in_its = asked.currency.as_deref().is_none_or(|asked| asked == code);
    ensure!(in_its, "was submitted in {}, and is in {code}", asked.currency.unwrap_or_default());
    Ok(())
}

/// All that there is of one unit.
#[derive(Default)]
struct OfUnit {
    moves: Vec<Move>,
    attempts: Vec<Attempt>,
    verdicts: Vec<Verdict>,
    held: Vec<Held>,
}

/// What a device earned in a month.
#[derive(Default)]
struct Earned {
    /// Whom it was paid to.
    owner: i64,
    amount: Amount,
    attempts: i64,
}

/// By device, currency, and months since January of year 0.
type Earnings = BTreeMap<(i64, i64, i64), Earned>;

impl Terms {
    /// What an attempt at a unit costs: each item of work, or a unit of another stage, has its price.
    fn price(&self, (_, stage, idx): Unit) -> Result<Amount, String> {
        if stage != WORK {
            return Ok(self.service_price);
        }
        let items = u64::try_from(idx).map_or(0, |index| self.plan.items_of(index));
        let price = self.item_price.0.checked_mul(items.into());
        price.map(Amount).ok_or_else(|| format!("is of a unit of {items} items, which no amount can pay"))
    }

    /// This account, in the job's currency.
    const fn of(&self, account: i64) -> i64 {
        account::of(self.currency, account)
    }
}

impl OfUnit {
    fn rewards(&self) -> impl Iterator<Item = &Move> {
        self.moves.iter().filter(|one| one.code == code::REWARD)
    }

    fn forfeit(&self, owner: i64) -> Option<&Move> {
        self.of(code::FORFEIT, owner)
    }

    fn of(&self, code: i64, owner: i64) -> Option<&Move> {
        self.moves.iter().find(|one| (one.code, one.owner) == (code, owner))
    }

    /// What a reward cost with its fee, which is the job's share of both, rounded down.
    fn cost(&self, unit: Unit, reward: &Move, terms: &Terms) -> Result<Amount, String> {
        let fee = self.of(code::FEE, reward.owner).map_or(Amount::default(), |fee| fee.amount);
        let cost = Amount(reward.amount.0 + fee.0);
        let whole = 1_000_000;
        let share = i128::from(terms.fee_millionths);
        // Amounts have 28 digits: their millionths and what is left of them are multiplied apart.
        let due = Amount(cost.0 / whole * share + cost.0 % whole * share / whole);
        if fee == due {
            Ok(cost)
        } else {
            Err(format!("has a fee of {fee} where {due} of {cost} are due, in {}", name(unit)))
        }
    }

    /// Every fee is of a reward, and is given back with what was forfeited to its job, and only then.
    fn check_fees(&self, unit: Unit, terms: &Terms) -> Check<()> {
        const CHECK: &str = "fees";
        let (escrow, fees) = (terms.of(account::escrow(unit.0)), terms.of(account::FEES));
        for fee in self.moves.iter().filter(|one| one.code == code::FEE) {
            if (fee.debit, fee.credit) != (escrow, fees)
                || !self.rewards().any(|reward| reward.owner == fee.owner)
            {
                return broken(CHECK, owned("fee", unit, fee.owner), "is not of a reward of its job");
            }
            let is_due = self.forfeit(fee.owner).is_some_and(|forfeit| forfeit.credit == escrow);
            if is_due != self.of(code::FEE_BACK, fee.owner).is_some() {
                let problem = "is not given back exactly when its reward is forfeited to its job";
                return broken(CHECK, owned("fee", unit, fee.owner), problem);
            }
        }
        for back in self.moves.iter().filter(|one| one.code == code::FEE_BACK) {
            let fee = self.of(code::FEE, back.owner);
            if (back.debit, back.credit) != (fees, escrow) || fee.is_none_or(|fee| fee.amount != back.amount)
            {
                return broken(CHECK, owned("fee back", unit, back.owner), "gives no fee back");
            }
        }
        Ok(())
    }

    fn check(&self, unit: Unit, lists: &Lists, earned: &mut Earnings) -> Check<()> {
        let Some(terms) = lists.jobs.get(&unit.0) else {
            return broken(CHECK, format!("job (id {})", unit.0), "is missing: there are units of it");
        };
        self.check_verdicts(unit)?;
        for reward in self.rewards() {
            self.check_reward(unit, reward, terms)?;
            if let Err(problem) = self.cost(unit, reward, terms).and_then(|cost| {
                let price = terms.price(unit)?;
                let problem = || format!("pays {cost} where the job's price of that unit is {price}");
                if cost == price { Ok(()) } else { Err(problem()) }
            }) {
                return broken(CHECK, owned("transfer", unit, reward.owner), problem);
            }
            if let Some(attempt) = self.attempts.iter().find(|one| one.owner == reward.owner) {
                let key = (attempt.device, terms.currency, month(reward.created_at));
                let sum = earned.entry(key).or_insert(Earned { owner: reward.owner, ..Earned::default() });
                if sum.owner != reward.owner {
                    let problem = format!("is of device {}, whose pay is owner {}'s", key.0, sum.owner);
                    return broken(CHECK, owned("attempt", unit, reward.owner), problem);
                }
                sum.amount.0 += reward.amount.0;
                sum.attempts += 1;
            }
        }
        self.check_fees(unit, terms)?;
        self.check_held(unit, lists, terms)?;
        self.check_unpaid(unit, lists, terms)
    }

    /// Versions are counted from 1, and each has the attempts that it says.
    fn check_verdicts(&self, unit: Unit) -> Check<()> {
        const CHECK: &str = "verdicts";
        for (at, verdict) in self.verdicts.iter().enumerate() {
            let (job, stage, idx) = unit;
            let name =
                format!("verdict (job_id {job}, stage {stage}, idx {idx}, version {})", verdict.version);
            if verdict.version != at as i64 + 1 {
                return broken(CHECK, name, format!("comes where version {} should be", at + 1));
            }
            let agreeing = self.attempts.iter().filter(|one| earns(one, verdict)).count() as i64;
            if agreeing < verdict.agreeing {
                let said = verdict.agreeing;
                return broken(
                    CHECK,
                    name,
                    format!("rests on {said} agreeing attempts, {agreeing} are there"),
                );
            }
            if (self.attempts.len() as i64) < verdict.attempts {
                let (said, there) = (verdict.attempts, self.attempts.len());
                return broken(CHECK, name, format!("was made of {said} attempts, {there} are there"));
            }
        }
        Ok(())
    }

    fn check_reward(&self, unit: Unit, reward: &Move, terms: &Terms) -> Check<()> {
        let name = || owned("transfer", unit, reward.owner);
        let Some(attempt) = self.attempts.iter().find(|one| one.owner == reward.owner) else {
            return broken(CHECK, name(), "pays an attempt that there is not");
        };
        let is_earned = |verdict: &&Verdict| is_paid(verdict.outcome) && earns(attempt, verdict);
        if !self.verdicts.iter().any(|verdict| is_earned(&verdict)) {
            return broken(CHECK, name(), "pays an attempt that agrees with no accepted verdict");
        }
        if reward.debit != terms.of(account::escrow(unit.0)) {
            return broken(CHECK, name(), "is not paid by its job");
        }
        let credits = [account::available(reward.owner), account::pending(reward.owner)];
        if !credits.map(|account| terms.of(account)).contains(&reward.credit) {
            return broken(CHECK, name(), "is not paid to the attempt's owner");
        }
        Ok(())
    }

    /// Pay that was held back is in its owner's queue, and forfeited exactly where a catch took it.
    fn check_held(&self, unit: Unit, lists: &Lists, terms: &Terms) -> Check<()> {
        const CHECK: &str = "pending pay";
        let pending = |owner| terms.of(account::pending(owner));
        for reward in self.rewards().filter(|one| one.credit == pending(one.owner)) {
            if !self.held.iter().any(|one| (one.owner, one.amount) == (reward.owner, reward.amount)) {
                let problem = "was held back, and is not in its owner's queue";
                return broken(CHECK, owned("transfer", unit, reward.owner), problem);
            }
        }
        for held in &self.held {
            let is_its = |one: &&Move| {
                (one.owner, one.amount, one.credit) == (held.owner, held.amount, pending(held.owner))
            };
            if !self.rewards().any(|reward| is_its(&reward)) {
                return broken(CHECK, owned("held", unit, held.owner), "is of a reward that there is not");
            }
            let lost = lists.lost(held.owner, held.seq);
            let lost = lost.filter(|catch| !lists.rechecks.contains(&(catch.id, unit.0)));
            match (lost, self.forfeit(held.owner)) {
                (Some(catch), None) => {
                    let problem = format!("was lost by catch {}, and is not forfeited", catch.id);
                    return broken(CHECK, owned("held", unit, held.owner), problem);
                }
                (None, Some(_)) => {
                    return broken(CHECK, owned("forfeit", unit, held.owner), "takes pay that no catch took");
                }
                _ => {}
            }
        }
        for forfeit in self.moves.iter().filter(|one| one.code == code::FORFEIT) {
            let is_its = |one: &Held| (one.owner, one.amount) == (forfeit.owner, forfeit.amount);
            let credits = [account::escrow(unit.0), account::LOSSES].map(|account| terms.of(account));
            if forfeit.debit != pending(forfeit.owner)
                || !credits.contains(&forfeit.credit)
                || !self.held.iter().any(is_its)
            {
                let problem = "is not of pay that was held back for that owner";
                return broken(CHECK, owned("forfeit", unit, forfeit.owner), problem);
            }
        }
        Ok(())
    }

    /// Whoever agreed is paid. Of a unit that was decided again this cannot be said: nothing may have been left to pay
    /// with.
    fn check_unpaid(&self, unit: Unit, lists: &Lists, terms: &Terms) -> Check<()> {
        let [verdict] = self.verdicts.as_slice() else { return Ok(()) };
        let price = if unit.1 == WORK { terms.item_price } else { terms.service_price };
        if !is_paid(verdict.outcome) || price.0 == 0 || lists.reopened.contains(&unit) {
            return Ok(());
        }
        for attempt in self.attempts.iter().filter(|one| earns(one, verdict)) {
            if !self.rewards().any(|one| one.owner == attempt.owner) && !lists.is_void(attempt) {
                let problem = "agrees with the verdict and is not paid";
                return broken(CHECK, owned("attempt", unit, attempt.owner), problem);
            }
        }
        Ok(())
    }
}

fn is_paid(outcome: i64) -> bool {
    outcome == RESULT || outcome == GUEST_FAILED
}

/// Which limit was hit differs between PCs.
fn agrees(attempt: &Attempt, verdict: &Verdict) -> bool {
    attempt.outcome == verdict.outcome && (attempt.outcome == LIMIT || attempt.digest == verdict.digest)
}

/// Whether an attempt is paid with a verdict: it agrees, or its strict run does.
fn earns(attempt: &Attempt, verdict: &Verdict) -> bool {
    agrees(attempt, verdict) || attempt.strict == Some((verdict.outcome, verdict.digest))
}

/// The month of a time by UTC: years of the calendar times twelve, and the month from 0.
fn month(micros: i64) -> i64 {
    // Days since 2000-01-01, counted from 0000-03-01: a year then ends with its leap day.
    let days = micros.div_euclid(86_400_000_000) + 730_425;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    (era * 400 + year) * 12 + from_march + 2
}

/// What owners are told that their devices earned.
fn check_earnings(session: &mut Session, mut earned: Earnings) -> Check<()> {
    const CHECK: &str = "earnings";
    let select = "SELECT device_id, month::text, amount, units,
            (extract(year FROM month) * 12 + extract(month FROM month) - 1)::bigint, currency, coalesce(owner_id, 0)
        FROM device_earning LEFT JOIN device ON device.id = device_id ORDER BY device_id, currency, month";
    let mut rows = session.rows(select)?;
    while let Some(row) = rows.next()? {
        let (device, amount, units) = (row.int(0)?, row.amount(2)?, row.int(3)?);
        let made = earned.remove(&(device, row.int(5)?, row.int(4)?)).unwrap_or_default();
        if (amount, units) != (made.amount, made.attempts) {
            let (currency, month) = (row.int(5)?, row.text(1)?);
            let name = format!("device_earning (device_id {device}, currency {currency}, month {month})");
            let (paid, attempts) = (made.amount, made.attempts);
            let problem = format!("says {amount} for {units} units, its rewards make {paid} for {attempts}");
            return broken(CHECK, name, problem);
        }
        let owner = row.int(6)?;
        if owner != made.owner {
            let problem = format!("is owner {owner}'s, and its attempts were paid to owner {}", made.owner);
            return broken(CHECK, format!("device (id {device})"), problem);
        }
    }
    match earned.pop_first() {
        Some(((device, ..), Earned { amount, .. })) => {
            broken(CHECK, format!("device_earning (device_id {device})"), format!("lacks {amount}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_by_utc() {
        let day = 86_400_000_000;
        let check = |micros: i64, year: i64, of_year: i64| {
            assert_eq!(month(micros), year * 12 + of_year - 1, "{micros}");
        };
        check(0, 2000, 1);
        check(-1, 1999, 12);
        check(31 * day - 1, 2000, 1);
        check(31 * day, 2000, 2);
        check(60 * day - 1, 2000, 2);
        check(60 * day, 2000, 3);
        check(366 * day - 1, 2000, 12);
        check(366 * day, 2001, 1);
        // 2026-11-26 is day 9826.
        check(9_826 * day, 2026, 11);
        check((9_826 + 5) * day, 2026, 12);
        check((9_826 + 4) * day + day - 1, 2026, 11);
    }
}
