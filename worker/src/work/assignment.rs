//! A lease as checked values: what to fetch, and the input of each of its units.

use std::collections::BTreeMap;

use lull_job::limits::{INPUT_BYTES_MAX, MODULE_BYTES_MAX, RESULT_BYTES_MAX};
use lull_job::{Digest, Plan, Reduce, SpecError, Split, Stage, stage_from_proto};
use lull_proto::v1;
use lull_sandbox::checkpoint::IMAGE_BYTES_MAX;
use lull_sandbox::{FUEL_MAX, Limits};

use crate::core::UnitName;

/// States that a lease may ask for: each costs a look at the whole memory.
const WITNESSES_MAX: usize = 1000;

/// Why a lease cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum AssignmentError {
    /// Something is missing or wrong in the message.
    #[error("the lease has {0}: are this agent and the coordinator of the same version?")]
    Malformed(&'static str),
    /// How the job falls into items is not valid.
    #[error("the lease's {0}")]
    Split(#[from] SpecError),
}

/// How the units of a lease are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// At full speed.
    Normal,
    /// With one NaN, and fuel.
    Strict,
    /// One after the other, to settle a dispute.
    Both,
}

impl RunMode {
    fn check(lease: &v1::Lease) -> Option<Self> {
        match v1::RunMode::try_from(lease.run_mode).ok()? {
            v1::RunMode::Unspecified | v1::RunMode::Normal => Some(Self::Normal),
            v1::RunMode::Strict => Some(Self::Strict),
            v1::RunMode::Referee => Some(Self::Both),
        }
    }
}

/// A blob that a unit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitBlob {
    /// It came with the lease.
    Here(Vec<u8>),
    /// It has to be read.
    Remote {
        /// Its digest.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
    },
}

/// A checkpoint that a lease names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeasedCheckpoint {
    /// Steps done.
    pub(crate) steps: u64,
    /// Of the state.
    pub(crate) state_digest: Digest,
    /// Of its blob.
    pub(crate) blob_digest: Digest,
    /// Of its blob.
    pub(crate) size_bytes: u64,
}

/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;
/// Bytes of a state beside its pages.
const STATE_OVERHEAD_BYTES: u64 = 1024 * 1024;

impl LeasedCheckpoint {
    /// One that makes sense; who made it, the coordinator has checked.
    fn check(checkpoint: &v1::Checkpoint) -> Option<Self> {
        let is_sound = checkpoint.signature.len() == SIGNATURE_BYTES
            && checkpoint.size_bytes <= IMAGE_BYTES_MAX + STATE_OVERHEAD_BYTES;
        Some(Self {
            steps: checkpoint.steps,
            state_digest: Digest::try_from(checkpoint.state_digest.as_slice()).ok()?,
            blob_digest: Digest::try_from(checkpoint.blob_digest.as_slice()).ok()?,
            size_bytes: checkpoint.size_bytes,
        })
        .filter(|_| is_sound)
    }
}

/// A named blob that every unit sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedBlob {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

/// A lease as checked values.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The lease.
    pub token: u64,
    /// Its job.
    pub job_id: u64,
    /// The stage of its units.
    pub stage: Stage,
    /// The arithmetic of the job; what concerns merging is left out.
    pub plan: Plan,
    /// How it falls into items.
    pub split: Split,
    /// What a guest may use.
    pub limits: Limits,
    /// How its units are run.
    pub mode: RunMode,
    pub(crate) module: NamedBlob,
    pub(crate) inputs: Vec<NamedBlob>,
    blobs: BTreeMap<u64, Vec<UnitBlob>>,
    checkpoints: BTreeMap<u64, LeasedCheckpoint>,
    witnesses: BTreeMap<u64, Vec<u64>>,
}

