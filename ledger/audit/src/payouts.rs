//! Payouts: what their lines make, how far they are, and who took their batches there.

use std::collections::BTreeMap;

use crate::amount::Amount;
use crate::books::{account, code};
use crate::fault::{Check, broken};
use crate::source::{Session, Source};

const CHECK: &str = "payouts";

/// States of a batch; it is approved and exported in a step each, which is sealed.
const PROPOSED: i64 = 1;
const APPROVED: i64 = 2;
const EXPORTED: i64 = 3;
const REJECTED: i64 = 4;
/// States of a payout. An open one is in state 1.
const PAID: i64 = 2;
const RETURNED: i64 = 3;

/// Batch and owner.
type Key = (i64, i64);

/// A payout, and what its lines make.
struct Payout {
    /// Its owner's available account.
    available: i64,
    lines: Amount,
}

/// Checks batches, payouts and their lines.
pub(crate) fn check(source: &Source) -> Check<()> {
    let (mut one, mut two) = (source.session()?, source.session()?);
    steps(&mut one, &mut two)?;
    people(&mut one)?;
    reversals(&mut one)?;
    let mut payouts = states(&mut one)?;
    lines(&mut one, &mut payouts)?;
    sums(&mut one, &payouts)
}

/// The steps of each batch are those of its state, and say the same as the batch: two people at least.
fn steps(batches: &mut Session, steps: &mut Session) -> Check<()> {
    let mut batches = batches.rows(
        "SELECT id, state, proposed_by, approved_by, approved_at, exported_by, exported_at
         FROM payout_batch ORDER BY id",
    )?;
    let mut steps = steps
        .rows("SELECT batch_id, step, operator_id, created_at FROM payout_step ORDER BY batch_id, step")?;
    let read = |row: &crate::source::Row<'_>| {
        Ok::<_, anyhow::Error>(((row.int(0)?, row.int(1)?), (row.int(2)?, row.int(3)?)))
    };
    let mut next = steps.next()?.map(|row| read(&row)).transpose()?;
    let mut last = 0;
    while let Some(row) = batches.next()? {
        let (id, state, proposer) = (row.int(0)?, row.int(1)?, row.int(2)?);
        let name = format!("payout_batch (id {id})");
        if id == last {
            return broken("uniqueness", name, "is there twice");
        }
        last = id;
        let mut taken = BTreeMap::new();
        while let Some(((_, step), by)) = next.filter(|((batch, _), _)| *batch == id) {
            if taken.insert(step, by).is_some() {
                let name = format!("payout_step (batch_id {id}, step {step})");
                return broken("uniqueness", name, "is there twice");
            }
            next = steps.next()?.map(|row| read(&row)).transpose()?;
        }
        for (step, at) in [(APPROVED, 3), (EXPORTED, 5)] {
            let said = match (row.field(at), row.field(at + 1)) {
                (None, None) => None,
                _ => Some((row.int(at)?, row.int(at + 1)?)),
            };
            if said != taken.get(&step).copied() {
                return broken(CHECK, name, format!("does not say of state {step} what its step does"));
            }
        }
        let is_approved = taken.contains_key(&APPROVED);
        let is_exported = taken.contains_key(&EXPORTED);
        let is_right = match state {
            PROPOSED => !is_approved && !is_exported,
            APPROVED => is_approved && !is_exported,
            EXPORTED => is_approved && is_exported,
            REJECTED => !is_exported,
            _ => false,
        };
        if !is_right {
            return broken(CHECK, name, format!("is in state {state}, and its steps say otherwise"));
        }
        if taken.get(&APPROVED).is_some_and(|(operator, _)| *operator == proposer) {
            return broken(CHECK, name, "was approved by whoever proposed it");
        }
    }
    match next {
        Some(((batch, step), _)) => {
            broken(CHECK, format!("payout_step (batch_id {batch}, step {step})"), "is of no batch")
        }
        None => Ok(()),
    }
}

/// Whoever took a step has a name, and nobody has another's.
fn people(session: &mut Session) -> Check<()> {
    let select = "SELECT 'payout_batch (id ' || payout_batch.id || ')', proposed_by FROM payout_batch
            LEFT JOIN operator ON operator.id = proposed_by WHERE operator.id IS NULL
        UNION ALL SELECT 'payout_step (batch_id ' || batch_id || ', step ' || step || ')', operator_id FROM payout_step
            LEFT JOIN operator ON operator.id = operator_id WHERE operator.id IS NULL
        ORDER BY 1";
    if let Some(row) = session.rows(select)?.next()? {
        return broken(CHECK, row.text(0)?, format!("is by operator {}, whom there is not", row.int(1)?));
    }
    for table in ["operator", "owner", "submitter"] {
        let select = format!(
            "SELECT max(id), min(name) FROM {table} GROUP BY name COLLATE \"C\" HAVING count(*) > 1 ORDER BY 1"
        );
        if let Some(row) = session.rows(&select)?.next()? {
            let name = format!("{table} (id {})", row.int(0)?);
            return broken("uniqueness", name, format!("has the name of another: {}", row.text(1)?));
        }
    }
    Ok(())
}

/// Deposits and payouts can be undone, nothing else; and that a payout was paid only together with the payout.
fn reversals(session: &mut Session) -> Check<()> {
    let select = "SELECT reversal.id, reversal.code, back.id IS NOT NULL FROM reversal
        LEFT JOIN reversal AS back ON back.code = 7 AND back.job_id = reversal.job_id AND back.stage = reversal.stage
            AND back.idx = reversal.idx AND back.attempt = reversal.attempt
        ORDER BY reversal.id";
    let mut rows = session.rows(select)?;
    while let Some(row) = rows.next()? {
        let (id, code, is_back) = (row.int(0)?, row.int(1)?, row.bytes(2)? == [1]);
        let problem = match code {
            code::DEPOSIT | code::PAYOUT => continue,
            code::PAID if is_back => continue,
            code::PAID => "undoes that a payout was paid, and not the payout".to_owned(),
            _ => format!("undoes a transfer of code {code}, which is never undone"),
        };
        return broken(CHECK, format!("reversal (id {id})"), problem);
    }
    Ok(())
}

