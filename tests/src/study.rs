//! The leukaemia study: its job, its answer, and the same counts made another way.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::grid::root;

/// Its job file.
#[must_use]
pub fn job_file() -> PathBuf {
    root().join("workloads/maxt/job.toml")
}

/// Its table.
#[must_use]
pub fn table() -> PathBuf {
    root().join("workloads/maxt/data/golub.csv")
}

/// A gene's line of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gene {
    /// Its name.
    pub name: String,
    /// Relabelings whose statistic is at least the observed one.
    pub raw_count: u64,
    /// Relabelings whose largest statistic of this and all lower ranks is.
    pub stepdown_count: u64,
    /// The raw p-value, as written.
    pub raw_p: String,
    /// The adjusted p-value, as written.
    pub adj_p: String,
}

/// Reads an answer; checks its header and ranks.
///
/// # Errors
/// When it is not one.
pub fn read_answer(answer: &[u8]) -> Result<Vec<Gene>> {
    let mut lines = std::str::from_utf8(answer)?.lines();
    ensure!(lines.next() == Some("rank,gene,raw_count,stepdown_count,raw_p,adj_p"), "a wrong header");
    let mut genes = Vec::new();
    for line in lines {
        let (rank, rest) = line.split_once(',').context("a rank")?;
        ensure!(rank == (genes.len() + 1).to_string(), "ranks are not in order: {line}");
        let mut fields = rest.rsplitn(5, ',');
        let mut field = || fields.next().context("five fields after the rank").map(str::to_owned);
        let (adj_p, raw_p) = (field()?, field()?);
        let (stepdown_count, raw_count) = (field()?.parse()?, field()?.parse()?);
        genes.push(Gene { name: field()?, raw_count, stepdown_count, raw_p, adj_p });
    }
    Ok(genes)
}

/// Sums of raw and of step-down counts.
#[must_use]
pub fn sums(genes: &[Gene]) -> (u64, u64) {
    genes.iter().fold((0, 0), |(raw, stepdown), gene| (raw + gene.raw_count, stepdown + gene.stepdown_count))
}

/// The whole answer over some ranks by the definitions alone: every relabeling is found by itself, every
/// statistic summed from scratch, every p-value divided digit by digit.
///
/// # Errors
/// When the table cannot be read.
pub fn by_definition(ranks: Range<u64>) -> Result<Vec<Gene>> {
    let csv = std::fs::read_to_string(table())?;
    let mut observed = Vec::new();
    for (at, line) in csv.lines().skip(1).enumerate() {
        // Names may hold commas; values do not.
        let mut values: Vec<i64> =
            line.rsplit(',').take(38).map(|text| text.replace('.', "").parse()).collect::<Result<_, _>>()?;
        values.reverse();
        let weights = weights(&values);
        let name = line.split(',').next().context("a name")?.to_owned();
        let size = weights[27..].iter().sum::<i64>().unsigned_abs();
        observed.push((std::cmp::Reverse(size), at, name, weights));
    }
    observed.sort();

    let mut counts = vec![(0_u64, 0_u64); observed.len()];
    let relabelings = ranks.end - ranks.start;
    for rank in ranks {
        let chosen = subset(rank, 11);
        let mut largest = 0;
        for ((std::cmp::Reverse(size), _, _, weights), (raw, stepdown)) in
            observed.iter().zip(&mut counts).rev()
        {
            let here = chosen.iter().map(|sample| weights[*sample]).sum::<i64>().unsigned_abs();
            largest = largest.max(here);
            *raw += u64::from(here >= *size);
            *stepdown += u64::from(largest >= *size);
        }
    }

    let mut worst = 0;
    let genes = observed.into_iter().zip(counts).map(|((_, _, name, _), (raw_count, stepdown_count))| {
        worst = worst.max(stepdown_count);
        let (raw_p, adj_p) = (fraction(raw_count, relabelings), fraction(worst, relabelings));
        Gene { name, raw_count, stepdown_count, raw_p, adj_p }
    });
    Ok(genes.collect())
}

/// `round(10^8 |nX - T| / sqrt(n V))` with its sign: the square of twice the number lies between two odd squares.
fn weights(values: &[i64]) -> Vec<i64> {
    let n = values.len() as i128;
    let total: i128 = values.iter().map(|value| i128::from(*value)).sum();
    let squares: i128 = values.iter().map(|value| i128::from(*value).pow(2)).sum();
    let below = n * (n * squares - total * total);
    let weight = |value: &i64| {
        let deviation = n * i128::from(*value) - total;
        // floor((2 K d / sqrt(below) + 1) / 2), where floor(sqrt(x / y)) is the integer root of floor(x / y).
        let twice = (4 * 10_i128.pow(16) * deviation * deviation / below).isqrt();
        i64::try_from((twice + 1) / 2 * deviation.signum()).unwrap_or(0)
    };
    values.iter().map(weight).collect()
}

/// The subset of this size with this rank in revolving-door order, by the order's recursion: those without
/// the largest sample come first, then those with it, of the rest in reverse.
fn subset(mut rank: u64, size: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut left = size;
    for sample in (0..38_u64).rev() {
        if left == 0 {
            break;
        }
        let without = binomial(sample, left);
        if rank >= without {
            chosen.push(usize::try_from(sample).unwrap_or(0));
            left -= 1;
            rank = binomial(sample, left) - 1 - (rank - without);
        }
    }
    chosen
}

fn binomial(n: u64, k: u64) -> u64 {
    (0..k).fold(1, |product, i| product * n.saturating_sub(i) / (i + 1))
}

/// `count / total` to twelve places by long division, the last rounded half up.
fn fraction(count: u64, total: u64) -> String {
    let mut digits: Vec<u64> = Vec::new();
    let mut rest = count % total;
    for _ in 0..12 {
        digits.push(rest * 10 / total);
        rest = rest * 10 % total;
    }
    let mut whole = count / total;
    let mut carry = u64::from(rest * 2 >= total);
    for digit in digits.iter_mut().rev() {
        *digit += carry;
        carry = *digit / 10;
        *digit %= 10;
    }
    whole += carry;
    let digits: String = digits.iter().map(ToString::to_string).collect();
    format!("{whole}.{digits}")
}
