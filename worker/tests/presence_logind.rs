//! Other people and inhibitors, as logind and GNOME's session manager tell of them, on a real, private bus. The
//! services are stand-ins: they are not ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Bus, next, watch};
use lull_worker::core::{Presence, Rest, Sighting};
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Logind, Places, Policy, SessionManager, Settings, Source};
use tokio::runtime::Runtime;
use zbus::{Connection, OwnedObjectPath};

const PATH: &str = "/org/freedesktop/login1";
const SESSION: &str = "/org/freedesktop/login1/session/_37";

type Inhibitor = (String, String, String, String, u32, u32);

#[derive(Clone, Default)]
struct Manager {
    inhibitors: Arc<Mutex<Vec<Inhibitor>>>,
    has_ghost: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn list_inhibitors(&self) -> Vec<Inhibitor> {
        self.inhibitors.lock().unwrap().clone()
    }

    fn list_sessions(&self) -> Vec<(String, u32, String, String, OwnedObjectPath)> {
        let session = |path: &str| {
            let path = OwnedObjectPath::try_from(path.to_owned()).unwrap();
            ("7".to_owned(), 4_000_000_000, "bea".to_owned(), String::new(), path)
        };
        // One of them has ended since it was listed.
        let ghost = self.has_ghost.then(|| session("/org/freedesktop/login1/session/gone"));
        [session(SESSION)].into_iter().chain(ghost).collect()
    }
}

struct Session {
    is_idle: bool,
    is_remote: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Session")]
impl Session {
    #[zbus(property)]
    fn class(&self) -> &'static str {
        "user"
    }
    #[zbus(property, name = "Type")]
    fn kind(&self) -> &'static str {
        "x11"
    }
    #[zbus(property)]
    fn remote(&self) -> bool {
        self.is_remote
    }
    #[zbus(property)]
    fn active(&self) -> bool {
        true
    }
    #[zbus(property)]
    fn idle_hint(&self) -> bool {
        self.is_idle
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn logind(runtime: &Runtime, bus: &Bus, manager: &Manager) -> Connection {
    runtime.block_on(async {
        zbus::connection::Builder::address(bus.address.as_str())
            .serve_at(PATH, manager.clone())
            .serve_at(SESSION, Session { is_idle: true, is_remote: true })
            .name("org.freedesktop.login1")
            .build()
            .await
            .unwrap()
    })
}

/// Watches what the settings of a dedicated machine name besides.
fn settings(bus: &Bus) -> Settings {
    let places = Places {
        system_bus: bus.address.clone(),
        session_bus: Some(bus.address.clone()),
        ..Places::default()
    };
    Settings {
        inhibited: Policy::Rest,
        remote_sessions: Policy::Rest,
        other_sessions: Policy::Rest,
        places,
        ..Settings::dedicated()
    }
}

/// The same user, at the PC itself.
fn come_in_person(runtime: &Runtime, connection: &Connection) {
    runtime.block_on(async {
        let session = connection.object_server().interface::<_, Session>(SESSION).await.unwrap();
        session.get_mut().await.is_remote = false;
    });
}

fn set_idle(runtime: &Runtime, connection: &Connection, is_idle: bool) {
    runtime.block_on(async {
        let session = connection.object_server().interface::<_, Session>(SESSION).await.unwrap();
        session.get_mut().await.is_idle = is_idle;
        session.get().await.idle_hint_changed(session.signal_emitter()).await.unwrap();
    });
}

#[test]
fn remote_people_and_films_freeze_and_a_logind_that_dies_counts_as_a_person() {
    let mut bus = Bus::start();
    let runtime = runtime();
    let manager = Manager { has_ghost: true, ..Manager::default() };
    let connection = logind(&runtime, &bus, &manager);
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let settings = settings(&bus);
    let source: Box<dyn Source> = Box::new(Logind::of(&settings).unwrap());
    let (watcher, told) = watch(vec![source], &settings, &freezers);
    assert_eq!(next(&told), Presence::Dedicated);
    set_idle(&runtime, &connection, false);
    assert_eq!(next(&told), Presence::Active);
    assert!(freezer.is_frozen());
    assert_eq!(watcher.status().rests, [Rest::RemoteSession { user: "bea".to_owned() }]);
    set_idle(&runtime, &connection, true);
    assert_eq!(next(&told), Presence::Dedicated);
    come_in_person(&runtime, &connection);
    set_idle(&runtime, &connection, false);
    assert_eq!(next(&told), Presence::Active);
    assert_eq!(watcher.status().rests, [Rest::OtherSession { user: "bea".to_owned() }]);
    set_idle(&runtime, &connection, true);
    assert_eq!(next(&told), Presence::Dedicated);
    let film = |mode: &str| {
        let text = str::to_owned;
        (text("idle:sleep"), text("player"), text("a film"), text(mode), 1000, 1)
    };
    *manager.inhibitors.lock().unwrap() = vec![film("delay"), film("block")];
    runtime
        .block_on(connection.emit_signal(
            None::<&str>,
            PATH,
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            &(),
        ))
        .unwrap();
    assert_eq!(next(&told), Presence::Active);
    assert_eq!(watcher.status().rests, [Rest::Inhibited { by: "player".to_owned() }]);
    manager.inhibitors.lock().unwrap().clear();
    assert_eq!(next(&told), Presence::Dedicated, "seen with no signal, too");
    bus.kill();
    assert_eq!(next(&told), Presence::Unknown);
    assert!(freezer.is_frozen());
}

#[test]
fn a_machine_without_logind_is_as_it_was() {
    let bus = Bus::start();
    let settings = settings(&bus);
    let absent = |mut source: Box<dyn Source>| assert!(matches!(source.next(None), Sighting::Absent(_)));
    absent(Box::new(Logind::of(&settings).unwrap()));
    absent(Box::new(SessionManager::of(&settings).unwrap()));
    let places = Places { system_bus: "unix:path=/nowhere/bus".to_owned(), ..settings.places.clone() };
    absent(Box::new(Logind::of(&Settings { places, ..settings }).unwrap()));
    assert!(Logind::of(&Settings::dedicated()).is_none(), "nobody asks");
}

#[derive(Clone, Default)]
struct GnomeSession {
    flags: Arc<Mutex<u32>>,
}

#[zbus::interface(name = "org.gnome.SessionManager")]
impl GnomeSession {
    fn is_inhibited(&self, flags: u32) -> bool {
        *self.flags.lock().unwrap() & flags != 0
    }
    fn get_inhibitors(&self) -> Vec<OwnedObjectPath> {
        vec![OwnedObjectPath::try_from("/org/gnome/SessionManager/Inhibitor1".to_owned()).unwrap()]
    }
}

#[zbus::interface(name = "org.gnome.SessionManager.Inhibitor")]
impl Inhibits {
    fn get_flags(&self) -> u32 {
        *self.0.lock().unwrap()
    }
    fn get_app_id(&self) -> &'static str {
        "org.example.Call"
    }
}

