//! The command line.

mod presence;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::NaiveTime;
use clap::{Args, Parser, Subcommand, ValueEnum};
use lull_sandbox::WallPolicy;

use crate::control::PAUSE_SECS_MAX;
use crate::core::Notify;
use crate::os;

pub use presence::{Hours, Limit, PresenceArgs};

/// The agent of Lull: runs work units on this PC while nobody uses it.
#[derive(Debug, Parser)]
#[command(name = "lull-worker", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// The settings file [default: $XDG_CONFIG_HOME/lull-worker/config.toml, else ~/.config/lull-worker/config.toml; as root /etc/lull-worker/config.toml]
    #[arg(long, global = true, env = "LULL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
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
  3    another agent uses the state directory, or watches this PC
  4    the coordinator has said for ten minutes that it does not know this device: enrol again
  5    no agent runs here
  6    the doctor found a problem
  7    receipts and ledger differ
  130  ended at once by a second signal";

const RUN_EXAMPLES: &str = "\
Examples:
  LULL_ENROLMENT_TOKEN=... lull-worker run --coordinator http://127.0.0.1:7878
  lull-worker run
  lull-worker run --schedule 'Mon-Fri 18:00-08:00, Sat-Sun' --slots 2

The first run enrols this PC with the operator's token; later runs need neither token nor address.
Ctrl-C hands back what is not finished; a second one ends the agent at once.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent; the first run enrols this device
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// What the running agent does, and why
    #[command(after_help = "Example:\n  lull-worker status")]
    Status(StatusArgs),
    /// What this PC earned: verified, and paid
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  lull-worker earnings\n  lull-worker earnings verify"
    )]
    Earnings(EarningsArgs),
    /// Run nothing for a while; guests stop at once and lose nothing
    #[command(after_help = "Examples:\n  lull-worker pause --for 2h\n  lull-worker pause --until 18:00")]
    Pause(PauseArgs),
    /// End a pause
    #[command(after_help = "Example:\n  lull-worker resume")]
    Resume(PlaceArgs),
    /// Finish what runs, take nothing new, then end the agent
    #[command(after_help = "Example:\n  lull-worker drain --wait")]
    Drain(DrainArgs),
    /// The settings of `run`: what they are, and where each comes from
    #[command(after_help = "Examples:\n  lull-worker config show --origin\n  lull-worker config check")]
    Config(ConfigArgs),
    /// Whether everything is here that the agent needs, and what to do if not
    #[command(after_help = "Example:\n  lull-worker doctor")]
    Doctor(Box<DoctorArgs>),
    /// What the agent has logged, also when it does not run
    #[command(after_help = "Example:\n  lull-worker logs --lines 20 --follow")]
    Logs(LogsArgs),
}

/// What to do with the settings.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Each setting, as lines of a settings file
    #[command(after_help = "Example:\n  lull-worker config show --origin")]
    Show(ConfigShowArgs),
    /// Whether the settings file and the environment are sound
    #[command(after_help = "Example:\n  lull-worker config check")]
    Check,
}

/// How settings are shown.
#[derive(Debug, Args)]
pub struct ConfigShowArgs {
    /// Say where each value comes from
    #[arg(long)]
    pub origin: bool,
    /// Lines for people, or JSON for programs (with origin and help)
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
}

/// Which agent is meant.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Where the agent keeps things [default: $XDG_STATE_HOME/lull-worker, else ~/.local/state/lull-worker; on Windows %LOCALAPPDATA%\lull-worker]
    #[arg(long, env = "LULL_WORKER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// How a status is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How to show what the agent does.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    /// Which agent.
    pub place: PlaceArgs,
    /// Lines for people, or JSON for programs
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
}

/// How to show what this PC earned.
#[derive(Debug, Args)]
pub struct EarningsArgs {
    #[command(flatten)]
    /// Which agent.
    pub place: PlaceArgs,
    /// Where to ask if no agent runs [default: where this device enrolled]
    #[arg(long, env = "LULL_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// Lines for people, or JSON for programs
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
    /// What else to do with them.
    #[command(subcommand)]
    pub command: Option<EarningsCommand>,
}

/// What else to do with what was earned.
#[derive(Debug, Subcommand)]
pub enum EarningsCommand {
    /// Compare the receipts that this PC keeps with the coordinator's ledger, and name every difference
    #[command(after_help = "\
Examples:
  lull-worker earnings verify
  lull statement --me --month 2026-11 --format json > november.json
  lull-worker earnings verify --statement november.json

Exits with 7 when receipts and ledger differ.")]
    Verify(VerifyArgs),
}

