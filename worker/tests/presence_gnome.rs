//! GNOME's idle monitor on a real, private bus. The monitor itself is a stand-in: it is not ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Bus, DEADLINE};
use lull_worker::core::Presence;
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Display, Gnome, Settings, Watcher};

const PATH: &str = "/org/gnome/Mutter/IdleMonitor/Core";
const NAME: &str = "org.gnome.Mutter.IdleMonitor";

#[derive(Clone, Default)]
struct Monitor {
    idle_ms: Arc<AtomicU64>,
    watches: Arc<AtomicU32>,
    armed: Arc<Mutex<Option<u32>>>,
}

#[zbus::interface(name = "org.gnome.Mutter.IdleMonitor")]
impl Monitor {
    #[zbus(name = "GetIdletime")]
    fn get_idletime(&self) -> u64 {
        self.idle_ms.load(Ordering::SeqCst)
    }

    fn add_user_active_watch(&self) -> u32 {
        let watch = self.watches.fetch_add(1, Ordering::SeqCst) + 1;
        *self.armed.lock().unwrap() = Some(watch);
        watch
    }
}

#[test]
fn input_freezes_silence_thaws_and_a_bus_that_dies_counts_as_a_person() {
    let mut daemon = Bus::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let monitor = Monitor::default();
    monitor.idle_ms.store(100_000, Ordering::SeqCst);
    let connection = runtime.block_on(async {
        zbus::connection::Builder::address(daemon.address.as_str())
            .serve_at(PATH, monitor.clone())
            .name(NAME)
            .build()
            .await
            .unwrap()
    });
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let (tell, told) = mpsc::channel();
    let tell = move |presence| {
        let _ = tell.send(presence);
    };
    let settings = Settings { idle_delay: Duration::from_secs(1), ..Settings::default() };
    let source = Display::new(vec![Box::new(Gnome::new(Some(daemon.address.clone())))]);
    let watcher = Watcher::with(vec![Box::new(source)], &settings, freezers, tell).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Idle));
    assert!(!freezer.is_frozen());
    let watch =
        monitor.armed.lock().unwrap().take().expect("armed before anybody is told that nobody is there");
    runtime.block_on(connection.emit_signal(None::<&str>, PATH, NAME, "WatchFired", &watch)).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Active));
    assert!(freezer.is_frozen());
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Idle));
    daemon.kill();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Unknown));
    assert!(freezer.is_frozen());
    assert!(watcher.status().rests[0].sentence(std::time::Instant::now()).contains("GNOME"));
}
