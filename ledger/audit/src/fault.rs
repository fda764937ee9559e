//! What an audit finds.

use serde::Serialize;

/// A row that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// Which check found it.
    pub(crate) check: &'static str,
    /// The row: its table and key.
    pub(crate) row: String,
    /// What is wrong with it.
    pub(crate) problem: String,
}

/// Why a check ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It found a broken row.
    Broken(Fault),
    /// It could not go on.
    Failed(anyhow::Error),
}

/// What a check returns.
pub(crate) type Check<T> = Result<T, Stop>;

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Ends a check with a broken row.
pub(crate) fn broken<T>(check: &'static str, row: impl ToString, problem: impl ToString) -> Check<T> {
    Err(Stop::Broken(Fault { check, row: row.to_string(), problem: problem.to_string() }))
}
