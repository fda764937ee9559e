//! The module, compiled once for all units of a runner, and its inputs.

use lull_abi::exports;
use lull_sandbox::{Limits, cut_message};
use wasmtime::{Config, Engine, ExternType, InstancePre, Linker, Module, OptLevel, ValType};

use crate::budget::Budget;
use crate::{resumable, wasi};

/// Stack of a guest in the native sense; a Rust program's own stack lies in its memory.
pub(crate) const GUEST_STACK_BYTES: usize = 1024 * 1024;

/// Why there is no program.
pub(crate) enum LoadError {
    /// The module is at fault, on every PC.
    Module(String),
    /// This PC is.
    Runner(String),
    /// It was compiled for another runner or CPU.
    Artefact(String),
}

impl LoadError {
    pub(crate) fn message(self) -> String {
        let (Self::Module(message) | Self::Runner(message) | Self::Artefact(message)) = self;
        message
    }
}

/// What every unit of a runner shares.
pub(crate) struct Program {
    /// Holds the compiled code.
    pub(crate) engine: Engine,
    /// What the module is made for, ready to be instantiated for a unit.
    pub(crate) kind: Kind,
    /// Name and content.
    pub(crate) inputs: Vec<(String, Vec<u8>)>,
    /// What each guest may use.
    pub(crate) limits: Limits,
}

/// What a module is made for.
pub(crate) enum Kind {
    /// A guest that is driven step by step.
    Steps {
        instance: InstancePre<Budget>,
        /// Globals that a checkpoint holds; `None` if guests cannot be captured.
        state: Option<Vec<String>>,
    },
    /// A program that runs from its start to its end.
    Wasi(wasi::Command),
}

impl Program {
    /// Compiles a module.
    pub(crate) fn new(
        module: &[u8],
        inputs: Vec<(String, Vec<u8>)>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let (engine, module) = compiled(module)?;
        Self::of(engine, &module, inputs, limits)
    }

    /// Takes over what [`compile`] made.
    pub(crate) fn from_compiled(
        artefact: &[u8],
        inputs: Vec<(String, Vec<u8>)>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let engine = engine()?;
        #[allow(unsafe_code, reason = "what was compiled before is native code: that is the point of it")]
        // SAFETY: the host sends only what a runner of its own answered to `Compile` on this PC, kept where no guest
        // can write and authenticated with a secret of the host when it is read back. Were it forged all the same, it
        // could do what a module that broke out of wasm can: this process is locked down for that before it reads it.
        let module = unsafe { Module::deserialize(&engine, artefact) }
            .map_err(|error| LoadError::Artefact(cut_message(format!("{error:#}").as_bytes())))?;
        Self::of(engine, &module, inputs, limits)
    }

    fn of(
        engine: Engine,
        module: &Module,
        inputs: Vec<(String, Vec<u8>)>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        check_exports(module).map_err(LoadError::Module)?;
        let kind = if wasi::is_command(module) {
            wasi::Command::link(&engine, module).map(Kind::Wasi)
        } else {
            // An empty linker: a guest imports nothing.
            let instance = Linker::new(&engine).instantiate_pre(module);
            instance.map(|instance| Kind::Steps { instance, state: resumable::globals_of(module) })
        };
        let kind = kind.map_err(|error| at_fault(&error))?;
        Ok(Self { engine, kind, inputs, limits })
    }
}

/// Compiles a module, as it is after [`resumable::rewrite`], for other processes of this binary.
pub(crate) fn compile(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    let (_, module) = compiled(module)?;
    check_exports(&module).map_err(LoadError::Module)?;
    module.serialize().map_err(|error| LoadError::Runner(format!("{error:#}")))
}

fn compiled(module: &[u8]) -> Result<(Engine, Module), LoadError> {
    let engine = engine()?;
    let module = resumable::rewrite(module).map_err(LoadError::Module)?;
    let module = Module::new(&engine, module).map_err(|error| at_fault(&error))?;
    Ok((engine, module))
}

fn engine() -> Result<Engine, LoadError> {
    Engine::new(&config()).map_err(|error| LoadError::Runner(format!("{error:#}")))
}

fn at_fault(error: &wasmtime::Error) -> LoadError {
    LoadError::Module(cut_message(format!("{error:#}").as_bytes()))
}

/// Full speed, the same results everywhere: no fuel, epochs or NaN canonicalisation, and none of the
/// features whose results may differ between PCs. Initial memory is copied rather than mapped from a file in
/// memory, so that the process can be forbidden to write files of any kind.
fn config() -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .memory_init_cow(false)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .wasm_backtrace_max_frames(None);
    config
}

fn check_exports(module: &Module) -> Result<(), String> {
    if wasi::is_command(module) {
        return wasi::check(module);
    }
    let memory = module.get_export(exports::MEMORY);
    if memory.is_none_or(|memory| memory.memory().is_none()) {
        return Err(format!("the module does not export its memory as `{}`", exports::MEMORY));
    }
    for (name, params, results) in exports::FUNCTIONS {
        let fits = match module.get_export(name) {
            Some(ExternType::Func(function)) => {
                let all_i32 = |mut types: Box<dyn Iterator<Item = ValType> + '_>| types.all(|t| t.is_i32());
                function.params().len() == params
                    && function.results().len() == results
                    && all_i32(Box::new(function.params()))
                    && all_i32(Box::new(function.results()))
            }
            _ => false,
        };
        if !fits {
            return Err(format!(
                "the module does not export the function `{name}` with {params} i32 parameters and {results} i32 results"
            ));
        }
    }
    Ok(())
}
