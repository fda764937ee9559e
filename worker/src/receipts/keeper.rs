//! Asks for receipts with the agent's calls, and keeps what comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use lull_proto::v1;

use super::Store;

/// Receipts are asked for this often: one signature then covers what was paid meanwhile.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A disk that is busy with the last ones is given this time.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Asks for receipts, and keeps them.
#[derive(Debug, Clone)]
pub struct Keeper {
    store: Arc<Mutex<Store>>,
    asked_at: Arc<Mutex<Option<Instant>>>,
}

impl Keeper {
    /// Keeps them there.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store: Arc::new(Mutex::new(store)), asked_at: Arc::default() }
    }

    /// What a call says of receipts; `None` when it is too early to ask again, or the disk is busy with the last.
    #[must_use]
    pub fn wanted(&self, now: Instant) -> Option<v1::HeldReceipts> {
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_at.is_some_and(|before| now < before + ASK_EVERY) {
            return None;
        }
        let held = self.store.try_lock().ok()?.held()?;
        *asked_at = Some(now);
        Some(held)
    }

    /// When a call may ask again.
    #[must_use]
    pub fn asks_in(&self, now: Instant) -> Duration {
        let asked_at = *self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = asked_at.map_or(now, |before| before + ASK_EVERY);
        next.saturating_duration_since(now).max(BUSY_FOR)
    }

    /// Keeps a sheet, on a thread of its own.
    pub fn keep(&self, sheet: v1::Receipts) {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            match store.lock().unwrap_or_else(PoisonError::into_inner).keep(&sheet, Utc::now()) {
                Ok(0) => {}
                Ok(receipts) => tracing::debug!(receipts, "kept"),
                Err(error) => tracing::error!(%error, "receipts were not kept; they are asked for again"),
            }
        });
    }
}
