//! Neighbouring relabelings, by what leads from one to the next. In revolving-door order a few swaps come
//! again and again, so each stands once and relabelings refer to it.

use crate::revolving_door::Swap;

/// Most relabelings in a batch: a swap's number in it fits `u8`.
pub(crate) const BATCH: usize = 256;

/// Up to [`BATCH`] swaps in a row.
pub(crate) struct Batch {
    /// The different swaps.
    swaps: Vec<Swap>,
    /// For each relabeling, the number of the swap that leads to it.
    numbers: Vec<u8>,
}

impl Batch {
    /// No swaps.
    pub(crate) fn new() -> Self {
        Self { swaps: Vec::with_capacity(BATCH), numbers: Vec::with_capacity(BATCH) }
    }

    /// Replaces the swaps by the next ones, [`BATCH`] at most.
    pub(crate) fn refill(&mut self, swaps: impl Iterator<Item = Swap>) {
        self.swaps.clear();
        self.numbers.clear();
        for swap in swaps.take(BATCH) {
            let known = self.swaps.iter().position(|&known| known == swap);
            let number = known.unwrap_or_else(|| {
                self.swaps.push(swap);
                self.swaps.len() - 1
            });
            // At most BATCH - 1.
            self.numbers.push(u8::try_from(number).unwrap_or(u8::MAX));
        }
    }

    /// The different swaps.
    pub(crate) fn swaps(&self) -> &[Swap] {
        &self.swaps
    }

    /// For each relabeling, the number of the swap that leads to it.
    pub(crate) fn numbers(&self) -> &[u8] {
        &self.numbers
    }

    /// Number of relabelings.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_different_swaps_has_a_number_for_each() {
        let swap = |enters| Swap { enters, leaves: 7 };
        let mut batch = Batch::new();
        batch.refill((0..300).map(swap));
        assert_eq!((batch.len(), batch.swaps().len()), (BATCH, BATCH));
        assert_eq!(batch.numbers().last(), Some(&255));
        batch.refill([swap(1), swap(2), swap(1)].into_iter());
        assert_eq!(batch.numbers(), [0, 1, 0]);
    }
}
