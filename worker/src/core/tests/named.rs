//! Named cases.

use super::*;

#[test]
fn an_idle_pc_asks_by_long_poll_and_runs_what_it_gets() {
    let mut rig = Rig::idle(2);
    let request = rig.request().clone();
    assert_eq!((request.free_slots, request.wait.unwrap().seconds), (2, 20));
    assert_eq!(request.presence(), v1::Presence::Idle);
    rig.answer_with(vec![lease(1, [5, 3])]);
    assert_eq!(rig.running, BTreeSet::from([key(1, 5)]), "in the lease's order");
    let request = rig.request();
    assert_eq!((request.free_slots, &request.held_leases[..]), (1, &[1][..]));
    assert!(request.wait.unwrap().seconds < 10, "it renews in time");
}

#[test]
fn a_lease_that_is_done_is_reported_at_once_and_its_slot_asked_for() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    rig.finish_and_store(1, 0);
    assert_eq!(rig.running, BTreeSet::from([key(1, 1)]));
    assert_eq!(rig.reported(), [(1, 0)], "nothing was reported for a second");
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 1);
    assert!(rig.started.is_empty());
    assert_eq!((rig.reported(), rig.request().free_slots), (vec![(1, 1)], 1));
    assert_eq!(rig.request().wait, Some(prost_types::Duration::default()), "reports are answered at once");
    rig.answer_with(vec![]);
    assert_eq!(rig.forgotten, [key(1, 0), key(1, 1)]);
    assert!(rig.request().held_leases.is_empty());
    assert_eq!(rig.request().wait.unwrap().seconds, 20, "then it waits for work");
}

#[test]
fn units_of_a_long_lease_are_reported_once_a_second() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, 0..100)]);
    rig.finish_and_store(1, 0);
    rig.answer_with(vec![]);
    for index in 1..20 {
        rig.finish_and_store(1, index);
    }
    assert!(rig.call.is_none());
    rig.secs(1);
    assert_eq!(rig.reported().len(), 19);
}

#[test]
fn running_units_are_renewed_at_a_third_of_the_time_to_live() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    assert!(rig.call.is_none());
    rig.secs(9);
    assert!(rig.call.is_none());
    rig.secs(1);
    assert_eq!(rig.request().held_leases, [1]);
}

#[test]
fn a_person_ends_asking_at_once_and_gets_the_rest_handed_back_after_a_minute() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0, 1, 2]), lease(2, [7])]);
    rig.event(Event::PresenceChanged(Presence::Active));
    let request = rig.request();
    assert_eq!((request.free_slots, request.presence()), (0, v1::Presence::Active));
    rig.answer_with(vec![lease(3, [4])]);
    assert!(!rig.started.contains(&3), "what was on its way waits");
    rig.live(59);
    assert!(rig.agent.hand_backs.is_empty());
    rig.live(1);
    let all = |token, indices: &[u64]| hand_back(token, indices.to_vec());
    assert_eq!(rig.request().hand_backs, [all(1, &[1, 2]), all(3, &[])]);
    assert_eq!(rig.started, BTreeSet::from([1, 2]), "frozen units are kept");
    assert_eq!(rig.request().held_leases, [1, 2]);
}

#[test]
fn a_lost_lease_is_stopped() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    rig.secs(10);
    rig.answer(v1::SyncResponse { lost_leases: vec![1], ..Default::default() });
    assert!(rig.started.is_empty());
    assert_eq!((rig.request().free_slots, rig.request().held_leases.len()), (1, 0));
}

#[test]
fn a_lease_that_comes_twice_is_one_lease() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0]), lease(1, [0])]);
    rig.answer_with(vec![lease(1, [0])]);
    assert_eq!(rig.started.len(), 1);
}

#[test]
fn after_a_restart_what_is_in_the_outbox_is_reported_and_not_run_again() {
    let mut rig = Rig::new(1);
    rig.event(Event::Stored(attempt(key(1, 0), false)));
    rig.event(Event::Stored(attempt(key(2, 0), true)));
    assert_eq!((rig.reported(), rig.request().held_leases.len()), (vec![(1, 0)], 0));
    rig.event(Event::PresenceChanged(Presence::Dedicated));
    rig.answer_with(vec![lease(2, [0, 1])]);
    assert_eq!(rig.forgotten, [key(1, 0)]);
    assert_eq!(rig.running, BTreeSet::from([key(2, 1)]), "the other one's result is being uploaded");
}

