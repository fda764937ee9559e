//! The same counts another way: each rank unranked on its own by the textbook, each statistic summed from
//! scratch, plain loops in wide integers; no swaps, tiles, batches or intervals.

use lull_maxt::{Counts, Study};

/// Weights by their definition: the `w` with `w - 1/2 <= K |nX - T| / sqrt(nV) < w + 1/2`.
fn weights(values: &[i64]) -> Vec<i64> {
    const K: u128 = 100_000_000;
    let n = values.len() as i128;
    let total: i128 = values.iter().map(|&x| i128::from(x)).sum();
    let variance: i128 = n * values.iter().map(|&x| i128::from(x).pow(2)).sum::<i128>() - total * total;
    let squared = (n * variance).unsigned_abs();
    let weight = |x: i64| {
        let deviation = n * i128::from(x) - total;
        let reaches = |w: u128| (2 * w - 1).pow(2) * squared <= 4 * K * K * deviation.unsigned_abs().pow(2);
        let (mut low, mut high) = (0, K + 1);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if reaches(middle) { low = middle } else { high = middle }
        }
        i64::try_from(low).expect("at most K") * deviation.signum() as i64
    };
    values.iter().map(|&x| weight(x)).collect()
}

fn binomial(n: u64, k: u64) -> u64 {
    (0..k).fold(1, |product, i| product * n.saturating_sub(i) / (i + 1))
}

fn unrank(mut rank: u64, k: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    for i in (1..=k).rev() {
        let m = (0..).take_while(|&m| binomial(m, i) <= rank).last().expect("C(0, i) is 0");
        chosen.push(usize::try_from(m).expect("a sample"));
        rank = binomial(m + 1, i) - 1 - rank;
    }
    chosen
}

fn count(genes: &[Vec<i64>], chosen: &[usize], ranks: std::ops::Range<u64>) -> Counts {
    let statistic = |weights: &[i64], chosen: &[usize]| chosen.iter().map(|&s| weights[s]).sum::<i64>().abs();
    let mut genes: Vec<Vec<i64>> = genes.iter().map(|values| weights(values)).collect();
    genes.sort_by_key(|weights| -statistic(weights, chosen));
    let observed: Vec<i64> = genes.iter().map(|weights| statistic(weights, chosen)).collect();
    let mut counts = Counts::none(genes.len());
    for rank in ranks {
        let relabelled = unrank(rank, chosen.len() as u64);
        let mut largest = 0;
        for gene in (0..genes.len()).rev() {
            let size = statistic(&genes[gene], &relabelled);
            largest = largest.max(size);
            counts.raw[gene] += u64::from(size >= observed[gene]);
            counts.stepdown[gene] += u64::from(largest >= observed[gene]);
        }
        counts.relabelings += 1;
    }
    counts
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// A table of random size whose values are from few or many, so that ties occur and do not.
fn random_table(random: &mut Random) -> (Vec<Vec<i64>>, Vec<usize>, String) {
    let samples = 2 + random.below(10);
    let values = [3, 10, 1_000_000][random.below(3) as usize];
    let mut chosen: Vec<usize> = (0..samples as usize).filter(|_| random.below(2) == 0).collect();
    if chosen.is_empty() || chosen.len() == samples as usize {
        chosen = vec![random.below(samples) as usize];
    }
    let mut csv = "gene".to_owned();
    for sample in 0..samples as usize {
        csv += if chosen.contains(&sample) { ",yes" } else { ",no" };
    }
    let mut genes = Vec::new();
    for gene in 0..1 + random.below(60) {
        let mut row: Vec<i64> =
            (0..samples).map(|_| random.below(values) as i64 - values as i64 / 2).collect();
        if row.iter().all(|&x| x == row[0]) {
            row[0] += 1;
        }
        csv += &format!("\ng{gene}");
        for &x in &row {
            csv +=
                &format!(",{}{}.{:05}", if x < 0 { "-" } else { "" }, x.abs() / 100_000, x.abs() % 100_000);
        }
        genes.push(row);
    }
    (genes, chosen, csv)
}

#[test]
fn random_tables_are_counted_alike() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (genes, chosen, csv) = random_table(&mut random);
        let study =
            Study::new(csv.as_bytes(), Some("yes")).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(study.relabelings(), binomial(study.samples().into(), chosen.len() as u64), "seed {seed}");
        let start = random.below(study.relabelings());
        let end = start + 1 + random.below(study.relabelings() - start);
        for ranks in [0..study.relabelings(), start..end] {
            let counted = study.count(ranks.clone()).unwrap();
            assert_eq!(counted, count(&genes, &chosen, ranks.clone()), "seed {seed}, ranks {ranks:?}");
        }
    }
}

#[test]
fn the_golub_table_is_counted_alike() {
    let csv = include_str!("../data/golub.csv");
    let study = Study::new(csv.as_bytes(), None).unwrap();
    // The last 38 fields hold no quotes.
    let value = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
    let row = |line: &str| line.rsplitn(39, ',').take(38).map(value).collect::<Vec<_>>();
    let genes: Vec<Vec<i64>> =
        csv.lines().skip(1).map(|line| row(line).into_iter().rev().collect()).collect();
    let chosen: Vec<usize> = (27..38).collect();
    for start in [0, 123_456_789, 777_777_777, study.relabelings() - 300] {
        let ranks = start..start + 300;
        assert_eq!(study.count(ranks.clone()).unwrap(), count(&genes, &chosen, ranks), "from {start}");
    }
}
