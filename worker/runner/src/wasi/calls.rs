//! The functions of preview 1. An address that a program gives is checked before anything is done; one that lies
//! outside its memory ends the program, as an access of its own would.

use lull_abi::{exports, wasi};
use wasmtime::{Caller, Engine, Extern, FuncType, Linker, Memory, Result, Val, ValType};

use super::poll;
use super::process::{Exit, Process};

/// Answers of functions, as preview 1 numbers them.
pub(super) mod errno {
    pub(crate) const SUCCESS: i32 = 0;
    pub(crate) const BADF: i32 = 8;
    pub(crate) const INVAL: i32 = 28;
    pub(crate) const NOSYS: i32 = 52;
    pub(crate) const SPIPE: i32 = 70;
}

/// Standard input, output and error.
pub(super) const STDIN: u32 = 0;
pub(super) const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Clocks that there are: of the day, monotonic, of the process, of the thread. All show the same.
pub(super) const CLOCKS: u32 = 4;
/// What a clock can tell apart, in nanoseconds.
const CLOCK_RESOLUTION_NANOS: u64 = 1;

/// Buffers of one read or write: `IOV_MAX` of other systems.
const BUFFERS_MAX: u32 = 1024;

const BUFFER_BYTES: u32 = 8;
const FDSTAT_BYTES: usize = 24;
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;
const RIGHT_POLL: u64 = 1 << 27;

/// A program's memory beside what it sees of the world.
pub(super) struct View<'a> {
    pub(super) memory: &'a mut [u8],
    pub(super) process: &'a mut Process,
}

