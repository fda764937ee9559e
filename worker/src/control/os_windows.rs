//! The named pipe: the same as `os.rs`, for Windows.
//!
//! Its security descriptor lets in the agent's own user, the system and administrators, and nobody from another PC; the
//! agent also looks whose the process on the other side is, and so does the command line before it says anything.

use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    EqualSid, GetTokenInformation, IsWellKnownSid, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES,
    TOKEN_QUERY, TOKEN_USER, TokenUser, WinLocalSystemSid,
};
use windows_sys::Win32::System::Pipes::{GetNamedPipeClientProcessId, GetNamedPipeServerProcessId};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION,
};
use windows_sys::core::BOOL;

pub(super) type Stream = NamedPipeServer;

/// How often a client tries again while every end of the pipe is taken: each is for a moment only.
const BUSY_RETRY_AFTER: Duration = Duration::from_millis(20);

/// Why there is no pipe.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system refuses it.
    #[error("the control pipe {} cannot be made: {source}", path.display())]
    Refused {
        /// Its name.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The pipe at which the agent of a state directory listens: its name follows from the directory's.
///
/// # Errors
/// None here.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere a path can be too long")]
pub fn socket_path(state_dir: &Path, _: Option<&Path>) -> Result<PathBuf, SocketError> {
    // One directory has many names here; the agent has made it, so that it can be looked up.
    let state_dir = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
    let mut hasher = blake3::Hasher::new();
    for unit in state_dir.as_os_str().encode_wide() {
        hasher.update(&unit.to_le_bytes());
    }
    let digest = hasher.finalize().to_hex();
    Ok(PathBuf::from(format!(r"\\.\pipe\lull-worker-{}", &digest[..32])))
}

/// The pipe, with one end that waits for the next client.
#[derive(Debug)]
pub(super) struct Listener {
    path: PathBuf,
    next: NamedPipeServer,
}

/// Listens. Fails when anybody has a pipe of that name already.
pub(super) fn bind(path: &Path) -> io::Result<Listener> {
    let next = open_end(path, ServerOptions::new().first_pipe_instance(true))?;
    Ok(Listener { path: path.to_owned(), next })
}

/// The next client.
pub(super) async fn accept(listener: &mut Listener) -> io::Result<Stream> {
    if let Err(error) = listener.next.connect().await {
        // A client that has gone already leaves its end useless until it is let go of.
        let _ = listener.next.disconnect();
        return Err(error);
    }
    let next = open_end(&listener.path, &ServerOptions::new())?;
    Ok(std::mem::replace(&mut listener.next, next))
}

fn open_end(path: &Path, options: &ServerOptions) -> io::Result<NamedPipeServer> {
    let mut options = options.clone();
    options.reject_remote_clients(true);
    let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
    // SAFETY: a process's name for itself, which needs no closing.
    #[allow(unsafe_code, reason = "std has no such call")]
    let own = User::of(unsafe { GetCurrentProcess() })?.text()?;
    // Full rights for the user, the system and administrators; inherited ones do not apply.
    let text = format!("D:P(A;;GA;;;{own})(A;;GA;;;SY)(A;;GA;;;BA)\0");
    let text: Vec<u16> = text.encode_utf16().collect();
    // SAFETY: the text ends with a zero, the descriptor outlives the call that fills it and the one that reads it, and
    // is freed once, as the system asks.
    #[allow(unsafe_code, reason = "std and tokio have no security descriptors")]
    unsafe {
        let answer = ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            std::ptr::null_mut(),
        );
        if answer == 0 {
            return Err(io::Error::last_os_error());
        }
        let mut attributes = SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).map_err(io::Error::other)?,
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        };
        let end = options.create_with_security_attributes_raw(path, (&raw mut attributes).cast());
        LocalFree(descriptor);
        end
    }
}

/// Sends a line and gives the line that comes back, of at most so many bytes; all within that time.
pub(super) fn exchange(path: &Path, line: &[u8], time: Duration, bytes_max: u64) -> io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let talk = async {
            let mut pipe = loop {
                match ClientOptions::new().open(path) {
                    Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY.cast_signed()) => {
                        let _ = tokio::time::timeout(BUSY_RETRY_AFTER, std::future::pending::<()>()).await;
                    }
                    opened => break opened?,
                }
            };
            if !is_trusted(pipe.as_raw_handle(), GetNamedPipeServerProcessId) {
                let problem = "another user has a pipe of that name";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
            }
            pipe.write_all(line).await?;
            let mut answer = String::new();
            BufReader::new(pipe.take(bytes_max)).read_line(&mut answer).await?;
            Ok(answer)
        };
        tokio::time::timeout(time, talk).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    })
}

/// Whether the other side is a process of the agent's user, or the system's.
pub(super) fn is_allowed(stream: &Stream) -> bool {
    is_trusted(stream.as_raw_handle(), GetNamedPipeClientProcessId)
}

type AskPeer = unsafe extern "system" fn(HANDLE, *mut u32) -> BOOL;

