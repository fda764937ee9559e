//! A virtual display, with input as if a person sat there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::MOTION_NOTIFY_EVENT;
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

/// An X server without a screen. It ends when it is dropped.
pub struct Display {
    server: Child,
    name: String,
    connection: RustConnection,
}

impl Display {
    /// Starts one on a free number.
    ///
    /// # Errors
    /// When Xvfb cannot be started.
    pub fn start() -> Result<Self> {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-noreset", "-nolisten", "tcp", "-screen", "0", "1024x640x24"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("Xvfb cannot be started: sudo apt-get install xvfb")?;
        let mut number = String::new();
        BufReader::new(server.stdout.take().context("a piped stdout")?).read_line(&mut number)?;
        let name = format!(":{}", number.trim());
        let connection = x11rb::connect(Some(&name)).context("the display is not there")?.0;
        Ok(Self { server, name, connection })
    }

    /// What `DISPLAY` has to be.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the mouse, and says when.
    ///
    /// # Errors
    /// When the display is gone.
    pub fn move_mouse(&self, x: i16, y: i16) -> Result<Instant> {
        let root = self.connection.setup().roots.first().context("a screen")?.root;
        let at = Instant::now();
        self.connection.xtest_fake_input(MOTION_NOTIFY_EVENT, 0, 0, root, x, y, 0)?.check()?;
        Ok(at)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
