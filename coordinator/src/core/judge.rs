//! The verdict on one unit: a result is accepted when enough different owners returned it bit for bit.

use std::collections::BTreeMap;

use lull_job::Digest;
use lull_job::limits::ATTEMPTS_MAX;

use super::checkpoint::disjoint;
use super::ids::OwnerId;
use super::slice::{Attempt, Outcome};

/// What the attempts of a unit say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Enough of them agree.
    Decided {
        /// How the agreeing attempts ended.
        outcome: Outcome,
        /// What they returned.
        digest: Digest,
        /// Its length.
        size_bytes: u64,
        /// How many they are.
        agreeing: u32,
    },
    /// One more attempt is needed, of another owner.
    Undecided,
    /// There have been so many attempts that another would not help.
    Undecidable,
}

/// Judges a unit by attempts of different owners.
///
/// A quorum is that many agreeing attempts of which no two have an owner's work in common.
///
/// A trap is a result and judged like one. A limit of one PC says little about another, but when as many
/// owners as a result would need ran into one, the unit fails.
#[must_use]
pub fn judge(attempts: &[Attempt], quorum: usize) -> Judgement {
    let mut votes: BTreeMap<(Outcome, Option<Digest>), Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        // Which limit was hit differs between PCs; that one was hit is the common ground.
        let vote = (attempt.outcome, (attempt.outcome != Outcome::Limit).then_some(attempt.digest));
        votes.entry(vote).or_default().push(attempt);
    }
    let winner = votes
        .into_values()
        .map(|agreeing| (independent(&agreeing), agreeing))
        .filter(|(independent, _)| *independent >= quorum)
        .max_by_key(|(independent, _)| *independent)
        .and_then(|(_, agreeing)| Some((u32::try_from(agreeing.len()).ok()?, *agreeing.first()?)));
    match winner {
        Some((agreeing, attempt)) => Judgement::Decided {
            outcome: attempt.outcome,
            digest: attempt.digest,
            size_bytes: attempt.size_bytes,
            agreeing,
        },
        None if attempts.len() >= ATTEMPTS_MAX => Judgement::Undecidable,
        None => Judgement::Undecided,
    }
}

/// The most attempts that have no owner's work in common. It never falls when another attempt comes.
fn independent(attempts: &[&Attempt]) -> usize {
    if attempts.iter().all(|attempt| attempt.lineage.is_empty()) {
        return attempts.len();
    }
    pack(attempts, &[])
}

/// Tries every choice, which are few: a unit has at most `ATTEMPTS_MAX` attempts, and a choice that takes all
/// that is left ends the search.
fn pack(attempts: &[&Attempt], used: &[OwnerId]) -> usize {
    let Some((first, rest)) = attempts.split_first() else { return 0 };
    let mut most = 0;
    if disjoint(first.owners(), used) {
        most = 1 + pack(rest, &[used, first.owners()].concat());
    }
    if most == attempts.len() { most } else { most.max(pack(rest, used)) }
}

/// Whether an attempt is one of those that a verdict rests on.
#[must_use]
pub(super) fn agrees(attempt: &Attempt, outcome: Outcome, digest: Digest) -> bool {
    attempt.outcome == outcome && (outcome == Outcome::Limit || attempt.digest == digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::DeviceId;

    fn attempt(owner: i64, outcome: Outcome, result: &str) -> Attempt {
        let digest = Digest::of(result.as_bytes());
        Attempt {
            owner: OwnerId(owner),
            device: DeviceId(owner),
            outcome,
            digest,
            size_bytes: 1,
            origin: None,
            lineage: Vec::new(),
            witnessed: Vec::new(),
        }
    }

    #[test]
    fn what_attempts_say() {
        use Outcome::{GuestFailed, Limit, Result};
        let check = |attempts: &[(Outcome, &str)], quorum, expected: Option<(Outcome, u32)>| {
            let attempts: Vec<_> = (0..).zip(attempts).map(|(owner, (o, r))| attempt(owner, *o, r)).collect();
            let decided = match judge(&attempts, quorum) {
                Judgement::Decided { outcome, agreeing, .. } => Some((outcome, agreeing)),
                _ => None,
            };
            assert_eq!(decided, expected, "{attempts:?}");
        };
        check(&[], 2, None);
        check(&[(Result, "a")], 1, Some((Result, 1)));
        check(&[(Result, "a")], 2, None);
        check(&[(Result, "a"), (Result, "a")], 2, Some((Result, 2)));
        check(&[(Result, "a"), (Result, "b")], 2, None);
        check(&[(Result, "a"), (Result, "b"), (Result, "b")], 2, Some((Result, 2)));
        check(&[(GuestFailed, "trap"), (Result, "trap")], 2, None);
        check(&[(GuestFailed, "trap"), (GuestFailed, "trap")], 2, Some((GuestFailed, 2)));
        check(&[(Limit, "ran 10 s"), (Result, "a")], 2, None);
        check(&[(Limit, "ran 10 s"), (Limit, "ran 11 s")], 2, Some((Limit, 2)));
    }

    #[test]
    fn disagreement_ends_somewhere() {
        let attempts: Vec<_> = (0..)
            .take(ATTEMPTS_MAX)
            .map(|owner| attempt(owner, Outcome::Result, &owner.to_string()))
            .collect();
        assert_eq!(judge(&attempts[..ATTEMPTS_MAX - 1], 2), Judgement::Undecided);
        assert_eq!(judge(&attempts, 2), Judgement::Undecidable);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(results in proptest::collection::vec(0u8..4, 0..8), quorum in 1usize..4) {
            let forward: Vec<_> = (0..).zip(&results).map(|(o, r)| attempt(o, Outcome::Result, &r.to_string())).collect();
            let mut backward = forward.clone();
            backward.reverse();
            let agreeing = |attempts: &[Attempt]| match judge(attempts, quorum) {
                Judgement::Decided { agreeing, .. } => Some(agreeing),
                _ => None,
            };
            prop_assert_eq!(agreeing(&forward), agreeing(&backward));
        }
    }
}
