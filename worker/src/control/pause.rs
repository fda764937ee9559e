//! A pause by hand, on disk, so that it survives a restart of the agent.

use std::io;
use std::path::PathBuf;

use super::PAUSE_SECS_MAX;
use crate::files::write_durably;

/// Until when the agent is paused.
#[derive(Debug)]
pub struct Pause {
    path: PathBuf,
    until_unix_secs: Option<u64>,
}

impl Pause {
    /// What the file says. One that cannot be read is no pause.
    #[must_use]
    pub fn read(path: PathBuf) -> Self {
        let until_unix_secs = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        Self { path, until_unix_secs }
    }

    /// Until when, if that is still to come. A clock that was set back cannot make it longer than it may be.
    #[must_use]
    pub fn until(&self, now_unix_secs: u64) -> Option<u64> {
        let until = self.until_unix_secs.filter(|until| *until > now_unix_secs)?;
        Some(until.min(now_unix_secs.saturating_add(PAUSE_SECS_MAX)))
    }

    /// Keeps a pause, or that there is none.
    ///
    /// # Errors
    /// When the file cannot be written: the pause holds, but not beyond this run.
    pub fn set(&mut self, until_unix_secs: Option<u64>) -> io::Result<()> {
        self.until_unix_secs = until_unix_secs;
        match until_unix_secs {
            Some(until) => write_durably(&self.path, until.to_string().as_bytes()),
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_outlives_the_process_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        assert_eq!(Pause::read(path.clone()).until(0), None);
        Pause::read(path.clone()).set(Some(100)).unwrap();
        let mut again = Pause::read(path.clone());
        assert_eq!((again.until(99), again.until(100)), (Some(100), None));
        again.set(None).unwrap();
        again.set(None).unwrap();
        assert_eq!(Pause::read(path.clone()).until(0), None);
        std::fs::write(&path, u64::MAX.to_string()).unwrap();
        assert_eq!(Pause::read(path).until(5), Some(5 + PAUSE_SECS_MAX));
    }
}
