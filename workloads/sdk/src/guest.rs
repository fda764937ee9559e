//! The guest side of the ABI, called by what [`program!`](crate::program!) exports.
//!
//! Programs have no use for it. Buffers that the runner asks for stay owned here until they are handed back
//! by address and length, so that nothing is ever made from a raw pointer. It knows no program: state that
//! depends on one is a [`Driver`] in the module that the macro expands in.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use lull_abi::{Status, Unit};

use crate::{Driver, Error, Program, Step};

/// The version of the ABI that this SDK speaks.
pub const ABI_VERSION: i32 = lull_abi::ABI_VERSION;

/// A buffer as the runner names it: address and length.
pub type Buffer = (usize, usize);

thread_local! {
    /// Buffers that the runner has asked for and not handed back.
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    /// The result or message. Never borrowed while a program runs, so that the panic hook can write it.
    static RESULT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Compiles for a [`Program`] only: the native stand-in for its exports.
pub fn assert_program<P: Program>() {}

/// Address of a fresh buffer of `len` zero bytes, or 0 when there is no memory for it.
#[must_use]
pub fn alloc(len: usize) -> usize {
    report_panics();
    let mut buffer = Vec::new();
    if buffer.try_reserve_exact(len).is_err() {
        return 0;
    }
    buffer.resize(len, 0);
    let buffer = buffer.into_boxed_slice();
    // Exposed: the runner writes through this address.
    let address = buffer.as_ptr().expose_provenance();
    BUFFERS.with_borrow_mut(|buffers| buffers.push(buffer));
    address
}

/// Takes over the buffers of an input's name and content.
///
/// # Panics
/// When a buffer is not one that [`alloc`] gave, or the name is not UTF-8: `lull_input` has no answer, so
/// that a trap is the only way to refuse.
pub fn input<P: Program>(driver: &mut Driver<P>, name: Buffer, content: Buffer) {
    RESULT.take();
    match take_input(name, content) {
        Ok((name, content)) => driver.input(name, content),
        Err(error) => panic!("{error}"),
    }
}

/// Prepares the program from its inputs.
pub fn prepare<P: Program>(driver: &mut Driver<P>) -> i32 {
    report_panics();
    RESULT.take();
    answer(driver.prepare().map(|()| Step::Done(Vec::new())))
}

/// Starts the unit in that buffer.
pub fn begin<P: Program>(driver: &mut Driver<P>, unit: Buffer) -> i32 {
    RESULT.take();
    answer(take_unit(unit).and_then(|unit| driver.begin(unit)).map(|()| Step::More))
}

/// Does a bounded piece of the unit.
pub fn step<P: Program>(driver: &mut Driver<P>) -> i32 {
    RESULT.take();
    answer(driver.step())
}

/// Address of the result or message.
#[must_use]
pub fn result_ptr() -> usize {
    RESULT.with_borrow(|result| result.as_ptr().expose_provenance())
}

/// Its length in bytes.
#[must_use]
pub fn result_len() -> usize {
    RESULT.with_borrow(Vec::len)
}

fn answer(outcome: Result<Step, Error>) -> i32 {
    let (status, bytes) = match outcome {
        Ok(Step::More) => (Status::More, Vec::new()),
        Ok(Step::Done(result)) => (Status::Done, result),
        Err(error) => (Status::Failed, error.message().as_bytes().to_vec()),
    };
    RESULT.set(bytes);
    status as i32
}

/// Keeps the message of a panic for the runner. With `panic = "abort"` the hook runs before the trap.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            RESULT.set(info.to_string().into_bytes());
            before(info);
        }));
    });
}

fn take_input(name: Buffer, content: Buffer) -> Result<(String, Box<[u8]>), Error> {
    let name = String::from_utf8(take(name)?.into_vec())?;
    Ok((name, take(content)?))
}

fn take_unit(unit: Buffer) -> Result<Unit, Error> {
    Ok(Unit::decode(&take(unit)?)?)
}

