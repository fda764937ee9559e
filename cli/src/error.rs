//! How a command ends when it does not end well: a message for people, an exit code for scripts.

use std::error::Error as _;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::text::human;

/// Exit codes, as `lull --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Whoever read stdout has enough: no error.
    PipeClosed = 0,
    /// Any other failure.
    Failure = 1,
    /// A wrong command line, or bad input such as a wrong job file.
    Usage = 2,
    /// The coordinator cannot be reached.
    Unreachable = 3,
    /// The token is missing, wrong, or of another role.
    NotAllowed = 4,
    /// No such thing.
    NotFound = 5,
    /// The job ended without an answer, or has none yet.
    NoAnswer = 6,
    /// The books do not balance.
    Unbalanced = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command ended: what happened, to what, what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    /// What the process exits with.
    pub(crate) exit: Exit,
    /// What people read.
    pub(crate) message: String,
}

/// What a command gives.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An end with this code and message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Bad input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure to write what was asked for.
    pub(crate) fn write(to: &str, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::PipeClosed } else { Exit::Failure };
        Self::new(exit, format!("cannot write to {to}: {error}"))
    }

    /// The same, and what it happened to.
    #[must_use]
    pub(crate) fn about(self, what: &str) -> Self {
        match self.exit {
            Exit::NotFound | Exit::Failure => Self { message: format!("{what}: {}", self.message), ..self },
            _ => self,
        }
    }

    /// What a coordinator at `url` answered.
    pub(crate) fn from_status(status: &Status, url: &str) -> Self {
        let exit = exit_of(status);
        let message = human::plain(status.message());
        let message = match exit {
            // Without a source the coordinator said itself that it cannot serve now.
            Exit::Unreachable if status.source().is_none() => {
                format!("the coordinator at {url} cannot serve now: {message}{}", details(status))
            }
            Exit::Unreachable => {
                let cause = root_cause(status);
                return Self::new(
                    exit,
                    format!(
                        "cannot reach the coordinator at {url} ({cause}): is it running? `--coordinator` or \
                         LULL_COORDINATOR names another"
                    ),
                );
            }
            Exit::NotAllowed if status.code() == Code::Unauthenticated => {
                format!("{message}{} (give a token with --token-file, or LULL_TOKEN)", details(status))
            }
            _ => format!("{message}{}", details(status)),
        };
        Self::new(exit, message)
    }
}

/// Whether a call may not have arrived, or its answer was lost: asking again is right.
pub(crate) fn is_in_transit(status: &Status) -> bool {
    // A status that the coordinator sent has no source: a source is an error of the connection.
    status.code() == Code::Unavailable || status.source().is_some()
}

fn exit_of(status: &Status) -> Exit {
    if is_in_transit(status) {
        return Exit::Unreachable;
    }
    match status.code() {
        // What exists already is a request id that was used for something else.
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => Exit::Usage,
        Code::Unauthenticated | Code::PermissionDenied => Exit::NotAllowed,
        Code::NotFound => Exit::NotFound,
        _ => Exit::Failure,
    }
}

fn root_cause(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    human::plain(&text)
}

/// ` [REASON, key: value]`, where the status carries an `ErrorInfo`.
fn details(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return String::new() };
    let mut metadata: Vec<_> = info.metadata.iter().collect();
    metadata.sort();
    let mut parts = vec![human::plain(&info.reason)];
    parts.extend(metadata.iter().map(|(key, value)| human::plain(&format!("{key}: {value}"))));
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() { String::new() } else { format!(" [{}]", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_code_has_its_exit() {
        let check = |code: Code, exit: Exit| {
            let error = Error::from_status(&Status::new(code, "what happened"), "http://here");
            assert_eq!(error.exit, exit, "{code:?}");
        };
        check(Code::InvalidArgument, Exit::Usage);
        check(Code::OutOfRange, Exit::Usage);
        check(Code::AlreadyExists, Exit::Usage);
        check(Code::Unavailable, Exit::Unreachable);
        check(Code::Unauthenticated, Exit::NotAllowed);
        check(Code::PermissionDenied, Exit::NotAllowed);
        check(Code::NotFound, Exit::NotFound);
        check(Code::FailedPrecondition, Exit::Failure);
        check(Code::Internal, Exit::Failure);
        check(Code::ResourceExhausted, Exit::Failure);
    }

    #[test]
    fn a_broken_connection_is_unreachable_whatever_its_code() {
        let broken = Status::from_error(Box::new(io::Error::other("reset by peer")));
        assert!(is_in_transit(&broken));
        let error = Error::from_status(&broken, "http://here:1");
        assert_eq!(error.exit, Exit::Unreachable);
        assert!(error.message.starts_with("cannot reach the coordinator at http://here:1 (reset by peer)"));
        assert!(!is_in_transit(&Status::unknown("said so itself")));
    }

    #[test]
    fn reason_and_metadata_are_shown() {
        let metadata = HashMap::from([("field".to_owned(), "budget".to_owned())]);
        let details = ErrorDetails::with_error_info("BUDGET_TOO_SMALL", "lull", metadata);
        let status = Status::with_error_details(Code::InvalidArgument, "budget: is zero\u{7}", details);
        let error = Error::from_status(&status, "http://here");
        assert_eq!(error.message, "budget: is zero? [BUDGET_TOO_SMALL, field: budget]");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = Error::write("stdout", &io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit as u8, 0);
        assert_eq!(Error::write("stdout", &io::Error::other("full")).exit, Exit::Failure);
    }
}
