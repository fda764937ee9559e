//! Units and their results as lines: shared by the grid and by a run without one.

use serde::Serialize;

use crate::error::Result;
use crate::out::{self, Format};
use crate::text::human;

/// One unit's result.
#[derive(Debug, Serialize)]
pub(crate) struct UnitResult {
    /// Number of the unit in the whole job.
    pub(crate) number: u64,
    /// BLAKE3 of the result.
    pub(crate) digest: String,
    /// Its length.
    pub(crate) size_bytes: usize,
    #[serde(flatten)]
    content: Content,
}

/// A result as text, or in hexadecimal where it has control characters other than line ends and tabs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Text(String),
    Base16(String),
}

impl UnitResult {
    /// The result of the unit with this number.
    pub(crate) fn new(number: u64, result: &[u8]) -> Self {
        let is_printable =
            |text: &&str| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
        let content = match std::str::from_utf8(result).ok().filter(is_printable) {
            Some(text) => Content::Text(text.to_owned()),
            None => Content::Base16(hex::encode(result)),
        };
        let digest = lull_job::Digest::of(result).to_string();
        Self { number, digest, size_bytes: result.len(), content }
    }

    /// One line, with its ending: number, tab, result. In a table a text loses its last line end, and
    /// `\\`, `\n`, `\r` and `\t` stand for what would break the line.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn line(&self, format: Format) -> Result<String> {
        match (format, &self.content) {
            (Format::Json, _) => Ok(out::to_json(self)? + "\n"),
            (Format::Table, Content::Text(text)) => Ok(format!("{}\t{}\n", self.number, escape(text))),
            (Format::Table, Content::Base16(digits)) => Ok(format!("{}\t{digits}\n", self.number)),
        }
    }
}

fn escape(text: &str) -> String {
    let mut line = String::new();
    for c in text.strip_suffix('\n').unwrap_or(text).chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other => line.push(other),
        }
    }
    line
}

/// One unit that failed.
#[derive(Debug, Serialize)]
pub(crate) struct FailedUnit {
    /// `split`, `work`, `merge(n)` or `finish`.
    pub(crate) stage: String,
    /// Its index in the stage.
    pub(crate) index: u64,
    /// Its number in the whole job.
    pub(crate) number: u64,
    /// Attempts that agreed that it fails.
    pub(crate) agreeing: u32,
    /// Attempts in all.
    pub(crate) attempts: u32,
    /// The guest's own words, or which limit ended it.
    pub(crate) message: String,
}

impl FailedUnit {
    /// One line, with its ending.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn line(&self, format: Format) -> Result<String> {
        match format {
            Format::Json => Ok(out::to_json(self)? + "\n"),
            Format::Table => {
                Ok(format!("{} {}: {}\n", self.stage, human::count(self.index), human::plain(&self.message)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_text_where_they_can_be_read() {
        let check = |result: &[u8], table: &str, key: &str| {
            let unit = UnitResult::new(7, result);
            assert_eq!(unit.line(Format::Table).unwrap(), table);
            let json: serde_json::Value = serde_json::from_str(&unit.line(Format::Json).unwrap()).unwrap();
            assert_eq!((&json["number"], &json["size_bytes"]), (&7.into(), &result.len().into()));
            assert_eq!(json["digest"].as_str().unwrap().len(), 64);
            assert!(json[key].is_string(), "{json}");
        };
        check(b"p = 0.5", "7\tp = 0.5\n", "text");
        check("µ".as_bytes(), "7\tµ\n", "text");
        check(b"", "7\t\n", "text");
        check(b"Hello!\n", "7\tHello!\n", "text");
        check(b"two\nli\tnes\\\n", "7\ttwo\\nli\\tnes\\\\\n", "text");
        check(b"\x1b[2J", "7\t1b5b324a\n", "base16");
        check(&[0xff, 0], "7\tff00\n", "base16");
    }

    #[test]
    fn failures_name_stage_and_index() {
        let unit = FailedUnit {
            stage: "merge(1)".to_owned(),
            index: 1_500,
            number: 1_500,
            agreeing: 2,
            attempts: 3,
            message: "row 4\nis ragged".to_owned(),
        };
        assert_eq!(unit.line(Format::Table).unwrap(), "merge(1) 1,500: row 4 is ragged\n");
        let json: serde_json::Value = serde_json::from_str(&unit.line(Format::Json).unwrap()).unwrap();
        assert_eq!(json["message"], "row 4\nis ragged");
    }
}
