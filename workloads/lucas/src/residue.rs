//! Numbers modulo 2^p - 1.

/// Bits of a limb.
const LIMB_BITS: usize = u32::BITS as usize;

/// s of the Lucas-Lehmer sequence modulo 2^p - 1, as limbs of 32 bits, the lowest first. Always less than 2^p - 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue {
    exponent: usize,
    limbs: Vec<u32>,
    /// Holds a square; kept so that nothing is allocated between two squarings.
    square: Vec<u32>,
}

impl Residue {
    /// The 4 that the sequence starts with.
    ///
    /// # Panics
    /// When the exponent is less than 3: 4 is no residue then.
    #[must_use]
    pub fn first(exponent: u32) -> Self {
        assert!(exponent >= 3, "the sequence starts with 4, which needs an exponent of 3 at least");
        let exponent = exponent as usize;
        let mut limbs = vec![0; exponent.div_ceil(LIMB_BITS)];
        limbs[0] = 4;
        let square = vec![0; 2 * limbs.len()];
        Self { exponent, limbs, square }
    }

    /// The next of the sequence: s^2 - 2.
    pub fn advance(&mut self) {
        self.square();
        self.fold();
        self.subtract_two();
    }

    /// Whether it is 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.limbs.iter().all(|limb| *limb == 0)
    }

    /// Its lowest 64 bits.
    #[must_use]
    pub fn low_bits(&self) -> u64 {
        let limb = |at| u64::from(self.limbs.get(at).copied().unwrap_or(0));
        limb(0) | limb(1) << LIMB_BITS
    }

    /// Limb products that one squaring takes, roughly.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        let limbs = self.limbs.len() as u64;
        limbs * limbs / 2 + 4 * limbs
    }

    /// Each product of two different limbs once, all of them doubled, and the squares of limbs.
    fn square(&mut self) {
        let Self { limbs, square, .. } = self;
        square.fill(0);
        for (at, &limb) in limbs.iter().enumerate() {
            let others = &limbs[at + 1..];
            let (row, rest) = square[2 * at + 1..].split_at_mut(others.len());
            let mut carry = 0;
            for (sum, &other) in row.iter_mut().zip(others) {
                let total = u64::from(limb) * u64::from(other) + u64::from(*sum) + carry;
                *sum = low(total);
                carry = total >> LIMB_BITS;
            }
            rest[0] = low(carry);
        }
        let (mut carry, mut top_bit) = (0, 0);
        for (pair, &limb) in square.chunks_exact_mut(2).zip(limbs.iter()) {
            let own = u64::from(limb) * u64::from(limb);
            for (sum, own) in pair.iter_mut().zip([low(own), low(own >> LIMB_BITS)]) {
                let doubled = *sum << 1 | top_bit;
                top_bit = *sum >> (LIMB_BITS - 1);
                let total = u64::from(doubled) + u64::from(own) + carry;
                *sum = low(total);
                carry = total >> LIMB_BITS;
            }
        }
    }

    /// 2^p is 1: what lies above bit p is added to what lies below.
    fn fold(&mut self) {
        let (skip, shift) = (self.exponent / LIMB_BITS, self.exponent % LIMB_BITS);
        let count = self.limbs.len();
        let above = |at: usize| -> u64 {
            let limb = |at: usize| u64::from(self.square.get(at).copied().unwrap_or(0));
            let both = limb(skip + at) | limb(skip + at + 1) << LIMB_BITS;
            both >> shift & u64::from(u32::MAX)
        };
        let mut carry = 0;
        for at in 0..count {
            let below = if at + 1 == count { self.square[at] & self.top_mask() } else { self.square[at] };
            let total = u64::from(below) + above(at) + carry;
            self.limbs[at] = low(total);
            carry = total >> LIMB_BITS;
        }
        // The sum of two numbers below 2^p has one bit above p at most, which the top limb or the carry holds.
        let top = u64::from(self.limbs[count - 1]) | carry << LIMB_BITS;
        let bit = if shift == 0 { carry } else { top >> shift };
        self.limbs[count - 1] = low(top) & self.top_mask();
        self.add(bit);
        // 2^p - 1 is 0.
        let is_modulus = self.limbs[..count - 1].iter().all(|limb| *limb == u32::MAX)
            && self.limbs[count - 1] == self.top_mask();
        if is_modulus {
            self.limbs.fill(0);
        }
    }

    fn add(&mut self, mut carry: u64) {
        for limb in &mut self.limbs {
            let total = u64::from(*limb) + carry;
            *limb = low(total);
            carry = total >> LIMB_BITS;
        }
    }

    fn subtract_two(&mut self) {
        let is_small = self.limbs[0] < 2 && self.limbs[1..].iter().all(|limb| *limb == 0);
        if is_small {
            // 0 - 2 and 1 - 2 are 2^p - 3 and 2^p - 2.
            let low_limb = self.limbs[0];
            let top_mask = self.top_mask();
            self.limbs.fill(u32::MAX);
            if let Some(top) = self.limbs.last_mut() {
                *top = top_mask;
            }
            self.limbs[0] -= 2 - low_limb;
            return;
        }
        let mut borrow = 2;
        for limb in &mut self.limbs {
            let (less, is_less) = limb.overflowing_sub(borrow);
            *limb = less;
            borrow = u32::from(is_less);
        }
    }

    /// Bits of the top limb that belong to the number.
    const fn top_mask(&self) -> u32 {
        match self.exponent % LIMB_BITS {
            0 => u32::MAX,
            bits => (1 << bits) - 1,
        }
    }
}

/// The lowest limb.
#[allow(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low(bits: u64) -> u32 {
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same sequence in plain integers, for exponents up to 61.
    fn plain(exponent: u32, count: u32) -> u64 {
        let modulus = (1_u128 << exponent) - 1;
        let mut s = 4 % modulus;
        for _ in 0..count {
            s = (s * s + modulus - 2) % modulus;
        }
        u64::try_from(s).unwrap()
    }

    #[test]
    fn small_exponents_agree_with_plain_integers() {
        for exponent in 3..=61 {
            let mut residue = Residue::first(exponent);
            for count in 1..=100 {
                residue.advance();
                assert_eq!(
                    residue.low_bits(),
                    plain(exponent, count),
                    "exponent {exponent}, {count} squarings"
                );
            }
        }
    }

    #[test]
    fn two_and_minus_two_stay() {
        // 2 is a fixed point of s^2 - 2, and M7's sequence ends 0, -2, 2, 2: Lehmer's proof passes through them.
        let mut residue = Residue::first(7);
        for _ in 0..5 {
            residue.advance();
        }
        assert!(residue.is_zero());
        let mut next = || {
            residue.advance();
            residue.low_bits()
        };
        assert_eq!([next(), next(), next()], [125, 2, 2]);
    }

    #[test]
    fn all_ones_square_to_one() {
        // (2^p - 2)^2 = (-1)^2 = 1, so that the next is -1 = 2^p - 2 again; over limbs of every filling.
        for exponent in [31, 32, 33, 63, 64, 65, 96, 127, 521] {
            let mut residue = Residue::first(exponent);
            let mask = residue.top_mask();
            residue.limbs.fill(u32::MAX);
            *residue.limbs.last_mut().unwrap() = mask;
            residue.limbs[0] -= 1;
            let before = residue.limbs.clone();
            residue.advance();
            assert_eq!(residue.limbs, before, "exponent {exponent}");
        }
    }
}
