//! What must happen without being asked for: leases expire or are copied, splits are counted, jobs are looked over, pay is
//! released, devices are noted, rows are sealed.
//!
//! Every chore may run in several coordinators at once: each works under the lock of the job that it changes. Sealing
//! alone is done by one, which holds a lease for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lull_job::Stage;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::blobs::Blobs;
use crate::core::JobId;
use crate::grid::{Due, Grid};
use crate::seal::SealKey;
use crate::store::{self, Store};

const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
const STRAGGLERS_INTERVAL: Duration = Duration::from_secs(1);
const NOTE_INTERVAL: Duration = Duration::from_secs(3);
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const OVERDUE_INTERVAL: Duration = Duration::from_secs(10);
const RELEASE_INTERVAL: Duration = Duration::from_secs(2);
/// What is younger than this may be unsealed.
const SEAL_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the chores, but for sealing. They end when what is returned is dropped.
pub fn start(store: Store, blobs: Blobs, grid: Grid, told: mpsc::UnboundedReceiver<Due>) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    chores.spawn(expire(store.clone(), grid.clone()));
    chores.spawn(straggle(store.clone(), grid.clone()));
    chores.spawn(note_devices(grid.clone()));
    chores.spawn(release_pay(store.clone()));
    chores.spawn(check_overdue(store.clone(), grid.clone()));
    chores.spawn(look_after_jobs(store, blobs, grid, told));
    chores
}

async fn expire(store: Store, grid: Grid) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        match store.expire_leases(grid.lease_ttl(), grid.policy()).await {
            Ok(aftermath) => grid.tell(&aftermath),
            Err(error) => tracing::warn!(%error, "cannot look for expired leases"),
        }
    }
}

/// Units of leases that take too long go out once more.
async fn straggle(store: Store, grid: Grid) {
    let mut ticks = tokio::time::interval(STRAGGLERS_INTERVAL);
    loop {
        ticks.tick().await;
        match store.straggle(&grid.onlookers(), grid.policy()).await {
            Ok(aftermath) => grid.tell(&aftermath),
            Err(error) => tracing::warn!(%error, "cannot look for leases that take too long"),
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

/// Does what jobs need besides batches: when told, and every now and then what a crash left.
async fn look_after_jobs(store: Store, blobs: Blobs, grid: Grid, mut told: mpsc::UnboundedReceiver<Due>) {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        let due = tokio::select! {
            due = told.recv() => match due {
                Some(due) => BTreeSet::from([due]),
                None => return,
            },
            _ = look.tick() => left_over(&store).await,
        };
        for due in due {
            let done = match due {
                Due::Count(id) => count_split(&store, &blobs, id).await,
                Due::Review(id) => store.review(id, grid.policy()).await.map_err(Into::into),
                Due::Settle(id) => store.settle(id).await.map_err(Into::into),
            };
            match done {
                Ok(aftermath) => grid.tell(&aftermath),
                Err(error) => tracing::warn!(?due, error = %format!("{error:#}"), "will try again"),
            }
        }
    }
}

async fn left_over(store: &Store) -> BTreeSet<Due> {
    let uncounted = store.uncounted().await.unwrap_or_default().into_iter().map(Due::Count);
    let unreviewed = store.unreviewed().await.unwrap_or_default().into_iter().map(Due::Review);
    let unsettled = store.unsettled().await.unwrap_or_default().into_iter().map(Due::Settle);
    uncounted.chain(unreviewed).chain(unsettled).collect()
}

/// What nobody checked is checked before its pay is released because it was held back for so long.
async fn check_overdue(store: Store, grid: Grid) {
    let mut ticks = tokio::time::interval(OVERDUE_INTERVAL);
    loop {
        ticks.tick().await;
        match store.check_overdue(grid.policy()).await {
            Ok(aftermath) => grid.tell(&aftermath),
            Err(error) => tracing::warn!(%error, "cannot have checked what pay is held back for"),
        }
    }
}

async fn release_pay(store: Store) {
    let mut ticks = tokio::time::interval(RELEASE_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = store.release_held().await {
            tracing::warn!(%error, "cannot release pay");
        }
        if let Err(error) = store.forgive_drops().await {
            tracing::warn!(%error, "cannot forget dropped units");
        }
    }
}

/// Seals with this key whatever can be sealed, while no other coordinator does.
pub async fn seal(store: Store, key: Arc<SealKey>, grid_id: String) {
    let holder = crate::auth::new_token("sealer");
    let mut ticks = tokio::time::interval(SEAL_INTERVAL);
    loop {
        ticks.tick().await;
        loop {
            match store.seal(&key, &grid_id, &holder).await {
                Ok(Some(sealed)) => {
                    tracing::debug!(number = sealed.number, rows = sealed.rows, "sealed");
                    if !sealed.is_behind {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot seal");
                    break;
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
