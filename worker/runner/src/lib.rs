//! `lull-runner`: the locked-down process that guests run in, one after another, for one lease.
//!
//! It takes frames from its standard input and answers on its standard output (`lull_sandbox::frame`).
//!
//! - `harden`: what the process gives up before it reads a byte;
//! - `walls`: Landlock, seccomp, namespaces, capabilities; on Windows job, AppContainer, mitigation policies; on macOS none;
//! - `report`: what it says of them;
//! - `os`: a thread's CPU time and the like, for each system;
//! - `serve`: the conversation with the host; the end of standard input ends the process at once;
//! - `program`: the module, compiled once, and its inputs;
//! - `guest`: one unit in a fresh store, driven through the guest ABI;
//! - `wasi`: programs of WASI preview 1, from standard input to standard output;
//! - `resumable`: which modules' guests can be captured, and making them so;
//! - `checkpoint`: a guest captured between two steps, and another brought to where it stood;
//! - `budget`: how much memory a guest may still take.
//!
//! It enforces limits on memory and result size. Time is the host's: it kills the process. It never opens
//! a file or a socket, and knows no job, lease or coordinator.

mod budget;
mod checkpoint;
mod guest;
#[cfg_attr(windows, path = "harden_windows.rs")]
#[cfg_attr(target_os = "macos", path = "harden_macos.rs")]
mod harden;
#[cfg_attr(windows, path = "os_windows.rs")]
mod os;
mod program;
mod report;
mod resumable;
mod serve;
#[cfg_attr(windows, path = "walls/windows.rs")]
#[cfg_attr(target_os = "macos", path = "walls/macos.rs")]
mod walls;
mod wasi;

use std::process::ExitCode;

pub use budget::process_bytes_max;
pub use harden::memory as cap_memory;
pub use os::{Parent, parent};
pub use serve::Work;
pub use walls::Layer;

/// Exit code for a process that could not be locked down: no guest ran.
const EXIT_NOT_HARDENED: u8 = 3;

/// Locks the process down and runs guests until standard input ends. `parent` is who started it.
#[must_use]
pub fn run(parent: Parent) -> ExitCode {
    run_with(parent, &[], serve::work)
}

/// The same with something else in the guests' place, and without the walls in `left_out`: for drills, which have
/// to show what each wall denies when the others are down. The program `lull-runner` leaves none out.
#[must_use]
pub fn run_with(parent: Parent, left_out: &[Layer], work: Work) -> ExitCode {
    match harden::process(parent, left_out) {
        Ok(walls) => serve::serve(walls, left_out, work),
        Err(error) => {
            serve::broken(&format!("the runner cannot be locked down: {error}"));
            ExitCode::from(EXIT_NOT_HARDENED)
        }
    }
}
