//! A lease that the device holds: each of its units is waiting, running or finished here, or no more its.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lull_proto::v1;

/// Time to live of a lease that names none.
const TIME_TO_LIVE_DEFAULT: Duration = Duration::from_secs(60);

/// A lease that the device holds.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) message: Arc<v1::Lease>,
    pub(super) time_to_live: Duration,
    /// Not started, in order.
    pub(super) waiting: VecDeque<u64>,
    /// The one that is running, frozen or not.
    pub(super) running: Option<u64>,
    /// Finished, and not yet recorded by the coordinator.
    pub(super) unrecorded: BTreeSet<u64>,
    /// Whether it has a runner.
    pub(super) is_started: bool,
}

impl Lease {
    /// Takes a lease; units that `is_finished` here already are not run again.
    pub(super) fn new(message: v1::Lease, is_finished: impl Fn(u64) -> bool) -> Self {
        let mut seen = BTreeSet::new();
        let (finished, waiting): (Vec<u64>, Vec<u64>) = message
            .indices
            .iter()
            .copied()
            .filter(|index| seen.insert(*index))
            .partition(|index| is_finished(*index));
        let time_to_live = message
            .time_to_live
            .and_then(|time| Duration::try_from(time).ok())
            .filter(|time| !time.is_zero())
            .unwrap_or(TIME_TO_LIVE_DEFAULT);
        Self {
            message: Arc::new(message),
            time_to_live,
            waiting: waiting.into(),
            running: None,
            unrecorded: finished.into_iter().collect(),
            is_started: false,
        }
    }

    /// Whether there is something to run, so that it takes a slot.
    pub(super) fn has_work(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// Whether nothing of it is left here.
    pub(super) fn is_over(&self) -> bool {
        !self.has_work() && self.unrecorded.is_empty()
    }
}
