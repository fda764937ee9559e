//! The display, through whichever source can read it. One that dies is replaced by the next that can.

use std::thread;
use std::time::{Duration, Instant};

use super::Source;
use crate::core::{Kind, Sighting};

/// Sources that cannot be read are tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Candidates, and the one that is read.
pub struct Display {
    candidates: Vec<Box<dyn Source>>,
    chosen: Option<usize>,
    try_at: Option<Instant>,
}

impl Display {
    /// A display that can be seen through one of these, the best first.
    #[must_use]
    pub fn new(candidates: Vec<Box<dyn Source>>) -> Self {
        Self { candidates, chosen: None, try_at: None }
    }

    fn choose(&mut self) -> Sighting {
        let mut reasons = Vec::new();
        for (number, candidate) in self.candidates.iter_mut().enumerate() {
            match candidate.next(None) {
                Sighting::Lost(reason) | Sighting::Absent(reason) => reasons.push(reason),
                sighting => {
                    tracing::info!(source = candidate.name(), "the display is watched");
                    self.chosen = Some(number);
                    return sighting;
                }
            }
        }
        self.try_at = Some(Instant::now() + RETRY_AFTER);
        if reasons.is_empty() {
            reasons.push("no display is known".to_owned());
        }
        Sighting::Lost(reasons.join("; "))
    }
}

impl Source for Display {
    fn name(&self) -> &'static str {
        self.chosen.and_then(|number| self.candidates.get(number)).map_or("display", |source| source.name())
    }

    fn kind(&self) -> Kind {
        Kind::Display
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        if let Some(candidate) = self.chosen.and_then(|number| self.candidates.get_mut(number)) {
            let sighting = candidate.next(until);
            if matches!(sighting, Sighting::Lost(_) | Sighting::Absent(_)) {
                self.chosen = None;
            }
            return sighting;
        }
        while let Some(left) = self.try_at.map(|at| at.saturating_duration_since(Instant::now())) {
            if left.is_zero() {
                self.try_at = None;
            } else {
                thread::park_timeout(left);
            }
        }
        self.choose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Sees what it is told to, and then somebody for ever.
    struct Script(&'static str, VecDeque<Sighting>);

    impl Source for Script {
        fn name(&self) -> &'static str {
            self.0
        }

        fn kind(&self) -> Kind {
            Kind::Display
        }

        fn next(&mut self, _: Option<Instant>) -> Sighting {
            self.1.pop_front().unwrap_or(Sighting::Input)
        }
    }

    fn script(name: &'static str, sightings: impl IntoIterator<Item = Sighting>) -> Box<dyn Source> {
        Box::new(Script(name, sightings.into_iter().collect()))
    }

    #[test]
    fn when_the_source_that_is_read_dies_the_next_that_can_is_chosen() {
        let lost = || Sighting::Lost("it is gone".to_owned());
        let idle = |secs| Sighting::LastInput(Duration::from_secs(secs));
        let first = script("first", [idle(1), lost(), lost()]);
        let second = script("second", [idle(2), Sighting::Input]);
        let mut display = Display::new(vec![first, second]);

        assert_eq!((display.next(None), display.name()), (idle(1), "first"));
        assert_eq!(
            (display.next(None), display.name()),
            (lost(), "display"),
            "nobody is told that all is well"
        );
        assert_eq!((display.next(None), display.name()), (idle(2), "second"));
        assert_eq!((display.next(None), display.name()), (Sighting::Input, "second"));
    }

    #[test]
    fn one_that_cannot_be_read_from_the_start_is_passed_over() {
        let first = script("first", [Sighting::Lost("it is Xwayland".to_owned())]);
        let second = script("second", [Sighting::Absent("no such service".to_owned())]);
        let third = script("third", [Sighting::InUse]);
        let mut display = Display::new(vec![first, second, third]);
        assert_eq!((display.next(None), display.name()), (Sighting::InUse, "third"));

        let reasons = ["it is Xwayland", "no such service"].map(str::to_owned);
        let [first, second] = reasons.clone().map(|reason| script("one", [Sighting::Lost(reason)]));
        let mut display = Display::new(vec![first, second]);
        assert_eq!(display.next(None), Sighting::Lost(reasons.join("; ")));
    }
}
