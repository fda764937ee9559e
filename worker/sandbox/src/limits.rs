//! What a guest may use, and what a message may take.

use serde::{Deserialize, Serialize};

/// Time that a runner may take to compile a module, freezes not counted: 16 MiB take it seconds, so that
/// a longer compilation is a module made to be slow.
pub const LOAD_SECS_MAX: u64 = 300;

/// Bytes of a failure's message; the rest is cut off. The same as in a job's limits.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Fuel of a strict run: more than a core burns in a day, the longest time that a job may allow a unit, if it did
/// nothing but fill memory. Whatever runs out of it has run into a limit.
pub const FUEL_MAX: u64 = 10_000_000_000_000_000;

/// How a module is compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Flavour {
    /// At full speed. Which NaN an operation returns is left to the CPU.
    #[default]
    Normal,
    /// Every NaN is the canonical one and fuel is counted, so that result and fuel are the same on every PC. Slower,
    /// and without checkpoints.
    Strict,
}

/// What a guest may use, on any PC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// Time that one unit may run, in seconds, freezes not counted.
    pub unit_secs: u64,
    /// Size of one result, in bytes.
    pub result_bytes: u64,
    /// Fuel of one unit in a strict run, about one for each instruction; [`FUEL_MAX`] but in tests.
    pub fuel: u64,
}

/// What compiling a module may take. A module that needs more was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileLimits {
    /// CPU time, in seconds, so that a busy PC does not count against the module.
    pub cpu_secs: u64,
    /// Memory of the whole process, in bytes.
    pub memory_bytes: u64,
}

impl Default for CompileLimits {
    /// 16 MiB of module take a few seconds and some hundred megabytes.
    fn default() -> Self {
        Self { cpu_secs: 120, memory_bytes: 2 << 30 }
    }
}

/// Bytes of the largest compiled module that is passed on.
pub const ARTEFACT_BYTES_MAX: u64 = 256 << 20;

/// A message as text of at most [`MESSAGE_BYTES_MAX`] bytes, cut between two characters.
/// Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn cut_message(bytes: &[u8]) -> String {
    // A character cut in two by this first cut lies past the second.
    let start = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX + char::MAX.len_utf8())];
    let mut text = String::from_utf8_lossy(start).into_owned();
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(cut_message(b"short"), "short");
        let exact = "x".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(cut_message(exact.as_bytes()), exact);
        assert_eq!(cut_message(format!("{exact}y").as_bytes()), exact);
        let wide = format!("{}é", "x".repeat(MESSAGE_BYTES_MAX - 1));
        assert_eq!(cut_message(wide.as_bytes()), &exact[1..]);
        assert_eq!(cut_message(&[b'a', 0xff]), "a\u{fffd}");
        assert!(cut_message(&[0xff; 5000]).len() <= MESSAGE_BYTES_MAX);
    }
}
