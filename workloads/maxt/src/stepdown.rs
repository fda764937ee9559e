//! Step-down hits of a batch, as intervals of the walk.
//!
//! A gene is hit when its observed statistic is at most the running maximum `M`. Observed statistics ascend
//! along the walk, so the hits between two changes of `M` are one interval, and intervals that touch are
//! kept as one. Only their edges are counted; see [`Tally::edges`](crate::kernel::Tally::edges).

use crate::batch::BATCH;
use crate::matrix::Tile;

/// The intervals of a batch's relabelings.
pub(crate) struct Steps<'a> {
    observed: &'a [i32],
    edges: &'a mut [i64],
    /// Where the open interval of each relabeling begins: an edge that is counted, while its end is not.
    starts: [usize; BATCH],
}

impl<'a> Steps<'a> {
    /// Opens an interval at the first gene for each of that many relabelings.
    pub(crate) fn open(observed: &'a [i32], edges: &'a mut [i64], relabelings: usize) -> Self {
        edges[0] += relabelings as i64;
        Self { observed, edges, starts: [0; BATCH] }
    }

    /// Follows a maximum through a tile in which it rises; answers the new one. `first` is the tile's first
    /// gene, `sizes` are its statistics.
    #[inline(never)]
    pub(crate) fn rise(&mut self, index: usize, first: usize, mut maximum: i32, sizes: &Tile) -> i32 {
        for (lane, size) in sizes.iter().flat_map(|lanes| lanes.get()).enumerate() {
            if size > maximum {
                let at = first + lane;
                // While the old maximum still hits the gene before, the interval goes on.
                if at > 0 && self.observed[at - 1] > maximum {
                    self.close(index, at, maximum);
                    self.edges[at] += 1;
                    self.starts[index] = at;
                }
                maximum = size;
            }
        }
        maximum
    }

    /// Ends the open interval where the maximum, unchanged up to `at`, hits no more.
    pub(crate) fn close(&mut self, index: usize, at: usize, maximum: i32) {
        let start = self.starts[index];
        let hits = self.observed[start..at].partition_point(|&observed| observed <= maximum);
        self.edges[start + hits] -= 1;
    }
}
