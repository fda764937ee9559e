//! What counts as a reason to rest, and where it is read.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::core::{People, Schedule};

/// What to do while something that the owner may or may not mind is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Guests run all the same.
    Run,
    /// No guest runs.
    Rest,
}

/// On which networks modules, inputs and results are sent, and work is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transfers {
    /// On any.
    Any,
    /// Not on one that costs by the byte. One of which nobody says so costs nothing.
    Unmetered,
}

/// Between which networks the owner chooses, by the names that they have on this PC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Networks {
    /// All are as good.
    Any,
    /// Only these: on others it is as if sending cost. So it is while nobody can say which one this is.
    Only(Vec<String>),
}

impl Networks {
    /// Whether the network of that name is one of them.
    #[must_use]
    pub fn have(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.iter().any(|known| known == name),
        }
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) {
            return Err(
                "write names of networks with commas between, like `Office, Home 5G`, or any".to_owned()
            );
        }
        Ok(if names == ["any"] { Self::Any } else { Self::Only(names) })
    }
}

/// What counts as a reason to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether a person is watched for at all.
    pub people: People,
    /// Time without input after which nobody counts as there.
    pub idle_delay: Duration,
    /// While the PC runs on its battery.
    pub on_battery: Policy,
    /// While a program asks that the PC is not taken for idle (a film, a call).
    pub inhibited: Policy,
    /// While a session from elsewhere is busy.
    pub remote_sessions: Policy,
    /// While another user's session is busy.
    pub other_sessions: Policy,
    /// Rest while other programs take more than this, in percent of all cores; `None`: never for that.
    pub cpu_wanted_percent: Option<u32>,
    /// Rest while less memory is available, in bytes; `None`: never for that.
    pub memory_free_bytes_min: Option<u64>,
    /// Run only then; `None`: at any time.
    pub schedule: Option<Schedule>,
    /// On which networks modules, inputs and results are sent.
    pub transfers: Transfers,
    /// And on which of them, by name.
    pub networks: Networks,
    /// Runners frozen for longer give their memory back; `None`: they keep it.
    pub evict_after: Option<Duration>,
    /// Where all of it is read.
    pub places: Places,
}

/// Runners frozen for longer give their memory back.
const EVICT_AFTER: Duration = Duration::from_secs(600);
/// Below this the system would soon push the owner's programs out of memory.
const MEMORY_FREE_BYTES_MIN: u64 = 512 * 1024 * 1024;
/// Of all cores: enough for the chores of a desktop that nobody uses.
const CPU_WANTED_PERCENT: u32 = 25;

impl Default for Settings {
    /// An office PC's.
    fn default() -> Self {
        Self {
            people: People::Watched,
            idle_delay: Duration::from_secs(60),
            on_battery: Policy::Rest,
            inhibited: Policy::Rest,
            remote_sessions: Policy::Rest,
            other_sessions: Policy::Rest,
            cpu_wanted_percent: Some(CPU_WANTED_PERCENT),
            memory_free_bytes_min: Some(MEMORY_FREE_BYTES_MIN),
            schedule: None,
            transfers: Transfers::Unmetered,
            networks: Networks::Any,
            evict_after: Some(EVICT_AFTER),
            places: Places::default(),
        }
    }
}

impl Settings {
    /// A machine at which nobody sits: guests run at any time, until something is set or it is paused by hand.
    #[must_use]
    pub fn dedicated() -> Self {
        Self {
            people: People::Nobody,
            on_battery: Policy::Run,
            inhibited: Policy::Run,
            remote_sessions: Policy::Run,
            other_sessions: Policy::Run,
            cpu_wanted_percent: None,
            memory_free_bytes_min: None,
            transfers: Transfers::Any,
            ..Self::default()
        }
    }
}

/// Where presence is read: by default, where this process's environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// X11 display, like `:0`.
    pub display: Option<String>,
    /// Wayland display: a name in `runtime_dir`, or a path.
    pub wayland_display: Option<String>,
    /// What the session says it is, like `wayland`.
    pub session_type: Option<String>,
    /// Where the user's sockets are.
    pub runtime_dir: Option<PathBuf>,
    /// D-Bus address of the user's session.
    pub session_bus: Option<String>,
    /// D-Bus address of the machine.
    pub system_bus: String,
    /// Where the system's devices are listed, usually `/sys`.
    pub sys: PathBuf,
    /// Where the system's figures are, usually `/proc`.
    pub proc: PathBuf,
    /// Where terminals are, usually `/dev`.
    pub dev: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        let of = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
        let runtime_dir = of("XDG_RUNTIME_DIR").map(PathBuf::from);
        let session_bus = of("DBUS_SESSION_BUS_ADDRESS").or_else(|| {
            let socket = runtime_dir.as_ref()?.join("bus");
            socket.exists().then(|| format!("unix:path={}", socket.display()))
        });
        Self {
            display: of("DISPLAY"),
            wayland_display: of("WAYLAND_DISPLAY"),
            session_type: of("XDG_SESSION_TYPE"),
            runtime_dir,
            session_bus,
            system_bus: of("DBUS_SYSTEM_BUS_ADDRESS")
                .unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned()),
            sys: PathBuf::from("/sys"),
            proc: PathBuf::from("/proc"),
            dev: PathBuf::from("/dev"),
        }
    }
}

impl Places {
    /// Whether a Wayland compositor has the input. An X server beside it sees a part of it only.
    #[must_use]
    pub fn is_wayland(&self) -> bool {
        self.wayland_display.is_some() || self.session_type.as_deref() == Some("wayland")
    }
    /// The compositor's socket.
    #[must_use]
    pub fn wayland_socket(&self) -> Option<PathBuf> {
        // The name that a session's first compositor takes.
        let name = self.wayland_display.as_deref().unwrap_or("wayland-0");
        if name.starts_with('/') {
            Some(PathBuf::from(name))
        } else {
            Some(self.runtime_dir.as_ref()?.join(name))
        }
    }
}
