//! What a job is: shared by the coordinator that hands its units out, the agents that run them and the
//! command line that submits them.
//!
//! - [`JobFile`]: the `job.toml` that a researcher writes;
//! - [`Spec`]: a job whose every field has been checked;
//! - [`Plan`]: the arithmetic that names every unit of a job without storing one;
//! - [`Permutation`]: the secret order in which units go out;
//! - [`check_module`]: whether bytes are a module that a runner will take, and of which kind;
//! - [`unit_payload`]: the input of one unit;
//! - [`Share`]: of units that may be wrong;
//! - [`limits`]: every limit, with its reason.
//!
//! Nothing here reads a clock, a socket, a database or runs a guest.

mod digest;
mod job_file;
pub mod limits;
mod module;
mod payload;
mod permutation;
mod plan;
mod share;
mod spec;

pub use digest::{Digest, NotADigest};
pub use job_file::{FileError, JobFile, SplitFile};
pub use lull_abi::Stage;
pub use module::{ModuleError, ModuleKind, check_module};
pub use payload::{PayloadError, count_lines, unit_payload};
pub use permutation::Permutation;
pub use plan::{Plan, ServiceUnits};
pub use share::Share;
pub use spec::{InputFile, Reduce, Spec, SpecError, Split, stage_from_proto, stage_to_proto};
