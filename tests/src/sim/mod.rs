//! A grid in simulated time: thousands of devices, honest or not, against the coordinator's real core.
//!
//! - [`MemoryStore`]: the coordinator's tables in memory;
//! - [`Conduct`]: how an owner's devices behave;
//! - [`Server`]: whom the devices call: [`Lull`], or [`Boinc`] for comparison;
//! - [`run`]: one run from the first unit to the last; the same seed gives the same run;
//! - [`audit()`]: what should have been accepted and paid, computed from what devices really did.

mod audit;
mod boinc;
mod conduct;
mod lull;
mod memory;
pub mod table;
mod world;

pub use audit::{Findings, audit};
pub use boinc::Boinc;
pub use conduct::{AfterCatch, Conduct, Lying};
pub use lull::Lull;
pub use memory::{Hints, MemoryStore, Unit};
pub use world::{Answer, Call, Run, Scene, Server, Work, run};
