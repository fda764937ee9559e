//! Checkpoints: which are kept, who may go on from one, whose vote that costs, and who is to blame.
//!
//! A lineage is the set of owners whose work may be in a state. It follows from what the coordinator has
//! offered, never from what a device says: claiming to have run from the start buys nothing.

use std::collections::{BTreeMap, BTreeSet};

use lull_job::Digest;

use super::ids::{DeviceId, LeaseToken, OwnerId, UnitKey};
use super::judge::agrees;
use super::slice::{Attempt, Outcome};
use super::trust::Standing;

/// Checkpoints that go on from each other, by different devices: each is one more to witness.
pub(super) const CHAIN_MAX: usize = 16;
/// Owners whose work may be in a state that is offered to one more: one of them who cheats spoils it for all,
/// and none of them can check it.
pub(super) const LINEAGE_OWNERS_MAX: usize = 8;
/// Checkpoints of one unit; there are several only where their owners cannot use each other's.
pub(super) const UNIT_CHECKPOINTS_MAX: usize = 64;
/// Witnesses whom somebody is caught for: one alone could frame whoever made a state.
const WITNESSES_MIN: u32 = 2;
/// What a stored state may be larger than the guest's memory: its globals and its header.
const STATE_OVERHEAD_BYTES: u64 = 1024 * 1024;

/// The largest blob of a state, for a guest of this much memory. A hundredth and twenty-eighth is for memory
/// that compression makes longer.
#[must_use]
pub const fn state_bytes_max(memory_bytes: u64) -> u64 {
    memory_bytes + memory_bytes / 128 + STATE_OVERHEAD_BYTES
}

/// A checkpoint as a hand-back names it. Its signature has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Of which unit of the lease.
    pub index: u64,
    /// Steps done.
    pub steps: u64,
    /// What the state is.
    pub state: Digest,
    /// Where it lies.
    pub blob: Digest,
    /// Length of the blob.
    pub size_bytes: u64,
    /// The device's, over all of this.
    pub signature: Vec<u8>,
}

/// A checkpoint that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The lease that was handed back with it; with its unit, its name.
    pub made_under: LeaseToken,
    /// Steps done.
    pub steps: u64,
    /// What the state is.
    pub state: Digest,
    /// Where it lies.
    pub blob: Digest,
    /// Length of the blob.
    pub size_bytes: u64,
    /// Who made it.
    pub device: DeviceId,
    /// Whose device that is.
    pub owner: OwnerId,
    /// The device's, over all of this.
    pub signature: Vec<u8>,
    /// The checkpoint that it went on from.
    pub parent: Option<LeaseToken>,
    /// Owners whose work may be in it; sorted.
    pub lineage: Vec<OwnerId>,
}

/// What a lease of a unit came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The checkpoint; `None` where the owner was offered one earlier, and may still have it.
    pub origin: Option<LeaseToken>,
    /// Owners whose work this owner has been offered; sorted.
    pub lineage: Vec<OwnerId>,
}

/// How somebody was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The checkpoint is not the state after its steps.
    Poisoned,
    /// It was, and what was made from it is wrong.
    Resumed,
}

/// Who was wrong about a unit, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The unit.
    pub unit: UnitKey,
    /// Which device.
    pub device: DeviceId,
    /// Whose.
    pub owner: OwnerId,
    /// How.
    pub fault: Fault,
    /// The checkpoint that it hangs on.
    pub checkpoint: Checkpoint,
    /// What the state after its steps is, as witnessed.
    pub witnessed: Digest,
    /// How many accepted attempts say so.
    pub witnesses: u32,
}

impl Blame {
    /// Whether it is more than one owner's word.
    pub(super) const fn is_beyond_doubt(&self) -> bool {
        self.witnesses >= WITNESSES_MIN
    }
}