fn take((address, len): Buffer) -> Result<Box<[u8]>, Error> {
    BUFFERS.with_borrow_mut(|buffers| {
        let place = |buffer: &[u8]| (buffer.as_ptr().addr(), buffer.len());
        let index = buffers.iter().position(|buffer| place(buffer) == (address, len)).ok_or_else(|| {
            Error::new(format!("{len} bytes at {address} are not a buffer that lull_alloc gave"))
        })?;
        Ok(buffers.swap_remove(index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inputs, Payload, Stage};

    struct Echo;

    impl Program for Echo {
        type Shared = Vec<u8>;
        type Work = Vec<Vec<u8>>;

        fn prepare(inputs: &Inputs) -> Result<Vec<u8>, Error> {
            Ok(inputs.require("sep")?.to_vec())
        }

        fn begin(_: &Vec<u8>, unit: Unit) -> Result<Vec<Vec<u8>>, Error> {
            match unit.payload {
                Payload::Lines(lines) => Ok(lines),
                _ => Err(Error::new("lines only")),
            }
        }

        fn step(sep: &Vec<u8>, lines: &mut Vec<Vec<u8>>) -> Result<Step, Error> {
            if lines.len() > 1 {
                let last = lines.pop().unwrap_or_default();
                let at = lines.len() - 1;
                lines[at] = [&lines[at][..], sep, &last].concat();
                return Ok(Step::More);
            }
            Ok(Step::Done(lines.concat()))
        }
    }

    /// What a runner does: ask for a buffer, fill it. Here nothing can write by address, so the fill goes
    /// through the list of buffers.
    fn buffer(bytes: &[u8]) -> Buffer {
        let address = alloc(bytes.len());
        BUFFERS.with_borrow_mut(|buffers| {
            let last = buffers.last_mut().unwrap();
            last.copy_from_slice(bytes);
        });
        (address, bytes.len())
    }

    fn result() -> Vec<u8> {
        let bytes = RESULT.with_borrow(Clone::clone);
        assert_eq!(bytes.len(), result_len());
        bytes
    }

    #[test]
    fn a_unit_goes_the_whole_road() {
        let mut driver = Driver::<Echo>::new();
        input(&mut driver, buffer(b"sep"), buffer(b"-"));
        assert_eq!(prepare(&mut driver), Status::Done as i32);
        let payload = Payload::Lines(vec![b"a".to_vec(), b"b".to_vec()]);
        let unit = Unit { stage: Stage::Work, number: 0, payload };

        assert_eq!(begin(&mut driver, buffer(&unit.encode())), Status::More as i32);
        assert_eq!(step(&mut driver), Status::More as i32);
        assert_eq!(result(), b"");
        assert_eq!(step(&mut driver), Status::Done as i32);
        assert_eq!(result(), b"a-b");

        assert_eq!(step(&mut driver), Status::Failed as i32, "the unit is over");
        BUFFERS.with_borrow(|buffers| assert!(buffers.is_empty(), "every buffer was taken over"));
    }

    #[test]
    fn failures_leave_a_message() {
        let mut driver = Driver::<Echo>::new();
        assert_eq!(prepare(&mut driver), Status::Failed as i32);
        assert!(result().starts_with(b"this program needs an input named `sep` (given: none)"));
        assert_eq!(begin(&mut driver, buffer(b"nonsense")), Status::Failed as i32);
        assert_eq!(result(), b"not a unit number");
        assert_eq!(begin(&mut driver, (1, 3)), Status::Failed as i32);
        assert_eq!(result(), b"3 bytes at 1 are not a buffer that lull_alloc gave");
    }

    #[test]
    fn a_panic_leaves_its_message() {
        drop(panic::catch_unwind(|| {
            report_panics();
            panic!("the table has no row {}", 7);
        }));
        let message = String::from_utf8(result()).unwrap();
        assert!(message.contains("the table has no row 7"), "{message}");
        assert!(message.contains("guest.rs"), "{message}");
    }
}
