//! Sums: every balance from its transfers, in every currency, every escrow from its job, what can be summed while rows go by.

use std::collections::{BTreeMap, BTreeSet};

use crate::amount::Amount;
use crate::fault::{Check, broken};
use crate::kinds::{JOB, Kind, TRANSFER};
use crate::source::{Row, Session};

const CHECK: &str = "balances";
const CURRENCIES: &str = "currencies";
/// Decimals of an amount, and the most that a currency has.
const AMOUNT_DECIMALS: u32 = 12;
const DECIMALS_MAX: i64 = 6;

/// Kinds of transfers, by number.
pub(crate) mod code {
    /// From outside onto a submitter's balance.
    pub(crate) const DEPOSIT: i64 = 1;
    /// A job's budget, at submission.
    pub(crate) const ESCROW: i64 = 2;
    /// For one attempt.
    pub(crate) const REWARD: i64 = 3;
    /// What a job did not spend.
    pub(crate) const REFUND: i64 = 4;
    /// Of pay that was held back: it can be paid out.
    pub(crate) const RELEASE: i64 = 5;
    /// Of pay that was held back: it is lost.
    pub(crate) const FORFEIT: i64 = 6;
    /// Of what an owner can be paid out: it was proposed.
    pub(crate) const PAYOUT: i64 = 7;
    /// Of a payout: the bank has it.
    pub(crate) const PAID: i64 = 8;
    /// The opposite of an earlier transfer.
    pub(crate) const REVERSAL: i64 = 9;
    /// What the platform took of a reward.
    pub(crate) const FEE: i64 = 10;
    /// A fee of pay that was forfeited to its job.
    pub(crate) const FEE_BACK: i64 = 11;
    /// From losses to a job of which work is done again.
    pub(crate) const GRANT: i64 = 12;
    /// What a job did not spend of its grants.
    pub(crate) const UNSPENT: i64 = 13;
    /// Of a payout: what is less than its currency has decimals for.
    pub(crate) const REMAINDER: i64 = 14;
    /// A remainder, for the payout after it.
    pub(crate) const TAKEN_UP: i64 = 15;
}

/// Numbers of accounts: the holder's times eight, and the kind's, below the currency's in the upper 16 bits. Those here are of
/// currency 0; `of` makes another's of one.
pub(crate) mod account {
    /// The currency's number is above so many bits.
    const CURRENCY_SHIFT: u32 = 48;

    /// The same account in this currency.
    pub(crate) const fn of(currency: i64, account: i64) -> i64 {
        account.wrapping_add(currency.wrapping_shl(CURRENCY_SHIFT))
    }
    /// What an account is in.
    pub(crate) const fn currency(account: i64) -> i64 {
        account >> CURRENCY_SHIFT
    }
    /// The same account in currency 0.
    pub(crate) const fn within(account: i64) -> i64 {
        account & ((1 << CURRENCY_SHIFT) - 1)
    }

    /// The world outside, which alone may be negative.
    pub(crate) const BANK: i64 = 0;
    /// What was forfeited when its job was over.
    pub(crate) const LOSSES: i64 = 8;
    /// What the platform took of rewards.
    pub(crate) const FEES: i64 = 16;
    /// What payouts left, as it is less than the currency has decimals for.
    pub(crate) const REMAINDERS: i64 = 24;

    /// A submitter's balance.
    pub(crate) const fn submitter(id: i64) -> i64 {
        id.wrapping_mul(8).wrapping_add(1)
    }
    /// What a job may still spend.
    pub(crate) const fn escrow(job: i64) -> i64 {
        job.wrapping_mul(8).wrapping_add(2)
    }
    /// What an owner can be paid out.
    pub(crate) const fn available(owner: i64) -> i64 {
        owner.wrapping_mul(8).wrapping_add(3)
    }
    /// What an owner could still lose.
    pub(crate) const fn pending(owner: i64) -> i64 {
        owner.wrapping_mul(8).wrapping_add(4)
    }
    /// What an owner is being paid out.
    pub(crate) const fn payout(owner: i64) -> i64 {
        owner.wrapping_mul(8).wrapping_add(5)
    }
    /// What an owner was paid out.
    pub(crate) const fn paid(owner: i64) -> i64 {
        owner.wrapping_mul(8).wrapping_add(6)
    }
}

