//! Input on Windows and macOS: the time since the last, which the system keeps.
//!
//! It is asked for often, because the system tells nobody of input without code of ours in the way of it (a hook, an event
//! tap), which would slow the owner's keyboard down, and which macOS allows to nobody who may not read all that is typed.
//! On Windows it is the input of the agent's own session, on macOS that of all keyboards and pointing devices.

use std::thread;
use std::time::{Duration, Instant};

use user_idle::UserIdle;

use super::Source;
use crate::core::{Kind, Sighting};

/// Windows: a call takes about a microsecond, and the system's clock moves every 16 ms.
#[cfg(not(target_os = "macos"))]
const LOOK_EVERY: Duration = Duration::from_millis(16);
/// macOS: a call has the kernel copy a table of properties. What that costs has not been measured.
#[cfg(target_os = "macos")]
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What the system's clock and this one may differ by between two looks.
const CLOCK_SLACK: Duration = Duration::from_millis(50);

/// On Windows input that comes between the two readings of the clock looks like a time since it that runs backwards: nearly
/// the whole range of the system's 32 bits. On macOS nobody has been away for so long.
const IDLE_MAX: Duration = Duration::from_millis(u32::MAX as u64 / 2);

/// The input that this process can be told of.
#[derive(Debug, Default)]
pub struct Input {
    /// How long the last input was ago, and when that was asked.
    last: Option<(Duration, Instant)>,
}

impl Input {
    /// Nothing is known of it yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn look(&mut self) -> Result<(Duration, bool), String> {
        let before = Instant::now();
        let idle = UserIdle::get_time().map_err(|error| error.to_string())?.duration();
        Ok(take_in(&mut self.last, idle, [before, Instant::now()]))
    }
}

/// How long the last input was ago, asked between these two moments, and whether it is one that was not known of. On a
/// busy PC the two may lie far apart.
fn take_in(
    last: &mut Option<(Duration, Instant)>,
    idle: Duration,
    [before, after]: [Instant; 2],
) -> (Duration, bool) {
    let idle = if idle > IDLE_MAX { Duration::ZERO } else { idle };
    // Without input, the time since it grows with the clock.
    let is_new = last.is_some_and(|(known, at)| idle + CLOCK_SLACK < known + before.duration_since(at));
    *last = Some((idle, after));
    (idle, is_new)
}

impl Source for Input {
    fn name(&self) -> &'static str {
        if cfg!(windows) { "Windows session" } else { "macOS input" }
    }

    fn kind(&self) -> Kind {
        Kind::Display
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        loop {
            match self.look() {
                Err(error) => {
                    self.last = None;
                    return Sighting::Lost(error);
                }
                Ok((_, true)) => return Sighting::Input,
                Ok((idle, false)) => {
                    let left =
                        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
                    if left.is_zero() {
                        return Sighting::LastInput(idle);
                    }
                    thread::park_timeout(left.min(LOOK_EVERY));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_what_sets_the_time_since_it_back() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut last = None;
        let mut check = |idle: u64, now: u64, wanted: (u64, bool)| {
            let (idle, is_new) = take_in(&mut last, Duration::from_millis(idle), [at(now), at(now + 100)]);
            assert_eq!((idle, is_new), (Duration::from_millis(wanted.0), wanted.1), "at {now}");
        };
        check(5000, 0, (5000, false));
        check(5200, 200, (5200, false));
        // Asked late between the two moments, and the next early.
        check(5490, 400, (5490, false));
        check(5601, 601, (5601, false));
        check(4, 800, (4, true));
        check(0, 1000, (0, true));
        check(u64::from(u32::MAX), 1100, (0, false));
        check(900, 2000, (900, false));
        check(u64::from(u32::MAX), 2200, (0, true));
    }
}
