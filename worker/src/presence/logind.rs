//! What logind says on the system bus: other people's sessions, and who asks that the PC is not taken for idle.

use std::collections::HashMap;

use zbus::MatchRule;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::bus::{Bus, Failure, is_unknown_object};
use super::service::{Service, Watched};
use super::{Policy, Settings, Source};
use crate::core::{Rest, Session, inhibits_idle};

const SERVICE: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What it blocks, who does, why, how, and that process's user and number.
type Inhibitor = (String, String, String, String, u32, u32);
/// Id, user and user's name, seat, where it is.
type Listed = (String, u32, String, String, OwnedObjectPath);

/// logind on the system bus.
pub struct Logind {
    settings: Settings,
    own_uid: u32,
}

impl Logind {
    /// What the settings ask for; `None` if nothing.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<impl Source + use<>> {
        let policies = [settings.inhibited, settings.remote_sessions, settings.other_sessions];
        let own_uid = rustix::process::getuid().as_raw();
        policies.contains(&Policy::Rest).then(|| {
            Watched::new(settings.places.system_bus.clone(), Self { settings: settings.clone(), own_uid })
        })
    }
}

impl Service for Logind {
    const NAME: &'static str = "logind";
    const ABSENT: &'static str = "this machine has no logind: other people's sessions are not seen";

    fn rule(&self) -> zbus::Result<MatchRule<'static>> {
        let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal);
        rule.sender(SERVICE).path_namespace(PATH).build()
    }

    fn ask(&self, bus: &Bus) -> Result<Vec<Rest>, Failure> {
        let mut rests = Vec::new();
        if self.settings.inhibited == Policy::Rest {
            let (inhibitors, _): (Vec<Inhibitor>, _) =
                bus.call([SERVICE, PATH, MANAGER, "ListInhibitors"], &())?;
            rests.extend(
                inhibitors
                    .into_iter()
                    .filter(|(what, _, _, mode, ..)| inhibits_idle(what, mode))
                    .map(|(_, by, ..)| Rest::Inhibited { by }),
            );
        }
        for session in sessions(bus)? {
            match session.rest(self.own_uid) {
                Some(Rest::RemoteSession { .. }) if self.settings.remote_sessions == Policy::Run => {}
                Some(Rest::OtherSession { .. }) if self.settings.other_sessions == Policy::Run => {}
                rest => rests.extend(rest),
            }
        }
        Ok(rests)
    }
}

fn sessions(bus: &Bus) -> Result<Vec<Session>, Failure> {
    let (listed, _): (Vec<Listed>, _) = bus.call([SERVICE, PATH, MANAGER, "ListSessions"], &())?;
    let mut sessions = Vec::new();
    for (_, uid, user, _, path) in listed {
        let answer: Result<(HashMap<String, OwnedVariant>, _), _> =
            bus.call([SERVICE, path.as_str(), PROPERTIES, "GetAll"], &(SESSION,));
        let properties = match answer {
            Ok((properties, _)) => properties,
            // It ended meanwhile.
            Err(error) if is_unknown_object(&error) => continue,
            Err(error) => return Err(error),
        };
        let text = |name: &str| -> Result<String, Failure> {
            Ok(value(&properties, name)?.downcast_ref::<&str>()?.to_owned())
        };
        let is = |name: &str| -> Result<bool, Failure> { Ok(value(&properties, name)?.downcast_ref()?) };
        sessions.push(Session {
            uid,
            user,
            class: text("Class")?,
            kind: text("Type")?,
            is_remote: is("Remote")?,
            is_active: is("Active")?,
            is_idle: is("IdleHint")?,
        });
    }
    Ok(sessions)
}

fn value<'a>(properties: &'a HashMap<String, OwnedVariant>, name: &str) -> Result<&'a OwnedVariant, Failure> {
    properties.get(name).ok_or_else(|| format!("a session has no {name}").into())
}
