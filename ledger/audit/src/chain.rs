//! The chain of seals: every head, signature and link, and every sealed row against them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::fault::{Check, broken};
use crate::kinds::{KINDS, Kind};
use crate::source::{Row, Session};

const CHECK: &str = "chain";
/// First bytes of every record.
const MAGIC: &[u8] = b"lull seal 1\n";
/// Bytes of a row's digest that its seal keeps.
const MARK_BYTES: usize = 4;
/// Seals that are looked at together: at most so many, and until they have so many rows.
const GROUP_SEALS_MAX: u64 = 1_000;
const GROUP_ROWS: u64 = 400_000;

/// What whoever audits knows from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Keys that may sign; any when there are none.
    pub(crate) keys: Vec<[u8; 32]>,
    /// A head that has to be in the chain.
    pub(crate) head: Option<[u8; 32]>,
}

/// A chain that holds.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Number of seals.
    pub(crate) seals: u64,
    /// Rows in them.
    pub(crate) sealed_rows: u64,
    /// Rows after them.
    pub(crate) unsealed_rows: u64,
    /// The last head.
    pub(crate) head: [u8; 32],
    /// Who signed.
    pub(crate) keys: BTreeSet<[u8; 32]>,
    /// Transactions below this number are sealed.
    to_xid: u64,
}

struct Seal {
    number: u64,
    from_xid: u64,
    to_xid: u64,
    created_at: i64,
    head: [u8; 32],
    public_key: [u8; 32],
    signature: [u8; 64],
    parts: BTreeMap<i64, Part>,
}

#[derive(Clone)]
struct Part {
    rows: u64,
    digest: [u8; 32],
    marks_digest: [u8; 32],
}

