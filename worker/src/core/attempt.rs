//! One finished attempt, on its way to the coordinator.

use lull_job::limits::INLINE_RESULT_BYTES_MAX;
use lull_job::{Digest, Stage};
use lull_proto::v1;
use lull_sandbox::{Outcome, UnitRun};

/// Names an attempt on this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The lease that it was made under.
    pub token: u64,
    /// Index of its unit.
    pub index: u64,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// With a result.
    Result,
    /// By the guest's own failure.
    GuestFailed,
    /// At a limit.
    Limit,
}

impl AttemptOutcome {
    const fn to_proto(self) -> v1::Outcome {
        match self {
            Self::Result => v1::Outcome::Result,
            Self::GuestFailed => v1::Outcome::GuestFailed,
            Self::Limit => v1::Outcome::Limit,
        }
    }
}

/// Where the result is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Here: a result up to 4 KiB, or a message.
    Inline(Vec<u8>),
    /// In a file of the outbox, named by its digest; uploaded before the attempt is reported.
    File,
}

/// How a strict run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrictRun {
    /// With what.
    pub outcome: AttemptOutcome,
    /// Of the result or message.
    pub digest: Digest,
}

/// One finished attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its name.
    pub key: AttemptKey,
    /// The job of its unit.
    pub job_id: u64,
    /// The stage of its unit.
    pub stage: Stage,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Of the result or message.
    pub digest: Digest,
    /// Of the result or message.
    pub size_bytes: u64,
    /// CPU time it took.
    pub cpu_micros: u64,
    /// Where the result is.
    pub body: Body,
    /// State of somebody's checkpoint that it went on from; `None`: it ran from the start.
    pub resumed_from: Option<Digest>,
    /// States that the lease asked to be told of: after these steps, this.
    pub witnessed: Vec<(u64, Digest)>,
    /// Fuel of a strict run that came to its own end.
    pub fuel: Option<u64>,
    /// Of a unit that was run both ways: how the strict run ended. The rest is of the normal one, but for the fuel and
    /// CPU time, which is that of both.
    pub strict: Option<StrictRun>,
}

impl Attempt {
    /// The attempt that this run was, and the result if it is too large to stand in the attempt itself.
    #[must_use]
    pub fn of(key: AttemptKey, job_id: u64, stage: Stage, run: UnitRun) -> (Self, Option<Vec<u8>>) {
        let (outcome, bytes) = match run.outcome {
            Outcome::Result(bytes) => (AttemptOutcome::Result, bytes),
            Outcome::GuestFailed(message) => (AttemptOutcome::GuestFailed, message.into_bytes()),
            Outcome::Limit(message) => (AttemptOutcome::Limit, message.into_bytes()),
        };
        let (digest, size_bytes) = (Digest::of(&bytes), bytes.len() as u64);
        let (body, large) = if bytes.len() > INLINE_RESULT_BYTES_MAX {
            (Body::File, Some(bytes))
        } else {
            (Body::Inline(bytes), None)
        };
        let (cpu_micros, fuel) = (run.cpu_micros, run.fuel);
        let (resumed_from, witnessed, strict) = (None, Vec::new(), None);
        let attempt = Self {
            key,
            job_id,
            stage,
            outcome,
            digest,
            size_bytes,
            cpu_micros,
            body,
            resumed_from,
            witnessed,
            fuel,
            strict,
        };
        (attempt, large)
    }

    /// The same with the strict run that came after it, of whose result only the digest counts.
    #[must_use]
    pub fn with_strict(self, run: UnitRun) -> Self {
        let UnitRun { cpu_micros, fuel, .. } = run;
        let (strict, _) = Self::of(self.key, self.job_id, self.stage, run);
        Self {
            cpu_micros: self.cpu_micros.saturating_add(cpu_micros),
            fuel,
            strict: Some(StrictRun { outcome: strict.outcome, digest: strict.digest }),
            ..self
        }
    }

    /// As a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::AttemptReport {
        let strict = self.strict.map(|strict| v1::StrictRun {
            outcome: strict.outcome.to_proto().into(),
            digest: strict.digest.as_bytes().to_vec(),
        });
        let result = match &self.body {
            Body::Inline(bytes) => bytes.clone(),
            Body::File => Vec::new(),
        };
        let witnessed = self.witnessed.iter().map(|(steps, state)| v1::WitnessedState {
            steps: *steps,
            state_digest: state.as_bytes().to_vec(),
        });
        v1::AttemptReport {
            index: self.key.index,
            outcome: self.outcome.to_proto().into(),
            digest: self.digest.as_bytes().to_vec(),
            size_bytes: self.size_bytes,
            result,
            cpu_micros: self.cpu_micros,
            resumed_from: self.resumed_from.map_or_else(Vec::new, |state| state.as_bytes().to_vec()),
            witnessed: witnessed.collect(),
            fuel: self.fuel,
            strict,
        }
    }

    /// Bytes that it takes in a message, roughly.
    #[must_use]
    pub const fn message_bytes(&self) -> usize {
        const FIELDS: usize = 180;
        const WITNESSED: usize = 48;
        let fields = FIELDS + WITNESSED * self.witnessed.len();
        match &self.body {
            Body::Inline(bytes) => fields + bytes.len(),
            Body::File => fields,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_unit_that_was_run_both_ways_both_are_reported() {
        let run = |bytes: &[u8], cpu_micros, fuel| UnitRun {
            outcome: Outcome::Result(bytes.to_vec()),
            cpu_micros,
            fuel,
        };
        let (normal, _) = Attempt::of(AttemptKey { token: 1, index: 2 }, 3, Stage::Work, run(b"a", 10, None));
        assert_eq!((normal.to_proto().fuel, normal.to_proto().strict), (None, None));
        let report = normal.with_strict(run(b"b", 30, Some(7))).to_proto();
        assert_eq!(
            (report.digest.as_slice(), report.result),
            (&Digest::of(b"a").as_bytes()[..], b"a".to_vec())
        );
        assert_eq!((report.cpu_micros, report.fuel), (40, Some(7)));
        let strict = report.strict.unwrap();
        assert_eq!(
            (strict.outcome(), &strict.digest[..]),
            (v1::Outcome::Result, &Digest::of(b"b").as_bytes()[..])
        );
    }

    #[test]
    fn results_over_4_kib_stand_apart() {
        let of = |bytes: usize| {
            let run = UnitRun { outcome: Outcome::Result(vec![7; bytes]), cpu_micros: 1, fuel: None };
            Attempt::of(AttemptKey { token: 1, index: 2 }, 3, Stage::Work, run)
        };
        let (small, none) = of(INLINE_RESULT_BYTES_MAX);
        assert_eq!((small.body, none), (Body::Inline(vec![7; 4096]), None));
        let (large, bytes) = of(INLINE_RESULT_BYTES_MAX + 1);
        assert_eq!((&large.body, bytes.map(|bytes| bytes.len())), (&Body::File, Some(4097)));
        let report = large.to_proto();
        assert_eq!((report.size_bytes, report.result.len()), (4097, 0));
        assert_eq!(report.digest, Digest::of(&[7; 4097]).as_bytes());
    }
}
