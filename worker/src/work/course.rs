//! Where a unit goes on from, and what becomes of it on the way: over as many runners as it takes.

use std::time::Duration;

use lull_job::Digest;
use lull_sandbox::checkpoint::{Image, Progress, StateDigest, Told};
use lull_sandbox::{RunOn, UnitRun};

use super::assignment::LeasedCheckpoint;
use crate::checkpoints::{Facts, Saved, Store};
use crate::core::UnitName;

/// Where the next run of a unit begins.
enum Origin {
    Start,
    /// This device's own checkpoint.
    Own,
    /// The one that the lease names.
    Leased,
}

/// What has become of a unit up to a point.
#[derive(Debug, Clone, Default)]
struct Past {
    base: Option<Digest>,
    cpu_micros: u64,
    ran: Duration,
    witnessed: Vec<(u64, Digest)>,
}

/// Where a run begins, what was before, and the state that it goes on from.
type Beginning = (Origin, Past, Option<(Image, StateDigest)>);

/// A run that ended, the checkpoint of somebody that it went on from, and the states that it was asked to tell.
pub(super) type Ended = (UnitRun, Option<Digest>, Vec<(u64, Digest)>);

/// The course of one unit on this device.
pub(super) struct Course<'a> {
    store: &'a Store,
    unit: UnitName,
    every: Option<Duration>,
    witnesses: &'a [u64],
    memory_bytes_max: u64,
    /// The checkpoint that the lease names and its bytes, unless it turned out to be of no use.
    leased: Option<(LeasedCheckpoint, Vec<u8>)>,
    origin: Origin,
    past: Past,
    /// This device's own checkpoint cannot be gone on from, and a new one was not kept yet.
    is_own_useless: bool,
    /// Whether a checkpoint was kept since the last runner began, and nobody has asked.
    has_advanced: bool,
    has_warned: bool,
}

impl<'a> Course<'a> {
    pub(super) const fn new(
        store: &'a Store,
        unit: UnitName,
        every: Option<Duration>,
        witnesses: &'a [u64],
        memory_bytes_max: u64,
        leased: Option<(LeasedCheckpoint, Vec<u8>)>,
    ) -> Self {
        let past = Past { base: None, cpu_micros: 0, ran: Duration::ZERO, witnessed: Vec::new() };
        Self {
            store,
            unit,
            every,
            witnesses,
            memory_bytes_max,
            leased,
            origin: Origin::Start,
            past,
            is_own_useless: false,
            has_advanced: false,
            has_warned: false,
        }
    }

    /// The course of a unit that is run from its start whatever was kept of it, and of which nothing is kept.
    pub(super) fn from_start(
        store: &'a Store,
        unit: UnitName,
        witnesses: &'a [u64],
        memory_bytes_max: u64,
    ) -> Self {
        Self { is_own_useless: true, ..Self::new(store, unit, None, witnesses, memory_bytes_max, None) }
    }

    /// How the next runner runs it: from this device's last checkpoint, otherwise from the lease's, otherwise from
    /// the start.
    pub(super) fn next(&mut self) -> RunOn {
        self.has_advanced = false;
        let (origin, past, from) =
            self.own().or_else(|| self.leased()).unwrap_or((Origin::Start, Past::default(), None));
        // What somebody else began is not witnessed: their word would be taken for this device's.
        let witnesses = if past.base.is_none() { self.witnesses.to_vec() } else { Vec::new() };
        let ran = past.ran;
        (self.origin, self.past) = (origin, past);
        RunOn { from, checkpoint_every: self.every, witnesses, ran }
    }

    fn own(&self) -> Option<Beginning> {
        if self.is_own_useless {
            return None;
        }
        let (saved, bytes) = self.store.get(&self.unit)?;
        // One that goes back to somebody's checkpoint that this lease does not name is of another line.
        let leased = self.leased.as_ref().map(|(leased, _)| leased.state_digest);
        if !saved.is_good_for(leased) {
            self.store.remove(&self.unit);
            return None;
        }
        let Ok(image) = Image::decode(&bytes, self.memory_bytes_max) else {
            self.store.remove(&self.unit);
            return None;
        };
        let Saved { state_digest, base, cpu_micros, ran, witnessed, .. } = saved;
        let past = Past { base, cpu_micros, ran, witnessed };
        Some((Origin::Own, past, Some((image, *state_digest.as_bytes()))))
    }

