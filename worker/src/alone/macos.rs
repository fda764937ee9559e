//! macOS: the lock is on a file in a folder that all users share and nobody cleans. It is gone with its process, however
//! that ends; the file stays, and tells which process had it last. Any local user can hold the lock and so keep an agent
//! from starting, as on other systems.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::{Error, Holder};

/// The file of the lock.
pub const MACHINE: &str = "/Users/Shared/lull-worker.lock";

/// More than a number of a process has.
const PID_BYTES_MAX: u64 = 16;

/// While it lives, no other agent watches this machine.
#[derive(Debug)]
pub struct Alone {
    _file: File,
}

impl Alone {
    /// Takes hold of the machine, by the lock on that file.
    ///
    /// # Errors
    /// When another agent has it.
    pub fn take(path: &str) -> Result<Self, Error> {
        let mut file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Taken { holder: holder(&mut file).unwrap_or(Holder::Unknown) });
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
        // Another user's file can be locked, but not written: then it tells nothing, or of a process that is no more.
        let _ = note(&mut file);
        Ok(Self { _file: file })
    }
}

/// Opens the file, made if there is none. Never through a link: others may write that folder.
fn open(path: &str) -> io::Result<File> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o644).custom_flags(no_link);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            OpenOptions::new().read(true).custom_flags(no_link).open(path)
        }
        opened => opened,
    }
}

fn note(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

/// Who wrote the file. The system tells its owner; the process is its owner's word.
fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(Holder::Known { pid: text.trim().parse().ok()?, user: file.metadata().ok()?.uid().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let path = path.to_str().unwrap();
        let first = Alone::take(path).unwrap();
        let error = Alone::take(path).expect_err("the first has it");
        let Error::Taken { holder: Holder::Known { pid, user } } = &error else { panic!("{error}") };
        assert_eq!(*pid, std::process::id().cast_signed());
        assert_eq!(*user, rustix::process::getuid().as_raw().to_string());
        assert!(error.to_string().contains("--beside-others"), "{error}");
        drop(first);
        Alone::take(path).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, path) = (folder.path().join("target"), folder.path().join("lock"));
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(Alone::take(path.to_str().unwrap()), Err(Error::Refused(_))));
        assert!(!target.exists());
    }
}
