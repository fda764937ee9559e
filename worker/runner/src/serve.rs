//! The conversation with the host. One thread reads, another runs guests: the end of standard input ends
//! the process at once, in the middle of a unit too.

use std::io;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lull_sandbox::frame::{self, HostFrame, PROTOCOL, RunnerFrame};
use lull_sandbox::{Flavour, Limits, WallReport};

use crate::guest::{Ended, Task};
pub(crate) use crate::os::thread_cpu_nanos as cpu_nanos;
use crate::os::{RawStdin, thread_number};
use crate::program::{GUEST_STACK_BYTES, LoadError, Program};
use crate::walls::Layer;
use crate::{guest, harden, program, walls};

/// Stack of the thread that compiles and runs guests: theirs, and the compiler's.
const THREAD_STACK_BYTES: usize = GUEST_STACK_BYTES + 16 * 1024 * 1024;

/// Exit code for a host that broke the protocol, or a system that refused something.
const EXIT_BROKEN: i32 = 4;

/// What runs on the thread of guests: answers frames until it fails.
pub type Work = fn(&mpsc::Receiver<Vec<u8>>) -> io::Result<()>;

/// Serves until standard input ends. `walls` are those that stand already.
pub(crate) fn serve(mut walls: Vec<WallReport>, left_out: &[Layer], work: Work) -> ExitCode {
    let (sender, frames) = mpsc::sync_channel(1);
    // What a thread does when it starts, the filter of system calls would refuse: it comes once that is done.
    let (starting, started) = mpsc::channel();
    let worker =
        thread::Builder::new().name("guest".to_owned()).stack_size(THREAD_STACK_BYTES).spawn(move || {
            let _ = starting.send(thread_number());
            drop(starting);
            if let Err(error) = work(&frames) {
                broken(&error.to_string());
                std::process::exit(EXIT_BROKEN);
            }
        });
    if let Err(error) = worker.and_then(|_| harden::no_more_threads()) {
        broken(&error.to_string());
        std::process::exit(EXIT_BROKEN);
    }
    let guest_thread = started.recv().ok().flatten();
    // The other thread waits for a frame: nothing of a guest's has been read before this stands.
    walls.push(walls::after_threads(left_out));
    if say(&RunnerFrame::Ready { protocol: PROTOCOL, guest_thread, walls }).is_err() {
        std::process::exit(0);
    }
    let Ok(mut stdin) = RawStdin::new() else { std::process::exit(EXIT_BROKEN) };
    loop {
        match frame::read(&mut stdin) {
            Ok(Some(bytes)) => {
                // Fails only when the other thread is ending the process.
                let _ = sender.send(bytes);
            }
            // The host is gone, or has let go of this runner: whatever runs is of no use to anybody.
            Ok(None) | Err(_) => std::process::exit(0),
        }
    }
}

/// Says that this runner is at fault.
pub(crate) fn broken(message: &str) {
    let _ = frame::write(&mut io::stdout().lock(), &RunnerFrame::Broken { message: message.to_owned() });
}

/// Runs guests.
pub(crate) fn work(frames: &mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut inputs = Vec::new();
    let mut program: Option<Program> = None;
    while let Ok(bytes) = frames.recv() {
        let answer = match (frame::decode(&bytes)?, &mut program) {
            (HostFrame::Input { name, content }, None) => {
                inputs.push((name.to_owned(), content.to_vec()));
                continue;
            }
            (HostFrame::Load { module, limits, flavour }, program @ None) => {
                match load(module, std::mem::take(&mut inputs), limits, flavour) {
                    Ok(loaded) => {
                        *program = Some(loaded);
                        RunnerFrame::Loaded
                    }
                    Err(LoadError::Module(message)) => RunnerFrame::LoadFailed { message },
                    Err(error) => return Err(io::Error::other(error.message())),
                }
            }
            (HostFrame::Compile { module, limits, flavour }, None) => {
                harden::compiling(&limits)?;
                match program::compile(module, flavour) {
                    Ok(artefact) => RunnerFrame::Compiled { artefact },
                    Err(LoadError::Module(message)) => RunnerFrame::LoadFailed { message },
                    Err(error) => return Err(io::Error::other(error.message())),
                }
            }
            (HostFrame::LoadCompiled { artefact, limits, flavour }, program @ None) => {
                cap(&inputs, &limits)?;
                match Program::from_compiled(artefact, std::mem::take(&mut inputs), limits, flavour) {
                    Ok(loaded) => {
                        *program = Some(loaded);
                        RunnerFrame::Loaded
                    }
                    Err(LoadError::Module(message)) => RunnerFrame::LoadFailed { message },
                    Err(LoadError::Artefact(message)) => RunnerFrame::ArtefactRefused { message },
                    Err(LoadError::Runner(message)) => return Err(io::Error::other(message)),
                }
            }
            (HostFrame::Run { unit }, Some(program)) => run(program, &Task::plain(unit))?,
            (HostFrame::RunOn { unit, state, digest, checkpoint_every_millis, witnesses }, Some(program)) => {
                let every = checkpoint_every_millis.map(Duration::from_millis);
                let from = (!state.is_empty()).then_some((state, digest));
                run(program, &Task { unit, from, every, witnesses: &witnesses })?
            }
            (HostFrame::Run { .. } | HostFrame::RunOn { .. }, None) => {
                return Err(io::Error::other("a unit came before a module"));
            }
            (_, Some(_)) => return Err(io::Error::other("an input or a module came after the module")),
        };
        say(&answer)?;
    }
    Ok(())
}

fn load(
    module: &[u8],
    inputs: Vec<(String, Vec<u8>)>,
    limits: Limits,
    flavour: Flavour,
) -> Result<Program, LoadError> {
    cap(&inputs, &limits).map_err(|error| LoadError::Runner(error.to_string()))?;
    Program::new(module, inputs, limits, flavour)
}

/// Caps the memory of the process for guests with these inputs.
fn cap(inputs: &[(String, Vec<u8>)], limits: &Limits) -> io::Result<()> {
    let input_bytes = inputs.iter().map(|(name, content)| (name.len() + content.len()) as u64).sum();
    harden::memory(limits, input_bytes)
}

fn run(program: &Program, task: &Task<'_>) -> io::Result<RunnerFrame> {
    let before = cpu_nanos();
    Ok(match guest::run(program, task, &mut say)? {
        Ended::Finished { outcome, fuel } => {
            let cpu_micros = cpu_nanos().saturating_sub(before) / 1000;
            RunnerFrame::Finished { outcome, cpu_micros, fuel }
        }
        Ended::NotResumed(message) => RunnerFrame::NotResumed { message },
    })
}

fn say(frame: &RunnerFrame) -> io::Result<()> {
    frame::write(&mut io::stdout().lock(), frame)
}
