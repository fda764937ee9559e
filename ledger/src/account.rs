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
    /// What an owner has earned.
    Available,
}

impl AccountKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Bank, Self::Submitter, Self::Escrow, Self::Available];

    /// The number that stands for this kind in the database.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Bank => 0,
            Self::Submitter => 1,
            Self::Escrow => 2,
            Self::Available => 3,
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

    /// The account of this kind that belongs to `holder`, a positive number.
    #[must_use]
    pub const fn new(kind: AccountKind, holder: i64) -> Self {
        Self(holder * Self::KINDS + kind.code())
    }

    /// The number of the account: the holder's times eight, and the kind's code.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }
}