/// The union of lineages; sorted.
pub(super) fn union<'a>(owners: impl IntoIterator<Item = &'a OwnerId>) -> Vec<OwnerId> {
    owners.into_iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

pub(super) fn disjoint(one: &[OwnerId], other: &[OwnerId]) -> bool {
    one.iter().all(|owner| !other.contains(owner))
}

fn within(part: &[OwnerId], whole: &[OwnerId]) -> bool {
    part.iter().all(|owner| whole.contains(owner))
}

/// Owners whose work is in any of these attempts; sorted.
pub(super) fn owners_in(attempts: &[Attempt]) -> Vec<OwnerId> {
    union(attempts.iter().flat_map(Attempt::owners))
}

fn find(known: &[Checkpoint], name: Option<LeaseToken>) -> Option<&Checkpoint> {
    known.iter().find(|checkpoint| Some(checkpoint.made_under) == name)
}

/// A checkpoint and those that it went on from, the oldest first; `None` when one of them is not known.
fn chain(known: &[Checkpoint], name: Option<LeaseToken>) -> Option<Vec<&Checkpoint>> {
    let mut links = Vec::new();
    let mut next = name;
    while next.is_some() {
        let link = find(known, next)?;
        links.push(link);
        next = link.parent;
        if links.len() > CHAIN_MAX {
            return None;
        }
    }
    links.reverse();
    Some(links)
}

/// Whether a checkpoint is kept, as what, and which others are not needed any more.
///
/// Kept is what gives somebody a better start: one that is as far, and that everybody who could use this one
/// could use too, makes it useless. So that blame can be told, whatever an attempt or a kept checkpoint went
/// on from stays as well.
pub(super) fn keep(
    known: &[Checkpoint],
    attempts: &[Attempt],
    mut new: Checkpoint,
) -> Option<(Checkpoint, Vec<LeaseToken>)> {
    let voices = owners_in(attempts);
    let better = |one: &Checkpoint| one.steps >= new.steps && within(&one.lineage, &new.lineage);
    if !disjoint(&new.lineage, &voices) || known.iter().any(better) {
        return None;
    }
    if let Some(parent) = find(known, new.parent)
        && parent.device == new.device
    {
        // Only one device to blame for either: the later one stands for both.
        new.parent = parent.parent;
    }
    if chain(known, new.parent)?.len() >= CHAIN_MAX {
        return None;
    }
    let mut kept: Vec<&Checkpoint> = known.iter().collect();
    // What goes on from another has more steps: it is looked at first.
    kept.sort_by_key(|one| std::cmp::Reverse(one.steps));
    let mut removed = Vec::new();
    for one in kept.clone() {
        let name = Some(one.made_under);
        let is_better = one.steps <= new.steps && within(&new.lineage, &one.lineage);
        let is_needed = new.parent == name
            || attempts.iter().any(|attempt| attempt.origin == name)
            || kept.iter().any(|other| other.parent == name);
        if (is_better || !disjoint(&one.lineage, &voices)) && !is_needed {
            kept.retain(|other| other.made_under != one.made_under);
            removed.push(one.made_under);
        }
    }
    (kept.len() < UNIT_CHECKPOINTS_MAX).then_some((new, removed))
}

/// Whether others go on from a checkpoint where a job buys confidence: by what is known of everybody whose work is in it.
pub(super) fn is_passed_on(one: &Checkpoint, standings: &BTreeMap<OwnerId, Standing>) -> bool {
    one.lineage.iter().all(|owner| standings.get(owner).is_some_and(|known| known.passes_on()))
}

/// The checkpoint that a lease of a unit comes with, for this owner.
///
/// None whose work is in an attempt already: its check must start from the beginning. And none that would leave
/// too few owners of those `there` to check it: a unit must not wait for an owner only because it was passed
/// around. An owner's own work costs nobody a vote.
pub(super) fn best_for<'a>(
    known: impl Iterator<Item = &'a Checkpoint>,
    owner: OwnerId,
    voices: &[OwnerId],
    quorum: usize,
    there: &BTreeSet<OwnerId>,
) -> Option<&'a Checkpoint> {
    let fits = |one: &&Checkpoint| {
        if !disjoint(&one.lineage, voices) {
            return false;
        }
        if one.lineage == [owner] {
            return true;
        }
        let used = union(one.lineage.iter().chain([&owner]));
        let others = there.iter().filter(|other| !used.contains(other) && !voices.contains(other)).count();
        used.len() <= LINEAGE_OWNERS_MAX && others + 1 >= quorum
    };
    known.filter(fits).max_by_key(|one| (one.steps, std::cmp::Reverse(one.made_under)))
}

