//! Four `i32` side by side, the widest that every guest has. No more operations than the kernel needs.
//!
//! Natively this is portable Rust that LLVM turns into vector code. So it does for wasm, but reorders it so
//! that the runner's compiler runs out of registers; there each operation names its instruction (all of them
//! safe functions), which keeps the order of the source.

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod imp {
    use core::arch::wasm32 as arch;

    pub(crate) type Raw = arch::v128;

    #[inline(always)]
    pub(crate) fn new([a, b, c, d]: [i32; 4]) -> Raw {
        arch::i32x4(a, b, c, d)
    }
    #[inline(always)]
    pub(crate) fn get(v: Raw) -> [i32; 4] {
        [
            arch::i32x4_extract_lane::<0>(v),
            arch::i32x4_extract_lane::<1>(v),
            arch::i32x4_extract_lane::<2>(v),
            arch::i32x4_extract_lane::<3>(v),
        ]
    }
    #[inline(always)]
    pub(crate) fn add(a: Raw, b: Raw) -> Raw {
        arch::i32x4_add(a, b)
    }
    #[inline(always)]
    pub(crate) fn sub(a: Raw, b: Raw) -> Raw {
        arch::i32x4_sub(a, b)
    }
    #[inline(always)]
    pub(crate) fn abs(a: Raw) -> Raw {
        arch::i32x4_abs(a)
    }
    #[inline(always)]
    pub(crate) fn max(a: Raw, b: Raw) -> Raw {
        arch::i32x4_max(a, b)
    }
    #[inline(always)]
    pub(crate) fn min(a: Raw, b: Raw) -> Raw {
        arch::i32x4_min(a, b)
    }
    #[inline(always)]
    pub(crate) fn swap_pairs(a: Raw) -> Raw {
        arch::i32x4_shuffle::<2, 3, 0, 1>(a, a)
    }
    #[inline(always)]
    pub(crate) fn swap_in_pairs(a: Raw) -> Raw {
        arch::i32x4_shuffle::<1, 0, 3, 2>(a, a)
    }
    #[inline(always)]
    pub(crate) fn above(a: Raw, b: Raw) -> Raw {
        arch::i32x4_gt(a, b)
    }
    #[inline(always)]
    pub(crate) fn any(mask: Raw) -> bool {
        arch::v128_any_true(mask)
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod imp {
    use std::array::from_fn;

    pub(crate) type Raw = [i32; 4];

    #[inline(always)]
    pub(crate) fn new(lanes: [i32; 4]) -> Raw {
        lanes
    }
    #[inline(always)]
    pub(crate) fn get(v: Raw) -> [i32; 4] {
        v
    }
    #[inline(always)]
    pub(crate) fn add(a: Raw, b: Raw) -> Raw {
        from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
    #[inline(always)]
    pub(crate) fn sub(a: Raw, b: Raw) -> Raw {
        from_fn(|lane| a[lane].wrapping_sub(b[lane]))
    }
    #[inline(always)]
    pub(crate) fn abs(a: Raw) -> Raw {
        a.map(i32::wrapping_abs)
    }
    #[inline(always)]
    pub(crate) fn max(a: Raw, b: Raw) -> Raw {
        from_fn(|lane| a[lane].max(b[lane]))
    }
    #[inline(always)]
    pub(crate) fn min(a: Raw, b: Raw) -> Raw {
        from_fn(|lane| a[lane].min(b[lane]))
    }
    #[inline(always)]
    pub(crate) fn swap_pairs([a, b, c, d]: Raw) -> Raw {
        [c, d, a, b]
    }
    #[inline(always)]
    pub(crate) fn swap_in_pairs([a, b, c, d]: Raw) -> Raw {
        [b, a, d, c]
    }
    #[inline(always)]
    pub(crate) fn above(a: Raw, b: Raw) -> Raw {
        from_fn(|lane| -i32::from(a[lane] > b[lane]))
    }
    #[inline(always)]
    pub(crate) fn any(mask: Raw) -> bool {
        (mask[0] | mask[1] | mask[2] | mask[3]) != 0
    }
}

/// Four integers. Arithmetic wraps.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(imp::Raw);

impl Lanes {
    /// Those four.
    #[inline(always)]
    pub(crate) fn new(lanes: [i32; 4]) -> Self {
        Self(imp::new(lanes))
    }

    /// Four times the same.
    #[inline(always)]
    pub(crate) fn splat(value: i32) -> Self {
        Self::new([value; 4])
    }

    /// The four.
    #[inline(always)]
    pub(crate) fn get(self) -> [i32; 4] {
        imp::get(self.0)
    }

    /// Lane by lane, the sum.
    #[inline(always)]
    pub(crate) fn add(self, other: Self) -> Self {
        Self(imp::add(self.0, other.0))
    }

    /// Lane by lane, the difference.
    #[inline(always)]
    pub(crate) fn sub(self, other: Self) -> Self {
        Self(imp::sub(self.0, other.0))
    }

    /// Lane by lane, the absolute value.
    #[inline(always)]
    pub(crate) fn abs(self) -> Self {
        Self(imp::abs(self.0))
    }

    /// Lane by lane, the larger.
    #[inline(always)]
    pub(crate) fn max(self, other: Self) -> Self {
        Self(imp::max(self.0, other.0))
    }

    /// Lane by lane, -1 where this is larger than `other`, else 0.
    #[inline(always)]
    pub(crate) fn above(self, other: Self) -> Self {
        Self(imp::above(self.0, other.0))
    }

    /// Whether a lane of a mask is set.
    #[inline(always)]
    pub(crate) fn any(self) -> bool {
        imp::any(self.0)
    }

    /// Lane by lane, the smaller.
    #[inline(always)]
    pub(crate) fn min(self, other: Self) -> Self {
        Self(imp::min(self.0, other.0))
    }

    /// The largest of the four, four times.
    #[inline(always)]
    pub(crate) fn levelled(self) -> Self {
        let halves = self.max(Self(imp::swap_pairs(self.0)));
        halves.max(Self(imp::swap_in_pairs(halves.0)))
    }

    /// The first of the four.
    #[inline(always)]
    pub(crate) fn first(self) -> i32 {
        self.get()[0]
    }
}