/// Sums by account and job.
#[derive(Default)]
pub(crate) struct Books {
    accounts: BTreeMap<i64, Amount>,
    /// By job.
    jobs_moved: BTreeMap<i64, Moved>,
    jobs: u64,
    transfers: u64,
}

/// What transfers say of a job.
#[derive(Default)]
struct Moved {
    /// In which currency; none where nothing moved.
    currency: Option<i64>,
    /// Rewards and fees less what was forfeited back to it.
    spent: Amount,
    /// From losses, less what went back.
    granted: Amount,
    /// Back to its submitter.
    refunded: Amount,
}

/// A job is running, or complete and not settled perhaps; the others have ended for good.
const RUNNING: i64 = 1;
const COMPLETE: i64 = 2;

/// What the books come to.
#[derive(Debug)]
pub(crate) struct Totals {
    /// Number of accounts.
    pub(crate) accounts: u64,
    /// Number of transfers.
    pub(crate) transfers: u64,
    /// Number of jobs.
    pub(crate) jobs: u64,
    /// What came from outside and has not gone back, by code of the currency, the default's first.
    pub(crate) deposited: Vec<(String, Amount)>,
}

/// What the grid has: code and decimals, by number.
type Currencies = BTreeMap<i64, (String, u32)>;

impl Books {
    /// Adds a row.
    pub(crate) fn take(&mut self, kind: &Kind, row: &Row<'_>) -> Check<()> {
        match kind.number {
            JOB => self.jobs += 1,
            TRANSFER => self.transfer(kind, row)?,
            _ => {}
        }
        Ok(())
    }

    fn transfer(&mut self, kind: &Kind, row: &Row<'_>) -> Check<()> {
        // Columns: xid, id, debit, credit, amount, code, job_id, ..
        let (debit, credit, amount, code, job) =
            (row.int(2)?, row.int(3)?, row.amount(4)?, row.int(5)?, row.int(6)?);
        if amount.0 <= 0 || debit == credit {
            return broken(CHECK, kind.name(row), "moves nothing");
        }
        let currency = account::currency(debit);
        if currency != account::currency(credit) {
            let problem = format!("goes from currency {currency} to currency {}", account::currency(credit));
            return broken(CURRENCIES, kind.name(row), problem);
        }
        if job != 0 && *self.jobs_moved.entry(job).or_default().currency.get_or_insert(currency) != currency {
            return broken(
                CURRENCIES,
                kind.name(row),
                "is in another currency than the job's other transfers",
            );
        }
        self.transfers += 1;
        self.accounts.entry(debit).or_default().0 -= amount.0;
        self.accounts.entry(credit).or_default().0 += amount.0;
        let between = (account::within(debit), account::within(credit));
        match code {
            code::REWARD | code::FEE => self.jobs_moved.entry(job).or_default().spent.0 += amount.0,
            code::FORFEIT if account::within(credit) == account::escrow(job) => {
                self.jobs_moved.entry(job).or_default().spent.0 -= amount.0
            }
            code::REFUND => self.jobs_moved.entry(job).or_default().refunded.0 += amount.0,
            code::GRANT if between == (account::LOSSES, account::escrow(job)) => {
                self.jobs_moved.entry(job).or_default().granted.0 += amount.0
            }
            code::UNSPENT if between == (account::escrow(job), account::LOSSES) => {
                self.jobs_moved.entry(job).or_default().granted.0 -= amount.0
            }
            code::GRANT | code::UNSPENT => {
                return broken(CHECK, kind.name(row), "is not between losses and its job");
            }
            code::FEE_BACK => self.jobs_moved.entry(job).or_default().spent.0 -= amount.0,
            code::DEPOSIT..=code::REVERSAL | code::REMAINDER | code::TAKEN_UP => {}
            _ => return broken(CHECK, kind.name(row), "has a code that there is not"),
        }
        Ok(())
    }

