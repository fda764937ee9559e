//! What must happen without being asked for: leases expire, splits are counted, devices are noted.
//!
//! Every chore may run in several coordinators at once: each works under the lock of the job that it changes.

use std::time::Duration;

use lull_job::Stage;
use tokio::sync::mpsc;

use crate::blobs::Blobs;
use crate::core::JobId;
use crate::grid::Grid;
use crate::store::{self, Store};

const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
const NOTE_INTERVAL: Duration = Duration::from_secs(3);

/// Starts the chores.
pub fn start(store: Store, blobs: Blobs, grid: Grid, splits: mpsc::UnboundedReceiver<JobId>) {
    tokio::spawn(expire(store.clone(), grid.clone()));
    tokio::spawn(note_devices(grid.clone()));
    tokio::spawn(count_splits(store, blobs, grid, splits));
}

async fn expire(store: Store, grid: Grid) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        match store.expire_leases(grid.lease_ttl()).await {
            Ok(aftermath) => grid.tell(&aftermath),
            Err(error) => tracing::warn!(%error, "cannot look for expired leases"),
        }
    }
}

async fn note_devices(grid: Grid) {
    let mut ticks = tokio::time::interval(NOTE_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = grid.note_devices().await {
            tracing::warn!(%error, "cannot note which devices called");
        }
    }
}

/// Counts the items of splits that have returned: when told, and every now and then those left by a crash.
async fn count_splits(store: Store, blobs: Blobs, grid: Grid, mut splits: mpsc::UnboundedReceiver<JobId>) {
    let mut look = tokio::time::interval(Duration::from_secs(5));
    loop {
        let jobs = tokio::select! {
            id = splits.recv() => match id {
                Some(id) => vec![id],
                None => return,
            },
            _ = look.tick() => store.uncounted().await.unwrap_or_default(),
        };
        for id in jobs {
            match count_split(&store, &blobs, id).await {
                Ok(aftermath) => grid.tell(&aftermath),
                Err(error) => {
                    tracing::warn!(job = %id, error = %format!("{error:#}"), "cannot count a split")
                }
            }
        }
    }
}

async fn count_split(store: &Store, blobs: &Blobs, id: JobId) -> anyhow::Result<store::Aftermath> {
    let parts = store.parts(id, Stage::Split, 0..1).await?;
    let part = parts.into_iter().next().ok_or_else(|| anyhow::anyhow!("its split was not accepted"))?;
    let content = match part.content {
        Some(content) => content.into(),
        None => blobs.read(part.digest).await?,
    };
    let items = lull_abi::item_count(&content).map_err(|error| error.to_string()).and_then(|items| {
        let most = lull_job::limits::SPLIT_ITEMS_MAX;
        if items > most { Err(format!("{items} items, more than the {most} allowed")) } else { Ok(items) }
    });
    let view = store.job(id, None).await?;
    let spec = lull_job::Spec::check(&view.message)?;
    Ok(store.split_counted(id, items, &spec).await?)
}
