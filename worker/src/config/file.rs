//! The settings file, as text values by key.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use crate::os;

/// A settings file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it says, as it would stand on a command line.
    pub values: BTreeMap<String, String>,
}

/// Where the file is by default; `None` if that cannot be told.
#[must_use]
pub fn default_path() -> Option<PathBuf> {
    os::config_file()
}

impl File {
    /// Reads the file that was named, or the one at the default place if it is there.
    ///
    /// # Errors
    /// When a named file is missing, or the file cannot be read or is no TOML of plain values.
    pub fn read(named: Option<&Path>) -> Result<Option<Self>, Error> {
        let Some(path) = named.map(Path::to_owned).or_else(default_path) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
            Err(source) => Err(Error::Unreadable { path, source }),
        }
    }

    /// Takes a file's text in.
    ///
    /// # Errors
    /// When it is no TOML of plain values.
    pub fn parse(path: PathBuf, text: &str) -> Result<Self, Error> {
        let table: toml::Table = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => return Err(Error::Syntax { path, source: Box::new(error) }),
        };
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(is_on) => is_on.to_string(),
                other => {
                    let reason =
                        format!("it is a {}: a setting is a text, a number, true or false", other.type_str());
                    return Err(Error::Value { path, key, reason });
                }
            };
            values.insert(key, text);
        }
        Ok(Self { path, values })
    }
}
