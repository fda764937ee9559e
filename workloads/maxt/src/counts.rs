//! Hits of some relabelings, as a unit's result. It turns them into no p-values: that is
//! [`answer`](crate::answer())'s.

use lull_sdk::Error;

/// First byte of the encoding, so that anything else is told apart.
const FORMAT: u8 = 1;

/// How many of some relabelings reached each gene's observed statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Number of relabelings.
    pub relabelings: u64,
    /// By rank: relabelings in which the gene's own statistic reaches its observed one.
    pub raw: Vec<u64>,
    /// By rank: relabelings in which the largest statistic of the gene and all of lower rank does.
    pub stepdown: Vec<u64>,
}

impl Counts {
    /// No relabelings of that many genes.
    #[must_use]
    pub fn none(genes: usize) -> Self {
        Self { relabelings: 0, raw: vec![0; genes], stepdown: vec![0; genes] }
    }

    /// Adds the counts of other relabelings of the same study.
    ///
    /// # Errors
    /// When they are of another number of genes, or the sums exceed `u64`.
    pub fn add(&mut self, other: &Self) -> Result<(), Error> {
        if self.raw.len() != other.raw.len() {
            return Err(Error::new(format!(
                "counts of {} and of {} genes: only results of one job can be merged",
                self.raw.len(),
                other.raw.len()
            )));
        }
        let pairs = self.raw.iter_mut().zip(&other.raw).chain(self.stepdown.iter_mut().zip(&other.stepdown));
        for (sum, more) in pairs.chain([(&mut self.relabelings, &other.relabelings)]) {
            *sum = sum.checked_add(*more).ok_or_else(|| {
                Error::new("more relabelings than 64 bits count: each result is to be merged once")
            })?;
        }
        Ok(())
    }

    /// The bytes of a unit's result: format, relabelings, genes, and each list as differences of neighbours,
    /// which are small. Integers are LEB128, differences in zigzag order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put(&mut out, self.relabelings);
        put(&mut out, self.raw.len() as u64);
        for list in [&self.raw, &self.stepdown] {
            let mut before = 0;
            for &count in list {
                let difference = count.wrapping_sub(before).cast_signed();
                put(&mut out, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
                before = count;
            }
        }
        out
    }

    /// Reads what [`Counts::encode`] wrote, for a study of `genes` genes.
    ///
    /// # Errors
    /// When the bytes are not that.
    pub fn decode(bytes: &[u8], genes: usize) -> Result<Self, Error> {
        let damaged =
            || Error::new("a part is not counts of this program: merge results of this module only");
        let (&format, mut rest) = bytes.split_first().ok_or_else(damaged)?;
        if format != FORMAT {
            return Err(damaged());
        }
        let mut counts = Self::none(genes);
        counts.relabelings = take(&mut rest).ok_or_else(damaged)?;
        let given = take(&mut rest).ok_or_else(damaged)?;
        if given != genes as u64 {
            return Err(Error::new(format!(
                "counts of {given} genes where the table has {genes}: only results of one job can be merged"
            )));
        }
        for list in [&mut counts.raw, &mut counts.stepdown] {
            let mut before = 0_u64;
            for count in list {
                let zigzag = take(&mut rest).ok_or_else(damaged)?;
                let difference = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
                *count = before.wrapping_add(difference);
                before = *count;
            }
        }
        if rest.is_empty() { Ok(counts) } else { Err(damaged()) }
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// A number in its shortest form; nothing else, so that equal counts are equal bytes.
fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return (byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_survive_the_road(relabelings: u64, lists in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20)) {
            let (raw, stepdown): (Vec<_>, Vec<_>) = lists.into_iter().unzip();
            let counts = Counts { relabelings, raw, stepdown };
            let bytes = counts.encode();
            prop_assert_eq!(Counts::decode(&bytes, counts.raw.len()), Ok(counts.clone()));
            for cut in 0..bytes.len() {
                prop_assert!(Counts::decode(&bytes[..cut], counts.raw.len()).is_err());
            }
            prop_assert!(Counts::decode(&[&bytes[..], &[0]].concat(), counts.raw.len()).is_err());
        }

        #[test]
        fn what_can_be_read_is_what_would_be_written(bytes: Vec<u8>, genes in 0_usize..4) {
            let bytes = [&[FORMAT], &bytes[..]].concat();
            if let Ok(counts) = Counts::decode(&bytes, genes) {
                prop_assert_eq!(counts.encode(), bytes);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = Counts { relabelings: u64::MAX, ..Counts::none(1) };
        assert!(one.clone().add(&Counts::none(2)).unwrap_err().message().contains("1 and of 2 genes"));
        assert!(one.clone().add(&one).unwrap_err().message().contains("64 bits"));
        assert!(Counts::decode(&one.encode(), 3).unwrap_err().message().contains("the table has 3"));
        assert!(Counts::decode(b"\x02", 1).is_err());
    }
}
