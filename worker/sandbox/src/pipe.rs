//! Reading frames from a runner that is not trusted and may not answer in time.

use std::time::Duration;

use crate::checkpoint::PAGES_FRAME_BYTES_MAX;
use crate::frame::LENGTH_BYTES;
use crate::os::ReadWithin;

/// Bytes read at once: the size of a pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that are made room for because a length says so; for more there has to be more first.
const ROOM_BYTES_MAX: usize = PAGES_FRAME_BYTES_MAX + CHUNK_BYTES;

/// What a wait for a frame came to.
pub(crate) enum Wait {
    /// A frame.
    Frame(Frame),
    /// Nothing in that time.
    Timeout,
    /// The runner closed its end.
    Closed,
    /// It announced a frame of that many bytes, more than it may send.
    TooLong(u64),
}

/// A frame as it arrived, behind its length.
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// Its bytes, without the length.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[LENGTH_BYTES..]
    }
}

/// The read end of a runner's standard output, and what has arrived of the next frame.
#[derive(Debug)]
pub(crate) struct Pipe<R> {
    source: R,
    chunk: Box<[u8]>,
    arrived: Vec<u8>,
}

impl<R: ReadWithin> Pipe<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, chunk: vec![0; CHUNK_BYTES].into_boxed_slice(), arrived: Vec::new() }
    }

    /// Waits up to `time` for more bytes, and gives the next frame if it is whole. Errors of the pipe count
    /// as its end. A [`Wait::Timeout`] may come early.
    pub(crate) fn wait(&mut self, time: Duration, frame_bytes_max: u64) -> Wait {
        if let Some(end) = self.take_frame(frame_bytes_max) {
            return end;
        }
        match self.source.read_within(&mut self.chunk, time) {
            Ok(None) => return Wait::Timeout,
            Ok(Some(0)) | Err(_) => return Wait::Closed,
            Ok(Some(count)) => self.arrived.extend_from_slice(&self.chunk[..count]),
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
        if let Some(missing @ 1..) = end.checked_sub(self.arrived.len()) {
            self.arrived.reserve(missing.min(ROOM_BYTES_MAX));
            return None;
        }
        let rest = self.arrived.split_off(end);
        Some(Wait::Frame(Frame(std::mem::replace(&mut self.arrived, rest))))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What a runner writes, in pieces as they arrive.
    struct Pieces(Vec<Vec<u8>>);

    impl ReadWithin for Pieces {
        fn read_within(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
            let Some(piece) = self.0.first_mut() else { return Ok(Some(0)) };
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(Some(count))
        }
    }

    fn framed(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [&length.to_le_bytes(), content].concat()
    }

    /// All frames that arrive in these pieces.
    fn frames(pieces: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut pipe = Pipe::new(Pieces(pieces));
        let mut frames = Vec::new();
        loop {
            match pipe.wait(Duration::ZERO, 1 << 30) {
                Wait::Frame(frame) => frames.push(frame.bytes().to_vec()),
                Wait::Timeout => {}
                Wait::Closed => return frames,
                Wait::TooLong(bytes) => panic!("{bytes}"),
            }
        }
    }

    #[test]
    fn frames_are_found_however_they_arrive() {
        let wanted = [b"a".to_vec(), Vec::new(), vec![7; 3 * CHUNK_BYTES], b"end".to_vec()];
        let whole: Vec<u8> = wanted.iter().flat_map(|content| framed(content)).collect();
        for size in [1, 3, 4, 5, CHUNK_BYTES, whole.len()] {
            let pieces = whole.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(frames(pieces), wanted, "{size} bytes at a time");
        }
    }

    #[test]
    fn a_length_alone_takes_little_memory() {
        let mut pipe = Pipe::new(Pieces(vec![(1_u32 << 30).to_le_bytes().to_vec()]));
        assert!(matches!(pipe.wait(Duration::ZERO, 1 << 30), Wait::Timeout));
        assert!(pipe.arrived.capacity() < 2 * ROOM_BYTES_MAX, "{}", pipe.arrived.capacity());
        let mut pipe = Pipe::new(Pieces(vec![11_u32.to_le_bytes().to_vec()]));
        assert!(matches!(pipe.wait(Duration::ZERO, 10), Wait::TooLong(11)));
    }
}
