//! The guest SDK: write a research program as a [`Program`], get a Lull module.
//!
//! The shortest program is a function from a unit to its result:
//!
//! ```
//! use lull_sdk::{Error, Payload, Unit};
//!
//! fn count(unit: &Unit) -> Result<String, Error> {
//!     match &unit.payload {
//!         Payload::Lines(lines) => Ok(format!("{}\n", lines.len())),
//!         _ => Err(Error::new("this program counts lines: split its job by lines")),
//!     }
//! }
//!
//! lull_sdk::each_unit!(count);
//! ```
//!
//! A program with inputs, long units or a merge of its own implements [`Program`] and ends in
//! [`program!`]. Built for `wasm32-unknown-unknown` as a `cdylib`, the macro exports the functions of
//! [`lull_abi::exports`]; built for anything else it exports nothing, so that the same crate has ordinary
//! unit tests ([`testing`]).
//!
//! # When a program fails
//!
//! - An [`Error`] is a result like any other: everybody who runs the unit gets the same message.
//! - A Rust panic is a trap with a message: a panic hook puts it where `lull_result_ptr` and
//!   `lull_result_len` find it before the trap. **After a trap the runner asks `lull_result_len`; if it is
//!   not zero, those bytes are the message.** Any other trap (a stack overflow, memory used up) leaves the
//!   length at zero, because every entry to the guest starts by emptying the result.
//!
//! # What the SDK does not do
//!
//! No threads, clock, randomness, files or network: a unit's result follows from its module, its inputs and
//! its payload alone. It does not run wasm (that is the runner) and does not check results (that is the
//! coordinator).

mod driver;
mod error;
pub mod guest;
mod inputs;
mod program;
pub mod testing;

pub use driver::Driver;
pub use error::Error;
pub use inputs::Inputs;
pub use lull_abi::{Payload, Point, Stage, Status, Unit};
pub use program::{Program, Step};
