//! Transfers that belong to no unit, each against what it is for; and the queues of pay that was held back.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::amount::Amount;
use crate::books::{account, code};
use crate::fault::{Check, broken};
use crate::source::{Row, Rows, Session, Source};

const CHECK: &str = "transfers";
const QUEUES: &str = "pending pay";

/// A transfer that is not of a unit.
struct Move {
    code: i64,
    key: (i64, i64, i64, i64),
    debit: i64,
    credit: i64,
    amount: Amount,
}

impl Move {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            code: row.int(0)?,
            key: (row.int(1)?, row.int(2)?, row.int(3)?, row.int(4)?),
            debit: row.int(5)?,
            credit: row.int(6)?,
            amount: row.amount(7)?,
        })
    }

    fn name(&self) -> String {
        let (job, stage, idx, attempt) = self.key;
        format!("transfer (code {}, job_id {job}, stage {stage}, idx {idx}, attempt {attempt})", self.code)
    }
}

/// What a transfer should be: made of the row that it is for.
#[derive(Clone, Copy)]
struct Expected {
    /// Job, stage, index and attempt.
    key: (i64, i64, i64, i64),
    debit: i64,
    credit: i64,
    amount: Amount,
}

/// Checks deposits, escrows, refunds, releases, payouts, reversals and queues.
pub(crate) fn check(source: &Source) -> Check<()> {
    let (mut moves, mut rows) = (source.session()?, source.session()?);
    let both = (&mut moves, &mut rows);
    compare(
        both,
        code::DEPOSIT,
        "deposit",
        "SELECT id, submitter_id, amount FROM deposit ORDER BY id",
        |row| {
            let (key, submitter) = ((0, 0, 0, row.int(0)?), row.int(1)?);
            let credit = account::submitter(submitter);
            Ok(Expected { key, debit: account::BANK, credit, amount: row.amount(2)? })
        },
    )?;
    let both = (&mut moves, &mut rows);
    compare(both, code::ESCROW, "job", "SELECT id, submitter_id, budget FROM job ORDER BY id", |row| {
        let (job, submitter) = (row.int(0)?, row.int(1)?);
        let (debit, credit) = (account::submitter(submitter), account::escrow(job));
        let key = (job, 0, 0, 0);
        Ok(Expected { key, debit, credit, amount: row.amount(2)? })
    })?;
    refunds(&mut moves, &mut rows)?;
    let both = (&mut moves, &mut rows);
    compare(both, code::RELEASE, "release", "SELECT id, owner_id, amount FROM release ORDER BY id", |row| {
        let (key, owner) = ((0, 0, 0, row.int(0)?), row.int(1)?);
        let (debit, credit) = (account::pending(owner), account::available(owner));
        Ok(Expected { key, debit, credit, amount: row.amount(2)? })
    })?;
    payouts((&mut moves, &mut rows))?;
    queues(&mut moves, &mut rows)
}

impl Expected {
    /// The row that it is made of, by its key: a batch and an owner, or a number.
    fn name(&self) -> String {
        match self.key {
            (0, 0, 0, id) | (id, 0, 0, 0) => format!("(id {id})"),
            (_, _, batch, owner) => format!("(batch_id {batch}, owner_id {owner})"),
        }
    }
}

/// Refunds go from a job's escrow to its submitter: one each time that it ended, and one when it was settled. What they
/// come to is compared with the job elsewhere.
fn refunds(moves: &mut Session, rows: &mut Session) -> Check<()> {
    let mut rows = rows.rows("SELECT id, submitter_id, round FROM job ORDER BY id")?;
    let mut moves = moves.rows(&format!(
        "SELECT code, job_id, stage, idx, attempt, debit, credit, amount FROM transfer WHERE code = {}
         ORDER BY job_id, stage, idx, attempt",
        code::REFUND
    ))?;
    let mut job: Option<(i64, i64, i64)> = None;
    let mut last = None;
    while let Some(row) = moves.next()? {
        let one = Move::read(&row)?;
        if last.replace(one.key) == Some(one.key) {
            return broken("uniqueness", one.name(), "is there twice");
        }
        let (id, stage, round, settled) = one.key;
        while job.is_none_or(|(job, ..)| job < id) {
            let Some(row) = rows.next()? else { break };
            job = Some((row.int(0)?, row.int(1)?, row.int(2)?));
        }
        let Some((_, submitter, rounds)) = job.filter(|(job, ..)| *job == id) else {
            return broken(CHECK, one.name(), "is for no row of job");
        };
        let is_right = (one.debit, one.credit) == (account::escrow(id), account::submitter(submitter))
            && stage == 0
            && (0..=rounds).contains(&round)
            && (0..=1).contains(&settled);
        if !is_right {
            return broken(CHECK, one.name(), format!("is not what job (id {id}) says"));
        }
    }
    Ok(())
}

