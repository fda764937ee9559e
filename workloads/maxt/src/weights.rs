//! From the values of a gene to integer weights whose sum over the chosen samples orders relabelings as
//! the absolute t statistic does. The source of each bound is a constant of [`crate::table`].

/// The scale of weights: a vector of unit length has length `K`.
const K: u128 = 100_000_000;

/// The weight of each sample, or nothing if all values are the same.
///
/// With `T = sum X` and `V = n sum X^2 - T^2`, the weight of a sample is
/// `sign(nX - T) * round_half_up(K |nX - T| / sqrt(nV))`.
pub(crate) fn weights(values: &[i64]) -> Option<Vec<i32>> {
    let n = values.len() as i128;
    let total: i128 = values.iter().map(|&x| i128::from(x)).sum();
    let squares: i128 = values.iter().map(|&x| i128::from(x) * i128::from(x)).sum();
    let denominator = (n * (n * squares - total * total)).unsigned_abs();
    if denominator == 0 {
        return None;
    }
    let weight = |&x: &i64| {
        let deviation = n * i128::from(x) - total;
        let size = scaled_root(deviation.unsigned_abs(), denominator);
        if deviation < 0 { -size } else { size }
    };
    Some(values.iter().map(weight).collect())
}

/// `4 K^2`, whose root doubles `K` so that the last bit rounds.
const SCALE: u128 = 4 * K * K;

/// `round_half_up(K a / sqrt(d))` for `a^2 <= d`: half of `floor(sqrt(4 K^2 a^2 / d))`, rounded up.
fn scaled_root(a: u128, d: u128) -> i32 {
    let quotient = if d <= u128::MAX / SCALE { a * a * SCALE / d } else { long_division(a * a, d) };
    // At most SCALE, which fits.
    let root = u64::try_from(quotient).unwrap_or(u64::MAX).isqrt();
    i32::try_from(root.div_ceil(2)).unwrap_or(i32::MAX)
}

/// `floor(SCALE a / d)` where the product does not fit, for `10 d` that does.
fn long_division(a: u128, d: u128) -> u128 {
    let mut quotient = a / d;
    let mut remainder = a % d;
    for factor in [10; 16].into_iter().chain([4]) {
        remainder *= factor;
        quotient = quotient * factor + remainder / d;
        remainder %= d;
    }
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{MAX_ABS_VALUE, MAX_SAMPLES};

    #[test]
    fn weights_are_centred_and_of_length_k() {
        assert_eq!(weights(&[-1, 1]), Some(vec![-70_710_678, 70_710_678]));
        assert_eq!(weights(&[5, 5, 5]), None);
    }

    #[test]
    fn the_largest_table_fits() {
        let x = MAX_ABS_VALUE * 100_000;
        let half = MAX_SAMPLES / 2;
        let values: Vec<i64> = [vec![-x; half], vec![x; half]].concat();
        // K / sqrt(n)
        let weights = weights(&values).unwrap();
        assert_eq!(weights[0], -3_162_278);
        let sum: i32 = weights[half..].iter().sum();
        assert_eq!(sum, 1_581_139_000, "and its largest sum fits i32");
    }

    #[test]
    fn halves_round_up() {
        // K a / sqrt(d) = 12_500_000.5 exactly, and just below it
        assert_eq!(scaled_root(25_000_001, 40_000_000_000_000_000), 12_500_001);
        assert_eq!(scaled_root(25_000_001, 40_000_000_000_000_001), 12_500_000);
        // the same by long division
        let far = 1_000_000_000;
        assert_eq!(scaled_root(25_000_001 * far, 40_000_000_000_000_000 * far * far), 12_500_001);
        assert_eq!(scaled_root(25_000_001 * far, 40_000_000_000_000_000 * far * far + 1), 12_500_000);
    }
}
