//! The study as a Lull program: which input is what, and which stage calls which function.

use lull_sdk::{Error, Inputs, Payload, Program, Step, Unit};

use crate::{Counts, Study, Walk, answer};

/// Step-down maxT over a range of relabelings.
pub struct MaxT;

impl Program for MaxT {
    type Shared = Study;
    type Work = Walk;

    fn prepare(inputs: &Inputs) -> Result<Study, Error> {
        Study::new(inputs.require("expression")?, inputs.text("class")?.map(str::trim))
    }

    fn begin(study: &Study, unit: Unit) -> Result<Walk, Error> {
        match unit.payload {
            Payload::Range { start, end } => Walk::new(study, start..end),
            _ => Err(Error::new(format!(
                "maxt works on ranges of ranks: split its job by range, 0 to {}",
                study.relabelings()
            ))),
        }
    }

    fn step(study: &Study, walk: &mut Walk) -> Result<Step, Error> {
        if walk.step(study) { Ok(Step::More) } else { Ok(Step::Done(walk.counts().encode())) }
    }

    fn merge(study: &Study, parts: Vec<Vec<u8>>) -> Result<Vec<u8>, Error> {
        let mut merged = Counts::none(study.genes().len());
        for part in parts {
            merged.add(&Counts::decode(&part, study.genes().len())?)?;
        }
        Ok(merged.encode())
    }

    fn finish(study: &Study, merged: Vec<u8>) -> Result<Vec<u8>, Error> {
        let counts = Counts::decode(&merged, study.genes().len())?;
        Ok(answer(study, &counts)?.into_bytes())
    }
}
