//! The thinking: which units go to whom, which results are accepted, who is paid.
//!
//! Plain synchronous Rust over a [`Slice`] of the database: what is decided comes out as [`Changes`].
//! There is no SQL, clock, socket or randomness in here; the store loads the slice under locks and writes
//! the changes in the same transaction. Guest code is never run, here or anywhere in the coordinator.

mod allocate;
mod batch;
mod checkpoint;
mod fairness;
mod ids;
mod job;
mod judge;
mod network;
mod overdue;
mod review;
mod slice;
mod straggle;
#[cfg(test)]
mod tests;
mod trouble;
mod trust;
mod verdict;

pub use allocate::{lease_units, repeats_max};
pub use batch::{HandBack, Reply, Report, Request, Want, decide, expire};
pub use checkpoint::{Blame, Checkpoint, Fault, Made, Offer, state_bytes_max, steps_to_witness};
pub use fairness::Fairness;
pub use ids::{DeviceId, JobId, LeaseToken, OwnerId, SubmitterId, UnitKey};
pub use job::{
    Answer, Job, JobState, Prices, Totals, expected_cost, stage_number, stage_of_number, tolerance,
};
pub use judge::{Judgement, Rule, judge};
pub use lull_job::Share;
pub use network::{Network, Networks};
pub use overdue::check_overdue;
pub use review::{Census, review};
pub use slice::{Attempt, Changes, Earned, Lease, Outcome, Recorded, RunMode, Slice, Verdict, Wanted};
pub use straggle::{Onlookers, Patience, Urgency, straggle};
pub use trouble::{Failure, Trouble, TroubleChange};
pub use trust::{
    CENSUS_RESULTS, Catch, Coin, Copies, Held, Policy, SERVICE_OWNERS_MIN, Stake, Standing, StandingChange,
    lead, service_owners,
};
