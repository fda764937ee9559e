//! Why guests do not run, in words.

use std::fmt;
use std::time::{Duration, Instant};

/// A reason to rest. While there is one, no guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Somebody used the PC within the idle delay.
    Person,
    /// Nobody can tell whether somebody does.
    Unknown {
        /// What cannot be read, and why.
        reason: String,
    },
    /// The PC has just woken up, and nothing has been seen since.
    Woken,
    /// A program asks that the PC is not taken for idle: a film, a call.
    Inhibited {
        /// Who asks.
        by: String,
    },
    /// Somebody is logged in from elsewhere, and busy.
    RemoteSession {
        /// Their user name.
        user: String,
    },
    /// Another user's session is busy.
    OtherSession {
        /// Their user name.
        user: String,
    },
    /// The PC runs on its battery.
    OnBattery,
    /// Other programs want the processor.
    CpuWanted {
        /// What they took lately, in percent of all cores.
        percent: u32,
    },
    /// Little memory is left.
    MemoryShort {
        /// What is available, in bytes.
        available_bytes: u64,
    },
    /// Memory ran short whenever work went on.
    MemoryWasShort {
        /// It is tried again then.
        until: Instant,
    },
    /// The schedule says so.
    OutsideSchedule {
        /// The schedule, as it was written.
        schedule: String,
    },
    /// Paused by hand.
    Paused {
        /// Until then.
        until: Instant,
    },
}

impl Rest {
    /// What it is, and what to do about it, as a sentence for the owner.
    #[must_use]
    pub fn sentence(&self, now: Instant) -> String {
        match self {
            Self::Person => {
                "somebody uses this PC; work goes on when nobody has for the idle delay".to_owned()
            }
            Self::Unknown { reason } => format!(
                "it cannot be told whether somebody uses this PC ({reason}), so it counts as in use; start the agent in a graphical session, or with --dedicated if nobody sits here"
            ),
            Self::Woken => {
                "this PC has just woken up; work goes on when it is seen that nobody uses it".to_owned()
            }
            Self::Inhibited { by } => {
                format!(
                    "{by} asks that this PC is not taken for idle, as films and calls do; work goes on when it ends"
                )
            }
            Self::RemoteSession { user } => {
                format!(
                    "{user} is logged in from elsewhere and busy; work goes on when that session is idle or closed"
                )
            }
            Self::OtherSession { user } => {
                format!("a session of {user} is busy; work goes on when it is idle or closed")
            }
            Self::OnBattery => "this PC runs on its battery; plug it in".to_owned(),
            Self::CpuWanted { percent } => {
                format!("other programs use {percent} % of the processor; work goes on when they calm down")
            }
            Self::MemoryShort { available_bytes } => format!(
                "only {} MiB of memory are available; close a program, or allow less memory to be left",
                available_bytes / (1024 * 1024)
            ),
            Self::MemoryWasShort { until } => {
                let left = until.saturating_duration_since(now);
                format!(
                    "memory has run short each time that work went on; it is tried again in {}; fewer slots need less",
                    Rough(left)
                )
            }
            Self::OutsideSchedule { schedule } => {
                format!("the schedule ({schedule}) allows no work at this time")
            }
            Self::Paused { until } => {
                let left = until.saturating_duration_since(now);
                format!("paused by hand for {} more; resume to go on now", Rough(left))
            }
        }
    }
}

/// A duration as people say it, rounded up.
pub(crate) struct Rough(pub(crate) Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        match secs {
            0..=90 => write!(f, "{secs} s"),
            91..=5400 => write!(f, "{} min", secs.div_ceil(60)),
            5401..=172_800 => write!(f, "{} h {} min", secs.div_ceil(60) / 60, secs.div_ceil(60) % 60),
            _ => write!(f, "{} days", secs.div_ceil(86_400)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_how_long_it_lasts() {
        let now = Instant::now();
        let check = |secs, wanted: &str| {
            let sentence = Rest::Paused { until: now + Duration::from_secs(secs) }.sentence(now);
            assert!(sentence.contains(wanted), "{sentence}");
        };
        check(90, "for 90 s more");
        check(91, "for 2 min more");
        check(7140, "for 1 h 59 min more");
        check(172_800, "for 48 h 0 min more");
        check(172_801, "for 3 days more");
    }

    #[test]
    fn what_is_unknown_is_said_with_its_remedy() {
        let sentence = Rest::Unknown { reason: "display :7: gone".to_owned() }.sentence(Instant::now());
        assert!(sentence.contains("display :7: gone") && sentence.contains("--dedicated"), "{sentence}");
    }
}
