//! Presence at a Wayland compositor that speaks `ext-idle-notify-v1` (wlroots, KDE, COSMIC and others; GNOME has its
//! own monitor).
//!
//! The plain notification is asked for, which a film or a call holds up as input does: an inhibitor counts as a
//! person. The one of version 2 that looks at input only is not wanted here.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy as _, QueueHandle};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notification_v1::{
    self, ExtIdleNotificationV1,
};
use wayland_protocols::ext::idle_notify::v1::client::ext_idle_notifier_v1::{self, ExtIdleNotifierV1};

use super::Source;
use super::poll::is_readable;
use crate::core::{Kind, Sighting};

/// After so long without input the compositor says so; from the next input on it says that at once. Short, so that
/// little is unknown of how long ago the last input was.
const QUIET_AFTER: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A Wayland compositor, connected to when it is there.
pub struct Wayland {
    socket: Option<PathBuf>,
    open: Option<(Connection, EventQueue<Seats>, Seats)>,
}

impl Wayland {
    /// The compositor at that socket.
    #[must_use]
    pub const fn new(socket: Option<PathBuf>) -> Self {
        Self { socket, open: None }
    }

    fn connect(&mut self) -> Result<Sighting, Failure> {
        let path = self.socket.as_ref().ok_or("WAYLAND_DISPLAY names no compositor")?;
        let connection = Connection::from_socket(UnixStream::connect(path)?)?;
        let mut queue = connection.new_event_queue();
        let mut seats = Seats::default();
        connection.display().get_registry(&queue.handle(), ());
        // What there is; then what was asked for.
        queue.roundtrip(&mut seats)?;
        if seats.notifier.is_none() {
            return Err("it does not speak ext-idle-notify-v1".into());
        }
        queue.roundtrip(&mut seats)?;
        let sighting = seats.sighting(Instant::now())?;
        seats.news = None;
        self.open = Some((connection, queue, seats));
        Ok(sighting)
    }

    fn look(&mut self, until: Option<Instant>) -> Result<Sighting, Failure> {
        let Some((connection, queue, seats)) = &mut self.open else { return self.connect() };
        loop {
            queue.dispatch_pending(seats)?;
            if let Some(news) = seats.news() {
                return news;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                // That it answers shows that it still watches.
                queue.roundtrip(seats)?;
                return seats.news().unwrap_or_else(|| seats.sighting(Instant::now()));
            }
            queue.flush()?;
            if let Some(guard) = queue.prepare_read()
                && is_readable(connection, left)?
            {
                guard.read()?;
            }
        }
    }
}

impl Source for Wayland {
    fn name(&self) -> &'static str {
        "Wayland"
    }

    fn kind(&self) -> Kind {
        Kind::Display
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        self.look(until).unwrap_or_else(|error| {
            self.open = None;
            Sighting::Lost(match &self.socket {
                Some(socket) => format!("Wayland compositor {}: {error}", socket.display()),
                None => error.to_string(),
            })
        })
    }
}

/// What happened since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Input,
    Other,
}

struct Seat {
    seat: WlSeat,
    notification: Option<ExtIdleNotificationV1>,
    /// Since when nobody was there, at the latest; `None` while somebody is.
    quiet_since: Option<Instant>,
}

/// Every seat of the compositor: a person may sit at each.
#[derive(Default)]
struct Seats {
    notifier: Option<ExtIdleNotifierV1>,
    /// By their name in the registry.
    seats: BTreeMap<u32, Seat>,
    news: Option<News>,
}

impl Seats {
    fn news(&mut self) -> Option<Result<Sighting, Failure>> {
        match self.news.take()? {
            News::Input => Some(Ok(Sighting::Input)),
            News::Other => Some(self.sighting(Instant::now())),
        }
    }

    fn sighting(&self, now: Instant) -> Result<Sighting, Failure> {
        if self.seats.is_empty() {
            return Err("it has no seat".into());
        }
        let quiet: Option<Vec<Instant>> = self.seats.values().map(|seat| seat.quiet_since).collect();
        let since = quiet.and_then(|quiet| quiet.into_iter().max());
        Ok(since.map_or(Sighting::InUse, |since| Sighting::LastInput(now.saturating_duration_since(since))))
    }

    fn note(&mut self, news: News) {
        if self.news != Some(News::Input) {
            self.news = Some(news);
        }
    }

    /// Asks for notice of every seat of which it has not been asked.
    fn ask(&mut self, queue: &QueueHandle<Self>) {
        let Some(notifier) = &self.notifier else { return };
        let millis = u32::try_from(QUIET_AFTER.as_millis()).unwrap_or(u32::MAX);
        for (name, seat) in &mut self.seats {
            if seat.notification.is_none() {
                seat.notification = Some(notifier.get_idle_notification(millis, &seat.seat, queue, *name));
            }
        }
    }
}

impl Dispatch<WlRegistry, ()> for Seats {
    fn event(
        seats: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global { name, interface, .. } => {
                if interface == WlSeat::interface().name {
                    let seat = registry.bind(name, 1, queue, ());
                    seats.seats.insert(name, Seat { seat, notification: None, quiet_since: None });
                    seats.note(News::Other);
                } else if interface == ExtIdleNotifierV1::interface().name {
                    seats.notifier = Some(registry.bind(name, 1, queue, ()));
                }
                seats.ask(queue);
            }
            wl_registry::Event::GlobalRemove { name } => {
                if let Some(seat) = seats.seats.remove(&name) {
                    if let Some(notification) = seat.notification {
                        notification.destroy();
                    }
                    seats.note(News::Other);
                }
            }
            _ => {}
        }
    }
}

impl Dispatch<ExtIdleNotificationV1, u32> for Seats {
    fn event(
        seats: &mut Self,
        _: &ExtIdleNotificationV1,
        event: ext_idle_notification_v1::Event,
        name: &u32,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(seat) = seats.seats.get_mut(name) else { return };
        match event {
            ext_idle_notification_v1::Event::Idled => {
                let now = Instant::now();
                seat.quiet_since = Some(now.checked_sub(QUIET_AFTER).unwrap_or(now));
                seats.note(News::Other);
            }
            ext_idle_notification_v1::Event::Resumed => {
                seat.quiet_since = None;
                seats.note(News::Input);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlSeat, ()> for Seats {
    fn event(_: &mut Self, _: &WlSeat, _: wl_seat::Event, (): &(), _: &Connection, _: &QueueHandle<Self>) {}
}

impl Dispatch<ExtIdleNotifierV1, ()> for Seats {
    fn event(
        _: &mut Self,
        _: &ExtIdleNotifierV1,
        _: ext_idle_notifier_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}
