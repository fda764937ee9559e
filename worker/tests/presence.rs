//! Presence at a real X server: Xvfb, with input that the XTEST extension makes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use lull_worker::core::{Kind, Presence, Sighting};
use lull_worker::freezers::Freezers;
use lull_worker::presence::{Display, Policy, Settings, Source, Watcher, X11};
use x11rb::connection::Connection as _;
use x11rb::protocol::screensaver::ConnectionExt as _;
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, Blanking, ConnectionExt as _, Exposures, KEY_PRESS_EVENT,
    KEY_RELEASE_EVENT, MOTION_NOTIFY_EVENT,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

const DEADLINE: Duration = Duration::from_secs(60);
const IDLE_DELAY: Duration = Duration::from_secs(1);

/// An X server without a screen.
struct Xvfb {
    process: Child,
    display: String,
}

impl Xvfb {
    fn start() -> Self {
        Self::start_at(None)
    }

    fn start_at(display: Option<&str>) -> Self {
        let mut process = Command::new("Xvfb")
            .args(display)
            .args(["-displayfd", "1", "-noreset", "-nolisten", "tcp", "-screen", "0", "640x480x24"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("Xvfb cannot be started ({error}): sudo apt install xvfb"));
        let mut number = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut number).unwrap();
        Self { process, display: format!(":{}", number.trim()) }
    }

