//! The walls of the system, one file each. They are for the day that WebAssembly has a hole.
//!
//! [`before_threads`] comes first, while the process has one thread: namespaces can be entered only then, and
//! what a thread has given up the threads it starts do not have. [`after_threads`] comes once all threads are
//! there, since it forbids to start another. None of it trusts the user id: all of it holds for root.
//!
//! Not here: a PID namespace. It takes effect for children only, so that the runner would have to fork, with
//! a second process between it and its host's signals. Landlock and seccomp already deny to see or signal others.

mod capabilities;
mod landlock;
mod namespaces;
mod seccomp;

use lull_sandbox::{Wall, WallReport};

use crate::report::report;

/// Builds what has to be built before there is a second thread.
pub(crate) fn before_threads() -> Vec<WallReport> {
    let namespaces = report(Wall::Namespaces, namespaces::enter());
    // After the namespaces: whoever makes one has every capability in it.
    vec![namespaces, report(Wall::Capabilities, capabilities::drop_all())]
}

/// Shuts the file system; what has to be read of it was read.
pub(crate) fn shut_files() -> WallReport {
    let (abi, result) = landlock::restrict();
    report(Wall::Landlock { abi }, result)
}

/// Builds what must not be there before all threads are; it holds for all of them.
pub(crate) fn after_threads() -> WallReport {
    report(Wall::Seccomp, seccomp::filter())
}
