//! Relabelings in revolving-door order: the `k`-subsets of `{0..n-1}` so that neighbours differ by one swap
//! (Knuth, *The Art of Computer Programming* 4A, 7.2.1.3, algorithm R and exercise 45 for ranks).
//!
//! It knows nothing of genes. Subsets are increasing lists of samples.

/// One swap: a sample enters the chosen ones, another leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    /// The sample that enters.
    pub enters: u16,
    /// The sample that leaves.
    pub leaves: u16,
}

/// Binomial coefficients `C(m, i)` for `m <= n` and `i <= k`.
#[derive(Debug, Clone)]
pub struct Binomials {
    /// By `m`, then `i`. Those beyond `u64` are held at its maximum, which orders them rightly.
    rows: Vec<Vec<u64>>,
    k: usize,
}

impl Binomials {
    /// The table for `k`-subsets of `n`.
    #[must_use]
    pub fn new(n: usize, k: usize) -> Self {
        let mut rows: Vec<Vec<u64>> = vec![vec![0; k + 1]; n + 1];
        for m in 0..=n {
            rows[m][0] = 1;
            for i in 1..=k.min(m) {
                rows[m][i] = rows[m - 1][i - 1].saturating_add(rows[m - 1][i]);
            }
        }
        Self { rows, k }
    }

    /// How many subsets there are, if that fits `u64`.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        let count = self.rows.last().map_or(0, |row| row[self.k]);
        (count < u64::MAX).then_some(count)
    }

    /// The subset of that rank. `rank` must be below [`Binomials::count`].
    #[must_use]
    pub fn unrank(&self, rank: u64) -> Vec<u16> {
        let mut chosen = vec![0; self.k];
        let mut rest = rank;
        for i in (1..=self.k).rev() {
            let m = self.rows.partition_point(|row| row[i] <= rest) - 1;
            chosen[i - 1] = u16::try_from(m).unwrap_or(u16::MAX);
            // m + 1 is a row: rest < C(m + 1, i), which therefore did not saturate either.
            rest = self.rows[m + 1][i] - 1 - rest;
        }
        chosen
    }

    /// The rank of that subset, given in increasing order.
    #[must_use]
    pub fn rank(&self, chosen: &[u16]) -> u64 {
        let steps = chosen.iter().zip(1..);
        steps.fold(0, |rank, (&sample, i)| self.rows[usize::from(sample) + 1][i] - 1 - rank)
    }
}

/// Turns a subset of `n` into its successor, and answers the swap; nothing after the last subset.
pub fn advance(chosen: &mut [u16], n: u16) -> Option<Swap> {
    let k = chosen.len();
    let after = |chosen: &[u16], index: usize| chosen.get(index + 1).copied().unwrap_or(n);

    // R3: the easy case.
    let first = *chosen.first()?;
    if k % 2 == 1 {
        if first + 1 < after(chosen, 0) {
            chosen[0] += 1;
            return Some(Swap { enters: first + 1, leaves: first });
        }
    } else if first > 0 {
        chosen[0] -= 1;
        return Some(Swap { enters: first - 1, leaves: first });
    }
    // R4 and R5 by turns, R4 first for odd k; `at` is Knuth's j, less one for counting from 0.
    let mut decrease = k % 2 == 1;
    for at in 1..k {
        let floor = u16::try_from(at - 1).unwrap_or(u16::MAX);
        let here = chosen[at];
        if decrease && usize::from(here) > at {
            chosen[at] = chosen[at - 1];
            chosen[at - 1] = floor;
            return Some(Swap { enters: floor, leaves: here });
        }
        if !decrease && here + 1 < after(chosen, at) {
            let leaves = chosen[at - 1];
            chosen[at - 1] = here;
            chosen[at] = here + 1;
            return Some(Swap { enters: here + 1, leaves });
        }
        decrease = !decrease;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn successors_have_the_next_rank() {
        for n in 1..=9_u16 {
            for k in 1..=n {
                let binomials = Binomials::new(n.into(), k.into());
                let count = binomials.count().unwrap();
                let mut chosen = binomials.unrank(0);
                assert_eq!(chosen, (0..k).collect::<Vec<_>>());
                let mut seen = BTreeSet::from([chosen.clone()]);
                for rank in 1..count {
                    let before = chosen.clone();
                    let swap = advance(&mut chosen, n).unwrap();
                    assert_eq!(chosen, binomials.unrank(rank), "rank {rank} of {k} out of {n}");
                    assert_eq!(binomials.rank(&chosen), rank, "{chosen:?} of {n}");
                    assert!(before.contains(&swap.leaves) && !chosen.contains(&swap.leaves));
                    assert!(!before.contains(&swap.enters) && chosen.contains(&swap.enters));
                    assert!(seen.insert(chosen.clone()));
                }
                assert_eq!(advance(&mut chosen, n), None, "{k} out of {n} ends at rank {count}");
            }
        }
    }

    #[test]
    fn the_largest_counts() {
        assert_eq!(Binomials::new(38, 11).count(), Some(1_203_322_288));
        assert_eq!(Binomials::new(67, 33).count(), Some(14_226_520_737_620_288_370));
        assert_eq!(Binomials::new(68, 34).count(), None);
        assert_eq!(Binomials::new(1000, 999).count(), Some(1000));
        // C(1000, 500) is far beyond u64, and in the table of a count that is not.
        let binomials = Binomials::new(1000, 998);
        let mut chosen = binomials.unrank(249_750);
        for rank in 249_751..249_800 {
            advance(&mut chosen, 1000).unwrap();
            assert_eq!(chosen, binomials.unrank(rank));
        }
    }
}
