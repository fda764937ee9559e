//! Runs a [`Program`] natively, for its own unit tests: the stages and encodings of a real job, without
//! wasm, leases or redundancy.

use lull_abi::{Payload, Stage, Unit, decode_items};

use crate::{Driver, Error, Inputs, Program};

/// How many results one merge takes here; small, so that a test with a few units has levels of merges.
pub const FAN_IN: usize = 3;

/// A unit of work with those lines.
#[must_use]
pub fn lines<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Unit {
    let lines = lines.into_iter().map(|line| line.as_ref().to_vec()).collect();
    work(0, Payload::Lines(lines))
}

/// Unit `number` of the work stage.
#[must_use]
pub const fn work(number: u64, payload: Payload) -> Unit {
    Unit { stage: Stage::Work, number, payload }
}

/// Runs the program's own split and answers its items.
///
/// # Errors
/// The program's own.
pub fn split<P: Program>(inputs: &Inputs) -> Result<Vec<Vec<u8>>, Error> {
    let unit = Unit { stage: Stage::Split, number: 0, payload: Payload::Nothing };
    Ok(decode_items(&run_unit::<P>(inputs, unit)?)?)
}

/// Runs one unit, in a guest of its own.
///
/// # Errors
/// The program's own.
pub fn run_unit<P: Program>(inputs: &Inputs, unit: Unit) -> Result<Vec<u8>, Error> {
    let mut driver = Driver::<P>::new();
    for (name, content) in inputs.iter() {
        driver.input(name.to_owned(), content.into());
    }
    driver.prepare()?;
    driver.begin(Unit::decode(&unit.encode())?)?;
    driver.finish_unit()
}

/// Runs a whole job: a unit of work for each payload, merges of [`FAN_IN`] until one result is left, and
/// finish.
///
/// # Errors
/// The program's own, and when there are no payloads.
pub fn run<P: Program>(
    inputs: &Inputs,
    payloads: impl IntoIterator<Item = Payload>,
) -> Result<Vec<u8>, Error> {
    let mut results = Vec::new();
    for (number, payload) in (0..).zip(payloads) {
        results.push(run_unit::<P>(inputs, work(number, payload))?);
    }
    let mut level = 1;
    while results.len() > 1 {
        let mut merged = Vec::new();
        for (number, parts) in (0..).zip(results.chunks(FAN_IN)) {
            let payload = Payload::Parts(parts.to_vec());
            merged.push(run_unit::<P>(inputs, Unit { stage: Stage::Merge(level), number, payload })?);
        }
        results = merged;
        level += 1;
    }
    if results.is_empty() {
        return Err(Error::new("a job has at least one unit: give a payload"));
    }
    run_unit::<P>(inputs, Unit { stage: Stage::Finish, number: 0, payload: Payload::Parts(results) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Step;

    /// Sums the bytes of its items, one item a step.
    struct Sum;

    impl Program for Sum {
        type Shared = u8;
        type Work = (u8, Vec<Vec<u8>>);

        fn prepare(inputs: &Inputs) -> Result<u8, Error> {
            Ok(inputs.require("start")?[0])
        }

        fn split(start: &u8) -> Result<Vec<Vec<u8>>, Error> {
            Ok((0..*start).map(|item| vec![item]).collect())
        }

        fn begin(_: &u8, unit: Unit) -> Result<Self::Work, Error> {
            match unit.payload {
                Payload::Items(items) => Ok((0, items)),
                _ => Err(Error::new("items only")),
            }
        }

        fn step(_: &u8, work: &mut Self::Work) -> Result<Step, Error> {
            let Some(item) = work.1.pop() else { return Ok(Step::Done(vec![work.0])) };
            work.0 += item.iter().sum::<u8>();
            Ok(Step::More)
        }

        fn merge(_: &u8, parts: Vec<Vec<u8>>) -> Result<Vec<u8>, Error> {
            Ok(vec![parts.concat().iter().sum()])
        }

        fn finish(_: &u8, merged: Vec<u8>) -> Result<Vec<u8>, Error> {
            Ok(format!("{}\n", merged[0]).into_bytes())
        }
    }

    #[test]
    fn a_job_runs_from_split_to_answer() {
        let inputs: Inputs = [("start", [11].as_slice())].into_iter().collect();
        let items = split::<Sum>(&inputs).unwrap();
        assert_eq!(items.len(), 11);
        for unit_items in 1..12 {
            let payloads = items.chunks(unit_items).map(|items| Payload::Items(items.to_vec()));
            assert_eq!(run::<Sum>(&inputs, payloads).unwrap(), b"55\n", "{unit_items} items a unit");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let inputs: Inputs = [("start", [1].as_slice())].into_iter().collect();
        let check = |unit: Unit, message: &str| {
            assert_eq!(run_unit::<Sum>(&inputs, unit), Err(Error::new(message)));
        };
        check(lines(["a"]), "items only");
        let parts = Payload::Parts(vec![Vec::new(), Vec::new()]);
        check(
            Unit { stage: Stage::Finish, number: 0, payload: parts },
            "finish takes one merged result, not 2: merge them first",
        );
        check(
            Unit { stage: Stage::Merge(1), number: 0, payload: Payload::Nothing },
            "a merge(1) unit was given the payload of another",
        );
        assert!(run::<Sum>(&inputs, []).is_err());
        assert!(run_unit::<Sum>(&Inputs::new(), lines(["a"])).is_err());
    }
}
