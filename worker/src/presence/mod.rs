//! Is somebody using this PC, or is there another reason to rest?
//!
//! A [`Source`] sees; the core's gate judges; the [`Watcher`] freezes and thaws every runner itself, before it tells
//! anybody. What cannot be read counts as a person.

#[cfg(unix)]
mod bus;
mod display;
#[cfg(unix)]
mod gnome;
#[cfg(unix)]
mod logind;
#[cfg_attr(windows, path = "machine_windows.rs")]
mod machine;
#[cfg_attr(windows, path = "network_windows.rs")]
mod network;
#[cfg(unix)]
mod poll;
#[cfg(unix)]
mod session_manager;
mod settings;
#[cfg_attr(windows, path = "sources_windows.rs")]
mod sources;
#[cfg(unix)]
mod terminals;
mod watcher;
#[cfg(unix)]
mod wayland;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
mod x11;

use std::time::Instant;

use crate::core::{Kind, Sighting};

pub use display::Display;
#[cfg(unix)]
pub use gnome::Gnome;
#[cfg(unix)]
pub use logind::Logind;
pub use machine::Machine;
pub use network::Meter;
#[cfg(unix)]
pub use session_manager::SessionManager;
pub use settings::{Places, Policy, Settings, Transfers};
#[cfg(unix)]
pub use terminals::Terminals;
pub use watcher::{SourceStatus, Status, Watcher};
#[cfg(unix)]
pub use wayland::Wayland;
#[cfg(windows)]
pub use windows::Session;
#[cfg(unix)]
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
