//! Transfers, and what they do to balances.

use std::collections::BTreeMap;

use crate::{AccountId, AccountKind, Amount};

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// From outside onto a submitter's balance.
    Deposit,
    /// A job's budget, at submission.
    Escrow,
    /// For one accepted attempt.
    Reward,
    /// What a job did not spend.
    Refund,
    /// Of pay that was held back: it can be paid out now.
    Release,
    /// Of pay that was held back: its owner returned a wrong result.
    Forfeit,
}

impl Code {
    /// The number that stands for this code in the database.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Deposit => 1,
            Self::Escrow => 2,
            Self::Reward => 3,
            Self::Refund => 4,
            Self::Release => 5,
            Self::Forfeit => 6,
        }
    }
}

/// What a transfer pays for: unique among the transfers of one code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The job; 0 for deposits.
    pub job: i64,
    /// Code of the stage; 0 where there is none.
    pub stage: i16,
    /// Index of the unit; 0 where there is none.
    pub index: i64,
    /// The owner whose attempt it is (an owner has one attempt of a unit); the deposit's number for deposits.
    pub attempt: i64,
}

/// An immutable movement of money from one account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The account that gives.
    pub debit: AccountId,
    /// The account that gets.
    pub credit: AccountId,
    /// How much; positive.
    pub amount: Amount,
    /// Why.
    pub code: Code,
    /// What for.
    pub key: Key,
}

impl Transfer {
    /// Money from outside onto a submitter's balance.
    #[must_use]
    pub const fn deposit(deposit: i64, submitter: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::BANK,
            credit: AccountId::new(AccountKind::Submitter, submitter),
            amount,
            code: Code::Deposit,
            key: Key { job: 0, stage: 0, index: 0, attempt: deposit },
        }
    }

    /// A job's budget into its escrow.
    #[must_use]
    pub const fn escrow(job: i64, submitter: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(AccountKind::Submitter, submitter),
            credit: AccountId::new(AccountKind::Escrow, job),
            amount,
            code: Code::Escrow,
            key: Key { job, stage: 0, index: 0, attempt: 0 },
        }
    }

    /// Pay for an accepted attempt.
    #[must_use]
    pub const fn reward(key: Key, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(AccountKind::Escrow, key.job),
            credit: AccountId::new(AccountKind::Available, owner),
            amount,
            code: Code::Reward,
            key,
        }
    }

    /// Pay for an accepted attempt that its owner could still lose.
    #[must_use]
    pub const fn reward_held(key: Key, owner: i64, amount: Amount) -> Self {
        Self { credit: AccountId::new(AccountKind::Pending, owner), ..Self::reward(key, owner, amount) }
    }

    /// Pay that was held back, for a range of an owner's results.
    #[must_use]
    pub const fn release(release: i64, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(AccountKind::Pending, owner),
            credit: AccountId::new(AccountKind::Available, owner),
            amount,
            code: Code::Release,
            key: Key { job: 0, stage: 0, index: 0, attempt: release },
        }
    }

    /// Pay that was held back and is lost, back to the escrow of a job that still runs.
    #[must_use]
    pub const fn forfeit(key: Key, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(AccountKind::Pending, owner),
            credit: AccountId::new(AccountKind::Escrow, key.job),
            amount,
            code: Code::Forfeit,
            key,
        }
    }

    /// Pay that was held back and is lost, when its job is over.
    #[must_use]
    pub const fn forfeit_to_losses(key: Key, owner: i64, amount: Amount) -> Self {
        Self { credit: AccountId::LOSSES, ..Self::forfeit(key, owner, amount) }
    }

    /// What a job did not spend, back to its submitter.
    #[must_use]
    pub const fn refund(job: i64, submitter: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(AccountKind::Escrow, job),
            credit: AccountId::new(AccountKind::Submitter, submitter),
            amount,
            code: Code::Refund,
            key: Key { job, stage: 0, index: 0, attempt: 0 },
        }
    }
}

/// What transfers do to one account's balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// The account.
    pub account: AccountId,
    /// Credits less debits.
    pub change: Amount,
}

/// The change of each account that these transfers touch, in account order: one update an account and
/// batch, and always in the same order, so that two coordinators cannot lock each other out.
#[must_use]
pub fn postings(transfers: &[Transfer]) -> Vec<Posting> {
    let mut changes: BTreeMap<AccountId, Amount> = BTreeMap::new();
    for transfer in transfers {
        let debit = changes.entry(transfer.debit).or_default();
        *debit = *debit - transfer.amount;
        let credit = changes.entry(transfer.credit).or_default();
        *credit = *credit + transfer.amount;
    }
    changes.into_iter().map(|(account, change)| Posting { account, change }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn postings_sum_to_zero_in_account_order(moves in proptest::collection::vec((1i64..5, 1i64..5, 1u64..1_000_000), 0..50)) {
            let unit: Amount = "0.000000000001".parse().unwrap();
            let transfers: Vec<Transfer> = moves
                .iter()
                .map(|&(job, owner, count)| {
                    Transfer::reward(Key { job, ..Key::default() }, owner, unit.times(count).unwrap())
                })
                .collect();
            let postings = postings(&transfers);
            prop_assert_eq!(postings.iter().map(|p| p.change).sum::<Amount>(), Amount::ZERO);
            prop_assert!(postings.is_sorted_by_key(|p| p.account));
        }
    }
}