/// After which steps an attempt from the start should tell the state: of every checkpoint of its unit, whether or not
/// somebody has answered from one. Otherwise what a lease asks would tell that somebody has.
#[must_use]
pub fn steps_to_witness(known: &[Checkpoint]) -> Vec<u64> {
    known.iter().map(|one| one.steps).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Of what an attempt says that it witnessed, what can be compared with something; once each.
pub(super) fn to_compare(known: &[Checkpoint], witnessed: &[(u64, Digest)]) -> Vec<(u64, Digest)> {
    let mut steps: BTreeSet<u64> = known.iter().map(|one| one.steps).collect();
    witnessed.iter().filter(|(at, _)| steps.remove(at)).copied().collect()
}

/// Who was wrong, once a unit is decided: whoever made the first state that differs from what the accepted
/// attempts from the start witnessed. Where that cannot be told, nobody.
pub(super) fn blame(
    unit: UnitKey,
    known: &[Checkpoint],
    attempts: &[Attempt],
    (outcome, digest): (Outcome, Digest),
) -> Vec<Blame> {
    if !matches!(outcome, Outcome::Result | Outcome::GuestFailed) {
        return Vec::new();
    }
    let (right, wrong): (Vec<&Attempt>, Vec<&Attempt>) =
        attempts.iter().partition(|attempt| agrees(attempt, outcome, digest));
    let mut blames: Vec<Blame> = Vec::new();
    for attempt in wrong {
        let Some(links) = attempt.origin.and_then(|name| chain(known, Some(name))) else { continue };
        let found = first_wrong(unit, known, &links, &right, attempt);
        blames.extend(found.filter(|found| blames.iter().all(|other| other.device != found.device)));
    }
    blames
}

fn first_wrong(
    unit: UnitKey,
    known: &[Checkpoint],
    links: &[&Checkpoint],
    right: &[&Attempt],
    attempt: &Attempt,
) -> Option<Blame> {
    // Whether what came before is known to be right. Before the first, that is the start, unless its maker
    // had been offered other people's work at some time.
    let mut sure = links.first().is_some_and(|first| first.lineage == [first.owner]);
    let mut last = None;
    for link in links {
        let trusted = right.iter().filter_map(|one| chain(known, Some(one.origin?)));
        let led_to_the_result = trusted.flatten().any(|one| one.made_under == link.made_under);
        match witnessed(right, attempt.owners(), link.steps) {
            Some((state, witnesses)) => {
                let blame = |fault, device, owner| Blame {
                    unit,
                    device,
                    owner,
                    fault,
                    checkpoint: (*link).clone(),
                    witnessed: state,
                    witnesses,
                };
                if state != link.state {
                    let told = sure && !led_to_the_result;
                    return told.then(|| blame(Fault::Poisoned, link.device, link.owner));
                }
                sure = true;
                last = Some(blame(Fault::Resumed, attempt.device, attempt.owner));
            }
            None => {
                sure = false;
                last = None;
            }
        }
    }
    // A limit of one PC is nobody's fault.
    last.filter(|_| attempt.outcome != Outcome::Limit)
}

/// What the accepted attempts from the start witnessed, and how many; `None` when none did, or they differ.
/// Nobody witnesses about a lineage that their own work is in, nor once they were caught.
fn witnessed(right: &[&Attempt], lineage: &[OwnerId], steps: u64) -> Option<(Digest, u32)> {
    let tells = |one: &&&Attempt| one.lineage.is_empty() && !one.void && !lineage.contains(&one.owner);
    let others = right.iter().filter(tells);
    let mut states = others.flat_map(|attempt| &attempt.witnessed).filter(|(at, _)| *at == steps);
    let (_, state) = states.next()?;
    let mut count = 1;
    for (_, other) in states {
        if other != state {
            return None;
        }
        count += 1;
    }
    Some((*state, count))
}
