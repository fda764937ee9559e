//! Where settings come from: flag, then `LULL_*` environment, then settings file, then default.
//!
//! What settings there are stands in one place, the arguments of `run` ([`crate::args::RunArgs`]); this reads the
//! table from there. A key of the file is a flag's name with `_` for `-`; its value goes through the flag's parser.

mod file;
mod load;
mod show;

pub use file::{File, default_path};
pub use load::{Setting, load, settings};
pub use show::{Origin, Shown, run, shown};

use std::io;
use std::path::PathBuf;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the environment is wrong, or help was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The file cannot be read.
    #[error("the settings file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("the settings file {} is no TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// A key that means nothing.
    #[error(
        "the settings file {} has the unknown key `{key}`: {}",
        path.display(),
        nearest.as_ref().map_or_else(
            || "`lull-worker config show` lists all settings".to_owned(),
            |nearest| format!("did you mean `{nearest}`?")
        )
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The setting with the most similar name.
        nearest: Option<String>,
    },
    /// A value that its setting does not take.
    #[error("the settings file {}: `{key}`: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}
