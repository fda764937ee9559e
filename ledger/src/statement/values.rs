//! The values of a statement.

use chrono::{DateTime, Utc};

use super::Month;
use crate::{AccountKind, Amount, Code, Currency};

/// Whose statement it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Of PCs, by name.
    Owner(String),
    /// Of jobs, by name.
    Submitter(String),
}

impl Holder {
    /// The accounts of such a holder, in the order in which money passes through them. The escrows of a
    /// submitter's jobs are shown as one, and of the remainders an owner's part.
    #[must_use]
    pub const fn accounts(&self) -> &'static [AccountKind] {
        match self {
            Self::Owner(_) => {
                use AccountKind::{Available, Paid, Payout, Pending, Remainders};
                &[Pending, Available, Payout, Paid, Remainders]
            }
            Self::Submitter(_) => &[AccountKind::Submitter, AccountKind::Escrow],
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner(name) => write!(f, "owners/{name}"),
            Self::Submitter(name) => write!(f, "submitters/{name}"),
        }
    }
}

/// A month of one holder's accounts.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Whose.
    pub holder: Holder,
    /// Which month, by UTC.
    pub month: Month,
    /// When it was drawn up.
    pub as_of: DateTime<Utc>,
    /// Whether the month is over, so that nothing can be added.
    pub is_final: bool,
    /// For each currency that is stated, each account of [`Holder::accounts`], in that order.
    pub accounts: Vec<AccountLines>,
    /// What moved, by time and number of transfer. A transfer between two of the accounts is a line on each.
    pub lines: Vec<Line>,
}

/// Where an account stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLines {
    /// In which currency.
    pub currency: Currency,
    /// Which.
    pub account: AccountKind,
    /// Before the month, the sum of all transfers until then.
    pub opening: Amount,
    /// After it.
    pub closing: Amount,
}

impl AccountLines {
    /// Whether a line is on this account.
    #[must_use]
    pub fn has(&self, line: &Line) -> bool {
        (self.currency, self.account) == (line.currency, line.account)
    }
}

/// What one transfer did to one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub time: DateTime<Utc>,
    /// Number of the transfer.
    pub transfer: u64,
    /// In which currency.
    pub currency: Currency,
    /// The account.
    pub account: AccountKind,
    /// Why money moved.
    pub code: Code,
    /// What the account got; negative: what it gave.
    pub amount: Amount,
    /// The job that it was about.
    pub job: Option<u64>,
    /// The unit that it was about.
    pub unit: Option<UnitOf>,
    /// The batch of payouts that it was about.
    pub batch: Option<u64>,
    /// Why, in words, where somebody gave a reason.
    pub reason: String,
}

/// The unit that was paid for, who computed it, and what was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitOf {
    /// Its stage, such as `work` or `merge 1`.
    pub stage: String,
    /// Its index.
    pub index: u64,
    /// Number of the device.
    pub device: u64,
    /// What its owner calls the device.
    pub device_name: String,
    /// How the attempt ended: `result`, or `guest failed`.
    pub attempt: String,
    /// Digest of what it returned, hexadecimal.
    pub digest: String,
    /// What was decided of the unit: `accepted`, `failed`, `replaced` or `reopened`.
    pub verdict: String,
}

/// A statement that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Opening and lines are not the closing.
    #[error("{account}, {currency}: the opening and the lines make {sum}, the closing is {closing}")]
    Sum {
        /// In which currency.
        currency: Currency,
        /// Which account.
        account: &'static str,
        /// Opening and lines.
        sum: Amount,
        /// As the ledger has it.
        closing: Amount,
    },
    /// A line on an account that the statement does not have, outside its month, or out of order.
    #[error("transfer {0} does not belong here")]
    Line(u64),
}

impl Statement {
    /// The currencies that it states, each once, in its order.
    #[must_use]
    pub fn currencies(&self) -> Vec<Currency> {
        let mut all: Vec<Currency> = self.accounts.iter().map(|account| account.currency).collect();
        all.dedup();
        all
    }

    /// Checks that every account's opening and lines make its closing, and that the lines stand in order.
    ///
    /// # Errors
    /// What does not add up.
    pub fn check(&self) -> Result<(), StatementError> {
        for line in &self.lines {
            let is_known = self.accounts.iter().any(|account| account.has(line));
            if !is_known || !self.month.contains(line.time.date_naive()) {
                return Err(StatementError::Line(line.transfer));
            }
        }
        for pair in self.lines.windows(2) {
            if (pair[0].time, pair[0].transfer) > (pair[1].time, pair[1].transfer) {
                return Err(StatementError::Line(pair[1].transfer));
            }
        }
        for account in &self.accounts {
            let lines = self.lines.iter().filter(|line| account.has(line));
            let sum = account.opening + lines.map(|line| line.amount).sum();
            if sum != account.closing {
                let AccountLines { currency, account, closing, .. } = *account;
                let account = account.name();
                return Err(StatementError::Sum { currency, account, sum, closing });
            }
        }
        Ok(())
    }
}
