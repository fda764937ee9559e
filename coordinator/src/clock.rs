//! The wall clock of this machine: only for credentials. Everything about jobs and money goes by the
//! database's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
#[must_use]
pub(crate) fn unix_secs() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
