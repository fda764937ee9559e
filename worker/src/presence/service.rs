//! What the D-Bus sources of conditions share: a service that tells why guests should rest, and may be missing.

use std::time::Instant;

use zbus::MatchRule;

use super::bus::{Bus, Failure, is_absent};
use super::{Source, wait_until};
use crate::core::{Kind, Rest, Sighting};

/// A service on a bus.
pub(super) trait Service: Send {
    /// Its name, for the owner.
    const NAME: &'static str;
    /// What a machine without it is told to have.
    const ABSENT: &'static str;

    /// The signals after which it is asked again.
    fn rule(&self) -> zbus::Result<MatchRule<'static>>;

    /// Asks it.
    ///
    /// # Errors
    /// Those of the bus and of the service.
    fn ask(&self, bus: &Bus) -> Result<Vec<Rest>, Failure>;
}

/// A service as a source. A machine that never had it counts as one that has no need of it; where it was there and cannot be
/// read any more, the PC counts as in use.
pub(super) struct Watched<S> {
    bus: Bus,
    service: S,
    was_there: bool,
}

impl<S: Service> Watched<S> {
    pub(super) const fn new(address: String, service: S) -> Self {
        Self { bus: Bus::new(address), service, was_there: false }
    }

    fn look(&mut self, until: Option<Instant>) -> Result<Vec<Rest>, Failure> {
        if self.bus.is_open() {
            // Whatever it says is a reason to look again.
            self.bus.signal(until)?;
        } else {
            self.bus.open(self.service.rule()?)?;
        }
        self.service.ask(&self.bus)
    }
}

impl<S: Service> Source for Watched<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn kind(&self) -> Kind {
        Kind::Condition
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        wait_until(until.filter(|_| !self.bus.is_open()));
        match self.look(until) {
            Ok(rests) => {
                self.was_there = true;
                Sighting::Rests(rests)
            }
            Err(error) => {
                self.bus.close();
                if !self.was_there && is_absent(&error) {
                    Sighting::Absent(S::ABSENT.to_owned())
                } else {
                    Sighting::Lost(format!("{}: {error}", S::NAME))
                }
            }
        }
    }
}
