//! Runs a job stage by stage, as the plan says. Which process runs a guest, and what is printed, is the
//! caller's.

use lull_abi::Unit;
use lull_job::limits::SPLIT_ITEMS_MAX;
use lull_job::{Plan, Spec, Split, Stage, count_lines, unit_payload};
use lull_sandbox::{Outcome, UnitRun};

use super::Cpu;
use crate::error::{Error, Exit, Result};

/// What runs one unit.
pub(crate) trait Guest {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When the runner, not the guest, is at fault.
    fn run(&mut self, unit: &Unit) -> Result<UnitRun>;
}

/// What a split by lines or files reads.
pub(crate) trait Files {
    /// The content of the n-th file of the split.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, at: usize) -> Result<Vec<u8>>;
}

/// What happens while a job runs.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stage begins.
    Stage {
        /// Which.
        stage: Stage,
        /// Its units.
        units: u64,
    },
    /// A unit ended.
    Unit {
        /// Its stage.
        stage: Stage,
        /// Its number: of a work unit, in the whole job.
        number: u64,
        /// CPU time it took.
        cpu_micros: u64,
        /// Whether it has a result.
        failed: bool,
    },
}

/// A unit without a result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnitFailure {
    /// Its stage.
    pub(crate) stage: Stage,
    /// Its index there.
    pub(crate) index: u64,
    /// Its number.
    pub(crate) number: u64,
    /// The guest's words, or which limit ended it.
    pub(crate) message: String,
}

/// A job that ran.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its plan, with the items counted.
    pub(crate) plan: Plan,
    /// The results of its last stage, by index; `None` for units that failed.
    pub(crate) results: Vec<Option<Vec<u8>>>,
    /// What failed, where the job allows it.
    pub(crate) failures: Vec<UnitFailure>,
    /// CPU time by stage.
    pub(crate) cpu: Cpu,
}

/// Runs a job.
///
/// # Errors
/// A runner that cannot be used, a file that cannot be read; [`Exit::NoAnswer`] at the first unit that
/// fails, unless the job allows missing ones.
pub(crate) fn run_job(
    spec: &Spec,
    files: &impl Files,
    guest: &mut impl Guest,
    mut tell: impl FnMut(&Event),
) -> Result<Finished> {
    let mut run = Run {
        spec,
        files,
        plan: spec.plan(0),
        shared: None,
        previous: Vec::new(),
        failures: Vec::new(),
        cpu: Cpu::default(),
    };
    run.count_items()?;
    let mut next = Some(run.plan.first_stage());
    while let Some(stage) = next {
        run.stage(stage, guest, &mut tell)?;
        if stage == Stage::Split {
            run.take_split()?;
        }
        next = run.plan.next_stage(stage);
    }
    Ok(Finished { plan: run.plan, results: run.previous, failures: run.failures, cpu: run.cpu })
}

struct Run<'a, F> {
    spec: &'a Spec,
    files: &'a F,
    plan: Plan,
    /// The blob that every work unit takes: the file of lines, or the result of the module's split.
    shared: Option<Vec<u8>>,
    /// Results of the stage before.
    previous: Vec<Option<Vec<u8>>>,
    failures: Vec<UnitFailure>,
    cpu: Cpu,
}

