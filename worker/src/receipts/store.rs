//! The files of receipts: one a month, and `state.json`, which says up to which posting all are there.
//!
//! A sheet is on disk before `state.json` counts it in; what a crash leaves at the end of a month is cut off, and the
//! coordinator gives it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use lull_proto::v1;
use serde::{Deserialize, Serialize};

use super::log::{self, Kept, MAGIC};
use super::sheet::{self, Holder, Problem, Receipt, Sums};
use crate::files::{sync_folder, write_durably};
use crate::os::{for_this_user, write_all_at};

/// Months that are kept.
const MONTHS_MAX: usize = 24;
/// Bytes of all months. The oldest month goes first; one that alone is larger ends the collecting.
const RECEIPTS_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Receipts that are named to the coordinator beyond those that it has counted: it takes no more.
const NAMED_MAX: usize = 1_000;
const STATE_FILE: &str = "state.json";
const EXTENSION: &str = "log";

/// What is known of the receipts as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// All receipts up to this posting were here.
    pub through: u64,
    /// Those up to this one were removed with their months.
    pub pruned_through: u64,
    /// What they were; none where some were removed by an agent that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
    /// Keys that are trusted, in hexadecimal: those of the enrolment, or the first one seen.
    pub keys: Vec<String>,
}

/// Receipts that were removed: what the ledger has of that time can still be compared with their sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// How many.
    pub postings: u64,
    /// What they came to in each currency.
    pub amount: Sums,
    /// The last month that is counted. Its file may still be there.
    #[serde(default)]
    pub month: String,
}

/// Why a sheet was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk does not take it.
    #[error("receipts cannot be kept: {0}")]
    Disk(#[from] io::Error),
    /// It does not hold.
    #[error("the coordinator gave a receipt that does not hold: {0}")]
    Problem(#[from] Problem),
}

/// Receipts on disk.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    holder: Holder,
    state: State,
    /// Beyond `through`.
    numbers: BTreeSet<u64>,
    /// The highest number of a receipt that was here. A coordinator is not believed that all up to a higher one are: it would
    /// never have to give another.
    newest: u64,
    /// Bytes of each month.
    months: BTreeMap<String, u64>,
    bytes_max: u64,
}

/// Everything that is kept, for whoever does not hold the folder.
///
/// # Errors
/// When it cannot be read.
pub fn read(folder: &Path) -> io::Result<(State, BTreeMap<String, Kept>)> {
    let state = read_state(folder)?;
    let mut months = BTreeMap::new();
    if folder.exists() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION)
                && let Some(month) = path.file_stem().and_then(|name| name.to_str())
            {
                let kept = log::decode(&fs::read(&path)?);
                let damaged = Kept { damaged_at: vec![0], ..Kept::default() };
                months.insert(month.to_owned(), kept.unwrap_or(damaged));
            }
        }
    }
    Ok((state, months))
}

/// Trusts these keys, unless others are trusted already.
///
/// # Errors
/// When the disk does not take it.
pub fn pin(folder: &Path, keys: &[Vec<u8>]) -> io::Result<()> {
    let mut state = read_state(folder)?;
    if state.keys.is_empty() && !keys.is_empty() {
        state.keys = keys.iter().map(hex::encode).collect();
        write_state(folder, &state)?;
    }
    Ok(())
}

