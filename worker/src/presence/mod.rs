//! Is somebody using this PC, or is there another reason to rest?
//!
//! A [`Source`] sees; the core's gate judges; the [`Watcher`] freezes and thaws every runner itself, before it tells
//! anybody. What cannot be read counts as a person.

mod bus;
mod display;
mod gnome;
mod logind;
mod machine;
mod network;
mod poll;
mod session_manager;
mod settings;
mod sources;
mod terminals;
mod watcher;
mod wayland;
mod x11;

use std::time::Instant;

use crate::core::{Kind, Sighting};

pub use display::Display;
pub use gnome::Gnome;
pub use logind::Logind;
pub use machine::Machine;
pub use network::Meter;
pub use session_manager::SessionManager;
pub use settings::{Places, Policy, Settings, Transfers};
pub use terminals::Terminals;
pub use watcher::{SourceStatus, Status, Watcher};
pub use wayland::Wayland;
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