impl<F: Files> Run<'_, F> {
    fn count_items(&mut self) -> Result<()> {
        match &self.spec.split {
            Split::Module => {}
            Split::Lines(_) => {
                let file = self.files.read(0)?;
                self.plan = self.spec.plan(count_lines(&file));
                self.shared = Some(file);
                self.check_items("the file of lines has no lines")?;
            }
            other => self.plan = self.spec.plan(other.items().unwrap_or(0)),
        }
        Ok(())
    }

    fn take_split(&mut self) -> Result<()> {
        let list = self.previous.pop().flatten().unwrap_or_default();
        let items = lull_abi::item_count(&list).map_err(|error| {
            Error::new(Exit::NoAnswer, format!("the result of the module's split is {error}"))
        })?;
        if items > SPLIT_ITEMS_MAX {
            let message =
                format!("the module's split lists {items} items, more than the {SPLIT_ITEMS_MAX} allowed");
            return Err(Error::new(Exit::NoAnswer, message));
        }
        self.plan = self.spec.plan(items);
        self.shared = Some(list);
        self.check_items("the module's split lists no items")
    }

    fn check_items(&self, message: &str) -> Result<()> {
        if self.plan.items == 0 {
            Err(Error::usage(format!("{message}: there is nothing to do")))
        } else {
            Ok(())
        }
    }

    fn stage(&mut self, stage: Stage, guest: &mut impl Guest, tell: &mut impl FnMut(&Event)) -> Result<()> {
        let units = self.plan.units(stage);
        tell(&Event::Stage { stage, units });
        let mut results = Vec::new();
        for index in 0..units {
            let blobs = self.blobs(stage, index)?;
            let unit = unit_payload(&self.plan, &self.spec.split, stage, index, blobs)
                .map_err(|error| Error::new(Exit::Failure, error.to_string()))?;
            let UnitRun { outcome, cpu_micros, .. } = guest.run(&unit)?;
            self.cpu.add(stage, cpu_micros);
            let number = unit.number;
            let result = match outcome {
                Outcome::Result(result) => Some(result),
                Outcome::GuestFailed(message) | Outcome::Limit(message) => {
                    self.fail(UnitFailure { stage, index, number, message })?;
                    None
                }
            };
            tell(&Event::Unit { stage, number, cpu_micros, failed: result.is_none() });
            results.push(result);
        }
        self.previous = results;
        Ok(())
    }

    /// Notes a failure, or ends the job with it.
    fn fail(&mut self, failure: UnitFailure) -> Result<()> {
        let UnitFailure { stage, index, number, message } = &failure;
        // Only work can be missing: without a split, a merge or the finish there is no answer.
        if self.spec.allow_missing && *stage == Stage::Work {
            self.failures.push(failure);
            return Ok(());
        }
        let of_whole =
            if number == index { String::new() } else { format!(" (number {number} of the whole job)") };
        Err(Error::new(Exit::NoAnswer, format!("{stage} unit {index}{of_whole} failed: {message}")))
    }

    fn blobs(&self, stage: Stage, index: u64) -> Result<Vec<Vec<u8>>> {
        match stage {
            Stage::Split => Ok(Vec::new()),
            Stage::Work => match (&self.spec.split, &self.shared) {
                (Split::Files(_), _) => {
                    self.plan.items_of(index).map(|item| self.files.read(to_usize(item))).collect()
                }
                (_, Some(shared)) => Ok(vec![shared.clone()]),
                (_, None) => Ok(Vec::new()),
            },
            Stage::Merge(_) | Stage::Finish => {
                let parts = self.plan.parts(stage, index);
                let parts = self.previous.get(to_usize(parts.start)..to_usize(parts.end)).unwrap_or_default();
                Ok(parts.iter().flatten().cloned().collect())
            }
        }
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use lull_abi::Payload;
    use lull_job::{Digest, InputFile};
    use lull_proto::v1;

    use super::*;

    /// Joins what it is given with the name of the stage around it.
    struct Joiner {
        fails: fn(&Unit) -> bool,
    }

    impl Guest for Joiner {
        fn run(&mut self, unit: &Unit) -> Result<UnitRun> {
            let text = |list: &[Vec<u8>]| {
                list.iter()
                    .map(|entry| String::from_utf8_lossy(entry).into_owned())
                    .collect::<Vec<_>>()
                    .join("+")
            };
            let content = match &unit.payload {
                Payload::Nothing => {
                    let items = lull_abi::encode_items(&[b"p".to_vec(), b"q".to_vec(), b"r".to_vec()]);
                    return Ok(UnitRun { outcome: Outcome::Result(items), cpu_micros: 1, fuel: None });
                }
                Payload::Range { start, end } => format!("{start}-{end}"),
                Payload::Lines(list) | Payload::Files(list) | Payload::Items(list) | Payload::Parts(list) => {
                    text(list)
                }
                Payload::Points(points) => format!("{} points", points.len()),
            };
            let outcome = if (self.fails)(unit) {
                Outcome::GuestFailed(format!("no {content}"))
            } else {
                Outcome::Result(format!("{}({content})", &unit.stage.to_string()[..1]).into_bytes())
            };
            Ok(UnitRun { outcome, cpu_micros: 10, fuel: None })
        }
    }

    struct Folder(&'static [&'static str]);

    impl Files for Folder {
        fn read(&self, at: usize) -> Result<Vec<u8>> {
            Ok(self.0[at].as_bytes().to_vec())
        }
    }

    fn spec(split: Split) -> Spec {
        let message = v1::JobSpec {
            module: Some(v1::Input { name: String::new(), digest: vec![0; 32], size_bytes: 1 }),
            split: Some(v1::Split {
                kind: Some(v1::split::Kind::Range(v1::IntegerRange { start: 0, end: 1 })),
            }),
            items_per_unit: 2,
            merge_fan_in: 2,
            ..Default::default()
        };
        Spec { split, ..Spec::check(&message).unwrap() }
    }

    fn file() -> InputFile {
        InputFile { name: String::new(), digest: Digest::of(b""), size_bytes: 0 }
    }

    fn answer(spec: &Spec, files: &'static [&'static str]) -> String {
        let mut guest = Joiner { fails: |_| false };
        let finished = run_job(spec, &Folder(files), &mut guest, |_| {}).unwrap();
        let results: Vec<Vec<u8>> = finished.results.into_iter().flatten().collect();
        String::from_utf8(results.join(&b' ')).unwrap()
    }

    #[test]
    fn every_split_reaches_its_answer() {
        let range = spec(Split::Range { start: 10, end: 15 });
        assert_eq!(answer(&range, &[]), "f(m(m(w(10-12)+w(12-14))+m(w(14-15))))");
        assert_eq!(answer(&spec(Split::Lines(file())), &["a\nb\nc\n"]), "f(m(w(a+b)+w(c)))");
        assert_eq!(
            answer(&spec(Split::Files(vec![file(), file(), file()])), &["x", "y", "z"]),
            "f(m(w(x+y)+w(z)))"
        );
        assert_eq!(answer(&spec(Split::Module), &[]), "f(m(w(p+q)+w(r)))");
        let axis = ("x".to_owned(), vec!["1".to_owned(), "2".to_owned()]);
        assert_eq!(answer(&spec(Split::Grid(vec![axis])), &[]), "f(w(2 points))");
    }

    #[test]
    fn a_pilot_runs_evenly_spaced_units_and_none_are_merged_without_reduce() {
        let range = Split::Range { start: 0, end: 20 };
        let pilot = Spec { pilot_units: 2, reduce: lull_job::Reduce::None, ..spec(range) };
        assert_eq!(answer(&pilot, &[]), "w(0-2) w(10-12)");
    }

    #[test]
    fn a_failed_unit_ends_the_job_unless_it_may_be_missing() {
        let mut guest = Joiner { fails: |unit| unit.stage == Stage::Work && unit.number == 1 };
        let strict = spec(Split::Range { start: 0, end: 6 });
        let error = run_job(&strict, &Folder(&[]), &mut guest, |_| {}).unwrap_err();
        assert_eq!((error.exit, error.message.as_str()), (Exit::NoAnswer, "work unit 1 failed: no 2-4"));
        let tolerant = Spec { allow_missing: true, ..strict };
        let finished = run_job(&tolerant, &Folder(&[]), &mut guest, |_| {}).unwrap();
        assert_eq!(finished.results, [Some(b"f(m(m(w(0-2))+m(w(4-6))))".to_vec())]);
        assert_eq!(finished.failures.len(), 1);
    }

    #[test]
    fn a_failed_merge_is_never_missing() {
        let mut guest = Joiner { fails: |unit| unit.stage == Stage::Finish };
        let tolerant = Spec { allow_missing: true, ..spec(Split::Range { start: 0, end: 2 }) };
        let error = run_job(&tolerant, &Folder(&[]), &mut guest, |_| {}).unwrap_err();
        assert!(error.message.starts_with("finish unit 0 failed"), "{error}");
    }

    #[test]
    fn nothing_to_do_is_said() {
        let mut guest = Joiner { fails: |_| false };
        let error = run_job(&spec(Split::Lines(file())), &Folder(&[""]), &mut guest, |_| {}).unwrap_err();
        assert!(error.message.contains("has no lines"), "{error}");
    }
}
