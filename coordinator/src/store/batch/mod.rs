//! The hot path: the slice of a batch of calls is loaded and locked, and what the core decided is written.
//!
//! Jobs are locked first, in the order of their numbers; jobs that only might give work are skipped when
//! another coordinator holds them. Every other row of a job is read and written under its job's lock, so
//! that two results of one unit always see each other. All statements of one step travel together.

mod checkpoints;
mod load;
mod straggle;
mod troubles;
mod trust;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::load::{load, load_attempts, load_verdicts, lock_jobs, open_units};
use self::write::{renew, write};
use super::receipts::{self, Posting};
use super::{Error, Store, run_tx};
use crate::core::{
    Changes, DeviceId, Fairness, Job, JobId, JobState, Lease, LeaseToken, Networks, OwnerId, Policy, Reply,
    Request, Slice, Trouble, decide, expire,
};

pub use self::checkpoints::Extras;
pub(super) use self::load::lease;
pub(super) use self::troubles::load as load_troubles;
pub(super) use self::trust::{load_standings, overdue_slice, review_slice, write_overdue, write_review};
pub(super) use self::write::write_transfers;

/// Leases that one run of the expiry chore takes away.
const EXPIRIES_PER_BATCH: i64 = 500;

/// A decided batch.
#[derive(Debug)]
pub struct Decided {
    /// The answers, in the order of the requests.
    pub replies: Vec<Reply>,
    /// The leases that the answers name.
    pub leases: BTreeMap<LeaseToken, Lease>,
    /// Jobs whose leases may come with checkpoints and the like.
    pub checkpointed: BTreeSet<JobId>,
    /// What became of the jobs.
    pub aftermath: Aftermath,
    /// What was paid.
    pub postings: Vec<Posting>,
}

/// What is known of the grid as a whole: it sets sizes and rates, and may be a little wrong.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Devices that called lately.
    pub grid_slots: u64,
    /// Their owners.
    pub grid_owners: u64,
    /// Owners of those among them that are referees and have time.
    pub referees_there: BTreeSet<OwnerId>,
    /// Who called from where lately.
    pub networks: Arc<Networks>,
    /// Devices that failed when they were last heard of.
    pub troubles: Arc<BTreeMap<DeviceId, Trouble>>,
    /// What the operator assumes.
    pub policy: Policy,
}

/// What a transaction means for those who wait.
#[derive(Debug, Clone, Default)]
pub struct Aftermath {
    /// Jobs that changed.
    pub changed: BTreeSet<JobId>,
    /// Jobs whose split has returned and must be counted.
    pub uncounted: BTreeSet<JobId>,
    /// Jobs whose work is done and must be looked over.
    pub unreviewed: BTreeSet<JobId>,
    /// Whether there is work that was not there before.
    pub new_work: bool,
    /// Whether something else is known of devices that failed.
    pub troubles_changed: bool,
}

/// Lease tokens not used yet; a hint that is lost with the process, never reused.
#[derive(Debug, Default)]
pub struct Tokens {
    blocks: Vec<std::ops::Range<i64>>,
}

impl Tokens {
    fn left(&self) -> usize {
        self.blocks.iter().map(|block| usize::try_from(block.end - block.start).unwrap_or(0)).sum()
    }
}

impl Iterator for Tokens {
    type Item = LeaseToken;

    fn next(&mut self) -> Option<LeaseToken> {
        while let Some(block) = self.blocks.last_mut() {
            if let Some(token) = block.next() {
                return Some(LeaseToken(token));
            }
            self.blocks.pop();
        }
        None
    }
}

impl Store {
    /// Decides a batch of calls in one transaction.
    ///
    /// # Errors
    /// When the database fails; nothing is changed then.
    pub async fn sync_batch(
        &self,
        requests: &[Request],
        fairness: &mut Fairness,
        tokens: &mut Tokens,
        lease_ttl: Duration,
        hints: &Hints,
    ) -> Result<Decided, Error> {
        run_tx!(self.batch_pool, "sync_batch", tx => {
            let started = Instant::now();
            let mut slice = load(tx, requests, tokens, hints).await?;
            let loaded = started.elapsed();
            let (replies, changes) = decide(&mut slice, fairness, tokens, requests);
            let (stamp, ()) =
                tokio::try_join!(write(tx, &slice, &changes, lease_ttl), renew(tx, requests, lease_ttl))?;
            let total = started.elapsed();
            tracing::debug!(
                calls = requests.len(),
                attempts = changes.attempts.len(),
                load_micros = loaded.as_micros(),
                total_micros = total.as_micros(),
                "decided a batch"
            );
            let named = replies.iter().flat_map(|reply| &reply.leases);
            let leases = named
                .filter_map(|token| Some((*token, slice.leases.get(token)?.clone())))
                .collect();
            // Of a job that was not looked at, with a lease that is sent again, it is not known.
            let jobs = slice.leases.values().map(|lease| lease.job);
            let checkpointed = jobs.filter(|id| slice.jobs.get(id).is_none_or(|job| job.checkpointed)).collect();
            let postings = receipts::postings(&slice, &changes, stamp);
            Ok(Decided { replies, leases, checkpointed, aftermath: aftermath(&slice, &changes), postings })
        })
    }

