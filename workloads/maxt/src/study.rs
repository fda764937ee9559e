//! A study: a table, the class whose samples are chosen, and what follows from them for every relabeling.
//! It reads no bytes ([`Table`]) and counts nothing ([`Walk`]).

use std::cmp::Reverse;
use std::ops::Range;

use lull_sdk::Error;

use crate::matrix::Matrix;
use crate::revolving_door::Binomials;
use crate::weights::weights;
use crate::{Counts, Table, Walk};

/// What all units of a job share.
///
/// With `X` the values in hundred-thousandths, `n` samples, `T = sum X` and `V = n sum X^2 - T^2`, each
/// sample of a gene has the weight `sign(nX - T) * round_half_up(10^8 |nX - T| / sqrt(nV))`: the only
/// rounding there is. The statistic of a gene is the absolute sum `|U|` of the weights of the chosen
/// samples, which rises with the absolute equal-variance t statistic: with
/// `r = (U / 10^8) / sqrt(k (n - k) / n)`, `t = r sqrt((n - 2) / (1 - r^2))`.
pub struct Study {
    /// Gene names by rank.
    names: Vec<String>,
    samples: u16,
    relabelings: u64,
    binomials: Binomials,
    matrix: Matrix,
}

impl Study {
    /// A study of that expression table (CSV, see [`Table`]), with the samples of `class` chosen; by default
    /// those of the last column's class.
    ///
    /// # Errors
    /// When the table cannot be read, has not the classes, has a gene without variance, or has more
    /// relabelings than `u64` counts.
    pub fn new(expression: &[u8], class: Option<&str>) -> Result<Self, Error> {
        let table = Table::parse(expression)?;
        let chosen = chosen_samples(&table.labels, class)?;
        let samples = table.labels.len();
        let binomials = Binomials::new(samples, chosen.len());
        let relabelings = binomials.count().ok_or_else(|| {
            Error::new(format!(
                "expression: {} out of {samples} samples can be chosen in more ways than 64 bits count: \
                 an exact test cannot go through them, give fewer samples",
                chosen.len()
            ))
        })?;

        let mut genes = Vec::with_capacity(table.genes.len());
        for gene in &table.genes {
            let weights = weights(&gene.values).ok_or_else(|| {
                Error::new(format!(
                    "expression, line {}: gene `{}` has the same value in every sample and so no t statistic: \
                     remove the line",
                    gene.line, gene.name
                ))
            })?;
            let observed = chosen.iter().map(|&sample| weights[sample]).sum::<i32>().abs();
            genes.push((observed, weights, &gene.name));
        }
        // Stable: ties keep the order of the file.
        genes.sort_by_key(|&(observed, ..)| Reverse(observed));

        let walk: Vec<(i32, &[i32])> =
            genes.iter().rev().map(|(observed, weights, _)| (*observed, &weights[..])).collect();
        Ok(Self {
            matrix: Matrix::new(samples, &walk),
            names: genes.iter().map(|&(_, _, name)| name.clone()).collect(),
            // MAX_SAMPLES is below.
            samples: u16::try_from(samples).unwrap_or(u16::MAX),
            relabelings,
            binomials,
        })
    }

    /// How many relabelings there are; ranks are below.
    #[must_use]
    pub const fn relabelings(&self) -> u64 {
        self.relabelings
    }

    /// Number of samples.
    #[must_use]
    pub const fn samples(&self) -> u16 {
        self.samples
    }

    /// Gene names by rank: by observed statistic, largest first.
    #[must_use]
    pub fn genes(&self) -> &[String] {
        &self.names
    }

    /// Counts the hits of the relabelings with those ranks.
    ///
    /// # Errors
    /// Those of [`Walk::new`].
    pub fn count(&self, ranks: Range<u64>) -> Result<Counts, Error> {
        let mut walk = Walk::new(self, ranks)?;
        while walk.step(self) {}
        Ok(walk.into_counts())
    }

    pub(crate) const fn binomials(&self) -> &Binomials {
        &self.binomials
    }

    pub(crate) const fn matrix(&self) -> &Matrix {
        &self.matrix
    }
}

/// The samples of `class`, or of the last sample's class.
fn chosen_samples(labels: &[String], class: Option<&str>) -> Result<Vec<usize>, Error> {
    let mut classes: Vec<&str> = labels.iter().map(String::as_str).collect();
    classes.sort_unstable();
    classes.dedup();
    let listed = || classes.iter().map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");

    if classes.len() == 1 {
        return Err(Error::new(format!(
            "expression, line 1: all {} samples are {}: two classes are compared, label the samples of each",
            labels.len(),
            listed()
        )));
    }
    let wanted = match class {
        Some(class) => class,
        None if classes.len() > 2 => {
            return Err(Error::new(format!(
                "expression, line 1: {} classes ({}): name the one to compare with all others in the input \
                 `class`, or label the samples of two",
                classes.len(),
                listed()
            )));
        }
        None => labels.last().map_or("", String::as_str),
    };
    let chosen: Vec<usize> =
        labels.iter().enumerate().filter(|(_, label)| *label == wanted).map(|(sample, _)| sample).collect();
    if chosen.is_empty() {
        return Err(Error::new(format!(
            "class: no sample is labelled `{wanted}`: choose one of {}",
            listed()
        )));
    }
    Ok(chosen)
}
