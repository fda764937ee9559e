//! What the agent is at, for its owner.

use super::Agent;

/// What the agent is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Units at a time.
    pub slots: u32,
    /// Leases that it holds, by token.
    pub leases: Vec<LeaseSnapshot>,
    /// Finished attempts that the coordinator has not heard of.
    pub unreported: usize,
    /// Whether the outbox cannot be written.
    pub is_disk_full: bool,
    /// Whether it ends once what runs is finished.
    pub is_draining: bool,
    /// Whether it is about to end.
    pub is_stopping: bool,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSnapshot {
    /// The fencing token.
    pub token: u64,
    /// Its job; 0 if it named none.
    pub job_id: u64,
    /// Units in it.
    pub units: usize,
    /// Of these: finished or handed back.
    pub done: usize,
    /// The unit that has been started and is not finished, frozen or not.
    pub running: Option<u64>,
}

impl Agent {
    /// What it is at.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let leases = self.leases.iter().map(|(token, lease)| {
            let units = lease.message.indices.len();
            let left = lease.waiting.len() + usize::from(lease.running.is_some());
            LeaseSnapshot {
                token: *token,
                job_id: lease.message.job.as_ref().map_or(0, |job| job.job_id),
                units,
                done: units.saturating_sub(left),
                running: lease.running,
            }
        });
        Snapshot {
            slots: self.slots,
            leases: leases.collect(),
            unreported: self.attempts.len(),
            is_disk_full: self.is_disk_full,
            is_draining: self.is_draining,
            is_stopping: self.is_stopping(),
        }
    }
}
