//! Every runner of this agent, to be frozen at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lull_sandbox::Freezer;

/// Every runner of this agent. Frozen until somebody says that the PC is free.
#[derive(Debug, Clone)]
pub struct Freezers(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    is_frozen: bool,
    by_lease: BTreeMap<u64, Freezer>,
}

impl Freezers {
    /// None yet, and frozen.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { is_frozen: true, by_lease: BTreeMap::new() })))
    }

    /// A freezer for the runner of a lease, frozen if all are.
    #[must_use]
    pub fn add(&self, token: u64) -> Freezer {
        let freezer = Freezer::new();
        let mut state = self.lock();
        if state.is_frozen {
            freezer.freeze();
        }
        state.by_lease.insert(token, freezer.clone());
        freezer
    }

    /// Ends the runner of a lease for good.
    pub fn kill(&self, token: u64) {
        let removed = self.lock().by_lease.remove(&token);
        if let Some(freezer) = removed {
            freezer.kill();
        }
    }

    /// Stops every runner.
    pub fn freeze_all(&self) {
        let mut state = self.lock();
        state.is_frozen = true;
        state.by_lease.values().for_each(Freezer::freeze);
    }

    /// Continues every runner.
    pub fn thaw_all(&self) {
        let mut state = self.lock();
        state.is_frozen = false;
        state.by_lease.values().for_each(Freezer::thaw);
    }

    /// Ends every runner that is frozen, and thaws none for it: their memory goes back. Their units go on from
    /// their last checkpoints, in new runners, once they are thawed.
    pub fn evict_all(&self) {
        self.lock().by_lease.values().for_each(Freezer::evict);
    }

    /// Whether a runner runs, and is not frozen.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let state = self.lock();
        !state.is_frozen && state.by_lease.values().any(|freezer| freezer.runner_pid().is_some())
    }

    /// Process numbers of the runners that run or are frozen.
    #[must_use]
    pub fn runner_pids(&self) -> Vec<u32> {
        self.lock().by_lease.values().filter_map(Freezer::runner_pid).collect()
    }

    /// Ends every runner for good.
    pub fn kill_all(&self) {
        let all = std::mem::take(&mut self.lock().by_lease);
        all.values().for_each(Freezer::kill);
    }

    /// A thread that panicked while it held the lock left nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Freezers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_comes_late_is_frozen_too() {
        let freezers = Freezers::new();
        let early = freezers.add(1);
        assert!(early.is_frozen());
        freezers.thaw_all();
        assert!(!early.is_frozen());
        freezers.freeze_all();
        let late = freezers.add(2);
        assert!(early.is_frozen() && late.is_frozen());
        freezers.kill(1);
        assert!(early.is_killed() && !late.is_killed());
        freezers.kill_all();
        assert!(late.is_killed());
    }
}
