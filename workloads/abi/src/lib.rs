//! What a guest and its runner say to each other.
//!
//! A guest is a core WebAssembly module (`wasm32-unknown-unknown`) that imports nothing and
//! exports its memory and the functions named in [`exports`]. The runner drives it:
//!
//! 1. for each input: [`exports::ALLOC`] a buffer for name and content, fill it, [`exports::INPUT`];
//! 2. [`exports::PREPARE`] once;
//! 3. `ALLOC` and fill a buffer with a [`Unit`], then [`exports::BEGIN`];
//! 4. [`exports::STEP`] until it does not answer [`Status::More`]; between steps the wasm stack is empty,
//!    so that memory and globals are the guest's whole state;
//! 5. read the result (or the message of a failure) at [`exports::RESULT_PTR`], [`exports::RESULT_LEN`] bytes long.
//!
//! Programs of the second class are driven otherwise: see [`wasi`] and [`text`].
//!
//! This crate holds names and encodings only: no allocation policy, no wasm engine, no dependencies.

pub mod text;
mod unit;
pub mod wasi;

pub use unit::{DecodeError, Payload, Point, Stage, Unit, decode_items, encode_items, item_count};

/// Version of this interface, answered by [`exports::ABI_VERSION`].
pub const ABI_VERSION: i32 = 1;

/// Names that a module must export.
pub mod exports {
    /// The linear memory.
    pub const MEMORY: &str = "memory";
    /// `() -> i32`: the version of this interface that the module speaks.
    pub const ABI_VERSION: &str = "lull_abi_version";
    /// `(len: i32) -> i32`: address of a fresh buffer of `len` bytes, or 0.
    pub const ALLOC: &str = "lull_alloc";
    /// `(name: i32, name_len: i32, content: i32, content_len: i32)`: takes both buffers over.
    pub const INPUT: &str = "lull_input";
    /// `() -> i32`: a [`super::Status`], `Done` or `Failed`.
    pub const PREPARE: &str = "lull_prepare";
    /// `(unit: i32, unit_len: i32) -> i32`: a [`super::Status`], `More` or `Failed`.
    pub const BEGIN: &str = "lull_begin";
    /// `() -> i32`: a [`super::Status`].
    pub const STEP: &str = "lull_step";
    /// `() -> i32`: address of the result or message.
    pub const RESULT_PTR: &str = "lull_result_ptr";
    /// `() -> i32`: its length in bytes.
    pub const RESULT_LEN: &str = "lull_result_len";

    /// Each function with the number of its `i32` parameters and of its `i32` results.
    pub const FUNCTIONS: [(&str, usize, usize); 8] = [
        (ABI_VERSION, 0, 1),
        (ALLOC, 1, 1),
        (INPUT, 4, 0),
        (PREPARE, 0, 1),
        (BEGIN, 2, 1),
        (STEP, 0, 1),
        (RESULT_PTR, 0, 1),
        (RESULT_LEN, 0, 1),
    ];
}

/// What a guest function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Call [`exports::STEP`] again.
    More = 0,
    /// The result is there.
    Done = 1,
    /// A message is there.
    Failed = 2,
}

impl Status {
    /// The status that a guest's answer stands for, if any.
    #[must_use]
    pub const fn from_i32(value: i32) -> Option<Self> {
        match value {
            0 => Some(Self::More),
            1 => Some(Self::Done),
            2 => Some(Self::Failed),
            _ => None,
        }
    }
}
