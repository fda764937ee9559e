//! A runner, as its host holds it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use lull_abi::Unit;
use serde::Serialize;

use crate::checkpoint::{Image, PAGES_FRAME_BYTES_MAX, Progress, StateDigest};
use crate::deadline::Deadline;
use crate::frame::{self, FRAME_OVERHEAD_BYTES, HostFrame, PROTOCOL, RunnerFrame};
use crate::listener::Listener;
use crate::os::{self, Child, ChildStdin, ChildStdout, Process};
use crate::pipe::{Pipe, Wait};
use crate::{
    ARTEFACT_BYTES_MAX, CompileLimits, Error, Flavour, Freezer, LOAD_SECS_MAX, Limits, MESSAGE_BYTES_MAX,
    Outcome, UnitRun, WallPolicy, WallReport, cut_message,
};

/// A process whose standard output has ended is about to end itself; longer than this it is stuck.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// Bytes of the longest first frame: a line for each wall.
const READY_BYTES_MAX: u64 = 4096;

/// Time in which a runner that is only looked at must say that it is ready, in seconds; it takes milliseconds.
const PROBE_SECS_MAX: u64 = 30;

/// How a runner is started.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// The binary, by [`crate::find_runner`].
    pub path: PathBuf,
    /// What must hold it back besides WebAssembly.
    pub require: WallPolicy,
}

/// Starts a runner and tells what holds it back, without loading anything: for people who look after a PC.
///
/// # Errors
/// When it cannot be started, or less holds it back than the policy asks.
pub fn probe(config: &RunnerConfig) -> Result<Vec<WallReport>, Error> {
    let mut runner = Runner::start(config, &Freezer::new())?;
    let deadline = runner.deadline(PROBE_SECS_MAX);
    runner.hear_ready(&deadline)?;
    Ok(runner.walls().to_vec())
}

/// What a runner runs: the same for all of its units.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// WebAssembly.
    pub module: &'a [u8],
    /// Inputs that every unit sees: name and content.
    pub inputs: &'a [(&'a str, &'a [u8])],
    /// What each guest may use.
    pub limits: Limits,
    /// How the module is compiled, or was.
    pub flavour: Flavour,
}

/// How a unit is run on.
#[derive(Debug, Default)]
pub struct RunOn {
    /// A state to go on from, and its digest; `None`: from the start.
    pub from: Option<(Image, StateDigest)>,
    /// Time between two checkpoints, zero for one after every step; `None`: none are taken.
    pub checkpoint_every: Option<Duration>,
    /// Steps after which the state is to be told, rising.
    pub witnesses: Vec<u64>,
    /// Time that the unit has run already, freezes not counted: it counts against its limit.
    pub ran: Duration,
}

/// A runner process. Dropping it ends the process.
///
/// The process also ends when the *thread* that called [`Runner::start`] does: start it from one that lives
/// as long as the runner is needed.
#[derive(Debug)]
pub struct Runner {
    child: Child,
    process: Process,
    stdin: ChildStdin,
    stdout: Pipe<ChildStdout>,
    freezer: Freezer,
    limits: Limits,
    flavour: Flavour,
    require: WallPolicy,
    walls: Vec<WallReport>,
    /// CPU time that is known to belong to what has ended.
    cpu_accounted_micros: u64,
    ended: Option<String>,
}

impl Runner {
    /// Starts a runner that `freezer` governs. It has no environment, no standard error, and `/` as its
    /// directory.
    ///
    /// # Errors
    /// When it cannot be started, or the freezer was killed.
    pub fn start(config: &RunnerConfig, freezer: &Freezer) -> Result<Self, Error> {
        let start = |source| Error::Start { path: config.path.clone(), source };
        let spawn = || os::spawn(&config.path).map_err(start);
        let Some(mut child) = freezer.attach(spawn)? else {
            return Err(Error::RunnerDied { how: "killed before it started".to_owned() });
        };
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        Ok(Self {
            process: Process::of(&child),
            child,
            stdin,
            stdout: Pipe::new(stdout),
            freezer: freezer.clone(),
            limits: Limits { memory_bytes: 0, unit_secs: 0, result_bytes: 0, fuel: 0 },
            flavour: Flavour::Normal,
            require: config.require,
            walls: Vec::new(),
            cpu_accounted_micros: 0,
            ended: None,
        })
    }

