//! `lull jobs`: one's jobs, or one of them in detail.

use clap::Args;
use lull_proto::v1;
use serde::Serialize;

use super::summary;
use crate::error::Result;
use crate::grid::{Grid, interruptible};
use crate::out::{self, Align, Format};
use crate::text::{amount, human, name};
use crate::view;

/// Jobs in one page: the most that a coordinator gives.
const PAGE_SIZE: i32 = 1_000;
/// Characters of a display name that a table has room for.
const NAME_CHARS: usize = 14;

/// List jobs, newest first, or show one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull jobs
  lull jobs 12
  lull --output json jobs | jq '.jobs[] | select(.state == \"running\") | .name'

JSON: {\"jobs\": [job, ..]}, or one job: {name, display_name, submitter, state
(running, complete, incomplete, cancelled), settled, revision, strict (its results
depend on bits of NaN: units run with one NaN for all), reason, create_time,
complete_time, module_digest, split, reduce, items_per_unit, pilot_units, copies,
priority, allow_missing, currency, item_price, service_price,
progress: {stage, units, units_accepted, units_failed, units_running, units_left,
  attempts, attempts_judged, cpu_micros, items_accepted, owners},
costs: {budget, spent, reserved, refunded, kept, expected, fee_percent, expected_fee},
projection: null or {units, items, cpu_micros_one_copy, cpu_micros, cost},
answer: null or {digest, size_bytes}}")]
pub(crate) struct JobsArgs {
    /// The job, such as 12 or jobs/12
    #[arg(value_name = "JOB", value_parser = name::job)]
    job: Option<String>,
}

#[derive(Debug, Serialize)]
struct Jobs {
    jobs: Vec<view::Job>,
}

/// Lists or shows.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn run(grid: &Grid, args: &JobsArgs, format: Format) -> Result<()> {
    match &args.job {
        Some(name) => {
            let job = interruptible(get(grid, name)).await?;
            match format {
                Format::Json => out::json(&view::Job::from(&job)),
                Format::Table => out::line(&summary::detail(&job)),
            }
        }
        None => {
            let jobs = interruptible(list(grid)).await?;
            match format {
                Format::Json => out::json(&Jobs { jobs: jobs.iter().map(view::Job::from).collect() }),
                Format::Table if jobs.is_empty() => {
                    out::say("no jobs yet: submit one with `lull submit job.toml`");
                    Ok(())
                }
                Format::Table => out::line(&table(&jobs)),
            }
        }
    }
}

/// One job.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn get(grid: &Grid, name: &str) -> Result<v1::Job> {
    let request = v1::GetJobRequest { name: name.to_owned() };
    let response = grid.jobs().get_job(request).await.map_err(|status| grid.explain(&status).about(name))?;
    Ok(response.into_inner())
}

async fn list(grid: &Grid) -> Result<Vec<v1::Job>> {
    let mut jobs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListJobsRequest { page_size: PAGE_SIZE, page_token };
        let page = grid.jobs().list_jobs(request).await.map_err(|status| grid.explain(&status))?.into_inner();
        jobs.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(jobs);
        }
    }
}

fn table(jobs: &[v1::Job]) -> String {
    let header = [
        ("job", Align::Left),
        ("name", Align::Left),
        ("state", Align::Left),
        ("units", Align::Right),
        ("spent", Align::Right),
        ("created (UTC)", Align::Left),
    ];
    let rows = jobs.iter().map(|job| {
        let progress = job.progress.unwrap_or_default();
        vec![
            human::plain(&job.name),
            human::short(job.spec.as_ref().map_or("", |spec| &spec.display_name), NAME_CHARS),
            view::job_state(job.state()).to_owned(),
            format!("{}/{}", progress.units_accepted, progress.units),
            amount::money(job.costs.as_ref().map_or("0", |costs| &costs.spent), view::currency(job)),
            human::time(job.create_time.as_ref()).chars().take(16).collect(),
        ]
    });
    out::table(&header, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_fits_80_columns() {
        let job = v1::Job {
            name: "jobs/1234".to_owned(),
            spec: Some(v1::JobSpec {
                display_name: "exact Westfall-Young of golub".to_owned(),
                ..Default::default()
            }),
            state: v1::JobState::Incomplete.into(),
            progress: Some(v1::Progress { units: 2_488, units_accepted: 2_300, ..Default::default() }),
            costs: Some(v1::Costs { spent: "1203.32".to_owned(), ..Default::default() }),
            create_time: Some(prost_types::Timestamp { seconds: 1_784_801_472, nanos: 0 }),
            ..Default::default()
        };
        let text = table(&[job]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let last = text.lines().last().unwrap();
        let words: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(words[0], "jobs/1234");
        assert_eq!(
            words[words.len() - 5..],
            ["incomplete", "2300/2488", "1203.320000", "2026-07-23", "10:11"]
        );
    }
}
