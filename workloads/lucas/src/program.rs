//! The test as a Lull program.

use std::collections::VecDeque;

use lull_sdk::{Error, Inputs, Payload, Program, Step, Unit};

use crate::Residue;

/// Limb products of one step: some ten milliseconds.
const STEP_COST: u64 = 10_000_000;

/// The largest exponent: its squares would take years.
const EXPONENT_MAX: u32 = 100_000_000;

/// Lucas-Lehmer tests, one exponent after another.
pub struct Lucas;

/// A unit that is being worked on.
#[derive(Debug)]
pub struct Tests {
    exponents: VecDeque<u32>,
    current: Option<Test>,
    lines: String,
}

#[derive(Debug)]
struct Test {
    exponent: u32,
    squarings_left: u32,
    residue: Residue,
}

impl Program for Lucas {
    type Shared = ();
    type Work = Tests;

    fn prepare(_: &Inputs) -> Result<(), Error> {
        Ok(())
    }

    fn begin((): &(), unit: Unit) -> Result<Tests, Error> {
        let exponents = match unit.payload {
            Payload::Lines(lines) => lines.iter().map(|line| exponent(line)).collect::<Result<_, _>>()?,
            Payload::Range { start, end } => (start..end.min(u64::from(EXPONENT_MAX) + 1))
                .filter_map(|number| u32::try_from(number).ok())
                .filter(|number| is_odd_prime(*number))
                .collect(),
            _ => return Err(Error::new("lucas tests exponents: split its job by lines or by range")),
        };
        Ok(Tests { exponents, current: None, lines: String::new() })
    }

    fn step((): &(), tests: &mut Tests) -> Result<Step, Error> {
        let Some(test) = tests.current.as_mut() else {
            let Some(exponent) = tests.exponents.pop_front() else {
                return Ok(Step::Done(std::mem::take(&mut tests.lines).into_bytes()));
            };
            let residue = Residue::first(exponent);
            tests.current = Some(Test { exponent, squarings_left: exponent - 2, residue });
            return Ok(Step::More);
        };
        let squarings = STEP_COST.div_ceil(test.residue.cost()).min(test.squarings_left.into());
        for _ in 0..squarings {
            test.residue.advance();
            test.squarings_left -= 1;
        }
        if test.squarings_left == 0 {
            let verdict = if test.residue.is_zero() { "prime" } else { "composite" };
            tests.lines += &format!("{} {verdict} {:016x}\n", test.exponent, test.residue.low_bits());
            tests.current = None;
        }
        Ok(Step::More)
    }
}

fn exponent(line: &[u8]) -> Result<u32, Error> {
    let text = String::from_utf8_lossy(line);
    match text.trim().parse() {
        Ok(number) if number <= EXPONENT_MAX && is_odd_prime(number) => Ok(number),
        _ => Err(Error::new(format!(
            "`{}` is no exponent to test: give an odd prime up to {EXPONENT_MAX}, one a line",
            text.trim()
        ))),
    }
}

fn is_odd_prime(number: u32) -> bool {
    let divisors = (3..).step_by(2).take_while(|divisor: &u32| divisor.pow(2) <= number);
    number >= 3
        && !number.is_multiple_of(2)
        && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use lull_sdk::testing;

    use super::*;

    fn result(payload: Payload) -> Result<String, Error> {
        let bytes = testing::run_unit::<Lucas>(&Inputs::new(), testing::work(0, payload))?;
        Ok(String::from_utf8(bytes)?)
    }

    fn lines(exponents: &[&str]) -> Payload {
        Payload::Lines(exponents.iter().map(|text| text.as_bytes().to_vec()).collect())
    }

    #[test]
    fn mersenne_primes_are_found() {
        // Exponents of Mersenne primes: OEIS A000043.
        let known = [3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279];
        let text = result(Payload::Range { start: 0, end: 1300 }).unwrap();
        let mut found = Vec::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            let exponent: u32 = words.next().unwrap().parse().unwrap();
            if words.next() == Some("prime") {
                assert_eq!(words.next(), Some("0000000000000000"), "{line}");
                found.push(exponent);
            }
        }
        assert_eq!(found, known);
        // 211 primes lie below 1300 (OEIS A000720), and 2 is no odd one.
        assert_eq!(text.lines().count(), 210);
    }

    #[test]
    fn known_residues() {
        // M11, by hand modulo 2047: 4, 14, 194, 788, 701, 119, 1877, 240, 282, 1736.
        assert_eq!(result(lines(&["11"])).unwrap(), "11 composite 00000000000006c8\n");
        // M9697: as the Great Internet Mersenne Prime Search lists it.
        assert_eq!(result(lines(&[" 9697\r"])).unwrap(), "9697 composite a23dad2328692889\n");
        let text = result(lines(&["9689", "11213"])).unwrap();
        assert_eq!(text, "9689 prime 0000000000000000\n11213 prime 0000000000000000\n");
    }

    #[test]
    fn what_is_no_exponent_is_refused() {
        for wrong in ["", "2", "9", "-3", "x", "100000007"] {
            let error = result(lines(&["7", wrong])).expect_err(wrong);
            assert!(error.message().contains("give an odd prime"), "{error}");
        }
        let error = result(Payload::Nothing).expect_err("nothing");
        assert!(error.message().contains("by lines or by range"), "{error}");
        assert_eq!(result(Payload::Range { start: 8, end: 11 }).unwrap(), "");
    }
}
