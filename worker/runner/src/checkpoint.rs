//! Capturing a guest between two steps, and bringing another to where it stood.
//!
//! What changed is found by the hashes of pages, so that no second copy of the memory is held: the digest of a
//! state needs them anyway.

use std::io;
use std::time::{Duration, Instant};

use lull_sandbox::checkpoint::{
    GLOBAL_BYTES, PAGE_BYTES, PAGE_RECORD_BYTES_MAX, PAGES_FRAME_BYTES_MAX, Pages, StateDigest, StateHead,
    open, write_page,
};
use lull_sandbox::frame::RunnerFrame;
use wasmtime::{Global, Instance, Memory, Store, V128, Val};

use crate::budget::Budget;
use crate::serve::cpu_nanos;

/// A checkpoint is not taken before this many times what the last one took: one part in a hundred at most.
const COST_FACTOR: u32 = 99;

/// How a runner says something to its host.
pub(crate) type Say<'a> = dyn FnMut(&RunnerFrame) -> io::Result<()> + 'a;

/// A guest's memory and globals.
pub(crate) struct State {
    memory: Memory,
    globals: Vec<Global>,
}

impl State {
    /// Those of an instance; `None` if one of the globals is missing.
    pub(crate) fn of(
        instance: Instance,
        memory: Memory,
        names: &[String],
        store: &mut Store<Budget>,
    ) -> Option<Self> {
        let globals = names.iter().map(|name| instance.get_global(&mut *store, name));
        Some(Self { memory, globals: globals.collect::<Option<_>>()? })
    }

    fn head(&self, steps: u64, store: &mut Store<Budget>) -> io::Result<StateHead> {
        let mut globals = Vec::with_capacity(self.globals.len() * GLOBAL_BYTES);
        for global in &self.globals {
            globals.extend_from_slice(&value_bytes(global.get(&mut *store))?);
        }
        let memory_pages = self.memory.data_size(&*store) / PAGE_BYTES;
        Ok(StateHead {
            steps,
            was_refused_memory: store.data().was_refused_by_job(),
            globals,
            memory_pages: u32::try_from(memory_pages).map_err(io::Error::other)?,
        })
    }

    /// Brings a fresh guest to a state. Its steps, and a recorder to which nothing of that is news.
    ///
    /// # Errors
    /// When the bytes are no state, not one of this module's, or not the one with that digest.
    pub(crate) fn restore(
        &self,
        bytes: &[u8],
        digest: &StateDigest,
        store: &mut Store<Budget>,
    ) -> Result<(u64, Hashes), String> {
        let (head, pages) = open(bytes).map_err(|error| error.to_string())?;
        if head.globals.len() != self.globals.len() * GLOBAL_BYTES {
            return Err("it has another number of globals than the module".to_owned());
        }
        let now = self.memory.data_size(&*store) / PAGE_BYTES;
        let growth =
            u64::from(head.memory_pages).checked_sub(now as u64).ok_or("it has too little memory")?;
        self.memory.grow(&mut *store, growth).map_err(|_| "its memory cannot be had here".to_owned())?;
        fill(self.memory.data_mut(&mut *store), pages)?;
        for (global, bytes) in self.globals.iter().zip(head.globals.chunks_exact(GLOBAL_BYTES)) {
            let value = value_of(bytes).ok_or("one of its globals is damaged")?;
            global.set(&mut *store, value).map_err(|_| "one of its globals has another type".to_owned())?;
        }
        if head.was_refused_memory {
            store.data_mut().refused_by_job();
        }
        let mut hashes = Hashes::default();
        hashes
            .changed(self.memory.data(&*store), |_, _| Ok::<_, ()>(()))
            .map_err(|()| "cannot be".to_owned())?;
        if hashes.state(&head) != *digest {
            return Err("it is not the state that its digest names".to_owned());
        }
        Ok((head.steps, hashes))
    }
}

/// Fills a memory with pages; what they do not name is zero.
fn fill(memory: &mut [u8], pages: &[u8]) -> Result<(), String> {
    let mut pages = Pages::of(pages);
    let mut next = pages.next_page().map_err(|error| error.to_string())?;
    for (number, page) in (0_u32..).zip(memory.chunks_exact_mut(PAGE_BYTES)) {
        match next {
            Some((named, bytes)) if named == number => {
                if bytes.len() == PAGE_BYTES {
                    page.copy_from_slice(bytes);
                } else if !matches!(lz4_flex::block::decompress_into(bytes, page), Ok(PAGE_BYTES)) {
                    return Err("one of its pages is damaged".to_owned());
                }
                next = pages.next_page().map_err(|error| error.to_string())?;
            }
            _ => page.fill(0),
        }
    }
    next.is_none().then_some(()).ok_or_else(|| "a page lies beyond its memory".to_owned())
}

/// Hashes of the pages of a memory.
#[derive(Default)]
pub(crate) struct Hashes(Vec<blake3::Hash>);

impl Hashes {
    /// Brings the hashes up to date, and shows each page that changed.
    fn changed<E>(
        &mut self,
        memory: &[u8],
        mut show: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let zero = blake3::hash(&[0; PAGE_BYTES]);
        // What a guest that grows finds is zero, and nobody has to be told.
        self.0.resize(memory.len() / PAGE_BYTES, zero);
        for ((number, page), known) in (0..).zip(memory.chunks_exact(PAGE_BYTES)).zip(&mut self.0) {
            let hash = blake3::hash(page);
            if hash != *known {
                show(number, if hash == zero { &[] } else { page })?;
                *known = hash;
            }
        }
        Ok(())
    }

