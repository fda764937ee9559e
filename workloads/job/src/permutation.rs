//! The secret order of a stage's units: a keyed permutation of `0..n` that needs no table.
//!
//! A balanced Feistel network over the smallest even number of bits that holds `n`, with BLAKE3 in
//! keyed mode as its round function; values past `n` are walked through it again until one falls inside
//! (cycle walking: Black and Rogaway, *Ciphers with Arbitrary Finite Domains*, 2002). Four rounds make a
//! pseudo-random permutation (Luby and Rackoff, 1988); small domains get the ten that NIST SP 800-38G asks for.

/// A keyed permutation of `0..n`.
#[derive(Debug, Clone)]
pub struct Permutation {
    key: [u8; 32],
    n: u64,
    half_bits: u32,
}

const ROUNDS: u8 = 10;

impl Permutation {
    /// The permutation of `0..n` under this key.
    #[must_use]
    pub fn new(key: [u8; 32], n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { key, n, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where position `position` goes.
    ///
    /// # Panics
    /// When `position` is not below `n`.
    #[must_use]
    pub fn apply(&self, position: u64) -> u64 {
        assert!(position < self.n, "position {position} of a permutation of {}", self.n);
        let mut value = position;
        loop {
            value = self.encrypt(value);
            if value < self.n {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (self.round(round, right) & mask));
        }
        left << self.half_bits | right
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let mut input = [round; 9];
        input[1..].copy_from_slice(&half.to_le_bytes());
        let hash = blake3::keyed_hash(&self.key, &input);
        let mut low = [0; 8];
        low.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_permutation_of_every_small_size() {
        for n in 1..200 {
            let permutation = Permutation::new([7; 32], n);
            let mut seen: Vec<u64> = (0..n).map(|position| permutation.apply(position)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>(), "n = {n}");
        }
    }

    #[test]
    fn another_key_is_another_order() {
        let order = |key| (0..100).map(|i| Permutation::new([key; 32], 100).apply(i)).collect::<Vec<_>>();
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..100).collect::<Vec<_>>());
    }

    proptest::proptest! {
        #[test]
        fn stays_inside_large_domains(n in 1u64..=i64::MAX as u64, at in proptest::prelude::any::<u64>()) {
            let permutation = Permutation::new([3; 32], n);
            proptest::prop_assert!(permutation.apply(at % n) < n);
        }
    }
}
