//! Windows. What is made in a user's own folders is that user's, the system's and the administrators' by inheritance:
//! no file is given rights of its own.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::windows::io::AsRawHandle as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
use windows_sys::Win32::Foundation::GENERIC_WRITE;
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, GetDiskFreeSpaceExW, GetFileInformationByHandle,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;

/// The folder in which programs keep the state of this PC and user: it does not roam. `None` if that cannot be told.
pub(crate) fn state_home() -> Option<PathBuf> {
    std::env::var_os("LOCALAPPDATA").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Where the settings file is by default; `None` if that cannot be told.
pub(crate) fn config_file() -> Option<PathBuf> {
    let base = std::env::var_os("APPDATA").map(PathBuf::from).filter(|path| path.is_absolute())?;
    Some(base.join("lull-worker").join("config.toml"))
}

/// Space on the disk of a folder that this user may still take, in bytes.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let name: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let mut bytes = 0;
    // SAFETY: the name ends with a zero, and the number outlives the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe {
        GetDiskFreeSpaceExW(name.as_ptr(), &raw mut bytes, std::ptr::null_mut(), std::ptr::null_mut())
    };
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(bytes) }
}

/// Whether two open files are the same one, by whatever names.
pub(crate) fn is_same_file(a: &File, b: &File) -> io::Result<bool> {
    Ok(file_number(a)? == file_number(b)?)
}

/// The volume and the number in it.
fn file_number(file: &File) -> io::Result<[u32; 3]> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the file is open, and the structure outlives the call.
    #[allow(unsafe_code, reason = "std does not tell")]
    let answer = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) };
    if answer == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([information.dwVolumeSerialNumber, information.nFileIndexHigh, information.nFileIndexLow])
}

/// For how long the machine has slept since it was started: one clock goes on meanwhile, the other does not. They move
/// in steps of about 16 ms.
pub(crate) fn slept() -> Duration {
    let mut awake = 0;
    // SAFETY: the number outlives the call.
    #[allow(unsafe_code, reason = "std has one of these clocks only")]
    let (answer, total_millis) = unsafe { (QueryUnbiasedInterruptTime(&raw mut awake), GetTickCount64()) };
    if answer == 0 {
        return Duration::ZERO;
    }
    // In units of 100 ns.
    Duration::from_millis(total_millis).saturating_sub(Duration::from_micros(awake / 10))
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
