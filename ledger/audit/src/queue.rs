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
        "SELECT id, submitter_id, amount, currency FROM deposit ORDER BY id",
        |row| {
            let (key, submitter) = ((0, 0, 0, row.int(0)?), row.int(1)?);
            let between = (account::BANK, account::submitter(submitter));
            Ok(Expected::new(key, row.int(3)?, between, row.amount(2)?))
        },
    )?;
    let both = (&mut moves, &mut rows);
    compare(
        both,
        code::ESCROW,
        "job",
        "SELECT id, submitter_id, budget, currency FROM job ORDER BY id",
        |row| {
            let (job, submitter) = (row.int(0)?, row.int(1)?);
            let between = (account::submitter(submitter), account::escrow(job));
            Ok(Expected::new((job, 0, 0, 0), row.int(3)?, between, row.amount(2)?))
        },
    )?;
    refunds(&mut moves, &mut rows)?;
    let both = (&mut moves, &mut rows);
    compare(
        both,
        code::RELEASE,
        "release",
        "SELECT id, owner_id, amount, currency FROM release ORDER BY id",
        |row| {
            let (key, owner) = ((0, 0, 0, row.int(0)?), row.int(1)?);
            let between = (account::pending(owner), account::available(owner));
            Ok(Expected::new(key, row.int(3)?, between, row.amount(2)?))
        },
    )?;
    payouts((&mut moves, &mut rows))?;
    queues(&mut moves, &mut rows)
}