/// How to compare receipts.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    /// Which agent.
    pub place: PlaceArgs,
    /// Where to ask [default: where this device enrolled]
    #[arg(long, env = "LULL_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// Trust receipts that are signed with this key too: a coordinator's seal.pub
    #[arg(long = "key", value_name = "HEX", value_parser = public_key)]
    pub keys: Vec<String>,
    /// Compare with this statement of the owner, too: what `lull statement --format json` wrote. May be given again
    #[arg(long = "statement", value_name = "FILE")]
    pub statements: Vec<PathBuf>,
    /// Lines for people, or JSON for programs
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
}

fn public_key(text: &str) -> Result<String, String> {
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(hex::encode(bytes)),
        _ => Err("a key is 64 hexadecimal digits, as in seal.pub".to_owned()),
    }
}

/// How long to pause.
#[derive(Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    /// Which agent.
    pub place: PlaceArgs,
    /// How long, like 90m, 2h or 1h30m
    #[arg(long = "for", value_name = "TIME", value_parser = duration_secs, required_unless_present = "until", conflicts_with = "until")]
    pub secs: Option<u64>,
    /// Until when today, or tomorrow if that is past, like 18:00
    #[arg(long, value_name = "HH:MM", value_parser = time_of_day)]
    pub until: Option<NaiveTime>,
}

/// How to examine this PC.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Lines for people, or JSON for programs
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
    #[command(flatten)]
    /// The agent as it would run with these.
    pub run: RunArgs,
}

/// What to show of the log.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    /// Which agent.
    pub place: PlaceArgs,
    /// How many of the last lines
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
    pub lines: usize,
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// How to drain.
#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    /// Which agent.
    pub place: PlaceArgs,
    /// Return when the agent has ended
    #[arg(long)]
    pub wait: bool,
}

/// Seconds of a time like `1h30m`.
fn duration_secs(text: &str) -> Result<u64, String> {
    let wrong = || "write a time like 90m, 2h or 1h30m".to_owned();
    let mut rest = text;
    let mut secs: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return Err(wrong()),
        };
        secs = number.checked_mul(unit).and_then(|more| secs.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    match secs {
        0 => Err(wrong()),
        PAUSE_SECS_MAX.. if secs > PAUSE_SECS_MAX => Err("a pause is 30 days at most".to_owned()),
        _ => Ok(secs),
    }
}

fn time_of_day(text: &str) -> Result<NaiveTime, String> {
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| "write a time of day like 18:00".to_owned())
}

/// The state directory: `given`, or the default; `None` if that cannot be told.
#[must_use]
pub fn state_dir(given: Option<&Path>) -> Option<PathBuf> {
    given.map(Path::to_owned).or_else(|| Some(os::state_home()?.join("lull-worker")))
}

/// How the agent runs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Address of the coordinator; later runs remember it
    #[arg(long, env = "LULL_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// Where identity, outbox and cache are kept [default: $XDG_STATE_HOME/lull-worker, else ~/.local/state/lull-worker; on Windows %LOCALAPPDATA%\lull-worker]
    #[arg(long, env = "LULL_WORKER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Token for the first run, from the operator
    #[arg(long, env = "LULL_ENROLMENT_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub enrolment_token: Option<String>,
    /// Units at a time [default: one for each core]
    #[arg(long, env = "LULL_SLOTS", value_name = "N")]
    pub slots: Option<NonZeroU32>,
    /// Seconds that a unit may lose when its runner, the agent or the PC ends: it is checkpointed this often; 0: never
    #[arg(long, env = "LULL_CHECKPOINT_SECS", value_name = "SECS", default_value = CHECKPOINT_SECS_DEFAULT, value_parser = checkpoint_time)]
    pub checkpoint_secs: Duration,
    /// Size of the cache of modules and inputs
    #[arg(long, env = "LULL_CACHE_BYTES", value_name = "BYTES", default_value_t = 2 * 1024 * 1024 * 1024)]
    pub cache_bytes: u64,
    /// The runner binary [default: lull-runner beside this program]
    #[arg(long, env = "LULL_RUNNER", value_name = "PATH")]
    pub runner: Option<PathBuf>,
    /// What must hold a runner back besides WebAssembly
    #[arg(long, env = "LULL_WALLS", value_enum, default_value_t = Walls::Required)]
    pub walls: Walls,
    /// Run modules of any submitter on the grid, not of one's own pool only. Needed on Windows and macOS, where walls around
    /// guests have not been shown to hold, and the coordinator cannot yet be asked for one pool's work only
    #[cfg(not(target_os = "linux"))]
    #[arg(long, env = "LULL_ACCEPT_FOREIGN_MODULES", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, value_parser = presence::switch)]
    pub accept_foreign_modules: bool,
    /// Name that the owner sees [default: the host's name]
    #[arg(long, env = "LULL_NAME")]
    pub name: Option<String>,
    /// Tell somebody who comes back, in a desktop notification, what this PC earned
    #[arg(long, env = "LULL_NOTIFY", value_enum, default_value_t = NotifySwitch::On, value_name = "SWITCH")]
    pub notify: NotifySwitch,
    /// Minutes from one such notification to the next, at least
    #[arg(long, env = "LULL_NOTIFY_EVERY_MINS", value_name = "MINS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=525_600))]
    pub notify_every_mins: u64,
    #[command(flatten)]
    /// What counts as a reason to rest.
    pub presence: PresenceArgs,
}

