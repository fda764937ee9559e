//! Transfers, and what they do to balances.

use std::collections::BTreeMap;

use crate::{AccountId, AccountKind, Amount, CurrencyId};

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
    /// Of what an owner can be paid out: a batch of payouts was proposed.
    Payout,
    /// Of a payout: the bank has it.
    Paid,
    /// The opposite of an earlier transfer, with a reason.
    Reversal,
    /// What the platform takes of a reward.
    Fee,
    /// A fee of pay that was forfeited to its job.
    FeeBack,
    /// From losses to a job of which work is done again.
    Grant,
    /// What a job did not spend of its grants.
    Unspent,
    /// Of a payout: what is less than its currency has decimals for.
    Remainder,
    /// A remainder, for the payout after it.
    TakenUp,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::Deposit,
        Self::Escrow,
        Self::Reward,
        Self::Refund,
        Self::Release,
        Self::Forfeit,
        Self::Payout,
        Self::Paid,
        Self::Reversal,
        Self::Fee,
        Self::FeeBack,
        Self::Grant,
        Self::Unspent,
        Self::Remainder,
        Self::TakenUp,
    ];

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
            Self::Payout => 7,
            Self::Paid => 8,
            Self::Reversal => 9,
            Self::Fee => 10,
            Self::FeeBack => 11,
            Self::Grant => 12,
            Self::Unspent => 13,
            Self::Remainder => 14,
            Self::TakenUp => 15,
        }
    }

    /// The code of this number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// Its name on statements.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Escrow => "escrow",
            Self::Reward => "reward",
            Self::Refund => "refund",
            Self::Release => "release",
            Self::Forfeit => "forfeit",
            Self::Payout => "payout",
            Self::Paid => "paid",
            Self::Reversal => "reversal",
            Self::Fee => "fee",
            Self::FeeBack => "fee back",
            Self::Grant => "grant",
            Self::Unspent => "unspent grant",
            Self::Remainder => "remainder",
            Self::TakenUp => "taken up",
        }
    }
}

/// What a transfer pays for: unique among the transfers of one code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The job; 0 where there is none.
    pub job: i64,
    /// Code of the stage; 0 where there is none.
    pub stage: i16,
    /// Index of the unit, the batch of a payout, or how often a job was begun again; 0 where there is none.
    pub index: i64,
    /// The owner whose attempt it is (an owner has one attempt of a unit), also of a fee; the number of the deposit, release or
    /// reversal; the owner of a payout or a remainder.
    pub attempt: i64,
}

/// An immutable movement of money from one account to another of the same currency: each is made of one, and there is no
/// other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    debit: AccountId,
    credit: AccountId,
    /// How much; positive.
    pub amount: Amount,
    /// Why.
    pub code: Code,
    /// What for.
    pub key: Key,
}

impl Transfer {
    /// The account that gives.
    #[must_use]
    pub const fn debit(&self) -> AccountId {
        self.debit
    }

    /// The account that gets.
    #[must_use]
    pub const fn credit(&self) -> AccountId {
        self.credit
    }

    /// What it is in.
    #[must_use]
    pub fn currency(&self) -> CurrencyId {
        self.debit.currency().unwrap_or_default()
    }

