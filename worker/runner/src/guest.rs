//! One unit in a fresh store. Everything that a guest answers is a claim: addresses are checked, statuses
//! are checked, and a guest that lies fails like one that traps.

use std::io;
use std::time::Duration;

use lull_abi::{ABI_VERSION, Status, exports};
use lull_sandbox::checkpoint::StateDigest;
use lull_sandbox::{Limits, Outcome, cut_message};
use wasmtime::{Instance, InstancePre, Memory, Store, Trap, TypedFunc, WasmParams, WasmResults};

use crate::budget::{Budget, Refusal};
use crate::checkpoint::{Hashes, Recorder, Say, State};
use crate::program::{Kind, Program};
use crate::wasi;

/// What to run.
pub(crate) struct Task<'a> {
    /// As `lull_abi::Unit::encode` writes it.
    pub(crate) unit: &'a [u8],
    /// A state to go on from, and its digest.
    pub(crate) from: Option<(&'a [u8], StateDigest)>,
    /// Time between two checkpoints; `None`: none.
    pub(crate) every: Option<Duration>,
    /// Steps after which the state is to be told, rising.
    pub(crate) witnesses: &'a [u64],
}

impl<'a> Task<'a> {
    /// A unit from its start, without checkpoints.
    pub(crate) const fn plain(unit: &'a [u8]) -> Self {
        Self { unit, from: None, every: None, witnesses: &[] }
    }
}

/// What became of a task.
pub(crate) enum Ended {
    /// The unit ended so.
    Finished(Outcome),
    /// It cannot go on from that state, and why.
    NotResumed(String),
}

/// How a unit ends without a result, before it is known whether a limit was behind it.
pub(crate) enum End {
    /// The guest's own doing.
    Failed(String),
    /// A limit.
    Limit(String),
    /// Not the guest's doing: it cannot go on from the state that it was given.
    NotResumed(String),
    /// Not the guest's doing: the host is gone.
    Broken(io::Error),
}

/// Runs a unit.
///
/// # Errors
/// When the host cannot be told of its checkpoints.
pub(crate) fn run(program: &Program, task: &Task<'_>, say: &mut Say<'_>) -> io::Result<Ended> {
    let (instance, state) = match &program.kind {
        Kind::Steps { instance, state } => (instance, state.as_deref()),
        Kind::Wasi(command) => return wasi::run(program, command, task),
    };
    let mut store = Store::new(&program.engine, Budget::new(program.limits.memory_bytes));
    store.limiter(|budget| budget);
    let end = Guest::start(instance, state, &mut store).and_then(|mut guest| guest.run(program, task, say));
    let refusal = store.data().refusal();
    ended(end, refusal, &program.limits)
}

/// What an end amounts to, once it is known what memory was refused.
///
/// # Errors
/// When the host is gone.
pub(crate) fn ended(
    end: Result<Vec<u8>, End>,
    refusal: Option<Refusal>,
    limits: &Limits,
) -> io::Result<Ended> {
    Ok(Ended::Finished(match (end, refusal) {
        (Err(End::Broken(error)), _) => return Err(error),
        (Err(End::NotResumed(message)), _) => return Ok(Ended::NotResumed(message)),
        // What a guest makes of less memory than its job allows differs from PC to PC.
        (_, Some(Refusal::ByPc)) => Outcome::Limit("this PC had less memory than the job allows".to_owned()),
        (Ok(result), _) => Outcome::Result(result),
        (Err(End::Failed(message)), Some(Refusal::ByJob)) => {
            let limit_bytes = limits.memory_bytes;
            let message = format!("the guest was refused more than {limit_bytes} bytes of memory: {message}");
            Outcome::Limit(cut_message(message.as_bytes()))
        }
        (Err(End::Failed(message)), None) => Outcome::GuestFailed(message),
        (Err(End::Limit(message)), _) => Outcome::Limit(message),
    }))
}

/// An instance, and the exports that it is driven by.
struct Guest<'a> {
    store: &'a mut Store<Budget>,
    instance: Instance,
    memory: Memory,
    /// Globals that a checkpoint holds; `None` if the module's guests cannot be captured.
    globals: Option<&'a [String]>,
}

impl<'a> Guest<'a> {
    fn start(
        instance: &InstancePre<Budget>,
        globals: Option<&'a [String]>,
        store: &'a mut Store<Budget>,
    ) -> Result<Self, End> {
        let instance = instance.instantiate(&mut *store).map_err(|error| trapped(&error))?;
        let memory = instance
            .get_memory(&mut *store, exports::MEMORY)
            .ok_or_else(|| End::Failed("the guest has no memory".to_owned()))?;
        Ok(Self { store, instance, memory, globals })
    }

    fn run(&mut self, program: &Program, task: &Task<'_>, say: &mut Say<'_>) -> Result<Vec<u8>, End> {
        let mut recorder = match task.from {
            Some((state, digest)) => Some(self.restore(task, state, &digest)?),
            None => {
                self.begin(program, task.unit)?;
                self.state()
                    .map(|state| Recorder::new(state, (0, Hashes::default()), task.every, task.witnesses))
            }
        };
        let step: TypedFunc<(), i32> = self.function(exports::STEP)?;
        loop {
            let answer = match step.call(&mut *self.store, ()) {
                Ok(answer) => answer,
                Err(error) => return Err(self.failed(&error)),
            };
            match Status::from_i32(answer) {
                Some(Status::More) => {
                    if let Some(recorder) = &mut recorder {
                        recorder.after_step(self.store, say).map_err(End::Broken)?;
                    }
                }
                Some(Status::Done) => return self.result(program.limits.result_bytes),
                Some(Status::Failed) => return Err(End::Failed(self.message()?)),
                None => return Err(unknown_status(exports::STEP, answer)),
            }
        }
    }

