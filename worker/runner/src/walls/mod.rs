//! The walls of the system, one file each. They are for the day that WebAssembly has a hole.
//!
//! [`before_threads`] comes first, while the process has one thread: namespaces can be entered only then, and
//! what a thread has given up the threads it starts do not have. [`after_threads`] comes once all threads are
//! there, since it forbids to start another. None of it trusts the user id: all of it holds for root.
//!
//! Not here: a PID namespace. It takes effect for children only, so that the runner would have to fork, with
//! a second process between it and its host's signals. Others cannot be seen, as /proc cannot be reached, and
//! seccomp and Landlock's scopes each deny to signal them.

mod capabilities;
mod landlock;
mod namespaces;
mod root;
mod seccomp;

use lull_sandbox::{Wall, WallReport};

use crate::report::report;

/// A wall that a drill can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The namespaces, and with them the empty root directory that needs them.
    Namespaces,
    /// Dropping the capabilities.
    Capabilities,
    /// Landlock.
    Landlock,
    /// seccomp.
    Seccomp,
}

/// Builds what has to be built before there is a second thread.
pub(crate) fn before_threads(left_out: &[Layer]) -> Vec<WallReport> {
    let build = |layer, build: fn() -> Result<(), String>| unless_left_out(left_out, layer, build);
    vec![
        report(Wall::Namespaces, build(Layer::Namespaces, namespaces::enter)),
        report(Wall::Root, build(Layer::Namespaces, root::empty)),
        // After the namespaces: whoever makes one has every capability in it.
        report(Wall::Capabilities, build(Layer::Capabilities, capabilities::drop_all)),
    ]
}

/// Shuts the file system; what has to be read of it was read.
pub(crate) fn shut_files(left_out: &[Layer]) -> WallReport {
    if left_out.contains(&Layer::Landlock) {
        return report(Wall::Landlock { abi: 0 }, Err(LEFT_OUT.to_owned()));
    }
    let (abi, result) = landlock::restrict();
    report(Wall::Landlock { abi }, result)
}

/// Builds what must not be there before all threads are; it holds for all of them.
pub(crate) fn after_threads(left_out: &[Layer]) -> WallReport {
    report(Wall::Seccomp, unless_left_out(left_out, Layer::Seccomp, seccomp::filter))
}

/// Why a wall does not stand that a drill left out.
const LEFT_OUT: &str = "left out by a drill";

fn unless_left_out(
    left_out: &[Layer],
    layer: Layer,
    build: fn() -> Result<(), String>,
) -> Result<(), String> {
    if left_out.contains(&layer) { Err(LEFT_OUT.to_owned()) } else { build() }
}
