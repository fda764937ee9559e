//! What GNOME's session manager says: whether a program asks that the session is not taken for idle.

use std::time::Instant;

use zbus::MatchRule;
use zbus::OwnedObjectPath;

use super::bus::{Bus, Failure, is_absent, is_unknown_object};
use super::{Policy, Settings, Source};
use crate::core::{Kind, Rest, Sighting};

const SERVICE: &str = "org.gnome.SessionManager";
const PATH: &str = "/org/gnome/SessionManager";
const INHIBITOR: &str = "org.gnome.SessionManager.Inhibitor";
/// Inhibits that the session is marked as idle.
const IDLE: u32 = 8;

/// GNOME's session manager on the session's bus.
pub struct SessionManager {
    bus: Bus,
    was_there: bool,
}

impl SessionManager {
    /// The one of the user's session; `None` without such a bus, or if nobody asks for it.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        let address = settings.places.session_bus.clone().filter(|_| settings.inhibited == Policy::Rest)?;
        Some(Self { bus: Bus::new(address), was_there: false })
    }

    fn look(&mut self, until: Option<Instant>) -> Result<Vec<Rest>, Failure> {
        if self.bus.is_open() {
            self.bus.signal(until)?;
        } else {
            let rule = MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .sender(SERVICE)
                .path(PATH)
                .interface(SERVICE)
                .build()?;
            self.bus.open(rule)?;
        }
        let (is_inhibited, _): (bool, _) =
            self.bus.call([SERVICE, PATH, SERVICE, "IsInhibited"], &(IDLE,))?;
        Ok(if is_inhibited { vec![Rest::Inhibited { by: self.who()? }] } else { Vec::new() })
    }

    fn who(&self) -> Result<String, Failure> {
        let (inhibitors, _): (Vec<OwnedObjectPath>, _) =
            self.bus.call([SERVICE, PATH, SERVICE, "GetInhibitors"], &())?;
        let mut names = Vec::new();
        for path in inhibitors {
            let flags: Result<(u32, _), _> =
                self.bus.call([SERVICE, path.as_str(), INHIBITOR, "GetFlags"], &());
            match flags {
                Ok((flags, _)) if flags & IDLE == 0 => continue,
                Ok(_) => {}
                // It ended meanwhile.
                Err(error) if is_unknown_object(&error) => continue,
                Err(error) => return Err(error),
            }
            let name: Result<(String, _), _> =
                self.bus.call([SERVICE, path.as_str(), INHIBITOR, "GetAppId"], &());
            match name {
                Ok((name, _)) => names.push(name),
                Err(error) if is_unknown_object(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(if names.is_empty() { "a program".to_owned() } else { names.join(", ") })
    }
}

impl Source for SessionManager {
    fn name(&self) -> &'static str {
        "GNOME session"
    }

    fn kind(&self) -> Kind {
        Kind::Condition
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        super::machine::wait_until(until.filter(|_| !self.bus.is_open()));
        match self.look(until) {
            Ok(rests) => {
                self.was_there = true;
                Sighting::Rests(rests)
            }
            Err(error) => {
                self.bus.close();
                if !self.was_there && is_absent(&error) {
                    Sighting::Absent("no session of GNOME".to_owned())
                } else {
                    Sighting::Lost(format!("GNOME's session manager: {error}"))
                }
            }
        }
    }
}
