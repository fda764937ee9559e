//! Whether the PC is free. It fails closed: what nobody can see counts as a person.

use std::time::{Duration, Instant};

use lull_proto::v1;

/// Whether a person is using the PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Somebody is.
    Active,
    /// Nobody has been for the idle delay.
    Idle,
    /// Nobody can tell: counts as [`Presence::Active`].
    Unknown,
    /// Nobody ever sits there; the owner said so.
    Dedicated,
}

impl Presence {
    /// Whether guests may run.
    #[must_use]
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Idle | Self::Dedicated)
    }

    /// As a message.
    #[must_use]
    pub const fn to_proto(self) -> v1::Presence {
        match self {
            Self::Active => v1::Presence::Active,
            Self::Idle => v1::Presence::Idle,
            Self::Unknown => v1::Presence::Unknown,
            Self::Dedicated => v1::Presence::Dedicated,
        }
    }
}

/// What a presence source saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// A key, a button, a touch or a movement, just now.
    Input,
    /// The source can be read: the last input was that long ago.
    LastInput(Duration),
    /// The source cannot be read, and why.
    Lost(String),
}

/// Turns sightings into presence.
#[derive(Debug, Clone)]
pub struct Gate {
    idle_delay: Duration,
    /// When nobody will have been there for the idle delay; `None` while the source cannot be read.
    idle_at: Option<Instant>,
}

impl Gate {
    /// A gate that has seen nothing yet.
    #[must_use]
    pub const fn new(idle_delay: Duration) -> Self {
        Self { idle_delay, idle_at: None }
    }

    /// Takes a sighting in. Of two last inputs, the later counts.
    pub fn see(&mut self, sighting: &Sighting, now: Instant) {
        let ago = match sighting {
            Sighting::Input => Duration::ZERO,
            Sighting::LastInput(ago) => *ago,
            Sighting::Lost(_) => {
                self.idle_at = None;
                return;
            }
        };
        let idle_at = now + self.idle_delay.saturating_sub(ago);
        self.idle_at = Some(self.idle_at.map_or(idle_at, |before| before.max(idle_at)));
    }

    /// Presence now.
    #[must_use]
    pub fn presence(&self, now: Instant) -> Presence {
        match self.idle_at {
            None => Presence::Unknown,
            Some(idle_at) if idle_at <= now => Presence::Idle,
            Some(_) => Presence::Active,
        }
    }

    /// When presence changes by itself, if it does.
    #[must_use]
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.idle_at.filter(|idle_at| *idle_at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_readable_source_and_a_long_silence_free_the_pc() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let ago = |secs| Sighting::LastInput(Duration::from_secs(secs));
        let mut gate = Gate::new(Duration::from_secs(60));
        assert_eq!(gate.presence(at(1000)), Presence::Unknown);
        gate.see(&ago(10), at(0));
        assert_eq!((gate.presence(at(49)), gate.wake_at(at(49))), (Presence::Active, Some(at(50))));
        assert_eq!((gate.presence(at(50)), gate.wake_at(at(50))), (Presence::Idle, None));
        gate.see(&Sighting::Input, at(70));
        assert_eq!(gate.presence(at(129)), Presence::Active);
        gate.see(&ago(500), at(100));
        assert_eq!(gate.presence(at(129)), Presence::Active, "an event counts more than a counter");
        assert_eq!(gate.presence(at(130)), Presence::Idle);
        gate.see(&Sighting::Lost("gone".to_owned()), at(131));
        assert_eq!(gate.presence(at(9999)), Presence::Unknown);
        gate.see(&ago(3600), at(140));
        assert_eq!(gate.presence(at(140)), Presence::Idle);
    }
}
