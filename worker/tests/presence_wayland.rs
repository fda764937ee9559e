//! Presence at a compositor that speaks `ext-idle-notify-v1` over a real socket. The compositor is a stand-in that
//! says what it is told to say: compositors are not ours.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{next, watch};
use lull_worker::core::{Presence, Sighting};
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Display as Watched, Settings, Source as _, Wayland};
use rustix::event::{PollFd, PollFlags, poll};
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notification_v1::{
    self, ExtIdleNotificationV1,
};
use wayland_protocols::ext::idle_notify::v1::server::ext_idle_notifier_v1::{self, ExtIdleNotifierV1};
use wayland_server::protocol::wl_seat::{self, WlSeat};
use wayland_server::{
    Client, DataInit, Dispatch, Display, DisplayHandle, GlobalDispatch, ListeningSocket, New,
};

/// A compositor on a thread of its own.
struct Compositor {
    orders: UnixStream,
    thread: Option<JoinHandle<()>>,
}

const IDLE: u8 = b'i';
const INPUT: u8 = b'a';

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    IdleNotify,
    Nothing,
}

impl Compositor {
    fn start(socket: &Path, speaks: Speaks) -> Self {
        let listener = ListeningSocket::bind_absolute(socket.to_owned()).unwrap();
        let (orders, mut ordered) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut display = Display::<State>::new().unwrap();
            let mut handle = display.handle();
            handle.create_global::<State, WlSeat, ()>(1, ());
            if speaks == Speaks::IdleNotify {
                handle.create_global::<State, ExtIdleNotifierV1, ()>(1, ());
            }
            let mut state = State { is_idle: true, notifications: Vec::new() };
            loop {
                display.flush_clients().unwrap();
                let is_ordered = {
                    let backend = display.backend();
                    let fds = [listener.as_fd(), backend.poll_fd(), ordered.as_fd()];
                    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    poll(&mut fds, None).unwrap();
                    !fds[2].revents().is_empty()
                };
                if let Some(stream) = listener.accept().unwrap() {
                    handle.insert_client(stream, Arc::new(())).unwrap();
                }
                display.dispatch_clients(&mut state).unwrap();
                if is_ordered {
                    let mut order = [0];
                    if ordered.read(&mut order).unwrap() == 0 {
                        return;
                    }
                    state.is_idle = order[0] == IDLE;
                    state.notifications.iter().for_each(|notification| state.say(notification));
                }
            }
        });
        Self { orders, thread: Some(thread) }
    }

    fn say(&mut self, order: u8) {
        self.orders.write_all(&[order]).unwrap();
    }
}

impl Drop for Compositor {
    fn drop(&mut self) {
        let _ = self.orders.shutdown(std::net::Shutdown::Both);
        let _ = self.thread.take().unwrap().join();
    }
}

struct State {
    is_idle: bool,
    notifications: Vec<ExtIdleNotificationV1>,
}

impl State {
    fn say(&self, notification: &ExtIdleNotificationV1) {
        if self.is_idle { notification.idled() } else { notification.resumed() }
    }
}

impl GlobalDispatch<WlSeat, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        seat: New<WlSeat>,
        (): &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(seat, ());
    }
}

impl GlobalDispatch<ExtIdleNotifierV1, ()> for State {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        notifier: New<ExtIdleNotifierV1>,
        (): &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(notifier, ());
    }
}

impl Dispatch<WlSeat, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &WlSeat,
        _: wl_seat::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

impl Dispatch<ExtIdleNotifierV1, ()> for State {
    fn request(
        state: &mut Self,
        _: &Client,
        _: &ExtIdleNotifierV1,
        request: ext_idle_notifier_v1::Request,
        (): &(),
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let ext_idle_notifier_v1::Request::GetIdleNotification { id, .. } = request {
            let notification = init.init(id, ());
            if state.is_idle {
                state.say(&notification);
            }
            state.notifications.push(notification);
        }
    }
}

impl Dispatch<ExtIdleNotificationV1, ()> for State {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &ExtIdleNotificationV1,
        _: ext_idle_notification_v1::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
    }
}

#[test]
fn input_freezes_silence_thaws_and_a_compositor_that_dies_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("wayland-7");
    let mut compositor = Compositor::start(&socket, Speaks::IdleNotify);
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let settings = Settings { idle_delay: Duration::from_secs(1), ..Settings::default() };
    let source = Watched::new(vec![Box::new(Wayland::new(Some(socket.clone())))]);
    let (watcher, told) = watch(vec![Box::new(source)], &settings, &freezers);
    assert_eq!(next(&told), Presence::Idle);
    assert!(!freezer.is_frozen());
    compositor.say(INPUT);
    assert_eq!(next(&told), Presence::Active);
    assert!(freezer.is_frozen());
    compositor.say(IDLE);
    assert_eq!(next(&told), Presence::Idle);
    drop(compositor);
    assert_eq!(next(&told), Presence::Unknown);
    assert!(freezer.is_frozen());
    let why = watcher.status().rests[0].sentence(std::time::Instant::now());
    assert!(why.contains("wayland-7"), "{why}");
    let _compositor = Compositor::start(&socket, Speaks::IdleNotify);
    assert_eq!(next(&told), Presence::Idle, "another one at the same place is watched");
}

#[test]
fn a_compositor_without_the_protocol_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("wayland-0");
    let _compositor = Compositor::start(&socket, Speaks::Nothing);
    match Wayland::new(Some(socket)).next(None) {
        Sighting::Lost(reason) => assert!(reason.contains("ext-idle-notify-v1"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
