//! `lull run-local`: a dry run of a job on this PC, in the same sandbox as everywhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lull_abi::Unit;
use lull_job::{JobFile, Reduce, Spec, SplitFile};
use lull_sandbox::{Freezer, Limits, Program, Runner, RunnerConfig, UnitRun, WallPolicy, find_runner};

use super::job_input::{self, Cut, JobInput};
use super::units::UnitResult;
use crate::error::{Error, Exit, Result};
use crate::local::{self, Event, Files, Finished, Guest};
use crate::out::{self, Format, Sink};
use crate::text::human;

/// Rhythm of lines where nobody watches a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Run a job on this PC, without a grid: the same splitter, sandbox, merges and answer
///
/// Each unit runs once. Says what units cost in CPU time and what the whole job would.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull run-local job.toml --units 3
  lull run-local job.toml --items 0..100_000 --out answer.csv

Ends with 6 when a unit fails, unless the job allows missing ones.

The answer goes to stdout or to --out. Where results are not merged it is one line
for each unit, as `lull results` writes it; with --output json {number, digest,
size_bytes, text or base16}.")]
pub(crate) struct RunLocalArgs {
    /// The job file
    #[arg(value_name = "JOB.TOML")]
    file: PathBuf,
    /// Run only N evenly spaced units, as a pilot does
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    units: Option<u64>,
    #[command(flatten)]
    cut: Cut,
    /// Write the answer to this file, whole or not at all, instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The runner; otherwise LULL_RUNNER, or `lull-runner` beside this program
    #[arg(long, value_name = "PATH")]
    runner: Option<PathBuf>,
}

/// Runs the job.
///
/// # Errors
/// A wrong job file; no runner; a unit that fails.
pub(crate) fn run(args: &RunLocalArgs, format: Format) -> Result<()> {
    let file = job_input::read_file(&args.file, |file| {
        if let Some(units) = args.units {
            file.pilot_units = units;
        }
        args.cut.apply(file)
    })?;
    let input = job_input::check(&file)?;
    let warning = input.warning();
    let JobInput { spec, .. } = input;
    // Better now than after an hour's work.
    drop(Sink::open(args.out.as_deref())?);
    let path = find_runner(args.runner.as_deref()).map_err(unusable)?;
    // The module is the caller's own: a kernel without walls is no reason to refuse it.
    let mut guest =
        SandboxedGuest::new(&file, &spec, RunnerConfig { path, require: WallPolicy::BestEffort })?;
    let mut meter = Meter::new();
    let files = SplitFiles { paths: split_paths(&file) };
    let finished = local::run_job(&spec, &files, &mut guest, |event| meter.tell(event));
    meter.clear();
    let finished = finished?;
    report(&finished, &spec);
    if let Some(warning) = warning {
        out::say(warning);
    }
    write(&finished, &spec, args, format)
}

fn unusable(error: lull_sandbox::Error) -> Error {
    let exit = match error {
        lull_sandbox::Error::LoadFailed { .. } => Exit::Usage,
        _ => Exit::Failure,
    };
    Error::new(exit, error.to_string())
}

fn split_paths(file: &JobFile) -> Vec<PathBuf> {
    match &file.split {
        SplitFile::Lines(path) => vec![path.clone()],
        SplitFile::Files(paths) => paths.clone(),
        SplitFile::Range { .. } | SplitFile::Grid(_) | SplitFile::Module {} => Vec::new(),
    }
}

struct SplitFiles {
    paths: Vec<PathBuf>,
}

impl Files for SplitFiles {
    fn read(&self, at: usize) -> Result<Vec<u8>> {
        let path = self
            .paths
            .get(at)
            .ok_or_else(|| Error::new(Exit::Failure, format!("no file {at} in the split")))?;
        job_input::read("file to split", path)
    }
}

/// Runs units in a runner; starts a new one after a unit that was ended at its time limit.
struct SandboxedGuest {
    config: RunnerConfig,
    module: Vec<u8>,
    inputs: Vec<(String, Vec<u8>)>,
    limits: Limits,
    runner: Option<Runner>,
}

