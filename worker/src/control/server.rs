//! The agent's side. A client gets a line of bounded length, a bounded time and one of a few places.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::os::{self, SocketError};
use super::{Answer, Request};

/// The longest request; the largest sensible one has under a hundred bytes.
const REQUEST_BYTES_MAX: usize = 4096;
/// Clients at a time; more are turned away.
const CLIENTS_MAX: usize = 8;
/// Time for a request, its answer, and for reading that.
const CLIENT_TIME: Duration = Duration::from_secs(10);
/// After the system refused to take a client: it may be out of files.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// What is wanted.
    pub request: Request,
    /// Takes the answer.
    pub answer: oneshot::Sender<Answer>,
}

/// Listens for the owner. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
}

impl Server {
    /// Starts listening; requests come out of the receiver.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(path: &Path) -> Result<(Self, mpsc::Receiver<Ask>), SocketError> {
        let mut listener =
            os::bind(path).map_err(|source| SocketError::Refused { path: path.to_owned(), source })?;
        let (asks, received) = mpsc::channel(CLIENTS_MAX);
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(CLIENTS_MAX));
            loop {
                let Ok(stream) = os::accept(&mut listener).await else {
                    let _ = timeout(ACCEPT_RETRY_AFTER, std::future::pending::<()>()).await;
                    continue;
                };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                if !os::is_allowed(&stream) {
                    tracing::warn!("another user wanted to speak to this agent");
                    continue;
                }
                let asks = asks.clone();
                tokio::spawn(async move {
                    let _ = timeout(CLIENT_TIME, serve(&stream, &asks)).await;
                    drop(place);
                });
            }
        });
        Ok((Self { path: path.to_owned() }, received))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers one request, and lets the client go.
async fn serve(stream: &os::Stream, asks: &mpsc::Sender<Ask>) -> io::Result<()> {
    let answer = match read_line(stream).await? {
        None => refused(format!("a request has at most {REQUEST_BYTES_MAX} bytes and ends with a new line")),
        Some(line) => match serde_json::from_slice(&line) {
            Err(error) => refused(format!("this is no request: {error}")),
            Ok(request) => pass_on(request, asks).await,
        },
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(bytes) => rest = &rest[bytes..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn pass_on(request: Request, asks: &mpsc::Sender<Ask>) -> Answer {
    let (answer, answered) = oneshot::channel();
    if asks.send(Ask { request, answer }).await.is_err() {
        return refused("the agent is ending".to_owned());
    }
    answered.await.unwrap_or_else(|_| refused("the agent is ending".to_owned()))
}

const fn refused(message: String) -> Answer {
    Answer::Refused { message }
}

/// A line without its end; `None` if it is too long or has none.
async fn read_line(stream: &os::Stream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(bytes) => line.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok((end <= REQUEST_BYTES_MAX).then_some(line));
        }
        if line.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn say(path: &Path, words: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        // An oversized request is answered, and the connection closed, before all of it is read.
        let _ = stream.write_all(words);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn garbage_is_refused_and_stalls_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (server, mut asks) = Server::start(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        tokio::spawn(async move {
            while let Some(ask) = asks.recv().await {
                let _ = ask.answer.send(Answer::Done {});
            }
        });
        let silent: Vec<_> = (0..CLIENTS_MAX - 1).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let at = path.clone();
        let said = tokio::task::spawn_blocking(move || {
            for garbage in ["\n", "{}\n", "\u{0}\u{1}\n", r#"{"do":"rob"}"#, "{\"do\":\"status\",\"x\":1}\n"]
            {
                let line = format!("{}\n", garbage.trim_end());
                let answer = say(&at, line.as_bytes());
                assert!(answer.contains("no request"), "{garbage:?}: {answer}");
            }
            let largest = format!("{{\"do\":\"resume\"{}}}\n", " ".repeat(REQUEST_BYTES_MAX - 15));
            assert_eq!(largest.len(), REQUEST_BYTES_MAX + 1);
            assert_eq!(say(&at, largest.as_bytes()), "{\"answer\":\"done\"}\n");
            let past = format!("{{\"do\":\"resume\"{}}}\n", " ".repeat(REQUEST_BYTES_MAX - 14));
            assert!(say(&at, past.as_bytes()).contains("at most 4096 bytes"));
            say(&at, b"{\"do\":\"status\"}\n")
        });
        assert_eq!(said.await.unwrap(), "{\"answer\":\"done\"}\n");
        drop(silent);
        drop(server);
        assert!(!path.exists());
    }
}
