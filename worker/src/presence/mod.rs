//! Is somebody using this PC?
//!
//! A [`Source`] sees; the [`Gate`] judges; [`watch`] freezes and thaws every runner
//! itself, on a thread that does nothing else, before it tells anybody.

mod x11;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::core::{Gate, Presence, Sighting};
use crate::freezers::Freezers;

pub use x11::X11;

/// Something that sees a person's input.
pub trait Source: Send {
    /// The next thing seen. Waits for input, at most until `until`; then it looks when the last input was.
    fn next(&mut self, until: Option<Instant>) -> Sighting;
}

/// Starts the thread that watches a source.
///
/// # Errors
/// When the thread cannot be started.
pub fn watch(
    mut source: impl Source + 'static,
    idle_delay: Duration,
    freezers: Freezers,
    tell: impl Fn(Presence) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let closed = CloseOnPanic { freezers, tell };
        let CloseOnPanic { freezers, tell } = &closed;
        let mut gate = Gate::new(idle_delay);
        let mut told = Presence::Unknown;
        let mut why_lost = None;
        loop {
            let sighting = source.next(gate.wake_at(Instant::now()));
            gate.see(&sighting, Instant::now());
            let presence = gate.presence(Instant::now());
            if presence != told {
                if presence.is_free() {
                    freezers.thaw_all();
                } else {
                    freezers.freeze_all();
                }
                told = presence;
                tell(presence);
            }
            log(&sighting, &mut why_lost);
        }
    };
    thread::Builder::new().name("presence".to_owned()).spawn(run)?;
    Ok(())
}

/// Freezes everything when the thread panics: from then on nobody can tell.
struct CloseOnPanic<T: Fn(Presence)> {
    freezers: Freezers,
    tell: T,
}

impl<T: Fn(Presence)> Drop for CloseOnPanic<T> {
    fn drop(&mut self) {
        self.freezers.freeze_all();
        tracing::error!("presence cannot be watched any more, so the PC counts as in use: restart the agent");
        (self.tell)(Presence::Unknown);
    }
}

/// Says once that nobody can tell, and once that somebody can again.
fn log(sighting: &Sighting, why_lost: &mut Option<String>) {
    match sighting {
        Sighting::Lost(reason) if why_lost.as_ref() != Some(reason) => {
            tracing::warn!(%reason, "presence is unknown, so the PC counts as in use: nothing runs. If nobody sits at this machine, start the agent with --dedicated");
            *why_lost = Some(reason.clone());
        }
        Sighting::Lost(_) => {}
        Sighting::Input | Sighting::LastInput(_) => {
            if why_lost.take().is_some() {
                tracing::info!("presence is known again");
            }
        }
    }
}
