//! A status as the owner reads it.

use super::{LeaseStatus, Status};
use crate::core::Tally;

/// Figures of this age say how old they are.
const OLD_SECS: u64 = 20 * 60;
/// Leases that are listed one by one.
const LEASES_SHOWN: usize = 8;

/// The status in lines: first what it does, then why, what it brought, and with what. `time` shows Unix seconds.
#[must_use]
pub fn text(status: &Status, now_unix_secs: u64, time: impl Fn(u64) -> String) -> String {
    let mut lines = vec![headline(status, &time), String::new()];
    let mut fact = |word: &str, value: String| lines.push(format!("  {word:<12} {value}"));
    for rest in &status.rests {
        fact("why", rest.clone());
    }
    for hindrance in hindrances(status) {
        fact("no new work", hindrance);
    }
    for (word, value) in ["earned", "", ""].into_iter().zip(earned(status, now_unix_secs, &time)) {
        fact(word, value);
    }
    let words = std::iter::once("work").chain(std::iter::repeat(""));
    for (word, value) in words.zip(work(status)) {
        fact(word, value);
    }
    fact("presence", format!("{} for {}", status.presence, rough(status.presence_secs)));
    for source in &status.sources {
        let broken = if source.is_readable { "" } else { "not readable: " };
        fact("watching", format!("{}: {broken}{}", source.name, source.detail));
    }
    fact("walls", status.walls.clone().unwrap_or_else(|| "not looked at yet".to_owned()));
    fact("coordinator", coordinator(status, now_unix_secs));
    fact("agent", format!("version {}, process {}", status.version, status.pid));
    lines.join("\n")
}

fn earned(status: &Status, now_unix_secs: u64, time: &impl Fn(u64) -> String) -> Vec<String> {
    let Some(earned) = &status.earned else { return vec!["the coordinator has not said yet".to_owned()] };
    let say = |tally: &Tally, when: &str| format!("{} {when} ({})", tally.shown(), units(tally.all_units()));
    let mut lines =
        vec![format!("{}, {}", say(&earned.this_month, "this month"), say(&earned.total, "in all"))];
    if let (Some(since), Some(left)) = (&earned.since_left, earned.left_unix_secs) {
        lines.push(say(since, &format!("since somebody left at {}", time(left))));
    }
    let age = now_unix_secs.saturating_sub(earned.read_unix_secs);
    if age >= OLD_SECS {
        lines.push(format!("as it was {} ago; `lull-worker earnings` asks anew", rough(age)));
    }
    lines
}

fn work(status: &Status) -> Vec<String> {
    let mut lines: Vec<_> = status.leases.iter().take(LEASES_SHOWN).map(describe).collect();
    if status.leases.len() > LEASES_SHOWN {
        lines.push(format!("and {} more leases", status.leases.len() - LEASES_SHOWN));
    }
    let unreported = match status.unreported {
        0 => String::new(),
        waiting => format!(", {waiting} of them not reported yet"),
    };
    lines.push(format!("{} finished since the agent started{unreported}", units(status.finished)));
    lines
}

/// Why it would take no work though nobody uses the PC.
fn hindrances(status: &Status) -> Vec<String> {
    let runner = status.runner_problem.iter().map(|problem| format!("no guest can be run here: {problem}"));
    let disk = status
        .is_disk_full
        .then(|| "the disk is full: finished units wait in memory; free some space".to_owned());
    let network = status.network_problem.iter().map(|problem| format!("the network: {problem}"));
    runner.chain(disk).chain(network).collect()
}

fn headline(status: &Status, time: &impl Fn(u64) -> String) -> String {
    let started = status.leases.iter().filter(|lease| lease.running.is_some()).count();
    let count = units(started as u64);
    let doing = if let Some(until) = status.paused_until_unix_secs {
        format!("Paused until {}", time(until))
    } else if !status.rests.is_empty() {
        "Resting".to_owned()
    } else if started > 0 {
        let slots = if status.slots == 1 { "1 slot".to_owned() } else { format!("{} slots", status.slots) };
        return format!("Running {count} in {slots}{}", ending(status));
    } else if !hindrances(status).is_empty() {
        return format!("Taking no work{}", ending(status));
    } else {
        return format!("Waiting for work{}", ending(status));
    };
    let frozen = if started > 0 { format!(", {count} frozen") } else { String::new() };
    format!("{doing}{frozen}{}", ending(status))
}

const fn ending(status: &Status) -> &'static str {
    if status.is_draining { "; draining: it ends when what runs is finished" } else { "" }
}

fn describe(lease: &LeaseStatus) -> String {
    let running = lease.running.map_or(String::new(), |index| format!(", now at unit {index}"));
    format!("job {}: {} of {} done{running}", lease.job_id, lease.done, units(lease.units as u64))
}

