//! Sealing: rows that no open transaction can come before any more are hashed in a fixed order, and the head of the
//! chain is signed. The order and the columns are frozen: an auditor recomputes them from `docs/LEDGER.md`.

use deadpool_postgres::Transaction;
use tokio_stream::StreamExt as _;

use super::error::ensure_affected;
use super::rows::{From, bigint};
use super::{Error, Store, run_tx};
use crate::seal::{GENESIS, Part, Record, Rows, SealKey};

/// Rows in a seal, unless one transaction wrote more: its marks are held in memory.
const ROWS_PER_SEAL: u64 = 200_000;
/// Transactions that are looked at for one seal.
const TRANSACTIONS_PER_SEAL: usize = 20_000;
/// A sealer that does not come back leaves its place to another after this time.
const LEASE_SECS: i32 = 30;

/// What is sealed: number, table, columns that never change, and the key that orders the rows of a transaction.
const KINDS: [(i16, &str, &str, &str); 17] = [
    (
        1,
        "job",
        "id, submitter_id, request_id, spec, order_key, priority, item_price, service_price, budget, max_error, \
         max_answer_error, created_at",
        "id",
    ),
    (2, "deposit", "id, submitter_id, request_id, amount, created_at", "id"),
    (
        3,
        "transfer",
        "id, debit, credit, amount, code, job_id, stage, idx, attempt, created_at",
        "code, job_id, stage, idx, attempt",
    ),
    (
        4,
        "verdict",
        "job_id, stage, idx, version, outcome, digest, size_bytes, agreeing, attempts, created_at",
        "job_id, stage, idx, version",
    ),
    (5, "held", "owner_id, seq, job_id, stage, idx, amount, until_seq, checked, created_at", "owner_id, seq"),
    (6, "release", "id, owner_id, from_seq, to_seq, amount, created_at", "id"),
    (
        7,
        "catch",
        "id, owner_id, device_id, job_id, stage, idx, from_seq, to_seq, reason, correct, created_at",
        "id",
    ),
    (8, "currency", "number, code, decimals, created_at", "number"),
    (9, "operator", "id, name, created_at", "id"),
    (
        10,
        "payout_batch",
        "id, request_id, minimum, payer_name, payer_iban, payer_bic, proposed_by, proposed_at, currency, decimals",
        "id",
    ),
    (
        11,
        "payout",
        "batch_id, owner_id, amount, payee_name, payee_iban, carried_in, carried_out, currency, decimals, remainder",
        "batch_id, owner_id",
    ),
    (12, "payout_line", "transfer_id, batch_id, owner_id", "transfer_id"),
    (13, "payout_step", "batch_id, step, operator_id, created_at", "batch_id, step"),
    (14, "reversal", "id, code, job_id, stage, idx, attempt, reason, operator_id, created_at", "id"),
    (15, "submitter", "id, name, created_at", "id"),
    (16, "owner", "id, name, created_at", "id"),
    (17, "device", "id, owner_id, public_key, enrolled_at", "id"),
];

/// A seal that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub number: u64,
    /// The head of the chain with it.
    pub head: [u8; 32],
    /// Rows in it.
    pub rows: u64,
    /// Whether more can be sealed at once.
    pub is_behind: bool,
}

/// Where the chain ends.
struct Last {
    number: u64,
    head: [u8; 32],
    to_xid: u64,
}

/// Transactions to be sealed.
struct Open {
    xids: std::ops::Range<u64>,
    is_all: bool,
}

impl Store {
    /// Makes the next seal, unless there is nothing to be sealed or another coordinator is the sealer.
    ///
    /// # Errors
    /// When the database fails, or counts its transactions from behind the last seal.
    pub async fn seal(&self, key: &SealKey, grid_id: &str, holder: &str) -> Result<Option<Sealed>, Error> {
        run_tx!(self.pool, "seal", tx => {
            if is_another_sealer(tx, holder).await? {
                return Ok(None);
            }
            let last = last(tx).await?;
            let Some(open) = open(tx, last.to_xid).await? else { return Ok(None) };
            if !is_sealer(tx, holder).await? || self::last(tx).await?.number != last.number {
                return Ok(None);
            }
            let mut parts = Vec::new();
            for kind in KINDS {
                parts.extend(part(tx, kind, &open.xids).await?);
            }
            let now = "SELECT (extract(epoch FROM now()) * 1000000)::bigint - 946684800000000 AS now";
            let created_at: i64 = tx.query_one(now, &[]).await?.try_get(0)?;
            let (number, previous, public_key) = (last.number + 1, last.head, key.public_key());
            let xids = open.xids.clone();
            let head = Record { grid_id, number, previous, xids, created_at, public_key, parts: &parts }.head();
            let signature = key.sign(&head);
            // A coordinator of before some kind was sealed does not name them, and cannot seal past the rows of one.
            let insert = "INSERT INTO seal (number, from_xid, to_xid, created_at, head, public_key, signature, kinds)
                VALUES ($1, $2::text::xid8, $3::text::xid8, now(), $4, $5, $6, $7)";
            let kinds = i16::try_from(KINDS.len()).unwrap_or(i16::MAX);
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
                &bigint(number),
                &open.xids.start.to_string(),
                &open.xids.end.to_string(),
                &head.as_slice(),
                &public_key.as_slice(),
                &signature.as_slice(),
                &kinds,
            ];
            ensure_affected("seal insert", 1, tx.execute(insert, &parameters).await?)?;
            let rows = parts.iter().map(|part| part.rows).sum();
            for part in &parts {
                let insert =
                    "INSERT INTO seal_part (seal_number, kind, rows, digest, marks) VALUES ($1, $2, $3, $4, $5)";
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                    [&bigint(number), &part.kind, &bigint(part.rows), &part.digest.as_slice(), &part.marks];
                tx.execute(insert, &parameters).await?;
            }
            Ok(Some(Sealed { number, head, rows, is_behind: !open.is_all }))
        })
    }

    /// Whether what is written now can be sealed later.
    ///
    /// # Errors
    /// When the database counts its transactions from behind the last seal.
    pub async fn check_seals(&self) -> Result<(), Error> {
        run_tx!(self.pool, "check_seals", tx => {
            let last = last(tx).await?;
            bound(tx, last.to_xid).await.map(drop)
        })
    }
}

