//! Payouts as values: who is paid what by whom, and the files that a bank takes.
//!
//! - [`Order`]: an approved batch; [`csv`](fn@csv) and [`pain`](fn@pain) write it down;
//! - [`Iban`], [`Party`]: accounts and names that a bank would take.
//!
//! Which owners are paid is decided elsewhere, and nothing here talks to a bank.

mod csv;
mod iban;
mod pain;
mod party;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

pub use self::csv::csv;
pub use self::iban::{Iban, IbanError};
pub use self::pain::{PainError, pain};
pub use self::party::{Bic, NAME_CHARS_MAX, Party, PartyError};
use crate::{Amount, Currency};

/// The largest amount of one SEPA credit transfer (EPC132-08: 0.01 to 999,999,999.99), and of one payout in any other
/// currency; whatever an owner has beyond it waits for the next batch.
pub const PAYOUT_MAX: Amount = Amount::of_parts(Decimal::from_parts(0x4876_E7FF, 0x17, 0, false, 2));

/// What is paid out of so much: what the currency has decimals for, at most [`PAYOUT_MAX`].
#[must_use]
pub fn payable(available: Amount, currency: Currency) -> Amount {
    currency.payable(available.min(PAYOUT_MAX))
}

/// A batch as a bank is told of it.
#[derive(Debug, Clone)]
pub struct Order {
    /// Number of the batch.
    pub batch: u64,
    /// What all of it is in.
    pub currency: Currency,
    /// When it was first exported: a repeated export gives the same bytes.
    pub exported_at: DateTime<Utc>,
    /// Who pays.
    pub payer: Party,
    /// The payer's bank, where it wants to be named.
    pub payer_bic: Option<Bic>,
    /// Who is paid, in the order of their numbers.
    pub payments: Vec<Payment>,
}

/// One payout.
#[derive(Debug, Clone)]
pub struct Payment {
    /// The owner's number.
    pub owner: u64,
    /// The owner's name on the grid.
    pub owner_name: String,
    /// Who gets the money.
    pub payee: Party,
    /// How much: no more places than the currency has.
    pub amount: Amount,
}

impl Order {
    /// What tells this message from every other of its payer: at most 35 characters.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("LULL-{}-{}", self.batch, self.exported_at.format("%Y%m%d%H%M%S"))
    }

    /// All payments together.
    #[must_use]
    pub fn sum(&self) -> Amount {
        self.payments.iter().map(|payment| payment.amount).sum()
    }

    /// What the payee finds on the account, and what comes back with a returned payment: at most 35 characters.
    #[must_use]
    pub fn end_to_end_id(&self, payment: &Payment) -> String {
        format!("LULL-{}-{}", self.batch, payment.owner)
    }
}

#[cfg(test)]
mod tests;
