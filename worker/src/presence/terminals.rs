//! Terminals: what was typed last, by the time at which each was last read.
//!
//! Enough to know that somebody types (also over a network), never enough to know that nobody is there.

use std::collections::BTreeMap;
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
    /// Those that were read at a time that is still to come, because the clock was set back since: which time that is, and
    /// when it was seen first.
    ahead: BTreeMap<PathBuf, (SystemTime, Instant)>,
}

impl Terminals {
    /// Those in that folder, usually `/dev`: `tty1` and so on, and `pts/0` and so on; on macOS `ttys000` and so on.
    #[must_use]
    pub const fn new(dev: PathBuf) -> Self {
        Self { dev, ahead: BTreeMap::new() }
    }

    /// How long ago somebody typed; `None` if there are no terminals. `now` and `at` are the same moment by two clocks.
    fn last_input(&mut self, now: SystemTime, at: Instant) -> io::Result<Option<Duration>> {
        let mut read = read_in(&self.dev, |name| {
            name.strip_prefix(TERMINAL)
                .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty())
        })?;
        match read_in(&self.dev.join("pts"), |name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            pts => read.extend(pts?),
        }
        let before = std::mem::take(&mut self.ahead);
        let ago = read.into_iter().map(|(path, time)| {
            now.duration_since(time).unwrap_or_else(|_| {
                // Just now, to be safe; and from then on by the clock that nobody sets, or the PC would count as in use until
                // the other one has caught up.
                let known = before.get(&path).filter(|(known, _)| *known == time);
                let (_, seen) =
                    *self.ahead.entry(path).or_insert((time, known.map_or(at, |(_, seen)| *seen)));
                at.saturating_duration_since(seen)
            })
        });
        Ok(ago.min())
    }
}

/// When each terminal in a folder was last read.
fn read_in(folder: &Path, is_terminal: impl Fn(&str) -> bool) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let mut read = Vec::new();
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
                read.push((entry.path(), at));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
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
        match self.last_input(now, Instant::now()) {
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

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn touch(folder: &Path, name: &str, at: SystemTime) {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_times(FileTimes::new().set_accessed(at)).unwrap();
    }

    #[test]
    fn the_newest_terminal_counts_and_other_devices_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut terminals = Terminals::new(folder.path().to_owned());
        let (now, at) = (NOW + secs(1_000_000), Instant::now());
        let touch = |name: &str, ago| touch(folder.path(), name, now - secs(ago));
        let mut last_input = || terminals.last_input(now, at).unwrap();
        assert_eq!(last_input(), None);
        touch("tty", 0);
        touch("ttyS0", 0);
        touch("null", 0);
        assert_eq!(last_input(), None);
        touch(&format!("{TERMINAL}1"), 500);
        assert_eq!(last_input(), Some(secs(500)));
        fs::create_dir(folder.path().join("pts")).unwrap();
        touch("pts/3", 20);
        touch("pts/ptmx", 0);
        assert_eq!(last_input(), Some(secs(20)));
    }

    #[test]
    fn where_the_clock_was_set_back_nobody_types_until_it_has_caught_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut terminals = Terminals::new(folder.path().to_owned());
        let (now, start) = (NOW + secs(1_000_000), Instant::now());
        let [console, other] = ["1", "2"].map(|number| format!("{TERMINAL}{number}"));
        touch(folder.path(), &console, now + secs(7200));
        let mut last_input = |after| terminals.last_input(now + secs(after), start + secs(after)).unwrap();
        assert_eq!(last_input(0), Some(secs(0)), "just now, to be safe");
        assert_eq!(last_input(90), Some(secs(90)));
        touch(folder.path(), &other, now + secs(95));
        assert_eq!(last_input(100), Some(secs(5)), "another is not hidden by it");
        touch(folder.path(), &console, now + secs(7300));
        assert_eq!(last_input(200), Some(secs(0)), "somebody types in the new time, which is to come too");
        assert_eq!(last_input(300), Some(secs(100)));
        assert_eq!(last_input(7400), Some(secs(100)), "it has caught up");
    }
}