async fn last(tx: &Transaction<'_>) -> Result<Last, Error> {
    let select = "SELECT number, head, to_xid::text FROM seal ORDER BY number DESC LIMIT 1";
    let Some(row) = tx.query_opt(select, &[]).await? else {
        return Ok(Last { number: 0, head: GENESIS, to_xid: 0 });
    };
    let from = From("seal");
    let head: &[u8] = row.try_get("head")?;
    Ok(Last {
        number: from.count(&row, "number")?,
        head: head.try_into().map_err(|error| from.wrong("head", error))?,
        to_xid: xid(from, row.try_get("to_xid")?)?,
    })
}

fn xid(from: From, text: &str) -> Result<u64, Error> {
    text.parse().map_err(|error| from.wrong("xid", error))
}

/// The number below which no transaction is open.
async fn bound(tx: &Transaction<'_>, sealed: u64) -> Result<u64, Error> {
    let row = tx.query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[]).await?;
    let bound = xid(From("transaction"), row.try_get(0)?)?;
    if bound < sealed { Err(Error::BehindSeals { now: bound, sealed }) } else { Ok(bound) }
}

/// Transactions that can be sealed, at most as many as make one seal; none when they wrote nothing.
async fn open(tx: &Transaction<'_>, from: u64) -> Result<Option<Open>, Error> {
    let bound = bound(tx, from).await?;
    // Past so many rows of one table the seal is full: a long backlog is not counted again for every seal.
    let most = ROWS_PER_SEAL + 1;
    let all = KINDS
        .map(|(_, table, ..)| {
            format!(
                "(SELECT xid FROM {table} WHERE xid >= '{from}' AND xid < '{bound}' ORDER BY xid LIMIT {most})"
            )
        })
        .join(" UNION ALL ");
    let select = format!(
        "SELECT xid::text, count(*) AS rows FROM ({all}) AS open
         GROUP BY open.xid ORDER BY open.xid LIMIT {TRANSACTIONS_PER_SEAL}"
    );
    let transactions = tx.query(&select, &[]).await?;
    let of = From("transaction");
    let mut rows = 0;
    for (at, row) in transactions.iter().enumerate() {
        let more = of.count(row, "rows")?;
        if at > 0 && (rows + more > ROWS_PER_SEAL || at + 1 == TRANSACTIONS_PER_SEAL) {
            let end = xid(of, row.try_get("xid")?)?;
            return Ok(Some(Open { xids: from..end, is_all: false }));
        }
        rows += more;
    }
    let Some(first) = transactions.first() else { return Ok(None) };
    if rows > ROWS_PER_SEAL {
        // It alone fills a seal, and hides what comes after it.
        let end = xid(of, first.try_get("xid")?)? + 1;
        return Ok(Some(Open { xids: from..end, is_all: false }));
    }
    Ok(Some(Open { xids: from..bound, is_all: true }))
}

async fn is_another_sealer(tx: &Transaction<'_>, holder: &str) -> Result<bool, Error> {
    let select = "SELECT FROM chore WHERE name = 'seal' AND holder <> $1 AND held_until >= clock_timestamp()";
    Ok(tx.query_opt(select, &[&holder]).await?.is_some())
}

/// Takes or keeps the place of the one sealer. Until this transaction ends, nobody else can.
async fn is_sealer(tx: &Transaction<'_>, holder: &str) -> Result<bool, Error> {
    let upsert = "INSERT INTO chore AS known (name, holder, held_until)
        VALUES ('seal', $1, clock_timestamp() + $2::integer * interval '1 second')
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
        WHERE known.holder = excluded.holder OR known.held_until < clock_timestamp()";
    Ok(tx.execute(upsert, &[&holder, &LEASE_SECS]).await? == 1)
}

async fn part(
    tx: &Transaction<'_>,
    (kind, table, columns, key): (i16, &str, &str, &str),
    xids: &std::ops::Range<u64>,
) -> Result<Option<Part>, Error> {
    let copy = format!(
        "COPY (SELECT xid, {columns} FROM {table} WHERE xid >= '{}' AND xid < '{}' ORDER BY xid, {key})
         TO STDOUT (FORMAT binary)",
        xids.start, xids.end
    );
    let mut rows = Rows::new(kind);
    let mut pieces = Box::pin(tx.copy_out(&copy).await?);
    while let Some(piece) = pieces.next().await {
        rows.push(&piece?);
    }
    rows.finish().map_err(|problem| From("seal_part").wrong("rows", problem))
}
