//! Windows. What is made in a user's own folders is that user's, the system's and the administrators' by inheritance:
//! no file is given rights of its own.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
use windows_sys::Win32::Foundation::GENERIC_WRITE;
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_BACKUP_SEMANTICS;

/// The folder in which programs keep the state of this PC and user: it does not roam. `None` if that cannot be told.
pub(crate) fn state_home() -> Option<PathBuf> {
    std::env::var_os("LOCALAPPDATA").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Name of this PC.
pub(crate) fn host_name() -> String {
    std::env::var_os("COMPUTERNAME").unwrap_or_else(|| OsString::from("a PC")).to_string_lossy().into_owned()
}

/// Files that are made have the rights of their folder.
pub(crate) const fn for_this_user(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Folders that are made have the rights of theirs.
pub(crate) const fn folder_for_this_user(builder: &mut DirBuilder) -> &mut DirBuilder {
    builder
}

/// A file under a name of its own that starts with `prefix`.
pub(crate) fn temporary_file(folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(prefix).tempfile_in(folder)
}

/// Writes names in a folder to disk. Not every file system does that when asked; NTFS keeps a journal of them anyway,
/// so that a crash undoes the latest at worst. That one refuses is no error.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.access_mode(GENERIC_WRITE).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    match options.open(folder) {
        Ok(folder) => drop(folder.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

/// Writes bytes at a place in a file. Nothing may depend on the file's own position afterwards.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hears that this process is to end: by Ctrl-C or Ctrl-Break, as its window closes, as the system shuts down.
pub(crate) struct Stop {
    interrupt: CtrlC,
    break_: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Stop {
    /// Starts listening; from now on nothing else is done with these events.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            break_: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits until it is told so, once more.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {},
            _ = self.break_.recv() => {},
            _ = self.close.recv() => {},
            _ = self.shutdown.recv() => {},
        }
    }
}
