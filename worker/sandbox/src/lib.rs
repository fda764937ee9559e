//! The host's side of a runner: start it, feed it, freeze it, end it.
//!
//! A runner is a process of its own, `lull-runner`, in which one guest at a time runs. The agent and
//! `lull run-local` hold it by a [`Runner`]; another thread can stop and continue it by its [`Freezer`].
//!
//! - [`frame`]: what the two sides say to each other, over the runner's standard input and output;
//! - [`checkpoint`]: a guest between two steps, as bytes;
//! - [`find_runner`]: where the binary is;
//! - [`Limits`]: what a guest may use; time is enforced here, memory and result size in the runner;
//! - [`WallPolicy`]: what must hold a runner back besides WebAssembly; [`probe`] tells what does.
//!
//! It runs no guest itself, links no WebAssembly engine, retries nothing and knows no coordinator.

pub mod checkpoint;
mod compile;
mod deadline;
mod error;
pub mod frame;
mod freezer;
mod limits;
mod listener;
mod locate;
mod os;
mod outcome;
mod pipe;
mod runner;
mod walls;

pub use compile::compile;
pub use error::Error;
pub use freezer::Freezer;
pub use limits::{
    ARTEFACT_BYTES_MAX, CompileLimits, FUEL_MAX, Flavour, LOAD_SECS_MAX, Limits, MESSAGE_BYTES_MAX,
    cut_message,
};
pub use locate::{RUNNER_ENV, find_runner};
pub use outcome::{Outcome, UnitRun};
pub use runner::{Program, RunOn, Runner, RunnerConfig, probe};
pub use walls::{Standing, Wall, WallPolicy, WallReport};
