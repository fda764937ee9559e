//! Presence in a GNOME session, X11 or Wayland: the idle monitor of its shell.

use std::time::{Duration, Instant};

use zbus::MatchRule;

use super::Source;
use super::bus::{Bus, Failure};
use crate::core::{Kind, Sighting};

const SERVICE: &str = "org.gnome.Mutter.IdleMonitor";
const MONITOR: &str = "/org/gnome/Mutter/IdleMonitor/Core";

/// GNOME's idle monitor on the session's bus.
pub struct Gnome {
    bus: Option<Bus>,
    /// Fires at the next input, once.
    watch: Option<u32>,
    /// Who answered first: a shell that started again has forgotten the watch.
    shell: Option<String>,
}

impl Gnome {
    /// The monitor on the bus with that address.
    #[must_use]
    pub fn new(session_bus: Option<String>) -> Self {
        Self { bus: session_bus.map(Bus::new), watch: None, shell: None }
    }

    fn look(&mut self, until: Option<Instant>) -> Result<Sighting, Failure> {
        let bus = self.bus.as_mut().ok_or("there is no session bus")?;
        if bus.is_open() {
            while let Some(message) = bus.signal(until)? {
                if message.body().deserialize::<u32>().ok() == self.watch && self.watch.is_some() {
                    self.watch = None;
                    return Ok(Sighting::Input);
                }
            }
        } else {
            let rule = MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .path(MONITOR)
                .interface(SERVICE)
                .member("WatchFired")
                .build()?;
            bus.open(rule)?;
            (self.watch, self.shell) = (None, None);
        }
        // The watch first: what happens between the two calls is seen by it.
        if self.watch.is_none() {
            let (watch, shell) = bus.call([SERVICE, MONITOR, SERVICE, "AddUserActiveWatch"], &())?;
            (self.watch, self.shell) = (Some(watch), Some(shell));
        }
        let (idle_ms, shell): (u64, _) = bus.call([SERVICE, MONITOR, SERVICE, "GetIdletime"], &())?;
        if self.shell != Some(shell) {
            return Err("the shell has started again".into());
        }
        Ok(Sighting::LastInput(Duration::from_millis(idle_ms)))
    }
}

impl Source for Gnome {
    fn name(&self) -> &'static str {
        "GNOME"
    }

    fn kind(&self) -> Kind {
        Kind::Display
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        self.look(until).unwrap_or_else(|error| {
            if let Some(bus) = &mut self.bus {
                bus.close();
            }
            Sighting::Lost(format!("GNOME's idle monitor: {error}"))
        })
    }
}