#[test]
fn refusals_are_dropped_and_logged() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish_and_store(1, 0);
    let refusal = v1::Refusal { lease_token: 1, index: 0, reason: 1, message: "late".to_owned() };
    rig.answer(v1::SyncResponse { refusals: vec![refusal.clone()], ..Default::default() });
    assert_eq!(rig.forgotten, [key(1, 0)]);
    assert!(rig.commands.iter().any(|c| matches!(c, Command::LogRefusal(r) if *r == refusal)));
}

#[test]
fn large_results_are_uploaded_before_they_are_reported() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish(key(1, 0));
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    assert!(rig.reported().is_empty());
    assert_eq!(rig.request().held_leases, [1]);
    rig.end_upload(key(1, 0), UploadEnd::TryAgain);
    rig.secs(1);
    rig.end_upload(key(1, 0), UploadEnd::Done);
    assert_eq!(rig.reported(), [(1, 0)]);
}

#[test]
fn uploads_go_on_as_soon_as_the_coordinator_is_back() {
    let mut rig = Rig::idle(1);
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    for _ in 0..7 {
        rig.end_upload(key(1, 0), UploadEnd::TryAgain);
        rig.secs(40);
    }
    rig.end_upload(key(1, 0), UploadEnd::TryAgain);
    if rig.call.is_none() {
        rig.secs(60);
        rig.uploading.clear();
    }
    rig.fail(SyncFailure::Unreachable);
    rig.secs(1);
    assert!(rig.uploading.is_empty());
    rig.answer_with(vec![]);
    assert_eq!(rig.uploading, BTreeSet::from([key(1, 0)]));
}

#[test]
fn a_damaged_result_is_handed_back() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish(key(1, 0));
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    rig.end_upload(key(1, 0), UploadEnd::Unreadable);
    assert_eq!(rig.forgotten, [key(1, 0)]);
    assert_eq!(rig.request().hand_backs, [hand_back(1, vec![0])]);
}

#[test]
fn a_full_disk_asks_for_no_work_until_it_is_written() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0]), lease(2, [0, 1])]);
    rig.finish(key(1, 0));
    rig.event(Event::StoreFailed);
    rig.finish_and_store(2, 0);
    assert!(rig.running.is_empty(), "what would not be kept is not run");
    rig.live(10);
    assert_eq!(rig.agent.free_slots(), 0);
    assert_eq!(rig.forgotten, [key(2, 0)]);
    rig.event(Event::Stored(attempt(key(1, 0), false)));
    rig.event(Event::StoreRecovered);
    assert_eq!(rig.running, BTreeSet::from([key(2, 1)]));
    rig.live(2);
    assert_eq!((&rig.forgotten[..], rig.agent.free_slots()), (&[key(2, 0), key(1, 0)][..], 1));
}

#[test]
fn without_a_runner_no_work_is_asked_for_and_what_is_held_goes_back() {
    let mut rig = Rig::idle(1);
    assert_eq!(rig.request().free_slots, 1);
    rig.event(Event::RunnerUnusable);
    // It was on its way.
    rig.answer_with(vec![lease(1, [0])]);
    assert!(rig.started.is_empty());
    assert_eq!((rig.request().free_slots, &rig.request().hand_backs[..]), (0, &[hand_back(1, vec![])][..]));
    rig.answer_with(vec![]);
    rig.live(300);
    assert_eq!(rig.request().free_slots, 0);
    rig.event(Event::RunnerUsable);
    rig.answer_with(vec![]);
    assert_eq!(rig.request().free_slots, 1);
    rig.answer_with(vec![lease(2, [0])]);
    assert_eq!(rig.running, BTreeSet::from([key(2, 0)]));
}