impl<'a> View<'a> {
    fn of(caller: &'a mut Caller<'_, Process>) -> Result<Self> {
        let memory: Option<Memory> = caller.get_export(exports::MEMORY).and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| wasmtime::Error::msg("the program has no memory"))?;
        let (memory, process) = memory.data_and_store_mut(caller);
        Ok(Self { memory, process })
    }

    pub(super) fn bytes(&mut self, address: u32, len: u32) -> Result<&mut [u8]> {
        piece(self.memory, address, len)
    }

    pub(super) fn write(&mut self, address: u32, bytes: &[u8]) -> Result<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| outside())?;
        self.bytes(address, len)?.copy_from_slice(bytes);
        Ok(())
    }

    fn write_u32(&mut self, address: u32, value: usize) -> Result<()> {
        let value = u32::try_from(value).map_err(|_| outside())?;
        self.write(address, &value.to_le_bytes())
    }

    pub(super) fn read<const N: usize>(&mut self, address: u32) -> Result<[u8; N]> {
        let start = address as usize;
        let bytes = start.checked_add(N).and_then(|end| self.memory.get(start..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(outside)
    }

    pub(super) fn is_open(&self, fd: u32) -> bool {
        self.process.is_open.get(fd as usize).is_some_and(|is_open| *is_open)
    }

    /// The buffers of a read or write, all of them inside the memory; `None` when there are too many, or they hold
    /// more than a count of bytes can say.
    fn buffers(&mut self, address: u32, count: u32) -> Result<Option<Vec<(u32, u32)>>> {
        if count > BUFFERS_MAX {
            return Ok(None);
        }
        let (mut buffers, mut total) = (Vec::new(), 0_u32);
        for at in 0..count {
            let entry = address.checked_add(at * BUFFER_BYTES).ok_or_else(outside)?;
            let [a, b, c, d, e, f, g, h] = self.read(entry)?;
            let (start, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            self.bytes(start, len)?;
            let Some(sum) = total.checked_add(len) else { return Ok(None) };
            total = sum;
            buffers.push((start, len));
        }
        Ok(Some(buffers))
    }
}

fn piece(memory: &mut [u8], address: u32, len: u32) -> Result<&mut [u8]> {
    let start = address as usize;
    start.checked_add(len as usize).and_then(|end| memory.get_mut(start..end)).ok_or_else(outside)
}

fn outside() -> wasmtime::Error {
    wasmtime::Error::msg("the program gave an address outside its memory")
}

/// Defines all of preview 1.
///
/// # Errors
/// None in practice: names stand once.
pub(super) fn define(engine: &Engine, linker: &mut Linker<Process>) -> Result<()> {
    refuse_all(engine, linker)?;
    linker.allow_shadowing(true);
    // The memory, and then what the function does.
    macro_rules! define {
        ($($name:literal ($($param:ident: $type:ty),*) $function:expr;)*) => {$(
            linker.func_wrap(wasi::MODULE, $name, |mut caller: Caller<'_, Process> $(, $param: $type)*| -> Result<i32> {
                let function: fn(&mut View<'_> $(, $type)*) -> Result<i32> = $function;
                function(&mut View::of(&mut caller)? $(, $param)*)
            })?;
        )*};
    }
    define! {
        "args_get"(list: u32, text: u32) args_get;
        "args_sizes_get"(count: u32, bytes: u32) args_sizes_get;
        "environ_get"(list: u32, text: u32) |_, _, _| Ok(errno::SUCCESS);
        "environ_sizes_get"(count: u32, bytes: u32) environ_sizes_get;
        "clock_res_get"(clock: u32, out: u32) |view, clock, out| clock_answer(view, clock, CLOCK_RESOLUTION_NANOS, out);
        "clock_time_get"(clock: u32, precision: u64, out: u32) |view, clock, _, out| {
            clock_answer(view, clock, view.process.now_nanos, out)
        };
        "random_get"(address: u32, len: u32) |view, address, len| {
            view.process.random.fill(piece(view.memory, address, len)?);
            Ok(errno::SUCCESS)
        };
        "fd_read"(fd: u32, buffers: u32, count: u32, out: u32) fd_read;
        "fd_write"(fd: u32, buffers: u32, count: u32, out: u32) fd_write;
        "fd_fdstat_get"(fd: u32, out: u32) fd_fdstat_get;
        "fd_close"(fd: u32) fd_close;
        "fd_seek"(fd: u32, offset: u64, whence: u32, out: u32) |view, fd, _, _, _| {
            Ok(if view.is_open(fd) { errno::SPIPE } else { errno::BADF })
        };
        "fd_tell"(fd: u32, out: u32) |view, fd, _| Ok(if view.is_open(fd) { errno::SPIPE } else { errno::BADF });
        // No folder is open, so that a program stops looking for one.
        "fd_prestat_get"(fd: u32, out: u32) |_, _, _| Ok(errno::BADF);
        "poll_oneoff"(subscriptions: u32, events: u32, count: u32, out: u32) poll::poll_oneoff;
    }
    linker.func_wrap(wasi::MODULE, "sched_yield", || errno::SUCCESS)?;
    linker.func_wrap(wasi::MODULE, wasi::PROC_EXIT, |code: i32| -> Result<()> {
        Err(wasmtime::Error::new(Exit(code)))
    })?;
    Ok(())
}

/// Defines every function so that it answers an errno: that a descriptor is not open, or that there is no such thing.
fn refuse_all(engine: &Engine, linker: &mut Linker<Process>) -> Result<()> {
    for (name, letters) in wasi::FUNCTIONS {
        let params = letters.chars().map(|letter| if letter == 'l' { ValType::I64 } else { ValType::I32 });
        let result = (name != wasi::PROC_EXIT).then_some(ValType::I32);
        let takes_fd = ["fd_", "path_", "sock_"].iter().any(|prefix| name.starts_with(prefix));
        let ty = FuncType::new(engine, params, result);
        linker.func_new(wasi::MODULE, name, ty, move |caller, params, results| {
            let fd = params.first().and_then(Val::i32).unwrap_or(-1).cast_unsigned() as usize;
            let is_open = caller.data().is_open.get(fd).is_some_and(|is_open| *is_open);
            let answer = if takes_fd && !is_open { errno::BADF } else { errno::NOSYS };
            if let Some(result) = results.first_mut() {
                *result = Val::I32(answer);
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn args_get(view: &mut View<'_>, list: u32, text: u32) -> Result<i32> {
    let args = std::mem::take(&mut view.process.args);
    let (mut entry, mut at) = (list, text);
    for arg in &args {
        view.write(entry, &at.to_le_bytes())?;
        view.write(at, arg)?;
        // What does not fit the address space has not fitted the memory before.
        entry = entry.saturating_add(4);
        at = at.saturating_add(u32::try_from(arg.len()).unwrap_or(u32::MAX));
    }
    view.process.args = args;
    Ok(errno::SUCCESS)
}

fn args_sizes_get(view: &mut View<'_>, count: u32, bytes: u32) -> Result<i32> {
    let sum = view.process.args.iter().map(Vec::len).sum();
    view.write_u32(count, view.process.args.len())?;
    view.write_u32(bytes, sum)?;
    Ok(errno::SUCCESS)
}

fn environ_sizes_get(view: &mut View<'_>, count: u32, bytes: u32) -> Result<i32> {
    view.write_u32(count, 0)?;
    view.write_u32(bytes, 0)?;
    Ok(errno::SUCCESS)
}

fn clock_answer(view: &mut View<'_>, clock: u32, nanos: u64, out: u32) -> Result<i32> {
    if clock >= CLOCKS {
        return Ok(errno::INVAL);
    }
    view.write(out, &nanos.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn fd_read(view: &mut View<'_>, fd: u32, buffers: u32, count: u32, out: u32) -> Result<i32> {
    if fd != STDIN || !view.is_open(fd) {
        return Ok(errno::BADF);
    }
    let Some(buffers) = view.buffers(buffers, count)? else { return Ok(errno::INVAL) };
    view.read::<4>(out)?;
    let mut total = 0;
    for (start, len) in buffers {
        let read = view.process.stdin.read(piece(view.memory, start, len)?);
        total += read;
        if read < len as usize {
            break;
        }
    }
    view.write_u32(out, total)?;
    Ok(errno::SUCCESS)
}

fn fd_write(view: &mut View<'_>, fd: u32, buffers: u32, count: u32, out: u32) -> Result<i32> {
    if (fd != STDOUT && fd != STDERR) || !view.is_open(fd) {
        return Ok(errno::BADF);
    }
    let Some(buffers) = view.buffers(buffers, count)? else { return Ok(errno::INVAL) };
    let mut total = 0;
    for (start, len) in buffers {
        let bytes = piece(view.memory, start, len)?;
        if fd == STDOUT {
            view.process.stdout.write(bytes).map_err(wasmtime::Error::new)?;
        } else {
            view.process.stderr.write(bytes);
        }
        total += bytes.len();
    }
    view.write_u32(out, total)?;
    Ok(errno::SUCCESS)
}

/// Of no known type, so that libraries take it for a pipe.
fn fd_fdstat_get(view: &mut View<'_>, fd: u32, out: u32) -> Result<i32> {
    if !view.is_open(fd) {
        return Ok(errno::BADF);
    }
    let rights = RIGHT_POLL | if fd == STDIN { RIGHT_READ } else { RIGHT_WRITE };
    let mut stat = [0; FDSTAT_BYTES];
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    view.write(out, &stat)?;
    Ok(errno::SUCCESS)
}

fn fd_close(view: &mut View<'_>, fd: u32) -> Result<i32> {
    if !view.is_open(fd) {
        return Ok(errno::BADF);
    }
    view.process.is_open[fd as usize] = false;
    Ok(errno::SUCCESS)
}
