//! Why a runner could not be used. None of these is the guest's doing, except [`Error::LoadFailed`].

use std::path::PathBuf;

/// How this system comes to hold a runner back.
#[cfg(target_os = "linux")]
const WALLS_REMEDY: &str = "use a kernel with seccomp and Landlock (5.13 or newer) or user namespaces";
/// How this system comes to hold a runner back.
#[cfg(target_os = "macos")]
const WALLS_REMEDY: &str = "pass --walls best-effort if every submitter of this grid is trusted with this Mac: no walls have been built for macOS yet";
/// How this system comes to hold a runner back.
#[cfg(windows)]
const WALLS_REMEDY: &str = "put the runner where AppContainers may run it (`icacls lull-runner.exe /grant *S-1-15-2-1:RX`, or under Program Files)";

/// Why a runner could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runner binary where it was looked for.
    #[error(
        "no runner at {}: pass its path, set LULL_RUNNER, or put `lull-runner` beside this program",
        looked_for.display()
    )]
    NotFound {
        /// Where it should be.
        looked_for: PathBuf,
    },
    /// The process could not be started.
    #[error("cannot start the runner {}: {source}", path.display())]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The module cannot be compiled, or lacks an export. The same on every PC.
    #[error("the module cannot be loaded: {message}")]
    LoadFailed {
        /// What the runner said.
        message: String,
    },
    /// Compiling takes more than a limit of this PC: another may be faster.
    #[error("the module cannot be compiled here: {message}")]
    CompileLimit {
        /// Which limit.
        message: String,
    },
    /// It ended, or broke the protocol, before it was ready for anything: whatever it is given, it is no use here.
    #[error("the runner did not come up ({problem}): are it and this program of the same version?")]
    NotReady {
        /// What it did instead.
        problem: String,
    },
    /// It ended, or broke the protocol, while it compiled: it may be the module's doing.
    #[error("the runner ended while it compiled ({problem})")]
    CompilerDied {
        /// What happened.
        problem: String,
    },
    /// The process ended, or was ended, before it answered. Blames nobody: try a fresh runner.
    #[error("the runner ended ({how})")]
    RunnerDied {
        /// Its exit code or signal.
        how: String,
    },
    /// The system does not hold it back as the policy asks.
    #[error(
        "the runner is not locked down enough: {missing}; {}, or allow best effort (--walls best-effort, LULL_WALLS)",
        WALLS_REMEDY
    )]
    WallsMissing {
        /// The walls that do not stand, and why not.
        missing: String,
    },
    /// A unit cannot go on from the state that it was given. The runner can be used further.
    #[error("the unit cannot go on from its checkpoint: {message}")]
    NotResumed {
        /// What the runner said.
        message: String,
    },
    /// A compiled module is of another version, or for another CPU. Compile it again.
    #[error("the compiled module is not for this runner: {message}")]
    ArtefactRefused {
        /// What the runner said.
        message: String,
    },
    /// It answered something that the host does not understand, or that it must not answer.
    #[error("the runner broke the protocol ({problem}): are it and this program of the same version?")]
    Protocol {
        /// What it did.
        problem: String,
    },
}
