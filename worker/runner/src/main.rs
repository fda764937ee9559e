//! `lull-runner`: the locked-down process that guests run in, one after another, for one lease.
//!
//! It takes frames from its standard input and answers on its standard output (`lull_sandbox::frame`).
//!
//! - `harden`: what the process gives up before it reads a byte;
//! - `serve`: the conversation with the host; the end of standard input ends the process at once;
//! - `program`: the module, compiled once, and its inputs;
//! - `guest`: one unit in a fresh store, driven through the guest ABI;
//! - `budget`: how much memory a guest may still take.
//!
//! It enforces limits on memory and result size. Time is the host's: it kills the process. It never opens
//! a file or a socket, and knows no job, lease or coordinator.

mod budget;
mod guest;
mod harden;
mod program;
mod serve;

use std::process::ExitCode;

const USAGE: &str = "lull-runner runs guests for lull-worker and `lull run-local`, which start it themselves.

usage: lull-runner --parent PID    serve frames on standard input and output until it ends
       lull-runner --version       print the version";

/// Exit code for wrong arguments.
const EXIT_USAGE: u8 = 2;
/// Exit code for a process that could not be locked down: no guest ran.
const EXIT_NOT_HARDENED: u8 = 3;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a version and a usage message are for people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let parent = match arguments[..] {
        ["--version"] => {
            println!("lull-runner {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["--parent", pid] => pid.parse::<i32>().ok().and_then(rustix::process::Pid::from_raw),
        _ => None,
    };
    let Some(parent) = parent else {
        eprintln!("{USAGE}");
        return ExitCode::from(EXIT_USAGE);
    };
    match harden::process(parent) {
        Ok(()) => serve::serve(),
        Err(error) => {
            serve::broken(&format!("the runner cannot be locked down: {error}"));
            ExitCode::from(EXIT_NOT_HARDENED)
        }
    }
}
