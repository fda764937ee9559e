//! The socket: all that is of one system.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use tokio::net::{UnixListener as Listener, UnixStream as Stream};

/// The longest path of a Unix socket, in bytes; Linux has 108 with the zero at the end, macOS 104.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Neither place has a path that is short enough.
    #[error(
        "the path {} is longer than a socket's may be ({} bytes): pass a shorter --state-dir, or set XDG_RUNTIME_DIR",
        path.display(),
        SOCKET_PATH_BYTES_MAX
    )]
    TooLong {
        /// Where it should be.
        path: PathBuf,
    },
    /// The system refuses it.
    #[error("the control socket {} cannot be made: {source}", path.display())]
    Refused {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Where the agent of a state directory listens: there, or, if that path is too long, in `runtime_dir` under a
/// name that follows from it.
///
/// # Errors
/// When both are too long.
pub fn socket_path(state_dir: &Path, runtime_dir: Option<&Path>) -> Result<PathBuf, SocketError> {
    let fits = |path: &PathBuf| path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
    let path = state_dir.join("control.sock");
    if fits(&path) {
        return Ok(path);
    }
    let digest = blake3::hash(state_dir.as_os_str().as_bytes()).to_hex();
    let elsewhere = runtime_dir.map(|dir| dir.join(format!("lull-worker-{}.sock", &digest[..16])));
    elsewhere.filter(fits).ok_or(SocketError::TooLong { path })
}

/// Whether a process of that user may speak to an agent of this one.
#[must_use]
pub const fn may_speak(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == 0 || peer_uid == own_uid
}

/// Listens, in the place of a socket that an agent left which is no more: the state directory is ours.
pub(super) fn bind(path: &Path) -> io::Result<Listener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = Listener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The next client.
pub(super) async fn accept(listener: &mut Listener) -> io::Result<Stream> {
    Ok(listener.accept().await?.0)
}

/// Sends a line and gives the line that comes back, of at most so many bytes; each within that time.
pub(super) fn exchange(path: &Path, line: &[u8], time: Duration, bytes_max: u64) -> io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    stream.write_all(line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(bytes_max)).read_line(&mut answer)?;
    Ok(answer)
}

/// Whether the other side is the agent's user or root.
pub(super) fn is_allowed(stream: &Stream) -> bool {
    stream.peer_cred().is_ok_and(|peer| may_speak(peer.uid(), rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_goes_to_the_runtime_dir() {
        let short = Path::new("/s");
        assert_eq!(socket_path(short, None).unwrap(), Path::new("/s/control.sock"));
        let long = |bytes: usize| PathBuf::from(format!("/{}", "x".repeat(bytes - 1)));
        let fits = long(SOCKET_PATH_BYTES_MAX - "/control.sock".len());
        assert_eq!(socket_path(&fits, None).unwrap().as_os_str().len(), SOCKET_PATH_BYTES_MAX);
        let past = long(SOCKET_PATH_BYTES_MAX - "/control.sock".len() + 1);
        assert!(socket_path(&past, Some(Path::new("/run/1"))).unwrap().starts_with("/run/1"));
        let error = socket_path(&past, None).expect_err("too long").to_string();
        assert!(error.contains("--state-dir") && error.contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn only_the_same_user_and_root_may_speak() {
        for (peer, own, may) in [(1000, 1000, true), (0, 1000, true), (1001, 1000, false), (1000, 0, false)] {
            assert_eq!(may_speak(peer, own), may, "{peer} to {own}");
        }
    }
}
