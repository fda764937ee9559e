//! Programs of WASI preview 1: one run from `_start` to its end for each unit, without checkpoints.
//!
//! - `process`: what a program sees of the world: arguments, standard input, output and error, a clock, random bytes;
//! - `calls`: the functions of preview 1 as far as they have a meaning there; the others answer an errno;
//! - `poll`: waiting, which takes no time.
//!
//! Everything that a program sees follows from its unit, so that every attempt sees the same. There are no files, no
//! network, no environment and no time. Nothing here makes a system call.

mod calls;
mod poll;
mod process;

use lull_abi::text::{Text, encode_lines};
use lull_abi::{Stage, exports, wasi};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Store};

use crate::guest::{End, Ended, Task, ended, trapped};
use crate::program::Program;
use process::{Exit, OutputFull, Process};

/// A module that is such a program, ready to be run.
pub(crate) struct Command {
    instance: InstancePre<Process>,
    /// Stages other than work that it asks to be run for.
    stages: Vec<&'static str>,
}

/// Whether a module is a program of WASI rather than a guest of the SDK: as `lull_job::check_module` tells them apart.
pub(crate) fn is_command(module: &Module) -> bool {
    let is_wasi = module.get_export(wasi::START).is_some()
        || module.imports().any(|import| import.module() == wasi::MODULE);
    is_wasi && module.get_export(exports::ABI_VERSION).is_none()
}

/// Checks what a program must export.
///
/// # Errors
/// What is missing.
pub(crate) fn check(module: &Module) -> Result<(), String> {
    if module.get_export(exports::MEMORY).is_none_or(|memory| memory.memory().is_none()) {
        return Err(format!("the module does not export its memory as `{}`", exports::MEMORY));
    }
    match module.get_export(wasi::START) {
        Some(ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => Ok(()),
        _ => Err(format!(
            "the WASI module does not export the function `{}`: build it as a program, not as a library",
            wasi::START
        )),
    }
}

impl Command {
    /// Links a module for which [`is_command`] holds.
    ///
    /// # Errors
    /// When it imports what is not there.
    pub(crate) fn link(engine: &Engine, module: &Module) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        calls::define(engine, &mut linker)?;
        let asked = |(_, export): &(&str, &'static str)| module.get_export(export).map(|_| *export);
        Ok(Self {
            instance: linker.instantiate_pre(module)?,
            stages: wasi::STAGES.iter().filter_map(asked).collect(),
        })
    }

    fn runs_for(&self, stage: Stage) -> bool {
        wasi::asked_by(stage).is_none_or(|export| self.stages.contains(&export))
    }
}

/// Runs a unit from its start.
pub(crate) fn run(program: &Program, command: &Command, task: &Task<'_>) -> std::io::Result<Ended> {
    if task.from.is_some() {
        return Ok(Ended::NotResumed("a WASI program starts every unit anew".to_owned()));
    }
    let (stage, text) =
        Text::of(task.unit).map_err(|error| std::io::Error::other(format!("the unit is {error}")))?;
    if !command.runs_for(stage) {
        return ended(without_program(stage, text, program.limits.result_bytes), None, &program.limits);
    }
    let mut store = Store::new(&program.engine, Process::new(program, stage, task.unit, text));
    store.limiter(|process| &mut process.budget);
    let end = to_its_end(command, stage, &mut store);
    let refusal = store.data().budget.refusal();
    ended(end, refusal, &program.limits)
}

/// A stage that the program does not ask for: results one after another are their own merge.
fn without_program(stage: Stage, text: Text, bytes_max: u64) -> Result<Vec<u8>, End> {
    match text {
        Text::Bytes(parts) if stage != Stage::Split => {
            if parts.len() as u64 > bytes_max {
                Err(too_large(bytes_max))
            } else {
                Ok(parts)
            }
        }
        _ => Err(End::Failed(format!("the program does not ask to be run for {stage}"))),
    }
}

/// Runs the program to its end: its result, or why there is none.
fn to_its_end(command: &Command, stage: Stage, store: &mut Store<Process>) -> Result<Vec<u8>, End> {
    let ran = command
        .instance
        .instantiate(&mut *store)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut *store, wasi::START))
        .and_then(|start| start.call(&mut *store, ()));
    let process = store.data_mut();
    if let Err(error) = ran {
        if error.is::<OutputFull>() {
            return Err(too_large(process.stdout.bytes_max));
        }
        match error.downcast_ref::<Exit>() {
            Some(Exit(0)) => {}
            Some(Exit(code)) => {
                return Err(End::Failed(process.stderr.explain(&format!("the program exited with {code}"))));
            }
            None => {
                return Err(match trapped(&error) {
                    End::Failed(trap) => End::Failed(process.stderr.explain(&trap)),
                    other => other,
                });
            }
        }
    }
    let result = std::mem::take(&mut process.stdout.bytes);
    if stage != Stage::Split {
        return Ok(result);
    }
    encode_lines(&result, process.stdout.bytes_max).ok_or_else(|| too_large(process.stdout.bytes_max))
}

fn too_large(bytes_max: u64) -> End {
    End::Limit(format!("the result has more than the {bytes_max} bytes that its job allows"))
}
