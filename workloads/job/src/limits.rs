//! Every limit on a job, with its reason. A limit is tested at its value and one past it.

/// A module. Real research modules compile to well under 4 MiB; compiling 16 MiB takes a runner seconds.
pub const MODULE_BYTES_MAX: u64 = 16 * MIB;
/// One input of a job. It is held in the memory of every guest.
pub const INPUT_BYTES_MAX: u64 = 256 * MIB;
/// Named inputs of a job: each is fetched by each device.
pub const INPUTS_MAX: usize = 64;
/// Files that a job splits into: their names and digests are one message.
pub const SPLIT_FILES_MAX: usize = 10_000;
/// Axes of a grid.
pub const GRID_AXES_MAX: usize = 16;
/// Values on all axes of a grid.
pub const GRID_VALUES_MAX: usize = 100_000;
/// Items, and so units, of a job: indexes are 63-bit integers in the database.
pub const ITEMS_MAX: u64 = i64::MAX as u64;
/// Items that a module's own split may list: the list is one result.
pub const SPLIT_ITEMS_MAX: u64 = 1_000_000;
/// Units of a pilot: it is meant to be small.
pub const PILOT_UNITS_MAX: u64 = 100_000;
/// Units that a job has where it does not say how many items are in one.
pub const UNITS_DEFAULT: u64 = 4_096;
/// Results that one merge unit takes; its guest holds them all.
pub const MERGE_FAN_IN_MAX: u32 = 256;
/// Results that one merge unit takes unless the job says otherwise.
pub const MERGE_FAN_IN_DEFAULT: u32 = 32;
/// Owners that must agree; more says nothing that fewer do not.
pub const COPIES_MAX: u32 = 8;
/// Owners that must agree unless the job says otherwise.
pub const COPIES_DEFAULT: u32 = 2;
/// The smallest share of wrong units that can be bought: for less, every unit has more copies than a grid has owners.
pub const ERROR_MIN: f64 = 1e-9;
/// The largest; a job that does not care names one copy.
pub const ERROR_MAX: f64 = 0.5;
/// Attempts of one unit before it fails as undecidable.
pub const ATTEMPTS_MAX: usize = 16;
/// Failed units after which a job that allows none missing stops spending.
pub const FAILED_UNITS_MAX: u64 = 10;
/// Arguments of a WASI program, all together: each is held by itself, for every unit anew.
pub const ARGS_BYTES_MAX: u64 = 64 * KIB;
/// Memory of a guest: the address space of wasm32.
pub const GUEST_MEMORY_BYTES_MAX: u64 = 4096 * MIB;
/// Memory of a guest unless the job says otherwise.
pub const GUEST_MEMORY_BYTES_DEFAULT: u64 = 512 * MIB;
/// Least memory that a guest can start in.
pub const GUEST_MEMORY_BYTES_MIN: u64 = MIB;
/// Time of one unit: a day lost is the most a PC may lose.
pub const UNIT_SECS_MAX: u64 = 24 * 3600;
/// Time of one unit unless the job says otherwise.
pub const UNIT_SECS_DEFAULT: u64 = 3600;
/// One result.
pub const RESULT_BYTES_MAX: u64 = 64 * MIB;
/// One result unless the job says otherwise.
pub const RESULT_BYTES_DEFAULT: u64 = 16 * MIB;
/// A result that lives in the database row; larger ones are blobs.
pub const INLINE_RESULT_BYTES_MAX: usize = 4 * 1024;
/// A failure's message; the rest is cut off.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// A job's display name, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// A job file.
pub const JOB_FILE_BYTES_MAX: u64 = MIB;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
