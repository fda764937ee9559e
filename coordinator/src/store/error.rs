//! What can go wrong between the coordinator and its database.

use tokio_postgres::error::SqlState;

/// A failed transaction, or a row that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused or vanished.
    #[error("database: {}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("database: {}", describe_pool(.0))]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The database URL or the pool is wrong.
    #[error("database configuration: {0}")]
    Config(String),
    /// A row that this program would not have written.
    #[error("{table}.{column}: {problem}: the database was changed by another program")]
    Inconsistent {
        /// Its table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A statement changed another number of rows than was decided.
    #[error("{statement} changed {actual} rows instead of {expected}")]
    AffectedRows {
        /// What was to be written.
        statement: &'static str,
        /// Rows decided.
        expected: usize,
        /// Rows changed.
        actual: u64,
    },
    /// What was asked for is not there.
    #[error("no {0} of that name")]
    NotFound(&'static str),
    /// The same request id with another request.
    #[error("request id {0} was used for another request: make a new one")]
    RequestReused(String),
    /// A currency that the grid does not have.
    #[error(
        "this grid has no currency {code}: it has {known}. An operator adds one with `lull admin currency add`"
    )]
    NoCurrency {
        /// What was asked for.
        code: String,
        /// Those that it has.
        known: String,
    },
    /// A submitter's balance is too small.
    #[error(
        "the balance of {available} {currency} does not cover {needed} {currency}{}: ask the operator to fund it, nothing is \
         converted",
        if others.is_empty() { String::new() } else { format!(", and {others} is another currency's") }
    )]
    InsufficientFunds {
        /// What both are in.
        currency: String,
        /// What there is in others.
        others: String,
        /// What there is.
        available: lull_ledger::Amount,
        /// What was needed.
        needed: lull_ledger::Amount,
    },
    /// It cannot be had in this state.
    #[error("{message}")]
    Precondition {
        /// For programs.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// A name that is taken and is given once.
    #[error("the name {0} is taken: take another one")]
    NameTaken(String),
    /// Whoever reads an answer that comes in pieces takes none.
    #[error("the answer was not read in time: ask again")]
    SlowReader,
    /// An enrolment token that does not let anybody in.
    #[error("the enrolment token is {0}: ask the operator for a new one")]
    EnrolmentToken(&'static str),
    /// Transactions are numbered from behind the last seal: what is written now would look as if it had been put
    /// into the past.
    #[error(
        "the database is at transaction {now}, but sealed up to {sealed}: it was restored from a dump. Stop PostgreSQL, \
         run `pg_resetwal --epoch={epoch}` on its data directory, and start again (see docs/LEDGER.md)",
        epoch = (sealed >> 32) + 1
    )]
    BehindSeals {
        /// Where the database is.
        now: u64,
        /// Where the last seal ends.
        sealed: u64,
    },
    /// A key that belongs to a device already.
    #[error("this device key is enrolled already, for another owner")]
    KeyTaken,
}

/// Of a connection that could not be made, what PostgreSQL said.
fn describe_pool(error: &deadpool_postgres::PoolError) -> String {
    match error {
        deadpool_postgres::PoolError::Backend(error) => describe(error),
        other => other.to_string(),
    }
}

fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

impl Error {
    /// Whether starting again can help: a conflict with another transaction, or a connection that broke.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        let Self::Postgres(error) = self else { return false };
        self.is_unavailable() || error.code().is_some_and(|code| conflicts.contains(code))
    }

    /// Whether the database cannot be reached now.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        let down = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        match self {
            Self::Pool(_) => true,
            Self::Postgres(error) => {
                let io = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
                io || error.is_closed() || error.code().is_some_and(|code| down.contains(code))
            }
            _ => false,
        }
    }
}

/// What cannot be had in this state: a reason for programs, a message for people.
pub(super) fn precondition(reason: &'static str, message: impl Into<String>) -> Error {
    Error::Precondition { reason, message: message.into() }
}

/// Fails when a statement did not change exactly the rows that were decided.
pub(super) fn ensure_affected(statement: &'static str, expected: usize, actual: u64) -> Result<(), Error> {
    if actual == expected as u64 { Ok(()) } else { Err(Error::AffectedRows { statement, expected, actual }) }
}
