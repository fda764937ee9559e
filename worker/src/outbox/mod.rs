//! Finished attempts on disk, until the coordinator has them.
//!
//! - [`Outbox`]: the files;
//! - [`Writer`]: the thread that writes them, many attempts in one go.

mod log;
mod record;
mod writer;

pub(crate) use log::read_result;
pub use log::{Entry, Outbox};
pub use writer::{OutboxSender, Writer, Written};