impl Assignment {
    /// Checks a lease.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(lease: &v1::Lease) -> Result<Self, AssignmentError> {
        use AssignmentError::Malformed;
        let job = lease.job.as_ref().ok_or(Malformed("no job"))?;
        let stage = stage_from_proto(lease.stage.as_ref()).ok_or(Malformed("no stage"))?;
        let split = Split::check(job.split.as_ref())?;
        let limits = job.limits.ok_or(Malformed("no limits"))?;
        let mode = RunMode::check(lease).ok_or(Malformed("a way to run units that is not known here"))?;
        if job.items_per_unit == 0 {
            return Err(Malformed("units without items"));
        }
        let module = job.module.as_ref().ok_or(Malformed("no module"))?;
        let inputs = job.inputs.iter().map(|input| named(input, INPUT_BYTES_MAX));
        let plan = Plan {
            has_split: split == Split::Module,
            items: job.items,
            items_per_unit: job.items_per_unit,
            pilot_units: job.pilot_units,
            reduce: Reduce::None,
            merge_fan_in: 2,
        };
        let checkpoints = lease.checkpoints.iter().filter_map(|checkpoint| {
            let checked = LeasedCheckpoint::check(checkpoint);
            if checked.is_none() {
                tracing::warn!(
                    lease = lease.token,
                    unit = checkpoint.index,
                    "a lease's checkpoint makes no sense"
                );
            }
            Some((checkpoint.index, checked?))
        });
        let mut witnesses: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for witness in lease.witnesses.iter().take(WITNESSES_MAX) {
            witnesses.entry(witness.index).or_default().push(witness.steps);
        }
        for steps in witnesses.values_mut() {
            steps.sort_unstable();
            steps.dedup();
        }
        Ok(Self {
            checkpoints: checkpoints.collect(),
            witnesses,
            token: lease.token,
            job_id: job.job_id,
            stage,
            blobs: unit_blobs(lease, stage, &split)?,
            plan,
            split,
            limits: Limits {
                memory_bytes: limits.memory_bytes,
                unit_secs: limits.unit_secs,
                result_bytes: limits.result_bytes,
                fuel: FUEL_MAX,
            },
            mode,
            module: named(module, MODULE_BYTES_MAX)?,
            inputs: inputs.collect::<Result<_, _>>()?,
        })
    }

    /// The name of a unit. A merge that is made again of other results is another unit, whose state must not be
    /// mistaken for this one's.
    #[must_use]
    pub fn unit(&self, index: u64) -> UnitName {
        let parts = self.blobs_of(index).iter().map(|blob| match blob {
            UnitBlob::Here(content) => Digest::of(content),
            UnitBlob::Remote { digest, .. } => *digest,
        });
        let mut made_of = self.module.digest.as_bytes().to_vec();
        parts.for_each(|part| made_of.extend(part.as_bytes()));
        let made_of = match self.blobs_of(index) {
            [] => self.module.digest,
            _ => Digest::of(&made_of),
        };
        UnitName { job_id: self.job_id, stage: self.stage, index, made_of }
    }

    /// Where a unit is to go on from, if not from its start.
    pub(crate) fn checkpoint_of(&self, index: u64) -> Option<&LeasedCheckpoint> {
        self.checkpoints.get(&index)
    }

    /// Steps of a unit after which its state is to be told, rising.
    #[must_use]
    pub fn witnesses_of(&self, index: u64) -> &[u64] {
        self.witnesses.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Blobs that the input of a unit is made of, in order.
    #[must_use]
    pub fn blobs_of(&self, index: u64) -> &[UnitBlob] {
        self.blobs.get(&index).map_or(&[], Vec::as_slice)
    }
}

fn unit_blobs(
    lease: &v1::Lease,
    stage: Stage,
    split: &Split,
) -> Result<BTreeMap<u64, Vec<UnitBlob>>, AssignmentError> {
    if let (Stage::Work, Split::Lines(file)) = (stage, split) {
        let file = UnitBlob::Remote { digest: file.digest, size_bytes: file.size_bytes };
        return Ok(lease.indices.iter().map(|index| (*index, vec![file.clone()])).collect());
    }
    if lease.parts.is_empty() {
        return Ok(BTreeMap::new());
    }
    if lease.parts.len() != lease.indices.len() {
        return Err(AssignmentError::Malformed("parts for some of its units only"));
    }
    let units = lease.indices.iter().zip(&lease.parts).map(|(index, parts)| {
        let blobs = parts.parts.iter().map(part).collect::<Result<_, _>>()?;
        Ok((*index, blobs))
    });
    units.collect()
}

