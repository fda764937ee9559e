//! The verdict on one unit: a result is accepted when enough different owners returned it bit for bit.

use std::collections::BTreeMap;

use lull_job::Digest;
use lull_job::limits::ATTEMPTS_MAX;

use super::checkpoint::disjoint;
use super::ids::OwnerId;
use super::slice::{Attempt, Outcome, RunMode};

/// Owners that must have run into a limit where one result could be enough: broken PCs are quick to give up.
const LIMIT_OWNERS: usize = 3;

/// Owners that must have seen the guest fail, however few there are: one alone fails no unit.
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
    /// Owners that must say so for a unit to fail.
    pub to_fail: usize,
    /// Whether the needed owners suffice when others differ.
    pub by_vote: bool,
}

impl Rule {
    /// The same where so many owners are there: a unit must not wait for more of them to fail.
    pub(super) fn among(self, owners: u64) -> Self {
        let there = usize::try_from(owners).unwrap_or(usize::MAX).max(FAILURE_OWNERS);
        Self { to_fail: self.to_fail.min(there), ..self }
    }

    /// Owners that must agree on a unit that ended so.
    pub(super) fn needed_for(self, outcome: Outcome) -> usize {
        match outcome {
            _ if self.by_vote => self.needed,
            Outcome::Result => self.needed,
            Outcome::GuestFailed => self.needed.max(self.to_fail),
            Outcome::Limit | Outcome::Undecidable => self.needed.max(self.to_fail).max(LIMIT_OWNERS),
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
/// A trap is a result and judged like one. But where a job buys confidence one failed unit can end it, and friends who say
/// that a program failed risk nothing: a unit fails when as many owners say so as it takes to be sure of an answer (the
/// rule's lead), or as many as are there. A limit of one PC says little about another: the same holds, and it takes three at least.
///
/// Where answers differ, the word of a referee who ran the unit both ways is final: with the same bytes both times no
/// NaN is involved; in a strict job its strict run is enough, and nobody else is needed where no copies were named. A
/// verdict needs an attempt that showed the result, too. Without a referee an answer has to be ahead by the rule's lead,
/// or, in a job that named copies, have those copies. Whoever differs is to blame only with a referee's word or
/// the lead.
#[must_use]
pub fn judge(attempts: &[Attempt], rule: Rule) -> Judgement {
    let live: Vec<&Attempt> = attempts.iter().filter(|attempt| !attempt.void).collect();
    if !rule.strict && depends_on_nan(&live, rule) {
        return Judgement::Nan;
    }
    let (same, differing) = both_ways(&live);
    // Whoever differs may have another CPU's NaN: that has to be ruled out as surely.
    let asked = live.iter().filter(|one| one.strict.is_some()).count();
    let may_be_nan = !rule.strict && asked > same && same < differing + rule.lead;
    let mut votes: BTreeMap<(Outcome, Option<Digest>), Vec<&Attempt>> = BTreeMap::new();
    for attempt in live {
        let Some((outcome, digest)) = vote(attempt, rule.strict) else { continue };
        // Which limit was hit differs between PCs; that one was hit is the common ground.
        votes.entry((outcome, (outcome != Outcome::Limit).then_some(digest))).or_default().push(attempt);
    }
    let groups: Vec<Group> = votes
        .into_iter()
        .filter_map(|((outcome, _), agreeing)| {
            let (_, digest) = vote(agreeing.first()?, rule.strict)?;
            Some(Group {
                outcome,
                count: independent(&agreeing, rule),
                has_word: outcome != Outcome::Limit && agreeing.iter().any(|one| is_word(one, rule.strict)),
                // Of a strict run beside a normal one only the digest is known.
                shown: agreeing.iter().find(|one| (one.outcome, one.digest) == (outcome, digest)).copied(),
            })
        })
        .collect();
    let answers = groups.iter().filter(|group| group.is_answer()).count();
    let contested = answers > 1;
    // Referees who contradict each other are voices like others.
    let has_word = groups.iter().filter(|group| group.has_word).count() == 1;
    let mut decided: Option<(usize, &Attempt, bool)> = None;
    for (at, group) in groups.iter().enumerate() {
        let count = group.count;
        let others = groups.iter().enumerate().filter(|(other, one)| *other != at && one.is_answer());
        let second = others.map(|(_, one)| one.count).max().unwrap_or(0);
        let is_ahead = if has_word { group.has_word } else { count >= second + rule.lead && !may_be_nan };
        let is_sure = group.is_answer() && contested && is_ahead;
        let is_unopposed = if group.is_answer() { !contested } else { answers == 0 };
        let is_enough = count >= rule.needed_for(group.outcome) || (group.has_word && !rule.by_vote);
        let has_quorum = (rule.by_vote || is_unopposed) && is_enough;
        let may_win = is_sure || (has_quorum && (!contested || !has_word));
        if may_win
            && decided.is_none_or(|(best, ..)| count > best)
            && let Some(shown) = group.shown
        {
            decided = Some((count, shown, is_sure));
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

/// Attempts that say the same.
struct Group<'a> {
    outcome: Outcome,
    /// Owners without common work.
    count: usize,
    /// Whether a referee is among them whose word is final.
    has_word: bool,
    /// One that showed the result itself; of limits, any.
    shown: Option<&'a Attempt>,
}

impl Group<'_> {
    fn is_answer(&self) -> bool {
        self.outcome != Outcome::Limit
    }
}

/// What an attempt says of its unit; nothing where only strict runs can be compared and it was none.
#[must_use]
pub(super) fn vote(attempt: &Attempt, strict: bool) -> Option<(Outcome, Digest)> {
    let normal = (attempt.outcome, attempt.digest);
    match (attempt.mode, attempt.strict) {
        (RunMode::Referee, said) if strict => said,
        (RunMode::Normal, _) if strict => None,
        _ => Some(normal),
    }
}

/// Whether a referee made an attempt that cannot rest on bits of NaN: strictly, or with the same result both ways.
fn is_word(attempt: &Attempt, strict: bool) -> bool {
    let is_sound = match attempt.mode {
        RunMode::Normal => false,
        RunMode::Strict => true,
        RunMode::Referee => strict || attempt.strict == Some((attempt.outcome, attempt.digest)),
    };
    attempt.by_referee && is_sound
}

/// Whether those who ran the unit both ways found that the two differ: a referee, or more than the rule's lead. A run
/// that ended at a limit of the PC does not tell.
fn depends_on_nan(live: &[&Attempt], rule: Rule) -> bool {
    let (same, differing) = both_ways(live);
    let of_referees: Vec<&Attempt> = live.iter().copied().filter(|one| one.by_referee).collect();
    both_ways(&of_referees).1 > 0 || differing >= same + rule.lead
}

/// Of those who ran the unit both ways to an end: who found the same, and who did not.
fn both_ways(live: &[&Attempt]) -> (usize, usize) {
    let ends = live.iter().filter_map(|one| Some(((one.outcome, one.digest), one.strict?)));
    let ends = ends.filter(|(normal, strict)| normal.0 != Outcome::Limit && strict.0 != Outcome::Limit);
    let (same, differing): (Vec<_>, Vec<_>) = ends.partition(|(normal, strict)| normal == strict);
    (same.len(), differing.len())
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

/// Owners without common work that say the same as a verdict.
#[must_use]
pub(super) fn voices(attempts: &[Attempt], (outcome, digest): (Outcome, Digest), rule: Rule) -> usize {
    independent(&agreeing(attempts, (outcome, digest)), rule)
}

/// Owners without common work that still stand for a verdict; a referee alone is enough. What is left of those who were
/// out together is nothing: it may have been told by whoever was caught since.
#[must_use]
pub(super) fn support(attempts: &[Attempt], verdict: (Outcome, Digest), rule: Rule) -> usize {
    let agreeing = agreeing(attempts, verdict);
    if agreeing.iter().any(|attempt| is_word(attempt, rule.strict)) {
        usize::MAX
    } else if !rule.by_vote && agreeing.iter().all(|attempt| attempt.late) {
        0
    } else {
        independent(&agreeing, rule)
    }
}

/// Owners without common work that ever said the same as a verdict, those who were caught since too.
#[must_use]
pub(super) fn confirmed(attempts: &[Attempt], (outcome, digest): (Outcome, Digest), rule: Rule) -> usize {
    let agreeing: Vec<&Attempt> = attempts.iter().filter(|one| earns(one, outcome, digest)).collect();
    independent(&agreeing, rule)
}

fn agreeing(attempts: &[Attempt], (outcome, digest): (Outcome, Digest)) -> Vec<&Attempt> {
    attempts.iter().filter(|one| !one.void && earns(one, outcome, digest)).collect()
}

/// Whether an attempt is one of those that a verdict rests on, by its strict run too, where it has one beside the
/// normal one: these are paid.
#[must_use]
pub(super) fn earns(attempt: &Attempt, outcome: Outcome, digest: Digest) -> bool {
    agrees(attempt, outcome, digest) || attempt.strict == Some((outcome, digest))
}

/// Whether an attempt ended as a verdict says.
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
            caught: false,
            settled: false,
            paid: false,
        }
    }

    const fn votes(needed: usize) -> Rule {
        Rule { needed, strict: false, lead: 4, to_fail: 4, by_vote: true }
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

    /// A judgement of a job that buys confidence, of attempts as (mode, by a referee, result, strict result).
    fn confident(strict: bool, attempts: &[(RunMode, bool, &str, Option<&str>)]) -> Judgement {
        let attempts: Vec<Attempt> = (0..)
            .zip(attempts)
            .map(|(owner, (mode, by_referee, result, strict))| Attempt {
                mode: *mode,
                by_referee: *by_referee,
                strict: strict.map(|strict| (Outcome::Result, Digest::of(strict.as_bytes()))),
                ..attempt(owner, Outcome::Result, result)
            })
            .collect();
        judge(&attempts, Rule { needed: 3, strict, lead: 4, to_fail: 4, by_vote: false })
    }

    fn decided(judgement: Judgement) -> Option<(Digest, bool)> {
        match judgement {
            Judgement::Decided { digest, is_sure, .. } => Some((digest, is_sure)),
            _ => None,
        }
    }

    #[test]
    fn a_referees_word_needs_both_runs() {
        use RunMode::{Normal, Referee};
        let dispute = [(Normal, false, "a", None), (Normal, false, "b", None)];
        let with = |mode, result, strict| {
            confident(false, &[&dispute[..], &[(mode, true, result, strict)]].concat())
        };
        assert_eq!(decided(with(Referee, "a", Some("a"))), Some((Digest::of(b"a"), true)));
        assert_eq!(with(Normal, "a", None), Judgement::Undecided { contested: true });
        assert_eq!(with(Referee, "a", Some("c")), Judgement::Nan);
        // Two referees who contradict each other settle nothing.
        let both = [dispute[0], (Referee, true, "a", Some("a")), (Referee, true, "b", Some("b"))];
        assert_eq!(confident(false, &both), Judgement::Undecided { contested: true });
    }

    #[test]
    fn without_a_referee_nobody_is_blamed_before_nan_is_ruled_out() {
        use RunMode::{Normal, Referee};
        let votes = [(Normal, false, "1", None), (Normal, false, "1", None), (Normal, false, "2", None)];
        let finds = |strict, times| {
            confident(false, &[&votes[..], &vec![(Referee, false, "1", Some(strict)); times]].concat())
        };
        assert_eq!(finds("x", 3), Judgement::Undecided { contested: true }, "five to one, and all found NaN");
        assert_eq!(finds("x", 4), Judgement::Nan);
        assert_eq!(decided(finds("1", 3)), Some((Digest::of(b"1"), true)));
    }

    #[test]
    fn in_a_strict_job_strict_runs_are_compared_and_somebody_must_have_shown_the_result() {
        use RunMode::{Normal, Referee, Strict};
        let before =
            [(Normal, false, "1", None), (Normal, false, "2", None), (Referee, true, "1", Some("x"))];
        let with = |more: &[_]| confident(true, &[&before[..], more].concat());
        assert_eq!(
            with(&[]),
            Judgement::Undecided { contested: false },
            "nobody has shown what x stands for"
        );
        assert_eq!(decided(with(&[(Strict, false, "x", None)])), Some((Digest::of(b"x"), false)));
        let lie = (Strict, false, "y", None);
        assert_eq!(with(&[lie]), Judgement::Undecided { contested: true });
        assert_eq!(decided(with(&[lie, (Strict, false, "x", None)])), Some((Digest::of(b"x"), true)));
        // Without a referee the strict run of both is a voice like any other.
        let voices =
            [(Referee, false, "1", Some("x")), (Referee, false, "1", Some("x")), (Strict, false, "x", None)];
        assert_eq!(confident(true, &voices[1..]), Judgement::Undecided { contested: false });
        assert_eq!(decided(confident(true, &voices)), Some((Digest::of(b"x"), false)));
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
