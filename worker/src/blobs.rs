//! Blobs that leases name: from the cache, otherwise from the coordinator, each fetched once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lull_job::Digest;
use tonic::Status;

use crate::cache::{Bytes, Cache};
use crate::presence::Meter;
use crate::remote::Remote;

/// Blobs that leases name.
#[derive(Debug)]
pub struct Blobs {
    cache: Cache,
    remote: Arc<Remote>,
    meter: Meter,
    /// Held while a blob is fetched, so that a second runner waits instead of fetching it too.
    fetching: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Blobs {
    /// Fetches from there what the cache lacks.
    #[must_use]
    pub const fn new(cache: Cache, remote: Arc<Remote>, meter: Meter) -> Self {
        Self { cache, remote, meter, fetching: Mutex::new(BTreeMap::new()) }
    }

    /// A blob of exactly `size_bytes`.
    ///
    /// # Errors
    /// What the coordinator answers when the cache lacks it; that the network costs, so that it is not asked.
    pub async fn get(&self, digest: Digest, size_bytes: u64, lease_token: u64) -> Result<Bytes, Status> {
        let gate = Arc::clone(
            self.fetching.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default(),
        );
        let turn = gate.lock().await;
        let result = match self.cache.get(digest) {
            Some(bytes) => Ok(bytes),
            None if self.meter.is_metered() => {
                Err(Status::failed_precondition("the network is metered: it is not fetched now"))
            }
            None => self
                .remote
                .read_blob(digest, size_bytes, lease_token)
                .await
                .map(|bytes| self.cache.put(digest, bytes)),
        };
        drop(turn);
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        // Two are the map's and this one's: nobody else waits.
        if Arc::strong_count(&gate) == 2 {
            fetching.remove(&digest);
        }
        result
    }
}
