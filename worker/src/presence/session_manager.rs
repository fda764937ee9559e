//! What GNOME's session manager says: whether a program asks that the session is not taken for idle.

use zbus::MatchRule;
use zbus::OwnedObjectPath;

use super::bus::{Bus, Failure, is_unknown_object};
use super::service::{Service, Watched};
use super::{Policy, Settings, Source};
use crate::core::Rest;

const SERVICE: &str = "org.gnome.SessionManager";
const PATH: &str = "/org/gnome/SessionManager";
const INHIBITOR: &str = "org.gnome.SessionManager.Inhibitor";
/// Inhibits that the session is marked as idle.
const IDLE: u32 = 8;

/// GNOME's session manager on the session's bus.
pub struct SessionManager;

impl SessionManager {
    /// The one of the user's session; `None` without such a bus, or if nobody asks for it.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<impl Source + use<>> {
        let address = settings.places.session_bus.clone().filter(|_| settings.inhibited == Policy::Rest)?;
        Some(Watched::new(address, Self))
    }
}

impl Service for SessionManager {
    const NAME: &'static str = "GNOME session";
    const ABSENT: &'static str = "no session of GNOME";

    fn rule(&self) -> zbus::Result<MatchRule<'static>> {
        let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal);
        rule.sender(SERVICE).path(PATH).interface(SERVICE).build()
    }

    fn ask(&self, bus: &Bus) -> Result<Vec<Rest>, Failure> {
        let (is_inhibited, _): (bool, _) = bus.call([SERVICE, PATH, SERVICE, "IsInhibited"], &(IDLE,))?;
        Ok(if is_inhibited { vec![Rest::Inhibited { by: who(bus)? }] } else { Vec::new() })
    }
}

fn who(bus: &Bus) -> Result<String, Failure> {
    let (inhibitors, _): (Vec<OwnedObjectPath>, _) =
        bus.call([SERVICE, PATH, SERVICE, "GetInhibitors"], &())?;
    let mut names = Vec::new();
    for path in inhibitors {
        let flags: Result<(u32, _), _> = bus.call([SERVICE, path.as_str(), INHIBITOR, "GetFlags"], &());
        match flags {
            Ok((flags, _)) if flags & IDLE == 0 => continue,
            Ok(_) => {}
            // It ended meanwhile.
            Err(error) if is_unknown_object(&error) => continue,
            Err(error) => return Err(error),
        }
        let name: Result<(String, _), _> = bus.call([SERVICE, path.as_str(), INHIBITOR, "GetAppId"], &());
        match name {
            Ok((name, _)) => names.push(name),
            Err(error) if is_unknown_object(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(if names.is_empty() { "a program".to_owned() } else { names.join(", ") })
}
