//! Conditions of the machine, and pauses by hand, through a whole watcher of a dedicated machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use lull_worker::core::{Presence, Rest};
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Places, Policy, Settings, Watcher};

const DEADLINE: Duration = Duration::from_secs(60);

fn start(settings: Settings, freezers: &Freezers) -> (Watcher, Receiver<Presence>) {
    let (tell, told) = mpsc::channel();
    let tell = move |presence| {
        let _ = tell.send(presence);
    };
    (Watcher::start(settings, freezers.clone(), tell).unwrap(), told)
}

#[test]
fn a_pause_freezes_before_it_returns_and_a_resume_ends_it() {
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let (watcher, told) = start(Settings::dedicated(), &freezers);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Dedicated));
    assert!(!freezer.is_frozen());
    let until = Instant::now() + DEADLINE;
    watcher.pause(until);
    assert!(freezer.is_frozen());
    assert_eq!(watcher.status().rests, [Rest::Paused { until }]);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Active));
    watcher.resume();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Dedicated));
    assert!(!freezer.is_frozen() && watcher.status().rests.is_empty());
}

#[test]
fn a_battery_that_is_used_up_rests_and_a_plug_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let supplies = folder.path().join("class/power_supply");
    for name in ["BAT0", "AC"] {
        fs::create_dir_all(supplies.join(name)).unwrap();
    }
    fs::write(supplies.join("BAT0/uevent"), "POWER_SUPPLY_TYPE=Battery\nPOWER_SUPPLY_STATUS=Discharging\n")
        .unwrap();
    fs::write(supplies.join("AC/uevent"), "POWER_SUPPLY_TYPE=Mains\nPOWER_SUPPLY_ONLINE=0\n").unwrap();
    let settings = Settings {
        on_battery: Policy::Rest,
        places: Places { sys: folder.path().to_owned(), ..Places::default() },
        ..Settings::dedicated()
    };
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let (watcher, told) = start(settings.clone(), &freezers);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Active));
    assert_eq!(watcher.status().rests, [Rest::OnBattery]);
    assert!(freezer.is_frozen());
    fs::write(supplies.join("AC/uevent"), "POWER_SUPPLY_TYPE=Mains\nPOWER_SUPPLY_ONLINE=1\n").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Dedicated));
    assert!(!freezer.is_frozen());
}

#[test]
fn figures_that_cannot_be_read_count_as_a_reason_to_rest() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        memory_free_bytes_min: Some(1),
        places: Places { proc: folder.path().to_owned(), ..Places::default() },
        ..Settings::dedicated()
    };
    let freezers = Freezers::new();
    let (watcher, told) = start(settings, &freezers);
    // It starts as unknown, and that is what it stays: nothing new is told until it can be read.
    fs::write(folder.path().join("meminfo"), "MemAvailable: 1 kB\n").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Dedicated));
    fs::write(folder.path().join("meminfo"), "nothing\n").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Presence::Unknown));
    let status = watcher.status();
    assert!(matches!(status.rests.as_slice(), [Rest::Unknown { reason }] if reason.contains("MemAvailable")));
    assert!(!status.sources[0].is_readable);
}
