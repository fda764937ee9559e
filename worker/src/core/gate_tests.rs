use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const DELAY: Duration = Duration::from_secs(60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ago(ago: u64) -> Sighting {
    Sighting::LastInput(secs(ago))
}

#[test]
fn only_a_readable_source_and_a_long_silence_free_the_pc() {
    let start = Instant::now();
    let at = |ago| start + secs(ago);
    let presence = |gate: &Gate, now| gate.judge(at(now)).presence;
    let mut gate = Gate::new(DELAY, People::Watched);
    assert_eq!(presence(&gate, 1000), Presence::Unknown, "nothing is watched");
    let display = gate.add("display", Kind::Display);
    assert_eq!(presence(&gate, 1000), Presence::Unknown, "nothing has been seen");
    gate.see(display, ago(50), at(0));
    assert_eq!((presence(&gate, 5), gate.look_at(display, at(5))), (Presence::Active, Some(at(10))));
    assert_eq!(presence(&gate, 11), Presence::Active, "nobody has confirmed it yet");
    gate.see(display, ago(60), at(10));
    assert_eq!(
        (presence(&gate, 10), gate.look_at(display, at(10))),
        (Presence::Idle, Some(at(10) + LOOK_EVERY))
    );
    gate.see(display, Sighting::Input, at(20));
    assert_eq!(presence(&gate, 20), Presence::Active);
    gate.see(display, ago(500), at(30));
    assert_eq!(presence(&gate, 30), Presence::Active, "an event counts more than a counter");
    gate.see(display, ago(500), at(80));
    assert_eq!(presence(&gate, 80), Presence::Idle);
    gate.see(display, Sighting::InUse, at(81));
    assert_eq!(presence(&gate, 82), Presence::Active);
    gate.see(display, Sighting::Lost("gone".to_owned()), at(83));
    assert_eq!(
        (presence(&gate, 84), gate.look_at(display, at(84))),
        (Presence::Unknown, Some(at(83) + LOOK_EVERY))
    );
    gate.see(display, ago(3600), at(90));
    assert_eq!(presence(&gate, 90), Presence::Idle);
}

#[test]
fn a_source_that_hangs_closes_the_gate() {
    let start = Instant::now();
    let mut gate = Gate::new(DELAY, People::Watched);
    let display = gate.add("display", Kind::Display);
    let bus = gate.add("bus", Kind::Condition);
    gate.see(display, ago(100), start);
    assert_eq!(gate.judge(start).presence, Presence::Unknown, "the bus has said nothing");
    gate.see(bus, Sighting::Rests(Vec::new()), start);
    let judgement = gate.judge(start);
    assert_eq!((judgement.presence, judgement.look_at), (Presence::Idle, Some(start + STALE_AFTER)));
    gate.see(bus, Sighting::Rests(Vec::new()), start + secs(5));
    let judgement = gate.judge(start + STALE_AFTER);
    assert_eq!(judgement.presence, Presence::Unknown, "the display is silent");
    assert_eq!(judgement.rests.len(), 1);
}

#[test]
fn hints_close_but_never_open() {
    let now = Instant::now();
    let mut gate = Gate::new(DELAY, People::Watched);
    let terminals = gate.add("terminals", Kind::Hint);
    gate.see(terminals, ago(1000), now);
    assert_eq!(gate.judge(now).presence, Presence::Unknown);
    let display = gate.add("display", Kind::Display);
    gate.see(display, ago(1000), now);
    assert_eq!(gate.judge(now).presence, Presence::Idle);
    gate.see(terminals, ago(3), now + secs(1));
    assert_eq!(gate.judge(now + secs(1)).rests, [Rest::Person]);
    gate.see(terminals, Sighting::Lost("no /dev".to_owned()), now + secs(2));
    assert_eq!(gate.judge(now + secs(2)).presence, Presence::Idle);
    gate.see(display, Sighting::Absent("none".to_owned()), now + secs(3));
    assert_eq!(gate.judge(now + secs(3)).presence, Presence::Unknown, "a display is never unneeded");
}

#[test]
fn a_pause_holds_dedicated_machines_too_and_ends_by_itself() {
    let now = Instant::now();
    let mut gate = Gate::new(DELAY, People::Nobody);
    assert_eq!(gate.judge(now).presence, Presence::Dedicated);
    let until = now + secs(10);
    gate.pause(until);
    let judgement = gate.judge(now + secs(9));
    assert_eq!((judgement.rests, judgement.look_at), (vec![Rest::Paused { until }], Some(until)));
    assert!(gate.is_open(until));
    gate.pause(until + secs(10));
    gate.resume();
    assert!(gate.is_open(until));
    gate.break_down("broken");
    assert_eq!(gate.judge(until).presence, Presence::Unknown);
}

#[test]
fn after_a_sleep_nothing_said_before_counts_and_waking_counts_as_input() {
    let start = Instant::now();
    let mut gate = Gate::new(DELAY, People::Watched);
    let display = gate.add("display", Kind::Display);
    let bus = gate.add("bus", Kind::Condition);
    let slept = secs(1000);
    assert!(!gate.note_sleep(slept, start), "that was before the agent started");
    gate.see(display, ago(100), start);
    gate.see(bus, Sighting::Rests(Vec::new()), start);
    assert!(!gate.note_sleep(slept + secs(0), start + secs(1)) && gate.is_open(start + secs(1)));
    assert!(!gate.note_sleep(slept + SLEEP_MIN / 2, start + secs(1)), "clocks are not read in one instant");
    // Eight hours later by the sun, two seconds later by the clock that stood still.
    let woken = start + secs(2);
    let slept = slept + secs(8 * 3600);
    assert!(gate.note_sleep(slept, woken));
    let judgement = gate.judge(woken);
    assert_eq!((judgement.presence, judgement.rests), (Presence::Active, vec![Rest::Woken]));
    assert_eq!(gate.look_at(display, woken), Some(woken), "it is asked at once");
    assert!(!gate.note_sleep(slept, woken), "one sleep counts once");
    // The display's counter stood still too: it says what it said before.
    gate.see(display, ago(100), woken);
    assert_eq!(gate.judge(woken).rests, [Rest::Person, Rest::Woken]);
    gate.see(display, ago(160), woken + DELAY);
    assert_eq!(gate.judge(woken + DELAY).rests, [Rest::Woken], "the bus has not answered since");
    assert!(gate.see(bus, Sighting::Rests(Vec::new()), woken + DELAY), "that is news");
    assert_eq!(gate.judge(woken + DELAY).presence, Presence::Idle);
}

#[test]
fn a_dedicated_machine_that_woke_up_goes_on_when_its_conditions_are_known_anew() {
    let now = Instant::now();
    let mut gate = Gate::new(DELAY, People::Nobody);
    let machine = gate.add("machine", Kind::Condition);
    gate.note_sleep(secs(0), now);
    gate.see(machine, Sighting::Rests(Vec::new()), now);
    assert!(gate.is_open(now) && gate.note_sleep(secs(60), now) && !gate.is_open(now));
    gate.see(machine, Sighting::Rests(Vec::new()), now);
    assert!(gate.is_open(now));
}

/// One more thing that happens to a gate of three sources.
#[derive(Debug, Clone)]
enum Step {
    See(usize, Sighting),
    Pause(u64),
    Resume,
    Wait(u64),
    Sleep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rests = prop_oneof![
        Just(Vec::new()),
        Just(vec![Rest::OnBattery]),
        Just(vec![Rest::Inhibited { by: "film".to_owned() }])
    ];
    let input = prop_oneof![
        Just(Sighting::Input),
        Just(Sighting::InUse),
        (0..200u64).prop_map(ago),
        Just(Sighting::Lost("lost".to_owned())),
        Just(Sighting::Absent("absent".to_owned())),
    ];
    let condition = prop_oneof![
        3 => rests.prop_map(Sighting::Rests),
        1 => Just(Sighting::Absent("absent".to_owned())),
        1 => Just(Sighting::Lost("lost".to_owned())),
    ];
    let step = prop_oneof![
        4 => (0..2usize, input).prop_map(|(source, sighting)| Step::See(source, sighting)),
        4 => condition.prop_map(|sighting| Step::See(2, sighting)),
        1 => (0..50u64).prop_map(Step::Pause),
        1 => Just(Step::Resume),
        4 => (0..40u64).prop_map(Step::Wait),
        1 => (1..40_000u64).prop_map(Step::Sleep),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// While anything says busy, or nothing that is needed can be read, no guest runs. Judged against what was
    /// said, not by the gate's own rules.
    #[test]
    fn while_anything_says_busy_or_nothing_can_be_read_no_guest_runs(steps in steps()) {
        let mut gate = Gate::new(DELAY, People::Watched);
        for (name, kind) in [("display", Kind::Display), ("terminals", Kind::Hint), ("bus", Kind::Condition)] {
            gate.add(name, kind);
        }
        let mut now = Instant::now() + secs(10_000);
        let mut last: [Option<(Sighting, Instant)>; 3] = [None, None, None];
        let mut last_display_input = None;
        let mut paused_until = None;
        let mut slept = secs(7);
        gate.note_sleep(slept, now);
        for step in steps {
            match step {
                Step::See(source, sighting) => {
                    if source == 0 && sighting == Sighting::Input {
                        last_display_input = Some(now);
                    }
                    if source == 0 && matches!(sighting, Sighting::Lost(_)) {
                        last_display_input = None;
                    }
                    gate.see(source, sighting.clone(), now);
                    last[source] = Some((sighting, now));
                }
                Step::Pause(length) => {
                    paused_until = Some(now + secs(length));
                    gate.pause(now + secs(length));
                }
                Step::Resume => {
                    paused_until = None;
                    gate.resume();
                }
                Step::Wait(length) => now += secs(length),
                Step::Sleep(length) => {
                    slept += secs(length);
                    gate.note_sleep(slept, now);
                    last_display_input = Some(now);
                    for said in last.iter_mut() {
                        // A hint that can be read has to be read again, as well.
                        *said = said.take().map(|_| (Sighting::InUse, now));
                    }
                }
            }
            let judgement = gate.judge(now);
            prop_assert_eq!(gate.is_open(now), judgement.rests.is_empty());
            prop_assert_eq!(judgement.presence.is_free(), judgement.rests.is_empty());
            prop_assert!(judgement.look_at.is_none_or(|at| at > now));
            if judgement.presence.is_free() {
                let is_quiet = |said: &Option<(Sighting, Instant)>| matches!(said, Some((Sighting::LastInput(ago), at)) if *ago + now.duration_since(*at) >= DELAY && now < *at + STALE_AFTER);
                prop_assert!(is_quiet(&last[0]), "the display says, lately, that nobody has been there");
                prop_assert!(last_display_input.is_none_or(|at| now.duration_since(at) >= DELAY));
                prop_assert!(!matches!(last[1], Some((Sighting::Input | Sighting::InUse, _))));
                let speaks_for = |said: &Option<(Sighting, Instant)>| match said {
                    Some((Sighting::Rests(rests), at)) => rests.is_empty() && now < *at + STALE_AFTER,
                    Some((Sighting::Absent(_), _)) => true,
                    _ => false,
                };
                prop_assert!(speaks_for(&last[2]), "the condition says, lately, that nothing speaks against it");
                prop_assert!(paused_until.is_none_or(|until| until <= now));
            }
        }
    }
}
