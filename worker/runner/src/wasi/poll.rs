//! Waiting takes no time: the clocks are put forward to when the wait would have ended. A program that sleeps in a
//! loop comes to its end, and at the same instant on every PC.

use wasmtime::Result;

use super::calls::{CLOCKS, STDIN, View, errno};

/// Subscriptions of one call; programs have a handful.
const SUBSCRIPTIONS_MAX: u32 = 1024;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: usize = 32;
const ABSOLUTE: u8 = 1;

const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;

/// When a subscription is due.
enum Due {
    /// Now, with this errno.
    Now(i32),
    /// Then.
    At(u64),
}

struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    due: Due,
}

/// `poll_oneoff`.
pub(super) fn poll_oneoff(
    view: &mut View<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    out: u32,
) -> Result<i32> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Ok(errno::INVAL);
    }
    let mut waits = Vec::new();
    for at in 0..count {
        // Past the end of the address space is past the end of the memory.
        let address = subscriptions.saturating_add(at * SUBSCRIPTION_BYTES);
        let Some(wait) = read(view, address)? else { return Ok(errno::INVAL) };
        waits.push(wait);
    }
    let now = view.process.now_nanos;
    let next = waits.iter().map(|wait| if let Due::At(then) = wait.due { then.max(now) } else { now }).min();
    let now = next.unwrap_or(now);
    let mut told = 0_u32;
    for wait in &waits {
        let error = match wait.due {
            Due::Now(error) => error,
            Due::At(then) if then <= now => errno::SUCCESS,
            Due::At(_) => continue,
        };
        let mut event = [0; EVENT_BYTES];
        event[..8].copy_from_slice(&wait.userdata);
        event[8] = error.to_le_bytes()[0];
        event[10] = wait.kind;
        // One byte, at least, can be read or written: at the end of the input a read says so at once.
        event[16] = u8::from(wait.kind != CLOCK && error == errno::SUCCESS);
        view.write(events.saturating_add(told * 32), &event)?;
        told += 1;
    }
    view.write(out, &told.to_le_bytes())?;
    view.process.now_nanos = now;
    Ok(errno::SUCCESS)
}

/// `None`: of no known kind.
fn read(view: &mut View<'_>, address: u32) -> Result<Option<Subscription>> {
    let bytes: [u8; SUBSCRIPTION_BYTES as usize] = view.read(address)?;
    let word = |at: usize| -> [u8; 4] { std::array::from_fn(|byte| bytes[at + byte]) };
    let long = |at: usize| -> [u8; 8] { std::array::from_fn(|byte| bytes[at + byte]) };
    let subject = u32::from_le_bytes(word(16));
    let due = match bytes[8] {
        CLOCK if subject >= CLOCKS => Due::Now(errno::INVAL),
        CLOCK => {
            let timeout = u64::from_le_bytes(long(24));
            let is_absolute = bytes[40] & ABSOLUTE != 0;
            Due::At(if is_absolute { timeout } else { view.process.now_nanos.saturating_add(timeout) })
        }
        kind @ (READ | WRITE) => {
            let fits = view.is_open(subject) && (subject == STDIN) == (kind == READ);
            Due::Now(if fits { errno::SUCCESS } else { errno::BADF })
        }
        _ => return Ok(None),
    };
    Ok(Some(Subscription { userdata: long(0), kind: bytes[8], due }))
}
