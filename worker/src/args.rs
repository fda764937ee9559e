//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lull_sandbox::WallPolicy;

use crate::presence;

/// The agent of Lull: runs work units on this PC while nobody uses it.
#[derive(Debug, Parser)]
#[command(name = "lull-worker", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Example: enrol this PC, then run; later runs need no token
  LULL_ENROLMENT_TOKEN=... lull-worker run --coordinator http://127.0.0.1:7878

Exit codes:
  0    ended by a signal, everything handed back
  1    something unexpected
  2    wrong settings, or the enrolment was refused
  3    another agent uses the state directory
  4    the coordinator does not know this device any more: enrol again
  130  ended at once by a second signal";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent; the first run enrols this device
    Run(Box<RunArgs>),
}

/// How the agent runs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Address of the coordinator; later runs remember it
    #[arg(long, env = "LULL_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// Where identity, outbox and cache are kept [default: $XDG_STATE_HOME/lull-worker, else ~/.local/state/lull-worker]
    #[arg(long, env = "LULL_WORKER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Token for the first run, from the operator
    #[arg(long, env = "LULL_ENROLMENT_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub enrolment_token: Option<String>,
    /// Nobody sits at this machine: run at any time, without watching for a person
    #[arg(long, env = "LULL_DEDICATED")]
    pub dedicated: bool,
    /// Units at a time [default: one for each core]
    #[arg(long, env = "LULL_SLOTS", value_name = "N")]
    pub slots: Option<NonZeroU32>,
    /// Seconds without input after which the PC counts as free
    #[arg(long, env = "LULL_IDLE_DELAY_SECS", value_name = "SECS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub idle_delay_secs: u64,
    /// Size of the cache of modules and inputs
    #[arg(long, env = "LULL_CACHE_BYTES", value_name = "BYTES", default_value_t = 2 * 1024 * 1024 * 1024)]
    pub cache_bytes: u64,
    /// The runner binary [default: $LULL_RUNNER, else lull-runner beside this program]
    #[arg(long, value_name = "PATH")]
    pub runner: Option<PathBuf>,
    /// What must hold a runner back besides WebAssembly
    #[arg(long, env = "LULL_WALLS", value_enum, default_value_t = Walls::Required)]
    pub walls: Walls,
    /// Name that the owner sees [default: the host's name]
    #[arg(long, env = "LULL_NAME")]
    pub name: Option<String>,
}

/// What must hold a runner back besides WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Walls {
    /// seccomp, and Landlock or user namespaces; without them nothing runs
    Required,
    /// Whatever the system has
    BestEffort,
}

impl From<Walls> for WallPolicy {
    fn from(walls: Walls) -> Self {
        match walls {
            Walls::Required => Self::Required,
            Walls::BestEffort => Self::BestEffort,
        }
    }
}

/// The longest name of a device, in bytes.
const NAME_BYTES_MAX: usize = 100;

impl RunArgs {
    /// Where identity, outbox and cache are kept; `None` if that cannot be told.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        let from =
            |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let default = || {
            let base =
                from("XDG_STATE_HOME").or_else(|| from("HOME").map(|home| home.join(".local/state")))?;
            Some(base.join("lull-worker"))
        };
        self.state_dir.clone().or_else(default)
    }

    /// Units at a time.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let cores = || {
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
        };
        self.slots.map_or_else(cores, NonZeroU32::get)
    }

    /// What counts as a reason to rest.
    #[must_use]
    pub fn presence(&self) -> presence::Settings {
        let settings =
            if self.dedicated { presence::Settings::dedicated() } else { presence::Settings::default() };
        presence::Settings { idle_delay: Duration::from_secs(self.idle_delay_secs), ..settings }
    }

    /// Name that the owner sees.
    #[must_use]
    pub fn name(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut name = self.name.clone().unwrap_or_else(host);
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        name
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
        let Command::Run(arguments) =
            Cli::try_parse_from(["lull-worker", "run"].iter().chain(arguments))?.command;
        Ok(*arguments)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_and_limits() {
        let arguments = parse(&["--state-dir", "/s", "--name", &"é".repeat(51)]).unwrap();
        assert_eq!(arguments.presence(), presence::Settings::default());
        assert_eq!(arguments.state_dir(), Some(PathBuf::from("/s")));
        assert!(arguments.slots() >= 1);
        assert_eq!(arguments.name(), "é".repeat(50));
        assert_eq!(parse(&["--dedicated"]).unwrap().presence(), presence::Settings::dedicated());
        assert_eq!(arguments.walls, Walls::Required);
        assert_eq!(parse(&["--walls", "best-effort"]).unwrap().walls, Walls::BestEffort);
        for wrong in [["--slots", "0"], ["--idle-delay-secs", "0"], ["--idle-delay", "9"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
