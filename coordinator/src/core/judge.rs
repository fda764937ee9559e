//! The verdict on one unit: a result is accepted when enough different owners returned it bit for bit.

use std::collections::BTreeMap;

use lull_job::Digest;
use lull_job::limits::ATTEMPTS_MAX;

use super::checkpoint::disjoint;
use super::ids::OwnerId;
use super::slice::{Attempt, Outcome, RunMode};

/// Owners that must have run into a limit where one result could be enough: broken PCs are quick to give up.
const LIMIT_OWNERS: usize = 3;
/// Owners that must have seen the guest fail where one result could be enough: one alone fails no unit.
const FAILURE_OWNERS: usize = 2;

/// What decides a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Owners that must agree.
    pub needed: usize,
    /// Whether only strict runs count.
    pub strict: bool,
    /// By how many owners an answer must be ahead of another for the other to be held for wrong.
    pub lead: usize,
    /// Whether the needed owners suffice when others differ.
    pub by_vote: bool,
}

impl Rule {
    /// Owners that must agree on a unit that ended so.
    pub(super) fn needed_for(self, outcome: Outcome) -> usize {
        match outcome {
            _ if self.by_vote => self.needed,
            Outcome::Result => self.needed,
            Outcome::GuestFailed => self.needed.max(FAILURE_OWNERS),
            Outcome::Limit | Outcome::Undecidable => self.needed.max(LIMIT_OWNERS),
        }
    }
}

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
        /// How many owners agree who have no work in common.
        agreeing: u32,
        /// Whether those who differ are to blame.
        is_sure: bool,
    },
    /// One more attempt is needed, of another owner.
    Undecided {
        /// Whether answers differ.
        contested: bool,
    },
    /// Results depend on bits of NaN: nobody is to blame, and only strict runs can be compared.
    Nan,
    /// There have been so many attempts that another would not help.
    Undecidable,
}

/// Judges a unit by attempts of different owners.
///
/// A quorum is that many agreeing attempts of which no two have an owner's work in common. Attempts whose
/// owner was caught since say nothing.
///
/// A trap is a result and judged like one, but that it takes two owners at least. A limit of one PC says little
/// about another: a unit fails when as many owners ran into one as a result would need, and three at least where a job
/// buys confidence.
///
/// Where answers differ, a referee's word is final. Without one an answer has to be ahead by the rule's lead,
/// or, in a job that named copies, have those copies. Whoever differs is to blame only with a referee's word or
/// the lead.
#[must_use]
pub fn judge(attempts: &[Attempt], rule: Rule) -> Judgement {
    let counts = |attempt: &&Attempt| !attempt.void && (!rule.strict || attempt.mode == RunMode::Strict);
    let live: Vec<&Attempt> = attempts.iter().filter(counts).collect();
    if depends_on_nan(&live, rule) {
        return Judgement::Nan;
    }
    let mut votes: BTreeMap<(Outcome, Option<Digest>), Vec<&Attempt>> = BTreeMap::new();
    for attempt in &live {
        // Which limit was hit differs between PCs; that one was hit is the common ground.
        let vote = (attempt.outcome, (attempt.outcome != Outcome::Limit).then_some(attempt.digest));
        votes.entry(vote).or_default().push(attempt);
    }
    let groups: Vec<(usize, &Attempt)> = votes
        .values()
        .filter_map(|agreeing| Some((independent(agreeing, rule), *agreeing.first()?)))
        .collect();
    let is_answer = |attempt: &Attempt| attempt.outcome != Outcome::Limit;
    let answers = groups.iter().filter(|(_, first)| is_answer(first)).count();
    let contested = answers > 1;
    let word = live.iter().find(|attempt| contested && attempt.by_referee && is_answer(attempt));
    let mut decided: Option<(usize, &Attempt, bool)> = None;
    for (at, &(count, first)) in groups.iter().enumerate() {
        let others = groups.iter().enumerate().filter(|(other, (_, one))| *other != at && is_answer(one));
        let second = others.map(|(_, (count, _))| *count).max().unwrap_or(0);
        let is_sure = is_answer(first)
            && match word {
                Some(word) => (word.outcome, word.digest) == (first.outcome, first.digest),
                None => contested && count >= second + rule.lead,
            };
        let is_unopposed = if is_answer(first) { !contested } else { answers == 0 };
        let has_quorum = (rule.by_vote || is_unopposed) && count >= rule.needed_for(first.outcome);
        let may_win = is_sure || (has_quorum && word.is_none());
        if may_win && decided.is_none_or(|(best, ..)| count > best) {
            decided = Some((count, first, is_sure));
        }
    }
    match decided {
        Some((count, attempt, is_sure)) => Judgement::Decided {
            outcome: attempt.outcome,
            digest: attempt.digest,
            size_bytes: attempt.size_bytes,
            agreeing: u32::try_from(count).unwrap_or(u32::MAX),
            is_sure,
        },
        None if attempts.len() >= ATTEMPTS_MAX => Judgement::Undecidable,
        None => Judgement::Undecided { contested },
    }
}

