//! Double-entry bookkeeping, as values: [`Amount`], [`Currency`], [`AccountId`], [`Transfer`].
//!
//! Money moves only by transfers, each from one account to another, and a transfer is never changed:
//! a correction is another transfer. The natural key of a transfer is made from what it pays for, so that
//! the same thing cannot be paid twice. An account's balance is what was credited to it less what was
//! debited; only the bank, which stands for the world outside, may be negative, and in each currency the sum of all is zero.
//!
//! [`statement`] writes down what moved, [`payout`] what a bank is told.
//!
//! This crate knows no database: the coordinator's store writes what is decided here.

mod account;
mod amount;
mod currency;
mod fee;
pub mod payout;
pub mod statement;
mod transfer;

pub use account::{AccountId, AccountKind};
pub use amount::{Amount, AmountError};
pub use currency::{Currency, CurrencyError, CurrencyId};
pub use fee::{FeeError, FeeRate};
pub use transfer::{Code, Key, Posting, Transfer, postings};
