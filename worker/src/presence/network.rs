//! Whether the network costs by the byte, and which one it is, as NetworkManager says on the system bus.
//!
//! Where nobody says so (no NetworkManager, or it does not know), it costs nothing: servers and most office PCs have
//! none. But where the owner has chosen networks by name, it is none of them. One that was there and does not answer any
//! more keeps its last word.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use zbus::{MatchRule, OwnedObjectPath, OwnedVariant};

use super::bus::{Bus, Failure, is_absent, is_unknown_object};
use super::{Networks, Settings, Transfers, wait_until};
use crate::core::Network;

const SERVICE: &str = "org.freedesktop.NetworkManager";
const PATH: &str = "/org/freedesktop/NetworkManager";
const CONNECTION: &str = "org.freedesktop.NetworkManager.Connection.Active";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// It tells of changes; this is for those that got lost.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What is known of the network's price.
#[derive(Clone)]
pub struct Meter(Arc<Shared>);

struct Shared {
    is_metered: AtomicBool,
    /// For the owner.
    detail: Mutex<String>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.is_metered()).finish()
    }
}

impl Meter {
    /// Of a network whose price does not matter.
    #[must_use]
    pub fn unwatched() -> Self {
        let detail = Mutex::new("any may be used".to_owned());
        Self(Arc::new(Shared { is_metered: AtomicBool::new(false), detail }))
    }

    /// Watches it; `tell` hears of it first when it is known, then of every change. Until then it counts as one that
    /// costs: that takes milliseconds.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn watch(settings: &Settings, tell: impl Fn(Network) + Send + 'static) -> io::Result<Self> {
        let detail = Mutex::new("has not answered yet".to_owned());
        let meter = Self(Arc::new(Shared { is_metered: AtomicBool::new(true), detail }));
        let (own, settings) = (meter.clone(), settings.clone());
        thread::Builder::new().name("see network".to_owned()).spawn(move || own.run(&settings, tell))?;
        Ok(meter)
    }

    /// Whether it costs.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.0.is_metered.load(Ordering::SeqCst)
    }

    /// What is known, for the owner.
    #[must_use]
    pub fn detail(&self) -> String {
        self.0.detail.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(&self, settings: &Settings, tell: impl Fn(Network)) {
        let mut bus = Bus::new(settings.places.system_bus.clone());
        let mut known = None;
        let at_first = if settings.networks == Networks::Any { Network::Free } else { Network::Metered };
        loop {
            let until = known.map(|_| Instant::now() + LOOK_EVERY);
            let (network, detail) = match look(&mut bus, settings, until) {
                Ok(Price::Metered) => (
                    Network::Metered,
                    "metered: no work is asked for, nothing large is sent; see `transfers`".to_owned(),
                ),
                Ok(Price::NotChosen) => (
                    Network::Metered,
                    "none of those chosen: no work is asked for, nothing large is sent; see `networks`"
                        .to_owned(),
                ),
                Ok(Price::Free) => (Network::Free, "may be used".to_owned()),
                Err(error) => {
                    bus.close();
                    let why = if is_absent(&error) { "there is none".to_owned() } else { error.to_string() };
                    let network = known.unwrap_or(at_first);
                    let taken =
                        if network == Network::Free { "not metered" } else { "one that may not be used" };
                    (network, format!("NetworkManager cannot be asked ({why}): it counts as {taken}"))
                }
            };
            *self.0.detail.lock().unwrap_or_else(PoisonError::into_inner) = detail;
            self.0.is_metered.store(network == Network::Metered, Ordering::SeqCst);
            if known.replace(network) != Some(network) {
                tell(network);
            }
        }
    }
}

/// What NetworkManager says of a network.
enum Price {
    Free,
    Metered,
    NotChosen,
}

fn look(bus: &mut Bus, settings: &Settings, until: Option<Instant>) -> Result<Price, Failure> {
    if bus.is_open() {
        bus.signal(until)?;
    } else {
        wait_until(until);
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SERVICE)
            .path(PATH)
            .interface(PROPERTIES)
            .build()?;
        bus.open(rule)?;
    }
    if settings.networks != Networks::Any && !settings.networks.have(&name(bus)?) {
        return Ok(Price::NotChosen);
    }
    if settings.transfers == Transfers::Any {
        return Ok(Price::Free);
    }
    let (metered, _): (OwnedVariant, _) =
        bus.call([SERVICE, PATH, PROPERTIES, "Get"], &(SERVICE, "Metered"))?;
    let metered: u32 = metered.downcast_ref()?;
    // NMMetered: 0 unknown, 1 yes, 2 no, 3 guessed yes, 4 guessed no.
    Ok(if matches!(metered, 1 | 3) { Price::Metered } else { Price::Free })
}

/// The name of the connection that everything goes through; empty if there is none.
fn name(bus: &Bus) -> Result<String, Failure> {
    let (connection, _): (OwnedVariant, _) =
        bus.call([SERVICE, PATH, PROPERTIES, "Get"], &(SERVICE, "PrimaryConnection"))?;
    let connection = OwnedObjectPath::try_from(connection)?;
    if connection.as_str() == "/" {
        return Ok(String::new());
    }
    let name: Result<(OwnedVariant, _), _> =
        bus.call([SERVICE, connection.as_str(), PROPERTIES, "Get"], &(CONNECTION, "Id"));
    match name {
        Ok((name, _)) => Ok(String::try_from(name)?),
        // It ended meanwhile.
        Err(error) if is_unknown_object(&error) => Ok(String::new()),
        Err(error) => Err(error),
    }
}