/// Checks payouts and reversals.
fn payouts((moves, rows): (&mut Session, &mut Session)) -> Check<()> {
    let all = "SELECT batch_id, owner_id, amount FROM payout ORDER BY batch_id, owner_id";
    compare((moves, rows), code::PAYOUT, "payout", all, |row| {
        let (batch, owner) = (row.int(0)?, row.int(1)?);
        let (debit, credit) = (account::available(owner), account::payout(owner));
        Ok(Expected { key: (0, 0, batch, owner), debit, credit, amount: row.amount(2)? })
    })?;
    // One that came back from the bank was paid before.
    let paid = "SELECT batch_id, owner_id, amount FROM payout
        WHERE state = 2 OR EXISTS (SELECT FROM reversal WHERE code = 8 AND idx = batch_id AND attempt = owner_id)
        ORDER BY batch_id, owner_id";
    compare((moves, rows), code::PAID, "payout", paid, |row| {
        let (batch, owner) = (row.int(0)?, row.int(1)?);
        let (debit, credit) = (account::payout(owner), account::paid(owner));
        Ok(Expected { key: (0, 0, batch, owner), debit, credit, amount: row.amount(2)? })
    })?;
    // What it undoes may be missing: then it moves between other accounts than any transfer does.
    let reversals = "SELECT reversal.id, coalesce(credit, -1), coalesce(debit, -1), coalesce(amount, 0)
        FROM reversal LEFT JOIN transfer USING (code, job_id, stage, idx, attempt) ORDER BY reversal.id";
    compare((moves, rows), code::REVERSAL, "reversal", reversals, |row| {
        let (debit, credit) = (row.int(1)?, row.int(2)?);
        Ok(Expected { key: (0, 0, 0, row.int(0)?), debit, credit, amount: row.amount(3)? })
    })
}