struct Inhibits(Arc<Mutex<u32>>);

#[test]
fn a_call_in_gnome_freezes() {
    let bus = Bus::start();
    let runtime = runtime();
    let session = GnomeSession::default();
    let connection = runtime.block_on(async {
        zbus::connection::Builder::address(bus.address.as_str())
            .serve_at("/org/gnome/SessionManager", session.clone())
            .serve_at("/org/gnome/SessionManager/Inhibitor1", Inhibits(Arc::clone(&session.flags)))
            .name("org.gnome.SessionManager")
            .build()
            .await
            .unwrap()
    });
    let freezers = Freezers::new();
    let settings = settings(&bus);
    let source: Box<dyn Source> = Box::new(SessionManager::of(&settings).unwrap());
    let (watcher, told) = watch(vec![source], &settings, &freezers);
    assert_eq!(next(&told), Presence::Dedicated);
    let path = OwnedObjectPath::try_from("/org/gnome/SessionManager/Inhibitor1".to_owned()).unwrap();
    let change = |flags, signal: &str| {
        *session.flags.lock().unwrap() = flags;
        let name = "org.gnome.SessionManager";
        let place = "/org/gnome/SessionManager";
        runtime.block_on(connection.emit_signal(None::<&str>, place, name, signal, &(&path,))).unwrap();
    };
    // Against logging out and sleeping, but not against idling; then against idling.
    change(1 | 4, "InhibitorAdded");
    change(8, "InhibitorAdded");
    assert_eq!(next(&told), Presence::Active);
    assert_eq!(watcher.status().rests, [Rest::Inhibited { by: "org.example.Call".to_owned() }]);
    change(0, "InhibitorRemoved");
    assert_eq!(next(&told), Presence::Dedicated);
}
