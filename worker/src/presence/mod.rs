//! Is somebody using this PC, or is there another reason to rest?
//!
//! A [`Source`] sees; the core's gate judges; the [`Watcher`] freezes and thaws every runner itself, before it tells
//! anybody. What cannot be read counts as a person.

#[cfg(target_os = "linux")]
mod bus;
mod display;
#[cfg(target_os = "linux")]
mod gnome;
#[cfg(not(target_os = "linux"))]
mod input;
#[cfg(target_os = "linux")]
mod logind;
#[cfg_attr(windows, path = "machine_windows.rs")]
#[cfg_attr(target_os = "macos", path = "machine_macos.rs")]
mod machine;
#[cfg_attr(not(target_os = "linux"), path = "network_unknown.rs")]
mod network;
#[cfg(target_os = "linux")]
mod poll;
#[cfg(target_os = "linux")]
mod power_management;
#[cfg(target_os = "linux")]
mod service;
#[cfg(target_os = "linux")]
mod session_manager;
#[cfg(windows)]
mod sessions;
mod settings;
#[cfg_attr(windows, path = "sources_windows.rs")]
#[cfg_attr(target_os = "macos", path = "sources_macos.rs")]
mod sources;
#[cfg(unix)]
mod terminals;
mod watcher;
#[cfg(target_os = "linux")]
mod wayland;
#[cfg(target_os = "linux")]
mod x11;

use std::thread;
use std::time::Instant;

use crate::core::{Kind, Sighting};

pub use display::Display;
#[cfg(target_os = "linux")]
pub use gnome::Gnome;
#[cfg(not(target_os = "linux"))]
pub use input::Input;
#[cfg(target_os = "linux")]
pub use logind::Logind;
pub use machine::Machine;
pub use network::Meter;
#[cfg(target_os = "linux")]
pub use power_management::PowerManagement;
#[cfg(target_os = "linux")]
pub use session_manager::SessionManager;
#[cfg(windows)]
pub use sessions::Sessions;
pub use settings::{Networks, Places, Policy, Settings, Transfers};
#[cfg(unix)]
pub use terminals::Terminals;
pub use watcher::{SourceStatus, Status, Watcher};
#[cfg(target_os = "linux")]
pub use wayland::Wayland;
#[cfg(target_os = "linux")]
pub use x11::X11;

/// Something that sees a person, or another reason to rest.
pub trait Source: Send {
    /// Its name, for the owner.
    fn name(&self) -> &'static str;

    /// What it is good for.
    fn kind(&self) -> Kind;

    /// The next thing seen. Waits for something to see, at most until `until`; then it looks for itself. With no
    /// `until` it looks at once if it could not be read before.
    fn next(&mut self, until: Option<Instant>) -> Sighting;
}

/// Waits for a source that nothing wakes.
fn wait_until(until: Option<Instant>) {
    while let Some(left) = until.map(|until| until.saturating_duration_since(Instant::now()))
        && !left.is_zero()
    {
        thread::park_timeout(left);
    }
}
