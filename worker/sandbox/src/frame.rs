//! What the host and a runner say to each other: a `u32` length in little-endian, then that many bytes of
//! `postcard`.
//!
//! The runner says [`RunnerFrame::Ready`] once it has locked itself down. The host sends every input, then
//! [`HostFrame::Load`] and waits for the answer, then one [`HostFrame::Run`] after another. The end of the
//! runner's standard input ends the runner, whatever it is doing.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{StateDigest, StateHead};
use crate::{CompileLimits, Flavour, Limits, Outcome, WallReport};

/// Version of these frames. Raise it with every change to them.
pub const PROTOCOL: u32 = 6;

/// Bytes of the length that precedes each frame.
pub const LENGTH_BYTES: usize = size_of::<u32>();

/// The longest frame that a length can name: an input or a unit has to fit a guest's 4 GiB anyway.
pub const FRAME_BYTES_MAX: u64 = u32::MAX as u64;

/// Bytes that a frame may have beside the result or message in it.
pub const FRAME_OVERHEAD_BYTES: u64 = 64;

/// From the host.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostFrame<'a> {
    /// An input that every unit sees. Not answered.
    Input {
        /// Name by which the guest finds it.
        name: &'a str,
        /// What is in it.
        #[serde(with = "serde_bytes")]
        content: &'a [u8],
    },
    /// The module and its limits, once. Answered by `Loaded`, `LoadFailed` or `Broken`.
    Load {
        /// WebAssembly.
        #[serde(with = "serde_bytes")]
        module: &'a [u8],
        /// What each guest may use.
        limits: Limits,
        /// How it is compiled.
        flavour: Flavour,
    },
    /// One unit, as `lull_abi::Unit::encode` writes it. Answered by `Finished`.
    Run {
        /// The unit.
        #[serde(with = "serde_bytes")]
        unit: &'a [u8],
    },
    /// One unit, from a state of it on or from its start, with checkpoints. Answered by any number of `Pages`,
    /// `Checkpoint` and `Witnessed`, and at the end by `Finished`, or at once by `NotResumed`.
    RunOn {
        /// The unit.
        #[serde(with = "serde_bytes")]
        unit: &'a [u8],
        /// An encoded `checkpoint::Image`; empty: from the start.
        #[serde(with = "serde_bytes")]
        state: &'a [u8],
        /// Digest that the state must have.
        digest: StateDigest,
        /// Time between two checkpoints, in milliseconds, 0 for one after every step; `None`: none.
        checkpoint_every_millis: Option<u64>,
        /// Steps after which the state is to be told, rising.
        witnesses: Vec<u64>,
    },
    /// A module to compile and nothing else. Answered by `Compiled`, `LoadFailed` or `Broken`.
    Compile {
        /// WebAssembly.
        #[serde(with = "serde_bytes")]
        module: &'a [u8],
        /// What compiling may take.
        limits: CompileLimits,
        /// How it is compiled.
        flavour: Flavour,
    },
    /// What `Compile` gave, instead of `Load`. Answered by `Loaded`, `ArtefactRefused`, `LoadFailed` or `Broken`.
    LoadCompiled {
        /// As it was answered.
        #[serde(with = "serde_bytes")]
        artefact: &'a [u8],
        /// What each guest may use.
        limits: Limits,
        /// How it is compiled.
        flavour: Flavour,
    },
}

