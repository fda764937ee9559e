//! `lull-worker logs`: what the agent has logged, also when it does not run.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::state_dir_of;
use crate::args::LogsArgs;
use crate::log_file::log_paths;
use crate::os::is_same_file;

/// How often `--follow` looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Prints the last lines, and goes on if it is asked to.
///
/// # Errors
/// When there is no log, or it cannot be read.
pub(super) fn logs(arguments: &LogsArgs) -> anyhow::Result<()> {
    let state_dir = state_dir_of(&arguments.place)?;
    let [running, old] = log_paths(&state_dir);
    let mut last = VecDeque::new();
    let mut end = None;
    for path in [&old, &running] {
        match File::open(path) {
            Ok(file) => end = Some(keep_last(file, arguments.lines, &mut last)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }
    let end = end.with_context(|| {
        format!(
            "no agent has logged in {}: start one with `lull-worker run`, or name its --state-dir",
            state_dir.display()
        )
    })?;
    let mut stdout = io::stdout().lock();
    for line in last {
        stdout.write_all(&line).context("stdout cannot be written")?;
    }
    stdout.flush()?;
    if arguments.follow { follow(&running, end, &mut stdout) } else { Ok(()) }
}

/// Keeps the last lines of a file beside those of the one before. The file where it ended.
fn keep_last(file: File, lines: usize, last: &mut VecDeque<Vec<u8>>) -> io::Result<File> {
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(reader.into_inner());
        }
        last.push_back(line);
        while last.len() > lines {
            last.pop_front();
        }
    }
}

/// Prints what is added, until stdout closes. Goes on with the new file when the log begins anew.
fn follow(path: &Path, mut file: File, stdout: &mut impl io::Write) -> anyhow::Result<()> {
    let mut added = Vec::new();
    loop {
        added.clear();
        file.read_to_end(&mut added).context("the log cannot be read any more")?;
        if added.is_empty() {
            if let Ok(newer) = File::open(path)
                && !is_same_file(&newer, &file)?
            {
                file = newer;
                file.seek(SeekFrom::Start(0))?;
                continue;
            }
            thread::park_timeout(LOOK_EVERY);
        }
        // Also when there is nothing: a pipe that was closed is noticed by what is written only.
        if stdout.write_all(&added).and_then(|()| stdout.flush()).is_err() {
            return Ok(());
        }
    }
}
