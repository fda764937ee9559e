//! The threads of presence: one for each source, and one that judges.
//!
//! The thread that sees input closes the gate and freezes every runner itself. The lock it takes is never held
//! over anything slower than that. Only the judge thaws and tells.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Settings, Source, sources};
use crate::core::{Gate, Judgement, People, Presence, Rest, Rough, Sighting};
use crate::freezers::Freezers;
use crate::os::slept;

/// What is known of presence, for the owner.
#[derive(Debug, Clone)]
pub struct Status {
    /// Presence now.
    pub presence: Presence,
    /// Whether somebody may be there at all.
    pub people: People,
    /// Why no guest runs; empty while they may.
    pub rests: Vec<Rest>,
    /// What is watched.
    pub sources: Vec<SourceStatus>,
    /// Since when presence is so.
    pub since: Instant,
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it has said anything yet.
    pub has_answered: bool,
    /// Whether it can be read.
    pub is_readable: bool,
    /// What it said last, in words.
    pub detail: String,
}

/// Watches the machine until the process ends.
#[derive(Clone)]
pub struct Watcher(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something was seen that the judge has to hear of.
    seen: Condvar,
    freezers: Freezers,
    evict_after: Option<Duration>,
}

struct State {
    gate: Gate,
    is_open: bool,
    /// Where it is closed: since when.
    closed_at: Instant,
    presence: Presence,
    since: Instant,
}

impl Watcher {
    /// Starts watching what the settings name.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        settings: Settings,
        freezers: Freezers,
        tell: impl Fn(Presence) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let sources = sources::choose(&settings, &freezers);
        Self::with(sources, &settings, freezers, tell)
    }

    /// Starts watching these sources.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn with(
        sources: Vec<Box<dyn Source>>,
        settings: &Settings,
        freezers: Freezers,
        tell: impl Fn(Presence) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let mut gate = Gate::new(settings.idle_delay, settings.people);
        let sources: Vec<_> =
            sources.into_iter().map(|source| (gate.add(source.name(), source.kind()), source)).collect();
        freezers.freeze_all();
        let state = State { gate, is_open: false, closed_at: now, presence: Presence::Unknown, since: now };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            seen: Condvar::new(),
            freezers,
            evict_after: settings.evict_after,
        });
        for (number, source) in sources {
            let shared = Arc::clone(&shared);
            let name = format!("see {}", source.name());
            thread::Builder::new().name(name).spawn(move || shared.watch(number, source))?;
        }
        let judge = Arc::clone(&shared);
        thread::Builder::new().name("presence".to_owned()).spawn(move || judge.judge(&tell))?;
        Ok(Self(shared))
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let state = self.0.lock();
        let Judgement { presence, rests, .. } = state.gate.judge(now);
        let sources = state.gate.sources(now).map(|(name, said)| {
            let has_answered = said.last.is_some();
            let (is_readable, detail) =
                if said.is_stale { (false, "does not answer".to_owned()) } else { describe(said.last) };
            SourceStatus { name, has_answered, is_readable, detail }
        });
        let people = state.gate.people();
        Status { presence, people, rests, sources: sources.collect(), since: state.since }
    }

    /// No guest runs before then. They are frozen when this returns.
    pub fn pause(&self, until: Instant) {
        let mut state = self.0.lock();
        state.gate.pause(until);
        self.0.close_if_due(&mut state, Instant::now());
        self.0.seen.notify_all();
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.0.lock().gate.resume();
        self.0.seen.notify_all();
    }
}

fn describe(sighting: Option<&Sighting>) -> (bool, String) {
    match sighting {
        None => (false, "has not answered yet".to_owned()),
        Some(Sighting::Input) => (true, "input just now".to_owned()),
        Some(Sighting::LastInput(ago)) => (true, format!("last input {} before it was asked", Rough(*ago))),
        Some(Sighting::InUse) => (true, "in use".to_owned()),
        Some(Sighting::Rests(rests)) if rests.is_empty() => (true, "nothing to rest for".to_owned()),
        Some(Sighting::Rests(_)) => (true, "a reason to rest".to_owned()),
        // What a machine does not have is not missing.
        Some(Sighting::Absent(detail)) => (true, format!("nothing ({detail})")),
        Some(Sighting::Lost(detail)) => (false, detail.clone()),
    }
}

