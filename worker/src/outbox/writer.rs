//! The thread that writes the outbox. Everything that queued while the disk was busy goes in one write.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::{Entry, Outbox};
use crate::core::Attempt;

/// Entries in one write.
const BATCH_MAX: usize = 1000;

/// What became of entries.
#[derive(Debug)]
pub enum Written {
    /// An attempt is on disk.
    Stored(Attempt),
    /// The disk does not take it; it is kept in memory and tried again. Told once, until it does.
    Failed(io::Error),
    /// The disk takes all of it again, after it did not. Also told where there was no attempt among it: whoever
    /// stopped for [`Written::Failed`] would wait for ever.
    Recovered,
}

/// Hands entries to the [`Writer`].
#[derive(Debug, Clone)]
pub struct OutboxSender(Sender<Entry>);

impl OutboxSender {
    /// Queues an entry.
    pub fn send(&self, entry: Entry) {
        // The writer ends when its last sender does, so that there is one.
        let _ = self.0.send(entry);
    }
}

/// The thread that writes the outbox.
#[derive(Debug)]
pub struct Writer;

impl Writer {
    /// Starts it. It tries again every `retry_every` what the disk did not take, and ends with its last
    /// sender.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        mut outbox: Outbox,
        retry_every: Duration,
        tell: impl Fn(Written) + Send + 'static,
    ) -> io::Result<OutboxSender> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("outbox".to_owned())
            .spawn(move || write(|batch| outbox.write(batch), &receiver, retry_every, tell))?;
        Ok(OutboxSender(sender))
    }
}

fn write(
    mut keep: impl FnMut(&[Entry]) -> io::Result<()>,
    receiver: &Receiver<Entry>,
    retry_every: Duration,
    tell: impl Fn(Written),
) {
    let mut batch: Vec<Entry> = Vec::new();
    let mut has_failed = false;
    loop {
        // While the disk is full, wait for its next chance; otherwise for something to write.
        let next = if has_failed {
            receiver.recv_timeout(retry_every)
        } else {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(entry) => batch.push(entry),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        batch.extend(receiver.try_iter().take(BATCH_MAX));
        match keep(&batch) {
            Ok(()) => {
                for entry in batch.drain(..) {
                    if let Entry::Put(attempt, _) = entry {
                        tell(Written::Stored(*attempt));
                    }
                }
                if std::mem::take(&mut has_failed) {
                    tell(Written::Recovered);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tell(Written::Failed(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lull_job::Stage;
    use lull_sandbox::{Outcome, UnitRun};

    use super::*;
    use crate::core::AttemptKey;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn entry(index: u64) -> Entry {
        let run = UnitRun { outcome: Outcome::Result(vec![1; 5000]), cpu_micros: 1, fuel: None };
        let (attempt, large) = Attempt::of(AttemptKey { token: 1, index }, 3, Stage::Work, run);
        Entry::Put(Box::new(attempt), large)
    }

    #[test]
    fn what_the_disk_refuses_is_written_later() {
        let parent = tempfile::tempdir().unwrap();
        let [folder, away] = ["outbox", "away"].map(|name| parent.path().join(name));
        fs::create_dir(&folder).unwrap();
        let outbox = Outbox::open(&folder).unwrap();
        fs::rename(&folder, &away).unwrap();
        let (tell, told) = mpsc::channel();
        let tell = move |written| tell.send(written).unwrap();
        let sender = Writer::start(outbox, Duration::from_millis(1), tell).unwrap();
        sender.send(entry(0));
        sender.send(entry(1));
        assert!(matches!(told.recv_timeout(DEADLINE).unwrap(), Written::Failed(_)));
        fs::rename(&away, &folder).unwrap();
        assert_eq!(stored_until_recovered(&told), [0, 1]);
        assert_eq!(Outbox::open(&folder).unwrap().attempts().count(), 2);
    }

    fn stored_until_recovered(told: &mpsc::Receiver<Written>) -> Vec<u64> {
        let mut stored = Vec::new();
        loop {
            match told.recv_timeout(DEADLINE).unwrap() {
                Written::Stored(attempt) => stored.push(attempt.key.index),
                Written::Failed(_) => {}
                Written::Recovered => return stored,
            }
        }
    }

    #[test]
    fn a_disk_that_refused_only_what_is_to_be_forgotten_is_told_to_work_again() {
        let (sender, receiver) = mpsc::channel();
        sender.send(Entry::Forget(AttemptKey { token: 1, index: 0 })).unwrap();
        let (mut tries, told) = (0, std::cell::RefCell::new(Vec::new()));
        let mut sender = Some(sender);
        let keep = |batch: &[Entry]| {
            tries += 1;
            assert!(batch.len() <= 1, "an entry was written twice");
            if tries < 3 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            drop(sender.take());
            Ok(())
        };
        write(keep, &receiver, Duration::from_millis(1), |written| {
            told.borrow_mut().push(match written {
                Written::Stored(_) => "stored",
                Written::Failed(_) => "failed",
                Written::Recovered => "recovered",
            });
        });
        assert_eq!(told.into_inner(), ["failed", "recovered"]);
    }
}
