//! Receipts of the coordinator: what it says, signed, that this device was paid.
//!
//! - [`sheet`]: some receipts under one signature, read and checked;
//! - [`Store`]: kept on disk, by month;
//! - [`Keeper`]: asks for them with the agent's calls, and keeps what comes;
//! - [`compare`]: against the ledger; [`statement`]: against a statement.
//!
//! Nothing here trusts what the coordinator says of its own receipts: signature, sums and device are checked anew.

pub mod compare;
mod keeper;
mod log;
pub mod sheet;
pub mod statement;
mod store;

pub use keeper::Keeper;
pub use log::Kept;
pub use store::{Store, pin, read};
