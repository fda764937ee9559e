//! Rows read so far, for whoever waits: on stderr, every second on a terminal, every ten seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

const ON_A_TERMINAL: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Counts rows.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

/// Ends the talk when it is dropped.
pub(crate) struct Talk {
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    /// Counts some.
    pub(crate) fn add_rows(&self, rows: u64) {
        self.0.fetch_add(rows, Ordering::Relaxed);
    }

    /// So many were read.
    #[must_use]
    pub(crate) fn rows(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Says now and then how far it is.
    #[must_use]
    pub(crate) fn talk(&self) -> Talk {
        let (stop, stopped) = channel();
        let progress = self.clone();
        Talk { stop: Some(stop), thread: Some(std::thread::spawn(move || say(&progress, &stopped))) }
    }
}

fn say(progress: &Progress, stopped: &Receiver<()>) {
    let begun = Instant::now();
    let mut stderr = std::io::stderr();
    let (every, start, end) =
        if stderr.is_terminal() { (ON_A_TERMINAL, "\r", "") } else { (ELSEWHERE, "", "\n") };
    let mut said = false;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let (rows, seconds) = (progress.rows(), begun.elapsed().as_secs());
        // Nobody reads it: the audit goes on.
        let _ = write!(stderr, "{start}{rows} rows read in {seconds} s{end}");
        said = true;
    }
    if said && end.is_empty() {
        let _ = writeln!(stderr);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
