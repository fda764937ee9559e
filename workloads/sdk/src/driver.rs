//! The life of a guest: inputs, prepare, then unit after unit. Plain safe Rust on every target; addresses
//! and exports are [`crate::guest`]'s.

use lull_abi::{Payload, Stage, Unit, encode_items};

use crate::{Error, Inputs, Program, Step};

/// Drives a [`Program`] through the stages of a job.
pub struct Driver<P: Program> {
    inputs: Inputs,
    shared: Option<P::Shared>,
    task: Option<Task<P::Work>>,
}

/// What the next step does.
enum Task<W> {
    Split,
    Work(W),
    Merge(Vec<Vec<u8>>),
    Finish(Vec<u8>),
}

impl<P: Program> Driver<P> {
    /// A guest that has been given nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { inputs: Inputs::new(), shared: None, task: None }
    }

    /// Takes an input of the job.
    pub fn input(&mut self, name: String, content: Box<[u8]>) {
        self.inputs.insert(name, content);
    }

    /// Prepares the program, and lets go of the inputs.
    ///
    /// # Errors
    /// The program's own.
    pub fn prepare(&mut self) -> Result<(), Error> {
        let inputs = std::mem::take(&mut self.inputs);
        self.shared = Some(P::prepare(&inputs)?);
        Ok(())
    }

    /// Starts a unit; one that was running is dropped.
    ///
    /// # Errors
    /// The program's own, and when the payload does not belong to the unit's stage.
    pub fn begin(&mut self, unit: Unit) -> Result<(), Error> {
        self.task = None;
        let shared = self.shared.as_ref().ok_or_else(not_prepared)?;
        let task = match (unit.stage, unit.payload) {
            (Stage::Split, Payload::Nothing) => Task::Split,
            (Stage::Merge(_), Payload::Parts(parts)) => Task::Merge(parts),
            (Stage::Finish, Payload::Parts(parts)) => match <[_; 1]>::try_from(parts) {
                Ok([merged]) => Task::Finish(merged),
                Err(parts) => {
                    return Err(Error::new(format!(
                        "finish takes one merged result, not {}: merge them first",
                        parts.len()
                    )));
                }
            },
            (Stage::Work, payload) => {
                Task::Work(P::begin(shared, Unit { stage: unit.stage, number: unit.number, payload })?)
            }
            (stage, _) => return Err(Error::new(format!("a {stage} unit was given the payload of another"))),
        };
        self.task = Some(task);
        Ok(())
    }

    /// Does a bounded piece of the unit.
    ///
    /// # Errors
    /// The program's own, and when no unit is running.
    pub fn step(&mut self) -> Result<Step, Error> {
        let shared = self.shared.as_ref().ok_or_else(not_prepared)?;
        let task = self.task.take().ok_or_else(|| Error::new("step was called without a running unit"))?;
        match task {
            Task::Split => Ok(Step::Done(encode_items(&P::split(shared)?))),
            Task::Merge(parts) => Ok(Step::Done(P::merge(shared, parts)?)),
            Task::Finish(merged) => Ok(Step::Done(P::finish(shared, merged)?)),
            Task::Work(mut work) => {
                let step = P::step(shared, &mut work)?;
                if step == Step::More {
                    self.task = Some(Task::Work(work));
                }
                Ok(step)
            }
        }
    }

    /// Steps until the unit is done.
    ///
    /// # Errors
    /// Those of [`Driver::step`].
    pub fn finish_unit(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let Step::Done(result) = self.step()? {
                return Ok(result);
            }
        }
    }
}

impl<P: Program> Default for Driver<P> {
    fn default() -> Self {
        Self::new()
    }
}

fn not_prepared() -> Error {
    Error::new("a unit was started before the program was prepared")
}