fn is_trusted(pipe: RawHandle, ask_peer: AskPeer) -> bool {
    let mut pid = 0;
    // SAFETY: callers hold the pipe open; the number outlives the call; a process's name for itself needs no closing.
    #[allow(unsafe_code, reason = "std and tokio do not tell who is on the other side")]
    let (peer, own) = unsafe {
        if ask_peer(pipe, &raw mut pid) == 0 {
            return false;
        }
        let peer = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
        if peer.is_null() {
            return false;
        }
        (OwnedHandle::from_raw_handle(peer), GetCurrentProcess())
    };
    let (Ok(peer), Ok(own)) = (User::of(peer.as_raw_handle()), User::of(own)) else { return false };
    may_speak(&peer, &own)
}

/// Whether a process of that user may speak to one of this.
fn may_speak(peer: &User, own: &User) -> bool {
    // SAFETY: both identifiers live as long as the users that hold them.
    #[allow(unsafe_code, reason = "std has no security identifiers")]
    unsafe {
        EqualSid(peer.sid(), own.sid()) != 0 || IsWellKnownSid(peer.sid(), WinLocalSystemSid) != 0
    }
}

/// The user of a process: a `TOKEN_USER` with the identifier behind it, aligned for it.
struct User(Vec<u64>);

impl User {
    fn of(process: RawHandle) -> io::Result<Self> {
        let mut token = std::ptr::null_mut();
        let mut bytes = 0;
        // SAFETY: callers hold the process open; the token is closed by its owner; the first call tells the size that
        // the second fills.
        #[allow(unsafe_code, reason = "std has no tokens")]
        unsafe {
            if OpenProcessToken(process, TOKEN_QUERY, &raw mut token) == 0 {
                return Err(io::Error::last_os_error());
            }
            let token = OwnedHandle::from_raw_handle(token);
            let handle = token.as_raw_handle();
            GetTokenInformation(handle, TokenUser, std::ptr::null_mut(), 0, &raw mut bytes);
            let mut user =
                vec![0u64; (bytes as usize).max(size_of::<TOKEN_USER>()).div_ceil(size_of::<u64>())];
            let place = user.as_mut_ptr().cast();
            if GetTokenInformation(handle, TokenUser, place, bytes, &raw mut bytes) == 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(user))
        }
    }

    /// Its identifier as text.
    fn text(&self) -> io::Result<String> {
        let mut text: *mut u16 = std::ptr::null_mut();
        // SAFETY: the identifier lives as long as this; the text that comes back ends with a zero and is freed once.
        #[allow(unsafe_code, reason = "std has no security identifiers")]
        unsafe {
            if ConvertSidToStringSidW(self.sid(), &raw mut text) == 0 {
                return Err(io::Error::last_os_error());
            }
            let mut length = 0;
            while *text.add(length) != 0 {
                length += 1;
            }
            let said = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
            LocalFree(text.cast());
            Ok(said)
        }
    }

    fn sid(&self) -> PSID {
        // SAFETY: `of` has filled it with a `TOKEN_USER`, whose identifier points into the same allocation.
        #[allow(unsafe_code, reason = "std has no tokens")]
        unsafe {
            (*self.0.as_ptr().cast::<TOKEN_USER>()).User.Sid
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_directory_has_a_pipe_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let name = |path: &Path| socket_path(path, None).unwrap();
        assert_ne!(name(&a), name(&b));
        assert_eq!(name(&a), name(&b.join("..").join("a")));
        assert!(name(&a).starts_with(r"\\.\pipe\"));
    }

    #[test]
    fn a_process_may_speak_to_itself() {
        // SAFETY: a process's name for itself, which needs no closing.
        #[allow(unsafe_code, reason = "std has no such call")]
        let own = User::of(unsafe { GetCurrentProcess() }).unwrap();
        assert!(may_speak(&own, &own));
        assert!(own.text().unwrap().starts_with("S-1-"));
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "wine 8 lets a second pipe take the name of a first instance"]
    async fn a_name_that_is_taken_is_refused() {
        let path = PathBuf::from(format!(r"\\.\pipe\lull-worker-taken-{}", std::process::id()));
        let _first = bind(&path).unwrap();
        assert!(bind(&path).is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_line_goes_there_and_another_comes_back() {
        let path = PathBuf::from(format!(r"\\.\pipe\lull-worker-test-{}", std::process::id()));
        let (_server, mut asks) = crate::control::Server::start(&path).unwrap();
        tokio::spawn(async move {
            while let Some(ask) = asks.recv().await {
                let _ = ask.answer.send(crate::control::Answer::Done {});
            }
        });
        let said = tokio::task::spawn_blocking(move || {
            let say = |line: &[u8]| exchange(&path, line, Duration::from_secs(30), 4096).unwrap();
            [say(b"{\"do\":\"resume\"}\n"), say(b"{\"do\":\"rob\"}\n")]
        });
        let [done, refused] = said.await.unwrap();
        assert_eq!(done, "{\"answer\":\"done\"}\n");
        assert!(refused.contains("no request"), "{refused}");
    }
}