    /// The digest of a state whose memory has these hashes.
    fn state(&self, head: &StateHead) -> StateDigest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lull.v1 state\n");
        hasher.update(&head.steps.to_le_bytes());
        hasher.update(&[u8::from(head.was_refused_memory)]);
        hasher.update(&(head.globals.len() as u64).to_le_bytes());
        hasher.update(&head.globals);
        hasher.update(&head.memory_pages.to_le_bytes());
        for hash in &self.0 {
            hasher.update(hash.as_bytes());
        }
        hasher.finalize().into()
    }
}

/// Takes checkpoints of a guest while it runs.
pub(crate) struct Recorder<'a> {
    state: State,
    /// As the host knows the memory.
    told: Hashes,
    steps: u64,
    every: Option<Duration>,
    next_at: Instant,
    witnesses: &'a [u64],
    cpu_nanos_before: u64,
}

impl<'a> Recorder<'a> {
    /// `told` is what the host knows already, `steps` how many that were.
    pub(crate) fn new(
        state: State,
        (steps, told): (u64, Hashes),
        every: Option<Duration>,
        witnesses: &'a [u64],
    ) -> Self {
        let next_at = Instant::now() + every.unwrap_or_default();
        let ahead = witnesses.partition_point(|witness| *witness <= steps);
        let witnesses = &witnesses[ahead..];
        Self { state, told, steps, every, next_at, witnesses, cpu_nanos_before: cpu_nanos() }
    }

    /// A step is done, and another will follow: tells what is due.
    ///
    /// # Errors
    /// When the host cannot be told.
    pub(crate) fn after_step(&mut self, store: &mut Store<Budget>, say: &mut Say<'_>) -> io::Result<()> {
        self.steps += 1;
        if let Some((&steps, rest)) = self.witnesses.split_first()
            && steps == self.steps
        {
            self.witnesses = rest;
            // By hashes of its own: what they find is not told as pages.
            let head = self.state.head(self.steps, store)?;
            let mut hashes = Hashes::default();
            hashes.changed(self.state.memory.data(&*store), |_, _| io::Result::Ok(()))?;
            say(&RunnerFrame::Witnessed { steps, digest: hashes.state(&head) })?;
        }
        let Some(every) = self.every else { return Ok(()) };
        // What this PC refused, another would not have: that state is nobody else's.
        if Instant::now() < self.next_at || store.data().was_refused_by_pc() {
            return Ok(());
        }
        let before = cpu_nanos();
        self.tell(store, say)?;
        let cost = Duration::from_nanos(cpu_nanos().saturating_sub(before));
        let wait = if every.is_zero() { every } else { every.max(cost.saturating_mul(COST_FACTOR)) };
        self.next_at = Instant::now() + wait;
        Ok(())
    }

    fn tell(&mut self, store: &mut Store<Budget>, say: &mut Say<'_>) -> io::Result<()> {
        let head = self.state.head(self.steps, store)?;
        let mut pages = Vec::with_capacity(PAGES_FRAME_BYTES_MAX);
        let mut compressed = vec![0; lz4_flex::block::get_maximum_output_size(PAGE_BYTES)];
        self.told.changed(self.state.memory.data(&*store), |number, page| {
            let length = if page.is_empty() {
                0
            } else {
                lz4_flex::block::compress_into(page, &mut compressed).map_err(io::Error::other)?
            };
            let smaller = if length < page.len() { &compressed[..length] } else { page };
            write_page(&mut pages, number, smaller);
            if pages.len() + PAGE_RECORD_BYTES_MAX > PAGES_FRAME_BYTES_MAX {
                let frame = RunnerFrame::Pages { pages: std::mem::take(&mut pages) };
                say(&frame)?;
                if let RunnerFrame::Pages { pages: told } = frame {
                    pages = told;
                    pages.clear();
                }
            }
            io::Result::Ok(())
        })?;
        if !pages.is_empty() {
            say(&RunnerFrame::Pages { pages })?;
        }
        let digest = self.told.state(&head);
        let cpu_micros = cpu_nanos().saturating_sub(self.cpu_nanos_before) / 1000;
        say(&RunnerFrame::Checkpoint { head, digest, cpu_micros })
    }
}

fn value_bytes(value: Val) -> io::Result<[u8; GLOBAL_BYTES]> {
    let (kind, bits) = match value {
        Val::I32(value) => (0, u128::from(value.cast_unsigned())),
        Val::I64(value) => (1, u128::from(value.cast_unsigned())),
        Val::F32(bits) => (2, u128::from(bits)),
        Val::F64(bits) => (3, u128::from(bits)),
        Val::V128(value) => (4, value.as_u128()),
        _ => return Err(io::Error::other("a global holds a reference")),
    };
    let mut bytes = [kind; GLOBAL_BYTES];
    bytes[1..].copy_from_slice(&bits.to_le_bytes());
    Ok(bytes)
}

fn value_of(bytes: &[u8]) -> Option<Val> {
    let (kind, bits) = bytes.split_first()?;
    let bits = u128::from_le_bytes(bits.try_into().ok()?);
    Some(match kind {
        0 => Val::I32(u32::try_from(bits).ok()?.cast_signed()),
        1 => Val::I64(u64::try_from(bits).ok()?.cast_signed()),
        2 => Val::F32(u32::try_from(bits).ok()?),
        3 => Val::F64(u64::try_from(bits).ok()?),
        4 => Val::V128(V128::from(bits)),
        _ => return None,
    })
}
