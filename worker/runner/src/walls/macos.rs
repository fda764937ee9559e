//! macOS: no walls have been built. Its sandbox takes a profile and a call that Apple declares out of date, which nobody has
//! tried here. So the runner says that it stands behind WebAssembly and the limits of `harden` alone, and hosts refuse it by
//! default.

use lull_sandbox::{Wall, WallReport};

use crate::report::report;

/// A wall that a drill can leave out: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {}

/// What stands once all threads are there: nothing.
pub(crate) fn after_threads(_: &[Layer]) -> WallReport {
    report(Wall::Seatbelt, Err("Lull builds none on macOS yet".to_owned()))
}