    /// What a checkpoint holds; `None` if the module's guests cannot be captured.
    fn state(&mut self) -> Option<State> {
        State::of(self.instance, self.memory, self.globals?, self.store)
    }

    /// Brings the guest to a state instead of its start.
    fn restore<'t>(
        &mut self,
        task: &Task<'t>,
        bytes: &[u8],
        digest: &StateDigest,
    ) -> Result<Recorder<'t>, End> {
        let not_resumable = || End::NotResumed("the module's guests cannot be captured".to_owned());
        let state = self.state().ok_or_else(not_resumable)?;
        let known = state.restore(bytes, digest, self.store).map_err(End::NotResumed)?;
        Ok(Recorder::new(state, known, task.every, task.witnesses))
    }

    /// Brings the guest to the start of a unit.
    fn begin(&mut self, program: &Program, unit: &[u8]) -> Result<(), End> {
        let version: i32 = self.call(exports::ABI_VERSION, ())?;
        if version != ABI_VERSION {
            return Err(End::Failed(format!(
                "the guest speaks version {version} of the interface, this runner {ABI_VERSION}: build it with this Lull's SDK"
            )));
        }
        for (name, content) in &program.inputs {
            let (name, name_len) = self.give(name.as_bytes())?;
            let (content, content_len) = self.give(content)?;
            let () = self.call(exports::INPUT, (name, name_len, content, content_len))?;
        }
        self.call_for_status(exports::PREPARE, (), Status::Done)?;
        let unit = self.give(unit)?;
        self.call_for_status(exports::BEGIN, unit, Status::More)
    }

    fn call_for_status<P: WasmParams>(
        &mut self,
        name: &'static str,
        params: P,
        wanted: Status,
    ) -> Result<(), End> {
        let answer: i32 = self.call(name, params)?;
        match Status::from_i32(answer) {
            Some(Status::Failed) => Err(End::Failed(self.message()?)),
            Some(status) if status == wanted => Ok(()),
            _ => Err(unknown_status(name, answer)),
        }
    }

    fn function<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Result<TypedFunc<P, R>, End> {
        self.instance.get_typed_func(&mut *self.store, name).map_err(|error| End::Failed(error.to_string()))
    }

    /// Calls an export; after a trap, asks for the message that a panic left.
    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, params: P) -> Result<R, End> {
        let function = self.function(name)?;
        function.call(&mut *self.store, params).map_err(|error| self.failed(&error))
    }

    /// Copies bytes into a buffer that the guest allocates: its address and length.
    fn give(&mut self, bytes: &[u8]) -> Result<(i32, i32), End> {
        let refused =
            || End::Limit(format!("the guest has no memory for the {} bytes of its input", bytes.len()));
        let len = u32::try_from(bytes.len()).map_err(|_| refused())?.cast_signed();
        let address: i32 = self.call(exports::ALLOC, len)?;
        if address == 0 && len != 0 {
            return Err(refused());
        }
        let start = address.cast_unsigned() as usize;
        let outside = || End::Failed(format!("`{}` answered an address outside the memory", exports::ALLOC));
        let end = start.checked_add(bytes.len()).ok_or_else(outside)?;
        let buffer = self.memory.data_mut(&mut *self.store).get_mut(start..end).ok_or_else(outside)?;
        buffer.copy_from_slice(bytes);
        Ok((address, len))
    }

    fn result(&mut self, bytes_max: u64) -> Result<Vec<u8>, End> {
        let (start, len) = self.result_place()?;
        if len as u64 > bytes_max {
            return Err(End::Limit(format!(
                "the result has {len} bytes, more than the {bytes_max} that its job allows"
            )));
        }
        self.read(start, len)
    }

    fn message(&mut self) -> Result<String, End> {
        let (start, len) = self.result_place()?;
        Ok(cut_message(&self.read(start, len)?))
    }

    fn result_place(&mut self) -> Result<(usize, usize), End> {
        let mut ask = |name| -> Result<usize, End> {
            let function: TypedFunc<(), i32> = self.function(name)?;
            let answer = function.call(&mut *self.store, ()).map_err(|error| trapped(&error))?;
            Ok(answer.cast_unsigned() as usize)
        };
        Ok((ask(exports::RESULT_PTR)?, ask(exports::RESULT_LEN)?))
    }

    fn read(&self, start: usize, len: usize) -> Result<Vec<u8>, End> {
        let bytes = start.checked_add(len).and_then(|end| self.memory.data(&*self.store).get(start..end));
        bytes
            .map(<[u8]>::to_vec)
            .ok_or_else(|| End::Failed("the guest's result lies outside its memory".to_owned()))
    }

    /// What a trap means: the message of the panic behind it, if the guest left one.
    fn failed(&mut self, error: &wasmtime::Error) -> End {
        match trapped(error) {
            End::Failed(trap) => match self.message() {
                Ok(message) if !message.is_empty() => End::Failed(message),
                _ => End::Failed(trap),
            },
            other => other,
        }
    }
}

/// What a trap means without asking the guest. Its text names no address: it is the same on every PC.
///
/// A native stack that is used up counts as a limit: how deep it goes depends on how the CPU's features
/// let the code be compiled, so nobody is to blame for where it ended.
pub(crate) fn trapped(error: &wasmtime::Error) -> End {
    match error.downcast_ref::<Trap>() {
        Some(trap @ Trap::StackOverflow) => End::Limit(trap.to_string()),
        Some(trap) => End::Failed(trap.to_string()),
        None => End::Failed(cut_message(error.to_string().as_bytes())),
    }
}

fn unknown_status(name: &str, answer: i32) -> End {
    End::Failed(format!("`{name}` answered {answer}, which is no status that belongs there"))
}
