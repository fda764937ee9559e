//! Torn logs, lost files, and what is sent again after a crash.

use lull_job::Stage;
use lull_sandbox::{Outcome, UnitRun};
use proptest::prelude::*;

use super::*;

fn entry(token: u64, index: u64, bytes: usize) -> Entry {
    let run = UnitRun {
        outcome: Outcome::Result(vec![u8::try_from(index % 251).unwrap(); bytes]),
        cpu_micros: 9,
        fuel: None,
    };
    let (attempt, large) = Attempt::of(AttemptKey { token, index }, 3, Stage::Merge(2), run);
    Entry::Put(Box::new(attempt), large)
}

fn attempt(entry: &Entry) -> Attempt {
    let Entry::Put(attempt, _) = entry else { panic!("not a put") };
    Attempt::clone(attempt)
}

fn attempts(outbox: &Outbox) -> Vec<Attempt> {
    outbox.attempts().cloned().collect()
}

#[test]
fn attempts_outlive_the_process_until_they_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let entries = [entry(1, 0, 10), entry(1, 1, 4097), entry(2, 0, 0)];
    Outbox::open(folder.path()).unwrap().write(&entries).unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!(attempts(&outbox), entries.iter().map(attempt).collect::<Vec<_>>());
    let large = attempt(&entries[1]);
    assert_eq!(read_result(folder.path(), large.digest), Some(vec![1; 4097]));

    outbox.write(&[Entry::Forget(large.key), Entry::Forget(AttemptKey { token: 1, index: 0 })]).unwrap();
    assert_eq!(read_result(folder.path(), large.digest), None, "its file goes with it");
    let outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!(attempts(&outbox), [attempt(&entries[2])]);
}

#[test]
fn a_result_that_two_attempts_share_goes_with_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    let [first, second] = [entry(1, 7, 5000), entry(2, 7, 5000)];
    outbox.write(&[first.clone(), second.clone()]).unwrap();
    let digest = attempt(&first).digest;
    outbox.write(&[Entry::Forget(attempt(&first).key)]).unwrap();
    assert!(read_result(folder.path(), digest).is_some());
    outbox.write(&[Entry::Forget(attempt(&second).key)]).unwrap();
    assert!(read_result(folder.path(), digest).is_none());
}

#[test]
fn a_log_torn_anywhere_keeps_its_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let entries: Vec<Entry> = (0..3).map(|index| entry(1, index, 20)).collect();
    let mut ends = Vec::new();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    for entry in &entries {
        ends.push(outbox.end);
        outbox.write(std::slice::from_ref(entry)).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        let expected =
            ends.iter().skip(1).chain([&(whole.len() as u64)]).filter(|end| **end <= cut as u64).count();
        fs::write(&path, &whole[..cut]).unwrap();
        let mut torn = Outbox::open(folder.path()).unwrap();
        assert_eq!(torn.attempts().count(), expected, "cut at {cut}");
        torn.write(&[entry(9, 9, 1)]).unwrap();
        assert_eq!(Outbox::open(folder.path()).unwrap().attempts().count(), expected + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_ends_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut outbox = Outbox::open(folder.path()).unwrap();
    outbox.write(&[entry(1, 0, 20)]).unwrap();
    let first_end = outbox.end;
    outbox.write(&[entry(1, 1, 20)]).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in usize::try_from(first_end).unwrap()..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(Outbox::open(folder.path()).unwrap().attempts().count(), 1, "bit at {at}");
    }
}

#[test]
fn a_failed_write_writes_nothing_and_can_be_repeated() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("outbox");
    fs::create_dir(&folder).unwrap();
    let mut outbox = Outbox::open(&folder).unwrap();
    outbox.write(&[entry(1, 0, 1)]).unwrap();
    let away = parent.path().join("away");
    fs::rename(&folder, &away).unwrap();
    let entries = [entry(1, 1, 1), entry(1, 2, 5000)];
    assert!(outbox.write(&entries).is_err(), "there is no place for the large one");
    assert_eq!(outbox.attempts().count(), 1);
    fs::rename(&away, &folder).unwrap();
    outbox.write(&entries).unwrap();
    assert_eq!(Outbox::open(&folder).unwrap().attempts().count(), 3);
}

#[test]
fn strangers_are_removed_and_a_lost_result_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let large = entry(1, 1, 5000);
    Outbox::open(folder.path()).unwrap().write(&[large.clone(), entry(1, 2, 5)]).unwrap();
    fs::write(folder.path().join(".tmp-1"), "scrap").unwrap();
    fs::write(folder.path().join(Digest::of(b"x").to_string()), "x").unwrap();
    fs::remove_file(folder.path().join(attempt(&large).digest.to_string())).unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!(outbox.attempts().map(|attempt| attempt.key.index).collect::<Vec<_>>(), [2]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn something_else_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("log"), "my diary, day one").unwrap();
    let error = Outbox::open(folder.path()).expect_err("not an outbox").to_string();
    assert!(error.contains("is not an outbox"), "{error}");
}

#[test]
fn a_long_log_is_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    for index in 0..400 {
        outbox.write(&[entry(1, index, 4000)]).unwrap();
        outbox.write(&[Entry::Forget(AttemptKey { token: 1, index })]).unwrap();
    }
    outbox.write(&[entry(2, 0, 4000)]).unwrap();
    assert!(outbox.end < COMPACT_BYTES, "{} bytes", outbox.end);
    assert_eq!(Outbox::open(folder.path()).unwrap().attempts().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_what_is_read(
        steps in proptest::collection::vec((0u64..3, 0u64..4, 0usize..6000, any::<bool>()), 1..20)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::new();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        for (token, index, bytes, is_put) in steps {
            let key = AttemptKey { token, index };
            let step = if is_put { entry(token, index, bytes) } else { Entry::Forget(key) };
            if is_put {
                expected.insert(key, attempt(&step));
            } else {
                expected.remove(&key);
            }
            outbox.write(&[step]).unwrap();
            let again = Outbox::open(folder.path()).unwrap();
            prop_assert_eq!(attempts(&again), expected.values().cloned().collect::<Vec<_>>());
            outbox = again;
        }
    }
}

#[test]
fn what_comes_after_a_compaction_that_failed_late_is_in_the_log_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    let [first, second, third] = [0, 1, 2].map(|index| entry(1, index, 10));
    outbox.write(&[first.clone(), second.clone(), Entry::Forget(attempt(&first).key)]).unwrap();

    outbox.compact(|_| Err(io::ErrorKind::StorageFull.into()));

    assert!(outbox.is_name_unsure, "a crash may bring the old one back");
    outbox.write(std::slice::from_ref(&third)).unwrap();
    assert!(!outbox.is_name_unsure, "it is sure before anybody hears of an attempt");
    let expected = [attempt(&second), attempt(&third)];
    assert_eq!(attempts(&outbox), expected);
    assert_eq!(attempts(&Outbox::open(folder.path()).unwrap()), expected);
}