fn coordinator(status: &Status, now_unix_secs: u64) -> String {
    let url = &status.coordinator;
    match (status.coordinator_since_unix_secs, &status.coordinator_problem) {
        (None, _) => format!("{url}: no answer yet"),
        (Some(_), None) => format!("{url}: answers"),
        (Some(since), Some(problem)) => {
            format!(
                "{url}: not usable for {} ({problem}); it is tried again",
                rough(now_unix_secs.saturating_sub(since))
            )
        }
    }
}

pub(super) fn units(count: u64) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}

/// A duration as people say it.
pub(super) fn rough(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Earnings;
    use super::*;

    fn idle() -> Status {
        Status {
            version: "1".to_owned(),
            pid: 7,
            coordinator: "http://c".to_owned(),
            coordinator_problem: None,
            coordinator_since_unix_secs: Some(90),
            presence: "idle".to_owned(),
            presence_secs: 240,
            rests: Vec::new(),
            sources: Vec::new(),
            walls: Some("seccomp; without Landlock (too old)".to_owned()),
            slots: 2,
            earned: None,
            leases: Vec::new(),
            finished: 1,
            unreported: 0,
            is_disk_full: false,
            runner_problem: None,
            network_problem: None,
            is_draining: false,
            paused_until_unix_secs: None,
        }
    }

    #[test]
    fn each_state_is_said_in_the_first_line() {
        let lease = LeaseStatus { token: 3, job_id: 12, units: 5, done: 2, running: Some(9) };
        let running = Status { leases: vec![lease], ..idle() };
        let rests = vec!["this PC runs on its battery; plug it in".to_owned()];
        let check = |status: &Status, first: &str, says: &str| {
            let text = text(status, 100, |secs| format!("<{secs}>"));
            assert_eq!(text.lines().next(), Some(first), "{text}");
            assert!(text.contains(says), "{text}");
        };
        check(&idle(), "Waiting for work", "idle for 4 min");
        check(&running, "Running 1 unit in 2 slots", "job 12: 2 of 5 units done, now at unit 9");
        check(&Status { rests: rests.clone(), ..idle() }, "Resting", "plug it in");
        check(&Status { rests: rests.clone(), ..running.clone() }, "Resting, 1 unit frozen", "plug it in");
        let full = Status { is_disk_full: true, ..idle() };
        check(&full, "Taking no work", "no new work  the disk is full");
        check(
            &Status { is_disk_full: true, ..running.clone() },
            "Running 1 unit in 2 slots",
            "free some space",
        );
        let no_runner = Status { runner_problem: Some("no runner at /x".to_owned()), ..idle() };
        check(&no_runner, "Taking no work", "no new work  no guest can be run here: no runner at /x");
        let metered = Status { network_problem: Some("metered: see `transfers`".to_owned()), ..idle() };
        check(&metered, "Taking no work", "no new work  the network: metered");
        check(&Status { rests: rests.clone(), ..metered }, "Resting", "no new work  the network: metered");
        let paused = Status { rests, paused_until_unix_secs: Some(500), ..running.clone() };
        check(&paused, "Paused until <500>, 1 unit frozen", "1 unit finished since");
        let draining = Status { is_draining: true, ..running.clone() };
        check(
            &draining,
            "Running 1 unit in 2 slots; draining: it ends when what runs is finished",
            "answers",
        );
        let away = Status { coordinator_problem: Some("Unavailable".to_owned()), unreported: 4, ..idle() };
        check(&away, "Waiting for work", "not usable for 10 s (Unavailable)");
        check(&away, "Waiting for work", "4 of them not reported yet");
        check(&idle(), "Waiting for work", "has not said yet");
        check(&idle(), "Waiting for work", "  walls        seccomp; without Landlock (too old)\n");
        check(&Status { walls: None, ..idle() }, "Waiting for work", "not looked at yet");
        let single = Status { slots: 1, ..running };
        check(&single, "Running 1 unit in 1 slot", "idle for 4 min");
    }

    #[test]
    fn what_was_earned_is_said_with_its_age() {
        let tally = |amount: &str, units| Tally {
            currency: "EUR".to_owned(),
            amount: amount.parse().unwrap(),
            units,
            others: Vec::new(),
        };
        let earned = Earnings {
            total: tally("98.76543219", 2961),
            this_month: tally("12.3", 371),
            month: "2026-11".to_owned(),
            since_left: Some(tally("1.5", 37)),
            left_unix_secs: Some(50),
            read_unix_secs: 100,
            problem: None,
        };
        let status = Status { earned: Some(earned), ..idle() };
        let said = |now| text(&status, now, |secs| format!("<{secs}>"));
        let fresh = said(100);
        assert!(
            fresh.contains(
                "  earned       12.300000 EUR this month (371 units), 98.765432 EUR in all (2961 units)\n               1.500000 EUR since somebody left at <50> (37 units)\n"
            ),
            "{fresh}"
        );
        assert!(!fresh.contains("ago"), "{fresh}");
        assert!(said(100 + 3600).contains("as it was 60 min ago"), "{}", said(3700));
    }
}
