//! A status as the owner reads it.

use super::{LeaseStatus, Status};

/// Leases that are listed one by one.
const LEASES_SHOWN: usize = 8;

/// The status in lines: first what it does, then why and with what. `time` shows Unix seconds.
#[must_use]
pub fn text(status: &Status, now_unix_secs: u64, time: impl Fn(u64) -> String) -> String {
    let mut lines = vec![headline(status, &time), String::new()];
    let mut fact = |word: &str, value: String| lines.push(format!("  {word:<12} {value}"));
    for rest in &status.rests {
        fact("resting", rest.clone());
    }
    if status.is_disk_full {
        fact("disk", "full: finished units wait in memory; free some space".to_owned());
    }
    fact("presence", format!("{} for {}", status.presence, rough(status.presence_secs)));
    for source in &status.sources {
        let broken = if source.is_readable { "" } else { "not readable: " };
        fact("watching", format!("{}: {broken}{}", source.name, source.detail));
    }
    fact("coordinator", coordinator(status, now_unix_secs));
    for lease in status.leases.iter().take(LEASES_SHOWN) {
        fact("lease", describe(lease));
    }
    if status.leases.len() > LEASES_SHOWN {
        fact("", format!("and {} more", status.leases.len() - LEASES_SHOWN));
    }
    let unreported = match status.unreported {
        0 => String::new(),
        waiting => format!(", {waiting} of them not reported yet"),
    };
    fact("finished", format!("{} since the agent started{unreported}", units(status.finished)));
    fact("agent", format!("version {}, process {}", status.version, status.pid));
    lines.join("\n")
}

fn headline(status: &Status, time: &impl Fn(u64) -> String) -> String {
    let started = status.leases.iter().filter(|lease| lease.running.is_some()).count();
    let count = units(started as u64);
    let doing = if let Some(until) = status.paused_until_unix_secs {
        format!("Paused until {}", time(until))
    } else if !status.rests.is_empty() {
        "Resting".to_owned()
    } else if started > 0 {
        return format!("Running {count} in {} slots{}", status.slots, ending(status));
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
    format!(
        "{} of job {}: {} of {} done{running}",
        lease.token,
        lease.job_id,
        lease.done,
        units(lease.units as u64)
    )
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

fn units(count: u64) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}

/// A duration as people say it.
fn rough(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
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
            slots: 2,
            leases: Vec::new(),
            finished: 1,
            unreported: 0,
            is_disk_full: false,
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
        check(&running, "Running 1 unit in 2 slots", "3 of job 12: 2 of 5 units done, now at unit 9");
        check(&Status { rests: rests.clone(), ..idle() }, "Resting", "plug it in");
        check(&Status { rests: rests.clone(), ..running.clone() }, "Resting, 1 unit frozen", "plug it in");
        let paused = Status { rests, paused_until_unix_secs: Some(500), ..running.clone() };
        check(&paused, "Paused until <500>, 1 unit frozen", "1 unit since");
        let draining = Status { is_draining: true, ..running };
        check(
            &draining,
            "Running 1 unit in 2 slots; draining: it ends when what runs is finished",
            "answers",
        );
        let away = Status { coordinator_problem: Some("Unavailable".to_owned()), unreported: 4, ..idle() };
        check(&away, "Waiting for work", "not usable for 10 s (Unavailable)");
        check(&away, "Waiting for work", "4 of them not reported yet");
        check(&Status { is_disk_full: true, ..idle() }, "Waiting for work", "free some space");
    }
}
