use rust_decimal::Decimal;

use super::super::sheet::tests::{holder, message, signed};
use super::*;

/// A day in November, and a month of seconds.
const NOVEMBER: i64 = 1_700_000_000;
const MONTH: i64 = 31 * 86_400;

fn open(folder: &Path) -> Store {
    Store::open(folder, holder()).unwrap()
}

fn sheet(numbers: &[u64], time: i64, through: u64) -> v1::Receipts {
    let receipts: Vec<v1::Receipt> = numbers.iter().map(|number| message(*number, time, &["0.25"])).collect();
    v1::Receipts { through, ..signed(&receipts, 1) }
}

fn at(time: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(time, 0).unwrap()
}

fn held(through: u64, numbers: &[u64]) -> Option<v1::HeldReceipts> {
    Some(v1::HeldReceipts { through, numbers: numbers.to_vec() })
}

#[test]
fn receipts_outlive_the_process_and_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    assert_eq!(store.keep(&sheet(&[5, 9], NOVEMBER, 0), at(NOVEMBER)).unwrap(), 2);
    assert_eq!(store.keep(&sheet(&[5, 9], NOVEMBER, 0), at(NOVEMBER)).unwrap(), 0, "a repeat");
    assert_eq!(store.held(), held(0, &[5, 9]));
    let mut store = open(folder.path());
    assert_eq!(store.held(), held(0, &[5, 9]));
    assert_eq!(store.keep(&sheet(&[7, 9], NOVEMBER, 8), at(NOVEMBER)).unwrap(), 1);
    assert_eq!(store.held(), held(8, &[9]));
    assert_eq!(open(folder.path()).held(), held(8, &[9]));
    assert_eq!(store.keep(&sheet(&[], NOVEMBER, 20), at(NOVEMBER)).unwrap(), 0);
    assert_eq!(store.held(), held(9, &[]), "up to the newest that is here");
    let (_, months) = read(folder.path()).unwrap();
    assert_eq!(months["2023-11"].sheets.len(), 2);
}

#[test]
fn a_torn_end_is_cut_off_and_damage_before_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("2023-11.log");
    let mut store = open(folder.path());
    for number in [5, 6, 7] {
        store.keep(&sheet(&[number], NOVEMBER, 0), at(NOVEMBER)).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = {
        let one = (whole.len() - MAGIC.len()) / 3;
        (0..3).map(|at| MAGIC.len() + (at + 1) * one).collect()
    };
    for length in (MAGIC.len()..whole.len()).step_by(23) {
        fs::write(&path, &whole[..length]).unwrap();
        let is_whole = ends.iter().filter(|end| **end <= length).count();
        let mut store = open(folder.path());
        assert_eq!(store.numbers.len(), is_whole, "{length} bytes");
        assert_eq!(store.keep(&sheet(&[8], NOVEMBER, 0), at(NOVEMBER)).unwrap(), 1);
        let (_, months) = read(folder.path()).unwrap();
        let kept = &months["2023-11"];
        assert_eq!((kept.sheets.len(), kept.damaged_at.len()), (is_whole + 1, 0), "{length} bytes");
    }
    let mut damaged = whole.clone();
    damaged[ends[0] + 20] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let (_, months) = read(folder.path()).unwrap();
    let kept = &months["2023-11"];
    assert_eq!((kept.sheets.len(), &kept.damaged_at[..]), (2, &[ends[0] as u64][..]));
    assert_eq!(open(folder.path()).held(), held(0, &[5, 7]));
}

#[test]
fn the_oldest_month_goes_first_and_the_last_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for month in 0..30 {
        let time = NOVEMBER + i64::from(month) * MONTH;
        store.keep(&sheet(&[u64::try_from(month).unwrap() + 1], time, 0), at(time)).unwrap();
    }
    assert_eq!(store.months.len(), MONTHS_MAX);
    let state = open(folder.path()).state;
    assert_eq!((state.pruned_through, state.pruned.unwrap().postings), (6, 6));
    store.bytes_max = store.bytes() / 2;
    store.keep(&sheet(&[31], NOVEMBER, 0), at(NOVEMBER + 30 * MONTH)).unwrap();
    assert!(store.bytes() <= store.bytes_max && store.held().is_some());
    store.bytes_max = 1;
    store.keep(&sheet(&[32], NOVEMBER, 0), at(NOVEMBER + 31 * MONTH)).unwrap();
    assert_eq!(store.months.len(), 1);
    assert_eq!(store.held(), None, "no room, nothing is asked for");
}

#[test]
fn a_month_that_a_crash_left_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let mut number = 0;
    let mut keep = |store: &mut Store, month: usize| {
        number += 1;
        let time = NOVEMBER + i64::try_from(month).unwrap() * MONTH;
        store.keep(&sheet(&[number], time, 0), at(time)).unwrap();
    };
    for month in 0..MONTHS_MAX {
        keep(&mut store, month);
    }
    let oldest = store.path(store.months.keys().next().unwrap());
    let content = fs::read(&oldest).unwrap();
    keep(&mut store, MONTHS_MAX);
    assert!(!oldest.exists());
    // It was counted, and its file not removed yet.
    fs::write(&oldest, content).unwrap();
    let mut store = open(folder.path());
    keep(&mut store, MONTHS_MAX);
    assert!(!oldest.exists());
    assert_eq!(store.state.pruned.unwrap().postings, 1);
}

