//! A metered network, as NetworkManager tells of it on a real, private bus. NetworkManager is a stand-in: it is not ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::mpsc;

use common::{Bus, DEADLINE};
use lull_worker::core::Network;
use lull_worker::presence::Meter;

const PATH: &str = "/org/freedesktop/NetworkManager";

struct NetworkManager(u32);

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.0
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
    let meter = Meter::watch(bus.address.clone(), move |network| {
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
        let meter = Meter::watch(address.to_owned(), move |network| {
            let _ = tell.send(network);
        })
        .unwrap();
        assert_eq!(told.recv_timeout(DEADLINE), Ok(Network::Free));
        assert!(meter.detail().contains("there is none"), "{}", meter.detail());
    }
    assert!(!Meter::unwatched().is_metered());
}