    /// Money from outside onto a submitter's balance.
    #[must_use]
    pub const fn deposit(currency: CurrencyId, deposit: i64, submitter: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::of_grid(currency, AccountKind::Bank),
            credit: AccountId::new(currency, AccountKind::Submitter, submitter),
            amount,
            code: Code::Deposit,
            key: Key { job: 0, stage: 0, index: 0, attempt: deposit },
        }
    }

    /// A job's budget into its escrow.
    #[must_use]
    pub const fn escrow(currency: CurrencyId, job: i64, submitter: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Submitter, submitter),
            credit: AccountId::new(currency, AccountKind::Escrow, job),
            amount,
            code: Code::Escrow,
            key: Key { job, stage: 0, index: 0, attempt: 0 },
        }
    }

    /// Pay for an accepted attempt.
    #[must_use]
    pub const fn reward(currency: CurrencyId, key: Key, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Escrow, key.job),
            credit: AccountId::new(currency, AccountKind::Available, owner),
            amount,
            code: Code::Reward,
            key,
        }
    }

    /// Pay for an accepted attempt that its owner could still lose.
    #[must_use]
    pub const fn reward_held(currency: CurrencyId, key: Key, owner: i64, amount: Amount) -> Self {
        Self {
            credit: AccountId::new(currency, AccountKind::Pending, owner),
            ..Self::reward(currency, key, owner, amount)
        }
    }

    /// What the platform takes of the reward with this key.
    #[must_use]
    pub const fn fee(currency: CurrencyId, key: Key, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Escrow, key.job),
            credit: AccountId::of_grid(currency, AccountKind::Fees),
            amount,
            code: Code::Fee,
            key,
        }
    }

    /// The same, when that reward was forfeited to its job: its work is paid again.
    #[must_use]
    pub const fn fee_back(currency: CurrencyId, key: Key, amount: Amount) -> Self {
        let fee = Self::fee(currency, key, amount);
        Self { debit: fee.credit, credit: fee.debit, code: Code::FeeBack, ..fee }
    }

    /// Pay that was held back, for a range of an owner's results.
    #[must_use]
    pub const fn release(currency: CurrencyId, release: i64, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Pending, owner),
            credit: AccountId::new(currency, AccountKind::Available, owner),
            amount,
            code: Code::Release,
            key: Key { job: 0, stage: 0, index: 0, attempt: release },
        }
    }

    /// Pay that was held back and is lost, back to the escrow of a job that still runs.
    #[must_use]
    pub const fn forfeit(currency: CurrencyId, key: Key, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Pending, owner),
            credit: AccountId::new(currency, AccountKind::Escrow, key.job),
            amount,
            code: Code::Forfeit,
            key,
        }
    }

    /// Pay that was held back and is lost, when its job is over.
    #[must_use]
    pub const fn forfeit_to_losses(currency: CurrencyId, key: Key, owner: i64, amount: Amount) -> Self {
        Self {
            credit: AccountId::of_grid(currency, AccountKind::Losses),
            ..Self::forfeit(currency, key, owner, amount)
        }
    }

    /// What an owner can be paid out, into a batch of payouts.
    #[must_use]
    pub const fn payout(currency: CurrencyId, batch: i64, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Available, owner),
            credit: AccountId::new(currency, AccountKind::Payout, owner),
            amount,
            code: Code::Payout,
            key: Key { job: 0, stage: 0, index: batch, attempt: owner },
        }
    }

    /// A payout that the bank has made.
    #[must_use]
    pub const fn paid(currency: CurrencyId, batch: i64, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Payout, owner),
            credit: AccountId::new(currency, AccountKind::Paid, owner),
            amount,
            code: Code::Paid,
            key: Key { job: 0, stage: 0, index: batch, attempt: owner },
        }
    }

    /// What a payout leaves, as it is less than the currency has decimals for.
    #[must_use]
    pub const fn remainder(currency: CurrencyId, batch: i64, owner: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Available, owner),
            credit: AccountId::of_grid(currency, AccountKind::Remainders),
            amount,
            code: Code::Remainder,
            key: Key { job: 0, stage: 0, index: batch, attempt: owner },
        }
    }

    /// What the payout before left, for the one in this batch.
    #[must_use]
    pub const fn taken_up(currency: CurrencyId, batch: i64, owner: i64, amount: Amount) -> Self {
        let left = Self::remainder(currency, batch, owner, amount);
        Self { debit: left.credit, credit: left.debit, code: Code::TakenUp, ..left }
    }

    /// The opposite of a transfer. The reversal's number is a row that names what is reversed, and why.
    #[must_use]
    pub const fn reversal(reversal: i64, of: &Self) -> Self {
        Self {
            debit: of.credit,
            credit: of.debit,
            amount: of.amount,
            code: Code::Reversal,
            key: Key { job: 0, stage: 0, index: 0, attempt: reversal },
        }
    }

    /// From losses, so that a job's work can be done again: for its `round`th time.
    #[must_use]
    pub const fn grant(currency: CurrencyId, job: i64, round: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::of_grid(currency, AccountKind::Losses),
            credit: AccountId::new(currency, AccountKind::Escrow, job),
            amount,
            code: Code::Grant,
            key: Key { job, stage: 0, index: round, attempt: 0 },
        }
    }

    /// What is left of a job's grants, back to where they came from.
    #[must_use]
    pub const fn unspent(currency: CurrencyId, job: i64, round: i64, amount: Amount) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Escrow, job),
            credit: AccountId::of_grid(currency, AccountKind::Losses),
            amount,
            code: Code::Unspent,
            key: Key { job, stage: 0, index: round, attempt: 0 },
        }
    }

    /// What a job did not spend, back to its submitter: when it ends after it was begun again `round` times, and the
    /// rest when it is settled.
    #[must_use]
    pub const fn refund(
        currency: CurrencyId,
        job: i64,
        submitter: i64,
        round: i64,
        settled: bool,
        amount: Amount,
    ) -> Self {
        Self {
            debit: AccountId::new(currency, AccountKind::Escrow, job),
            credit: AccountId::new(currency, AccountKind::Submitter, submitter),
            amount,
            code: Code::Refund,
            key: Key { job, stage: 0, index: round, attempt: settled as i64 },
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

    #[test]
    fn a_reversal_undoes_its_transfer() {
        let amount: Amount = "12.34".parse().unwrap();
        let payout = Transfer::payout(CurrencyId::DEFAULT, 3, 7, amount);
        let both = postings(&[payout.clone(), Transfer::reversal(1, &payout)]);
        assert!(both.iter().all(|posting| posting.change == Amount::ZERO));
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
        }
        assert_eq!(Code::from_number(0), None);
    }

    #[test]
    fn what_a_payout_leaves_comes_back() {
        let amount: Amount = "0.004".parse().unwrap();
        let yen = CurrencyId::from_number(1).unwrap();
        let both = [Transfer::remainder(yen, 1, 7, amount), Transfer::taken_up(yen, 2, 7, amount)];
        assert!(postings(&both).iter().all(|posting| posting.change == Amount::ZERO));
        assert_eq!(both[0].credit().kind(), Some(AccountKind::Remainders));
    }

    /// A transfer of each kind, by number.
    fn any_transfer(currency: CurrencyId, which: usize, job: i64, owner: i64, amount: Amount) -> Transfer {
        let key = Key { job, stage: 1, index: 2, attempt: owner };
        match which {
            0 => Transfer::deposit(currency, 3, owner, amount),
            1 => Transfer::escrow(currency, job, owner, amount),
            2 => Transfer::reward(currency, key, owner, amount),
            3 => Transfer::reward_held(currency, key, owner, amount),
            4 => Transfer::fee(currency, key, amount),
            5 => Transfer::fee_back(currency, key, amount),
            6 => Transfer::release(currency, 3, owner, amount),
            7 => Transfer::forfeit(currency, key, owner, amount),
            8 => Transfer::forfeit_to_losses(currency, key, owner, amount),
            9 => Transfer::payout(currency, 3, owner, amount),
            10 => Transfer::paid(currency, 3, owner, amount),
            11 => Transfer::grant(currency, job, 1, amount),
            12 => Transfer::unspent(currency, job, 1, amount),
            13 => Transfer::refund(currency, job, owner, 0, true, amount),
            14 => Transfer::remainder(currency, 3, owner, amount),
            15 => Transfer::taken_up(currency, 3, owner, amount),
            _ => Transfer::reversal(3, &Transfer::paid(currency, 3, owner, amount)),
        }
    }

    proptest! {
        #[test]
        fn each_currency_sums_to_zero_in_account_order(
            moves in proptest::collection::vec((0i16..3, 0usize..17, 1i64..5, 1i64..5, 1u64..1_000_000), 0..80),
        ) {
            let unit: Amount = "0.000000000001".parse().unwrap();
            let transfers: Vec<Transfer> = moves
                .iter()
                .map(|&(currency, which, job, owner, count)| {
                    let currency = CurrencyId::from_number(currency).unwrap();
                    any_transfer(currency, which, job, owner, unit.times(count).unwrap())
                })
                .collect();
            for transfer in &transfers {
                prop_assert_eq!(transfer.debit().currency(), transfer.credit().currency());
                prop_assert!(transfer.debit() != transfer.credit());
            }
            let postings = postings(&transfers);
            prop_assert!(postings.is_sorted_by_key(|p| p.account));
            for number in 0..3 {
                let currency = CurrencyId::from_number(number);
                let of = postings.iter().filter(|posting| posting.account.currency() == currency);
                prop_assert_eq!(of.map(|posting| posting.change).sum::<Amount>(), Amount::ZERO);
            }
        }
    }
}