impl Expected {
    /// Between two accounts of one currency.
    fn new(key: (i64, i64, i64, i64), currency: i64, (debit, credit): (i64, i64), amount: Amount) -> Self {
        Self { key, debit: account::of(currency, debit), credit: account::of(currency, credit), amount }
    }

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
    let mut rows = rows.rows("SELECT id, submitter_id, round, currency FROM job ORDER BY id")?;
    let mut moves = moves.rows(&format!(
        "SELECT code, job_id, stage, idx, attempt, debit, credit, amount FROM transfer WHERE code = {}
         ORDER BY job_id, stage, idx, attempt",
        code::REFUND
    ))?;
    let mut job: Option<(i64, i64, i64, i64)> = None;
    let mut last = None;
    while let Some(row) = moves.next()? {
        let one = Move::read(&row)?;
        if last.replace(one.key) == Some(one.key) {
            return broken("uniqueness", one.name(), "is there twice");
        }
        let (id, stage, round, settled) = one.key;
        while job.is_none_or(|(job, ..)| job < id) {
            let Some(row) = rows.next()? else { break };
            job = Some((row.int(0)?, row.int(1)?, row.int(2)?, row.int(3)?));
        }
        let Some((_, submitter, rounds, currency)) = job.filter(|(job, ..)| *job == id) else {
            return broken(CHECK, one.name(), "is for no row of job");
        };
        let between = (account::escrow(id), account::submitter(submitter));
        let is_right = (one.debit, one.credit)
            == (account::of(currency, between.0), account::of(currency, between.1))
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
    let all = "SELECT batch_id, owner_id, amount, currency FROM payout ORDER BY batch_id, owner_id";
    compare((moves, rows), code::PAYOUT, "payout", all, |row| {
        let (batch, owner) = (row.int(0)?, row.int(1)?);
        let between = (account::available(owner), account::payout(owner));
        Ok(Expected::new((0, 0, batch, owner), row.int(3)?, between, row.amount(2)?))
    })?;
    let left = "SELECT batch_id, owner_id, remainder, currency FROM payout WHERE remainder > 0 ORDER BY batch_id, owner_id";
    compare((moves, rows), code::REMAINDER, "payout", left, |row| {
        let (batch, owner) = (row.int(0)?, row.int(1)?);
        let between = (account::available(owner), account::REMAINDERS);
        Ok(Expected::new((0, 0, batch, owner), row.int(3)?, between, row.amount(2)?))
    })?;
    // Whatever one payout left, the next one of that owner in that currency takes up.
    let taken_up = "SELECT batch_id, owner_id, kept, currency FROM (
            SELECT batch_id, owner_id, currency,
                lag(remainder) OVER (PARTITION BY owner_id, currency ORDER BY batch_id) AS kept FROM payout) AS payout
        WHERE kept > 0 ORDER BY batch_id, owner_id";
    compare((moves, rows), code::TAKEN_UP, "payout", taken_up, |row| {
        let (batch, owner) = (row.int(0)?, row.int(1)?);
        let between = (account::REMAINDERS, account::available(owner));
        Ok(Expected::new((0, 0, batch, owner), row.int(3)?, between, row.amount(2)?))
    })?;
    // One that came back from the bank was paid before.
    let paid = "SELECT batch_id, owner_id, amount, currency FROM payout
        WHERE state = 2 OR EXISTS (SELECT FROM reversal WHERE code = 8 AND idx = batch_id AND attempt = owner_id)
        ORDER BY batch_id, owner_id";
    compare((moves, rows), code::PAID, "payout", paid, |row| {
        let (batch, owner) = (row.int(0)?, row.int(1)?);
        let between = (account::payout(owner), account::paid(owner));
        Ok(Expected::new((0, 0, batch, owner), row.int(3)?, between, row.amount(2)?))
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
    /// What was released, and in which currency; none where it was lost.
    released: Option<(i64, Amount)>,
    name: String,
}

/// Queues have no gaps; releases and catches cut them into ranges, one after the other; of a range that was released there is
/// a release in each currency that is in it, and it is the sum of that.
fn queues(held: &mut Session, others: &mut Session) -> Check<()> {
    let mut places = Places::open(held)?;
    let mut ends: BTreeMap<i64, i64> = BTreeMap::new();
    let mut ranges = others.rows(
        "SELECT owner_id, from_seq, to_seq, amount, id, currency FROM release
         UNION ALL SELECT owner_id, from_seq, to_seq, NULL, id, NULL FROM catch ORDER BY 1, 2, 3, 6, 5",
    )?;
    // Of the range that goes by: what was held in it and not released yet, by currency.
    let mut open: Option<(Range, Sums)> = None;
    while let Some(row) = ranges.next()? {
        let range = Range::read(&row)?;
        if let Some((begun, left)) = open.as_mut().filter(|(begun, _)| begun.is_same(&range)) {
            range.release(left)?;
            begun.name.clone_from(&range.name);
            continue;
        }
        all_released(open.take())?;
        let end = ends.insert(range.owner, range.to_seq).unwrap_or(0);
        if range.from_seq != end || range.to_seq < range.from_seq {
            let problem =
                format!("begins after place {} of its owner's queue, not after {end}", range.from_seq);
            return broken(QUEUES, range.name, problem);
        }
        let (mut sums, reached) = places.sum(range.owner, range.to_seq)?;
        if reached < range.to_seq {
            return broken(QUEUES, range.name, format!("its owner's queue ends at place {reached}"));
        }
        if range.released.is_some() {
            range.release(&mut sums)?;
            open = Some((range, sums));
        }
    }
    all_released(open)?;
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
        let released = match row.field(3) {
            Some(amount) => Some((row.int(5)?, Amount::read(amount)?)),
            None => None,
        };
        let table = if released.is_some() { "release" } else { "catch" };
        let name = format!("{table} (id {})", row.int(4)?);
        Ok(Self { owner: row.int(0)?, from_seq: row.int(1)?, to_seq: row.int(2)?, released, name })
    }

    /// Whether both are releases of the same places.
    fn is_same(&self, other: &Self) -> bool {
        (self.owner, self.from_seq, self.to_seq) == (other.owner, other.from_seq, other.to_seq)
            && other.released.is_some()
    }

    /// Takes what it releases off what was held.
    fn release(&self, held: &mut Sums) -> Check<()> {
        let Some((currency, amount)) = self.released else { return Ok(()) };
        let sum = held.remove(&currency).unwrap_or_default();
        if amount != sum {
            return broken(QUEUES, &self.name, format!("releases {amount} where {sum} was held"));
        }
        Ok(())
    }
}

/// Amounts by number of their currency.
type Sums = BTreeMap<i64, Amount>;

/// Nothing is left of a range that was released.
fn all_released(range: Option<(Range, Sums)>) -> Check<()> {
    let Some((range, mut left)) = range else { return Ok(()) };
    match left.pop_first() {
        Some((currency, amount)) => {
            let problem = format!("leaves {amount} of its places, in currency {currency}, without a release");
            broken(QUEUES, range.name, problem)
        }
        None => Ok(()),
    }
}

/// Places of all queues, in order.
struct Places<'a> {
    rows: Rows<'a>,
    /// Owner, place, amount and its currency.
    next: Option<(i64, i64, Amount, i64)>,
    /// How long each owner's queue is, as far as it was read.
    lengths: BTreeMap<i64, i64>,
}

impl<'a> Places<'a> {
    fn open(session: &'a mut Session) -> Check<Self> {
        let rows = session.rows(
            "SELECT owner_id, seq, amount, coalesce(currency, 0) FROM held LEFT JOIN job ON job.id = job_id
             ORDER BY owner_id, seq",
        )?;
        let mut places = Self { rows, next: None, lengths: BTreeMap::new() };
        places.advance()?;
        Ok(places)
    }

    fn advance(&mut self) -> Check<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.int(0)?, row.int(1)?, row.amount(2)?, row.int(3)?)),
            None => None,
        };
        let Some((owner, seq, ..)) = self.next else { return Ok(()) };
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
    fn sum(&mut self, owner: i64, to_seq: i64) -> Check<(Sums, i64)> {
        let mut sums = Sums::new();
        while let Some((of, seq, amount, currency)) = self.next {
            if (of, seq) > (owner, to_seq) {
                break;
            }
            if of == owner {
                sums.entry(currency).or_default().0 += amount.0;
            }
            self.advance()?;
        }
        Ok((sums, self.lengths.get(&owner).copied().unwrap_or(0)))
    }

    /// Reads what is left.
    fn finish(mut self) -> Check<BTreeMap<i64, i64>> {
        while self.next.is_some() {
            self.advance()?;
        }
        Ok(self.lengths)
    }
}
