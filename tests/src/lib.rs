//! What whole-grid tests and benchmarks stand on: real processes, started on free ports and ended with the test.
//!
//! - [`Grid`]: a coordinator with its private PostgreSQL, and agents;
//! - [`Fleet`]: devices that speak the wire themselves, for what no honest agent does, and for load;
//! - [`JobFile`]: job files, built key by key;
//! - [`display`]: a virtual display with input; [`bus`]: a session bus with a desktop that is told things; [`procfs`]: what a process does;
//! - [`money`]: sums that tests check for themselves; [`history`]: a year of work as rows;
//! - [`study`]: the leukaemia study, its answer, and the same counts made another way.

pub mod bus;
pub mod display;
pub mod fleet;
pub mod grid;
pub mod history;
mod job_file;
pub mod money;
pub mod procfs;
pub mod sim;
pub mod study;

pub use fleet::{Device, Fleet};
pub use grid::{Agent, DEADLINE, Grid, binary, guest, wait_until};
pub use job_file::JobFile;
