//! How many items a unit of work has, and what the job was to cost: read from the job as it was submitted, which is sealed.

use anyhow::{Context as _, Result, bail, ensure};

use crate::amount::Amount;

/// Units of a job of which the module lists the items, unless it says otherwise.
const UNITS_DEFAULT: u64 = 4_096;

/// Numbers of fields of a job's message.
const SPLIT: u64 = 4;
const ITEMS_PER_UNIT: u64 = 5;
const PILOT_UNITS: u64 = 6;
const ITEM_PRICE: u64 = 11;
const SERVICE_PRICE: u64 = 12;
const BUDGET: u64 = 13;
const CURRENCY: u64 = 18;
/// Of a split: which it is.
const RANGE: u64 = 1;
const FILES: u64 = 3;
const GRID: u64 = 4;

/// What follows from a job for its units of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Items of the whole job.
    items: u64,
    items_per_unit: u64,
    /// Units that run, evenly spaced; 0: all.
    pilot_units: u64,
}

/// What a job was submitted with, of money; none where it says nothing, as one of before there was such a field.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) item_price: Option<Amount>,
    pub(crate) service_price: Option<Amount>,
    pub(crate) budget: Option<Amount>,
    /// Its code.
    pub(crate) currency: Option<String>,
}

impl Asked {
    /// Reads a job.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(job: &[u8]) -> Result<Self> {
        let mut asked = Self::default();
        for field in fields(job) {
            let (field, Value::Bytes(bytes)) = field? else { continue };
            let text = || std::str::from_utf8(bytes).context("a price is no text");
            match field {
                _ if bytes.is_empty() => {}
                ITEM_PRICE => asked.item_price = Some(Amount::parse(text()?)?),
                SERVICE_PRICE => asked.service_price = Some(Amount::parse(text()?)?),
                BUDGET => asked.budget = Some(Amount::parse(text()?)?),
                CURRENCY => asked.currency = Some(text()?.to_owned()),
                _ => {}
            }
        }
        Ok(asked)
    }
}

impl Plan {
    /// Reads a job. How many lines a file has and what a module lists is not in it: there, and only there, what was counted
    /// is believed.
    ///
    /// # Errors
    /// When it cannot be read, or the job counted other items.
    pub(crate) fn read(job: &[u8], counted: u64) -> Result<Self> {
        let mut plan = Self { items: counted, ..Self::default() };
        for field in fields(job) {
            match field? {
                (SPLIT, Value::Bytes(split)) => {
                    if let Some(items) = items(split)? {
                        ensure!(
                            items == counted,
                            "says that it has {counted} items, and was submitted with {items}"
                        );
                    }
                }
                (ITEMS_PER_UNIT, Value::Number(number)) => plan.items_per_unit = number,
                (PILOT_UNITS, Value::Number(number)) => plan.pilot_units = number,
                _ => {}
            }
        }
        if plan.items_per_unit == 0 {
            plan.items_per_unit = counted.div_ceil(UNITS_DEFAULT).max(1);
        }
        Ok(plan)
    }

    /// Items of the unit of work with this index; none where there is no such unit.
    #[must_use]
    pub(crate) fn items_of(&self, index: u64) -> u64 {
        let whole = self.items.div_ceil(self.items_per_unit);
        let running = if self.pilot_units == 0 { whole } else { self.pilot_units.min(whole) };
        if index >= running {
            return 0;
        }
        let place = u128::from(index) * u128::from(whole) / u128::from(running);
        let before = place * u128::from(self.items_per_unit);
        u64::try_from(u128::from(self.items) - before).unwrap_or(u64::MAX).min(self.items_per_unit)
    }
}

/// Items of a split, where they follow from it.
fn items(split: &[u8]) -> Result<Option<u64>> {
    let mut items = None;
    for field in fields(split) {
        items = match field? {
            (RANGE, Value::Bytes(range)) => {
                let [start, end] = [number(range, 1)?, number(range, 2)?];
                Some(end.checked_sub(start).context("a range ends before it begins")?)
            }
            (FILES, Value::Bytes(files)) => Some(count(files, 1)?),
            (GRID, Value::Bytes(grid)) => {
                let mut product: u64 = 1;
                for axis in fields(grid) {
                    if let (1, Value::Bytes(axis)) = axis? {
                        product = product.checked_mul(count(axis, 2)?).context("a grid is too large")?;
                    }
                }
                Some(product)
            }
            _ => None,
        };
    }
    Ok(items)
}

/// A field of a message.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed size.
    Other,
}