fn part(part: &v1::Part) -> Result<UnitBlob, AssignmentError> {
    let digest = Digest::try_from(part.digest.as_slice())
        .map_err(|_| AssignmentError::Malformed("a part without a digest"))?;
    match &part.content {
        Some(content) if Digest::of(content) == digest => Ok(UnitBlob::Here(content.clone())),
        Some(_) => Err(AssignmentError::Malformed("a part that is not what its digest says")),
        None if part.size_bytes > INPUT_BYTES_MAX.max(RESULT_BYTES_MAX) => {
            Err(AssignmentError::Malformed("a part that is too large"))
        }
        None => Ok(UnitBlob::Remote { digest, size_bytes: part.size_bytes }),
    }
}

fn named(input: &v1::Input, size_bytes_max: u64) -> Result<NamedBlob, AssignmentError> {
    let digest = Digest::try_from(input.digest.as_slice())
        .map_err(|_| AssignmentError::Malformed("a module or input without a digest"))?;
    if input.size_bytes > size_bytes_max {
        return Err(AssignmentError::Malformed("a module or input that is too large"));
    }
    Ok(NamedBlob { name: input.name.clone(), digest, size_bytes: input.size_bytes })
}

#[cfg(test)]
mod tests {
    use lull_proto::v1::split::Kind;

    use super::*;

    fn input(name: &str) -> v1::Input {
        v1::Input { name: name.to_owned(), digest: vec![1; 32], size_bytes: 10 }
    }

    fn lease(split: Kind, kind: v1::StageKind) -> v1::Lease {
        v1::Lease {
            token: 9,
            time_to_live: None,
            job: Some(v1::LeasedJob {
                job_id: 3,
                module: Some(input("m")),
                inputs: vec![input("a")],
                split: Some(v1::Split { kind: Some(split) }),
                items: 100,
                items_per_unit: 10,
                pilot_units: 0,
                limits: Some(v1::Limits { memory_bytes: 1, unit_secs: 2, result_bytes: 3 }),
            }),
            stage: Some(v1::Stage { kind: kind.into(), level: 1 }),
            indices: vec![4, 2],
            ..v1::Lease::default()
        }
    }

    fn range() -> v1::Lease {
        lease(Kind::Range(v1::IntegerRange { start: 0, end: 100 }), v1::StageKind::Work)
    }

    #[test]
    fn a_range_needs_no_blobs() {
        let assignment = Assignment::check(&range()).unwrap();
        assert_eq!((assignment.token, assignment.job_id, assignment.stage), (9, 3, Stage::Work));
        assert!(assignment.blobs_of(4).is_empty());
        assert_eq!(
            assignment.limits,
            Limits { memory_bytes: 1, unit_secs: 2, result_bytes: 3, fuel: FUEL_MAX }
        );
    }

    #[test]
    fn a_lease_that_does_not_say_how_is_run_normally() {
        use v1::RunMode::{Normal, Referee, Strict, Unspecified};
        let mode = |mode: v1::RunMode| {
            Assignment::check(&v1::Lease { run_mode: mode.into(), ..range() }).unwrap().mode
        };
        assert_eq!([Unspecified, Normal].map(mode), [RunMode::Normal; 2]);
        assert_eq!([Strict, Referee].map(mode), [RunMode::Strict, RunMode::Both]);
    }

