//! Draining: what runs is finished, nothing new is taken, then the agent ends.

use super::*;

#[test]
fn what_runs_is_finished_and_the_rest_handed_back() {
    let mut rig = Rig::idle(2);
    rig.answer_with(vec![lease(1, [0, 1, 2])]);
    rig.event(Event::DrainRequested);
    let request = rig.request();
    assert_eq!((request.free_slots, &request.hand_backs[..]), (0, &[hand_back(1, vec![1, 2])][..]));
    assert!(rig.agent.snapshot().is_draining);
    rig.answer_with(vec![]);
    assert!(!rig.has_exited(), "a unit still runs");
    rig.finish_and_store(1, 0);
    assert_eq!(rig.reported(), [(1, 0)]);
    assert!(!rig.has_exited(), "its report is on its way");
    rig.answer_with(vec![]);
    assert!(rig.has_exited());
}

#[test]
fn an_agent_without_work_ends_at_once_it_is_drained() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![]);
    rig.event(Event::DrainRequested);
    assert!(rig.has_exited());
}

#[test]
fn leases_that_were_on_their_way_go_back() {
    let mut rig = Rig::idle(1);
    rig.event(Event::DrainRequested);
    // The long poll gave way to a call that asks for nothing; its answer brings a lease all the same.
    assert_eq!(rig.request().free_slots, 0);
    rig.answer_with(vec![lease(1, [0])]);
    assert!(rig.running.is_empty());
    assert_eq!(rig.request().hand_backs, [hand_back(1, vec![])]);
    rig.answer_with(vec![]);
    assert!(rig.has_exited());
}

#[test]
fn a_coordinator_that_is_away_does_not_hold_the_end_up() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::DrainRequested);
    rig.finish_and_store(1, 0);
    rig.fail(SyncFailure::Unreachable);
    assert!(rig.has_exited(), "the attempt is on disk; the next run reports it");
    assert!(rig.forgotten.is_empty());
}

#[test]
fn a_frozen_unit_is_waited_for() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::PresenceChanged(Presence::Active));
    rig.event(Event::DrainRequested);
    rig.live(300);
    assert!(!rig.has_exited() && rig.running.contains(&key(1, 0)));
    rig.event(Event::PresenceChanged(Presence::Idle));
    rig.finish_and_store(1, 0);
    rig.live(3);
    assert!(rig.has_exited());
}
