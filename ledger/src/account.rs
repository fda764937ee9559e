//! Accounts: whose money it is, in which currency, and in what state.

use crate::CurrencyId;

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// The world outside; deposits come from it. There is one for each currency, and it alone may be negative.
    Bank,
    /// A submitter's free balance.
    Submitter,
    /// What a job may still spend.
    Escrow,
    /// What an owner can be paid out.
    Available,
    /// What an owner has earned and could still lose.
    Pending,
    /// What was forfeited when its job was over. There is one for each currency.
    Losses,
    /// What the platform took of rewards. There is one for each currency.
    Fees,
    /// What an owner is being paid out.
    Payout,
    /// What an owner was paid out.
    Paid,
    /// What payouts left, as it is less than their currency has decimals for. There is one for each currency; each part
    /// of it is an owner's.
    Remainders,
}

impl AccountKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Bank,
        Self::Submitter,
        Self::Escrow,
        Self::Available,
        Self::Pending,
        Self::Losses,
        Self::Fees,
        Self::Payout,
        Self::Paid,
        Self::Remainders,
    ];

    /// The number that stands for this kind in the database: the grid's own accounts are all of kind 0, and told apart by
    /// their holder.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Bank | Self::Losses | Self::Fees | Self::Remainders => 0,
            Self::Submitter => 1,
            Self::Escrow => 2,
            Self::Available => 3,
            Self::Pending => 4,
            Self::Payout => 5,
            Self::Paid => 6,
        }
    }

    /// Its name on screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::Submitter => "submitter",
            Self::Escrow => "escrow",
            Self::Available => "available",
            Self::Pending => "pending",
            Self::Losses => "losses",
            Self::Fees => "fees",
            Self::Payout => "payout",
            Self::Paid => "paid",
            Self::Remainders => "remainders",
        }
    }
}

/// An account: its currency, its kind, and the number of the submitter, job or owner that it belongs to. All three are
/// in its number, so that a transfer cannot be between two currencies without showing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(i64);

impl AccountId {
    /// Kinds that a number has room for.
    pub const KINDS: i64 = 8;
    /// The number of the currency stands above so many bits. The default's is 0: its accounts have the numbers that
    /// they had when there was no other.
    pub const CURRENCY_SHIFT: u32 = 48;

    /// The account of this kind that belongs to `holder`, a positive number below 2^45. Of the grid's own accounts
    /// there is one each in a currency, whatever the holder.
    #[must_use]
    pub const fn new(currency: CurrencyId, kind: AccountKind, holder: i64) -> Self {
        let within = match kind {
            AccountKind::Bank => 0,
            AccountKind::Losses => Self::KINDS,
            AccountKind::Fees => 2 * Self::KINDS,
            AccountKind::Remainders => 3 * Self::KINDS,
            AccountKind::Submitter
            | AccountKind::Escrow
            | AccountKind::Available
            | AccountKind::Pending
            | AccountKind::Payout
            | AccountKind::Paid => holder * Self::KINDS + kind.code(),
        };
        Self(((currency.number() as i64) << Self::CURRENCY_SHIFT) | within)
    }

    /// One of the grid's own.
    #[must_use]
    pub const fn of_grid(currency: CurrencyId, kind: AccountKind) -> Self {
        Self::new(currency, kind, 0)
    }

    /// What it is in; `None` for a number that no account has.
    #[must_use]
    pub fn currency(self) -> Option<CurrencyId> {
        i16::try_from(self.0 >> Self::CURRENCY_SHIFT).ok().and_then(CurrencyId::from_number)
    }

    /// The number of whom it belongs to; of the grid's own it says which.
    #[must_use]
    pub const fn holder(self) -> i64 {
        self.within() / Self::KINDS
    }

    /// Its number among those of its currency.
    const fn within(self) -> i64 {
        self.0 & ((1 << Self::CURRENCY_SHIFT) - 1)
    }

    /// What it is for.
    #[must_use]
    pub fn kind(self) -> Option<AccountKind> {
        let currency = self.currency()?;
        AccountKind::ALL.into_iter().find(|kind| match kind.code() {
            0 => Self::of_grid(currency, *kind) == self,
            code => self.holder() > 0 && self.within() % Self::KINDS == code,
        })
    }

    /// The account of this number.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number of the account: the holder's times eight, and the kind's code, below the currency's number.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_what_its_account_is_for() {
        for number in [0, 1, i16::MAX] {
            let currency = CurrencyId::from_number(number).unwrap();
            for kind in AccountKind::ALL {
                let account = AccountId::from_number(AccountId::new(currency, kind, 7).number());
                assert_eq!((account.currency(), account.kind()), (Some(currency), Some(kind)));
                assert!(kind.code() == 0 || account.holder() == 7);
            }
        }
        assert_eq!(AccountId::from_number(7 * 8).kind(), None, "the grid's own accounts are four");
        assert_eq!(AccountId::from_number(7 * 8 + 7).kind(), None);
        assert_eq!(AccountId::from_number(-1).kind(), None);
    }

    #[test]
    fn accounts_of_the_default_keep_their_numbers() {
        let number = |kind, holder| AccountId::new(CurrencyId::DEFAULT, kind, holder).number();
        assert_eq!(number(AccountKind::Bank, 0), 0);
        assert_eq!(number(AccountKind::Fees, 0), 16);
        assert_eq!(number(AccountKind::Available, 12), 99);
    }
}
