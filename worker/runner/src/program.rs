//! The module, compiled once for all units of a runner, and its inputs.

use lull_abi::exports;
use lull_sandbox::{Limits, cut_message};
use wasmtime::{Config, Engine, ExternType, InstancePre, Linker, Module, OptLevel, ValType};

use crate::budget::Budget;
use crate::resumable;

/// Stack of a guest in the native sense; a Rust program's own stack lies in its memory.
pub(crate) const GUEST_STACK_BYTES: usize = 1024 * 1024;

/// Why there is no program.
pub(crate) enum LoadError {
    /// The module is at fault, on every PC.
    Module(String),
    /// This PC is.
    Runner(String),
}

/// What every unit of a runner shares.
pub(crate) struct Program {
    /// Holds the compiled code.
    pub(crate) engine: Engine,
    /// Ready to be instantiated for a unit.
    pub(crate) instance: InstancePre<Budget>,
    /// Name and content.
    pub(crate) inputs: Vec<(String, Vec<u8>)>,
    /// What each guest may use.
    pub(crate) limits: Limits,
    /// Globals that a checkpoint holds; `None` if guests cannot be captured.
    pub(crate) state: Option<Vec<String>>,
}

impl Program {
    /// Compiles a module.
    pub(crate) fn new(
        module: &[u8],
        inputs: Vec<(String, Vec<u8>)>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let engine = Engine::new(&config()).map_err(|error| LoadError::Runner(format!("{error:#}")))?;
        let at_fault =
            |error: wasmtime::Error| LoadError::Module(cut_message(format!("{error:#}").as_bytes()));
        let module = resumable::rewrite(module).map_err(LoadError::Module)?;
        let module = Module::new(&engine, module).map_err(at_fault)?;
        check_exports(&module).map_err(LoadError::Module)?;
        let state = resumable::globals_of(&module);
        // An empty linker: a guest imports nothing.
        let instance = Linker::new(&engine).instantiate_pre(&module).map_err(at_fault)?;
        Ok(Self { engine, instance, inputs, limits, state })
    }
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
