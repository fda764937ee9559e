//! Writing files so that after a crash they are there whole, or not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

pub(crate) use crate::os::sync_folder;

/// How the name of a file that is being written starts; what a crash leaves of them is removed at start.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes a file that only this user can read, and waits until it is on disk.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Puts a file in the place of another, and gives it open: its content is on disk, and of its name a crash leaves the old or
/// the new one until [`sync_folder`] has been there.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<File> {
    let file = temporary(path.parent().unwrap_or(Path::new(".")), content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)
}

/// Writes a file; after a crash it may be missing or short.
pub(crate) fn write_quickly(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    temporary(folder, content)?.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn temporary(folder: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = crate::os::temporary_file(folder, TEMPORARY_PREFIX)?;
    file.write_all(content)?;
    Ok(file)
}
