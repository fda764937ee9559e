//! Job files, built key by key.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::guest;

/// A job file in the making. Keys are dotted, values are TOML.
#[derive(Debug, Clone)]
pub struct JobFile {
    keys: BTreeMap<String, String>,
}

impl JobFile {
    /// A job of one of the workspace's guests, at 0.01 an item.
    ///
    /// # Panics
    /// When the guest has not been built.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { keys: BTreeMap::new() }.path("module", &guest(name)).set("pay.item_price", "\"0.01\"")
    }

    /// A job of `lull-probe` whose items are these lines, one a unit. The lines lie beside the job file.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn probe_lines(dir: &Path, name: &str, items: &[&str]) -> Result<Self> {
        let path = dir.join(format!("{name}.txt"));
        std::fs::write(&path, items.join("\n") + "\n")?;
        Ok(Self::of("probe").path("split.lines", &path).set("items_per_unit", 1))
    }

    /// Sets a key to a TOML value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.keys.insert(key.to_owned(), value.to_string());
        self
    }

    /// Sets a key to a path.
    #[must_use]
    pub fn path(self, key: &str, path: &Path) -> Self {
        self.set(key, format!("'{}'", path.display()))
    }

    /// Writes `<name>.toml`.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        let mut text = String::new();
        for (key, value) in &self.keys {
            writeln!(text, "{key} = {value}")?;
        }
        let path = dir.join(format!("{name}.toml"));
        std::fs::write(&path, text)?;
        Ok(path)
    }
}
