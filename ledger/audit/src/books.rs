//! Sums: every balance from its transfers, every escrow from its job, what can be summed while rows go by.

use std::collections::BTreeMap;

use crate::amount::Amount;
use crate::fault::{Check, broken};
use crate::kinds::{JOB, Kind, TRANSFER};
use crate::source::{Row, Session};

const CHECK: &str = "balances";

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
}

/// Numbers of accounts: the holder's times eight, and the kind's.
pub(crate) mod account {
    /// The world outside, which alone may be negative.
    pub(crate) const BANK: i64 = 0;
    /// What was forfeited when its job was over.
    pub(crate) const LOSSES: i64 = 8;
    /// What the platform took of rewards.
    pub(crate) const FEES: i64 = 16;

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
    /// What came from outside and has not gone back.
    pub(crate) deposited: Amount,
}

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
        self.transfers += 1;
        self.accounts.entry(debit).or_default().0 -= amount.0;
        self.accounts.entry(credit).or_default().0 += amount.0;
        match code {
            code::REWARD | code::FEE => self.jobs_moved.entry(job).or_default().spent.0 += amount.0,
            code::FORFEIT if credit == account::escrow(job) => {
                self.jobs_moved.entry(job).or_default().spent.0 -= amount.0
            }
            code::REFUND => self.jobs_moved.entry(job).or_default().refunded.0 += amount.0,
            code::GRANT if (debit, credit) == (account::LOSSES, account::escrow(job)) => {
                self.jobs_moved.entry(job).or_default().granted.0 += amount.0
            }
            code::UNSPENT if (debit, credit) == (account::escrow(job), account::LOSSES) => {
                self.jobs_moved.entry(job).or_default().granted.0 -= amount.0
            }
            code::GRANT | code::UNSPENT => {
                return broken(CHECK, kind.name(row), "is not between losses and its job");
            }
            code::FEE_BACK => self.jobs_moved.entry(job).or_default().spent.0 -= amount.0,
            code::DEPOSIT..=code::REVERSAL => {}
            _ => return broken(CHECK, kind.name(row), "has a code that there is not"),
        }
        Ok(())
    }

    /// Compares the sums with accounts and jobs.
    pub(crate) fn close(mut self, session: &mut Session) -> Check<Totals> {
        let mut totals =
            Totals { accounts: 0, transfers: self.transfers, jobs: self.jobs, deposited: Amount::default() };
        let mut balances = BTreeMap::new();
        let mut sum = 0;
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
            if balance.0 < 0 && id != account::BANK {
                return broken(CHECK, name, format!("has a negative balance of {balance}"));
            }
            if balances.insert(id, balance).is_some() {
                return broken(CHECK, name, "is there twice");
            }
            sum += balance.0;
            totals.accounts += 1;
        }
        drop(rows);
        if let Some((id, moved)) = self.accounts.pop_first() {
            return broken(CHECK, format!("account {id}"), format!("is missing: its transfers make {moved}"));
        }
        if sum != 0 {
            return broken(
                CHECK,
                "table account",
                format!("its balances make {} instead of nothing", Amount(sum)),
            );
        }
        totals.deposited = Amount(-balances.get(&account::BANK).copied().unwrap_or_default().0);
        self.escrows(session, &balances)?;
        Ok(totals)
    }

    fn escrows(mut self, session: &mut Session, balances: &BTreeMap<i64, Amount>) -> Check<()> {
        const CHECK: &str = "escrow";
        let select = "SELECT id, budget, spent, reserved, granted, refunded, settled::integer, state FROM job ORDER BY id";
        let mut rows = session.rows(select)?;
        while let Some(row) = rows.next()? {
            let (id, is_settled, state) = (row.int(0)?, row.int(6)? == 1, row.int(7)?);
            let (budget, spent, reserved) = (row.amount(1)?, row.amount(2)?, row.amount(3)?);
            let (granted, refunded) = (row.amount(4)?, row.amount(5)?);
            let name = format!("job (id {id})");
            let moved = self.jobs_moved.remove(&id).unwrap_or_default();
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
            let escrow = balances.get(&account::escrow(id)).copied().unwrap_or_default();
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