#[test]
fn the_first_key_is_pinned_unless_the_enrolment_named_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.keep(&sheet(&[1], NOVEMBER, 0), at(NOVEMBER)).unwrap();
    let key = hex::encode(signed(&[], 1).public_key);
    assert_eq!(store.state.keys, std::slice::from_ref(&key));
    store.keep(&signed(&[message(2, NOVEMBER, &["1"])], 2), at(NOVEMBER)).unwrap();
    assert_eq!(store.state.keys, std::slice::from_ref(&key), "another is kept, not trusted");
    pin(folder.path(), &[vec![7; 32]]).unwrap();
    assert_eq!(open(folder.path()).state.keys, [key]);
    let other = tempfile::tempdir().unwrap();
    pin(other.path(), &[vec![7; 32]]).unwrap();
    assert_eq!(open(other.path()).state.keys, [hex::encode([7; 32])]);
}

#[test]
fn what_does_not_hold_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let mut wrong = sheet(&[5], NOVEMBER, 9);
    wrong.signature[0] ^= 1;
    assert!(matches!(store.keep(&wrong, at(NOVEMBER)), Err(Error::Problem(Problem::Signature))));
    assert_eq!(store.held(), held(0, &[]), "so that it is given again");
}

#[test]
fn a_coordinator_that_lies_pushes_no_receipt_out_and_stops_none_from_coming() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    assert_eq!(store.keep(&sheet(&[5], NOVEMBER, 5), at(NOVEMBER)).unwrap(), 1);
    // Thirty months, by what it says; for the last of them it says nothing that can be a time.
    for month in 1..=30 {
        let time = if month == 30 { i64::MAX } else { NOVEMBER + month * MONTH };
        store.keep(&sheet(&[u64::MAX - month.unsigned_abs()], time, 0), at(NOVEMBER)).unwrap();
    }
    assert_eq!(store.months.keys().collect::<Vec<_>>(), ["2023-11"]);
    assert_eq!(open(folder.path()).state.pruned_through, 0);

    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.keep(&sheet(&[5], NOVEMBER, 5), at(NOVEMBER)).unwrap();
    // Nobody signed this.
    let all = v1::Receipts { through: u64::MAX, ..v1::Receipts::default() };
    assert_eq!(store.keep(&all, at(NOVEMBER)).unwrap(), 0);
    assert_eq!(store.held(), held(5, &[]));
    assert_eq!(store.keep(&sheet(&[9], NOVEMBER, 0), at(NOVEMBER)).unwrap(), 1);
    assert_eq!(store.keep(&all, at(NOVEMBER)).unwrap(), 0);
    assert_eq!(store.held(), held(9, &[]));
    assert_eq!(store.keep(&sheet(&[7], NOVEMBER, 0), at(NOVEMBER)).unwrap(), 1, "one that it left out");
    let (_, months) = read(folder.path()).unwrap();
    assert_eq!(months["2023-11"].sheets.len(), 3);
    // What an older agent believed is not believed any more.
    write_state(folder.path(), &State { through: u64::MAX, ..store.state.clone() }).unwrap();
    assert_eq!(open(folder.path()).held(), held(9, &[]));
}

#[test]
fn a_number_that_is_no_posting_hides_nothing_when_its_month_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.keep(&sheet(&[5, u64::MAX], NOVEMBER, 0), at(NOVEMBER)).unwrap();
    for month in 1..=24 {
        let time = NOVEMBER + month * MONTH;
        store.keep(&sheet(&[5 + month.unsigned_abs()], time, 0), at(time)).unwrap();
    }
    assert_eq!(store.months.len(), MONTHS_MAX);
    assert_eq!(open(folder.path()).state.pruned_through, 5);
}

#[test]
fn numbers_that_are_no_postings_in_every_month_do_not_fit_the_sums() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for month in 0..=25 {
        let time = NOVEMBER + month * MONTH;
        let (posting, none) = (5 + month.unsigned_abs(), u64::MAX - 50 + month.unsigned_abs());
        // The one of the month before comes again.
        store.keep(&sheet(&[posting, none], time, 0), at(time)).unwrap();
        store.keep(&sheet(&[posting, none, posting + 100], time, 0), at(time + MONTH)).unwrap();
    }
    let state = open(folder.path()).state;
    let (_, months) = read(folder.path()).unwrap();
    assert_eq!(months.len(), MONTHS_MAX);
    let sheets = months.values().flat_map(|kept| &kept.sheets);
    let kept: BTreeSet<u64> = sheets.flat_map(|one| store.numbers_of(one)).collect();
    let pruned = state.pruned.unwrap();
    // Two months, and the third of those that came again: those beside them are here still.
    assert_eq!(pruned.postings + kept.len() as u64, 26 * 3);
    assert!(pruned.postings > 0 && kept.iter().all(|number| *number > 6));
    let sum: Decimal = pruned.amount["EUR"].parse().unwrap();
    assert_eq!(sum * Decimal::from(4), pruned.postings.into());
}
