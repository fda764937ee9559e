//! Which sources are watched, on macOS. Its inhibitors (`pmset -g assertions`) are not among them, nor is a network's price.

use super::{Input, Machine, Settings, Source, Terminals};
use crate::core::People;
use crate::freezers::Freezers;

/// What the settings ask for.
pub(super) fn choose(settings: &Settings, _: &Freezers) -> Vec<Box<dyn Source>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    if settings.people == People::Watched {
        sources.push(Box::new(Input::new()));
        sources.push(Box::new(Terminals::new(settings.places.dev.clone())));
    }
    if let Some(machine) = Machine::of(settings) {
        sources.push(Box::new(machine));
    }
    sources
}
