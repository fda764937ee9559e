//! What a desktop's power manager says on the session's bus, KDE's above all: whether a program asks that the PC stays awake.
//! Films and calls do; so do downloads, which it does not tell apart.

use zbus::MatchRule;

use super::bus::{Bus, Failure, is_unsupported};
use super::service::{Service, Watched};
use super::{Policy, Settings, Source};
use crate::core::Rest;

const SERVICE: &str = "org.freedesktop.PowerManagement";
const PATH: &str = "/org/freedesktop/PowerManagement/Inhibit";
const INHIBIT: &str = "org.freedesktop.PowerManagement.Inhibit";

/// The power manager on the session's bus.
pub struct PowerManagement;

impl PowerManagement {
    /// The one of the user's session; `None` without such a bus, or if nobody asks for it.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<impl Source + use<>> {
        let address = settings.places.session_bus.clone().filter(|_| settings.inhibited == Policy::Rest)?;
        Some(Watched::new(address, Self))
    }
}

impl Service for PowerManagement {
    const NAME: &'static str = "power management";
    const ABSENT: &'static str = "no power manager of KDE or its like";

    fn rule(&self) -> zbus::Result<MatchRule<'static>> {
        let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal);
        rule.sender(SERVICE).path(PATH).interface(INHIBIT).build()
    }

    fn ask(&self, bus: &Bus) -> Result<Vec<Rest>, Failure> {
        let is_inhibited = match bus.call([SERVICE, PATH, INHIBIT, "HasInhibit"], &()) {
            Ok((is_inhibited, _)) => is_inhibited,
            // One of another desktop, that nobody can ask to stay awake.
            Err(error) if is_unsupported(&error) => false,
            Err(error) => return Err(error),
        };
        // It does not tell who asks.
        Ok(if is_inhibited { vec![Rest::Inhibited { by: "a program".to_owned() }] } else { Vec::new() })
    }
}
