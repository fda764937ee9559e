//! Command line, environment and file become one set of arguments.
//!
//! What the file says is put behind the command line as flags, where neither the command line nor the environment
//! says anything: so everything goes through the same parsers, and there is no second table of settings.

use std::ffi::OsString;
use std::io::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::{Error, File};
use crate::args::{Cli, Command};

/// One setting of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key in the file.
    pub key: String,
    /// Its flag, without the two dashes.
    pub flag: String,
    /// Its variable of the environment.
    pub variable: Option<String>,
    /// What it is for.
    pub help: String,
    /// Whether its value is shown to nobody.
    pub is_secret: bool,
}

/// All settings, in the order of `run --help`.
#[must_use]
pub fn settings() -> Vec<Setting> {
    of_command("run")
}

fn of_command(name: &str) -> Vec<Setting> {
    let command = Cli::command();
    let arguments = command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    arguments
        .filter_map(|argument| {
            Some(Setting {
                key: argument.get_id().to_string(),
                flag: argument.get_long()?.to_owned(),
                variable: argument.get_env().and_then(|name| name.to_str()).map(str::to_owned),
                help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
                is_secret: argument.is_hide_env_values_set(),
            })
        })
        .collect()
}

/// Reads everything that says what to do. A broken file stops `run`, but not the words to a running agent: it must
/// be possible to pause it then, too.
///
/// # Errors
/// When any of it is wrong.
pub fn load(argv: &[OsString]) -> Result<Cli, Error> {
    let matches = Cli::command().try_get_matches_from(argv)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let named = cli.config.as_deref();
    let file = match &cli.command {
        Command::Config(_) => return Ok(cli),
        Command::Run(_) => File::read(named)?.map(checked).transpose()?,
        _ => File::read(named).and_then(|file| file.map(checked).transpose()).unwrap_or_else(|error| {
            let _ = writeln!(std::io::stderr().lock(), "warning: {error}; the file is ignored");
            None
        }),
    };
    let Some(file) = file else { return Ok(cli) };
    let matches = Cli::command().try_get_matches_from(with_file(argv, &matches, &file))?;
    Ok(Cli::from_arg_matches(&matches)?)
}

/// The settings of `run` as it would see them without flags.
///
/// # Errors
/// When the environment is wrong.
pub(super) fn matches_of_run(file: Option<&File>) -> Result<ArgMatches, Error> {
    let argv = ["lull-worker".into(), "run".into()];
    let matches = Cli::command().try_get_matches_from(&argv)?;
    let Some(file) = file else { return Ok(matches) };
    Ok(Cli::command().try_get_matches_from(with_file(&argv, &matches, file))?)
}

/// The command line, with the file's settings that the command knows and nothing else has set.
fn with_file(argv: &[OsString], matches: &ArgMatches, file: &File) -> Vec<OsString> {
    let mut argv = argv.to_vec();
    let Some((name, matches)) = matches.subcommand() else { return argv };
    for setting in of_command(name) {
        let is_set = matches!(
            matches.value_source(&setting.key),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        );
        if let Some(value) = file.values.get(&setting.key).filter(|_| !is_set) {
            argv.push(flag(&setting.flag, value));
        }
    }
    argv
}

fn flag(flag: &str, value: &str) -> OsString {
    format!("--{flag}={value}").into()
}

/// Whether each key is a setting, and its value one that it takes.
///
/// # Errors
/// Says which is not.
pub(super) fn checked(file: File) -> Result<File, Error> {
    let settings = settings();
    for (key, value) in &file.values {
        let setting = settings.iter().find(|setting| setting.key == *key);
        let name = setting.map_or_else(|| key.replace('_', "-"), |setting| setting.flag.clone());
        let path = || file.path.clone();
        let is_known = setting.is_some();
        let argv = ["lull-worker".into(), "run".into(), flag(&name, value)];
        match (is_known, Cli::command().try_get_matches_from(argv)) {
            (true, Ok(_)) => {}
            (true, Err(error)) => {
                let reason = reason(&error);
                return Err(Error::Value { path: path(), key: key.clone(), reason });
            }
            (false, answer) => {
                let underlined = key.replace('-', "_");
                let nearest = match answer {
                    _ if settings.iter().any(|setting| setting.key == underlined) => Some(underlined),
                    answer => answer.err().as_ref().and_then(nearest),
                };
                return Err(Error::UnknownKey { path: path(), key: key.clone(), nearest });
            }
        }
    }
    Ok(file)
}

/// What is wrong, without what only a command line needs.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\n").next().unwrap_or(text).replace('\n', " ").trim().to_owned()
}

/// The key of the flag that the parser suggests in the place of one that it does not know.
fn nearest(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => Some(flag.trim_start_matches('-').replace('-', "_")),
        ContextValue::Strings(flags) => {
            flags.first().map(|flag| flag.trim_start_matches('-').replace('-', "_"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<File, String> {
        let file = File::parse("c.toml".into(), text).map_err(|error| error.to_string())?;
        checked(file).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_remedy() {
        assert!(check("idle_delay_secs = 9\nschedule = \"Sat-Sun\"\ndedicated = false\n").is_ok());
        let cases = [
            ("idle_delay_sec = 9", "did you mean `idle_delay_secs`?"),
            ("cpu_percent = 9", "unknown key `cpu_percent`"),
            ("qqqq = 9", "`lull-worker config show` lists all settings"),
            ("config = \"x\"", "unknown key `config`"),
            ("idle-delay-secs = 9", "did you mean `idle_delay_secs`?"),
            ("slots = 0", "invalid value '0'"),
            ("dedicated = \"maybe\"", "write true or false"),
            ("schedule = \"Mon-Fry\"", "`Mon-Fry` in the schedule"),
            ("slots = [1]", "it is a array"),
            ("[presence]\nslots = 1", "it is a table"),
            ("slots 1", "is no TOML"),
        ];
        for (text, wanted) in cases {
            let error = check(text).expect_err(text);
            assert!(error.contains("c.toml") && error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn every_setting_has_a_flag_a_variable_and_a_help() {
        let settings = settings();
        assert!(settings.iter().any(|setting| setting.key == "idle_delay_secs"));
        for Setting { key, flag, variable, help, .. } in settings {
            assert_eq!(key.replace('_', "-"), flag);
            assert!(variable.is_some_and(|variable| variable.starts_with("LULL_")), "{key}");
            assert!(!help.is_empty(), "{key}");
        }
    }
}