/// The last number under this field.
fn number(message: &[u8], of: u64) -> Result<u64> {
    let mut last = 0;
    for field in fields(message) {
        if let (field, Value::Number(number)) = field?
            && field == of
        {
            last = number;
        }
    }
    Ok(last)
}

/// How often there is this field.
fn count(message: &[u8], of: u64) -> Result<u64> {
    let mut count = 0;
    for field in fields(message) {
        count += u64::from(field?.0 == of);
    }
    Ok(count)
}

/// The fields of a message of protocol buffers, one after the other; ends after the first that cannot be read.
fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>)>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let read = field(&mut rest);
            if read.is_err() {
                rest = &[];
            }
            read
        })
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Other)?,
        2 => {
            let length = usize::try_from(varint(rest)?)?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Other)?,
        other => bail!("a field of type {other}"),
    };
    Ok((tag >> 3, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).context("a field ends early")?;
    *rest = left;
    Ok(taken)
}

/// Seven bits in a byte, the lowest first; the highest bit of a byte says that there are more.
fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("a number is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job with this split, seven items in a unit, and so many units that run.
    fn job(split: &[u8], pilot_units: u8) -> Vec<u8> {
        let mut job = vec![0x0a, 3, b'j', b'o', b'b', 0x22, u8::try_from(split.len()).unwrap()];
        job.extend(split);
        job.extend([0x28, 7, 0x30, pilot_units, 0x81, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        job
    }

    /// From 100 to 400.
    const RANGE: [u8; 7] = [0x0a, 5, 0x08, 100, 0x10, 0x90, 0x03];

    #[test]
    fn what_it_costs_is_what_was_asked() {
        let mut message = job(&RANGE, 0);
        assert_eq!(Asked::read(&message).unwrap(), Asked::default());
        message.extend([0x5a, 3, b'0', b'.', b'5', 0x62, 1, b'2', 0x6a, 0, 0x92, 0x01, 3, b'E', b'U', b'R']);
        let asked = Asked {
            item_price: Some(Amount(500_000_000_000)),
            service_price: Some(Amount(2_000_000_000_000)),
            budget: None,
            currency: Some("EUR".to_owned()),
        };
        assert_eq!(Asked::read(&message).unwrap(), asked);
        assert!(Asked::read(&[0x5a, 2, b'-', b'1']).is_err());
    }

    #[test]
    fn items_follow_from_the_job() {
        let whole = Plan::read(&job(&RANGE, 0), 300).unwrap();
        assert_eq!([0, 1, 41, 42, 43].map(|index| whole.items_of(index)), [7, 7, 7, 6, 0]);
        assert_eq!((0..50).map(|index| whole.items_of(index)).sum::<u64>(), 300);
        let pilot = Plan::read(&job(&RANGE, 5), 300).unwrap();
        assert_eq!([0, 4, 5].map(|index| pilot.items_of(index)), [7, 7, 0]);
        assert_eq!(
            Plan::read(&job(&RANGE, 60), 300).unwrap().items_of(42),
            6,
            "a pilot of more than there are"
        );
        let files = [0x1a, 5, 0x0a, 1, 0, 0x0a, 0];
        assert_eq!(Plan::read(&job(&files, 0), 2).unwrap().items_of(0), 2);
        let axes = [0x22, 11, 0x0a, 4, 0x12, 0, 0x12, 0, 0x0a, 3, 0x12, 1, 0];
        assert_eq!(Plan::read(&job(&axes, 0), 2).unwrap().items_of(0), 2);
        // The lines of a file, and what a module lists, are counted.
        assert_eq!(Plan::read(&job(&[0x12, 0], 0), 9).unwrap().items_of(1), 2);
        let listed = Plan::read(&[0x22, 2, 0x2a, 0], 10_000).unwrap();
        assert_eq!([0, 3_333, 3_334].map(|index| listed.items_of(index)), [3, 1, 0]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(Plan::read(&job(&RANGE, 0), 299).is_err(), "another count");
        let whole = job(&RANGE, 0);
        assert!(Plan::read(&whole[..whole.len() - 1], 300).is_err());
        assert!(Plan::read(&[0x28, 0xff], 300).is_err());
        assert!(Plan::read(&[0x28; 1], 300).is_err());
        assert!(Plan::read(&[&[0x28][..], &[0x80; 11]].concat(), 300).is_err());
        assert!(Plan::read(&[0x2b, 1], 300).is_err());
        assert!(Plan::read(&[0x22, 2, 0x0a, 0], 0).is_ok_and(|plan| plan.items_of(0) == 0));
    }
}
