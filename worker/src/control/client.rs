//! The command line's side.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request, os};

/// An agent answers within milliseconds; one that does not is stuck.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// The longest answer: a status with some thousand leases.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent runs here: start it with `lull-worker run`, or name its --state-dir")]
    NotRunning,
    /// Somebody listens, and cannot be spoken to.
    #[error("the agent at {path} cannot be spoken to: {source}")]
    Broken {
        /// Its socket.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent that listens there.
///
/// # Errors
/// When it does not answer, or says no.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, AskError> {
    let answer = match exchange(socket, request) {
        Ok(answer) => answer,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(AskError::NotRunning);
        }
        Err(source) => return Err(AskError::Broken { path: socket.display().to_string(), source }),
    };
    match answer {
        Answer::Refused { message } => Err(AskError::Refused(message)),
        answer => Ok(answer),
    }
}

fn exchange(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    let line = os::exchange(socket, &text, ANSWER_TIME, ANSWER_BYTES_MAX)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up; try again"));
    }
    Ok(serde_json::from_str(&line)?)
}
