//! When the person who comes back is told what the PC earned, and what of it they have not been told yet.
//!
//! Whether somebody is there and what the books say come in; questions and notices go out. The books are asked
//! when somebody leaves and when they return, and a question that is not answered is dropped: what it would have
//! said is part of the next answer. Time is the wall clock, because all of this outlives the process.

use serde::{Deserialize, Serialize};

use super::{Books, People, Rest, Tally};

/// Whether somebody is at the PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// Somebody used it within the idle delay.
    Here,
    /// Nobody did.
    Away,
    /// It cannot be told, or nobody ever sits there.
    Untold,
}

impl Whereabouts {
    /// From the reasons for which guests rest. Power, load, schedule and pauses say nothing about people.
    #[must_use]
    pub fn of(people: People, rests: &[Rest]) -> Self {
        if people == People::Nobody {
            Self::Untold
        } else if rests.contains(&Rest::Person) {
            Self::Here
        } else if rests.iter().any(|rest| matches!(rest, Rest::Unknown { .. })) {
            Self::Untold
        } else {
            Self::Away
        }
    }
}

/// How often somebody may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Never.
    Off,
    /// Once in so many seconds at most.
    Every {
        /// Seconds from one notice to the next.
        secs: u64,
    },
}

/// What is remembered beyond the end of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// When somebody left last, in Unix seconds.
    pub left_unix_secs: Option<u64>,
    /// What had been earned then.
    pub left: Option<Tally>,
    /// Whether they have not been back since.
    pub is_away: bool,
    /// What had been earned when somebody was told last: the next notice counts from there.
    pub told: Option<Tally>,
    /// When a notice was last to be shown, in Unix seconds.
    pub shown_unix_secs: Option<u64>,
}

/// What to tell somebody who is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Paid since the last notice.
    pub earned: Tally,
    /// What the books say.
    pub books: Books,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Keep the memory: it has changed.
    Keep,
    /// Ask for the books.
    Ask,
    /// Show this, once, and say how that went.
    Show(Box<Notice>),
}

/// Follows somebody's comings and goings.
#[derive(Debug, Clone)]
pub struct Absence {
    memory: Memory,
    notify: Notify,
    books: Option<Books>,
    asked_for: AskedFor,
}

/// What the next answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskedFor {
    Nothing,
    Leaving,
    Return,
}

impl Absence {
    /// Goes on from what an earlier process remembered.
    #[must_use]
    pub const fn new(memory: Memory, notify: Notify) -> Self {
        Self { memory, notify, books: None, asked_for: AskedFor::Nothing }
    }

    /// What is to be kept.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the books said last; `None` before they have said anything to this process.
    #[must_use]
    pub const fn books(&self) -> Option<&Books> {
        self.books.as_ref()
    }

    /// Somebody is there, or nobody. Saying it again changes nothing.
    pub fn see(&mut self, whereabouts: Whereabouts, now_unix_secs: u64) -> Vec<Wish> {
        match whereabouts {
            Whereabouts::Away if !self.memory.is_away => {
                self.memory.is_away = true;
                self.memory.left_unix_secs = Some(now_unix_secs);
                // Good enough if the answer does not come.
                self.memory.left = self.books.as_ref().map(|books| books.total.clone());
                self.asked_for = AskedFor::Leaving;
                vec![Wish::Keep, Wish::Ask]
            }
            Whereabouts::Here if self.memory.is_away => {
                self.memory.is_away = false;
                self.asked_for = AskedFor::Return;
                vec![Wish::Keep, Wish::Ask]
            }
            Whereabouts::Away | Whereabouts::Here | Whereabouts::Untold => Vec::new(),
        }
    }

    /// The books were read, for whatever reason.
    pub fn read(&mut self, books: Books, now_unix_secs: u64) -> Vec<Wish> {
        let before = self.memory.clone();
        let total = books.total.clone();
        self.books = Some(books.clone());
        let asked_for = std::mem::replace(&mut self.asked_for, AskedFor::Nothing);
        if asked_for == AskedFor::Leaving
            || self.memory.left.as_ref().is_some_and(|left| total.since(left).is_none())
        {
            self.memory.left = Some(total.clone());
        }
        // The first figure ever, or the books of another device.
        let told = self.memory.told.get_or_insert_with(|| total.clone());
        let earned = total.since(told).unwrap_or_else(|| {
            self.memory.told = Some(total.clone());
            Tally::default()
        });
        let mut wishes = Vec::new();
        if asked_for == AskedFor::Return && !earned.is_nothing() {
            let notify = self.notify;
            match notify {
                Notify::Off => self.memory.told = Some(total),
                Notify::Every { secs } if self.may_show(secs, now_unix_secs) => {
                    self.memory.shown_unix_secs = Some(now_unix_secs);
                    wishes.push(Wish::Show(Box::new(Notice { earned, books })));
                }
                Notify::Every { .. } => {}
            }
        }
        if self.memory != before {
            // Before anything is shown: a crash must not show it twice.
            wishes.insert(0, Wish::Keep);
        }
        wishes
    }

    /// The books cannot be read. Nobody is told anything; the next return makes up for it.
    pub const fn unreadable(&mut self) {
        self.asked_for = AskedFor::Nothing;
    }

    /// A notice was shown: what it said is told.
    pub fn shown(&mut self, notice: &Notice) -> Vec<Wish> {
        self.memory.told = Some(notice.books.total.clone());
        vec![Wish::Keep]
    }

    /// Whether the last notice is long enough ago. Where the clock was set back, its time counts from now.
    fn may_show(&mut self, every_secs: u64, now_unix_secs: u64) -> bool {
        let Some(last) = &mut self.memory.shown_unix_secs else { return true };
        *last = now_unix_secs.min(*last);
        now_unix_secs - *last >= every_secs
    }
}

#[cfg(test)]
#[path = "absence_tests.rs"]
mod tests;
