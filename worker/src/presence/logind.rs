//! What logind says on the system bus: other people's sessions, and who asks that the PC is not taken for idle.

use std::collections::HashMap;
use std::time::Instant;

use zbus::MatchRule;
use zbus::{OwnedObjectPath, OwnedVariant};

use super::bus::{Bus, Failure, is_absent, is_unknown_object};
use super::{Policy, Settings, Source};
use crate::core::{Kind, Rest, Session, Sighting, inhibits_idle};

const SERVICE: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What it blocks, who does, why, how, and that process's user and number.
type Inhibitor = (String, String, String, String, u32, u32);
/// Id, user and user's name, seat, where it is.
type Listed = (String, u32, String, String, OwnedObjectPath);

/// logind on the system bus. A machine without it is as it was before logind; one whose logind was there and cannot
/// be read any more counts as in use.
pub struct Logind {
    bus: Bus,
    settings: Settings,
    own_uid: u32,
    was_there: bool,
}

impl Logind {
    /// What the settings ask for; `None` if nothing.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        let policies = [settings.inhibited, settings.remote_sessions, settings.other_sessions];
        policies.contains(&Policy::Rest).then(|| Self {
            bus: Bus::new(settings.places.system_bus.clone()),
            settings: settings.clone(),
            own_uid: rustix::process::getuid().as_raw(),
            was_there: false,
        })
    }

    fn look(&mut self, until: Option<Instant>) -> Result<Vec<Rest>, Failure> {
        if self.bus.is_open() {
            // Whatever it says is a reason to look again.
            self.bus.signal(until)?;
        } else {
            let rule = MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .sender(SERVICE)
                .path_namespace(PATH)
                .build()?;
            self.bus.open(rule)?;
        }
        let mut rests = Vec::new();
        if self.settings.inhibited == Policy::Rest {
            let (inhibitors, _): (Vec<Inhibitor>, _) =
                self.bus.call([SERVICE, PATH, MANAGER, "ListInhibitors"], &())?;
            rests.extend(
                inhibitors
                    .into_iter()
                    .filter(|(what, _, _, mode, ..)| inhibits_idle(what, mode))
                    .map(|(_, by, ..)| Rest::Inhibited { by }),
            );
        }
        for session in self.sessions()? {
            match session.rest(self.own_uid) {
                Some(Rest::RemoteSession { .. }) if self.settings.remote_sessions == Policy::Run => {}
                Some(Rest::OtherSession { .. }) if self.settings.other_sessions == Policy::Run => {}
                rest => rests.extend(rest),
            }
        }
        Ok(rests)
    }

    fn sessions(&self) -> Result<Vec<Session>, Failure> {
        let (listed, _): (Vec<Listed>, _) = self.bus.call([SERVICE, PATH, MANAGER, "ListSessions"], &())?;
        let mut sessions = Vec::new();
        for (_, uid, user, _, path) in listed {
            let answer: Result<(HashMap<String, OwnedVariant>, _), _> =
                self.bus.call([SERVICE, path.as_str(), PROPERTIES, "GetAll"], &(SESSION,));
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
}

fn value<'a>(properties: &'a HashMap<String, OwnedVariant>, name: &str) -> Result<&'a OwnedVariant, Failure> {
    properties.get(name).ok_or_else(|| format!("a session has no {name}").into())
}

impl Source for Logind {
    fn name(&self) -> &'static str {
        "logind"
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
                    Sighting::Absent(
                        "this machine has no logind: other people's sessions are not seen".to_owned(),
                    )
                } else {
                    Sighting::Lost(format!("logind: {error}"))
                }
            }
        }
    }
}
