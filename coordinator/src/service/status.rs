//! Errors on the wire: a sentence that says what to do, and an `ErrorInfo` that programs can act on (AIP-193).

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{blobs, grid, store};

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "lull.v1";

fn status(code: Code, reason: &str, message: impl Into<String>, metadata: &[(&str, &str)]) -> Status {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// A field of the request is wrong.
#[must_use]
pub fn invalid(field: &str, problem: &str) -> Status {
    status(Code::InvalidArgument, "INVALID_FIELD", format!("{field}: {problem}"), &[("field", field)])
}

/// The caller did not say who it is, or is not known.
#[must_use]
pub fn unauthenticated(message: &str) -> Status {
    status(Code::Unauthenticated, "UNAUTHENTICATED", message, &[])
}

/// A device's credentials are out of date, or of a time to come. That says nothing against the device: once its
/// clock is right, the same call works.
#[must_use]
pub fn clock_differs(now_unix_secs: u64) -> Status {
    let message = "the device assertion has expired, or is not valid yet: set the clock of the PC (timedatectl set-ntp true)";
    let now = now_unix_secs.to_string();
    status(Code::FailedPrecondition, "CLOCK_DIFFERS", message, &[("coordinator_unix_secs", &now)])
}

/// The caller may not do this.
#[must_use]
pub fn denied(message: &str) -> Status {
    status(Code::PermissionDenied, "PERMISSION_DENIED", message, &[])
}

/// What was asked for is not there, or is not the caller's.
#[must_use]
pub fn not_found(what: &str) -> Status {
    status(Code::NotFound, "NOT_FOUND", format!("no {what} of that name here"), &[("resource", what)])
}

/// It cannot be had in this state.
#[must_use]
pub fn precondition(reason: &str, message: impl Into<String>) -> Status {
    status(Code::FailedPrecondition, reason, message, &[])
}

/// The caller reads the ledger already.
#[must_use]
pub fn reading() -> Status {
    let message = "another statement or list of lines is being read with this identity: wait for its end";
    status(Code::ResourceExhausted, "READING", message, &[])
}

/// A failed transaction.
#[must_use]
pub fn from_store(error: store::Error) -> Status {
    from_store_ref(&error)
}

fn from_store_ref(error: &store::Error) -> Status {
    use store::Error as E;
    let message = error.to_string();
    match error {
        E::NotFound(what) => not_found(what),
        E::RequestReused(_) => {
            status(Code::AlreadyExists, "REQUEST_ID_REUSED", message, &[("field", "request_id")])
        }
        E::InsufficientFunds { available, needed } => {
            let (available, needed) = (available.to_string(), needed.to_string());
            let metadata = [("available", available.as_str()), ("needed", needed.as_str())];
            status(Code::FailedPrecondition, "INSUFFICIENT_FUNDS", message, &metadata)
        }
        E::Precondition { reason, .. } => precondition(reason, message),
        E::NameTaken(_) => status(Code::AlreadyExists, "NAME_TAKEN", message, &[]),
        E::SlowReader => status(Code::Aborted, "SLOW_READER", message, &[]),
        E::EnrolmentToken(_) => status(Code::PermissionDenied, "ENROLMENT_TOKEN", message, &[]),
        E::KeyTaken => status(Code::AlreadyExists, "DEVICE_KEY_TAKEN", message, &[]),
        error if error.is_unavailable() => {
            tracing::warn!(%error, "database unavailable");
            status(Code::Unavailable, "DATABASE_UNAVAILABLE", "the database is not reachable: try again", &[])
        }
        error => {
            tracing::error!(%error, "call failed");
            status(Code::Internal, "INTERNAL", "the coordinator failed: its log says why", &[])
        }
    }
}

/// A call that was not decided.
#[must_use]
pub fn from_grid(error: grid::Error) -> Status {
    match error {
        grid::Error::Busy => status(Code::ResourceExhausted, "BUSY", error.to_string(), &[]),
        grid::Error::ShuttingDown => status(Code::Unavailable, "SHUTTING_DOWN", error.to_string(), &[]),
        grid::Error::Store(error) => from_store_ref(&error),
    }
}

/// A blob that was not kept or read.
#[must_use]
pub fn from_blobs(error: blobs::Error) -> Status {
    match error {
        blobs::Error::WrongDigest(_) | blobs::Error::WrongSize(_) => invalid("content", &error.to_string()),
        blobs::Error::Store(object_store::Error::NotFound { .. }) => not_found("blob"),
        blobs::Error::Store(error) => {
            tracing::error!(%error, "blob store failed");
            let message =
                "the coordinator cannot store or read content now (is its disk full?): try again later";
            status(Code::Unavailable, "BLOB_STORE", message, &[])
        }
    }
}
