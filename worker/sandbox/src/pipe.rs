//! Reading frames from a runner that is not trusted and may not answer in time.

use std::time::Duration;

use crate::frame::LENGTH_BYTES;
use crate::os::ReadWithin;

/// Bytes read at once: the size of a pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a wait for a frame came to.
pub(crate) enum Wait {
    /// The bytes of a frame.
    Frame(Vec<u8>),
    /// Nothing in that time.
    Timeout,
    /// The runner closed its end.
    Closed,
    /// It announced a frame of that many bytes, more than it may send.
    TooLong(u64),
}

/// The read end of a runner's standard output, and what has arrived of the next frame.
#[derive(Debug)]
pub(crate) struct Pipe<R> {
    source: R,
    arrived: Vec<u8>,
}

impl<R: ReadWithin> Pipe<R> {
    pub(crate) const fn new(source: R) -> Self {
        Self { source, arrived: Vec::new() }
    }

    /// Waits up to `time` for more bytes, and gives the next frame if it is whole. Errors of the pipe count
    /// as its end. A [`Wait::Timeout`] may come early.
    pub(crate) fn wait(&mut self, time: Duration, frame_bytes_max: u64) -> Wait {
        if let Some(end) = self.take_frame(frame_bytes_max) {
            return end;
        }
        let mut chunk = [0; CHUNK_BYTES];
        match self.source.read_within(&mut chunk, time) {
            Ok(None) => return Wait::Timeout,
            Ok(Some(0)) | Err(_) => return Wait::Closed,
            Ok(Some(count)) => self.arrived.extend_from_slice(&chunk[..count]),
        }
        self.take_frame(frame_bytes_max).unwrap_or(Wait::Timeout)
    }

    fn take_frame(&mut self, frame_bytes_max: u64) -> Option<Wait> {
        let length = self.arrived.first_chunk::<LENGTH_BYTES>()?;
        let length = u32::from_le_bytes(*length);
        if u64::from(length) > frame_bytes_max {
            return Some(Wait::TooLong(u64::from(length)));
        }
        let end = LENGTH_BYTES + usize::try_from(length).ok()?;
        if self.arrived.len() < end {
            return None;
        }
        let rest = self.arrived.split_off(end);
        let mut frame = std::mem::replace(&mut self.arrived, rest);
        frame.drain(..LENGTH_BYTES);
        Some(Wait::Frame(frame))
    }
}