impl Shared {
    /// A thread that panicked while it held the lock left the gate as it was before or after one sighting.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, source: usize, name: &'static str, sighting: Sighting) {
        let now = Instant::now();
        let mut state = self.lock();
        state.gate.note_sleep(slept(), now);
        state.gate.rename(source, name);
        let is_news = state.gate.see(source, sighting, now);
        self.close_if_due(&mut state, now);
        if is_news {
            self.seen.notify_all();
        }
    }

    fn close_if_due(&self, state: &mut State, now: Instant) {
        if state.is_open && !state.gate.is_open(now) {
            self.freezers.freeze_all();
            state.is_open = false;
            state.closed_at = now;
        }
    }

    fn watch(&self, number: usize, mut source: Box<dyn Source>) {
        let _guard = LostOnPanic { shared: self, number, name: source.name() };
        loop {
            let until = self.lock().gate.look_at(number, Instant::now());
            let sighting = source.next(until);
            self.see(number, source.name(), sighting);
        }
    }

    fn judge(&self, tell: &(impl Fn(Presence) + Send + Sync)) {
        let _guard = CloseOnPanic { shared: self, tell };
        let mut told = Presence::Unknown;
        let mut unknown = Vec::new();
        let mut has_evicted = false;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.gate.note_sleep(slept(), now) {
                tracing::info!("the machine has slept: presence is looked at anew");
            }
            let judgement = state.gate.judge(now);
            self.close_if_due(&mut state, now);
            if judgement.presence.is_free() && !state.is_open {
                state.is_open = true;
                has_evicted = false;
                self.freezers.thaw_all();
            }
            if judgement.presence != state.presence {
                (state.presence, state.since) = (judgement.presence, now);
            }
            let evict_at = self.evict_at(&state, &judgement.rests, now).filter(|_| !has_evicted);
            let evicts_now = evict_at.is_some_and(|at| at <= now);
            if judgement.presence != told || evicts_now || is_unknown_anew(&judgement.rests, &mut unknown) {
                drop(state);
                if evicts_now {
                    self.freezers.evict_all();
                    has_evicted = true;
                }
                if judgement.presence != told {
                    told = judgement.presence;
                    log(&judgement, now);
                    tell(told);
                }
                state = self.lock();
                // Something may have been seen meanwhile.
                continue;
            }
            let wake_at = judgement.look_at.into_iter().chain(evict_at).min();
            state = match wake_at {
                None => self.seen.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(now);
                    self.seen.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// When frozen runners have to give their memory back.
    fn evict_at(&self, state: &State, rests: &[Rest], now: Instant) -> Option<Instant> {
        if state.is_open {
            return None;
        }
        if rests.iter().any(|rest| matches!(rest, Rest::MemoryShort { .. })) {
            return Some(now);
        }
        self.evict_after.map(|after| state.closed_at + after)
    }
}

/// Whether something cannot be told that could be told before; says so once.
fn is_unknown_anew(rests: &[Rest], before: &mut Vec<String>) -> bool {
    let reasons: Vec<String> = rests
        .iter()
        .filter_map(|rest| match rest {
            Rest::Unknown { reason } => Some(reason.clone()),
            _ => None,
        })
        .collect();
    let is_new = reasons != *before && !reasons.is_empty();
    if is_new {
        for reason in reasons.iter().filter(|reason| !before.contains(reason)) {
            tracing::warn!(%reason, "presence is unknown, so the PC counts as in use: nothing runs. If nobody sits at this machine, start the agent with --dedicated");
        }
    }
    *before = reasons;
    is_new
}

fn log(judgement: &Judgement, now: Instant) {
    for rest in &judgement.rests {
        tracing::info!(because = rest.sentence(now), "no work runs");
    }
}

/// From when a source's thread has panicked, nobody knows what it would have said.
struct LostOnPanic<'a> {
    shared: &'a Shared,
    number: usize,
    name: &'static str,
}

impl Drop for LostOnPanic<'_> {
    fn drop(&mut self) {
        tracing::error!(source = self.name, "a source of presence broke down: restart the agent");
        let lost = Sighting::Lost(format!("{} broke down: restart the agent", self.name));
        self.shared.see(self.number, self.name, lost);
    }
}

/// Freezes everything when the judge panics: from then on nobody can tell.
struct CloseOnPanic<'a, T: Fn(Presence)> {
    shared: &'a Shared,
    tell: &'a T,
}

impl<T: Fn(Presence)> Drop for CloseOnPanic<'_, T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.gate.break_down("presence cannot be watched any more: restart the agent");
        self.shared.close_if_due(&mut state, Instant::now());
        drop(state);
        tracing::error!("presence cannot be watched any more, so the PC counts as in use: restart the agent");
        (self.tell)(Presence::Unknown);
    }
}
