//! Which sources are watched.

use super::display::Display;
use super::{
    Gnome, Logind, Machine, PowerManagement, SessionManager, Settings, Source, Terminals, Wayland, X11,
};
use crate::core::People;
use crate::freezers::Freezers;

/// What the settings ask for.
pub(super) fn choose(settings: &Settings, freezers: &Freezers) -> Vec<Box<dyn Source>> {
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    if settings.people == People::Watched {
        sources.push(Box::new(Display::new(displays(settings))));
        sources.push(Box::new(Terminals::new(settings.places.dev.clone())));
    }
    if let Some(logind) = Logind::of(settings) {
        sources.push(Box::new(logind));
    }
    if let Some(manager) = SessionManager::of(settings) {
        sources.push(Box::new(manager));
    }
    if let Some(manager) = PowerManagement::of(settings) {
        sources.push(Box::new(manager));
    }
    if let Some(machine) = Machine::of(settings, freezers) {
        sources.push(Box::new(machine));
    }
    sources
}

/// What can see a person at the display, the best first.
fn displays(settings: &Settings) -> Vec<Box<dyn Source>> {
    let places = &settings.places;
    let mut displays: Vec<Box<dyn Source>> = Vec::new();
    // An X server beside a Wayland compositor sees a part of the input only.
    if !places.is_wayland() {
        displays.push(Box::new(X11::new(places.display.clone()).inhibited(settings.inhibited)));
    }
    displays.push(Box::new(Gnome::new(places.session_bus.clone())));
    if places.is_wayland() {
        displays.push(Box::new(Wayland::new(places.wayland_socket())));
    }
    displays
}

#[cfg(test)]
mod tests {
    use super::super::Places;
    use super::*;

    fn names(places: Places) -> Vec<&'static str> {
        let settings = Settings { places, ..Settings::default() };
        displays(&settings).iter().map(|source| source.name()).collect()
    }

    #[test]
    fn an_x_server_is_never_asked_where_a_wayland_compositor_has_the_input() {
        let places = |wayland_display: Option<&str>, session_type: Option<&str>| Places {
            display: Some(":0".to_owned()),
            wayland_display: wayland_display.map(str::to_owned),
            session_type: session_type.map(str::to_owned),
            ..Places::default()
        };
        for (wayland_display, session_type) in [
            (Some("wayland-0"), None),
            (Some("wayland-1"), Some("x11")),
            (None, Some("wayland")),
            (Some("/run/user/1000/wayland-0"), Some("wayland")),
        ] {
            assert_eq!(names(places(wayland_display, session_type)), ["GNOME", "Wayland"]);
        }
        for session_type in [None, Some("x11"), Some("tty")] {
            assert_eq!(names(places(None, session_type)), ["X11", "GNOME"]);
        }
    }
}
