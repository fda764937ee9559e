//! Presence at an X11 display: raw input events of every device, an alarm for what moves the pointer without a device, and
//! the screen saver's idle counter.

use std::time::{Duration, Instant};

use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::randr::{self, ConnectionExt as _};
use x11rb::protocol::screensaver::ConnectionExt as _;
use x11rb::protocol::sync::{self, ConnectionExt as _};
use x11rb::protocol::xinput::{self, ConnectionExt as _, XIEventMask};
use x11rb::protocol::xproto::ConnectionExt as _;
use x11rb::protocol::{Event, screensaver};
use x11rb::rust_connection::RustConnection;

use super::poll::is_readable;
use super::{Policy, Source};
use crate::core::{Kind, Sighting};

/// XInput 2.2: raw events, also while something grabs the devices (2.1), and of touch (2.2).
const XINPUT_VERSION: (u16, u16) = (2, 2);

/// What counts as input.
const RAW_EVENTS: [XIEventMask; 8] = [
    XIEventMask::RAW_KEY_PRESS,
    XIEventMask::RAW_KEY_RELEASE,
    XIEventMask::RAW_BUTTON_PRESS,
    XIEventMask::RAW_BUTTON_RELEASE,
    XIEventMask::RAW_MOTION,
    XIEventMask::RAW_TOUCH_BEGIN,
    XIEventMask::RAW_TOUCH_UPDATE,
    XIEventMask::RAW_TOUCH_END,
];

/// An X11 display, connected to when it is there.
#[derive(Debug)]
pub struct X11 {
    /// `None` is what `DISPLAY` says.
    display: Option<String>,
    inhibited: Policy,
    connection: Option<RustConnection>,
}

/// SYNC 3.0: alarms.
const SYNC_VERSION: (u8, u8) = (3, 0);

/// The counter of the SYNC extension that says for how long there has been no input, in milliseconds.
const IDLE_COUNTER: &[u8] = b"IDLETIME";

/// Milliseconds of idleness that an alarm notices the end of: no guest runs before, as no idle delay is shorter.
const IDLE_ALARM_MILLIS: u32 = 1000;

/// A screen saver that comes later than this after its time does not come.
const SAVER_LATE: Duration = Duration::from_secs(1);

/// How an X server inside a Wayland compositor is known: by an extension of that name, since Xwayland 23.1, or by outputs whose
/// names begin with it.
const XWAYLAND: &str = "XWAYLAND";

/// RandR 1.3: its outputs can be listed without asking the hardware.
const RANDR_VERSION: (u32, u32) = (1, 3);

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl X11 {
    /// The display with that name, or the one that `DISPLAY` names.
    #[must_use]
    pub const fn new(display: Option<String>) -> Self {
        Self { display, inhibited: Policy::Rest, connection: None }
    }

    /// What to do while a program has suspended the screen saver, as players do.
    #[must_use]
    pub fn inhibited(self, policy: Policy) -> Self {
        Self { inhibited: policy, ..self }
    }

    fn connect(&self) -> Result<(RustConnection, Sighting), Failure> {
        let (connection, _) = x11rb::connect(self.display.as_deref())?;
        let has_extension = connection.extension_information(XWAYLAND)?.is_some();
        if is_xwayland(has_extension, &outputs(&connection)?) {
            return Err("it is Xwayland, which sees a part of the input only: start the agent with WAYLAND_DISPLAY set".into());
        }
        for extension in [xinput::X11_EXTENSION_NAME, screensaver::X11_EXTENSION_NAME] {
            if connection.extension_information(extension)?.is_none() {
                return Err(format!("the display has no {extension} extension").into());
            }
        }
        let (major, minor) = XINPUT_VERSION;
        let version = connection.xinput_xi_query_version(major, minor)?.reply()?;
        if (version.major_version, version.minor_version) < XINPUT_VERSION {
            return Err(format!(
                "the display speaks XInput {}.{}, {major}.{minor} is needed",
                version.major_version, version.minor_version
            )
            .into());
        }
        let mask = RAW_EVENTS.into_iter().fold(XIEventMask::from(0u32), |mask, event| mask | event);
        let masks = [xinput::EventMask { deviceid: xinput::Device::ALL_MASTER.into(), mask: vec![mask] }];
        for screen in &connection.setup().roots {
            connection.xinput_xi_select_events(screen.root, &masks)?.check()?;
        }
        watch_idleness(&connection)?;
        let sighting = sighting(&connection, self.inhibited)?;
        Ok((connection, sighting))
    }

    fn look(&mut self, until: Option<Instant>) -> Result<Sighting, Failure> {
        let Some(connection) = &self.connection else {
            let (connection, sighting) = self.connect()?;
            self.connection = Some(connection);
            return Ok(sighting);
        };
        loop {
            let mut has_input = false;
            while let Some(event) = connection.poll_for_event()? {
                has_input |= is_input(&event);
            }
            if has_input {
                return Ok(Sighting::Input);
            }
            connection.flush()?;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return sighting(connection, self.inhibited);
            }
            is_readable(connection.stream(), left)?;
        }
    }
}

