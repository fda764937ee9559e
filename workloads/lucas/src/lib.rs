//! The Lucas-Lehmer test: is the Mersenne number 2^p - 1 prime?
//!
//! For an odd prime p let s = 4, then p - 2 times s = s^2 - 2 (mod 2^p - 1). The number is prime exactly when
//! the last s is 0. Every squaring needs the one before it: nothing here can be split, so that a long test has
//! to outlive the PC that it began on. It is the test of the Great Internet Mersenne Prime Search.
//!
//! As a Lull module: its items are exponents, split by lines (one a line) or by range (what is no odd prime in
//! it is passed over). Its result has a line for each exponent: the exponent, `prime` or `composite`, and the
//! lowest 64 bits of the last s as 16 hexadecimal digits, by which the search compares its results.
//!
//! Method: Lehmer, *Annals of Mathematics* 31:419 (1930), in the form of his *J. London Math. Soc.* 10:162 (1935).
//! Squaring is the schoolbook's, all of it integers: quick enough for exponents of five digits, and no match for
//! the search's own programs beyond.

mod program;
mod residue;

pub use program::Lucas;
pub use residue::Residue;

lull_sdk::program!(Lucas);
