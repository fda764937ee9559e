//! Checkpoints of units on disk, so that a kill, a reboot or a power cut costs an interval at most.
//!
//! - `file`: one checkpoint as the bytes of a file, checksummed;
//! - `store`: the folder of them, up to a size.
//!
//! They are a help, never a need: what is damaged, gone or does not fit makes a unit start anew, and a disk that
//! is full makes it go on without.

mod file;
mod store;

pub use file::Saved;
pub use store::{CHECKPOINTS_BYTES_MAX, Facts, Store};
