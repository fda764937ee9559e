//! A session bus of its own, and on it a desktop that keeps what it is told to show.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};

use anyhow::{Context, Result};
use zbus::OwnedVariant;

/// A bus that starts no service by itself: a desktop that is installed here must not answer in the place of ours.
const CONFIG: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A session bus. It ends when it is dropped.
pub struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no dbus-daemon.
    pub fn start() -> Result<Self> {
        let mut config = tempfile::NamedTempFile::new()?;
        config.write_all(CONFIG.as_bytes())?;
        let mut daemon = Command::new("dbus-daemon")
            .args(["--print-address", "--nofork", "--config-file"])
            .arg(config.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("dbus-daemon cannot be started: sudo apt-get install dbus-daemon")?;
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().context("a piped stdout")?).read_line(&mut address)?;
        Ok(Self { daemon, address: address.trim().to_owned() })
    }

    /// What `DBUS_SESSION_BUS_ADDRESS` has to be.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What was to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Who wants it shown.
    pub app: String,
    /// Its first line.
    pub summary: String,
    /// The rest.
    pub body: String,
}

/// A notification daemon without a screen: a stand-in for the desktop's, which is not ours.
pub struct Desktop {
    /// What it was told to show.
    pub shown: Receiver<Shown>,
    _connection: zbus::Connection,
}

impl Desktop {
    /// Takes its place on a bus. Needs a tokio runtime with several threads.
    ///
    /// # Errors
    /// When the bus refuses.
    pub async fn start(bus: &Bus) -> Result<Self> {
        let (tell, shown) = mpsc::channel();
        let connection = zbus::connection::Builder::address(bus.address())
            .serve_at("/org/freedesktop/Notifications", Service { tell, last: 0 })
            .name("org.freedesktop.Notifications")
            .build()
            .await?;
        Ok(Self { shown, _connection: connection })
    }
}

struct Service {
    tell: Sender<Shown>,
    last: u32,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Service {
    #[allow(
        clippy::too_many_arguments,
        reason = "so it stands in the specification of desktop notifications"
    )]
    fn notify(
        &mut self,
        app: String,
        _replaces: u32,
        _icon: String,
        summary: String,
        body: String,
        _actions: Vec<String>,
        _hints: HashMap<String, OwnedVariant>,
        _expire_ms: i32,
    ) -> u32 {
        let _ = self.tell.send(Shown { app, summary, body });
        self.last += 1;
        self.last
    }
}
