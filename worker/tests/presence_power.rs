//! Programs that keep the PC awake, as KDE's power manager tells of them, on a real, private bus. It is a stand-in: it is
//! not ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Bus, next, watch};
use lull_worker::core::{Presence, Rest, Sighting};
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Places, Policy, PowerManagement, Settings, Source};
use zbus::Connection;

const SERVICE: &str = "org.freedesktop.PowerManagement";
const PATH: &str = "/org/freedesktop/PowerManagement/Inhibit";

#[derive(Clone, Default)]
struct PowerManager(Arc<AtomicBool>);

#[zbus::interface(name = "org.freedesktop.PowerManagement.Inhibit")]
impl PowerManager {
    fn has_inhibit(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Settings of a dedicated machine that rests for films, and its source.
fn source(bus: &Bus) -> (Settings, Box<dyn Source>) {
    let places = Places { session_bus: Some(bus.address.clone()), ..Places::default() };
    let settings = Settings { inhibited: Policy::Rest, places, ..Settings::dedicated() };
    let source = Box::new(PowerManagement::of(&settings).unwrap());
    (settings, source)
}

async fn serve(bus: &Bus, manager: &PowerManager, path: &str) -> Connection {
    let builder = zbus::connection::Builder::address(bus.address.as_str());
    builder.serve_at(path, manager.clone()).name(SERVICE).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_in_kde_freezes_and_a_power_manager_that_dies_counts_as_a_person() {
    let mut bus = Bus::start();
    let manager = PowerManager::default();
    let connection = serve(&bus, &manager, PATH).await;
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let (settings, source) = source(&bus);
    let (watcher, told) = watch(vec![source], &settings, &freezers);
    assert_eq!(next(&told), Presence::Dedicated);
    assert!(!freezer.is_frozen());
    let change = async |is_inhibited: bool| {
        manager.0.store(is_inhibited, Ordering::SeqCst);
        let interface = "org.freedesktop.PowerManagement.Inhibit";
        let said = (is_inhibited,);
        connection.emit_signal(None::<&str>, PATH, interface, "HasInhibitChanged", &said).await.unwrap();
    };
    change(true).await;
    assert_eq!(next(&told), Presence::Active);
    assert!(freezer.is_frozen());
    assert_eq!(watcher.status().rests, [Rest::Inhibited { by: "a program".to_owned() }]);
    change(false).await;
    assert_eq!(next(&told), Presence::Dedicated);
    bus.kill();
    assert_eq!(next(&told), Presence::Unknown);
    assert!(freezer.is_frozen());
}

#[test]
fn a_desktop_without_one_is_as_it_was() {
    let bus = Bus::start();
    let (_, mut absent) = source(&bus);
    assert!(matches!(absent.next(None), Sighting::Absent(_)));
    // A power manager of another desktop, that nobody can ask to stay awake.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _other = runtime.block_on(serve(&bus, &PowerManager::default(), "/elsewhere"));
    let (_, mut other) = source(&bus);
    assert_eq!(other.next(None), Sighting::Rests(Vec::new()));
    assert!(PowerManagement::of(&Settings::dedicated()).is_none(), "nobody asks");
}