/// Compares the transfers of a code with the rows that they are for, one to one.
fn compare(
    (moves, rows): (&mut Session, &mut Session),
    code: i64,
    table: &str,
    select: &str,
    expected: fn(&Row<'_>) -> Result<Expected>,
) -> Check<()> {
    let mut moves = moves.rows(&format!(
        "SELECT code, job_id, stage, idx, attempt, debit, credit, amount FROM transfer WHERE code = {code}
         ORDER BY job_id, stage, idx, attempt"
    ))?;
    let mut rows = rows.rows(select)?;
    let mut last = None;
    loop {
        let row = rows.next()?.map(|row| expected(&row)).transpose()?;
        let one = moves.next()?.map(|row| Move::read(&row)).transpose()?;
        if let (Some(one), true) = (&one, one.as_ref().map(|one| one.key) == last) {
            return broken("uniqueness", one.name(), "is there twice");
        }
        last = one.as_ref().map(|one| one.key);
        match (row, one) {
            (None, None) => return Ok(()),
            (Some(row), Some(one)) if one.key == row.key => {
                let is_right = (one.debit, one.credit) == (row.debit, row.credit) && row.amount == one.amount;
                if !is_right {
                    let problem = format!("is not what {table} {} says", row.name());
                    return broken(CHECK, one.name(), problem);
                }
            }
            (Some(row), one) if one.as_ref().is_none_or(|one| one.key > row.key) => {
                return broken(
                    CHECK,
                    format!("{table} {}", row.name()),
                    format!("has no transfer of code {code}"),
                );
            }
            (_, Some(one)) => return broken(CHECK, one.name(), format!("is for no row of {table}")),
            (Some(_), None) => return Ok(()),
        }
    }
}

/// A range of an owner's queue that was released or lost, by its first place.
struct Range {
    owner: i64,
    from_seq: i64,
    to_seq: i64,
    /// What was released; none where it was lost.
    amount: Option<Amount>,
    name: String,
}

/// Queues have no gaps; releases and catches cut them into ranges, one after the other; a release is the sum of its
/// range.
fn queues(held: &mut Session, others: &mut Session) -> Check<()> {
    let mut places = Places::open(held)?;
    let mut ends: BTreeMap<i64, i64> = BTreeMap::new();
    let mut ranges = others.rows(
        "SELECT owner_id, from_seq, to_seq, amount, id FROM release
         UNION ALL SELECT owner_id, from_seq, to_seq, NULL, id FROM catch ORDER BY 1, 2, 3, 5",
    )?;
    while let Some(row) = ranges.next()? {
        let range = Range::read(&row)?;
        let end = ends.insert(range.owner, range.to_seq).unwrap_or(0);
        if range.from_seq != end || range.to_seq < range.from_seq {
            let problem =
                format!("begins after place {} of its owner's queue, not after {end}", range.from_seq);
            return broken(QUEUES, range.name, problem);
        }
        let (sum, reached) = places.sum(range.owner, range.to_seq)?;
        if reached < range.to_seq {
            return broken(QUEUES, range.name, format!("its owner's queue ends at place {reached}"));
        }
        if let Some(amount) = range.amount.filter(|amount| *amount != sum) {
            return broken(QUEUES, range.name, format!("releases {amount} where {sum} was held"));
        }
    }
    drop(ranges);
    let mut lengths = places.finish()?;
    let mut standings =
        others.rows("SELECT owner_id, held_to, released_to FROM standing ORDER BY owner_id")?;
    while let Some(row) = standings.next()? {
        let (owner, held_to, released_to) = (row.int(0)?, row.int(1)?, row.int(2)?);
        let (length, end) = (lengths.remove(&owner).unwrap_or(0), ends.remove(&owner).unwrap_or(0));
        if (held_to, released_to) != (length, end) {
            let problem =
                format!("says {held_to} held and {released_to} done with, its queue {length} and {end}");
            return broken(QUEUES, format!("standing (owner_id {owner})"), problem);
        }
    }
    match lengths.pop_first() {
        Some((owner, _)) => {
            broken(QUEUES, format!("standing (owner_id {owner})"), "is missing: it has a queue")
        }
        None => Ok(()),
    }
}

impl Range {
    fn read(row: &Row<'_>) -> Result<Self> {
        let amount = row.field(3).map(Amount::read).transpose()?;
        let table = if amount.is_some() { "release" } else { "catch" };
        let name = format!("{table} (id {})", row.int(4)?);
        Ok(Self { owner: row.int(0)?, from_seq: row.int(1)?, to_seq: row.int(2)?, amount, name })
    }
}

/// Places of all queues, in order.
struct Places<'a> {
    rows: Rows<'a>,
    next: Option<(i64, i64, Amount)>,
    /// How long each owner's queue is, as far as it was read.
    lengths: BTreeMap<i64, i64>,
}

impl<'a> Places<'a> {
    fn open(session: &'a mut Session) -> Check<Self> {
        let rows = session.rows("SELECT owner_id, seq, amount FROM held ORDER BY owner_id, seq")?;
        let mut places = Self { rows, next: None, lengths: BTreeMap::new() };
        places.advance()?;
        Ok(places)
    }

    fn advance(&mut self) -> Check<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.int(0)?, row.int(1)?, row.amount(2)?)),
            None => None,
        };
        let Some((owner, seq, _)) = self.next else { return Ok(()) };
        let length = self.lengths.entry(owner).or_default();
        *length += 1;
        if seq != *length {
            return broken(
                QUEUES,
                format!("held (owner_id {owner}, seq {seq})"),
                format!("is at place {length}"),
            );
        }
        Ok(())
    }

    /// What is held for an owner up to this place, from where the last sum ended; and how far its queue goes.
    fn sum(&mut self, owner: i64, to_seq: i64) -> Check<(Amount, i64)> {
        let mut sum = Amount::default();
        while let Some((of, seq, amount)) = self.next {
            if (of, seq) > (owner, to_seq) {
                break;
            }
            if of == owner {
                sum.0 += amount.0;
            }
            self.advance()?;
        }
        Ok((sum, self.lengths.get(&owner).copied().unwrap_or(0)))
    }

    /// Reads what is left.
    fn finish(mut self) -> Check<BTreeMap<i64, i64>> {
        while self.next.is_some() {
            self.advance()?;
        }
        Ok(self.lengths)
    }
}
