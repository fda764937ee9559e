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
    /// What the platform keeps. There is one.
    Fees,
    /// What was forfeited and not spent again. There is one.
    Losses,
    /// What rounding left over. There is one.
    Remainders,
    /// What has been paid out. There is one.
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
        Self::Fees,
        Self::Losses,
        Self::Remainders,
        Self::Paid,
    ];

    /// The number that stands for this kind in the database: the grid's own accounts are all of kind 0.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Bank | Self::Fees | Self::Losses | Self::Remainders | Self::Paid => 0,
            Self::Submitter => 1,
            Self::Escrow => 2,
            Self::Available => 3,
            Self::Pending => 4,
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
            Self::Fees => "fees",
            Self::Losses => "losses",
            Self::Remainders => "remainders",
            Self::Paid => "paid",
        }
    }
}

/// An account: its kind, and the number of the submitter, job or owner that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(i64);

impl AccountId {
    /// Kinds that a number has room for.
    const KINDS: i64 = 8;

    /// The bank.
    pub const BANK: Self = Self(0);
    /// The platform's fees.
    pub const FEES: Self = Self(Self::KINDS);
    /// What was forfeited.
    pub const LOSSES: Self = Self(2 * Self::KINDS);
    /// What rounding left over.
    pub const REMAINDERS: Self = Self(3 * Self::KINDS);
    /// What has been paid out.
    pub const PAID: Self = Self(4 * Self::KINDS);

    /// The account of this kind that belongs to `holder`, a positive number. Of the grid's own accounts there
    /// is one each, whatever the holder.
    #[must_use]
    pub const fn new(kind: AccountKind, holder: i64) -> Self {
        match kind {
            AccountKind::Bank => Self::BANK,
            AccountKind::Fees => Self::FEES,
            AccountKind::Losses => Self::LOSSES,
            AccountKind::Remainders => Self::REMAINDERS,
            AccountKind::Paid => Self::PAID,
            AccountKind::Submitter | AccountKind::Escrow | AccountKind::Available | AccountKind::Pending => {
                Self(holder * Self::KINDS + kind.code())
            }
        }
    }

    /// The number of the account: the holder's times eight, and the kind's code.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// What the account is for; `None` where the number names none.
    #[must_use]
    pub const fn kind(self) -> Option<AccountKind> {
        Some(match (self.0.rem_euclid(Self::KINDS), self.holder()) {
            (0, 0) => AccountKind::Bank,
            (0, 1) => AccountKind::Fees,
            (0, 2) => AccountKind::Losses,
            (0, 3) => AccountKind::Remainders,
            (0, 4) => AccountKind::Paid,
            (1, _) => AccountKind::Submitter,
            (2, _) => AccountKind::Escrow,
            (3, _) => AccountKind::Available,
            (4, _) => AccountKind::Pending,
            _ => return None,
        })
    }

    /// The number of the submitter, job or owner that it belongs to.
    #[must_use]
    pub const fn holder(self) -> i64 {
        self.0.div_euclid(Self::KINDS)
    }
}

impl From<i64> for AccountId {
    /// The account of this number.
    fn from(number: i64) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_tells_its_kind_and_holder() {
        for kind in AccountKind::ALL {
            let account = AccountId::new(kind, 7);
            assert_eq!(account.kind(), Some(kind), "{}", kind.name());
            assert!(kind.code() == 0 || account.holder() == 7, "{}", kind.name());
        }
        assert_eq!(AccountId::from(7).kind(), None);
    }
}
