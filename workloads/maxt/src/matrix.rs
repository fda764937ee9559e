//! Genes in tiles: what every relabeling is held against, laid out for the [kernel](crate::kernel). Walk
//! order throughout: from the last rank to the first, so that observed statistics ascend.

use crate::lanes::Lanes;

/// Genes in a tile: as many as leave registers for their sums, counts and thresholds.
pub(crate) const LANES: usize = 12;

/// Vectors in a tile.
pub(crate) const VECTORS: usize = LANES / 4;

/// One number for each gene of a tile.
pub(crate) type Tile = [Lanes; VECTORS];

/// A tile of zeros.
pub(crate) fn zeros() -> Tile {
    [Lanes::splat(0); VECTORS]
}

/// A tile of those numbers, by position in the tile.
pub(crate) fn tile(number: impl Fn(usize) -> i32) -> Tile {
    std::array::from_fn(|vector| Lanes::new(std::array::from_fn(|lane| number(vector * 4 + lane))))
}

/// The numbers of tiles in a row.
pub(crate) fn numbers(tiles: &[Tile]) -> impl Iterator<Item = i32> {
    tiles.iter().flatten().flat_map(|lanes| lanes.get())
}

/// What every relabeling is held against.
pub(crate) struct Matrix {
    samples: usize,
    /// By tile, then sample: a tile's weights are together, and fit the first-level cache.
    weights: Vec<Tile>,
    /// Observed statistics less one, by tile; a gene is hit when its statistic is above.
    thresholds: Vec<Tile>,
    /// Observed statistics by gene, then `i32::MAX` up to a whole tile.
    observed: Vec<i32>,
}

impl Matrix {
    /// The matrix of genes (observed statistic, weight of each sample), observed ascending.
    pub(crate) fn new(samples: usize, genes: &[(i32, &[i32])]) -> Self {
        let tiles = genes.len().div_ceil(LANES);
        let gene = |at: usize, lane: usize| genes.get(at * LANES + lane);
        let observed: Vec<i32> =
            (0..tiles * LANES).map(|at| genes.get(at).map_or(i32::MAX, |gene| gene.0)).collect();
        let mut weights = Vec::with_capacity(tiles * samples);
        for at in 0..tiles {
            for sample in 0..samples {
                weights.push(tile(|lane| gene(at, lane).map_or(0, |gene| gene.1[sample])));
            }
        }
        let thresholds = observed.chunks(LANES).map(|chunk| tile(|lane| chunk[lane] - 1)).collect();
        Self { samples, weights, thresholds, observed }
    }

    /// Number of tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.thresholds.len()
    }

    /// Of each tile: the weights by sample, and the thresholds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[Tile], &Tile)> {
        self.weights.chunks_exact(self.samples).zip(&self.thresholds)
    }

    /// Observed statistics, ascending, in whole tiles.
    pub(crate) fn observed(&self) -> &[i32] {
        &self.observed
    }

    /// The sum of each gene over the chosen samples.
    pub(crate) fn sums(&self, chosen: &[u16]) -> Vec<Tile> {
        let of_tile = |weights: &[Tile]| {
            chosen.iter().fold(zeros(), |sum, &sample| {
                std::array::from_fn(|vector| sum[vector].add(weights[usize::from(sample)][vector]))
            })
        };
        self.iter().map(|(weights, _)| of_tile(weights)).collect()
    }
}
