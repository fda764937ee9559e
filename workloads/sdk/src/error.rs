//! Why a program could not do what it was asked.

use std::fmt;

/// A message for the submitter: what happened, to what, and what to do next.
///
/// Any [`std::error::Error`] becomes one through `?`. It is not itself a [`std::error::Error`]: a guest has
/// nobody to hand it to but the runner. It carries no backtrace and no source, because two devices must
/// produce the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
}

impl Error {
    /// An error with this message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}
