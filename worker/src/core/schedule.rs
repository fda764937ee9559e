//! When the owner lets guests run: `Mon-Fri 18:00-08:00, Sat-Sun`.
//!
//! Times are the wall clock's. Whether it is time is asked of the clock as it stands, again and again, so hours that
//! a change of the clock skips or repeats need nothing: what is never shown is never asked for.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike as _, NaiveDateTime, Timelike as _, Weekday};

const MINUTES_A_DAY: u32 = 24 * 60;
/// More entries than anybody needs, fewer than would take time.
const ENTRIES_MAX: usize = 64;

/// Times of a week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    entries: Vec<Entry>,
}

/// On these days from here; into the next day where it ends before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Bit 0 is Monday.
    days: u8,
    from_minute: u32,
    to_minute: u32,
}

/// Why a schedule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no entry at all.
    #[error("an empty schedule allows nothing; leave it out to allow all times")]
    Empty,
    /// More entries than are taken.
    #[error("a schedule has at most {ENTRIES_MAX} entries")]
    TooLong,
    /// A part of it means nothing.
    #[error(
        "`{part}` in the schedule is neither days like Mon-Fri nor times like 18:00-08:00: write `Mon-Fri 18:00-08:00, Sat-Sun`"
    )]
    Part {
        /// That part.
        part: String,
    },
    /// An entry that starts when it ends.
    #[error("`{part}` in the schedule starts when it ends; leave the times out to mean the whole day")]
    NoTime {
        /// That part.
        part: String,
    },
}

impl Schedule {
    /// Whether guests may run at that local time.
    #[must_use]
    pub fn allows(&self, local: NaiveDateTime) -> bool {
        let minute = local.hour() * 60 + local.minute();
        let today = bit(local.weekday());
        let yesterday = bit(local.weekday().pred());
        self.entries.iter().any(|entry| {
            let starts_today = entry.days & today != 0;
            if entry.from_minute < entry.to_minute {
                starts_today && (entry.from_minute..entry.to_minute).contains(&minute)
            } else {
                starts_today && minute >= entry.from_minute
                    || entry.days & yesterday != 0 && minute < entry.to_minute
            }
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(Error::Empty);
        }
        if parts.len() > ENTRIES_MAX {
            return Err(Error::TooLong);
        }
        let entries = parts.iter().map(|part| entry(part)).collect::<Result<_, _>>()?;
        Ok(Self { text: parts.join(", "), entries })
    }
}

fn entry(part: &str) -> Result<Entry, Error> {
    let unclear = || Error::Part { part: part.to_owned() };
    let (days, times) = match part.split_once(char::is_whitespace) {
        Some((days, times)) => (Some(days), Some(times.trim())),
        None if part.contains(':') => (None, Some(part)),
        None => (Some(part), None),
    };
    let days = days.map_or(Some(0b111_1111), days_of).ok_or_else(unclear)?;
    let (from_minute, to_minute) = match times {
        None => (0, MINUTES_A_DAY),
        Some(times) => {
            let (from, to) = times.split_once('-').ok_or_else(unclear)?;
            let from = minute_of(from).filter(|from| *from < MINUTES_A_DAY).ok_or_else(unclear)?;
            (from, minute_of(to).ok_or_else(unclear)?)
        }
    };
    if from_minute == to_minute {
        return Err(Error::NoTime { part: part.to_owned() });
    }
    Ok(Entry { days, from_minute, to_minute })
}

/// `Mon`, or `Fri-Mon`; ranges go round the week.
fn days_of(text: &str) -> Option<u8> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let last: Weekday = last.trim().parse().ok()?;
    let mut day: Weekday = first.trim().parse().ok()?;
    let mut days = bit(day);
    while day != last {
        day = day.succ();
        days |= bit(day);
    }
    Some(days)
}

fn minute_of(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let is_short =
        |digits: &str| (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_short(hour) || minute.len() != 2 || !is_short(minute) {
        return None;
    }
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= MINUTES_A_DAY).then_some(total)
}

const fn bit(day: Weekday) -> u8 {
    1 << day.num_days_from_monday()
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, TimeDelta};

    use super::*;

    /// 2024-01-01 was a Monday.
    fn at(day: u32, hour: u32, minute: u32) -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2024, 1, day).unwrap().and_hms_opt(hour, minute, 59).unwrap()
    }

    #[test]
    fn nights_and_weekends() {
        let schedule: Schedule = "Mon-Fri 18:00-08:00, Sat-Sun".parse().unwrap();
        let check = |day, hour, minute, wanted| {
            assert_eq!(schedule.allows(at(day, hour, minute)), wanted, "day {day} {hour}:{minute}");
        };
        check(1, 7, 59, false); // Sunday ends at midnight
        check(2, 7, 59, true);
        check(2, 8, 0, false);
        check(2, 17, 59, false);
        check(2, 18, 0, true);
        check(2, 23, 59, true);
        check(3, 0, 0, true);
        check(6, 12, 0, true);
        check(7, 23, 59, true);
        check(5, 12, 0, false);
    }

    #[test]
    fn days_wrap_and_times_stand_alone() {
        let check = |text: &str, day, hour, wanted| {
            assert_eq!(
                text.parse::<Schedule>().unwrap().allows(at(day, hour, 0)),
                wanted,
                "{text} {day} {hour}"
            );
        };
        check("fri-mon", 1, 0, true);
        check("fri-mon", 2, 0, false);
        check("fri-mon", 7, 0, true);
        check("Wednesday 0:00-24:00", 3, 23, true);
        check("Wednesday 0:00-24:00", 4, 0, false);
        check("22:00-6:00", 4, 5, true);
        check("22:00-6:00", 4, 6, false);
        check("Mon 22:00-0:00", 1, 23, true);
        check("Mon 22:00-0:00", 2, 0, false);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            ",",
            "Mon-",
            "Mon 18:00",
            "Mon 24:00-08:00",
            "Mon 18:60-20:00",
            "Mon 1:1-2:00",
            "Mon +1:00-2:00",
            "always",
            "Mon 8:00-25:00",
            "Mon 23:00-24:01",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
        assert_eq!(
            "Mon 8:00-8:00".parse::<Schedule>(),
            Err(Error::NoTime { part: "Mon 8:00-8:00".to_owned() })
        );
        assert_eq!(vec!["Mon"; ENTRIES_MAX + 1].join(",").parse::<Schedule>(), Err(Error::TooLong));
    }

    #[test]
    fn a_week_has_as_many_minutes_as_the_entries_say() {
        let schedule: Schedule = "Mon-Fri 18:00-08:00, Sat-Sun".parse().unwrap();
        let minutes =
            (0..7 * 24 * 60).filter(|minute| schedule.allows(at(1, 0, 0) + TimeDelta::minutes(*minute)));
        // Five nights of 14 hours, two days, and what Friday's night takes of Saturday counts once.
        assert_eq!(minutes.count(), 60 * (5 * 14 + 2 * 24 - 8));
    }
}