    /// Takes leases whose deadline has passed away from their devices.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn expire_leases(&self, lease_ttl: Duration, policy: Policy) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, "expire_leases", tx => {
            let due = "SELECT token, job_id, stage, open FROM lease WHERE NOT expired AND deadline < now() \
                       ORDER BY deadline LIMIT $1";
            let due = tx.query(&tx.prepare_cached(due).await?, &[&EXPIRIES_PER_BATCH]).await?;
            if due.is_empty() {
                return Ok(Aftermath::default());
            }
            let tokens: Vec<i64> = due.iter().map(|row| row.get("token")).collect();
            let jobs: Vec<i64> = due.iter().map(|row| row.get("job_id")).collect();
            let mut slice = Slice { jobs: lock_jobs(tx, &jobs).await?, policy, ..Slice::default() };
            // Read again under the locks: some may have been renewed or reported meanwhile.
            let again = "SELECT * FROM lease WHERE token = ANY($1) AND NOT expired AND deadline < now()";
            let leases = tx.query(&tx.prepare_cached(again).await?, &[&tokens]).await?;
            slice.leases = leases.iter().map(lease).map(|lease| lease.map(|l| (l.token, l))).collect::<Result<_, _>>()?;
            let units = open_units(slice.leases.values());
            straggle::add_besides(tx, &mut slice).await?;
            let devices: Vec<i64> = slice.leases.values().map(|lease| lease.device.0).collect();
            slice.troubles = Arc::new(load_troubles(tx, Some(&devices)).await?);
            (slice.attempts, slice.verdicts) = tokio::try_join!(
                load_attempts(tx, &slice.jobs, &units),
                load_verdicts(tx, &slice.jobs, &units)
            )?;
            checkpoints::add_lineages_of(tx, &slice.jobs, &mut slice.attempts).await?;
            trust::complete(tx, &mut slice, &[]).await?;
            let tokens: Vec<LeaseToken> = leases.iter().map(|row| LeaseToken(row.get("token"))).collect();
            let changes = expire(&mut slice, &tokens);
            write(tx, &slice, &changes, lease_ttl).await?;
            tracing::info!(leases = tokens.len(), units = units.len(), "leases expired");
            Ok(aftermath(&slice, &changes))
        })
    }

    /// Changes one job under its lock.
    ///
    /// # Errors
    /// When there is no such job, or the database fails.
    pub(super) async fn change_job(
        &self,
        name: &'static str,
        id: JobId,
        mut change: impl FnMut(&mut Job) -> Changes,
    ) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, name, tx => {
            let mut slice = Slice { jobs: lock_jobs(tx, &[id.0]).await?, ..Slice::default() };
            let job = slice.jobs.get_mut(&id).ok_or(Error::NotFound("job"))?;
            let changes = change(job);
            write(tx, &slice, &changes, Duration::ZERO).await?;
            Ok(aftermath(&slice, &changes))
        })
    }
}

fn aftermath(slice: &Slice, changes: &Changes) -> Aftermath {
    let changed = changes.jobs_changed.iter().filter_map(|id| slice.jobs.get(id));
    let is_uncounted = |job: &&Job| job.state == JobState::Running && job.stage_units == 0;
    Aftermath {
        unreviewed: changed.clone().filter(|job| job.awaits_review()).map(|job| job.id).collect(),
        uncounted: changed.clone().filter(is_uncounted).map(|job| job.id).collect(),
        new_work: !changes.wanted_added.is_empty()
            || changed.clone().any(|job| job.state == JobState::Running && job.frontier == 0),
        troubles_changed: !changes.troubles.is_empty(),
        changed: changes.jobs_changed.clone(),
    }
}
