//! A network that costs by the byte: no new work, nothing large, and reports all the same.

use super::*;
use crate::core::Network;

#[test]
fn while_it_costs_no_work_is_asked_for_and_what_is_not_started_goes_back() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    rig.event(Event::NetworkChanged(Network::Metered));
    assert_eq!((rig.request().free_slots, &rig.request().hand_backs[..]), (0, &[hand_back(1, vec![1])][..]));
    rig.answer_with(vec![]);
    rig.finish_and_store(1, 0);
    assert_eq!(rig.reported(), [(1, 0)], "a small result is reported");
    rig.live(60);
    assert_eq!(rig.request().free_slots, 0);
    rig.event(Event::NetworkChanged(Network::Free));
    rig.answer_with(vec![]);
    assert_eq!(rig.request().free_slots, 1);
}

#[test]
fn a_large_result_waits_on_disk_and_goes_when_it_costs_nothing() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::NetworkChanged(Network::Metered));
    let large = key(1, 0);
    rig.finish(large);
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    rig.live(300);
    assert!(rig.uploading.is_empty() && rig.forgotten.is_empty());
    rig.event(Event::NetworkChanged(Network::Free));
    assert!(rig.uploading.contains(&large));
}

#[test]
fn draining_does_not_wait_for_another_network() {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0])]);
    rig.event(Event::NetworkChanged(Network::Metered));
    rig.finish(key(1, 0));
    rig.event(Event::Stored(attempt(key(1, 0), true)));
    rig.event(Event::DrainRequested);
    if rig.call.is_some() {
        rig.answer_with(vec![]);
    }
    assert!(rig.has_exited(), "the result is on disk; the next run uploads it");
    assert!(rig.uploading.is_empty() && rig.forgotten.is_empty());
}