fn read_state(folder: &Path) -> io::Result<State> {
    match fs::read(folder.join(STATE_FILE)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

fn write_state(folder: &Path, state: &State) -> io::Result<()> {
    write_durably(&folder.join(STATE_FILE), &serde_json::to_vec_pretty(state)?)
}

impl Store {
    /// Opens a folder.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(folder: &Path, holder: Holder) -> io::Result<Self> {
        let (state, kept) = read(folder)?;
        let mut store = Self {
            folder: folder.to_owned(),
            holder,
            state,
            numbers: BTreeSet::new(),
            newest: 0,
            months: BTreeMap::new(),
            bytes_max: RECEIPTS_BYTES_MAX,
        };
        for (month, kept) in kept {
            for at in &kept.damaged_at {
                tracing::error!(
                    month,
                    at,
                    "a receipt on disk is damaged: `lull-worker earnings verify` says more"
                );
            }
            let numbers: BTreeSet<u64> =
                kept.sheets.iter().flat_map(|sheet| store.numbers_of(sheet)).collect();
            store.numbers.extend(numbers);
            store.months.insert(month, kept.end);
        }
        store.newest = store.numbers.last().copied().unwrap_or(0).max(store.state.pruned_through);
        store.state.through = store.state.through.min(store.newest);
        store.forget_counted();
        Ok(store)
    }

    fn numbers_of(&self, sheet: &v1::Receipts) -> BTreeSet<u64> {
        let receipts = sheet::check(sheet, &self.holder).unwrap_or_default();
        receipts.into_iter().map(|receipt| receipt.number).collect()
    }

    /// The receipts of a month, by number.
    fn receipts_of(&self, month: &str) -> io::Result<BTreeMap<u64, Receipt>> {
        let kept = log::decode(&fs::read(self.path(month))?).unwrap_or_default();
        let receipts =
            kept.sheets.iter().flat_map(|sheet| sheet::check(sheet, &self.holder).unwrap_or_default());
        Ok(receipts.map(|receipt| (receipt.number, receipt)).collect())
    }

    fn forget_counted(&mut self) {
        self.numbers = self.numbers.split_off(&self.state.through.saturating_add(1));
    }

    fn bytes(&self) -> u64 {
        self.months.values().sum()
    }

    /// What there is, for the coordinator; `None` if there is no room for more.
    #[must_use]
    pub fn held(&self) -> Option<v1::HeldReceipts> {
        let has_room = self.bytes() < self.bytes_max || self.months.len() > 1;
        has_room.then(|| v1::HeldReceipts {
            through: self.state.through,
            numbers: self.numbers.iter().copied().take(NAMED_MAX).collect(),
        })
    }

    /// Keeps a sheet that came at this time; it is on disk when this returns. Returns how many receipts are new.
    ///
    /// It goes into the month in which it came: what its receipts say of their time is the coordinator's word, which could
    /// push older months out.
    ///
    /// # Errors
    /// When it does not hold, or the disk does not take it: then nothing has changed, and it can be had again.
    pub fn keep(&mut self, sheet: &v1::Receipts, now: DateTime<Utc>) -> Result<usize, Error> {
        let mut new = 0;
        if !sheet.receipts.is_empty() {
            let receipts = sheet::check(sheet, &self.holder)?;
            self.trust(sheet)?;
            // One that was counted in without having been here is new as well.
            let is_new = |number: &u64| !self.numbers.contains(number);
            let numbers: BTreeSet<u64> =
                receipts.iter().map(|receipt| receipt.number).filter(is_new).collect();
            if let Some(last) = numbers.last().copied() {
                self.append(&month(now), &log::encode(sheet))?;
                new = numbers.len();
                self.newest = self.newest.max(last);
                self.numbers.extend(numbers);
                self.forget_counted();
                self.prune()?;
            }
        }
        let through = sheet.through.min(self.newest);
        if through > self.state.through {
            let state = State { through, ..self.state.clone() };
            write_state(&self.folder, &state)?;
            self.state = state;
            self.forget_counted();
        }
        Ok(new)
    }

    /// The first key that signs is trusted, where the enrolment named none. Others are kept too, and told by
    /// `earnings verify`.
    fn trust(&mut self, sheet: &v1::Receipts) -> io::Result<()> {
        let key = hex::encode(&sheet.public_key);
        if self.state.keys.is_empty() {
            let state = State { keys: vec![key], ..self.state.clone() };
            write_state(&self.folder, &state)?;
            self.state = state;
        } else if !self.state.keys.contains(&key) {
            tracing::warn!(key, "receipts are signed with a key that this PC does not know");
        }
        Ok(())
    }

    fn path(&self, month: &str) -> PathBuf {
        self.folder.join(month).with_extension(EXTENSION)
    }

    fn append(&mut self, month: &str, record: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let path = self.path(month);
        let file = for_this_user(options.create(true).truncate(false).read(true).write(true)).open(path)?;
        // At the end of what is whole, so that what a crash or a failed write left is written over.
        let end = match self.months.get(month) {
            Some(end) => *end,
            None => MAGIC.len() as u64,
        };
        file.set_len(end.min(file.metadata()?.len()))?;
        if end == MAGIC.len() as u64 {
            write_all_at(&file, MAGIC, 0)?;
        }
        write_all_at(&file, record, end)?;
        file.sync_all()?;
        if !self.months.contains_key(month) {
            sync_folder(&self.folder)?;
        }
        self.months.insert(month.to_owned(), end + record.len() as u64);
        Ok(())
    }

    /// Removes the oldest months past the limits; the last one stays.
    fn prune(&mut self) -> Result<(), Error> {
        while self.months.len() > 1 && (self.months.len() > MONTHS_MAX || self.bytes() > self.bytes_max) {
            let Some(month) = self.months.keys().next().cloned() else { break };
            let state = self.without(&month)?;
            write_state(&self.folder, &state)?;
            self.state = state;
            fs::remove_file(self.path(&month))?;
            self.months.remove(&month);
            tracing::info!(month, "receipts of that month are removed: there is no room for more");
        }
        if self.bytes() >= self.bytes_max {
            tracing::warn!(
                "there is no room for more receipts this month; the coordinator can give them later"
            );
        }
        Ok(())
    }

    /// What is known once a month is removed. Postings are counted up, so that a number that none of the months after it is
    /// above is no posting, and would hide that receipts are missing which were never here. A coordinator can give numbers as
    /// high as that in every month: then the sums differ.
    fn without(&self, month: &str) -> Result<State, Error> {
        if self.state.pruned.as_ref().is_some_and(|counted| counted.month == month) {
            return Ok(self.state.clone());
        }
        let mut removed = self.receipts_of(month)?;
        let mut bound = 0;
        // One that came again lies in a later month, too.
        for later in self.months.keys().filter(|later| later.as_str() > month) {
            let kept = self.receipts_of(later)?;
            removed.retain(|number, _| !kept.contains_key(number));
            bound = kept.keys().next_back().copied().unwrap_or(0).max(bound);
        }
        removed.retain(|number, _| *number < bound);
        let mut state = self.state.clone();
        let counted = if state.pruned_through == 0 { Some(Pruned::default()) } else { state.pruned };
        state.pruned = counted.map(|Pruned { postings, amount, .. }| Pruned {
            month: month.to_owned(),
            postings: postings + removed.len() as u64,
            amount: sheet::sums_with(
                &amount,
                removed.values().flat_map(|receipt| receipt.posting.lines.values()),
            ),
        });
        let last = removed.keys().next_back().copied().unwrap_or(0);
        state.pruned_through = state.pruned_through.max(last);
        Ok(state)
    }
}

/// The month of that time, by UTC.
fn month(time: DateTime<Utc>) -> String {
    time.format("%Y-%m").to_string()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
