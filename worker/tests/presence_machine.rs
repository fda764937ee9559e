//! Conditions of the machine, and pauses by hand, through a whole watcher of a dedicated machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use chrono::{Datelike as _, Local};
use lull_worker::core::{Presence, Rest, Sighting};
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Machine, Places, Policy, Settings, Source as _, Watcher};

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

#[test]
fn others_that_want_the_processor_or_the_memory_are_a_reason_to_rest() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("self")).unwrap();
    write("self/stat", "1 (lull-worker) S 1 1 1 0 -1 0 0 0 0 0 100 0 0 0 20 0 1 0 0");
    write("meminfo", "MemAvailable: 2048 kB\n");
    let settings = Settings {
        cpu_wanted_percent: Some(25),
        memory_free_bytes_min: Some(1 << 20),
        places: Places { proc: folder.path().to_owned(), ..Places::default() },
        ..Settings::dedicated()
    };
    let mut machine = Machine::of(&settings, &Freezers::new()).unwrap();
    write("stat", "cpu  1000 0 0 1000 0 0 0 0\n");
    assert_eq!(machine.next(None), Sighting::Rests(Vec::new()));
    write("stat", "cpu  1060 0 0 1040 0 0 0 0\n");
    write("meminfo", "MemAvailable: 1023 kB\n");
    let rests = vec![Rest::CpuWanted { percent: 60 }, Rest::MemoryShort { available_bytes: 1023 << 10 }];
    assert_eq!(machine.next(None), Sighting::Rests(rests));
}

#[test]
fn outside_its_hours_a_machine_rests() {
    // Never the day on which this runs, nor the one after, should it run at midnight.
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let day = DAYS[(Local::now().weekday().num_days_from_monday() as usize + 3) % 7];
    let rests = |hours: &str| {
        let settings = Settings { schedule: Some(hours.parse().unwrap()), ..Settings::dedicated() };
        Machine::of(&settings, &Freezers::new()).unwrap().next(None)
    };
    assert_eq!(rests(day), Sighting::Rests(vec![Rest::OutsideSchedule { schedule: day.to_owned() }]));
    assert_eq!(rests("Mon-Sun"), Sighting::Rests(Vec::new()));
}
