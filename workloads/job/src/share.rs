//! A share: of units that may be wrong, of owners that may lie.

#![allow(clippy::float_arithmetic, reason = "probabilities; money is never here")]

/// A part of one, in parts of 10^12.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u64);

impl Share {
    /// Parts of the whole.
    pub const WHOLE: u64 = 1_000_000_000_000;

    /// `parts` of [`Share::WHOLE`]; at most the whole.
    #[must_use]
    pub const fn parts(parts: u64) -> Self {
        Self(if parts > Self::WHOLE { Self::WHOLE } else { parts })
    }

    /// The nearest part to a number from 0 to 1; what is outside is taken to the end.
    #[must_use]
    pub fn of(share: f64) -> Self {
        // `as` saturates, and takes what is no number to 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10^12")]
        Self::parts((share.clamp(0.0, 1.0) * 1e12).round() as u64)
    }

    /// How many parts.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// As a number from 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "at most 10^12")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}
