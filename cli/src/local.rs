//! A whole job on this PC: the same splitter, payloads, runner and merges as on a grid; no copies, no
//! money, no coordinator.

mod estimate;
mod stages;

pub(crate) use estimate::{Cpu, estimate};
pub(crate) use stages::{Event, Files, Finished, Guest, run_job};
