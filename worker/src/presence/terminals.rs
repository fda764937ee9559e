//! Terminals: what was typed last, by the time at which each was last read.
//!
//! Enough to know that somebody types (also over a network), never enough to know that nobody is there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Source;
use super::wait_until;
use crate::core::{Kind, Sighting};

/// How the names of terminals begin: consoles of Linux, windows of macOS. Digits follow.
const TERMINAL: &str = if cfg!(target_os = "macos") { "ttys" } else { "tty" };

/// The terminals in a folder of devices.
#[derive(Debug)]
pub struct Terminals {
    dev: PathBuf,
}

impl Terminals {
    /// Those in that folder, usually `/dev`: `tty1` and so on, and `pts/0` and so on; on macOS `ttys000` and so on.
    #[must_use]
    pub const fn new(dev: PathBuf) -> Self {
        Self { dev }
    }

    /// How long ago somebody typed; `None` if there are no terminals.
    fn last_input(&self, now: SystemTime) -> io::Result<Option<Duration>> {
        let consoles = accessed_in(&self.dev, |name| {
            name.strip_prefix(TERMINAL)
                .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty())
        })?;
        let pts =
            match accessed_in(&self.dev.join("pts"), |name| name.bytes().all(|byte| byte.is_ascii_digit())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => other?,
            };
        // A time to come means that the clock was set back: just now, to be safe.
        Ok(consoles.max(pts).map(|at| now.duration_since(at).unwrap_or_default()))
    }
}

fn accessed_in(folder: &Path, is_terminal: impl Fn(&str) -> bool) -> io::Result<Option<SystemTime>> {
    let mut latest = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&is_terminal) {
            continue;
        }
        match entry.metadata() {
            // tty0 and the like that nobody has open keep the time at which the system started.
            Ok(metadata) if metadata.file_type().is_char_device() || metadata.is_file() => {
                let at = SystemTime::UNIX_EPOCH
                    + Duration::from_secs(u64::try_from(metadata.atime()).unwrap_or_default());
                latest = latest.max(Some(at));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(latest)
}

impl Source for Terminals {
    fn name(&self) -> &'static str {
        "terminals"
    }

    fn kind(&self) -> Kind {
        Kind::Hint
    }

    fn next(&mut self, until: Option<Instant>) -> Sighting {
        wait_until(until);
        #[allow(
            clippy::disallowed_methods,
            reason = "terminals say the wall-clock time at which they were read"
        )]
        let now = SystemTime::now();
        match self.last_input(now) {
            Ok(Some(ago)) => Sighting::LastInput(ago),
            Ok(None) => Sighting::Absent("no terminal is there".to_owned()),
            Err(error) => Sighting::Lost(format!("{}: {error}", self.dev.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;

    use super::*;

    #[test]
    fn the_newest_terminal_counts_and_other_devices_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let terminals = Terminals::new(folder.path().to_owned());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let touch = |name: &str, ago| {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_times(FileTimes::new().set_accessed(now - Duration::from_secs(ago))).unwrap();
        };
        assert_eq!(terminals.last_input(now).unwrap(), None);
        touch("tty", 0);
        touch("ttyS0", 0);
        touch("null", 0);
        assert_eq!(terminals.last_input(now).unwrap(), None);
        touch(&format!("{TERMINAL}1"), 500);
        assert_eq!(terminals.last_input(now).unwrap(), Some(Duration::from_secs(500)));
        fs::create_dir(folder.path().join("pts")).unwrap();
        touch("pts/3", 20);
        touch("pts/ptmx", 0);
        assert_eq!(terminals.last_input(now).unwrap(), Some(Duration::from_secs(20)));
        let earlier = now - Duration::from_secs(100);
        assert_eq!(terminals.last_input(earlier).unwrap(), Some(Duration::ZERO), "the clock was set back");
    }
}
