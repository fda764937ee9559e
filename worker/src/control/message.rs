//! What is said.

use serde::{Deserialize, Serialize};

use crate::presence::SourceStatus;

/// The longest pause, 30 days: who wants longer uninstalls, or sets a schedule.
pub const PAUSE_SECS_MAX: u64 = 30 * 86_400;

/// What the owner wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Tell what it is at.
    Status {},
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
    /// Units at a time.
    pub slots: u32,
    /// Leases that it holds.
    pub leases: Vec<LeaseStatus>,
    /// Units that it finished since it started.
    pub finished: u64,
    /// Finished attempts that the coordinator has not heard of.
    pub unreported: usize,
    /// Whether the outbox cannot be written.
    pub is_disk_full: bool,
    /// Whether it ends once what runs is finished.
    pub is_draining: bool,
    /// Until when it is paused by hand, in Unix seconds.
    pub paused_until_unix_secs: Option<u64>,
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
