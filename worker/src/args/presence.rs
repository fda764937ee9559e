//! What counts as a reason to rest, as settings.

use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};

use crate::core::{Schedule, ScheduleError};
use crate::presence::{Networks, Policy, Settings, Transfers};

/// What a machine at which nobody sits does by default where one with a person rests.
const RUN_IF_DEDICATED: [(&str, &str, Option<&str>); 2] = if_dedicated("run");
const OFF_IF_DEDICATED: [(&str, &str, Option<&str>); 2] = if_dedicated("off");
const ANY_IF_DEDICATED: [(&str, &str, Option<&str>); 2] = if_dedicated("any");

/// Another default with `dedicated`, in both spellings that [`switch`] knows.
const fn if_dedicated(value: &'static str) -> [(&'static str, &'static str, Option<&'static str>); 2] {
    [("dedicated", "true", Some(value)), ("dedicated", "1", Some(value))]
}

/// What counts as a reason to rest.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reasons to rest")]
pub struct PresenceArgs {
    /// Nobody sits at this machine: run at any time, without watching for a person
    #[arg(long, env = "LULL_DEDICATED", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = switch)]
    pub dedicated: bool,
    /// Start although another agent watches this PC for its person: each takes its own slots
    #[arg(long, env = "LULL_BESIDE_OTHERS", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = switch)]
    pub beside_others: bool,
    /// Seconds without input after which the PC counts as free
    #[arg(long, env = "LULL_IDLE_DELAY_SECS", value_name = "SECS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub idle_delay_secs: u64,
    /// Seconds after which a frozen guest gives its memory back, and later goes on from its checkpoint; 0: never
    #[arg(long, env = "LULL_EVICT_SECS", value_name = "SECS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub evict_secs: u64,
    /// While the PC runs on its battery [with --dedicated: run]
    #[arg(long, env = "LULL_ON_BATTERY", value_enum, default_value = "rest", default_value_ifs = RUN_IF_DEDICATED, value_name = "POLICY")]
    pub on_battery: Policy,
    /// While a program asks that the PC is not taken for idle: a film, a call [with --dedicated: run]
    #[arg(long, env = "LULL_INHIBITED", value_enum, default_value = "rest", default_value_ifs = RUN_IF_DEDICATED, value_name = "POLICY")]
    pub inhibited: Policy,
    /// While a graphical session from elsewhere is busy [with --dedicated: run]
    #[arg(long, env = "LULL_REMOTE_SESSIONS", value_enum, default_value = "rest", default_value_ifs = RUN_IF_DEDICATED, value_name = "POLICY")]
    pub remote_sessions: Policy,
    /// While another user's session at this PC is busy [with --dedicated: run]
    #[arg(long, env = "LULL_OTHER_SESSIONS", value_enum, default_value = "rest", default_value_ifs = RUN_IF_DEDICATED, value_name = "POLICY")]
    pub other_sessions: Policy,
    /// Rest while other programs take more than this share of all cores, or `off` [with --dedicated: off]
    #[arg(long, env = "LULL_CPU_WANTED_PERCENT", value_name = "PERCENT", default_value = "25", default_value_ifs = OFF_IF_DEDICATED, value_parser = percent)]
    pub cpu_wanted_percent: Limit,
    /// Rest while less memory is available, or `off` [with --dedicated: off]
    #[arg(long, env = "LULL_MEMORY_FREE_BYTES", value_name = "BYTES", default_value = "536870912", default_value_ifs = OFF_IF_DEDICATED, value_parser = Limit::from_str)]
    pub memory_free_bytes: Limit,
    /// Run only at these hours, like `Mon-Fri 18:00-08:00, Sat-Sun`, or `always`
    #[arg(long, env = "LULL_SCHEDULE", value_name = "HOURS", default_value = "always", value_parser = Hours::from_str)]
    pub schedule: Hours,
    /// On which networks modules, inputs and results are sent, and work is asked for [with --dedicated: any]
    #[arg(long, env = "LULL_TRANSFERS", value_enum, default_value = "unmetered", default_value_ifs = ANY_IF_DEDICATED, value_name = "NETWORKS")]
    pub transfers: Transfers,
    /// The same by name, as the system's network settings call them: `Office, Home 5G`, or `any`
    #[arg(long, env = "LULL_NETWORKS", value_name = "NAMES", default_value = "any", value_parser = Networks::from_str)]
    pub networks: Networks,
}

impl PresenceArgs {
    /// What counts as a reason to rest.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let base = if self.dedicated { Settings::dedicated() } else { Settings::default() };
        Settings {
            idle_delay: Duration::from_secs(self.idle_delay_secs),
            evict_after: Some(self.evict_secs).filter(|secs| *secs > 0).map(Duration::from_secs),
            on_battery: self.on_battery,
            inhibited: self.inhibited,
            remote_sessions: self.remote_sessions,
            other_sessions: self.other_sessions,
            cpu_wanted_percent: self.cpu_wanted_percent.at().and_then(|percent| u32::try_from(percent).ok()),
            memory_free_bytes_min: self.memory_free_bytes.at(),
            schedule: match &self.schedule {
                Hours::Always => None,
                Hours::Only(schedule) => Some(schedule.clone()),
            },
            transfers: self.transfers,
            networks: self.networks.clone(),
            ..base
        }
    }
}

/// A limit that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// There is none.
    Off,
    /// That much.
    At(u64),
}

impl Limit {
    const fn at(self) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::At(limit) => Some(limit),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            number => number.parse().map(Self::At).map_err(|_| "write a whole number, or off".to_owned()),
        }
    }
}

/// When guests may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hours {
    /// At any time.
    Always,
    /// Only then.
    Only(Schedule),
}

impl FromStr for Hours {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text.eq_ignore_ascii_case("always") { Ok(Self::Always) } else { text.parse().map(Self::Only) }
    }
}

fn percent(text: &str) -> Result<Limit, String> {
    match text.parse()? {
        Limit::At(percent) if !(1..=100).contains(&percent) => {
            Err("write a share of all cores from 1 to 100, or off".to_owned())
        }
        limit => Ok(limit),
    }
}

/// Few spellings: another setting's default looks at the text.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}
