//! A statement as a plain-text journal, for hledger and ledger.
//!
//! Accounts and commodities, one for each currency, are declared, dates are in order, and at the end of each day every account's balance is
//! asserted.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::rows::{about, plain};
use super::text::state_of;
use super::{Holder, Line, Statement};
use crate::{Amount, Code, Currency};

/// The statement as a journal.
#[must_use]
pub fn journal(statement: &Statement) -> String {
    let mut journal = Journal { text: String::new(), statement, balances: Vec::new() };
    journal.declarations();
    journal.opening();
    for day in statement.lines.chunk_by(|a, b| a.time.date_naive() == b.time.date_naive()) {
        for transfer in day.chunk_by(|a, b| a.transfer == b.transfer) {
            journal.transfer(transfer);
        }
        journal.assertions(&day[0].time.format("%Y-%m-%d").to_string());
    }
    journal.text
}

struct Journal<'a> {
    text: String,
    statement: &'a Statement,
    balances: Vec<Amount>,
}

impl Journal<'_> {
    fn declarations(&mut self) {
        let Statement { holder, month, .. } = self.statement;
        let mut accounts: BTreeSet<String> =
            holder.accounts().iter().map(|account| own(account.name())).collect();
        accounts.insert(OPENING.to_owned());
        accounts.extend(self.statement.lines.iter().map(|line| elsewhere(holder, line.code)));
        self.line(&format!("; Statement of {holder} for {month} (UTC). {}", state_of(self.statement)));
        for currency in self.statement.currencies() {
            self.line(&format!("commodity {currency}\n    format 1000.{:0<12} {currency}\n", ""));
        }
        for account in accounts {
            self.line(&format!("account {account}"));
        }
    }

    fn opening(&mut self) {
        self.balances = self.statement.accounts.iter().map(|account| account.opening).collect();
        self.line(&format!("\n{} opening", self.statement.month.first_day()));
        for account in &self.statement.accounts {
            self.posting(&own(account.account.name()), account.opening, account.currency, None);
        }
        for currency in self.statement.currencies() {
            let of = self.statement.accounts.iter().filter(|account| account.currency == currency);
            let sum: Amount = of.map(|account| account.opening).sum();
            self.posting(OPENING, -sum, currency, None);
        }
    }

    /// A transfer: a line on one of the holder's accounts, or on two.
    fn transfer(&mut self, lines: &[Line]) {
        let Some(first) = lines.first() else { return };
        let about = note(&about(first));
        let what = format!("{} transfer {}", first.code.name(), first.transfer);
        let about = if about.is_empty() { String::new() } else { format!("  ; {about}") };
        self.line(&format!("\n{} {what}{about}", first.time.format("%Y-%m-%d")));
        let mut rest = Amount::ZERO;
        for line in lines {
            self.posting(&own(line.account.name()), line.amount, line.currency, None);
            rest = rest - line.amount;
            let at = self.statement.accounts.iter().position(|account| account.has(line));
            if let Some(balance) = at.and_then(|at| self.balances.get_mut(at)) {
                *balance = *balance + line.amount;
            }
        }
        if rest != Amount::ZERO {
            self.posting(&elsewhere(&self.statement.holder, first.code), rest, first.currency, None);
        }
    }

    fn assertions(&mut self, day: &str) {
        self.line(&format!("\n{day} balances"));
        for (account, balance) in self.statement.accounts.iter().zip(self.balances.clone()) {
            self.posting(&own(account.account.name()), Amount::ZERO, account.currency, Some(balance));
        }
    }

    fn posting(&mut self, account: &str, amount: Amount, currency: Currency, balance: Option<Amount>) {
        let amount = amount.fixed(Amount::PLACES);
        let assertion = balance.map(|balance| format!(" = {} {currency}", balance.fixed(Amount::PLACES)));
        self.line(&format!("    {account}  {amount} {currency}{}", assertion.unwrap_or_default()));
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Text that is a note and nothing else: both programs read tags before a colon and dates in brackets, and reject a file for a
/// tag that is not declared or a date that is none.
fn note(text: &str) -> String {
    let as_text = |c| match c {
        ';' | ':' => ',',
        '[' => '(',
        ']' => ')',
        other => other,
    };
    plain(text).chars().map(as_text).collect()
}

const OPENING: &str = "equity:opening";

/// One of the holder's accounts.
fn own(name: &str) -> String {
    format!("assets:{name}")
}

/// Where money comes from or goes to that leaves the holder's accounts.
fn elsewhere(holder: &Holder, code: Code) -> String {
    let class = match (holder, code) {
        (_, Code::Deposit | Code::Reversal) => "equity",
        (Holder::Owner(_), _) => "income",
        (Holder::Submitter(_), _) => "expenses",
    };
    format!("{class}:{}", code.name())
}
