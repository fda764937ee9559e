//! Until when a runner has to answer.

use std::time::{Duration, Instant};

use crate::Freezer;

/// While a runner is frozen its clock stands still, so that there is no deadline to wait for: look again.
const FROZEN_LOOK: Duration = Duration::from_secs(1);

/// When something must have happened, freezes not counted.
pub(crate) struct Deadline {
    start: Instant,
    frozen_before: Duration,
    pub(crate) time: Duration,
}

impl Deadline {
    /// That long after `start`.
    pub(crate) fn after(time: Duration, freezer: &Freezer, start: Instant) -> Self {
        Self { start, frozen_before: freezer.frozen(start), time }
    }

    /// Time that has passed, freezes not counted.
    pub(crate) fn ran(&self, freezer: &Freezer, now: Instant) -> Duration {
        let frozen = freezer.frozen(now).saturating_sub(self.frozen_before);
        now.duration_since(self.start).saturating_sub(frozen)
    }

    /// How long to wait before asking again; `None` once it has passed.
    pub(crate) fn left(&self, freezer: &Freezer, now: Instant) -> Option<Duration> {
        let left = self.time.saturating_sub(self.ran(freezer, now));
        if left.is_zero() {
            None
        } else if freezer.is_frozen() {
            Some(FROZEN_LOOK)
        } else {
            Some(left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_a_runner_that_is_frozen() {
        let (freezer, start) = (Freezer::new(), Instant::now());
        let later = |secs| start + Duration::from_secs(secs);
        let deadline = Deadline::after(Duration::from_secs(10), &freezer, start);
        assert_eq!(deadline.left(&freezer, later(4)), Some(Duration::from_secs(6)));
        assert_eq!(deadline.left(&freezer, later(10)), None);
        freezer.freeze();
        // It was frozen a moment after the start, and is for all the rest.
        assert_eq!(deadline.left(&freezer, later(1000)), Some(FROZEN_LOOK));
        assert!(deadline.ran(&freezer, later(1000)) < Duration::from_secs(10));
    }
}
