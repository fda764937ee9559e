//! What the agent decides: plain synchronous Rust. Events and the time come in, commands go out as values.
//!
//! - [`Agent`]: leases, units, reports and when to call the coordinator;
//! - [`Gate`]: whether guests may run, from what the sources of presence say; [`Rest`]: why not;
//! - [`Session`], on Windows [`Desktop`]: which sessions of other people count;
//! - [`Schedule`]: when the owner lets them;
//! - [`Absence`]: when somebody who comes back is told what was earned; [`Books`]: what was;
//! - [`Backoff`]: how long to wait after a failure.
//!
//! No tokio, sockets, files, clock or randomness of its own.

mod absence;
mod agent;
mod attempt;
mod backoff;
mod books;
mod checkpoint;
mod desktops;
mod gate;
mod lease;
mod machine;
mod network;
mod rest;
mod schedule;
mod sessions;
mod snapshot;
mod sync;
#[cfg(test)]
mod tests;

pub use absence::{Absence, Memory, Notice, Notify, Whereabouts, Wish};
pub use agent::{Agent, Command, Event, SyncFailure, UploadEnd};
pub use attempt::{Attempt, AttemptKey, AttemptOutcome, Body, StrictRun};
pub use backoff::Backoff;
pub use books::{Books, InCurrency, Tally, money, shown};
pub use checkpoint::{CHECKPOINT_UPLOAD_TIME, CHECKPOINT_UPLOAD_TIME_AT_END, UnitName};
pub use desktops::{Desktop, keeps_awake};
pub use gate::{
    Gate, Judgement, Kind, LOOK_EVERY, LOOK_EVERY_AT_REST, People, Presence, STALE_AFTER, Said, Sighting,
};
pub use machine::{CpuMeter, CpuTimes, MemoryMeter, Supply, available_memory, is_on_battery, process_ticks};
pub use network::Network;
pub use rest::Rest;
pub(crate) use rest::Rough;
pub use schedule::{Error as ScheduleError, Schedule};
pub use sessions::{Session, inhibits_idle};
pub use snapshot::{LeaseSnapshot, Snapshot};
pub use sync::{HAND_BACK_AFTER, LONG_POLL, REPORT_EVERY, SHUTDOWN_TIME};