/// Checks all seals and all rows in them. `visit` is shown every row, those that are not sealed yet too.
pub(crate) fn check(
    session: &mut Session,
    known: &Known,
    mut visit: impl FnMut(&Kind, &Row<'_>) -> Check<()>,
) -> Check<Chain> {
    let grid_id = session.text("SELECT grid_id FROM grid")?;
    let mut chain = Chain::default();
    let mut head_seen = false;
    loop {
        let seals = group(session, chain.seals)?;
        if seals.is_empty() {
            break;
        }
        for seal in &seals {
            link(&mut chain, seal, &grid_id, known)?;
            head_seen |= known.head == Some(seal.head);
        }
        for kind in &KINDS {
            rows(session, kind, &seals, &mut visit)?;
        }
    }
    let orphan = "SELECT seal_number, kind FROM seal_part WHERE seal_number NOT IN (SELECT number FROM seal)
        ORDER BY 1, 2 LIMIT 1";
    if let Some(row) = session.rows(orphan)?.next()? {
        let name = format!("seal_part (seal_number {}, kind {})", row.int(0)?, row.int(1)?);
        return broken(CHECK, name, "belongs to no seal");
    }
    if let (Some(head), false) = (known.head, head_seen) {
        let row = format!("seal after {}", chain.seals);
        return broken(
            CHECK,
            row,
            format!("no seal has the head {}: seals were removed or made anew", hex::encode(head)),
        );
    }
    let end = begun(session, &chain)?;
    for kind in &KINDS {
        let mut rows = session.rows(&kind.select(chain.to_xid, None))?;
        while let Some(row) = rows.next()? {
            if end.is_some_and(|end| row.xid(0).is_ok_and(|xid| xid >= end)) {
                let problem = "is of a transaction that has not begun yet: it would not be sealed";
                return broken(CHECK, kind.name(&row), problem);
            }
            chain.unsealed_rows += 1;
            visit(kind, &row)?;
        }
    }
    Ok(chain)
}

/// Transactions from this number on have not begun. Nothing is known of that in a copy of which the server is behind the seals
/// or, as nothing is sealed yet, could be.
fn begun(session: &mut Session, chain: &Chain) -> Result<Option<u64>> {
    let end = session.text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")?.parse()?;
    Ok((chain.seals > 0 && end >= chain.to_xid).then_some(end))
}

/// The next seals after this number, with their parts.
fn group(session: &mut Session, after: u64) -> Result<Vec<Seal>> {
    let select = format!(
        "SELECT number, from_xid, to_xid, created_at, head, public_key, signature,
             (SELECT coalesce(sum(rows), 0)::bigint FROM seal_part WHERE seal_number = number)
         FROM seal WHERE number > {after} ORDER BY number LIMIT {GROUP_SEALS_MAX}"
    );
    let mut seals: Vec<Seal> = Vec::new();
    let mut sealed_rows = 0;
    let mut list = session.rows(&select)?;
    while let Some(row) = list.next()? {
        sealed_rows += u64::try_from(row.int(7)?)?;
        if sealed_rows > GROUP_ROWS && !seals.is_empty() {
            break;
        }
        seals.push(Seal {
            number: u64::try_from(row.int(0)?)?,
            from_xid: row.xid(1)?,
            to_xid: row.xid(2)?,
            created_at: row.int(3)?,
            head: row.digest(4)?,
            public_key: row.digest(5)?,
            signature: row.bytes(6)?.try_into()?,
            parts: BTreeMap::new(),
        });
    }
    drop(list);
    let Some(last) = seals.last().map(|seal| seal.number) else { return Ok(seals) };
    let select = format!(
        "SELECT seal_number, kind, rows, digest, marks FROM seal_part
         WHERE seal_number > {after} AND seal_number <= {last} ORDER BY seal_number, kind"
    );
    let mut parts = session.rows(&select)?;
    while let Some(row) = parts.next()? {
        let number = u64::try_from(row.int(0)?)?;
        let marks_digest = blake3::hash(row.bytes(4)?).into();
        let part = Part { rows: u64::try_from(row.int(2)?)?, digest: row.digest(3)?, marks_digest };
        if let Some(seal) = seals.iter_mut().find(|seal| seal.number == number) {
            seal.parts.insert(row.int(1)?, part);
        }
    }
    Ok(seals)
}

/// Checks a seal by itself, and that it follows on the one before.
fn link(chain: &mut Chain, seal: &Seal, grid_id: &str, known: &Known) -> Check<()> {
    let name = format!("seal {}", seal.number);
    if seal.number != chain.seals + 1 {
        return broken(CHECK, format!("seal {}", chain.seals + 1), "is missing");
    }
    if seal.from_xid != chain.to_xid || seal.to_xid <= seal.from_xid {
        return broken(CHECK, name, "does not begin at the transaction where the seal before it ends");
    }
    if seal.head != head(seal, grid_id, &chain.head) {
        let problem = "its head is not the hash of what it says and of the seal before: it or one of its parts was changed";
        return broken(CHECK, name, problem);
    }
    let key = VerifyingKey::from_bytes(&seal.public_key);
    let signature = Signature::from_bytes(&seal.signature);
    if !key.is_ok_and(|key| key.verify_strict(&seal.head, &signature).is_ok()) {
        return broken(CHECK, name, "its signature does not match");
    }
    if !known.keys.is_empty() && !known.keys.contains(&seal.public_key) {
        let problem =
            format!("is signed with the key {}, which is not one of --key", hex::encode(seal.public_key));
        return broken(CHECK, name, problem);
    }
    chain.seals = seal.number;
    chain.head = seal.head;
    chain.to_xid = seal.to_xid;
    chain.keys.insert(seal.public_key);
    chain.sealed_rows += seal.parts.values().map(|part| part.rows).sum::<u64>();
    Ok(())
}

fn head(seal: &Seal, grid_id: &str, previous: &[u8; 32]) -> [u8; 32] {
    let mut record = MAGIC.to_vec();
    record.extend((grid_id.len() as u64).to_be_bytes());
    record.extend(grid_id.as_bytes());
    record.extend(seal.number.to_be_bytes());
    record.extend(previous);
    record.extend(seal.from_xid.to_be_bytes());
    record.extend(seal.to_xid.to_be_bytes());
    record.extend(seal.created_at.to_be_bytes());
    record.extend(seal.public_key);
    record.extend((seal.parts.len() as u64).to_be_bytes());
    for (kind, part) in &seal.parts {
        #[allow(clippy::cast_possible_truncation, reason = "a smallint in the database")]
        record.extend((*kind as i16).to_be_bytes());
        record.extend(part.rows.to_be_bytes());
        record.extend(part.digest);
        record.extend(part.marks_digest);
    }
    blake3::hash(&record).into()
}

/// Compares the rows of one table with what the seals of a group say of them.
fn rows(
    session: &mut Session,
    kind: &Kind,
    seals: &[Seal],
    visit: &mut impl FnMut(&Kind, &Row<'_>) -> Check<()>,
) -> Check<()> {
    let (Some(first), Some(last)) = (seals.first(), seals.last()) else { return Ok(()) };
    let mut list = session.rows(&kind.select(first.from_xid, Some(last.to_xid)))?;
    let mut next = seals.iter();
    let mut seal = first;
    let (mut count, mut hasher) = (0, blake3::Hasher::new());
    let mut differs = None;
    next.next();
    'all: loop {
        let row = list.next()?;
        let xid = row.map(|row| row.xid(0)).transpose()?;
        while xid.is_none_or(|xid| xid >= seal.to_xid) {
            let expected = seal.parts.get(&kind.number).map(|part| (part.rows, part.digest));
            let digest = hasher.finalize().into();
            if expected.unwrap_or((0, *blake3::hash(b"").as_bytes())) != (count, digest) {
                differs = Some(seal);
                break 'all;
            }
            (count, hasher) = (0, blake3::Hasher::new());
            match next.next() {
                Some(following) => seal = following,
                None => break 'all,
            }
        }
        let Some(row) = row else { break };
        count += 1;
        hasher.update(row.bytes);
        visit(kind, &row)?;
    }
    drop(list);
    match differs {
        Some(seal) => locate(session, kind, seal),
        None => Ok(()),
    }
}

/// Names the first row of a table that is not as it was sealed.
fn locate(session: &mut Session, kind: &Kind, seal: &Seal) -> Check<()> {
    let select =
        format!("SELECT marks FROM seal_part WHERE seal_number = {} AND kind = {}", seal.number, kind.number);
    let mut stored = Vec::new();
    if let Some(row) = session.rows(&select)?.next()? {
        stored.extend(row.bytes(0)?.chunks(MARK_BYTES).map(<[u8]>::to_vec));
    }
    let mut left: BTreeMap<&[u8], u64> = BTreeMap::new();
    for mark in &stored {
        *left.entry(mark).or_default() += 1;
    }
    let sealed = stored.len() as u64;
    let (mut count, mut odd, mut moved) = (0, None, None);
    let mut before: Option<String> = None;
    let mut list = session.rows(&kind.select(seal.from_xid, Some(seal.to_xid)))?;
    while let Some(row) = list.next()? {
        let digest = blake3::hash(row.bytes);
        let mark = &digest.as_bytes()[..MARK_BYTES];
        match left.get_mut(mark).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None if odd.is_none() => odd = Some(kind.name(&row)),
            None => {}
        }
        if moved.is_none() && stored.get(usize::try_from(count)?).is_none_or(|stored| stored != mark) {
            let name = kind.name(&row);
            moved = Some(match &before {
                Some(before) => format!("{} between {before} and {name}", kind.table),
                None => format!("{} before {name}", kind.table),
            });
        }
        before = Some(kind.name(&row));
        count += 1;
    }
    let number = seal.number;
    match odd {
        Some(row) if count > sealed => {
            broken(CHECK, row, format!("was put among the rows of seal {number} later"))
        }
        Some(row) => broken(CHECK, row, format!("is not as it was sealed, in seal {number}")),
        None if count < sealed => {
            let row = moved.or(before.map(|before| format!("{} after {before}", kind.table)));
            let row = row.unwrap_or_else(|| kind.table.to_owned());
            broken(CHECK, row, format!("is missing: seal {number} has {sealed} rows, {count} are there"))
        }
        None => {
            let row = moved.unwrap_or_else(|| kind.table.to_owned());
            broken(CHECK, row, format!("the rows of seal {number} are not as they were sealed"))
        }
    }
}
