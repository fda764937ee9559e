//! The thread of a lease.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lull_job::{Digest, unit_payload};
use lull_proto::v1;
use lull_sandbox::{
    CompileLimits, Error, Flavour, Freezer, Outcome, Program, Runner, RunnerConfig, UnitRun, compile,
    cut_message,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::course::{Course, Ended};
use super::{Assignment, RunMode, UnitBlob};
use crate::blobs::Blobs;
use crate::cache::Bytes;
use crate::checkpoints::Store;
use crate::compiled::Compiled;
use crate::core::{Attempt, AttemptKey, Backoff, Event};
use crate::freezers::Freezers;
use crate::outbox::{Entry, OutboxSender};
use crate::remote::{explain, is_temporary};

/// Runners that may die under one unit, with no checkpoint between them, before this PC reports a limit: once is bad luck (somebody killed
/// it, memory was short), three times is the unit.
pub const RUNNERS_PER_UNIT_MAX: u32 = 3;

/// Runners in a row that may fail before they can be given a unit: then it is none of the units' doing, and the lease is
/// handed back, each time after a longer wait.
const FAILED_STARTS_MAX: u32 = 3;

/// How many times a job's limit on time a strict run may take: counting fuel made a tight loop 3.5 times as slow when
/// it was measured, and a unit that stays within its limit at full speed must not fail by being looked at.
const STRICT_TIMES: u64 = 5;

/// What every lease's thread uses.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Where calls to the coordinator run.
    pub runtime: Handle,
    /// Modules, inputs and parts.
    pub blobs: Arc<Blobs>,
    /// Freezes what runs.
    pub freezers: Freezers,
    /// Modules that are compiled already.
    pub compiled: Arc<Compiled>,
    /// How a runner is started.
    pub runner: RunnerConfig,
    /// Where unfinished units stand.
    pub checkpoints: Arc<Store>,
    /// Time between two checkpoints of a unit; `None`: none are taken.
    pub checkpoint_every: Option<Duration>,
    /// To the core.
    pub events: UnboundedSender<Event>,
    /// To the disk.
    pub outbox: OutboxSender,
}

/// The thread of a lease. Dropping it ends the thread, once its runner is killed by [`Freezers::kill`].
#[derive(Debug)]
pub struct Worker {
    units: mpsc::Sender<u64>,
    _alive: watch::Sender<()>,
}

impl Worker {
    /// Starts the thread of a lease; a lease that it cannot work on is told to the core.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(lease: Arc<v1::Lease>, tools: Tools) -> io::Result<Self> {
        let (units, to_run) = mpsc::channel();
        let (alive, dropped) = watch::channel(());
        let token = lease.token;
        let freezer = tools.freezers.add(token);
        let run = move || {
            let _guard = TellOfPanic { token, events: tools.events.clone() };
            let mut thread = LeaseThread { tools, freezer, dropped, backoff: Backoff::default() };
            if let Err(reason) = thread.run(&lease, &to_run)
                && !thread.is_let_go()
            {
                tracing::warn!(lease = token, %reason, "a lease cannot be worked on; it is handed back");
                let _ = thread.tools.events.send(Event::LeaseFailed { token });
            }
        };
        thread::Builder::new().name(format!("lease {token}")).spawn(run)?;
        Ok(Self { units, _alive: alive })
    }

    /// Runs a unit, after those that were named before.
    pub fn run(&self, index: u64) {
        // A thread that has ended has told the core.
        let _ = self.units.send(index);
    }
}

/// Tells the core when the thread panics: its lease is somebody else's then.
struct TellOfPanic {
    token: u64,
    events: UnboundedSender<Event>,
}

impl Drop for TellOfPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.events.send(Event::LeaseFailed { token: self.token });
        }
    }
}

struct LeaseThread {
    tools: Tools,
    freezer: Freezer,
    dropped: watch::Receiver<()>,
    backoff: Backoff,
}

/// What a lease's units share, in memory.
struct Loaded {
    assignment: Assignment,
    module: Bytes,
    inputs: Vec<(String, Bytes)>,
}

/// A runner, or how every unit of this module ends here without one.
enum Host {
    Ready(Runner),
    NoUse(Outcome),
}

/// The host of a lease, and what it is for: one at a time, so that a lease takes no more memory in one mode than in
/// another.
type Hosting = Option<(Flavour, Host)>;

/// A unit that no guest has begun.
fn unused(outcome: Outcome, flavour: Flavour) -> UnitRun {
    let fuel = (flavour == Flavour::Strict && !matches!(outcome, Outcome::Limit(_))).then_some(0);
    UnitRun { outcome, cpu_micros: 0, fuel }
}