impl SandboxedGuest {
    fn new(file: &JobFile, spec: &Spec, config: RunnerConfig) -> Result<Self> {
        let inputs = file
            .inputs
            .iter()
            .map(|(name, path)| Ok((name.clone(), job_input::read(&format!("input `{name}`"), path)?)))
            .collect::<Result<_>>()?;
        let limits = &spec.limits;
        Ok(Self {
            config,
            module: job_input::read("module", &file.module)?,
            inputs,
            limits: Limits {
                memory_bytes: limits.memory_bytes,
                unit_secs: limits.unit_secs,
                result_bytes: limits.result_bytes,
            },
            runner: None,
        })
    }

    fn start(&self) -> Result<Runner> {
        let mut runner = Runner::start(&self.config, &Freezer::new()).map_err(unusable)?;
        let inputs: Vec<(&str, &[u8])> =
            self.inputs.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let program = Program { module: &self.module, inputs: &inputs, limits: self.limits };
        runner.load(&program).map_err(unusable)?;
        Ok(runner)
    }
}

impl Guest for SandboxedGuest {
    fn run(&mut self, unit: &Unit) -> Result<UnitRun> {
        let runner = match &mut self.runner {
            Some(runner) if runner.is_usable() => runner,
            _ => {
                let fresh = self.start()?;
                self.runner.insert(fresh)
            }
        };
        runner.run(unit).map_err(unusable)
    }
}

/// Shows how far the run is: a bar to a person, otherwise a line every ten seconds and for each stage.
struct Meter {
    bar: Option<ProgressBar>,
    stage_units: u64,
    done: u64,
    line_at: Option<Instant>,
}

impl Meter {
    fn new() -> Self {
        let bar = out::is_watched().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len} units, {msg}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, stage_units: 0, done: 0, line_at: None }
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Stage { stage, units } => {
                (self.stage_units, self.done) = (*units, 0);
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(0);
                        bar.set_length(*units);
                        bar.set_prefix(stage.to_string());
                        bar.set_message("");
                    }
                    None => out::say(&format!("{stage}: {}", human::counted(*units, "unit"))),
                }
            }
            Event::Unit { stage, number, cpu_micros, failed } => {
                self.done += 1;
                let ended = if *failed { "failed after" } else { "took" };
                let text = format!(
                    "unit {} {ended} {} of CPU time",
                    human::count(*number),
                    human::micros(*cpu_micros)
                );
                let is_due = self.line_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(self.done);
                        bar.set_message(text);
                    }
                    None if is_due || *failed => {
                        self.line_at = Some(Instant::now());
                        out::say(&format!("{stage}: {text}; {}/{} done", self.done, self.stage_units));
                    }
                    None => {}
                }
            }
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn report(finished: &Finished, spec: &Spec) {
    let Finished { plan, failures, cpu, .. } = finished;
    for failure in failures {
        out::say(&format!(
            "{} unit {} is missing: {}",
            failure.stage,
            human::count(failure.number),
            human::plain(&failure.message)
        ));
    }
    let units = plan.work_units();
    out::say(&format!(
        "ran {} of {} ({} of {}): {} of CPU time a unit, {} in all with merges",
        human::counted(units, "unit"),
        human::count(plan.whole_units()),
        human::counted(plan.items_running(), "item"),
        human::count(plan.items),
        human::micros(cpu.work_micros / units.max(1)),
        human::micros(cpu.total_micros()),
    ));
    let whole = local::estimate(plan, cpu);
    out::say(&format!(
        "the whole job ({} of {}): {} of CPU time for one copy, {} for {}",
        human::counted(whole.units, "unit"),
        human::counted(whole.items, "item"),
        human::micros(whole.cpu_micros),
        human::micros(whole.cpu_micros.saturating_mul(u64::from(spec.copies))),
        if spec.copies == 1 { "1 copy".to_owned() } else { format!("{} copies", spec.copies) },
    ));
}

fn write(finished: &Finished, spec: &Spec, args: &RunLocalArgs, format: Format) -> Result<()> {
    let mut sink = Sink::open(args.out.as_deref())?;
    for (index, result) in (0_u64..).zip(&finished.results) {
        let Some(result) = result else { continue };
        match spec.reduce {
            Reduce::Tree => sink.write(result)?,
            Reduce::None => {
                let unit = UnitResult::new(finished.plan.number(index), result);
                sink.write(unit.line(format)?.as_bytes())?;
            }
        }
    }
    sink.finish()
}
