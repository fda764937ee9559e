//! What a program sees of the world, all of it made from its unit.

use lull_abi::text::{Text, lines};
use lull_abi::{Stage, wasi};
use lull_sandbox::{MESSAGE_BYTES_MAX, cut_message};

use crate::budget::Budget;
use crate::program::Program;

/// What every clock shows when a program starts, in nanoseconds: the first second of the year 2000. Not 0: Go's
/// runtime takes that for a broken clock.
pub(super) const START_NANOS: u64 = 946_684_800 * 1_000_000_000;

/// Bytes of standard error that are kept, its last: a message with room for how the program ended.
pub(super) const STDERR_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 124;

/// What the seed of random bytes is derived for. A change of it changes results.
const SEED_CONTEXT: &str = "Lull: random bytes of a WASI program, version 1";

/// The program has ended itself with this code.
#[derive(Debug, thiserror::Error)]
#[error("the program exited with {0}")]
pub(super) struct Exit(pub(super) i32);

/// The program has written more than its job allows.
#[derive(Debug, thiserror::Error)]
#[error("the result is too large")]
pub(super) struct OutputFull;

/// A running program.
pub(super) struct Process {
    pub(super) budget: Budget,
    /// The arguments, each with its final 0.
    pub(super) args: Vec<Vec<u8>>,
    pub(super) stdin: Stdin,
    pub(super) stdout: Stdout,
    pub(super) stderr: Stderr,
    /// Which of standard input, output and error are open.
    pub(super) is_open: [bool; 3],
    /// What every clock shows.
    pub(super) now_nanos: u64,
    pub(super) random: blake3::OutputReader,
}

impl Process {
    pub(super) fn new(program: &Program, stage: Stage, unit: &[u8], stdin: Text) -> Self {
        let own = [wasi::PROGRAM_NAME, wasi::argument(stage)].map(|text| text.as_bytes().to_vec());
        let mut args: Vec<Vec<u8>> = own.into();
        let more = program.inputs.iter().filter(|(name, _)| name == wasi::ARGS_INPUT);
        args.extend(more.flat_map(|(_, content)| lines(content)).map(<[u8]>::to_vec));
        for arg in &mut args {
            arg.push(0);
        }
        let mut seed = blake3::Hasher::new_derive_key(SEED_CONTEXT);
        for arg in &args {
            seed.update(arg);
        }
        seed.update(unit);
        Self {
            budget: Budget::new(program.limits.memory_bytes),
            args,
            stdin: Stdin { text: stdin, at: 0 },
            stdout: Stdout { bytes: Vec::new(), bytes_max: program.limits.result_bytes },
            stderr: Stderr { bytes: Vec::new() },
            is_open: [true; 3],
            now_nanos: START_NANOS,
            random: seed.finalize_xof(),
        }
    }
}

/// Standard input.
pub(super) struct Stdin {
    text: Text,
    /// Bytes that were read: of all, or of the number that is next.
    at: usize,
}

impl Stdin {
    /// Fills a buffer as far as there is input; how far.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = match &mut self.text {
                Text::Bytes(bytes) => {
                    let read = copy(bytes.get(self.at..).unwrap_or_default(), &mut buffer[filled..]);
                    self.at += read;
                    read
                }
                Text::Numbers { start, end } if *start < *end => {
                    let line = format!("{start}\n");
                    let read = copy(&line.as_bytes()[self.at..], &mut buffer[filled..]);
                    self.at += read;
                    if self.at == line.len() {
                        (*start, self.at) = (*start + 1, 0);
                    }
                    read
                }
                Text::Numbers { .. } => 0,
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        filled
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

/// Standard output: the result.
pub(super) struct Stdout {
    pub(super) bytes: Vec<u8>,
    pub(super) bytes_max: u64,
}

impl Stdout {
    /// # Errors
    /// When there would be more than the job allows.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), OutputFull> {
        if (self.bytes.len() + bytes.len()) as u64 > self.bytes_max {
            return Err(OutputFull);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Standard error: its end is the message of a failure.
pub(super) struct Stderr {
    bytes: Vec<u8>,
}

impl Stderr {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(STDERR_BYTES_MAX)..];
        self.bytes.extend_from_slice(last);
        self.bytes.drain(..self.bytes.len().saturating_sub(STDERR_BYTES_MAX));
    }

    /// How the program ended, with what it said of it.
    pub(super) fn explain(&self, how: &str) -> String {
        // The cut may have gone through a character.
        let is_rest = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
        let start = self.bytes.iter().take_while(|byte| is_rest(byte)).count().min(3);
        let said = self.bytes[start..].trim_ascii();
        if said.is_empty() {
            return how.to_owned();
        }
        cut_message(&[how.as_bytes(), b": ", said].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: Text, piece: usize) -> Vec<u8> {
        let mut stdin = Stdin { text, at: 0 };
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            let count = stdin.read(&mut buffer);
            all.extend_from_slice(&buffer[..count]);
            if count < piece {
                assert_eq!(stdin.read(&mut buffer), 0, "the end is the end");
                return all;
            }
        }
    }

    #[test]
    fn input_is_the_same_in_pieces_of_every_size() {
        for piece in 1..20 {
            assert_eq!(read_all(Text::Bytes(b"a\nbc\n".to_vec()), piece), b"a\nbc\n");
            assert_eq!(read_all(Text::Numbers { start: 8, end: 12 }, piece), b"8\n9\n10\n11\n");
            let last = Text::Numbers { start: u64::MAX - 1, end: u64::MAX };
            assert_eq!(read_all(last, piece), b"18446744073709551614\n");
        }
    }

    #[test]
    fn output_ends_at_its_limit() {
        let mut stdout = Stdout { bytes: Vec::new(), bytes_max: 3 };
        assert!(stdout.write(b"ab").is_ok());
        assert!(stdout.write(b"cd").is_err(), "one past it");
        assert!(stdout.write(b"c").is_ok(), "at the limit");
        assert!(stdout.write(b"").is_ok());
        assert_eq!(stdout.bytes, b"abc");
    }

    #[test]
    fn the_end_of_standard_error_is_kept() {
        let mut stderr = Stderr { bytes: Vec::new() };
        assert_eq!(stderr.explain("it trapped"), "it trapped");
        stderr.write(b"reading\nno table\n");
        assert_eq!(stderr.explain("it exited with 1"), "it exited with 1: reading\nno table");
        stderr.write("é".repeat(STDERR_BYTES_MAX).as_bytes());
        stderr.write(b"x");
        let message = stderr.explain("it trapped");
        assert!(message.starts_with("it trapped: éé") && message.ends_with("éx"), "{message}");
        assert!(message.len() <= MESSAGE_BYTES_MAX);
    }
}
