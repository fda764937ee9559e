//! The agent's log on disk: two files of bounded size, so that it can be read later and never fills a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::os::for_this_user;

/// Bytes of a log file; then it becomes the old one, and a new one begins. Some weeks of an ordinary PC.
pub const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The running log and the one before it, in a state directory.
#[must_use]
pub fn log_paths(state_dir: &Path) -> [PathBuf; 2] {
    ["agent.log", "agent.log.old"].map(|name| state_dir.join(name))
}

/// Where the log is written once the state directory is known; before that it goes to stderr only.
#[derive(Debug, Clone, Default)]
pub struct LogFile(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    paths: [PathBuf; 2],
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    /// Writes what is logged from now on to files in that directory.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn open(&self, state_dir: &Path) -> io::Result<()> {
        let open = Open::new(log_paths(state_dir), LOG_BYTES_MAX)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(paths: [PathBuf; 2], bytes_max: u64) -> io::Result<Self> {
        let file = append(&paths[0])?;
        let bytes = file.metadata()?.len();
        Ok(Self { paths, file, bytes, bytes_max })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            let [running, old] = &self.paths;
            fs::rename(running, old)?;
            self.file = append(running)?;
            self.bytes = 0;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    for_this_user(OpenOptions::new().create(true).append(true)).open(path)
}

impl Write for LogFile {
    /// A line at a time. A disk that does not take it costs the line, and nothing else: it is on stderr too.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(open) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = open.write_line(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_bounded_size_hold_the_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let paths = log_paths(folder.path());
        let mut log = Open::new(paths.clone(), 30).unwrap();
        for number in 0..10 {
            log.write_line(format!("line {number:04}\n").as_bytes()).unwrap();
        }
        // A restart goes on where it was.
        drop(log);
        let mut log = Open::new(paths.clone(), 30).unwrap();
        log.write_line(b"line 0010\n").unwrap();

        let [running, old] = paths.map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(running, "line 0009\nline 0010\n");
        assert_eq!(old, "line 0006\nline 0007\nline 0008\n");
    }

    #[test]
    fn a_line_longer_than_a_file_is_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Open::new(log_paths(folder.path()), 3).unwrap();
        log.write_line(b"longer\n").unwrap();
        assert_eq!(fs::read(&log.paths[0]).unwrap(), b"longer\n");
    }

    #[test]
    fn before_it_is_opened_lines_go_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::default();
        log.write_all(b"early\n").unwrap();
        log.open(folder.path()).unwrap();
        log.clone().write_all(b"late\n").unwrap();
        assert_eq!(fs::read(&log_paths(folder.path())[0]).unwrap(), b"late\n");
    }
}
