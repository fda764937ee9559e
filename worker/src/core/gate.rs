//! Whether guests may run, why not, and when to look again. It fails closed: what nobody can see counts as a person.

use std::time::{Duration, Instant};

use lull_proto::v1;

use super::rest::Rest;

/// A source that has said nothing for so long is not believed any more.
pub const STALE_AFTER: Duration = Duration::from_secs(30);
/// How often a source is asked while guests run.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a source is asked while nothing runs anyway.
pub const LOOK_EVERY_AT_REST: Duration = Duration::from_secs(15);

/// A difference between the clocks that is no sleep of the machine: they are not read in one instant.
const SLEEP_MIN: Duration = Duration::from_millis(500);

/// Whether a person is using the PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Somebody is, or something else asks for rest.
    Active,
    /// Nobody has been for the idle delay, and nothing else asks for rest.
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

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
            Self::Dedicated => "dedicated",
        }
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

/// What a source saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// A key, a button, a touch or a movement, just now.
    Input,
    /// The last input was that long ago.
    LastInput(Duration),
    /// In use until the source says otherwise; since when, it cannot tell.
    InUse,
    /// Reasons to rest that have nothing to do with input; none means go.
    Rests(Vec<Rest>),
    /// This machine has no such thing, and needs none.
    Absent(String),
    /// The source cannot be read, and why.
    Lost(String),
}

/// What a source is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It sees all input of somebody who sits there. One of these has to be readable.
    Display,
    /// It sees some input: enough to know that somebody is there, never that nobody is.
    Hint,
    /// It knows other reasons to rest.
    Condition,
}

/// Whether somebody may be there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum People {
    /// Yes: presence is watched.
    Watched,
    /// The owner says that nobody ever sits there.
    Nobody,
}

/// What a source has said, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    /// The last thing it said; `None` before it has said anything.
    pub last: Option<&'a Sighting>,
    /// Whether that is too long ago to be believed.
    pub is_stale: bool,
}

/// What follows from all that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Presence now.
    pub presence: Presence,
    /// Why no guest runs; empty means that they may.
    pub rests: Vec<Rest>,
    /// When the judgement may change with nothing new seen.
    pub look_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Slot {
    name: &'static str,
    kind: Kind,
    said: Option<(Sighting, Instant)>,
    /// When nobody will have been there for the idle delay. An event counts more than a counter: the latest of all.
    idle_at: Option<Instant>,
    /// The machine has slept since it said anything.
    has_slept: bool,
}

impl Slot {
    fn is_stale(&self, now: Instant) -> bool {
        self.said.as_ref().is_some_and(|(_, at)| *at + STALE_AFTER <= now)
    }

    /// Whether it says, and lately, that nothing speaks against guests. That nobody has been there for the
    /// idle delay has to be confirmed after that time: a source that hangs must not look like an empty room.
    fn is_open(&self, now: Instant) -> bool {
        match &self.said {
            Some(_) if self.has_slept => false,
            Some((Sighting::LastInput(_), at)) => {
                !self.is_stale(now) && self.idle_at.is_some_and(|idle_at| idle_at <= *at)
            }
            Some((Sighting::Rests(rests), _)) => !self.is_stale(now) && rests.is_empty(),
            Some((Sighting::Absent(_), _)) => self.kind != Kind::Display && !self.is_stale(now),
            // A hint is never needed, and its loss hides nothing that a display would not show.
            Some((Sighting::Lost(_), _)) => self.kind == Kind::Hint,
            Some((Sighting::Input | Sighting::InUse, _)) => false,
            None => self.kind == Kind::Hint,
        }
    }

    /// Why it is not open.
    fn rests(&self, now: Instant) -> Vec<Rest> {
        let unknown = |reason: String| vec![Rest::Unknown { reason }];
        let Some((sighting, _)) = &self.said else {
            return unknown(format!("{} has not answered yet", self.name));
        };
        match sighting {
            _ if self.has_slept => vec![Rest::Woken],
            Sighting::Lost(reason) | Sighting::Absent(reason) => unknown(reason.clone()),
            _ if self.is_stale(now) => {
                unknown(format!("{} has not answered for {} s", self.name, STALE_AFTER.as_secs()))
            }
            Sighting::Rests(rests) => rests.clone(),
            Sighting::Input | Sighting::LastInput(_) | Sighting::InUse => vec![Rest::Person],
        }
    }
}

/// All that sources said, and what follows.
#[derive(Debug, Clone)]
pub struct Gate {
    idle_delay: Duration,
    people: People,
    slots: Vec<Slot>,
    paused_until: Option<Instant>,
    /// For how long the machine has slept since it was started, when that was looked at last.
    slept: Option<Duration>,
    /// Why it stays closed for good.
    broken: Option<String>,
}

impl Gate {
    /// A gate that has seen nothing yet.
    #[must_use]
    pub const fn new(idle_delay: Duration, people: People) -> Self {
        Self { idle_delay, people, slots: Vec::new(), paused_until: None, slept: None, broken: None }
    }

    /// Whether somebody may be there at all.
    #[must_use]
    pub const fn people(&self) -> People {
        self.people
    }