/// Whether somebody who comes back is told what was earned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NotifySwitch {
    /// They are
    On,
    /// They are not
    Off,
}

/// Time between two checkpoints of a unit, in seconds, unless its owner says otherwise.
pub const CHECKPOINT_SECS_DEFAULT: &str = "60";

/// The longest time between two checkpoints, in seconds.
const CHECKPOINT_SECS_MAX: f64 = 86_400.0;

fn checkpoint_time(text: &str) -> Result<Duration, String> {
    let secs = text.parse().ok().filter(|secs| (0.0..=CHECKPOINT_SECS_MAX).contains(secs));
    secs.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, like 60 or 0.5, a day at most".to_owned())
}

/// What must hold a runner back besides WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Walls {
    /// seccomp, and Landlock or user namespaces; on Windows a job and an AppContainer; on macOS there are none yet; without
    /// them nothing runs
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
        state_dir(self.state_dir.as_deref())
    }

    /// Whether this system runs modules of strangers, as every grid has them.
    ///
    /// # Errors
    /// What the owner has to say before it does.
    pub fn check_modules(&self) -> Result<(), String> {
        #[cfg(not(target_os = "linux"))]
        if !self.accept_foreign_modules {
            return Err("on this system an agent is meant to run modules of its own pool only, because the walls around \
                        guests have not been shown to hold there, and a coordinator cannot be asked for that yet: \
                        pass --accept-foreign-modules (or LULL_ACCEPT_FOREIGN_MODULES=true) if every submitter of \
                        this grid is trusted with this PC"
                .to_owned());
        }
        Ok(())
    }

    /// Units at a time.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let cores = || {
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
        };
        self.slots.map_or_else(cores, NonZeroU32::get)
    }

    /// Time between two checkpoints of a unit; `None`: none are taken.
    #[must_use]
    pub fn checkpoint_every(&self) -> Option<Duration> {
        Some(self.checkpoint_secs).filter(|time| !time.is_zero())
    }

    /// How often somebody who comes back may be told what was earned.
    #[must_use]
    pub const fn notify(&self) -> Notify {
        match self.notify {
            NotifySwitch::Off => Notify::Off,
            NotifySwitch::On => Notify::Every { secs: self.notify_every_mins * 60 },
        }
    }

    /// Name that the owner sees.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.name.clone().unwrap_or_else(os::host_name);
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        name
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::presence::{Networks, Policy, Settings, Transfers};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
        let Command::Run(arguments) =
            Cli::try_parse_from(["lull-worker", "run"].iter().chain(arguments))?.command
        else {
            panic!("it is `run`")
        };
        Ok(*arguments)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pauses_have_an_end() {
        let cases = [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("30d", PAUSE_SECS_MAX), ("1s", 1)];
        for (text, secs) in cases {
            assert_eq!(duration_secs(text), Ok(secs), "{text}");
        }
        for wrong in ["", "2", "h", "0m", "2x", "-2h", "31d", "99999999999999999999h", "2hé", "é"] {
            assert!(duration_secs(wrong).is_err(), "{wrong}");
        }
        assert!(Cli::try_parse_from(["lull-worker", "pause"]).is_err(), "never without a time");
        assert!(Cli::try_parse_from(["lull-worker", "pause", "--until", "24:10"]).is_err());
        assert!(Cli::try_parse_from(["lull-worker", "pause", "--until", "18:00"]).is_ok());
    }

    #[test]
    fn modules_of_strangers_are_taken_where_walls_are_known_to_hold() {
        assert_eq!(parse(&[]).unwrap().check_modules().is_ok(), cfg!(target_os = "linux"));
        #[cfg(not(target_os = "linux"))]
        for accepted in ["--accept-foreign-modules", "--accept-foreign-modules=true"] {
            assert_eq!(parse(&[accepted]).unwrap().check_modules(), Ok(()));
        }
    }

    #[test]
    fn defaults_and_limits() {
        let arguments = parse(&["--state-dir", "/s", "--name", &"é".repeat(51)]).unwrap();
        assert_eq!(arguments.presence.settings(), Settings::default());
        assert_eq!(arguments.state_dir(), Some(PathBuf::from("/s")));
        assert!(arguments.slots() >= 1);
        assert_eq!(arguments.name(), "é".repeat(50));
        for dedicated in [["--dedicated"], ["--dedicated=1"]] {
            assert_eq!(parse(&dedicated).unwrap().presence.settings(), Settings::dedicated());
        }
        assert_eq!(arguments.walls, Walls::Required);
        assert_eq!(arguments.checkpoint_every(), Some(Duration::from_secs(60)));
        let low = parse(&["--checkpoint-secs", "0.25", "--evict-secs", "0"]).unwrap();
        assert_eq!(low.checkpoint_every(), Some(Duration::from_millis(250)));
        assert_eq!(low.presence.settings().evict_after, None);
        assert_eq!(parse(&["--checkpoint-secs", "0"]).unwrap().checkpoint_every(), None);
        for wrong in ["-1", "NaN", "inf", "1e9", "x"] {
            assert!(parse(&[&format!("--checkpoint-secs={wrong}")]).is_err(), "{wrong}");
        }
        assert_eq!(arguments.notify(), Notify::Every { secs: 3600 });
        assert_eq!(parse(&["--notify=off"]).unwrap().notify(), Notify::Off);
        assert_eq!(parse(&["--notify-every-mins=0"]).unwrap().notify(), Notify::Every { secs: 0 });
        assert_eq!(parse(&["--walls", "best-effort"]).unwrap().walls, Walls::BestEffort);
        for wrong in [["--slots", "0"], ["--idle-delay-secs", "0"], ["--idle-delay", "9"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", command.get_name());
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                check(inner);
            }
        }
        check(&mut Cli::command());
    }

    #[test]
    fn each_reason_to_rest_has_its_switch() {
        let check = |arguments: &[&str], change: fn(&mut Settings)| {
            let mut wanted = Settings::default();
            change(&mut wanted);
            assert_eq!(parse(arguments).unwrap().presence.settings(), wanted, "{arguments:?}");
        };
        check(&["--on-battery", "run"], |settings| settings.on_battery = Policy::Run);
        check(&["--inhibited", "run"], |settings| settings.inhibited = Policy::Run);
        check(&["--remote-sessions", "run"], |settings| settings.remote_sessions = Policy::Run);
        check(&["--other-sessions", "run"], |settings| settings.other_sessions = Policy::Run);
        check(&["--cpu-wanted-percent", "off"], |settings| settings.cpu_wanted_percent = None);
        check(&["--cpu-wanted-percent", "100"], |settings| settings.cpu_wanted_percent = Some(100));
        check(&["--memory-free-bytes", "off"], |settings| settings.memory_free_bytes_min = None);
        check(&["--memory-free-bytes", "7"], |settings| settings.memory_free_bytes_min = Some(7));
        check(&["--transfers", "any"], |settings| settings.transfers = Transfers::Any);
        check(&["--networks", "Office, Home 5G"], |settings| {
            settings.networks = Networks::Only(vec!["Office".to_owned(), "Home 5G".to_owned()]);
        });
        check(&["--networks", "any"], |_| {});
        check(&["--schedule", "always", "--dedicated=false"], |_| {});
        check(&["--schedule", "Sat-Sun"], |settings| settings.schedule = "Sat-Sun".parse().ok());
        let dedicated = parse(&["--dedicated", "--on-battery=rest"]).unwrap().presence.settings();
        assert_eq!(dedicated, Settings { on_battery: Policy::Rest, ..Settings::dedicated() });
        let wrong = [
            "--cpu-wanted-percent=0",
            "--cpu-wanted-percent=101",
            "--memory-free-bytes=-1",
            "--networks=",
            "--networks=Office,",
            "--schedule=",
            "--schedule=Mon-Fry",
            "--on-battery=maybe",
            "--dedicated=yes",
        ];
        for wrong in wrong {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