impl Source for X11 {
    fn name(&self) -> &'static str {
        "X11"
    }

    fn kind(&self) -> Kind {
        Kind::Display
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        self.look(until).unwrap_or_else(|error| {
            self.connection = None;
            let display = self.display.clone().or_else(|| std::env::var("DISPLAY").ok());
            Sighting::Lost(match display {
                Some(display) => format!("display {display}: {error}"),
                None => "DISPLAY names no display".to_owned(),
            })
        })
    }
}

/// Whether an X server is a guest of a Wayland compositor: it is told only of input to its own windows, so its idle counter
/// goes on while somebody types elsewhere.
fn is_xwayland(has_extension: bool, outputs: &[Vec<u8>]) -> bool {
    has_extension || outputs.iter().any(|name| name.starts_with(XWAYLAND.as_bytes()))
}

/// The names of the display's outputs; none where it cannot tell.
fn outputs(connection: &RustConnection) -> Result<Vec<Vec<u8>>, Failure> {
    if connection.extension_information(randr::X11_EXTENSION_NAME)?.is_none() {
        return Ok(Vec::new());
    }
    let version = connection.randr_query_version(RANDR_VERSION.0, RANDR_VERSION.1)?.reply()?;
    if (version.major_version, version.minor_version) < RANDR_VERSION {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for screen in &connection.setup().roots {
        let resources = connection.randr_get_screen_resources_current(screen.root)?.reply()?;
        for output in resources.outputs {
            names.push(connection.randr_get_output_info(output, resources.config_timestamp)?.reply()?.name);
        }
    }
    Ok(names)
}

/// Asks for an event when idleness ends. A pointer that a program warps makes no raw event, and ends it all the same. A
/// display that cannot tell is looked at now and then, as every other.
fn watch_idleness(connection: &RustConnection) -> Result<(), Failure> {
    if connection.extension_information(sync::X11_EXTENSION_NAME)?.is_none() {
        return Ok(());
    }
    connection.sync_initialize(SYNC_VERSION.0, SYNC_VERSION.1)?.reply()?;
    let counters = connection.sync_list_system_counters()?.reply()?.counters;
    let Some(idle) = counters.into_iter().find(|counter| counter.name == IDLE_COUNTER) else { return Ok(()) };
    let millis = |lo| sync::Int64 { hi: 0, lo };
    let alarm = sync::CreateAlarmAux::new()
        .counter(idle.counter)
        .value_type(sync::VALUETYPE::ABSOLUTE)
        .value(millis(IDLE_ALARM_MILLIS))
        .test_type(sync::TESTTYPE::NEGATIVE_TRANSITION)
        // It stays as it is once it has gone off.
        .delta(millis(0))
        .events(1);
    connection.sync_create_alarm(connection.generate_id()?, &alarm)?.check()?;
    Ok(())
}

const fn is_input(event: &Event) -> bool {
    matches!(
        event,
        Event::XinputRawKeyPress(_)
            | Event::XinputRawKeyRelease(_)
            | Event::XinputRawButtonPress(_)
            | Event::XinputRawButtonRelease(_)
            | Event::XinputRawMotion(_)
            | Event::XinputRawTouchBegin(_)
            | Event::XinputRawTouchUpdate(_)
            | Event::XinputRawTouchEnd(_)
            | Event::SyncAlarmNotify(_)
    )
}

/// What the display's counter says. A screen saver that should have come and has not, though it is switched on, was
/// suspended (or is put off again and again): a film.
fn sighting(connection: &RustConnection, inhibited: Policy) -> Result<Sighting, Failure> {
    let root = connection.setup().roots.first().ok_or("the display has no screen")?.root;
    let saver = connection.get_screen_saver()?.reply()?;
    let info = connection.screensaver_query_info(root)?.reply()?;
    let last_input = Duration::from_millis(info.ms_since_user_input.into());
    let due = Duration::from_secs(saver.timeout.into());
    let is_suspended = info.state == u8::from(screensaver::State::OFF)
        && !due.is_zero()
        && info.ms_until_server == 0
        && last_input > due + SAVER_LATE;
    Ok(if is_suspended && inhibited == Policy::Rest {
        Sighting::InUse
    } else {
        Sighting::LastInput(last_input)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_x_server_inside_a_wayland_compositor_is_known() {
        let check = |has_extension, outputs: &[&str], expected: bool| {
            let names: Vec<Vec<u8>> = outputs.iter().map(|name| name.as_bytes().to_vec()).collect();
            assert_eq!(is_xwayland(has_extension, &names), expected, "{has_extension} {outputs:?}");
        };
        check(false, &[], false);
        check(false, &["HDMI-1", "eDP-1", "screen"], false);
        check(false, &["XWAYLAND0"], true);
        check(false, &["HDMI-1", "XWAYLAND1"], true);
        // Newer ones name their outputs as the compositor does.
        check(true, &["eDP-1"], true);
    }
}
