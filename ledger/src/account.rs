//! Accounts: whose money it is and in what state.

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// The world outside; deposits come from it. There is one, and it alone may be negative.
    Bank,
    /// A submitter's free balance.
    Submitter,
    /// What a job may still spend.
    Escrow,
    /// What an owner can be paid out.
    Available,
    /// What an owner has earned and could still lose.
    Pending,
    /// What was forfeited when its job was over. There is one.
    Losses,
    /// What the platform took of rewards. There is one.
    Fees,
    /// What an owner is being paid out.
    Payout,
    /// What an owner was paid out.
    Paid,
}

impl AccountKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Bank,
        Self::Submitter,
        Self::Escrow,
        Self::Available,
        Self::Pending,
        Self::Losses,
        Self::Fees,
        Self::Payout,
        Self::Paid,
    ];

    /// The number that stands for this kind in the database: the grid's own accounts are all of kind 0.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Bank | Self::Losses | Self::Fees => 0,
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
        }
    }
}

/// An account: its kind, and the number of the submitter, job or owner that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(i64);

impl AccountId {
    /// Kinds that a number has room for.
    pub const KINDS: i64 = 8;

    /// The bank.
    pub const BANK: Self = Self(0);
    /// What was forfeited when its job was over.
    pub const LOSSES: Self = Self(Self::KINDS);
    /// What the platform took of rewards.
    pub const FEES: Self = Self(2 * Self::KINDS);

    /// The account of this kind that belongs to `holder`, a positive number. Of the grid's own accounts there
    /// is one each, whatever the holder.
    #[must_use]
    pub const fn new(kind: AccountKind, holder: i64) -> Self {
        match kind {
            AccountKind::Bank => Self::BANK,
            AccountKind::Losses => Self::LOSSES,
            AccountKind::Fees => Self::FEES,
            AccountKind::Submitter
            | AccountKind::Escrow
            | AccountKind::Available
            | AccountKind::Pending
            | AccountKind::Payout
            | AccountKind::Paid => Self(holder * Self::KINDS + kind.code()),
        }
    }

    /// What it is for.
    #[must_use]
    pub fn kind(self) -> Option<AccountKind> {
        let of_grid = [Self::BANK, Self::LOSSES, Self::FEES].contains(&self);
        AccountKind::ALL.into_iter().find(|kind| match kind.code() {
            0 => of_grid && Self::new(*kind, 0) == self,
            code => self.0 > 0 && self.0 % Self::KINDS == code,
        })
    }

    /// The account of this number.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number of the account: the holder's times eight, and the kind's code.
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
        for kind in AccountKind::ALL {
            assert_eq!(AccountId::from_number(AccountId::new(kind, 7).number()).kind(), Some(kind));
        }
        assert_eq!(AccountId::from_number(7 * 8).kind(), None, "the grid's own accounts are three");
        assert_eq!(AccountId::from_number(7 * 8 + 7).kind(), None);
    }
}
