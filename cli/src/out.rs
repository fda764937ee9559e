//! The only place that prints. stdout is data, stderr is talk.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::{Error, Exit, Result};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// One line of data.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| Error::write("stdout", &error))
}

/// One JSON document of data, on one line.
pub(crate) fn json(data: &impl Serialize) -> Result<()> {
    line(&to_json(data)?)
}

/// One JSON document, on one line.
pub(crate) fn to_json(data: &impl Serialize) -> Result<String> {
    serde_json::to_string(data)
        .map_err(|error| Error::new(Exit::Failure, format!("cannot write the JSON output: {error}")))
}

/// One line of talk. A stderr that nobody reads stops nothing.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person may be watching stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Where a column's content stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A plain table: a header, a line below it, rows; two blanks between columns.
pub(crate) fn table(header: &[(&str, Align)], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|(title, _)| *title));
    table.add_rows(rows);
    pad(&mut table);
    for (column, (_, align)) in table.column_iter_mut().zip(header) {
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    text(&table)
}

/// Facts about one thing: a word and its value on each line.
pub(crate) fn facts(rows: Vec<(&str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(rows.into_iter().map(|(word, value)| vec![word.to_owned(), value]));
    pad(&mut table);
    text(&table)
}

fn pad(table: &mut Table) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
}

fn text(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Where results go: stdout, or a file that appears whole or not at all.
pub(crate) enum Sink {
    /// The caller's stdout.
    Stdout,
    /// A new file beside its final place.
    File {
        /// What is written so far.
        unfinished: NamedTempFile,
        /// Where it goes.
        path: PathBuf,
    },
}

impl Sink {
    /// Opens the sink; a file must not be a folder, and its folder must be there.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let failed = |error: &io::Error| Error::write(&path.display().to_string(), error);
        if path.is_dir() {
            return Err(Error::usage(format!("{} is a folder: name a file", path.display())));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lull-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let unfinished = builder.tempfile_in(folder).map_err(|error| failed(&error))?;
        Ok(Self::File { unfinished, path: path.to_owned() })
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout => {
                io::stdout().lock().write_all(bytes).map_err(|error| Error::write("stdout", &error))
            }
            Self::File { unfinished, path } => {
                unfinished.write_all(bytes).map_err(|error| Error::write(&path.display().to_string(), &error))
            }
        }
    }

    /// Makes what was written last.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush().map_err(|error| Error::write("stdout", &error)),
            Self::File { unfinished, path } => {
                let failed = |error: &io::Error| Error::write(&path.display().to_string(), error);
                unfinished.as_file().sync_all().map_err(|error| failed(&error))?;
                let file: File = unfinished.persist(&path).map_err(|error| failed(&error.error))?;
                drop(file);
                say(&format!("written to {}", path.display()));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain() {
        let header = [("job", Align::Left), ("units", Align::Right)];
        let rows =
            vec![vec!["jobs/1".to_owned(), "5".to_owned()], vec!["jobs/12".to_owned(), "1,000".to_owned()]];
        assert_eq!(table(&header, rows), "job      units\njobs/1       5\njobs/12  1,000");
        assert_eq!(
            facts(vec![("cost", "1.5".to_owned()), ("state", "running".to_owned())]),
            "cost   1.5\nstate  running"
        );
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer.csv");
        std::fs::write(&path, "old").unwrap();
        let mut abandoned = Sink::open(Some(&path)).unwrap();
        abandoned.write(b"half").unwrap();
        drop(abandoned);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.write(b"new").unwrap();
        sink.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Sink::open(Some(folder.path())).is_err());
        assert!(Sink::open(Some(&folder.path().join("none/answer.csv"))).is_err());
    }
}