/// From the runner.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunnerFrame {
    /// It has locked itself down and listens.
    Ready {
        /// The [`PROTOCOL`] that it speaks.
        protocol: u32,
        /// Number of the thread that guests run on, where the system can stop it by that.
        guest_thread: Option<u32>,
        /// What else holds it back, besides WebAssembly.
        walls: Vec<WallReport>,
    },
    /// The module is compiled.
    Loaded,
    /// The module is at fault.
    LoadFailed {
        /// Why it cannot be compiled.
        message: String,
    },
    /// The runner, its PC or its host is at fault; it ends.
    Broken {
        /// What happened.
        message: String,
    },
    /// A unit ended.
    Finished {
        /// How.
        outcome: Outcome,
        /// CPU time it took, in microseconds.
        cpu_micros: u64,
        /// Fuel it burnt; `None` in a normal run.
        fuel: Option<u64>,
    },
    /// Pages of memory that changed since they were last told, for the next `Checkpoint`.
    Pages {
        /// As `checkpoint::Pages` reads them.
        #[serde(with = "serde_bytes")]
        pages: Vec<u8>,
    },
    /// The state between two steps; its pages were told before.
    Checkpoint {
        /// All of it but memory.
        head: StateHead,
        /// Of all of it.
        digest: StateDigest,
        /// CPU time that the unit has taken since this runner was given it, in microseconds.
        cpu_micros: u64,
    },
    /// A state that was asked for.
    Witnessed {
        /// Steps done.
        steps: u64,
        /// Of the state after them.
        digest: StateDigest,
    },
    /// The unit cannot go on from the state that was given; nothing of it ran.
    NotResumed {
        /// Why not.
        message: String,
    },
    /// A module, compiled.
    Compiled {
        /// For the same runner binary on the same PC only.
        #[serde(with = "serde_bytes")]
        artefact: Vec<u8>,
    },
    /// What was compiled is not for this runner: of another version, or for another CPU.
    ArtefactRefused {
        /// Why not.
        message: String,
    },
}

/// A frame as it goes over the pipe, its length first.
///
/// # Errors
/// When it is longer than [`FRAME_BYTES_MAX`].
pub fn encode(frame: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(frame, vec![0; LENGTH_BYTES]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("a frame has more than {FRAME_BYTES_MAX} bytes"))
    })?;
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Writes a frame.
///
/// # Errors
/// Those of the pipe, and when the frame is too long.
pub fn write(pipe: &mut impl Write, frame: &impl Serialize) -> io::Result<()> {
    pipe.write_all(&encode(frame)?)?;
    pipe.flush()
}

/// Reads the bytes of a frame; `None` at the end of the pipe.
///
/// The buffer grows with what arrives, not with what the length claims.
///
/// # Errors
/// Those of the pipe, and when it ends inside a frame.
pub fn read(pipe: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    let mut filled = 0;
    while filled < LENGTH_BYTES {
        match pipe.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u64::from(u32::from_le_bytes(length));
    let mut bytes = Vec::new();
    pipe.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(Some(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The frame that these bytes are.
///
/// # Errors
/// When they are not exactly one frame.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> io::Result<T> {
    let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let (frame, rest) = postcard::take_from_bytes(bytes).map_err(|error| invalid(error.to_string()))?;
    if rest.is_empty() { Ok(frame) } else { Err(invalid(format!("{} bytes follow the frame", rest.len()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_pipe() {
        let limits = Limits { memory_bytes: u64::MAX, unit_secs: 1, result_bytes: 2, fuel: 3 };
        let frames = [
            HostFrame::Input { name: "a", content: &[0, 255] },
            HostFrame::Load { module: b"\0asm", limits, flavour: Flavour::Strict },
            HostFrame::Run { unit: &[] },
        ];
        let mut pipe = Vec::new();
        for frame in &frames {
            write(&mut pipe, frame).unwrap();
        }
        let mut reader = pipe.as_slice();
        for frame in &frames {
            let bytes = read(&mut reader).unwrap().unwrap();
            assert_eq!(&decode::<HostFrame<'_>>(&bytes).unwrap(), frame);
        }
        assert_eq!(read(&mut reader).unwrap(), None);
    }

    #[test]
    fn torn_and_wrong_frames_are_errors() {
        let whole = encode(&RunnerFrame::Broken { message: "x".to_owned() }).unwrap();
        for cut in 1..whole.len() {
            assert!(read(&mut &whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&mut [255, 255, 255, 255, 0].as_slice()).is_err(), "a length that is a lie");
        assert!(decode::<RunnerFrame>(&[99]).is_err());
        assert!(decode::<RunnerFrame>(&[1, 0]).is_err(), "something follows");
    }
}
