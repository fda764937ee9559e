//! Which sources are watched, on Windows.

use super::{Input, Machine, Sessions, Settings, Source};
use crate::core::People;
use crate::freezers::Freezers;

/// What the settings ask for.
pub(super) fn choose(settings: &Settings, freezers: &Freezers) -> Vec<Box<dyn Source>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    if settings.people == People::Watched {
        sources.push(Box::new(Input::new()));
    }
    if let Some(others) = Sessions::of(settings) {
        sources.push(Box::new(others));
    }
    if let Some(machine) = Machine::of(settings, freezers) {
        sources.push(Box::new(machine));
    }
    sources
}
