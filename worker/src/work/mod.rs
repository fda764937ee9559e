//! One thread for each lease: it fetches what the lease needs, holds a runner, and runs the units that it is
//! told to, one at a time.
//!
//! - `assignment`: a lease as checked values, and the input of each of its units;
//! - `course`: where a unit goes on from, over as many runners as it takes;
//! - `thread`: the thread.
//!
//! The runner dies with its thread, and the thread ends when its [`Worker`] is dropped.

mod assignment;
mod course;
mod thread;

pub use assignment::{Assignment, AssignmentError, RunMode, UnitBlob};
pub use thread::{RUNNERS_PER_UNIT_MAX, Tools, Worker};
