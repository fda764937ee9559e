//! Comings and goings, and what is told.

use super::*;

const HOUR: u64 = 3600;
const HOURLY: Notify = Notify::Every { secs: HOUR };

fn books(amount: &str, units: u64) -> Books {
    let total = Tally { amount: amount.parse().unwrap(), units, ..Tally::default() };
    Books { total: total.clone(), this_month: total, month: "2026-11".to_owned() }
}

/// Somebody who leaves at some time and is back a minute later; what is shown to them.
fn leave_and_return(absence: &mut Absence, at: u64, earned: &str, units: u64) -> Option<Notice> {
    assert_eq!(absence.see(Whereabouts::Away, at), [Wish::Keep, Wish::Ask]);
    absence.unreadable();
    assert_eq!(absence.see(Whereabouts::Here, at + 60), [Wish::Keep, Wish::Ask]);
    let mut wishes = absence.read(books(earned, units), at + 60);
    match wishes.pop() {
        Some(Wish::Show(notice)) => {
            assert_eq!(wishes, [Wish::Keep], "kept before it is shown");
            Some(*notice)
        }
        Some(Wish::Keep) | None => None,
        Some(Wish::Ask) => panic!("asked without need"),
    }
}

fn amounts(notice: Option<&Notice>) -> Option<(String, u64)> {
    notice.map(|notice| (crate::core::shown(notice.earned.amount), notice.earned.units))
}

fn at_work(notify: Notify) -> Absence {
    let mut absence = Absence::new(Memory::default(), notify);
    assert_eq!(absence.see(Whereabouts::Here, 0), [], "nobody has been away");
    assert_eq!(absence.read(books("5", 50), 0), [Wish::Keep]);
    absence
}

#[test]
fn who_comes_back_is_told_once_what_was_earned() {
    let mut absence = at_work(HOURLY);
    let notice = leave_and_return(&mut absence, 100, "6.234567", 87).unwrap();
    assert_eq!(amounts(Some(&notice)), Some(("1.234567".to_owned(), 37)));
    assert_eq!(notice.books, books("6.234567", 87));
    absence.shown(&notice);
    assert_eq!(absence.see(Whereabouts::Here, 200), [], "still there");
    assert_eq!(absence.read(books("7", 90), 9000), [], "read for another reason");
}

#[test]
fn nothing_earned_is_nothing_shown() {
    let mut absence = at_work(HOURLY);
    assert_eq!(leave_and_return(&mut absence, 100, "5", 50), None);
    assert_eq!(leave_and_return(&mut absence, 2 * HOUR, "5.0000009", 51), None, "less than is shown");
    let notice = leave_and_return(&mut absence, 4 * HOUR, "5.0000018", 52);
    assert_eq!(amounts(notice.as_ref()), Some(("0.000001".to_owned(), 2)), "it adds up");
}

#[test]
fn never_more_than_one_in_the_time_and_nothing_is_left_out() {
    let mut absence = at_work(HOURLY);
    let first = leave_and_return(&mut absence, 100, "6", 60).unwrap();
    absence.shown(&first);
    assert_eq!(leave_and_return(&mut absence, 400, "7", 70), None);
    assert_eq!(leave_and_return(&mut absence, 100 + HOUR - 1, "8", 80), None, "a second too soon");
    let next = leave_and_return(&mut absence, 100 + HOUR, "9", 90);
    assert_eq!(amounts(next.as_ref()), Some(("3.000000".to_owned(), 30)));
}

#[test]
fn what_is_verified_while_somebody_is_there_counts_in_the_next_one() {
    let mut absence = at_work(HOURLY);
    let first = leave_and_return(&mut absence, 100, "6", 60).unwrap();
    absence.shown(&first);
    absence.read(books("8", 80), 2 * HOUR);
    let next = leave_and_return(&mut absence, 3 * HOUR, "9", 90);
    assert_eq!(amounts(next.as_ref()), Some(("3.000000".to_owned(), 30)));
}

