//! The files of the outbox: a log of checksummed records, and a file for each large result.
//!
//! A record is appended and on disk before anybody hears of its attempt. What a crash leaves at the end of
//! the log is cut off when it is opened: nobody has heard of that.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use lull_job::Digest;

use super::record::Record;
use crate::core::{Attempt, AttemptKey, Body};
use crate::files::{replace, sync_folder, write_durably};
use crate::os::{for_this_user, write_all_at};

/// The first bytes of a log.
const MAGIC: &[u8] = b"lull outbox 1\n";
/// A log of this size is rewritten if most of it is of no use any more.
const COMPACT_BYTES: u64 = 1024 * 1024;

/// Something to write down.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A finished attempt, and its result where that is large.
    Put(Box<Attempt>, Option<Vec<u8>>),
    /// The coordinator has that attempt.
    Forget(AttemptKey),
}

/// The files of the outbox.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    /// Open, but for a moment and after a failure in it.
    log: Option<File>,
    /// Where the next record goes: what lies behind is not to be read.
    end: u64,
    /// Whether a crash could bring an older log back, without what was written since.
    is_name_unsure: bool,
    attempts: BTreeMap<AttemptKey, Attempt>,
    compact_at: u64,
}

impl Outbox {
    /// Opens a folder.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("log");
        let content = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            content => content?,
        };
        let log = Some(open_log(&path)?);
        let mut outbox = Self {
            folder: folder.to_owned(),
            log,
            end: MAGIC.len() as u64,
            is_name_unsure: false,
            attempts: BTreeMap::new(),
            compact_at: COMPACT_BYTES,
        };
        match content.strip_prefix(MAGIC) {
            Some(records) => outbox.replay(records)?,
            None if content.is_empty() || MAGIC.starts_with(&content) => {
                let log = outbox.log()?;
                log.set_len(0)?;
                write_all_at(log, MAGIC, 0)?;
                log.sync_all()?;
                sync_folder(folder)?;
            }
            None => {
                let problem = format!("{} is not an outbox: move it away", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
        outbox.remove_strangers()?;
        Ok(outbox)
    }

    fn replay(&mut self, records: &[u8]) -> io::Result<()> {
        let mut rest = records;
        while let Some((record, after)) = Record::decode(rest) {
            match record {
                Record::Put(attempt) => drop(self.attempts.insert(attempt.key, attempt)),
                Record::Forget(key) => drop(self.attempts.remove(&key)),
            }
            rest = after;
        }
        self.end += (records.len() - rest.len()) as u64;
        if !rest.is_empty() {
            let torn_bytes = rest.len();
            tracing::warn!(torn_bytes, "the end of the outbox was torn by a crash; it is cut off");
            let end = self.end;
            let log = self.log()?;
            log.set_len(end)?;
            log.sync_all()?;
        }
        // A result's file is on disk before its record: without it, somebody has removed it.
        let folder = &self.folder;
        self.attempts.retain(|key, attempt| {
            let is_there = attempt.body != Body::File || folder.join(attempt.digest.to_string()).exists();
            if !is_there {
                tracing::warn!(
                    lease = key.token,
                    unit = key.index,
                    "the file of a result is gone from the outbox"
                );
            }
            is_there
        });
        Ok(())
    }

    /// Removes files that no attempt needs: a crash left them.
    fn remove_strangers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_needed = name.parse().is_ok_and(|digest| self.needs(digest));
            if name != "log" && !is_needed {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What is not forgotten.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.values()
    }

    /// Writes entries down; puts are on disk when this returns.
    ///
    /// # Errors
    /// When the disk does not take them; then none is written, and all may be tried again.
    pub fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut is_urgent = false;
        for entry in entries {
            match entry {
                Entry::Put(attempt, large) => {
                    is_urgent = true;
                    if let Some(large) = large {
                        let path = self.folder.join(attempt.digest.to_string());
                        if !path.exists() {
                            write_durably(&path, large)?;
                        }
                    }
                    Record::Put(Attempt::clone(attempt)).encode(&mut bytes)?;
                }
                Entry::Forget(key) => Record::Forget(*key).encode(&mut bytes)?,
            }
        }
        self.append(&bytes, is_urgent)?;
        for entry in entries {
            match entry {
                Entry::Put(attempt, _) => drop(self.attempts.insert(attempt.key, Attempt::clone(attempt))),
                Entry::Forget(key) => self.forget(*key),
            }
        }
        if self.end > self.compact_at {
            self.compact(sync_folder);
        }
        Ok(())
    }

    fn log(&mut self) -> io::Result<&File> {
        match &mut self.log {
            Some(log) => Ok(log),
            none @ None => Ok(none.insert(open_log(&self.folder.join("log"))?)),
        }
    }

    fn append(&mut self, bytes: &[u8], is_urgent: bool) -> io::Result<()> {
        // At `end`, so that what a failed write left is written over.
        let end = self.end;
        let log = self.log()?;
        write_all_at(log, bytes, end)?;
        if is_urgent {
            log.sync_data()?;
            if self.is_name_unsure {
                sync_folder(&self.folder)?;
                self.is_name_unsure = false;
            }
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn forget(&mut self, key: AttemptKey) {
        let Some(attempt) = self.attempts.remove(&key) else { return };
        if attempt.body == Body::File && !self.needs(attempt.digest) {
            let path = self.folder.join(attempt.digest.to_string());
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a sent result cannot be removed");
            }
        }
    }

    fn needs(&self, digest: Digest) -> bool {
        self.attempts.values().any(|attempt| attempt.body == Body::File && attempt.digest == digest)
    }

    /// Rewrites the log without what is forgotten. If that fails the old one is as good. Once the new one has taken its
    /// place, what comes is written there, whatever else fails.
    fn compact(&mut self, sync_name: impl FnOnce(&Path) -> io::Result<()>) {
        let path = self.folder.join("log");
        if cfg!(windows) {
            // Nothing replaces a file there that is open.
            self.log = None;
        }
        let rewrite = || {
            let mut bytes = MAGIC.to_vec();
            for attempt in self.attempts.values() {
                Record::Put(attempt.clone()).encode(&mut bytes)?;
            }
            Ok::<_, io::Error>((replace(&path, &bytes)?, bytes.len() as u64))
        };
        match rewrite() {
            Ok((log, end)) => {
                self.log = Some(log);
                self.end = end;
                self.is_name_unsure = sync_name(&self.folder).is_err();
                self.compact_at = COMPACT_BYTES.max(self.end.saturating_mul(2));
            }
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be compacted; it goes on growing");
                self.compact_at = self.end.saturating_mul(2);
            }
        }
    }

    /// The folder, for `read_result`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A large result; `None` if it is gone or is not what its name says.
pub(crate) fn read_result(folder: &Path, digest: Digest) -> Option<Vec<u8>> {
    fs::read(folder.join(digest.to_string())).ok().filter(|bytes| Digest::of(bytes) == digest)
}

fn open_log(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    for_this_user(options.create(true).truncate(false).read(true).write(true)).open(path)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