    #[test]
    fn lines_need_their_file() {
        let lines = lease(Kind::Lines(v1::Lines { file: Some(input("f")) }), v1::StageKind::Work);
        let file = UnitBlob::Remote { digest: Digest::from_bytes([1; 32]), size_bytes: 10 };
        assert_eq!(Assignment::check(&lines).unwrap().blobs_of(2), [file]);
    }

    #[test]
    fn parts_belong_to_their_unit_and_are_verified() {
        let mut merge = lease(Kind::Module(v1::ModuleSplit {}), v1::StageKind::Merge);
        let small = |content: &[u8], of: &[u8]| v1::Part {
            digest: Digest::of(of).as_bytes().to_vec(),
            size_bytes: of.len() as u64,
            content: Some(content.to_vec()),
        };
        let large = v1::Part { digest: vec![2; 32], size_bytes: 5000, content: None };
        merge.parts = vec![
            v1::UnitParts { parts: vec![small(b"x", b"x"), large] },
            v1::UnitParts { parts: vec![small(b"", b"")] },
        ];
        let assignment = Assignment::check(&merge).unwrap();
        let remote = UnitBlob::Remote { digest: Digest::from_bytes([2; 32]), size_bytes: 5000 };
        assert_eq!(assignment.blobs_of(4), [UnitBlob::Here(b"x".to_vec()), remote]);
        assert_eq!(assignment.blobs_of(2), [UnitBlob::Here(Vec::new())]);

        let name = assignment.unit(4);
        merge.parts[0].parts[0] = small(b"y", b"y");
        let again = Assignment::check(&merge).unwrap();
        assert_ne!(again.unit(4), name, "made of other results");
        assert_eq!(again.unit(2), assignment.unit(2));

        merge.parts[1].parts[0] = small(b"wrong", b"right");
        let error = Assignment::check(&merge).expect_err("a lie").to_string();
        assert!(error.contains("not what its digest says"), "{error}");
        merge.parts.pop();
        assert!(Assignment::check(&merge).expect_err("one short").to_string().contains("some of its units"));
    }

    #[test]
    fn checkpoints_and_witnesses_belong_to_their_unit() {
        let checkpoint = |index, signature| v1::Checkpoint {
            index,
            steps: 5,
            state_digest: vec![1; 32],
            blob_digest: vec![2; 32],
            size_bytes: 9,
            signature: vec![0; signature],
            maker_device_id: 3,
        };
        let mut lease = range();
        lease.checkpoints = vec![checkpoint(4, 64), checkpoint(2, 63)];
        lease.witnesses =
            [(2, 9), (2, 3), (4, 1), (2, 9)].map(|(index, steps)| v1::Witness { index, steps }).to_vec();
        let assignment = Assignment::check(&lease).unwrap();
        assert_eq!(assignment.checkpoint_of(4).map(|checkpoint| checkpoint.steps), Some(5));
        assert_eq!(assignment.checkpoint_of(2), None, "its signature is none");
        assert_eq!((assignment.witnesses_of(2), assignment.witnesses_of(4)), (&[3, 9][..], &[1][..]));
        assert_eq!(assignment.unit(4).made_of, Digest::from_bytes([1; 32]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |change: fn(&mut v1::Lease), expected: &str| {
            let mut lease = range();
            change(&mut lease);
            let error = Assignment::check(&lease).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(|lease| lease.job = None, "no job");
        check(|lease| lease.stage = None, "no stage");
        check(|lease| lease.run_mode = 4, "a way to run units that is not known here");
        check(|lease| lease.job.as_mut().unwrap().limits = None, "no limits");
        check(|lease| lease.job.as_mut().unwrap().items_per_unit = 0, "units without items");
        check(|lease| lease.job.as_mut().unwrap().module = None, "no module");
        check(|lease| lease.job.as_mut().unwrap().split = None, "split: is missing");
        check(|lease| lease.job.as_mut().unwrap().inputs[0].size_bytes = INPUT_BYTES_MAX + 1, "too large");
        check(|lease| lease.job.as_mut().unwrap().inputs[0].digest.clear(), "without a digest");
    }
}