#[test]
fn a_restart_forgets_nothing() {
    let mut absence = at_work(HOURLY);
    let first = leave_and_return(&mut absence, 100, "6", 60).unwrap();
    absence.shown(&first);
    absence.see(Whereabouts::Away, 200);
    let text = serde_json::to_string(absence.memory()).unwrap();

    let mut absence = Absence::new(serde_json::from_str(&text).unwrap(), HOURLY);
    assert_eq!(absence.see(Whereabouts::Untold, 300), []);
    assert_eq!(absence.read(books("7", 70), 300), []);
    assert_eq!(absence.see(Whereabouts::Here, 400), [Wish::Keep, Wish::Ask], "back from before the restart");
    assert_eq!(absence.read(books("7", 70), 400), [], "the hour is not over");
    let next = leave_and_return(&mut absence, 2 * HOUR, "7", 70);
    assert_eq!(amounts(next.as_ref()), Some(("1.000000".to_owned(), 10)));
}

#[test]
fn a_notice_that_nobody_saw_is_tried_again_no_sooner_than_the_next() {
    let mut absence = at_work(HOURLY);
    assert!(leave_and_return(&mut absence, 100, "6", 60).is_some(), "and `shown` is never called");
    assert_eq!(leave_and_return(&mut absence, 400, "7", 70), None);
    let next = leave_and_return(&mut absence, 2 * HOUR, "8", 80);
    assert_eq!(amounts(next.as_ref()), Some(("3.000000".to_owned(), 30)));
}

#[test]
fn a_switch_that_is_off_keeps_no_backlog() {
    let mut absence = at_work(Notify::Off);
    assert_eq!(leave_and_return(&mut absence, 100, "6", 60), None);
    let mut absence = Absence::new(absence.memory().clone(), HOURLY);
    let next = leave_and_return(&mut absence, 2 * HOUR, "6.5", 65);
    assert_eq!(amounts(next.as_ref()), Some(("0.500000".to_owned(), 5)));
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let mut absence = at_work(HOURLY);
    absence.see(Whereabouts::Away, 100);
    absence.see(Whereabouts::Here, 200);
    absence.unreadable();
    assert_eq!(absence.read(books("6", 60), 300), [], "long after they came back");
    let next = leave_and_return(&mut absence, 400, "6", 60);
    assert_eq!(amounts(next.as_ref()), Some(("1.000000".to_owned(), 10)));
}

#[test]
fn who_left_again_before_the_answer_is_told_when_they_are_back() {
    let mut absence = at_work(HOURLY);
    absence.see(Whereabouts::Away, 100);
    absence.see(Whereabouts::Here, 200);
    assert_eq!(absence.see(Whereabouts::Away, 201), [Wish::Keep, Wish::Ask]);
    assert_eq!(absence.read(books("6", 60), 202), [Wish::Keep]);
    assert_eq!(absence.memory().left, Some(books("6", 60).total));
    absence.see(Whereabouts::Here, 300);
    assert!(matches!(absence.read(books("6", 60), 300)[..], [Wish::Keep, Wish::Show(_)]));
}

#[test]
fn clocks_that_are_set_back_and_other_books_silence_nobody_for_long() {
    let mut absence = at_work(HOURLY);
    let first = leave_and_return(&mut absence, 100 * HOUR, "6", 60).unwrap();
    absence.shown(&first);
    assert_eq!(leave_and_return(&mut absence, HOUR, "7", 70), None, "the clock was set back");
    let next = leave_and_return(&mut absence, 3 * HOUR, "7", 70).unwrap();
    absence.shown(&next);
    assert_eq!(leave_and_return(&mut absence, 6 * HOUR, "1", 1), None, "books that begin anew");
    let next = leave_and_return(&mut absence, 9 * HOUR, "1.5", 2);
    assert_eq!(amounts(next.as_ref()), Some(("0.500000".to_owned(), 1)));
}

#[test]
fn only_people_come_back() {
    let person = [Rest::OnBattery, Rest::Person];
    let blind = [Rest::Unknown { reason: "gone".to_owned() }];
    let check = |rests: &[Rest], wanted| {
        assert_eq!(Whereabouts::of(People::Watched, rests), wanted, "{rests:?}");
        assert_eq!(Whereabouts::of(People::Nobody, rests), Whereabouts::Untold, "nobody ever sits there");
    };
    check(&person, Whereabouts::Here);
    check(&person[..1], Whereabouts::Away);
    check(&[Rest::CpuWanted { percent: 80 }], Whereabouts::Away);
    check(&blind, Whereabouts::Untold);
    check(&[], Whereabouts::Away);
}