    /// A place for what one more source says; its number.
    pub fn add(&mut self, name: &'static str, kind: Kind) -> usize {
        self.slots.push(Slot { name, kind, said: None, idle_at: None, has_slept: false });
        self.slots.len() - 1
    }

    /// The source with that number goes by another name now, as one does that is read in one of several ways.
    pub fn rename(&mut self, source: usize, name: &'static str) {
        if let Some(slot) = self.slots.get_mut(source) {
            slot.name = name;
        }
    }

    /// Takes a sighting of the source with that number in. Whether it is news: one input after another is none.
    pub fn see(&mut self, source: usize, sighting: Sighting, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(source) else { return false };
        let is_news = sighting != Sighting::Input || !matches!(slot.said, Some((Sighting::Input, _)));
        let ago = match sighting {
            Sighting::Input => Some(Duration::ZERO),
            Sighting::LastInput(ago) => Some(ago),
            _ => None,
        };
        if let Some(ago) = ago {
            let idle_at = now + self.idle_delay.saturating_sub(ago);
            slot.idle_at = Some(slot.idle_at.map_or(idle_at, |before| before.max(idle_at)));
        }
        if matches!(sighting, Sighting::Lost(_)) {
            slot.idle_at = None;
        }
        slot.said = Some((sighting, now));
        is_news | std::mem::take(&mut slot.has_slept)
    }

    /// Takes in for how long the machine has slept since it was started. Instants stand still meanwhile, so what was
    /// said before would look fresh: after a sleep it counts no more, and somebody woke the machine, as if by a key.
    /// Whether it has slept since this was called last.
    pub fn note_sleep(&mut self, slept: Duration, now: Instant) -> bool {
        let before = self.slept.replace(slept);
        let has_slept = before.is_some_and(|before| slept.saturating_sub(before) >= SLEEP_MIN);
        if has_slept {
            let idle_at = now + self.idle_delay;
            for slot in &mut self.slots {
                slot.has_slept = slot.said.is_some();
                if slot.kind == Kind::Display {
                    slot.idle_at = slot.idle_at.max(Some(idle_at));
                }
            }
        }
        has_slept
    }

    /// No guest runs before then.
    pub const fn pause(&mut self, until: Instant) {
        self.paused_until = Some(until);
    }

    /// Ends a pause.
    pub const fn resume(&mut self) {
        self.paused_until = None;
    }

    /// Nobody judges any more: closed for good.
    pub fn break_down(&mut self, reason: &str) {
        self.broken = Some(reason.to_owned());
    }

    /// Whether guests may run. The same as [`Gate::judge`] without reasons, and without allocating.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.broken.is_none()
            && self.paused_until.is_none_or(|until| until <= now)
            && self.slots.iter().all(|slot| slot.is_open(now))
            && (self.people == People::Nobody || self.slots.iter().any(|slot| slot.kind == Kind::Display))
    }

    /// Whether guests may run, why not, and when to look again.
    #[must_use]
    pub fn judge(&self, now: Instant) -> Judgement {
        let mut rests = Vec::new();
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            rests.push(Rest::Paused { until });
        }
        if let Some(reason) = &self.broken {
            rests.push(Rest::Unknown { reason: reason.clone() });
        }
        if self.people == People::Watched && !self.slots.iter().any(|slot| slot.kind == Kind::Display) {
            rests.push(Rest::Unknown { reason: "no display to watch".to_owned() });
        }
        for slot in self.slots.iter().filter(|slot| !slot.is_open(now)) {
            for rest in slot.rests(now) {
                if !rests.contains(&rest) {
                    rests.push(rest);
                }
            }
        }
        let presence = if rests.is_empty() {
            if self.people == People::Nobody { Presence::Dedicated } else { Presence::Idle }
        } else if rests.iter().any(|rest| matches!(rest, Rest::Unknown { .. })) {
            Presence::Unknown
        } else {
            Presence::Active
        };
        let stale_at =
            self.slots.iter().filter_map(|slot| slot.said.as_ref().map(|(_, at)| *at + STALE_AFTER));
        let look_at = stale_at.chain(self.paused_until).filter(|at| *at > now).min();
        Judgement { presence, rests, look_at }
    }

    /// When that source should look again at the latest; `None`: at once, as it has said nothing yet.
    #[must_use]
    pub fn look_at(&self, source: usize, now: Instant) -> Option<Instant> {
        let slot = self.slots.get(source)?;
        let (sighting, at) = slot.said.as_ref()?;
        if slot.has_slept {
            return Some(now);
        }
        if matches!(sighting, Sighting::Lost(_)) {
            return Some(*at + LOOK_EVERY);
        }
        let every = if self.is_open(now) { LOOK_EVERY } else { LOOK_EVERY_AT_REST };
        // From its first silence on somebody may be away: this is when to ask.
        let quiet_at = slot.idle_at.filter(|idle_at| idle_at > at);
        Some(quiet_at.map_or(*at + every, |quiet_at| quiet_at.min(*at + every)))
    }

    /// What each source said, with its name, in the order in which they were added.
    pub fn sources(&self, now: Instant) -> impl Iterator<Item = (&'static str, Said<'_>)> {
        self.slots.iter().map(move |slot| {
            let said = Said { last: slot.said.as_ref().map(|(last, _)| last), is_stale: slot.is_stale(now) };
            (slot.name, said)
        })
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