/// Whether those who ran the unit both ways found that the two differ: a referee, or more than the rule's lead.
fn depends_on_nan(live: &[&Attempt], rule: Rule) -> bool {
    let both = || {
        live.iter().filter_map(|attempt| {
            let (outcome, digest) = attempt.strict?;
            Some((attempt.by_referee, (outcome, digest) != (attempt.outcome, attempt.digest)))
        })
    };
    let differing = both().filter(|(_, differs)| *differs).count();
    both().any(|(by_referee, differs)| by_referee && differs)
        || differing >= both().count() - differing + rule.lead
}

/// The most attempts that have no owner's work in common. It never falls when another attempt comes. Where a job
/// buys confidence, attempts that were out together are one voice: two liars who know each other could agree
/// at no risk by waiting for each other.
fn independent(attempts: &[&Attempt], rule: Rule) -> usize {
    let alone: Vec<&Attempt> =
        attempts.iter().copied().filter(|attempt| rule.by_vote || !attempt.late).collect();
    let count =
        if alone.iter().all(|attempt| attempt.lineage.is_empty()) { alone.len() } else { pack(&alone, &[]) };
    count.max(usize::from(!attempts.is_empty()))
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

/// Owners without common work that still stand for a verdict; a referee alone is enough.
#[must_use]
pub(super) fn support(attempts: &[Attempt], (outcome, digest): (Outcome, Digest), rule: Rule) -> usize {
    let agreeing: Vec<&Attempt> =
        attempts.iter().filter(|one| !one.void && agrees(one, outcome, digest)).collect();
    if agreeing.iter().any(|attempt| attempt.by_referee) { usize::MAX } else { independent(&agreeing, rule) }
}

/// Whether an attempt is one of those that a verdict rests on.
#[must_use]
pub(super) fn agrees(attempt: &Attempt, outcome: Outcome, digest: Digest) -> bool {
    attempt.outcome == outcome && (outcome == Outcome::Limit || attempt.digest == digest)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::DeviceId;

    pub(in crate::core) fn attempt(owner: i64, outcome: Outcome, result: &str) -> Attempt {
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
            mode: RunMode::Normal,
            strict: None,
            by_referee: false,
            late: false,
            void: false,
            settled: false,
        }
    }

    const fn votes(needed: usize) -> Rule {
        Rule { needed, strict: false, lead: 4, by_vote: true }
    }

    #[test]
    fn what_attempts_say() {
        use Outcome::{GuestFailed, Limit, Result};
        let check = |attempts: &[(Outcome, &str)], quorum, expected: Option<(Outcome, u32)>| {
            let attempts: Vec<_> = (0..).zip(attempts).map(|(owner, (o, r))| attempt(owner, *o, r)).collect();
            let decided = match judge(&attempts, votes(quorum)) {
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
        assert_eq!(judge(&attempts[..ATTEMPTS_MAX - 1], votes(2)), Judgement::Undecided { contested: true });
        assert_eq!(judge(&attempts, votes(2)), Judgement::Undecidable);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(results in proptest::collection::vec(0u8..4, 0..8), quorum in 1usize..4) {
            let forward: Vec<_> = (0..).zip(&results).map(|(o, r)| attempt(o, Outcome::Result, &r.to_string())).collect();
            let mut backward = forward.clone();
            backward.reverse();
            let agreeing = |attempts: &[Attempt]| match judge(attempts, votes(quorum)) {
                Judgement::Decided { agreeing, .. } => Some(agreeing),
                _ => None,
            };
            prop_assert_eq!(agreeing(&forward), agreeing(&backward));
        }
    }
}