impl LeaseThread {
    /// Runs until it is let go of.
    fn run(&mut self, lease: &v1::Lease, to_run: &mpsc::Receiver<u64>) -> Result<(), String> {
        let assignment = Assignment::check(lease).map_err(|error| error.to_string())?;
        let module = self.fetch(assignment.module.digest, assignment.module.size_bytes, assignment.token)?;
        let mut inputs = Vec::new();
        for input in &assignment.inputs {
            let bytes = self.fetch(input.digest, input.size_bytes, assignment.token)?;
            inputs.push((input.name.clone(), bytes));
        }
        let loaded = Loaded { assignment, module, inputs };
        let mut host = None;
        while let Ok(index) = to_run.recv() {
            let Assignment { token, job_id, stage, mode, .. } = loaded.assignment;
            let first = if mode == RunMode::Strict { Flavour::Strict } else { Flavour::Normal };
            let (run, resumed_from, witnessed) = self.run_unit(&loaded, &mut host, first, index)?;
            let key = AttemptKey { token, index };
            let (attempt, large) = Attempt::of(key, job_id, stage, run);
            let mut attempt = Attempt { resumed_from, witnessed, ..attempt };
            if mode == RunMode::Both {
                let (run, ..) = self.run_unit(&loaded, &mut host, Flavour::Strict, index)?;
                attempt = attempt.with_strict(run);
            }
            tracing::debug!(lease = token, unit = index, outcome = ?attempt.outcome, "a unit ended");
            // First: the core must know of it before the disk has it.
            let _ = self.tools.events.send(Event::UnitFinished(key));
            self.tools.outbox.send(Entry::Put(Box::new(attempt), large));
        }
        Ok(())
    }

    /// Runs a unit: how it ended, whose checkpoint it went on from, and which states it was asked to tell.
    fn run_unit(
        &mut self,
        loaded: &Loaded,
        host: &mut Hosting,
        flavour: Flavour,
        index: u64,
    ) -> Result<Ended, String> {
        let Loaded { assignment, .. } = loaded;
        let mut blobs = Vec::new();
        for blob in assignment.blobs_of(index) {
            blobs.push(match blob {
                UnitBlob::Here(bytes) => bytes.clone(),
                UnitBlob::Remote { digest, size_bytes } => {
                    self.fetch(*digest, *size_bytes, assignment.token)?.as_ref().clone()
                }
            });
        }
        let unit = unit_payload(&assignment.plan, &assignment.split, assignment.stage, index, blobs)
            .map_err(|error| error.to_string())?;
        let is_resumable = assignment.mode == RunMode::Normal;
        let leased = match assignment.checkpoint_of(index).filter(|_| is_resumable) {
            None => None,
            Some(leased) => match self.fetch(leased.blob_digest, leased.size_bytes, assignment.token) {
                Ok(bytes) => Some((leased.clone(), bytes.as_ref().clone())),
                Err(reason) if self.is_let_go() => return Err(reason),
                Err(reason) => {
                    tracing::warn!(unit = index, %reason, "the checkpoint of a lease cannot be had; its unit starts anew");
                    None
                }
            },
        };
        let (store, events) = (Arc::clone(&self.tools.checkpoints), self.tools.events.clone());
        let (name, key) = (assignment.unit(index), AttemptKey { token: assignment.token, index });
        let memory_bytes_max = assignment.limits.memory_bytes;
        let every = self.tools.checkpoint_every;
        let witnesses = assignment.witnesses_of(index);
        let mut course = if is_resumable {
            Course::new(&store, name, every, witnesses, memory_bytes_max, leased)
        } else {
            // States differ between the two ways to run a unit: checkpoints are of the normal one.
            let witnesses = if flavour == Flavour::Normal { witnesses } else { &[] };
            Course::from_start(&store, name, witnesses, memory_bytes_max)
        };
        let mut last = String::new();
        let (mut deaths, mut failed_starts) = (0, 0);
        let mut is_compiled_anew = false;
        while deaths < RUNNERS_PER_UNIT_MAX {
            let run = match self.host(loaded, host, flavour) {
                Ok(Host::Ready(runner)) => {
                    failed_starts = 0;
                    let how = course.next();
                    if how.from.is_some() {
                        tracing::info!(
                            lease = assignment.token,
                            unit = index,
                            "a unit goes on from its checkpoint"
                        );
                        let _ = events.send(Event::CheckpointSaved(key, name));
                    }
                    runner.run_on(&unit, how, &mut |progress| {
                        if course.hear(progress) {
                            let _ = events.send(Event::CheckpointSaved(key, name));
                        }
                    })
                }
                Ok(Host::NoUse(outcome)) => Ok(unused(outcome.clone(), flavour)),
                Err(error) => Err(error),
            };
            match run {
                Ok(run) => {
                    if matches!(host, Some((_, Host::Ready(runner))) if !runner.is_usable()) {
                        *host = None;
                    }
                    return Ok(course.end(run));
                }
                Err(error @ (Error::NotFound { .. } | Error::Start { .. } | Error::WallsMissing { .. })) => {
                    return Err(error.to_string());
                }
                Err(_) if self.is_let_go() => return Err("let go".to_owned()),
                Err(Error::NotResumed { message }) => course.not_resumed(&message),
                // It is whole, and of another CPU: no fault of the unit.
                Err(Error::ArtefactRefused { message }) if !is_compiled_anew => {
                    is_compiled_anew = true;
                    tracing::info!(lease = assignment.token, reason = %message, "a compiled module is not for this PC; it is compiled again");
                }
                Err(error) => {
                    let was_started = host.take().is_some() || matches!(error, Error::CompilerDied { .. });
                    if self.freezer.take_evicted() {
                        tracing::info!(
                            lease = assignment.token,
                            unit = index,
                            "its memory went back; it waits to go on"
                        );
                        self.freezer.wait_thawed();
                        continue;
                    }
                    last = error.to_string();
                    if was_started {
                        // One that comes forward may lose as many runners as it likes.
                        deaths = if course.take_advanced() { 1 } else { deaths + 1 };
                        tracing::warn!(lease = assignment.token, unit = index, error = %last, "a unit has lost its runner");
                    } else {
                        failed_starts += 1;
                        tracing::warn!(lease = assignment.token, error = %last, "a runner cannot be started");
                        if failed_starts == FAILED_STARTS_MAX {
                            return Err(format!(
                                "no runner of {FAILED_STARTS_MAX} could be started; the last: {last}"
                            ));
                        }
                    }
                }
            }
        }
        let message =
            format!("{RUNNERS_PER_UNIT_MAX} runners ended while they ran this unit; the last: {last}");
        Ok(course.end(unused(Outcome::Limit(cut_message(message.as_bytes())), flavour)))
    }

