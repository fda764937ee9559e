//! Reads the books, remembers absences, has notices shown.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::{desktop, words};
use crate::control::{Answer, Earnings};
use crate::core::{Absence, Books, Memory, Notify, Whereabouts, Wish};
use crate::files::write_durably;
use crate::remote::{Remote, explain, unix_secs};

/// The books are read this often with nothing happening, for who looks at a status.
const READ_EVERY: Duration = Duration::from_secs(15 * 60);

/// What the clerk is told.
enum Word {
    /// Where the person is.
    See(Whereabouts),
    /// Somebody wants to know.
    Answer(oneshot::Sender<Answer>),
}

/// Keeps track of what this PC earned.
#[derive(Clone)]
pub struct Clerk {
    words: UnboundedSender<Word>,
    latest: Arc<Mutex<Option<Earnings>>>,
}

impl Clerk {
    /// Starts, in a task of its own. It ends when all of these are dropped.
    #[must_use]
    pub fn start(remote: Arc<Remote>, path: PathBuf, notify: Notify) -> Self {
        let (words, received) = mpsc::unbounded_channel();
        let latest = Arc::new(Mutex::new(None));
        let task = Task {
            absence: Absence::new(memory(&path), notify),
            remote,
            path,
            read_unix_secs: 0,
            problem: None,
            latest: Arc::clone(&latest),
        };
        tokio::spawn(task.run(received));
        Self { words, latest }
    }

    /// Where the person is. Saying it again changes nothing.
    pub fn see(&self, whereabouts: Whereabouts) {
        let _ = self.words.send(Word::See(whereabouts));
    }

    /// Answers with the newest figures there are, after it has asked for newer ones.
    pub fn answer(&self, to: oneshot::Sender<Answer>) {
        let _ = self.words.send(Word::Answer(to));
    }

    /// What was read last.
    #[must_use]
    pub fn latest(&self) -> Option<Earnings> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is remembered there. A file that cannot be read is no memory: at worst one notice says less.
#[must_use]
pub fn memory(path: &Path) -> Memory {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

struct Task {
    absence: Absence,
    remote: Arc<Remote>,
    path: PathBuf,
    read_unix_secs: u64,
    /// Why the last question was not answered.
    problem: Option<String>,
    latest: Arc<Mutex<Option<Earnings>>>,
}

impl Task {
    async fn run(mut self, mut received: UnboundedReceiver<Word>) {
        self.read().await;
        loop {
            match tokio::time::timeout(READ_EVERY, received.recv()).await {
                Ok(None) => return,
                Err(_) => self.read().await,
                Ok(Some(Word::See(whereabouts))) => {
                    let wishes = self.absence.see(whereabouts, unix_secs());
                    self.carry_out(wishes).await;
                }
                Ok(Some(Word::Answer(to))) => {
                    self.read().await;
                    let _ = to.send(self.answer());
                }
            }
        }
    }

    fn answer(&self) -> Answer {
        match self.earnings() {
            Some(earnings) => Answer::Earnings(Box::new(earnings)),
            None => Answer::Refused {
                message: format!(
                    "the coordinator has not said yet what this PC earned ({}); try again when it answers",
                    self.problem.as_deref().unwrap_or("no answer yet")
                ),
            },
        }
    }

    fn earnings(&self) -> Option<Earnings> {
        let books = self.absence.books()?;
        Some(Earnings::new(books, self.absence.memory(), self.read_unix_secs, self.problem.clone()))
    }

    async fn read(&mut self) {
        let wishes = self.ask().await;
        self.carry_out(wishes).await;
    }

    async fn ask(&mut self) -> Vec<Wish> {
        match self.remote.earnings().await {
            Ok(books) => self.take(books),
            Err(status) => {
                tracing::debug!(error = explain(&status), "what was earned cannot be read");
                self.problem = Some(explain(&status));
                self.absence.unreadable();
                Vec::new()
            }
        }
    }

    fn take(&mut self, books: Books) -> Vec<Wish> {
        let now = unix_secs();
        (self.read_unix_secs, self.problem) = (now, None);
        self.absence.read(books, now)
    }

    async fn carry_out(&mut self, wishes: Vec<Wish>) {
        let mut wishes = VecDeque::from(wishes);
        while let Some(wish) = wishes.pop_front() {
            match wish {
                Wish::Keep => self.keep().await,
                Wish::Ask => wishes.extend(self.ask().await),
                Wish::Show(notice) => match desktop::show(&words(&notice)).await {
                    Ok(()) => {
                        tracing::info!(amount = %notice.earned.shown(), units = notice.earned.all_units(), "told who came back what was earned");
                        wishes.extend(self.absence.shown(&notice));
                    }
                    Err(error) => tracing::info!(%error, "no notification was shown"),
                },
            }
        }
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = self.earnings();
    }

    async fn keep(&self) {
        let (path, memory) = (self.path.clone(), self.absence.memory().clone());
        let kept = tokio::task::spawn_blocking(move || {
            write_durably(&path, &serde_json::to_vec(&memory).map_err(std::io::Error::other)?)
        });
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(%error, "absences cannot be remembered beyond a restart");
        }
    }
}