#[test]
fn a_disk_that_was_full_for_what_is_forgotten_does_not_end_the_agent() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.finish_and_store(1, 0);
    rig.answer_with(vec![]);
    rig.event(Event::StoreFailed);
    assert_eq!((&rig.forgotten[..], rig.agent.free_slots()), (&[key(1, 0)][..], 0));
    rig.event(Event::StoreRecovered);
    assert_eq!(rig.agent.free_slots(), 1);
}

#[test]
fn a_coordinator_that_is_away_for_an_hour_loses_nothing() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    let mut calls = 0;
    for minute in 0..60 {
        if minute == 5 {
            rig.finish_and_store(1, 0);
        }
        for _ in 0..60 {
            if rig.call.is_some() {
                calls += 1;
                rig.fail(SyncFailure::Unreachable);
            }
            rig.secs(1);
        }
    }
    assert!((50..150).contains(&calls), "{calls} calls in an hour");
    assert_eq!(rig.running, BTreeSet::from([key(1, 1)]), "it goes on");
    rig.finish_and_store(1, 1);
    while rig.call.is_none() {
        rig.secs(1);
    }
    assert_eq!(rig.reported(), [(1, 0), (1, 1)]);
}

#[test]
fn a_coordinator_that_answers_long_polls_at_once_is_not_flooded() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![]);
    assert!(rig.call.is_none());
    rig.secs(1);
    rig.answer_with(vec![]);
    assert!(rig.call.is_none());
}

#[test]
fn a_lease_that_fails_is_handed_back_and_the_next_waits() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::LeaseFailed { token: 1 });
    assert!(rig.started.is_empty());
    let request = rig.request();
    assert_eq!((&request.hand_backs[..], request.free_slots), (&[hand_back(1, vec![])][..], 0));
    rig.answer_with(vec![]);
    assert!(rig.call.is_none());
    rig.secs(1);
    assert_eq!(rig.request().free_slots, 1);
}

#[test]
fn stopping_hands_everything_back_and_ends() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0, 1, 2]), lease(2, [5])]);
    rig.secs(10);
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 0);
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 1);
    rig.event(Event::StopRequested);
    assert!(rig.started.is_empty());
    let request = rig.request();
    assert_eq!(request.free_slots, 0);
    assert_eq!(request.hand_backs, [hand_back(1, vec![2]), hand_back(2, vec![]),]);
    assert_eq!(rig.reported(), [(1, 1)]);
    rig.answer_with(vec![lease(9, [1])]);
    assert_eq!(rig.request().hand_backs, [hand_back(9, vec![])]);
    rig.answer_with(vec![]);
    assert!(rig.has_exited());
}

#[test]
fn stopping_takes_two_seconds_at_most() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::StopRequested);
    assert!(!rig.has_exited());
    rig.secs(2);
    assert!(rig.has_exited());
    let mut rig = Rig::idle(1);
    rig.event(Event::StopRequested);
    rig.fail(SyncFailure::Unreachable);
    assert!(rig.has_exited());
}

#[test]
fn a_device_that_is_not_known_for_ten_minutes_ends() {
    let mut rig = Rig::idle(1);
    let has_ended = |rig: &Rig| matches!(rig.commands.last(), Some(Command::ExitUnknownDevice));
    // One call that was held up while the PC slept, and a coordinator that was another's for a while.
    rig.fail(SyncFailure::Unauthenticated);
    rig.secs(60);
    rig.answer_with(vec![]);
    for _ in 0..10 {
        rig.fail(SyncFailure::Unauthenticated);
        assert!(!has_ended(&rig));
        rig.secs(60);
    }
    rig.fail(SyncFailure::Unauthenticated);
    assert!(has_ended(&rig));
}

#[test]
fn an_hour_without_a_network_between_two_denials_ends_no_agent_and_three_denials_do() {
    let mut rig = Rig::idle(1);
    for denials in 1..=3 {
        for _ in 0..30 {
            rig.fail(SyncFailure::Unreachable);
            rig.secs(120);
        }
        rig.fail(SyncFailure::Unauthenticated);
        let has_ended = matches!(rig.commands.last(), Some(Command::ExitUnknownDevice));
        assert_eq!(has_ended, denials == 3, "{denials}");
        rig.secs(120);
    }
}
