//! A walk through a range of ranks, one bounded step at a time. The arithmetic is [`crate::kernel`]'s.

use std::ops::Range;

use lull_sdk::Error;

use crate::batch::{BATCH, Batch};
use crate::kernel::{self, Scratch, Tally};
use crate::matrix::{self, Tile};
use crate::revolving_door::{Swap, advance};
use crate::{Counts, Study};

/// Relabelings times genes in a step: 10 to 30 ms of work. The hits of a
/// step fit `i32`.
const STEP_STATISTICS: usize = 60_000_000;

/// A swap that changes nothing.
const STAY: Swap = Swap { enters: 0, leaves: 0 };

/// The state of a walk through a range of ranks.
pub struct Walk {
    /// The subset after the next swap.
    chosen: Vec<u16>,
    /// The swap that leads to the next relabeling.
    next: Swap,
    remaining: u64,
    /// The sum of each gene over the chosen samples, before the next swap.
    sums: Vec<Tile>,
    counts: Counts,
}

impl Walk {
    /// A walk through those ranks.
    ///
    /// # Errors
    /// When there is no rank in the range, or one beyond the last relabeling.
    pub fn new(study: &Study, ranks: Range<u64>) -> Result<Self, Error> {
        if ranks.is_empty() {
            return Err(Error::new(format!(
                "ranks {}..{} are none: give a unit a rank",
                ranks.start, ranks.end
            )));
        }
        if ranks.end > study.relabelings() {
            return Err(Error::new(format!(
                "ranks {}..{} go beyond the {} relabelings of these samples: end the job's range there",
                ranks.start,
                ranks.end,
                study.relabelings()
            )));
        }
        let chosen = study.binomials().unrank(ranks.start);
        Ok(Self {
            sums: study.matrix().sums(&chosen),
            chosen,
            next: STAY,
            remaining: ranks.end - ranks.start,
            counts: Counts::none(study.genes().len()),
        })
    }

    /// Goes a bounded number of relabelings further; false once the walk is over.
    pub fn step(&mut self, study: &Study) -> bool {
        let matrix = study.matrix();
        let mut tally = Tally::new(matrix);
        let mut scratch = Scratch::new();
        let mut batch = Batch::new();
        let mut relabelings = 0;
        while self.remaining > 0 && relabelings * study.genes().len() < STEP_STATISTICS {
            let len = usize::try_from(self.remaining).map_or(BATCH, |remaining| remaining.min(BATCH));
            batch.refill(std::iter::repeat_with(|| self.next_swap(study)).take(len));
            kernel::run(matrix, &batch, &mut self.sums, &mut tally, &mut scratch);
            self.remaining -= len as u64;
            relabelings += len;
        }
        self.add(relabelings as u64, &tally);
        self.remaining > 0
    }

    /// What the walk has counted so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the walk has counted.
    #[must_use]
    pub fn into_counts(self) -> Counts {
        self.counts
    }

    fn next_swap(&mut self, study: &Study) -> Swap {
        // None is after the last relabeling, which ends the walk.
        let after = advance(&mut self.chosen, study.samples()).unwrap_or(STAY);
        std::mem::replace(&mut self.next, after)
    }

    /// From the order of the walk to ranks.
    fn add(&mut self, relabelings: u64, tally: &Tally) {
        self.counts.relabelings += relabelings;
        let genes = self.counts.raw.len();
        for (at, hits) in matrix::numbers(&tally.raw).take(genes).enumerate() {
            self.counts.raw[genes - 1 - at] += u64::from(hits.cast_unsigned());
        }
        let mut hits = 0;
        for (at, edge) in tally.edges.iter().take(genes).enumerate() {
            hits += edge;
            self.counts.stepdown[genes - 1 - at] += hits.cast_unsigned();
        }
    }
}