    /// Compares the sums with accounts and jobs.
    pub(crate) fn close(mut self, session: &mut Session) -> Check<Totals> {
        let mut totals =
            Totals { accounts: 0, transfers: self.transfers, jobs: self.jobs, deposited: Vec::new() };
        let currencies = currencies(session)?;
        let mut balances = BTreeMap::new();
        let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
        let mut rows = session.rows("SELECT id, balance FROM account ORDER BY id")?;
        while let Some(row) = rows.next()? {
            let (id, balance) = (row.int(0)?, row.amount(1)?);
            let name = format!("account {id}");
            let moved = self.accounts.remove(&id).unwrap_or_default();
            if balance != moved {
                return broken(
                    CHECK,
                    name,
                    format!("has a balance of {balance}, its transfers make {moved}"),
                );
            }
            if !currencies.contains_key(&account::currency(id)) {
                return broken(CURRENCIES, name, "is in a currency that there is not");
            }
            if balance.0 < 0 && account::within(id) != account::BANK {
                return broken(CHECK, name, format!("has a negative balance of {balance}"));
            }
            if balances.insert(id, balance).is_some() {
                return broken(CHECK, name, "is there twice");
            }
            *sums.entry(account::currency(id)).or_default() += balance.0;
            totals.accounts += 1;
        }
        drop(rows);
        if let Some((id, moved)) = self.accounts.pop_first() {
            return broken(CHECK, format!("account {id}"), format!("is missing: its transfers make {moved}"));
        }
        for (number, (code, _)) in &currencies {
            let sum = sums.get(number).copied().unwrap_or_default();
            if sum != 0 {
                let problem = format!("its balances in {code} make {} instead of nothing", Amount(sum));
                return broken(CHECK, "table account", problem);
            }
            let bank = balances.get(&account::of(*number, account::BANK)).copied().unwrap_or_default();
            totals.deposited.push((code.clone(), Amount(-bank.0)));
        }
        self.escrows(session, &balances)?;
        remainders(session, &currencies, &balances)?;
        Ok(totals)
    }

    fn escrows(mut self, session: &mut Session, balances: &BTreeMap<i64, Amount>) -> Check<()> {
        const CHECK: &str = "escrow";
        let select =
            "SELECT id, budget, spent, reserved, granted, refunded, settled::integer, state, currency
            FROM job ORDER BY id";
        let mut rows = session.rows(select)?;
        while let Some(row) = rows.next()? {
            let (id, is_settled, state) = (row.int(0)?, row.int(6)? == 1, row.int(7)?);
            let (budget, spent, reserved) = (row.amount(1)?, row.amount(2)?, row.amount(3)?);
            let (granted, refunded) = (row.amount(4)?, row.amount(5)?);
            let name = format!("job (id {id})");
            let moved = self.jobs_moved.remove(&id).unwrap_or_default();
            let currency = row.int(8)?;
            if let Some(other) = moved.currency.filter(|moved| *moved != currency) {
                let problem = format!("is in currency {currency}, its transfers in currency {other}");
                return broken(CURRENCIES, name, problem);
            }
            for (said, made, what) in [
                (spent, moved.spent, "spent"),
                (granted, moved.granted, "was granted"),
                (refunded, moved.refunded, "gave back"),
            ] {
                if said != made {
                    return broken(
                        CHECK,
                        name,
                        format!("says that it {what} {said}, its transfers make {made}"),
                    );
                }
            }
            if (is_settled && state == RUNNING) || (!is_settled && state != RUNNING && state != COMPLETE) {
                return broken(CHECK, name, format!("is in state {state}, and settled: {is_settled}"));
            }
            let left = Amount(budget.0 + granted.0 - refunded.0 - spent.0);
            if spent.0 < 0 || reserved.0 < 0 || granted.0 < 0 || reserved.0 > left.0 {
                return broken(
                    CHECK,
                    name,
                    format!("has spent {spent} of {budget}, and reserved {reserved} of {left}"),
                );
            }
            let escrow =
                balances.get(&account::of(currency, account::escrow(id))).copied().unwrap_or_default();
            if escrow != left || (is_settled && left.0 != 0) {
                return broken(CHECK, name, format!("has {escrow} in escrow and {left} left of its budget"));
            }
        }
        match self.jobs_moved.pop_first() {
            Some((id, Moved { spent, .. })) => {
                broken(CHECK, format!("job (id {id})"), format!("is missing: it paid {spent}"))
            }
            None => Ok(()),
        }
    }
}

