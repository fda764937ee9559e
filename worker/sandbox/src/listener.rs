//! What a runner tells of a unit while it runs, before anybody believes it.

use std::time::{Duration, Instant};

use crate::checkpoint::{
    GLOBALS_BYTES_MAX, IMAGE_BYTES_MAX, Image, PAGE_BYTES, Pages, Progress, StateHead, Told,
};
use crate::frame::RunnerFrame;
use crate::runner::RunOn;

/// Hears what a runner tells of a unit, and believes none of it that could do harm.
pub(crate) struct Listener {
    pub(crate) image: Image,
    pub(crate) is_resumed: bool,
    memory_pages_max: u64,
    every: Option<Duration>,
    start: Instant,
    /// The least number that the next page may have.
    next_page: u32,
    checkpoints: u64,
    has_pages: bool,
    is_too_large: bool,
    witnesses: std::vec::IntoIter<u64>,
    witnessed: u64,
}

impl Listener {
    /// Listens to a unit that is run so, in that much memory at most.
    pub(crate) fn new(how: &RunOn, memory_bytes_max: u64) -> Self {
        Self {
            image: Image::default(),
            is_resumed: how.from.is_some(),
            memory_pages_max: memory_bytes_max / PAGE_BYTES as u64,
            every: how.checkpoint_every,
            start: Instant::now(),
            next_page: 0,
            checkpoints: 0,
            has_pages: false,
            is_too_large: false,
            witnesses: how.witnesses.clone().into_iter(),
            witnessed: 0,
        }
    }

    /// Whether nothing has been told yet.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.checkpoints == 0 && !self.has_pages && self.witnessed == 0
    }

    /// Takes in what a runner says, which it said when the unit had run so long, and tells of it.
    ///
    /// # Errors
    /// When it is more than was asked for, or than the unit's job allows.
    pub(crate) fn hear(
        &mut self,
        frame: RunnerFrame,
        ran: Duration,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), String> {
        match frame {
            RunnerFrame::Pages { pages } if self.every.is_some() => self.pages(&pages),
            RunnerFrame::Checkpoint { head, digest, cpu_micros } => {
                self.checkpoint(head)?;
                if !self.is_too_large {
                    tell(Progress::Checkpoint(&self.image, &Told { digest, cpu_micros, ran }));
                }
                Ok(())
            }
            RunnerFrame::Witnessed { steps, digest } if self.witnesses.any(|witness| witness == steps) => {
                self.witnessed += 1;
                tell(Progress::Witnessed { steps, digest });
                Ok(())
            }
            other => Err(format!("it answered {other:?} to a unit")),
        }
    }

    fn pages(&mut self, pages: &[u8]) -> Result<(), String> {
        self.has_pages = true;
        let mut pages = Pages::from_number(pages, self.next_page);
        while let Some((number, page)) = pages.next_page().map_err(|error| error.to_string())? {
            if u64::from(number) >= self.memory_pages_max {
                return Err(format!("it told of page {number}, past the memory that its job allows"));
            }
            if !self.is_too_large {
                self.image.put(number, page);
            }
        }
        self.next_page = pages.next_number();
        if self.image.size_bytes() > IMAGE_BYTES_MAX {
            (self.image, self.is_too_large) = (Image::default(), true);
        }
        Ok(())
    }

    fn checkpoint(&mut self, head: StateHead) -> Result<(), String> {
        let Some(every) = self.every else { return Err("it told of a checkpoint unasked".to_owned()) };
        // Each makes the host write a file: no more of them than twice what was asked for. A runner's clock
        // goes on while it is frozen.
        self.checkpoints += 1;
        if u128::from(self.checkpoints - 1) * every.as_millis() > 2 * self.start.elapsed().as_millis() {
            return Err("it told of far more checkpoints than it was asked for".to_owned());
        }
        if u64::from(head.memory_pages) > self.memory_pages_max || head.globals.len() > GLOBALS_BYTES_MAX {
            return Err("it told of a state that its job does not allow".to_owned());
        }
        self.next_page = 0;
        if !self.image.set_head(head) {
            return Err("it told of a page past its memory".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::write_page;

    /// Two pages of memory, checkpoints every so often, and a state to tell after three steps.
    fn listener(every: Option<Duration>) -> Listener {
        let how = RunOn { checkpoint_every: every, witnesses: vec![3], ..RunOn::default() };
        Listener::new(&how, 2 * PAGE_BYTES as u64)
    }

    fn pages(numbers: &[u32]) -> RunnerFrame {
        let mut pages = Vec::new();
        numbers.iter().for_each(|number| write_page(&mut pages, *number, &[1; 10]));
        RunnerFrame::Pages { pages }
    }

    fn checkpoint(memory_pages: u32, globals_bytes: usize) -> RunnerFrame {
        let head = StateHead { memory_pages, globals: vec![0; globals_bytes], ..StateHead::default() };
        RunnerFrame::Checkpoint { head, digest: [0; 32], cpu_micros: 0 }
    }

    fn witnessed(steps: u64) -> RunnerFrame {
        RunnerFrame::Witnessed { steps, digest: [0; 32] }
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        let (each, hourly) = (Some(Duration::ZERO), Some(Duration::from_secs(3600)));
        let check = |every, frames: Vec<RunnerFrame>, expected: Option<&str>| {
            let mut listener = listener(every);
            let mut heard = frames.into_iter().map(|frame| listener.hear(frame, Duration::ZERO, &mut |_| ()));
            let refused = heard.find_map(Result::err);
            match (&refused, expected) {
                (Some(refused), Some(expected)) => assert!(refused.contains(expected), "{refused}"),
                (refused, expected) => assert_eq!(refused.as_deref(), expected),
            }
        };
        check(
            each,
            vec![pages(&[0, 1]), checkpoint(2, 0), pages(&[0]), checkpoint(2, 0), witnessed(3)],
            None,
        );
        check(each, vec![pages(&[0]), pages(&[1]), checkpoint(2, GLOBALS_BYTES_MAX)], None);
        check(each, vec![pages(&[1]), pages(&[0])], Some("out of order"));
        check(each, vec![pages(&[2])], Some("past the memory that its job allows"));
        check(each, vec![pages(&[1]), checkpoint(1, 0)], Some("a page past its memory"));
        check(each, vec![checkpoint(3, 0)], Some("a state that its job does not allow"));
        check(each, vec![checkpoint(2, GLOBALS_BYTES_MAX + 1)], Some("a state that its job does not allow"));
        check(hourly, vec![checkpoint(2, 0), checkpoint(2, 0)], Some("far more checkpoints"));
        check(None, vec![checkpoint(2, 0)], Some("unasked"));
        check(None, vec![pages(&[0])], Some("to a unit"));
        check(None, vec![witnessed(3), witnessed(3)], Some("to a unit"));
        check(None, vec![witnessed(2)], Some("to a unit"));
    }
}
