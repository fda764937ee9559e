//! Compiling a module in a runner that does nothing else.
//!
//! It stands behind the same walls as one that runs guests, since a compiler that reads a stranger's module can be
//! attacked by it. What it answers is native code that is trusted as little: it only ever runs as that module, and
//! behind the walls that a guest of that module has to stay behind anyway.

use crate::os::{OUT_OF_CPU, OUT_OF_MEMORY};
use crate::{CompileLimits, Error, Flavour, Freezer, Runner, RunnerConfig};

/// Compiles a module: what [`Runner::load_compiled`] takes for the same flavour and runner binary on the same PC.
///
/// # Errors
/// [`Error::LoadFailed`] when the module is at fault; [`Error::CompileLimit`] when it takes more than the limits, which
/// another PC may not reach; [`Error::CompilerDied`] when it may be; otherwise the runner is at fault.
pub fn compile(
    config: &RunnerConfig,
    freezer: &Freezer,
    module: &[u8],
    flavour: Flavour,
    limits: CompileLimits,
) -> Result<Vec<u8>, Error> {
    let mut runner = Runner::start(config, freezer)?;
    runner.compile(module, flavour, limits).map_err(|error| match error {
        Error::RunnerDied { how } if how == OUT_OF_CPU => Error::CompileLimit {
            message: format!("the module takes more than {} s of CPU to compile", limits.cpu_secs),
        },
        Error::RunnerDied { how } if how == OUT_OF_MEMORY => Error::CompileLimit {
            message: format!("the module takes more than {} bytes of memory to compile", limits.memory_bytes),
        },
        Error::RunnerDied { how: problem } | Error::Protocol { problem } => Error::CompilerDied { problem },
        other => other,
    })
}
