//! What the tests of presence share: a private bus, and a watcher that tells.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use lull_worker::core::Presence;
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Settings, Source, Watcher};

/// Longer than anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A D-Bus daemon of its own.
pub(crate) struct Bus {
    process: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Bus {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let mut process = Command::new("dbus-daemon")
            .args(["--session", "--print-address", "--nofork"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("dbus-daemon cannot be started ({error}): sudo apt install dbus"));
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned() }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Watches these sources.
pub(crate) fn watch(
    sources: Vec<Box<dyn Source>>,
    settings: &Settings,
    freezers: &Freezers,
) -> (Watcher, Receiver<Presence>) {
    let (tell, told) = mpsc::channel();
    let tell = move |presence| {
        let _ = tell.send(presence);
    };
    (Watcher::with(sources, settings, freezers.clone(), tell).unwrap(), told)
}

/// The next presence that is told.
pub(crate) fn next(told: &Receiver<Presence>) -> Presence {
    told.recv_timeout(DEADLINE).expect("presence changes in time")
}