    fn leased(&mut self) -> Option<Beginning> {
        let (leased, bytes) = self.leased.as_ref()?;
        let image = Image::decode(bytes, self.memory_bytes_max).ok();
        let Some(image) = image.filter(|image| image.head().steps == leased.steps) else {
            self.drop_leased("it is no state of this unit");
            return None;
        };
        let state_digest = leased.state_digest;
        let past = Past { base: Some(state_digest), ..Past::default() };
        Some((Origin::Leased, past, Some((image, *state_digest.as_bytes()))))
    }

    /// A runner could not go on from where it was to.
    pub(super) fn not_resumed(&mut self, reason: &str) {
        match self.origin {
            Origin::Own => {
                tracing::warn!(unit = self.unit.index, reason, "a checkpoint is of no use; it is removed");
                self.is_own_useless = true;
                self.store.remove(&self.unit);
            }
            Origin::Leased => self.drop_leased(reason),
            Origin::Start => {}
        }
    }

    fn drop_leased(&mut self, reason: &str) {
        self.leased = None;
        tracing::warn!(
            unit = self.unit.index,
            reason,
            "the checkpoint of a lease is of no use; its unit starts anew"
        );
    }

    /// Notes what a runner tells; true if there is a new checkpoint on disk.
    pub(super) fn hear(&mut self, progress: Progress<'_>) -> bool {
        match progress {
            Progress::Witnessed { steps, digest } => {
                self.past.witnessed.push((steps, Digest::from_bytes(digest)));
                false
            }
            Progress::Checkpoint(image, Told { digest, cpu_micros, ran }) => {
                let facts = Facts {
                    state_digest: *digest,
                    base: self.past.base,
                    cpu_micros: self.past.cpu_micros.saturating_add(*cpu_micros),
                    ran: self.past.ran.saturating_add(*ran),
                    witnessed: self.past.witnessed.clone(),
                };
                match self.store.put(self.unit, image, facts) {
                    Ok(saved) => {
                        tracing::debug!(unit = self.unit.index, steps = saved.steps, "a checkpoint");
                        (self.has_advanced, self.is_own_useless) = (true, false);
                        true
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut self.has_warned, true) {
                            tracing::warn!(unit = self.unit.index, %error, "no checkpoint can be kept; the unit goes on without");
                        }
                        false
                    }
                }
            }
        }
    }

    /// Whether the last runner brought the unit forward; asking again says no, until another does.
    pub(super) const fn take_advanced(&mut self) -> bool {
        std::mem::replace(&mut self.has_advanced, false)
    }

    /// What there is to report of a run that ended: with all of its CPU time, where it began, what it saw.
    pub(super) fn end(self, run: UnitRun) -> Ended {
        let cpu_micros = self.past.cpu_micros.saturating_add(run.cpu_micros);
        (UnitRun { cpu_micros, ..run }, self.past.base, self.past.witnessed)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use lull_job::Stage;

    use super::*;
    use crate::identity::{Enrolment, Identity};

    fn open(folder: &std::path::Path) -> Store {
        let enrolment = Enrolment {
            device_id: 7,
            grid_id: "grid-1".to_owned(),
            owner: "owners/ada".to_owned(),
            coordinator: "http://127.0.0.1:1".to_owned(),
        };
        let identity = Identity::with_key(SigningKey::from_bytes(&[7; 32]), enrolment);
        Store::open(folder, 10_000, identity).unwrap()
    }

    fn course(store: &Store) -> Course<'_> {
        let unit = UnitName { job_id: 3, stage: Stage::Work, index: 0, made_of: Digest::of(b"module") };
        Course::new(store, unit, Some(Duration::ZERO), &[], 1 << 20, None)
    }

    fn tell_checkpoint(course: &mut Course<'_>) -> bool {
        let told = Told { digest: [1; 32], cpu_micros: 1, ran: Duration::ZERO };
        course.hear(Progress::Checkpoint(&Image::default(), &told))
    }

    #[test]
    fn a_checkpoint_excuses_the_loss_of_one_runner() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut course = course(&store);
        assert!(!course.take_advanced());
        assert!(tell_checkpoint(&mut course));
        assert!(course.take_advanced());
        assert!(!course.take_advanced(), "the next runner is another's loss");
    }

    #[test]
    fn a_disk_that_takes_no_checkpoint_holds_no_unit_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        std::fs::create_dir(&path).unwrap();
        let store = open(&path);
        let mut course = course(&store);
        std::fs::remove_dir(&path).unwrap();
        assert!(!tell_checkpoint(&mut course), "nobody is told of what is not kept");
        assert!(!course.take_advanced(), "nor is a runner's loss excused by it");
        assert!(course.next().from.is_none(), "the next runner begins anew");
        std::fs::create_dir(&path).unwrap();
        assert!(tell_checkpoint(&mut course), "and once it takes them, they count again");
        assert!(course.next().from.is_some());
    }
}
