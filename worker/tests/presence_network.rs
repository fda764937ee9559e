//! A metered network, as NetworkManager tells of it on a real, private bus. NetworkManager is a stand-in: it is not ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::mpsc;

use common::{Bus, DEADLINE};
use lull_worker::core::Network;
use lull_worker::presence::{Meter, Networks, Places, Settings, Transfers};
use zbus::OwnedObjectPath;

const PATH: &str = "/org/freedesktop/NetworkManager";

const CONNECTION: &str = "/org/freedesktop/NetworkManager/ActiveConnection/1";

struct NetworkManager(u32);

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.0
    }
    #[zbus(property)]
    fn primary_connection(&self) -> OwnedObjectPath {
        OwnedObjectPath::try_from(CONNECTION.to_owned()).unwrap()
    }
}

struct Connection(&'static str);

#[zbus::interface(name = "org.freedesktop.NetworkManager.Connection.Active")]
impl Connection {
    #[zbus(property)]
    fn id(&self) -> &'static str {
        self.0
    }
}

fn settings(system_bus: &str) -> Settings {
    Settings {
        places: Places { system_bus: system_bus.to_owned(), ..Places::default() },
        ..Settings::default()
    }
}

#[test]
fn networkmanager_says_what_costs_and_keeps_its_last_word() {
    let mut bus = Bus::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let connection = runtime.block_on(async {
        zbus::connection::Builder::address(bus.address.as_str())
            .serve_at(PATH, NetworkManager(1))
            .name("org.freedesktop.NetworkManager")
            .build()
            .await
            .unwrap()
    });
    let (tell, told) = mpsc::channel();
    let meter = Meter::watch(&settings(&bus.address), move |network| {
        let _ = tell.send(network);
    })
    .unwrap();
    let set = |metered| {
        runtime.block_on(async {
            let manager = connection.object_server().interface::<_, NetworkManager>(PATH).await.unwrap();
            manager.get_mut().await.0 = metered;
            manager.get().await.metered_changed(manager.signal_emitter()).await.unwrap();
        });
    };
    let next = || told.recv_timeout(DEADLINE);
    assert_eq!(next(), Ok(Network::Metered));
    assert!(meter.is_metered() && meter.detail().contains("metered"));
    for (metered, wanted) in
        [(4, Network::Free), (3, Network::Metered), (0, Network::Free), (1, Network::Metered)]
    {
        set(metered);
        assert_eq!(next(), Ok(wanted), "{metered}");
    }
    bus.kill();
    let start = std::time::Instant::now();
    while !meter.detail().contains("cannot be asked") {
        assert!(start.elapsed() < DEADLINE, "{}", meter.detail());
        std::thread::yield_now();
    }
    assert!(meter.is_metered(), "it was when it was known last: {}", meter.detail());
}

#[test]
fn where_nobody_says_so_nothing_costs() {
    let bus = Bus::start();
    for address in [bus.address.as_str(), "unix:path=/nowhere/bus"] {
        let (tell, told) = mpsc::channel();
        let meter = Meter::watch(&settings(address), move |network| {
            let _ = tell.send(network);
        })
        .unwrap();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(Network::Free));
        assert!(meter.detail().contains("there is none"), "{}", meter.detail());
    }
    assert!(!Meter::unwatched().is_metered());
}

#[test]
fn only_networks_that_were_chosen_are_used() {
    let bus = Bus::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let check = |names: &str, transfers, wanted, detail: &str| {
        let (tell, told) = mpsc::channel();
        let networks: Networks = names.parse().unwrap();
        let meter =
            Meter::watch(&Settings { networks, transfers, ..settings(&bus.address) }, move |network| {
                let _ = tell.send(network);
            })
            .unwrap();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(wanted), "{names}");
        assert!(meter.detail().contains(detail), "{names}: {}", meter.detail());
    };
    check("Office", Transfers::Any, Network::Metered, "there is none");
    let _connection = runtime.block_on(async {
        zbus::connection::Builder::address(bus.address.as_str())
            .serve_at(PATH, NetworkManager(1))
            .serve_at(CONNECTION, Connection("Home 5G"))
            .name("org.freedesktop.NetworkManager")
            .build()
            .await
            .unwrap()
    });
    check("Office", Transfers::Any, Network::Metered, "none of those chosen");
    check("Office, Home 5G", Transfers::Any, Network::Free, "may be used");
    check("Home 5G", Transfers::Unmetered, Network::Metered, "metered");
}
