//! What is said.

use serde::{Deserialize, Serialize};

use crate::core::{Books, Memory, Tally};
use crate::presence::SourceStatus;

/// The longest pause, 30 days: who wants longer uninstalls, or sets a schedule.
pub const PAUSE_SECS_MAX: u64 = 30 * 86_400;

/// What the owner wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Tell what it is at.
    Status {},
    /// Tell what this PC earned, fresh from the coordinator where it answers.
    Earnings {},
    /// Run nothing before then.
    Pause {
        /// Unix seconds.
        until_unix_secs: u64,
    },
    /// End a pause.
    Resume {},
    /// Finish what runs, take nothing new, end.
    Drain {},
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// What it is at.
    Status(Box<Status>),
    /// What this PC earned.
    Earnings(Box<Earnings>),
    /// It is done.
    Done {},
    /// It is not done.
    Refused {
        /// Why not, and what to do.
        message: String,
    },
}

/// What the agent is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where the coordinator is.
    pub coordinator: String,
    /// Why the last call to it failed; `None` while it answers.
    pub coordinator_problem: Option<String>,
    /// Since when it answers, or does not, in Unix seconds; `None` before the first call has ended.
    pub coordinator_since_unix_secs: Option<u64>,
    /// `active`, `idle`, `unknown` or `dedicated`.
    pub presence: String,
    /// Since when, in seconds.
    pub presence_secs: u64,
    /// Why nothing runs, as sentences; empty while guests may run.
    pub rests: Vec<String>,
    /// What is watched.
    pub sources: Vec<SourceView>,
    /// What holds runners back besides WebAssembly, and what does not; `None` before that is known.
    pub walls: Option<String>,
    /// Units at a time.
    pub slots: u32,
    /// Leases that it holds.
    pub leases: Vec<LeaseStatus>,
    /// Units that it finished since it started.
    pub finished: u64,
    /// What this PC earned, as far as it was told; `None` before the coordinator has said it.
    pub earned: Option<Earnings>,
    /// Finished attempts that the coordinator has not heard of.
    pub unreported: usize,
    /// Whether the outbox cannot be written.
    pub is_disk_full: bool,
    /// Why no guest can be run on this PC; `None` if they can, or that is not known yet.
    pub runner_problem: Option<String>,
    /// Why no work is asked for on this network; `None` if it is.
    pub network_problem: Option<String>,
    /// Whether it ends once what runs is finished.
    pub is_draining: bool,
    /// Until when it is paused by hand, in Unix seconds.
    pub paused_until_unix_secs: Option<u64>,
}

/// What this PC earned: all of it verified, and paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// In all.
    pub total: Tally,
    /// In that month.
    pub this_month: Tally,
    /// The running month of UTC, as `2026-11`.
    pub month: String,
    /// Since somebody left last; `None` if nobody has been seen to leave.
    pub since_left: Option<Tally>,
    /// When they left, in Unix seconds.
    pub left_unix_secs: Option<u64>,
    /// When the coordinator said so, in Unix seconds.
    pub read_unix_secs: u64,
    /// Why there is nothing newer; `None` if the last question was answered.
    pub problem: Option<String>,
}

impl Earnings {
    /// Puts together what the books say and what is remembered.
    #[must_use]
    pub fn new(books: &Books, memory: &Memory, read_unix_secs: u64, problem: Option<String>) -> Self {
        Self {
            total: books.total.clone(),
            this_month: books.this_month.clone(),
            month: books.month.clone(),
            since_left: memory.left.as_ref().and_then(|left| books.total.since(left)),
            left_unix_secs: memory.left_unix_secs,
            read_unix_secs,
            problem,
        }
    }
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Whether it can be read.
    pub is_readable: bool,
    /// What it said last.
    pub detail: String,
}

impl From<SourceStatus> for SourceView {
    fn from(source: SourceStatus) -> Self {
        Self { name: source.name.to_owned(), is_readable: source.is_readable, detail: source.detail }
    }
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its number.
    pub token: u64,
    /// Its job.
    pub job_id: u64,
    /// Units in it.
    pub units: usize,
    /// Of these: finished or handed back.
    pub done: usize,
    /// The unit that has been started and is not finished, frozen or not.
    pub running: Option<u64>,
}
