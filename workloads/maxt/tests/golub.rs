//! The Golub leukaemia data: test vectors from an independent program, and properties of ranges.

use std::sync::LazyLock;

use lull_maxt::revolving_door::Binomials;
use lull_maxt::{Counts, MaxT, Study, answer};
use lull_sdk::{Inputs, Payload, testing};
use proptest::prelude::*;

const GOLUB: &[u8] = include_bytes!("../data/golub.csv");

static STUDY: LazyLock<Study> = LazyLock::new(|| Study::new(GOLUB, None).expect("the table is right"));

#[test]
fn test_vectors() {
    assert_eq!((STUDY.genes().len(), STUDY.samples(), STUDY.relabelings()), (3051, 38, 1_203_322_288));
    let check = |first: u64, raw: u64, stepdown: u64| {
        let counts = STUDY.count(first..first + 3000).unwrap();
        assert_eq!(counts.relabelings, 3000);
        assert_eq!(counts.raw.iter().sum::<u64>(), raw, "raw hits from {first}");
        assert_eq!(counts.stepdown.iter().sum::<u64>(), stepdown, "step-down hits from {first}");
    };
    check(0, 2_875_495, 8_629_001);
    check(601_661_144, 2_566_251, 8_241_963);
    check(1_203_319_288, 2_734_337, 8_424_387);
}

#[test]
fn a_small_pilot_goes_from_units_to_answer() {
    let inputs: Inputs = [("expression", GOLUB)].into_iter().collect();
    let ranges = [0..700, 601_661_144..601_661_500, 1_203_322_000..1_203_322_288];
    let payloads = ranges.clone().map(|ranks| Payload::Range { start: ranks.start, end: ranks.end });
    let mut counts = Counts::none(3051);
    for ranks in ranges {
        counts.add(&STUDY.count(ranks).unwrap()).unwrap();
    }

    let answered = testing::run::<MaxT>(&inputs, payloads).unwrap();

    let answered = String::from_utf8(answered).unwrap();
    assert_eq!(answered, answer(&STUDY, &counts).unwrap());
    assert_eq!(answered.lines().count(), 1 + 3051);
    assert!(answered.lines().nth(1).unwrap().starts_with("1,M27891_at,0,"), "the gene CST3 leads");
}

#[test]
fn the_true_labelling_hits_every_gene() {
    let last_eleven: Vec<u16> = (27..38).collect();
    let rank = Binomials::new(38, 11).rank(&last_eleven);
    let counts = STUDY.count(rank..rank + 1).unwrap();
    assert!(counts.raw.iter().chain(&counts.stepdown).all(|&hits| hits == 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_range_cut_anywhere_sums_to_the_whole(start in 0..1_203_320_000_u64, before in 1..1000_u64, after in 1..1000_u64) {
        let cut = start + before;
        let end = cut + after;
        let mut sum = STUDY.count(start..cut).unwrap();
        sum.add(&STUDY.count(cut..end).unwrap()).unwrap();
        prop_assert_eq!(sum, STUDY.count(start..end).unwrap());
    }
}