    /// The runner of the lease; a new one if it has none of this flavour.
    fn host<'h>(
        &self,
        loaded: &Loaded,
        host: &'h mut Hosting,
        flavour: Flavour,
    ) -> Result<&'h mut Host, Error> {
        // The freezer governs one process: the old one has to be gone before the new one starts.
        host.take_if(|(other, _)| *other != flavour);
        match host {
            Some((_, host)) => Ok(host),
            none @ None => Ok(&mut none.insert((flavour, self.start(loaded, flavour)?)).1),
        }
    }

    fn start(&self, loaded: &Loaded, flavour: Flavour) -> Result<Host, Error> {
        let inputs: Vec<(&str, &[u8])> =
            loaded.inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let mut limits = loaded.assignment.limits;
        if flavour == Flavour::Strict {
            limits.unit_secs = limits.unit_secs.saturating_mul(STRICT_TIMES);
        }
        let program = Program { module: &loaded.module, inputs: &inputs, limits, flavour };
        let artefact = match self.compiled(loaded, flavour) {
            Ok(artefact) => artefact,
            Err(Error::LoadFailed { message }) => return Ok(Host::NoUse(Outcome::GuestFailed(message))),
            // How long a module takes to compile is as much this PC's doing as the module's.
            Err(Error::CompileLimit { message }) => return Ok(Host::NoUse(Outcome::Limit(message))),
            Err(error) => return Err(error),
        };
        let mut runner = Runner::start(&self.tools.runner, &self.freezer)?;
        match runner.load_compiled(&artefact, &program) {
            Ok(()) => Ok(Host::Ready(runner)),
            Err(Error::LoadFailed { message }) => Ok(Host::NoUse(Outcome::GuestFailed(message))),
            Err(error @ Error::ArtefactRefused { .. }) => {
                // Older than this runner, or of another CPU: the next try compiles it.
                self.tools.compiled.remove(loaded.assignment.module.digest, flavour);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The module, compiled: now, if it was not before.
    fn compiled(&self, loaded: &Loaded, flavour: Flavour) -> Result<Vec<u8>, Error> {
        let Tools { compiled, runner, .. } = &self.tools;
        let digest = loaded.assignment.module.digest;
        if let Some(artefact) = compiled.get(digest, flavour) {
            return Ok(artefact);
        }
        let artefact = compile(runner, &self.freezer, &loaded.module, flavour, CompileLimits::default())?;
        compiled.put(digest, flavour, &artefact);
        Ok(artefact)
    }

    fn is_let_go(&self) -> bool {
        self.freezer.is_killed() || self.dropped.has_changed().is_err()
    }

    /// A blob; waits for a coordinator that is away, until it is let go of.
    fn fetch(&mut self, digest: Digest, size_bytes: u64, token: u64) -> Result<Bytes, String> {
        let Self { tools, dropped, backoff, .. } = self;
        let fetched = tools.runtime.block_on(async {
            loop {
                let status = tokio::select! {
                    result = tools.blobs.get(digest, size_bytes, token) => match result {
                        Ok(bytes) => return Some(Ok(bytes)),
                        Err(status) => status,
                    },
                    _ = dropped.changed() => return None,
                };
                if !is_temporary(&status) {
                    return Some(Err(format!("blob {digest}: {}", explain(&status))));
                }
                let wait = backoff.next(rand::random());
                tracing::info!(lease = token, %digest, error = explain(&status), ?wait, "a blob cannot be fetched yet");
                if tokio::time::timeout(wait, dropped.changed()).await.is_ok() {
                    return None;
                }
            }
        });
        self.backoff.reset();
        fetched.unwrap_or_else(|| Err("let go".to_owned()))
    }
}
