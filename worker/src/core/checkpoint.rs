//! Checkpoints of units: where each unit of a held lease stands, and what has to be uploaded before it is handed
//! back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lull_job::{Digest, Stage};
use lull_proto::v1;

use super::{Agent, AttemptKey, Command, Network};

/// Time for the upload of checkpoints before their units are handed back without them.
pub const CHECKPOINT_UPLOAD_TIME: Duration = Duration::from_secs(600);
/// The same when the agent ends.
pub const CHECKPOINT_UPLOAD_TIME_AT_END: Duration = Duration::from_secs(8);

/// Names a unit, whoever leases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName {
    /// Its job.
    pub job_id: u64,
    /// Its stage.
    pub stage: Stage,
    /// Its index.
    pub index: u64,
    /// The module that it runs and the results that it is made from: a state means nothing to another.
    pub made_of: Digest,
}

/// Where the last checkpoint of a unit is.
#[derive(Debug, Clone)]
enum Place {
    /// On disk.
    Disk,
    /// On its way to the coordinator, until then.
    Uploading(Instant),
    /// The coordinator has it.
    Uploaded(Box<v1::Checkpoint>),
    /// It could not be uploaded.
    NotUploaded,
}

/// The last checkpoint of a unit.
#[derive(Debug, Clone)]
pub(super) struct Held {
    unit: UnitName,
    place: Place,
}

impl Agent {
    pub(super) fn checkpoint_saved(&mut self, key: AttemptKey, unit: UnitName) {
        // A thread that is ended may have had one more on its way: what is being handed back stays as it is.
        if self.leases.contains_key(&key.token) {
            self.checkpoints.entry(key).or_insert(Held { unit, place: Place::Disk });
        }
    }

    pub(super) fn checkpoint_uploaded(&mut self, key: AttemptKey, checkpoint: Option<Box<v1::Checkpoint>>) {
        if let Some(held) = self.checkpoints.get_mut(&key) {
            held.place = checkpoint.map_or(Place::NotUploaded, Place::Uploaded);
        }
    }

    /// Uploads what is about to be handed back. On a metered network units go back without.
    pub(super) fn upload_checkpoints(&mut self, now: Instant, commands: &mut Vec<Command>) {
        let time = if self.is_stopping() { CHECKPOINT_UPLOAD_TIME_AT_END } else { CHECKPOINT_UPLOAD_TIME };
        let is_free_of_charge = self.network != Network::Metered;
        for (key, held) in &mut self.checkpoints {
            let is_going = self.hand_backs.get(&key.token).is_some_and(|back| covers(back, key.index));
            match held.place {
                Place::Disk if is_going && is_free_of_charge => {
                    commands.push(Command::UploadCheckpoint(*key, held.unit));
                    held.place = Place::Uploading(now + time);
                }
                Place::Uploading(until) if until <= now => held.place = Place::NotUploaded,
                // The agent ends meanwhile: it has less time than it thought.
                Place::Uploading(until) if until > now + time => held.place = Place::Uploading(now + time),
                _ => {}
            }
        }
    }

    /// When uploads are waited for no longer.
    pub(super) fn checkpoint_uploads_end(&self) -> impl Iterator<Item = Instant> {
        self.checkpoints.values().filter_map(|held| match held.place {
            Place::Uploading(until) => Some(until),
            _ => None,
        })
    }

    /// Whether nothing has to be uploaded before this lease's units are handed back.
    pub(super) fn can_hand_back(&self, token: u64) -> bool {
        !self.checkpoints_of(token).any(|(_, held)| matches!(held.place, Place::Uploading(_)))
    }

    /// What goes with the units of a lease that are handed back.
    pub(super) fn checkpoints_to_hand_back(
        &self,
        token: u64,
        indices: &BTreeSet<u64>,
    ) -> Vec<v1::Checkpoint> {
        let of_lease = self.checkpoints_of(token).filter(|(key, _)| covers(indices, key.index));
        of_lease
            .filter_map(|(_, held)| match &held.place {
                Place::Uploaded(checkpoint) => Some(checkpoint.as_ref().clone()),
                _ => None,
            })
            .collect()
    }

    /// These units are somebody else's now: empty means all of the lease.
    pub(super) fn drop_checkpoints(
        &mut self,
        token: u64,
        indices: &BTreeSet<u64>,
        commands: &mut Vec<Command>,
    ) {
        let of_lease = self.checkpoints_of(token).filter(|(key, _)| covers(indices, key.index));
        let keys: Vec<AttemptKey> = of_lease.map(|(key, _)| *key).collect();
        for key in keys {
            self.drop_checkpoint(key, commands);
        }
    }

    /// This lease is lost, perhaps only because nobody heard from here for too long. What its units have come to stays on
    /// disk, until others need the room: whoever is leased one of them on this device goes on from there. Whose work
    /// that is the coordinator knows: it is this device's own, or goes back to what the new lease names.
    pub(super) fn leave_checkpoints(&mut self, token: u64) {
        self.checkpoints.retain(|key, _| key.token != token);
    }

    /// The unit needs no checkpoint any more.
    pub(super) fn drop_checkpoint(&mut self, key: AttemptKey, commands: &mut Vec<Command>) {
        if let Some(held) = self.checkpoints.remove(&key) {
            commands.push(Command::DropCheckpoint(held.unit));
        }
    }

    fn checkpoints_of(&self, token: u64) -> impl Iterator<Item = (&AttemptKey, &Held)> {
        let [first, last] = [u64::MIN, u64::MAX].map(|index| AttemptKey { token, index });
        self.checkpoints.range(first..=last)
    }
}

/// Whether a hand-back names a unit; an empty one names all.
fn covers(indices: &BTreeSet<u64>, index: u64) -> bool {
    indices.is_empty() || indices.contains(&index)
}
