//! `lull-worker config`: each setting, and where it comes from.

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clap::parser::ValueSource;
use serde::Serialize;

use super::load::{checked, matches_of_run};
use super::{Error, File, settings};
use crate::args::{ConfigCommand, Output};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// That variable of the environment.
    Environment(String),
    /// That file.
    File(String),
    /// Nothing was set.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its key.
    pub key: String,
    /// Its value; `None` if the agent finds it out itself, as its help says.
    pub value: Option<String>,
    /// Where that comes from.
    pub origin: Origin,
    /// What it is for.
    pub help: String,
}

/// All settings as an agent that is started without flags would see them.
///
/// # Errors
/// When the environment or the file is wrong.
pub fn shown(named: Option<&Path>) -> Result<Vec<Shown>, Error> {
    let file = File::read(named)?.map(checked).transpose()?;
    let matches = matches_of_run(file.as_ref())?;
    let Some((_, matches)) = matches.subcommand() else { return Ok(Vec::new()) };
    let shown = settings().into_iter().map(|setting| {
        let mut raw = matches.get_raw(&setting.key).into_iter().flatten();
        let value = raw.next().map(|value| value.to_string_lossy().into_owned());
        let origin = match matches.value_source(&setting.key) {
            Some(ValueSource::EnvVariable) => Origin::Environment(setting.variable.unwrap_or_default()),
            Some(ValueSource::CommandLine) => {
                Origin::File(file.as_ref().map(|file| file.path.display().to_string()).unwrap_or_default())
            }
            _ => Origin::Default,
        };
        let value = if setting.is_secret { value.map(|_| "(secret)".to_owned()) } else { value };
        Shown { key: setting.key, value, origin, help: setting.help }
    });
    Ok(shown.collect())
}

/// Carries out `lull-worker config`.
///
/// # Errors
/// When settings are wrong, or stdout cannot be written.
pub fn run(command: &ConfigCommand, named: Option<&Path>) -> anyhow::Result<()> {
    let shown = shown(named)?;
    match command {
        ConfigCommand::Show(arguments) => {
            let text = match arguments.output {
                Output::Json => serde_json::to_string_pretty(&shown)?,
                Output::Text => {
                    let lines: Vec<_> = shown.iter().map(|setting| line(setting, arguments.origin)).collect();
                    lines.join("\n")
                }
            };
            writeln!(std::io::stdout().lock(), "{text}").context("stdout cannot be written")
        }
        ConfigCommand::Check => {
            let is_set = |setting: &&Shown| setting.origin != Origin::Default;
            let set = shown.iter().filter(is_set).count();
            let _ = writeln!(
                std::io::stderr().lock(),
                "sound: {set} of {} settings are set, the others have their defaults",
                shown.len()
            );
            Ok(())
        }
    }
}

/// A line as it may stand in a settings file.
fn line(setting: &Shown, with_origin: bool) -> String {
    let Shown { key, value, origin, .. } = setting;
    let line = match value {
        None => format!("# {key} is not set"),
        Some(value) if value == "true" || value == "false" || value.parse::<i64>().is_ok() => {
            format!("{key} = {value}")
        }
        Some(value) => format!("{key} = {}", toml::Value::String(value.clone())),
    };
    if with_origin { format!("{line:<44} # {origin}") } else { line }
}
