//! The same as `machine.rs`, for macOS: the schedule. Battery, processor, memory and inhibitors are not looked at there yet,
//! and the owner who asks for that is told so.

use std::time::Instant;

use super::{Policy, Settings, Source, wait_until};
use crate::core::{Kind, Rest, Sighting};

/// Reads them when it is asked.
pub struct Machine {
    settings: Settings,
}

impl Machine {
    /// The conditions that the settings ask for; `None` if none.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        let machine = Self { settings: settings.clone() };
        (settings.schedule.is_some() || machine.is_more_asked_for()).then_some(machine)
    }

    /// Whether something is asked for that nobody looks at here.
    fn is_more_asked_for(&self) -> bool {
        self.settings.on_battery == Policy::Rest
            || self.settings.inhibited == Policy::Rest
            || self.settings.cpu_wanted_percent.is_some()
            || self.settings.memory_free_bytes_min.is_some()
    }
}

impl Source for Machine {
    fn name(&self) -> &'static str {
        "machine"
    }

    fn kind(&self) -> Kind {
        Kind::Condition
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        wait_until(until);
        match &self.settings.schedule {
            Some(schedule) if !schedule.allows(chrono::Local::now().naive_local()) => {
                Sighting::Rests(vec![Rest::OutsideSchedule { schedule: schedule.to_string() }])
            }
            _ if self.is_more_asked_for() => Sighting::Absent(
                "battery, processor, memory, films and calls are not looked at on macOS".to_owned(),
            ),
            _ => Sighting::Rests(Vec::new()),
        }
    }
}