fn currencies(session: &mut Session) -> Check<Currencies> {
    let mut currencies = BTreeMap::new();
    let mut codes = BTreeSet::new();
    let mut rows = session.rows("SELECT number, code, decimals FROM currency ORDER BY number")?;
    while let Some(row) = rows.next()? {
        let (number, code, decimals) = (row.int(0)?, row.text(1)?.to_owned(), row.int(2)?);
        let name = format!("currency (number {number})");
        if !(0..=DECIMALS_MAX).contains(&decimals) || number < 0 {
            return broken(CURRENCIES, name, format!("has {decimals} decimals"));
        }
        let decimals = u32::try_from(decimals)?;
        if !codes.insert(code.clone()) || currencies.insert(number, (code, decimals)).is_some() {
            return broken(CURRENCIES, name, "is there twice");
        }
    }
    Ok(currencies)
}

/// The one rule of rounding: a payout has no more decimals than its currency, what is less than those is its remainder, and
/// the account of remainders has what the last payout of each owner left.
fn remainders(session: &mut Session, currencies: &Currencies, balances: &BTreeMap<i64, Amount>) -> Check<()> {
    const CHECK: &str = "remainders";
    let mut last: BTreeMap<(i64, i64), Amount> = BTreeMap::new();
    let select = "SELECT payout.batch_id, owner_id, payout.currency, payout.amount, payout.remainder, payout.carried_out,
            coalesce(payout_batch.currency, -1)
        FROM payout LEFT JOIN payout_batch ON payout_batch.id = batch_id ORDER BY batch_id, owner_id";
    let mut rows = session.rows(select)?;
    while let Some(row) = rows.next()? {
        let (batch, owner, currency) = (row.int(0)?, row.int(1)?, row.int(2)?);
        let (amount, remainder, left) = (row.amount(3)?, row.amount(4)?, row.amount(5)?);
        let name = format!("payout (batch_id {batch}, owner_id {owner})");
        let Some((code, decimals)) = currencies.get(&currency).filter(|_| row.int(6).ok() == Some(currency))
        else {
            return broken(CURRENCIES, name, "is not in the currency of its batch");
        };
        let smallest = 10_i128.pow(AMOUNT_DECIMALS - decimals);
        if amount.0 % smallest != 0 {
            return broken(CHECK, name, format!("pays {amount}, which {code} has no decimals for"));
        }
        if remainder.0 < 0 || remainder.0 >= smallest || remainder > left {
            let problem =
                format!("leaves {remainder} of {left} as a remainder, where {code} has {decimals} decimals");
            return broken(CHECK, name, problem);
        }
        last.insert((currency, owner), remainder);
    }
    for (number, (code, _)) in currencies {
        let kept = last.range((*number, i64::MIN)..=(*number, i64::MAX)).map(|(_, kept)| kept.0).sum();
        let id = account::of(*number, account::REMAINDERS);
        let balance = balances.get(&id).copied().unwrap_or_default();
        if balance.0 != kept {
            let problem = format!("has {balance} {code}, the last payouts left {}", Amount(kept));
            return broken(CHECK, format!("account {id}"), problem);
        }
    }
    Ok(())
}
