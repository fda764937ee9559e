//! Devices that keep failing: a PC that is broken gets less, whatever is known of its owner, until it succeeds again.

use std::collections::BTreeMap;

use super::ids::DeviceId;
use super::slice::{Attempt, Changes, Outcome};

/// Failures in a row after which a device gets one unit at a time.
const FAILS_UNTIL_WATCHED: u32 = 2;
/// Failures in a row after which it gets nothing for a while.
const FAILS_UNTIL_REST: u32 = 4;
/// Failures within so many seconds are one: what ails a PC for a moment spoils all units that it has.
const ONE_FAILURE_SECS: u64 = 60;
/// How long the first time; twice as long with each failure more.
const REST_SECS: u64 = 60;
/// The longest rest is 2^6 minutes: a unit an hour is no loss.
const REST_DOUBLINGS_MAX: u32 = 6;

/// How a device failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It ran into a limit where others had a result.
    Limit,
    /// It returned another result than was accepted.
    Wrong,
    /// It let a lease expire.
    Expired,
}

/// What is known of a device that failed when it was last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// Failures since it last succeeded.
    pub fails: u32,
    /// The last of them.
    pub last: Failure,
    /// Seconds since then.
    pub secs_since: u64,
}

impl Trouble {
    /// Whether it gets one unit at a time.
    #[must_use]
    pub const fn is_watched(self) -> bool {
        self.fails >= FAILS_UNTIL_WATCHED
    }

    /// For how many seconds yet it gets nothing.
    #[must_use]
    pub const fn rest_secs(self) -> u64 {
        if self.fails < FAILS_UNTIL_REST {
            return 0;
        }
        let more = self.fails - FAILS_UNTIL_REST;
        let doublings = if more < REST_DOUBLINGS_MAX { more } else { REST_DOUBLINGS_MAX };
        (REST_SECS << doublings).saturating_sub(self.secs_since)
    }
}

/// What else is known of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleChange {
    /// It failed once more.
    Failed(Failure),
    /// It succeeded.
    Recovered,
}

impl Changes {
    pub(super) fn fail(&mut self, known: &BTreeMap<DeviceId, Trouble>, device: DeviceId, failure: Failure) {
        if known.get(&device).is_none_or(|trouble| trouble.secs_since >= ONE_FAILURE_SECS) {
            self.troubles.insert(device, TroubleChange::Failed(failure));
        }
    }

    /// A device succeeded: nothing is written of one that was not in trouble.
    pub(super) fn recover_known(&mut self, known: &BTreeMap<DeviceId, Trouble>, device: DeviceId) {
        if known.contains_key(&device) || self.troubles.contains_key(&device) {
            self.troubles.insert(device, TroubleChange::Recovered);
        }
    }
}

/// How an attempt failed that a verdict with a result does not rest on.
pub(super) const fn failure_of(attempt: &Attempt) -> Failure {
    match attempt.outcome {
        Outcome::Limit => Failure::Limit,
        Outcome::Result | Outcome::GuestFailed | Outcome::Undecidable => Failure::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_failures_the_longer_the_rest() {
        let after = |fails, secs_since| Trouble { fails, last: Failure::Limit, secs_since };
        assert!(!after(1, 0).is_watched() && after(2, 0).is_watched());
        assert_eq!([3, 4, 5, 6].map(|fails| after(fails, 0).rest_secs()), [0, 60, 120, 240]);
        assert_eq!(after(5, 100).rest_secs(), 20);
        assert_eq!(after(1_000, 0).rest_secs(), 64 * 60);
    }
}
