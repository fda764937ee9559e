//! What whole-grid tests and benchmarks stand on: real processes, started on free ports and ended with the test.
//!
//! - [`Grid`]: a coordinator with its private PostgreSQL, and agents;
//! - [`Fleet`]: devices that speak the wire themselves, for what no honest agent does, and for load.

pub mod fleet;
pub mod grid;

pub use fleet::{Device, Fleet};
pub use grid::{Agent, Grid, binary, guest};
