//! How long to wait after a failure.

use std::time::Duration;

/// Wait after the first failure: a coordinator that restarts is back within seconds.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: a coordinator that comes back sees all of its agents within a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// Doubling waits with jitter, so that a thousand agents do not come back in one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether the last try was a failure.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// After a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// After a failure: the wait, between half of and the whole of what doubling gives.
    pub fn next(&mut self, random: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half_millis = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        let jitter_millis = half_millis * u64::from(random) / u64::from(u32::MAX);
        Duration::from_millis(half_millis + jitter_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(longest, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff.next(0).as_millis(), 30_000);
        backoff.reset();
        assert_eq!(backoff.next(0).as_millis(), 250);
    }
}
