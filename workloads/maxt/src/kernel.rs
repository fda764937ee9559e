//! The inner loop: a batch of neighbouring relabelings against every gene.
//!
//! Genes are walked tile by tile in the order of the [matrix](crate::matrix). Of each tile the changes that
//! the batch's swaps make are worked out once; then, for each relabeling, a change is added to the sums and
//! their absolute values are held against the observed statistics. The running maximum `M` of each
//! relabeling is kept from tile to tile.
//!
//! Where even the smallest `M` of the batch reaches the last gene of a tile, [step-down
//! hits](crate::stepdown) are certain for all its genes, and `M` only collects their statistics, lane by
//! lane: that is most tiles, and they run without a branch.
//!
//! It knows neither ranks nor files: [`crate::Walk`] feeds it.

use crate::batch::{BATCH, Batch};
use crate::lanes::Lanes;
use crate::matrix::{LANES, Matrix, Tile, VECTORS, zeros};
use crate::revolving_door::Swap;
use crate::stepdown::Steps;

/// Hits so far, in walk order.
pub(crate) struct Tally {
    /// Relabelings that reach a gene's observed statistic on their own.
    pub(crate) raw: Vec<Tile>,
    /// Where intervals of step-down hits begin (+1) and end (-1): the hits of a gene are the sum of all
    /// edges up to it.
    pub(crate) edges: Vec<i64>,
}

impl Tally {
    /// No hits.
    pub(crate) fn new(matrix: &Matrix) -> Self {
        Self { raw: vec![zeros(); matrix.tiles()], edges: vec![0; matrix.observed().len() + 1] }
    }
}

/// Room for what is known of a batch while it lasts, kept from one to the next.
pub(crate) struct Scratch {
    /// The running maximum of each relabeling: the largest of its lanes.
    maxima: [Lanes; BATCH],
    /// What each swap adds to the sums of the tile at hand.
    changes: [Tile; BATCH],
    /// The statistics of the tile at hand, by relabeling.
    sizes: [Tile; BATCH],
    /// The largest of them, by relabeling and lane.
    peaks: [Lanes; BATCH],
}

impl Scratch {
    /// Fresh room.
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self {
            maxima: [Lanes::splat(0); BATCH],
            changes: [zeros(); BATCH],
            sizes: [zeros(); BATCH],
            peaks: [Lanes::splat(0); BATCH],
        })
    }
}

/// Takes `sums` through a batch of relabelings and adds their hits to the tally.
pub(crate) fn run(
    matrix: &Matrix,
    batch: &Batch,
    sums: &mut [Tile],
    tally: &mut Tally,
    scratch: &mut Scratch,
) {
    let observed = matrix.observed();
    let Scratch { maxima, changes, sizes, peaks } = scratch;
    let maxima = &mut maxima[..batch.len()];
    maxima.fill(Lanes::splat(0));
    let mut steps = Steps::open(observed, &mut tally.edges, batch.len());
    let mut floor = 0;
    let states = sums.iter_mut().zip(&mut tally.raw);
    for (at, ((weights, thresholds), (sums, hits))) in matrix.iter().zip(states).enumerate() {
        work_out(changes, weights, batch.swaps());
        let pass = Pass { changes, thresholds, sums, hits };

        let first = at * LANES;
        let last_observed = observed[first + LANES - 1];
        if last_observed > floor {
            floor = level(maxima);
        }
        if last_observed <= floor {
            pass.collect(batch.numbers(), maxima);
        } else {
            pass.keep(batch.numbers(), peaks, sizes);
            follow(maxima, peaks, sizes, &mut steps, first);
        }
    }
    level(maxima);
    for (index, maximum) in maxima.iter().enumerate() {
        steps.close(index, observed.len(), maximum.first());
    }
}

// The parts of `run` are out of line: each is a loop that needs every register there is.

/// What each swap adds to the sums of a tile.
#[inline(never)]
fn work_out(changes: &mut [Tile; BATCH], weights: &[Tile], swaps: &[Swap]) {
    for (change, swap) in changes.iter_mut().zip(swaps) {
        let enters = &weights[usize::from(swap.enters)];
        let leaves = &weights[usize::from(swap.leaves)];
        *change = std::array::from_fn(|vector| enters[vector].sub(leaves[vector]));
    }
}

/// Makes the four lanes of each maximum the largest of them, and answers the smallest maximum.
#[inline(never)]
fn level(maxima: &mut [Lanes]) -> i32 {
    let mut smallest = Lanes::splat(i32::MAX);
    for maximum in maxima {
        *maximum = maximum.levelled();
        smallest = smallest.min(*maximum);
    }
    smallest.first()
}

/// Looks for the maxima (levelled) that a tile's peaks raise, and follows them through the tile.
#[inline(never)]
fn follow(maxima: &mut [Lanes], peaks: &[Lanes], sizes: &[Tile], steps: &mut Steps<'_>, first: usize) {
    for (index, ((maximum, peak), sizes)) in maxima.iter_mut().zip(peaks).zip(sizes).enumerate() {
        if peak.above(*maximum).any() {
            *maximum = Lanes::splat(steps.rise(index, first, maximum.first(), sizes));
        }
    }
}

/// One tile on its way through a batch.
struct Pass<'a> {
    changes: &'a [Tile; BATCH],
    thresholds: &'a Tile,
    sums: &'a mut Tile,
    hits: &'a mut Tile,
}

impl Pass<'_> {
    /// Where step-down hits are certain: the maxima collect the statistics.
    #[inline(never)]
    fn collect(self, numbers: &[u8], maxima: &mut [Lanes]) {
        self.through(numbers.iter().zip(maxima), |maximum, largest, _| *maximum = maximum.max(largest));
    }

    /// Where step-down hits depend on where in the tile a maximum rises: keeps the statistics, to look for
    /// rises afterwards. A call inside the loop would put every register aside.
    #[inline(never)]
    fn keep(self, numbers: &[u8], peaks: &mut [Lanes], sizes: &mut [Tile]) {
        self.through(numbers.iter().zip(peaks.iter_mut().zip(sizes)), |(peak, kept), largest, sizes| {
            *peak = largest;
            *kept = sizes;
        });
    }

    /// `each` is given what goes with a relabeling, the largest of the tile's statistics by lane, and the
    /// statistics.
    #[inline(always)]
    fn through<'n, T>(self, relabelings: impl Iterator<Item = (&'n u8, T)>, each: impl Fn(T, Lanes, Tile)) {
        let thresholds = *self.thresholds;
        let mut sums = *self.sums;
        let mut hits = *self.hits;
        for (&number, with) in relabelings {
            let change = &self.changes[usize::from(number)];
            let mut sizes = zeros();
            for vector in 0..VECTORS {
                sums[vector] = sums[vector].add(change[vector]);
                sizes[vector] = sums[vector].abs();
                hits[vector] = hits[vector].sub(sizes[vector].above(thresholds[vector]));
            }
            let largest = sizes.into_iter().reduce(Lanes::max).unwrap_or(sizes[0]);
            each(with, largest, sizes);
        }
        *self.sums = sums;
        *self.hits = hits;
    }
}
