//! Stopping and continuing a runner from another thread.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::os::Process;

/// Stops, continues and ends the runner that was started with it, from any thread.
///
/// It outlives its runner: a frozen freezer freezes the next runner before that has read a byte, and a
/// killed one lets no runner start. Signals go only to a process that has not been waited for, so never to
/// a stranger who got its number.
#[derive(Clone, Default)]
pub struct Freezer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// It was thawed or killed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    runner: Option<Process>,
    killed: bool,
    evicted: bool,
    clock: FrozenClock,
}

/// How long something has been frozen.
#[derive(Debug, Default, Clone, Copy)]
struct FrozenClock {
    since: Option<Instant>,
    before: Duration,
}

impl FrozenClock {
    fn freeze(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn thaw(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.before += now.duration_since(since);
        }
    }

    fn total(&self, now: Instant) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

impl Freezer {
    /// One that is neither frozen nor killed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the runner: it takes no CPU and loses nothing.
    pub fn freeze(&self) {
        let mut state = self.lock();
        // Windows counts how often a process was stopped: there, once.
        if !(cfg!(windows) && state.is_frozen()) {
            state.signal(Process::stop);
        }
        state.clock.freeze(Instant::now());
    }

    /// Continues the runner.
    pub fn thaw(&self) {
        let mut state = self.lock();
        state.clock.thaw(Instant::now());
        state.signal(Process::cont);
        self.0.changed.notify_all();
    }

    /// Ends the runner that is frozen now, without thawing it: its memory goes back. The next one may start.
    pub fn evict(&self) {
        let mut state = self.lock();
        if state.is_frozen() && state.runner.is_some() {
            state.evicted = true;
            state.signal(Process::kill);
        }
    }

    /// Whether the last runner was ended by [`Freezer::evict`]; asking again says no.
    #[must_use]
    pub fn take_evicted(&self) -> bool {
        std::mem::take(&mut self.lock().evicted)
    }

    /// Waits while it is frozen; killed, it waits no longer.
    pub fn wait_thawed(&self) {
        let is_frozen = |state: &mut State| state.is_frozen() && !state.killed;
        drop(self.0.changed.wait_while(self.lock(), is_frozen).unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the runner, frozen or not, for good.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.killed = true;
        state.signal(Process::kill);
        self.0.changed.notify_all();
    }

    /// Whether [`Freezer::kill`] was called.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.lock().killed
    }

    /// Process number of its runner; it may have ended since.
    #[must_use]
    pub fn runner_pid(&self) -> Option<u32> {
        self.lock().runner.map(Process::id)
    }

    /// Whether it is frozen now.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.lock().is_frozen()
    }

    /// Time spent frozen, up to now.
    pub(crate) fn frozen(&self, now: Instant) -> Duration {
        self.lock().clock.total(now)
    }

    /// Starts a process by `spawn` and takes it over; `None` if killed before.
    ///
    /// Not under the lock, so that a slow start keeps nobody waiting who freezes. A process that is not taken
    /// over yet has not been sent anything to run.
    pub(crate) fn attach<T, E>(
        &self,
        spawn: impl FnOnce() -> Result<(T, Process), E>,
    ) -> Result<Option<T>, E> {
        if self.is_killed() {
            return Ok(None);
        }
        let (child, process) = spawn()?;
        let mut state = self.lock();
        state.runner = Some(process);
        if state.killed {
            state.signal(Process::kill);
        } else if state.is_frozen() {
            state.signal(Process::stop);
        }
        Ok(Some(child))
    }

    /// The runner says on which thread its guests run.
    pub(crate) fn note_guest_thread(&self, thread: Option<u32>) {
        let mut state = self.lock();
        state.runner = state.runner.map(|process| process.with_guest_thread(thread));
    }

    /// Ends the process. From now on its number means nothing, and it may be waited for.
    pub(crate) fn detach(&self) {
        let mut state = self.lock();
        state.signal(Process::kill);
        state.runner = None;
    }

    /// A thread that panicked while it held the lock left nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn is_frozen(&self) -> bool {
        self.clock.since.is_some()
    }

    fn signal(&self, signal: fn(Process)) {
        if let Some(process) = self.runner {
            signal(process);
        }
    }
}

impl fmt::Debug for Freezer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Freezer")
            .field("runner", &state.runner)
            .field("frozen", &state.is_frozen())
            .field("killed", &state.killed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_time_is_added_up() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut clock = FrozenClock::default();
        clock.thaw(at(1));
        assert_eq!(clock.total(at(2)), Duration::ZERO);
        clock.freeze(at(2));
        clock.freeze(at(3));
        assert_eq!(clock.total(at(5)), Duration::from_secs(3));
        clock.thaw(at(6));
        assert_eq!(clock.total(at(9)), Duration::from_secs(4));
        clock.freeze(at(10));
        clock.thaw(at(11));
        assert_eq!(clock.total(at(12)), Duration::from_secs(5));
    }
}
