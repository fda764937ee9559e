//! The only place that speaks SQL. The store loads and locks, and writes what was decided; it decides nothing.
//!
//! Reads and writes of one decision are one transaction; a transaction that PostgreSQL could not serialise,
//! or whose connection broke before it committed, is started again from its first read.

mod batch;
mod books;
mod currencies;
mod error;
mod identity;
mod jobs;
mod migrate;
mod payouts;
mod receipts;
mod rows;
mod seal;
mod statements;
mod trust;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::NoTls;

pub use batch::{Aftermath, Decided, Extras, Hints, Tokens};
pub use books::{
    Books, DeviceEarned, DeviceEarnings, EarningsLine, OwnerBalance, OwnerEarnings, SubmitterBalance,
    fault_names,
};
pub use currencies::{CURRENCIES_MAX, GridCurrency};
pub use error::Error;
pub use identity::{BlameRow, DeviceRow, DeviceSeen, OperatorId, Subject};
pub use jobs::{JobView, NewJob, PartRow, UnitRow, Uploader};
pub use migrate::migrate;
pub use payouts::{Batch, BatchState, Payee, Payer, Payout, PayoutState, Proposal};
pub use receipts::{Lacking, Posting, PostingLine};
pub use seal::Sealed;
pub use statements::{
    BalanceLine, BalancePart, BalancePiece, Holder, LedgerUnit, PendingPart, Pieces, StatementAccount,
    StatementHead, StatementLine, StatementPart, UnitVerdict,
};

/// Tries of one transaction; conflicts are rare, as everything locks in one order.
const TRIES_MAX: u32 = 5;
/// Connections for batches: one decides while another commits elsewhere.
const BATCH_CONNECTIONS: usize = 4;
/// Connections for readings that may take long: nothing else waits for them.
const READING_CONNECTIONS: usize = 4;
/// Connections for everything else.
const CONNECTIONS: usize = 8;

/// Statements, and silences between them, of what writes: a transaction that began in a month must be over when the month is
/// final (`statements::FINAL_AFTER_SECS`). What is cut off is undone. Nothing that writes takes nearly as long; long readings
/// have a pool without these limits, as they write nothing.
const STATEMENT_SECS_MAX: u32 = 200;
const SILENCE_SECS_MAX: u32 = 60;

/// Whoever connects works as the role that may not update or delete ledger rows.
const APP_ROLE: &str = "-c role=lull_app";
const LOOK_UPS_ONLY: &str = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off \
    -c enable_mergejoin=off -c jit=off -c plan_cache_mode=force_generic_plan";

/// Access to the database, as the role that may not change the books.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
    /// For statements, lines and receipts.
    reading_pool: Pool,
    /// Hot statements are all look-ups by key. A plan made while a table was empty must not become a
    /// sequential scan of a full one, so these connections have nothing else to choose from. Bitmap scans are out too: unlike index scans they
    /// never mark the dead entries that short-lived leases leave behind, and walk them again each time.
    batch_pool: Pool,
    /// Those that were seen: they never change.
    currencies: currencies::Known,
}

impl Store {
    /// A store on this database. Connects at the first use.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn open(url: &str) -> Result<Self, Error> {
        let mut config: tokio_postgres::Config = url.parse()?;
        let [writing, reading, batch] = options();
        let mut with = |options: String, size| pool(config.options(options).clone(), size);
        Ok(Self {
            pool: with(writing, CONNECTIONS)?,
            reading_pool: with(reading, READING_CONNECTIONS)?,
            batch_pool: with(batch, BATCH_CONNECTIONS)?,
            currencies: currencies::Known::default(),
        })
    }

    /// Lets go of every connection that nobody uses, and makes none any more.
    pub fn close(&self) {
        for pool in [&self.pool, &self.reading_pool, &self.batch_pool] {
            pool.close();
        }
    }
}

/// Options of connections that write, that only read, and that are for batches.
fn options() -> [String; 3] {
    let writing = format!(
        "{APP_ROLE} -c statement_timeout={STATEMENT_SECS_MAX}s \
         -c idle_in_transaction_session_timeout={SILENCE_SECS_MAX}s"
    );
    let batch = format!("{writing} {LOOK_UPS_ONLY}");
    [writing, APP_ROLE.to_owned(), batch]
}

fn pool(config: tokio_postgres::Config, size: usize) -> Result<Pool, Error> {
    let manager =
        Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(size)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(30)))
        .create_timeout(Some(Duration::from_secs(5)))
        .build()
        .map_err(|error| Error::Config(error.to_string()))
}

/// Runs a transaction, and starts it again when the database says that this helps. The body is an
/// expression in an async block of its own: `?` and `return` leave the transaction, which is then undone.
///
/// A macro, because the future of an async closure cannot be proved `Send` yet (rust-lang/rust#110338).
macro_rules! run_tx {
    ($pool:expr, $name:expr, $tx:ident => $body:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let mut client = $pool.get().await?;
            let result = $crate::store::fallible(async {
                let transaction = client.transaction().await?;
                let $tx = &transaction;
                let value = $crate::store::fallible(async { $body }).await?;
                transaction.commit().await?;
                Ok(value)
            });
            if let Some(result) = $crate::store::settle($name, tries, result.await) {
                break result;
            }
        }
    }};
}
use run_tx;

/// Says what an async block's error is.
fn fallible<T, F: Future<Output = Result<T, Error>>>(future: F) -> F {
    future
}

/// The result of a transaction, unless it should be started again.
fn settle<T>(name: &'static str, tries: u32, result: Result<T, Error>) -> Option<Result<T, Error>> {
    match result {
        Err(error @ Error::Postgres(_)) if tries < TRIES_MAX && error.is_transient() => {
            tracing::debug!(transaction = name, tries, %error, "starting again");
            None
        }
        result => Some(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writes_is_cut_off_before_its_month_is_final() {
        assert!(i64::from(STATEMENT_SECS_MAX + SILENCE_SECS_MAX) < statements::FINAL_AFTER_SECS);
        let [writing, reading, batch] = options();
        for limit in ["-c statement_timeout=200s", "-c idle_in_transaction_session_timeout=60s"] {
            assert!(writing.contains(limit) && batch.contains(limit), "{limit}");
            assert!(!reading.contains(limit), "a large statement may take longer: it writes nothing");
        }
    }
}
