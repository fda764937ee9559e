//! A job in words: in detail, and at its end.

use lull_proto::v1;

use crate::out;
use crate::text::{amount, human};
use crate::view;

type Fact = (&'static str, String);

/// Everything that a person asks about one job.
pub(crate) fn detail(job: &v1::Job) -> String {
    let spec = job.spec.clone().unwrap_or_default();
    let progress = job.progress.unwrap_or_default();
    let mut facts = vec![("job", human::plain(&job.name))];
    if !spec.display_name.is_empty() {
        facts.push(("name", human::plain(&spec.display_name)));
    }
    facts.push(("submitter", human::plain(&job.submitter)));
    facts.push(("created", format!("{} UTC", human::time(job.create_time.as_ref()))));
    if job.complete_time.is_some() {
        facts.push(("ended", format!("{} UTC", human::time(job.complete_time.as_ref()))));
    }
    facts.push(("stage", view::stage(progress.stage.as_ref())));
    facts.push((
        "units",
        format!(
            "{} in all, {} running, {} left",
            human::count(progress.units),
            human::count(progress.units_running),
            human::count(view::units_left(&progress))
        ),
    ));
    facts.extend(outcome(job));
    out::facts(facts)
}

/// How a job ended, for the person who watched it.
pub(crate) fn ended(job: &v1::Job) -> String {
    let mut facts = vec![("job", human::plain(&job.name))];
    facts.extend(outcome(job));
    out::facts(facts)
}

fn outcome(job: &v1::Job) -> Vec<Fact> {
    let progress = job.progress.unwrap_or_default();
    let costs = job.costs.clone().unwrap_or_default();
    let money = |text: &str| amount::money(text, view::currency(job));
    let settled = if job.settled { ", settled" } else { "" };
    let mut facts = vec![("state", format!("{}{settled}", view::job_state(job.state())))];
    if !job.reason.is_empty() {
        facts.push(("reason", human::plain(&job.reason)));
    }
    if job.strict {
        facts.push((
            "strict",
            "its results depend on bits of NaN, which differ between CPUs: nobody is blamed for it, and since it \
             was found units run with one NaN for all, which is slower"
                .to_owned(),
        ));
    }
    facts.push((
        "verified",
        format!(
            "{} by {} of {}",
            human::counted(progress.units_accepted, "unit"),
            human::counted(progress.attempts_judged, "attempt"),
            human::counted(progress.owners, "owner")
        ),
    ));
    if progress.units_failed > 0 {
        facts.push((
            "failed",
            format!(
                "{}: `lull results {} --failed` lists them",
                human::counted(progress.units_failed, "unit"),
                human::plain(&job.name)
            ),
        ));
    }
    facts.push(("items", human::count(progress.items_accepted)));
    facts.push(("CPU time", format!("{}, all copies", human::micros(progress.cpu_micros))));
    facts.push(("cost", format!("{} spent of {}", amount::show(&costs.spent), money(&costs.budget))));
    if !amount::is_zero(&costs.reserved) {
        facts.push(("reserved", money(&costs.reserved)));
    }
    facts.push(("refunded", money(&costs.refunded)));
    if !amount::is_zero(&costs.kept) {
        facts.push(("kept", format!("{} until it is settled", money(&costs.kept))));
    }
    if let Some(projection) = &job.projection {
        facts.extend(projected(projection, view::currency(job)));
    }
    if let Some(answer) = &job.answer {
        facts.push((
            "answer",
            format!("{}: `lull results {}`", human::bytes(answer.size_bytes), human::plain(&job.name)),
        ));
    }
    facts
}

fn projected(projection: &v1::Projection, currency: &str) -> Vec<Fact> {
    vec![
        (
            "whole job",
            format!(
                "{} of {}",
                human::counted(projection.units, "unit"),
                human::counted(projection.items, "item")
            ),
        ),
        (
            "  CPU time",
            format!(
                "{} for one copy, {} for all copies",
                human::micros(projection.cpu_micros_one_copy),
                human::micros(projection.cpu_micros)
            ),
        ),
        ("  cost", amount::money(&projection.cost, currency)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pilot() -> v1::Job {
        v1::Job {
            name: "jobs/3".to_owned(),
            state: v1::JobState::Complete.into(),
            settled: true,
            submitter: "submitters/clinic".to_owned(),
            spec: Some(v1::JobSpec { currency: "EUR".to_owned(), ..Default::default() }),
            progress: Some(v1::Progress {
                stage: Some(v1::Stage { kind: v1::StageKind::Finish.into(), level: 0 }),
                units: 22,
                units_accepted: 22,
                attempts: 45,
                attempts_judged: 44,
                cpu_micros: 30_500_000,
                items_accepted: 10_000_000,
                owners: 3,
                ..Default::default()
            }),
            costs: Some(v1::Costs {
                budget: "25".to_owned(),
                spent: "20.0000045".to_owned(),
                reserved: "0".to_owned(),
                refunded: "4.9999955".to_owned(),
                kept: "0".to_owned(),
                expected: "20".to_owned(),
                ..v1::Costs::default()
            }),
            projection: Some(v1::Projection {
                units: 2_407,
                items: 1_203_322_288,
                cpu_micros_one_copy: 1_805_000_000,
                cpu_micros: 3_610_000_000,
                cost: "2406.644576".to_owned(),
            }),
            answer: Some(v1::Input { name: String::new(), digest: vec![1; 32], size_bytes: 90_000 }),
            ..Default::default()
        }
    }

    #[test]
    fn a_pilot_ends_with_its_projection() {
        let expected = "\
job         jobs/3
state       complete, settled
verified    22 units by 44 attempts of 3 owners
items       10,000,000
CPU time    30.5 s, all copies
cost        20.000005 spent of 25.000000 EUR
refunded    4.999996 EUR
whole job   2,407 units of 1,203,322,288 items
  CPU time  30 min 5 s for one copy, 1 h 0 min for all copies
  cost      2406.644576 EUR
answer      87.8 KiB: `lull results jobs/3`";
        assert_eq!(ended(&pilot()), expected);
    }

    #[test]
    fn a_strict_job_says_what_that_is() {
        assert!(!detail(&pilot()).contains("strict"));
        let job = v1::Job { strict: true, ..pilot() };
        for text in [detail(&job), ended(&job)] {
            let said = text.lines().any(|line| line.starts_with("strict ") && line.contains("bits of NaN"));
            assert!(said, "{text}");
        }
    }

    #[test]
    fn an_incomplete_job_says_why() {
        let mut job = v1::Job { projection: None, answer: None, ..pilot() };
        job.state = v1::JobState::Incomplete.into();
        job.reason = "10 units failed".to_owned();
        job.progress.as_mut().unwrap().units_failed = 10;
        let text = detail(&job);
        for expected in ["submitter  submitters/clinic", "reason     10 units failed", "--failed"] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
