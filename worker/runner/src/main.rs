//! `lull-runner`: the arguments of the process that guests run in. The rest is in the library.

use std::process::ExitCode;

const USAGE: &str = "lull-runner runs guests for lull-worker and `lull run-local`, which start it themselves.

usage: lull-runner --parent PID    serve frames on standard input and output until it ends
       lull-runner --version       print the version";

/// Exit code for wrong arguments.
const EXIT_USAGE: u8 = 2;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a version and a usage message are for people")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let parent = match arguments[..] {
        ["--version"] => {
            println!("lull-runner {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        ["--parent", pid] => lull_runner::parent(pid),
        _ => None,
    };
    let Some(parent) = parent else {
        eprintln!("{USAGE}");
        return ExitCode::from(EXIT_USAGE);
    };
    lull_runner::run(parent)
}
