//! Checkpoints: uploaded before their units go elsewhere, removed when nobody needs them.

use super::*;
use crate::core::{CHECKPOINT_UPLOAD_TIME_AT_END, SHUTDOWN_TIME};

/// A rig whose lease of two units runs the first, which has a checkpoint.
fn rig() -> Rig {
    let mut rig = Rig::idle(1);
    rig.answer_with(vec![lease(1, [0, 1])]);
    rig.save_checkpoint(key(1, 0));
    rig.save_checkpoint(key(1, 0));
    rig
}

fn handed_back(rig: &Rig) -> Vec<(u64, Vec<v1::Checkpoint>)> {
    rig.request().hand_backs.iter().map(|back| (back.lease_token, back.checkpoints.clone())).collect()
}

#[test]
fn a_lease_is_looked_up_on_disk() {
    let rig = rig();
    assert!(
        rig.commands
            .iter()
            .any(|command| matches!(command, Command::FindCheckpoints(lease) if lease.token == 1))
    );
}

#[test]
fn an_agent_that_ends_uploads_first_and_names_it_then() {
    let mut rig = rig();
    rig.event(Event::StopRequested);
    assert!(rig.uploading_checkpoints.contains(&key(1, 0)));
    assert!(
        rig.call.as_ref().is_none_or(|(_, request)| request.hand_backs.is_empty()),
        "not before its upload"
    );
    rig.end_checkpoint_upload(key(1, 0), true);
    assert_eq!(handed_back(&rig), [(1, vec![checkpoint(0)])]);
    assert!(rig.dropped_checkpoints().is_empty(), "nobody has heard of it");
    rig.answer_with(vec![]);
    assert_eq!(rig.dropped_checkpoints(), [0]);
    assert!(rig.has_exited());
}

#[test]
fn an_upload_that_fails_or_does_not_end_holds_nothing_up() {
    let mut rig = self::rig();
    rig.event(Event::StopRequested);
    rig.end_checkpoint_upload(key(1, 0), false);
    assert_eq!(handed_back(&rig), [(1, vec![])]);

    let mut rig = self::rig();
    rig.event(Event::StopRequested);
    rig.pass(CHECKPOINT_UPLOAD_TIME_AT_END);
    assert_eq!(handed_back(&rig), [(1, vec![])]);
    rig.pass(SHUTDOWN_TIME);
    assert!(rig.has_exited());
    assert!(rig.dropped_checkpoints().is_empty(), "the next run may go on from it");
}

#[test]
fn what_waits_for_its_upload_is_still_held() {
    let mut rig = rig();
    rig.event(Event::LeaseFailed { token: 1 });
    rig.secs(40);
    assert_eq!(rig.request().held_leases, [1]);
    // Sent again, or not: it is on its way back.
    rig.answer_with(vec![lease(1, [0, 1])]);
    assert!(rig.started.is_empty());
    rig.end_checkpoint_upload(key(1, 0), true);
    rig.secs(1);
    assert_eq!(handed_back(&rig), [(1, vec![checkpoint(0)])]);
    assert!(rig.request().held_leases.is_empty());
}

#[test]
fn a_unit_that_is_finished_needs_none() {
    let mut rig = self::rig();
    rig.finish(key(1, 0));
    assert!(rig.dropped_checkpoints().is_empty(), "its attempt is not on disk yet");
    rig.event(Event::Stored(attempt(key(1, 0), false)));
    assert_eq!(rig.dropped_checkpoints(), [0]);
}

#[test]
fn what_a_lost_lease_has_come_to_stays_for_the_next_lease_of_its_units() {
    let mut rig = self::rig();
    rig.secs(20);
    rig.answer(v1::SyncResponse { lost_leases: vec![1], ..Default::default() });
    rig.save_checkpoint(key(1, 0));
    assert!(rig.agent.checkpoints.is_empty(), "one that its thread had on its way");
    assert!(
        rig.dropped_checkpoints().is_empty(),
        "the coordinator may only not have heard of this PC for long"
    );

    rig.answer_with(vec![lease(2, [0])]);
    let looked_up =
        |command: &Command| matches!(command, Command::FindCheckpoints(lease) if lease.token == 2);
    assert!(rig.commands.iter().any(looked_up));
    rig.save_checkpoint(key(2, 0));
    rig.finish_and_store(2, 0);
    assert_eq!(rig.dropped_checkpoints(), [0]);
}