/// A payout is returned exactly where a reversal undoes it, rejected with its batch, and paid only from one that a bank has.
fn states(session: &mut Session) -> Check<BTreeMap<Key, Payout>> {
    let select = "SELECT payout.batch_id, owner_id, payout.state, coalesce(payout_batch.state, 0), payout.currency,
            coalesce(undone.times, 0)
        FROM payout LEFT JOIN payout_batch ON payout_batch.id = batch_id
        LEFT JOIN (SELECT idx, attempt, count(*) AS times FROM reversal WHERE code = 7 AND job_id = 0 AND stage = 0
            GROUP BY idx, attempt) AS undone ON undone.idx = batch_id AND undone.attempt = owner_id
        ORDER BY payout.batch_id, owner_id";
    let mut payouts = BTreeMap::new();
    let mut rows = session.rows(select)?;
    while let Some(row) = rows.next()? {
        let (key, state, batch, undone) = ((row.int(0)?, row.int(1)?), row.int(2)?, row.int(3)?, row.int(5)?);
        let available = account::of(row.int(4)?, account::available(key.1));
        if payouts.insert(key, Payout { available, lines: Amount::default() }).is_some() {
            return broken("uniqueness", name(key), "is there twice");
        }
        if (state == RETURNED) != (undone == 1) {
            let problem = format!("is in state {state}, and {undone} reversals undo it");
            return broken(CHECK, name(key), problem);
        }
        let is_right = match batch {
            PROPOSED | APPROVED => state != PAID && state != RETURNED,
            EXPORTED => true,
            REJECTED => state == RETURNED,
            _ => false,
        };
        if !is_right {
            let problem = format!("is in state {state}, its batch in state {batch}");
            return broken(CHECK, name(key), problem);
        }
    }
    Ok(payouts)
}

/// Every line is of one transfer on its owner's available account, and each such transfer is in one payout at most. What
/// payouts move themselves is in none.
fn lines(session: &mut Session, payouts: &mut BTreeMap<Key, Payout>) -> Check<()> {
    let select = "SELECT transfer_id, batch_id, owner_id, coalesce(code, 0), coalesce(debit, -1), coalesce(credit, -1),
            coalesce(amount, 0)
        FROM payout_line LEFT JOIN transfer ON transfer.id = transfer_id ORDER BY transfer_id";
    let mut rows = session.rows(select)?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let (id, key) = (row.int(0)?, (row.int(1)?, row.int(2)?));
        let (code, debit, credit, amount) = (row.int(3)?, row.int(4)?, row.int(5)?, row.amount(6)?);
        let line = format!("payout_line (transfer_id {id})");
        if last.replace(id) == Some(id) {
            return broken("uniqueness", line, "is there twice");
        }
        let Some(payout) = payouts.get_mut(&key) else {
            return broken(CHECK, line, format!("is of {}, which there is not", name(key)));
        };
        let moves_payouts = matches!(code, code::PAYOUT | code::REMAINDER | code::TAKEN_UP);
        match payout.available {
            available if available == credit && !moves_payouts => payout.lines.0 += amount.0,
            available if available == debit && !moves_payouts => payout.lines.0 -= amount.0,
            _ => return broken(CHECK, line, format!("is no transfer that {} can pay", name(key))),
        }
    }
    Ok(())
}

/// What the last payout left and the lines make what is paid and what is left; of less than the batch's minimum nobody is paid.
fn sums(session: &mut Session, payouts: &BTreeMap<Key, Payout>) -> Check<()> {
    let select = "SELECT batch_id, owner_id, payout.currency, amount, carried_in, carried_out, minimum,
            payout.decimals = payout_batch.decimals AND payout.decimals = currency.decimals
        FROM payout JOIN payout_batch ON payout_batch.id = batch_id JOIN currency ON number = payout.currency
        ORDER BY batch_id, owner_id";
    let mut left: BTreeMap<(i64, i64), Amount> = BTreeMap::new();
    let mut rows = session.rows(select)?;
    while let Some(row) = rows.next()? {
        let (key, currency) = ((row.int(0)?, row.int(1)?), row.int(2)?);
        let (amount, carried_in, carried_out) = (row.amount(3)?, row.amount(4)?, row.amount(5)?);
        let lines = payouts.get(&key).map(|payout| payout.lines).unwrap_or_default();
        let minimum = row.amount(6)?;
        if amount.0 + carried_out.0 < minimum.0 {
            let problem =
                format!("is of {}, less than the minimum of {minimum}", Amount(amount.0 + carried_out.0));
            return broken(CHECK, name(key), problem);
        }
        if row.bytes(7)? != [1] {
            return broken(CHECK, name(key), "has other decimals than its batch or its currency");
        }
        if carried_in.0 + lines.0 != amount.0 + carried_out.0 {
            let problem = format!(
                "pays {amount} and leaves {carried_out}, where {carried_in} was left and its lines make {lines}"
            );
            return broken(CHECK, name(key), problem);
        }
        let before = left.insert((currency, key.1), carried_out).unwrap_or_default();
        if carried_in != before {
            let problem = format!("says that {carried_in} was left, the payout before left {before}");
            return broken(CHECK, name(key), problem);
        }
    }
    Ok(())
}

fn name((batch, owner): Key) -> String {
    format!("payout (batch_id {batch}, owner_id {owner})")
}