    fn connect(&self) -> RustConnection {
        x11rb::connect(Some(&self.display)).unwrap().0
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn input(connection: &RustConnection, kind: u8, detail: u8) {
    let root = connection.setup().roots[0].root;
    connection.xtest_fake_input(kind, detail, 0, root, 5, 5, 0).unwrap().check().unwrap();
}

fn start(display: &str, freezers: &Freezers) -> Receiver<Presence> {
    let (tell, told) = mpsc::channel();
    let tell = move |presence| {
        let _ = tell.send(presence);
    };
    let display: Box<dyn Source> = Box::new(X11::new(Some(display.to_owned())));
    let settings = Settings { idle_delay: IDLE_DELAY, ..Settings::default() };
    Watcher::with(vec![Box::new(Display::new(vec![display]))], &settings, freezers.clone(), tell).unwrap();
    told
}

fn next(told: &Receiver<Presence>) -> Presence {
    told.recv_timeout(DEADLINE).expect("presence changes in time")
}

/// Waits for a presence, over others before it.
fn wait_for(told: &Receiver<Presence>, wanted: Presence) {
    while next(told) != wanted {}
}

#[test]
fn every_kind_of_input_freezes_and_silence_thaws() {
    let xvfb = Xvfb::start();
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let told = start(&xvfb.display, &freezers);
    let hands = xvfb.connect();
    let key = hands.setup().min_keycode + 30;
    // A key that stays down repeats, and so does the person: each is released.
    let kinds: [&[(u8, u8)]; 3] = [
        &[(MOTION_NOTIFY_EVENT, 0)],
        &[(KEY_PRESS_EVENT, key), (KEY_RELEASE_EVENT, key)],
        &[(BUTTON_PRESS_EVENT, 1), (BUTTON_RELEASE_EVENT, 1)],
    ];
    for events in kinds {
        wait_for(&told, Presence::Idle);
        assert!(!freezer.is_frozen(), "guests run while nobody is there");
        for (kind, detail) in events {
            input(&hands, *kind, *detail);
        }
        assert_eq!(next(&told), Presence::Active);
        assert!(freezer.is_frozen(), "frozen before anybody is told");
    }
    wait_for(&told, Presence::Idle);
}

#[test]
fn a_warped_pointer_is_an_event_too() {
    let xvfb = Xvfb::start();
    let hands = xvfb.connect();
    let root = hands.setup().roots[0].root;
    let mut source = X11::new(Some(xvfb.display.clone()));
    assert!(matches!(source.next(None), Sighting::LastInput(_)));
    for to in [100, 200] {
        // No guest would run before.
        while hands.screensaver_query_info(root).unwrap().reply().unwrap().ms_since_user_input < 1100 {
            std::thread::yield_now();
        }
        hands.warp_pointer(x11rb::NONE, root, 0, 0, 0, 0, to, to).unwrap().check().unwrap();
        // At the end of that time it would say when the last input was.
        assert_eq!(source.next(Some(Instant::now() + DEADLINE)), Sighting::Input);
    }
}

#[test]
fn input_is_seen_while_something_grabs_the_devices() {
    let xvfb = Xvfb::start();
    let freezers = Freezers::new();
    let told = start(&xvfb.display, &freezers);
    let locker = xvfb.connect();
    let root = locker.setup().roots[0].root;
    let grab = locker.grab_keyboard(false, root, 0u32, 1u8.into(), 1u8.into()).unwrap().reply().unwrap();
    assert_eq!(u8::from(grab.status), 0, "the keyboard is grabbed, as a screen lock does");
    wait_for(&told, Presence::Idle);
    input(&locker, KEY_PRESS_EVENT, locker.setup().min_keycode + 30);
    input(&locker, KEY_RELEASE_EVENT, locker.setup().min_keycode + 30);
    assert_eq!(next(&told), Presence::Active);
}

#[test]
fn a_display_that_goes_away_counts_as_a_person() {
    let mut xvfb = Xvfb::start();
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let told = start(&xvfb.display, &freezers);
    wait_for(&told, Presence::Idle);
    xvfb.kill();
    assert_eq!(next(&told), Presence::Unknown);
    assert!(freezer.is_frozen());
    let xvfb = Xvfb::start_at(Some(&xvfb.display));
    wait_for(&told, Presence::Idle);
    assert!(!freezer.is_frozen());
    input(&xvfb.connect(), MOTION_NOTIFY_EVENT, 0);
    assert_eq!(next(&told), Presence::Active, "another server on the same display is watched");
}

#[test]
fn a_suspended_screen_saver_counts_as_a_person() {
    let xvfb = Xvfb::start();
    let player = xvfb.connect();
    player.set_screen_saver(1, 0, Blanking::PREFERRED, Exposures::NOT_ALLOWED).unwrap().check().unwrap();
    player.screensaver_query_version(1, 1).unwrap().reply().unwrap();
    player.screensaver_suspend(1).unwrap().check().unwrap();
    let mut film = X11::new(Some(xvfb.display.clone()));
    let mut looked = film.next(None);
    let deadline = Instant::now() + DEADLINE;
    while looked != Sighting::InUse {
        assert!(matches!(looked, Sighting::LastInput(_)) && Instant::now() < deadline, "{looked:?}");
        looked = film.next(Some(Instant::now() + Duration::from_millis(50)));
    }
    let mut minds_not = X11::new(Some(xvfb.display.clone())).inhibited(Policy::Run);
    assert!(matches!(minds_not.next(None), Sighting::LastInput(_)));
    player.screensaver_suspend(0).unwrap().check().unwrap();
    while looked == Sighting::InUse {
        assert!(Instant::now() < deadline);
        looked = film.next(Some(Instant::now() + Duration::from_millis(50)));
    }
    // Its end sets the counter back, as input does.
    assert!(matches!(looked, Sighting::Input | Sighting::LastInput(_)), "{looked:?}");
}

#[test]
fn no_display_is_said_with_its_name() {
    let mut source = X11::new(Some(":4099".to_owned()));
    match source.next(None) {
        Sighting::Lost(reason) => assert!(reason.contains("display :4099"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_source_that_breaks_counts_as_a_person() {
    /// Says that nobody is there, and breaks when it is told to.
    struct Breaks(Option<Receiver<()>>, bool);
    impl Source for Breaks {
        fn name(&self) -> &'static str {
            "breaks"
        }
        fn kind(&self) -> Kind {
            Kind::Display
        }
        fn next(&mut self, _: Option<Instant>) -> Sighting {
            if std::mem::replace(&mut self.1, true) {
                self.0.take().unwrap().recv_timeout(DEADLINE).unwrap();
                panic!("broken");
            }
            Sighting::LastInput(DEADLINE)
        }
    }
    let freezers = Freezers::new();
    let freezer = freezers.add(1);
    let (tell, told) = mpsc::channel();
    let tell = move |presence| {
        let _ = tell.send(presence);
    };
    let settings = Settings { idle_delay: IDLE_DELAY, ..Settings::default() };
    // Not before it was heard that nobody is there: two things seen at once are told as one.
    let (break_now, breaks) = mpsc::channel();
    Watcher::with(vec![Box::new(Breaks(Some(breaks), false))], &settings, freezers, tell).unwrap();
    assert_eq!(next(&told), Presence::Idle);
    break_now.send(()).unwrap();
    assert_eq!(next(&told), Presence::Unknown);
    assert!(freezer.is_frozen());
}

#[test]
fn the_last_input_is_known_at_the_start() {
    let xvfb = Xvfb::start();
    input(&xvfb.connect(), MOTION_NOTIFY_EVENT, 0);
    let before = Instant::now();
    let mut source = X11::new(Some(xvfb.display.clone()));
    match source.next(None) {
        Sighting::LastInput(ago) => assert!(ago <= before.elapsed() + Duration::from_secs(1), "{ago:?}"),
        other => panic!("{other:?}"),
    }
}
