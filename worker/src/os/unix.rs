//! Unix.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
#[cfg(target_os = "macos")]
use std::sync::OnceLock;
use std::time::Duration;
#[cfg(target_os = "macos")]
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use tempfile::NamedTempFile;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The folder in which programs keep their state; `None` if that cannot be told.
pub(crate) fn state_home() -> Option<PathBuf> {
    let from =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")))
}

/// Where the settings file is by default; `None` if that cannot be told.
pub(crate) fn config_file() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/etc/lull-worker/config.toml"));
    }
    let from =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_CONFIG_HOME").or_else(|| from("HOME").map(|home| home.join(".config")))?;
    Some(base.join("lull-worker/config.toml"))
}

/// Space on the disk of a folder that this user may still take, in bytes.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether two open files are the same one, by whatever names.
pub(crate) fn is_same_file(a: &File, b: &File) -> io::Result<bool> {
    Ok(a.metadata()?.ino() == b.metadata()?.ino())
}

/// For how long the machine has slept since it was started: one clock goes on meanwhile, the other does not.
#[cfg(target_os = "linux")]
pub(crate) fn slept() -> Duration {
    let awake = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(awake)
}

/// For how long the machine has slept since this was called first: the system's monotonic clock goes on meanwhile, that of
/// [`Instant`] does not.
#[cfg(target_os = "macos")]
pub(crate) fn slept() -> Duration {
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (awake_since, since) = START.get_or_init(|| (Instant::now(), read(ClockId::Monotonic)));
    let awake = awake_since.elapsed();
    read(ClockId::Monotonic).saturating_sub(*since).saturating_sub(awake)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// Name of this PC.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Files that are made are this user's only.
pub(crate) fn for_this_user(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Folders that are made are this user's only.
pub(crate) fn folder_for_this_user(builder: &mut DirBuilder) -> &mut DirBuilder {
    builder.mode(0o700)
}

/// A file of this user's only, under a name of its own that starts with `prefix`.
pub(crate) fn temporary_file(folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o600)).tempfile_in(folder)
}

/// Waits until names in a folder are on disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes bytes at a place in a file.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Hears that this process is to end.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Starts listening; from now on nothing else is done with these signals.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits until it is told so, once more.
    pub(crate) async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}
