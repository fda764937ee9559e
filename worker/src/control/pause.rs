//! A pause by hand, on disk, so that it survives a restart of the agent.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::PAUSE_SECS_MAX;
use crate::files::write_durably;

/// Until when the agent is paused. It ends when either clock says so: the wall clock may be set back meanwhile, and the other
/// stands still while the PC sleeps.
#[derive(Debug)]
pub struct Pause {
    path: PathBuf,
    until_unix_secs: Option<u64>,
    /// The same by the clock that nobody sets, once the pause is held.
    ends_at: Option<Instant>,
}

impl Pause {
    /// What the file says. One that cannot be read is no pause.
    #[must_use]
    pub fn read(path: PathBuf) -> Self {
        let until_unix_secs = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        Self { path, until_unix_secs, ends_at: None }
    }

    /// Until when, if that is still to come. A clock that was set back cannot make it longer than it was to be, nor than it
    /// may be.
    #[must_use]
    pub fn until(&self, now_unix_secs: u64, now: Instant) -> Option<u64> {
        let left_secs = self.until_unix_secs?.checked_sub(now_unix_secs)?.min(PAUSE_SECS_MAX);
        let left_secs = match self.ends_at {
            Some(at) => left_secs.min(secs_up(at.saturating_duration_since(now))),
            None => left_secs,
        };
        (left_secs > 0).then_some(now_unix_secs.saturating_add(left_secs))
    }

    /// From now on the clock that nobody sets counts too: when it ends by that. `None`: it is over, or there is none.
    pub fn hold(&mut self, now_unix_secs: u64, now: Instant) -> Option<Instant> {
        let until = self.until(now_unix_secs, now)?;
        let left = Duration::from_secs(until - now_unix_secs);
        Some(*self.ends_at.get_or_insert(now + left))
    }

    /// Begins a pause: has it held, and only then keeps it. Whoever asks for one waits for no disk.
    ///
    /// # Errors
    /// When the file cannot be written: the pause holds, but not beyond this run.
    pub fn begin(&mut self, until_unix_secs: u64, hold: impl FnOnce(&mut Self)) -> io::Result<()> {
        (self.until_unix_secs, self.ends_at) = (Some(until_unix_secs), None);
        hold(self);
        write_durably(&self.path, until_unix_secs.to_string().as_bytes())
    }

    /// Ends it, and keeps that.
    ///
    /// # Errors
    /// When the file cannot be removed: a restart would pause again.
    pub fn end(&mut self) -> io::Result<()> {
        (self.until_unix_secs, self.ends_at) = (None, None);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A time in seconds; one that has begun counts.
const fn secs_up(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_outlives_the_process_and_ends() {
        let now = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        assert_eq!(Pause::read(path.clone()).until(0, now), None);
        Pause::read(path.clone()).begin(100, |_| ()).unwrap();
        let mut again = Pause::read(path.clone());
        assert_eq!((again.until(99, now), again.until(100, now)), (Some(100), None));
        again.end().unwrap();
        again.end().unwrap();
        assert_eq!(Pause::read(path.clone()).until(0, now), None);
        std::fs::write(&path, u64::MAX.to_string()).unwrap();
        assert_eq!(Pause::read(path).until(5, now), Some(5 + PAUSE_SECS_MAX));
    }

    #[test]
    fn it_ends_when_either_clock_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut pause = Pause::read(folder.path().join("pause"));
        let mut ends_at = None;
        pause.begin(10_100, |pause| ends_at = pause.hold(10_000, start)).unwrap();
        assert_eq!(ends_at, Some(at(100)));
        assert_eq!(pause.hold(10_060, at(60)), Some(at(100)), "held once");
        assert_eq!(pause.until(10_060, at(60)), Some(10_100));
        // Set back by half an hour.
        assert_eq!(pause.until(10_060 - 1800, at(60)), Some(10_100 - 1800), "as long as it was to be");
        assert_eq!(pause.until(10_099 - 1800, at(99) + Duration::from_millis(500)), Some(10_100 - 1800));
        assert_eq!(pause.until(10_100 - 1800, at(100)), None);
        // The PC has slept.
        assert_eq!(pause.until(10_100, at(60)), None);
    }

    #[test]
    fn it_is_held_before_it_is_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        let mut was_held = false;
        Pause::read(path.clone())
            .begin(100, |pause| {
                assert!(pause.hold(0, Instant::now()).is_some());
                assert!(!path.exists(), "guests have waited for the disk");
                was_held = true;
            })
            .unwrap();
        assert!(was_held && path.exists());
    }
}