    /// Number of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it can still run units, as far as is known.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.ended.is_none()
    }

    /// Sends the program, and waits until it is compiled. Once a runner.
    ///
    /// # Errors
    /// [`Error::LoadFailed`] when the module is at fault; otherwise the runner is.
    pub fn load(&mut self, program: &Program<'_>) -> Result<(), Error> {
        (self.limits, self.flavour) = (program.limits, program.flavour);
        let deadline = self.deadline(LOAD_SECS_MAX);
        self.hear_ready(&deadline)?;
        for (name, content) in program.inputs {
            self.send(&HostFrame::Input { name, content })?;
        }
        self.send(&HostFrame::Load {
            module: program.module,
            limits: program.limits,
            flavour: program.flavour,
        })?;
        match self.answer(&deadline)? {
            RunnerFrame::Loaded => {
                self.cpu_accounted_micros = self.process.cpu_micros();
                Ok(())
            }
            RunnerFrame::LoadFailed { message } => {
                Err(Error::LoadFailed { message: cut_message(message.as_bytes()) })
            }
            other => Err(self.broke(format!("it answered {other:?} to a module"))),
        }
    }

    /// Sends what [`crate::compile`] gave, with the inputs and limits of a program. Once a runner.
    ///
    /// # Errors
    /// [`Error::ArtefactRefused`] when it has to be compiled again; otherwise as for [`Runner::load`].
    pub fn load_compiled(&mut self, artefact: &[u8], program: &Program<'_>) -> Result<(), Error> {
        (self.limits, self.flavour) = (program.limits, program.flavour);
        let deadline = self.deadline(LOAD_SECS_MAX);
        self.hear_ready(&deadline)?;
        for (name, content) in program.inputs {
            self.send(&HostFrame::Input { name, content })?;
        }
        self.send(&HostFrame::LoadCompiled { artefact, limits: program.limits, flavour: program.flavour })?;
        match self.answer(&deadline)? {
            RunnerFrame::Loaded => {
                self.cpu_accounted_micros = self.process.cpu_micros();
                Ok(())
            }
            RunnerFrame::ArtefactRefused { message } => {
                Err(Error::ArtefactRefused { message: cut_message(message.as_bytes()) })
            }
            RunnerFrame::LoadFailed { message } => {
                Err(Error::LoadFailed { message: cut_message(message.as_bytes()) })
            }
            other => Err(self.broke(format!("it answered {other:?} to a compiled module"))),
        }
    }

    /// Has a module compiled, by a runner that is not used for anything else.
    pub(crate) fn compile(
        &mut self,
        module: &[u8],
        flavour: Flavour,
        limits: CompileLimits,
    ) -> Result<Vec<u8>, Error> {
        self.limits.result_bytes = ARTEFACT_BYTES_MAX;
        let deadline = self.deadline(LOAD_SECS_MAX);
        self.hear_ready(&deadline)?;
        self.send(&HostFrame::Compile { module, limits, flavour })?;
        match self.answer(&deadline)? {
            RunnerFrame::Compiled { artefact } => Ok(artefact),
            RunnerFrame::LoadFailed { message } => {
                Err(Error::LoadFailed { message: cut_message(message.as_bytes()) })
            }
            _ => Err(self.broke("it answered something else to a module to compile".to_owned())),
        }
    }

    /// Runs a unit in a fresh guest.
    ///
    /// At the time limit the runner is killed, so that it takes no further units.
    ///
    /// # Errors
    /// When the runner ends or breaks the protocol; the unit may be tried in another.
    pub fn run(&mut self, unit: &Unit) -> Result<UnitRun, Error> {
        let unit = unit.encode();
        if unit.len() as u64 > self.limits.memory_bytes {
            return Ok(self.too_large(unit.len()));
        }
        let deadline = self.deadline(self.limits.unit_secs);
        self.send(&HostFrame::Run { unit: &unit })?;
        match self.next_frame(&deadline)? {
            Some(RunnerFrame::Finished { outcome, cpu_micros, fuel }) => {
                self.finished(outcome, cpu_micros, fuel)
            }
            Some(other) => Err(self.broke(format!("it answered {other:?} to a unit"))),
            None => Ok(self.out_of_time()),
        }
    }

    /// Runs a unit in a fresh guest, from its start or from where another guest stood, and tells what comes on
    /// the way. A module whose guests cannot be captured runs without checkpoints.
    ///
    /// CPU time is that of this runner; the limit on time counts what has run before.
    ///
    /// # Errors
    /// As for [`Runner::run`], and [`Error::NotResumed`] when it cannot go on from that state: the runner is as
    /// good as before, and nothing has run.
    pub fn run_on(
        &mut self,
        unit: &Unit,
        how: RunOn,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<UnitRun, Error> {
        let unit = unit.encode();
        if unit.len() as u64 > self.limits.memory_bytes {
            return Ok(self.too_large(unit.len()));
        }
        let mut deadline = self.deadline(self.limits.unit_secs);
        deadline.time = deadline.time.saturating_sub(how.ran);
        let mut listener = Listener::new(&how, self.limits.memory_bytes);
        let (image, digest) = how.from.unwrap_or_default();
        let state = if listener.is_resumed { image.encode() } else { Ok(Vec::new()) };
        let state = state.map_err(|error| Error::NotResumed { message: error.to_string() })?;
        let checkpoint_every_millis =
            how.checkpoint_every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        let witnesses = how.witnesses;
        self.send(&HostFrame::RunOn {
            unit: &unit,
            state: &state,
            digest,
            checkpoint_every_millis,
            witnesses,
        })?;
        drop(state);
        listener.image = image;
        loop {
            match self.next_frame(&deadline)? {
                None => return Ok(self.out_of_time()),
                Some(RunnerFrame::Finished { outcome, cpu_micros, fuel }) => {
                    return self.finished(outcome, cpu_micros, fuel);
                }
                Some(RunnerFrame::NotResumed { message })
                    if listener.is_resumed && listener.is_untouched() =>
                {
                    return Err(Error::NotResumed { message: cut_message(message.as_bytes()) });
                }
                Some(frame) => {
                    let ran = deadline.ran(&self.freezer, Instant::now());
                    if let Err(problem) = listener.hear(frame, ran, tell) {
                        return Err(self.broke(problem));
                    }
                }
            }
        }
    }

    fn too_large(&self, unit_bytes: usize) -> UnitRun {
        let message = format!(
            "the unit's input of {unit_bytes} bytes does not fit the guest's memory of {}",
            self.limits.memory_bytes
        );
        UnitRun { outcome: Outcome::Limit(message), cpu_micros: 0, fuel: None }
    }

    fn finished(&mut self, outcome: Outcome, cpu_micros: u64, fuel: Option<u64>) -> Result<UnitRun, Error> {
        if fuel.is_some() != (self.flavour == Flavour::Strict) {
            return Err(self.broke(format!("it told of {fuel:?} fuel after a {:?} run", self.flavour)));
        }
        self.cpu_accounted_micros = self.cpu_accounted_micros.saturating_add(cpu_micros);
        Ok(UnitRun { outcome: outcome.cut(), cpu_micros, fuel })
    }

    fn out_of_time(&mut self) -> UnitRun {
        let cpu_micros = self.process.cpu_micros().saturating_sub(self.cpu_accounted_micros);
        self.end("killed at the time limit".to_owned());
        let message = format!("ran longer than {} s", self.limits.unit_secs);
        UnitRun { outcome: Outcome::Limit(message), cpu_micros, fuel: None }
    }

    /// What holds it back besides WebAssembly; known once it is loaded.
    #[must_use]
    pub fn walls(&self) -> &[WallReport] {
        &self.walls
    }

    /// Waits for the first frame, and refuses a runner that the system does not hold back enough.
    fn hear_ready(&mut self, deadline: &Deadline) -> Result<(), Error> {
        let first = self.answer(deadline).map_err(|error| match error {
            Error::RunnerDied { how: problem } | Error::Protocol { problem } => Error::NotReady { problem },
            other => other,
        })?;
        match first {
            RunnerFrame::Ready { protocol: PROTOCOL, guest_thread, walls } => {
                self.freezer.note_guest_thread(guest_thread);
                self.walls = walls;
            }
            other => {
                let problem = format!("it said {other:?} first");
                self.end(problem.clone());
                return Err(Error::NotReady { problem });
            }
        }
        self.require.check(&self.walls).map_err(|missing| {
            self.end(format!("refused: {missing}"));
            Error::WallsMissing { missing }
        })
    }

    fn send(&mut self, frame: &impl Serialize) -> Result<(), Error> {
        self.check_usable()?;
        let bytes = match frame::encode(frame) {
            Ok(bytes) => bytes,
            Err(error) => return Err(self.broke(error.to_string())),
        };
        match self.stdin.write_all(&bytes) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.died()),
        }
    }

    /// The next frame; a runner that does not answer in time is as good as dead.
    fn answer(&mut self, deadline: &Deadline) -> Result<RunnerFrame, Error> {
        match self.next_frame(deadline)? {
            Some(frame) => Ok(frame),
            None => {
                let how = format!("killed: no answer in {} s", deadline.time.as_secs());
                self.end(how.clone());
                Err(Error::RunnerDied { how })
            }
        }
    }

    /// The next frame, or `None` at the deadline.
    fn next_frame(&mut self, deadline: &Deadline) -> Result<Option<RunnerFrame>, Error> {
        self.check_usable()?;
        let frame_bytes_max = self
            .limits
            .result_bytes
            .max(MESSAGE_BYTES_MAX as u64)
            .max(READY_BYTES_MAX)
            .max(PAGES_FRAME_BYTES_MAX as u64)
            .saturating_add(FRAME_OVERHEAD_BYTES);
        loop {
            let Some(time) = deadline.left(&self.freezer, Instant::now()) else { return Ok(None) };
            match self.stdout.wait(time, frame_bytes_max) {
                Wait::Timeout => {}
                Wait::Closed => return Err(self.died()),
                Wait::TooLong(bytes) => return Err(self.broke(format!("it sent a frame of {bytes} bytes"))),
                Wait::Frame(frame) => match frame::decode(frame.bytes()) {
                    Ok(RunnerFrame::Broken { message }) => {
                        self.end(message.clone());
                        return Err(Error::RunnerDied { how: message });
                    }
                    Ok(frame) => return Ok(Some(frame)),
                    Err(error) => return Err(self.broke(error.to_string())),
                },
            }
        }
    }

    fn deadline(&self, secs: u64) -> Deadline {
        Deadline::after(Duration::from_secs(secs), &self.freezer, Instant::now())
    }

    fn check_usable(&self) -> Result<(), Error> {
        match &self.ended {
            None => Ok(()),
            Some(how) => Err(Error::RunnerDied { how: how.clone() }),
        }
    }

    fn died(&mut self) -> Error {
        // It may have closed its pipe a moment before it ends: let it, to learn how it ended.
        self.process.wait_ended(EXIT_WAIT);
        let how = match self.wait() {
            Ok(status) => os::describe(status),
            Err(error) => format!("it cannot be waited for: {error}"),
        };
        self.ended = Some(how.clone());
        Error::RunnerDied { how }
    }

    fn broke(&mut self, problem: String) -> Error {
        self.end(problem.clone());
        Error::Protocol { problem }
    }

    fn end(&mut self, how: String) {
        let _ = self.wait();
        self.ended = Some(how);
    }

    fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.freezer.detach();
        self.child.wait()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.end("dropped".to_owned());
        }
    }
}
