//! Where the agent keeps things, and that it is alone there.
//!
//! ```text
//! lock            held while an agent runs
//! identity.json   device, grid, coordinator, owner
//! device.key      ed25519 secret key, 32 bytes, readable by the user only
//! control.sock    the running agent answers its owner there
//! agent.log       what it has logged; agent.log.old before that
//! pause           until when it is paused by hand, in Unix seconds
//! absence.json    when somebody left, what was earned then, and what they were told
//! receipts/       what the coordinator signed that was paid: a file a month, and state.json
//! outbox/log      finished attempts
//! outbox/{digest} their results over 4 KiB
//! cache/{digest}  modules and inputs
//! checkpoints/    where unfinished units stand
//! compiled/{key}  modules, compiled; and the secret that they are sealed with
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::os::{folder_for_this_user, for_this_user};

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent runs there.
    #[error(
        "another agent{} uses {}: stop it, or give this one its own --state-dir",
        if holder.is_empty() { String::new() } else { format!(" (process {holder})") },
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Process number of the other one, as it left it; may be empty.
        holder: String,
    },
    /// Other users could put something of theirs in its place.
    #[error(
        "the state directory {} can be written by every user: name a --state-dir that is the agent's own",
        path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made, read or written.
    #[error("the state directory {} cannot be used: {source}", path.display())]
    Unusable {
        /// The directory, or what is in it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The bit of a folder's mode that lets every user write it.
#[cfg(unix)]
pub(crate) const OTHERS_WRITE: u32 = 0o002;

/// A state directory that belongs to this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Locked until it is closed, so also when the process is killed.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if need be, and takes hold of it.
    ///
    /// # Errors
    /// When another agent has it, or it cannot be used.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Unusable { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        folder_for_this_user(&mut builder).recursive(true).create(path).map_err(unusable)?;
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).map_err(unusable)?) & OTHERS_WRITE != 0 {
            return Err(Error::Open { path: path.to_owned() });
        }
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(false);
        let mut lock = for_this_user(&mut options).open(&lock_path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Windows lets nobody read what is locked.
                let holder = fs::read_to_string(&lock_path).unwrap_or_default().trim().to_owned();
                return Err(Error::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        lock.set_len(0).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        for folder in ["outbox", "cache", "checkpoints", "compiled", "receipts"] {
            builder.create(path.join(folder)).map_err(unusable)?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The file of the identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        identity(&self.path)
    }

    /// The file of the secret key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        key(&self.path)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that says until when the agent is paused.
    #[must_use]
    pub fn pause(&self) -> PathBuf {
        self.path.join("pause")
    }

    /// The file that remembers absences, and what was told of them.
    #[must_use]
    pub fn absence(&self) -> PathBuf {
        absence(&self.path)
    }

    /// The folder of the outbox.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }

    /// The folder of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The folder of compiled modules.
    #[must_use]
    pub fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }

    /// The folder of receipts.
    #[must_use]
    pub fn receipts(&self) -> PathBuf {
        receipts(&self.path)
    }

    /// The folder of the cache.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

/// The file of the identity in a state directory.
pub(crate) fn identity(state_dir: &Path) -> PathBuf {
    state_dir.join("identity.json")
}

/// The file of the secret key in a state directory.
pub(crate) fn key(state_dir: &Path) -> PathBuf {
    state_dir.join("device.key")
}

/// The folder of receipts in a state directory; to read it, nobody has to hold the directory.
#[must_use]
pub fn receipts(state_dir: &Path) -> PathBuf {
    state_dir.join("receipts")
}

/// The file of a state directory that remembers absences; to read it, nobody has to hold the directory.
#[must_use]
pub fn absence(state_dir: &Path) -> PathBuf {
    state_dir.join("absence.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_dir_belongs_to_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = StateDir::open(&path).unwrap();
        let error = StateDir::open(&path).expect_err("the first has it").to_string();
        let names_holder = error.contains(&format!("(process {})", std::process::id()));
        assert!(names_holder || cfg!(windows), "{error}");
        assert!(error.contains("--state-dir"), "{error}");
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn one_that_every_user_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        for (mode, is_refused) in [(0o1777, true), (0o702, true), (0o775, false), (0o700, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let opened = StateDir::open(folder.path());
            assert_eq!(matches!(opened, Err(Error::Open { .. })), is_refused, "{mode:o}: {opened:?}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let error = StateDir::open(&path).expect_err("it is a file").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
