//! `lull results`: the answer of a job, the results of its units, or what failed.

use std::path::PathBuf;

use clap::Args;
use lull_job::Digest;
use lull_proto::v1;
use tonic::{Code, Status};

use super::jobs;
use super::units::{FailedUnit, UnitResult};
use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, interruptible};
use crate::out::{self, Format, Sink};
use crate::text::name;
use crate::view;

/// Units in one page.
const PAGE_SIZE: i32 = 1_000;

/// Write the answer of a job, or what failed in it
///
/// Where results are not merged (`reduce = "none"`) the answer is one line for each unit: its number, a
/// tab, its result as text without its last line end (`\\`, `\n`, `\r`, `\t` stand for what would break
/// the line), or in hexadecimal where it is not text. With `--output json` the text is exact.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull results 12 > answer.csv
  lull results 12 --out answer.csv
  lull results 12 --failed

Ends with 6 when there is no answer (yet).

JSON: a merged answer is written as it is. Otherwise one line for each unit:
{number, digest, size_bytes, text}, with base16 instead of text where it is not
text; with --failed {stage, index, number, agreeing, attempts, message}.")]
pub(crate) struct ResultsArgs {
    /// The job, such as 12 or jobs/12
    #[arg(value_name = "JOB", value_parser = name::job)]
    job: String,
    /// Write to this file, whole or not at all, instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// List the units that failed, with the reason of each
    #[arg(long)]
    failed: bool,
}

/// Writes.
///
/// # Errors
/// [`Exit::NoAnswer`] when there is none; the coordinator's refusal; a file that cannot be written.
pub(crate) async fn run(grid: &Grid, args: &ResultsArgs, format: Format) -> Result<()> {
    interruptible(async {
        let job = jobs::get(grid, &args.job).await?;
        let mut sink = Sink::open(args.out.as_deref())?;
        if args.failed {
            write_failed(grid, &job, format, &mut sink).await?;
        } else {
            check_complete(&job)?;
            match job.spec.as_ref().map(v1::JobSpec::reduce) {
                Some(v1::Reduce::None) => write_units(grid, &job, format, &mut sink).await?,
                _ => write_answer(grid, &job, &mut sink).await?,
            }
        }
        sink.finish()
    })
    .await
}

fn check_complete(job: &v1::Job) -> Result<()> {
    let advice = match job.state() {
        v1::JobState::Complete => return Ok(()),
        v1::JobState::Incomplete => format!("`lull results {} --failed` says why", job.name),
        v1::JobState::Cancelled => "submit it again to have its answer".to_owned(),
        _ => format!("`lull watch {}` waits for it", job.name),
    };
    let message = format!("{} has no answer, it is {}: {advice}", job.name, view::job_state(job.state()));
    Err(Error::new(Exit::NoAnswer, message))
}

/// As [`Grid::explain`]; a failed precondition is an answer that is not there.
fn explain(grid: &Grid, status: &Status) -> Error {
    let error = grid.explain(status);
    if status.code() == Code::FailedPrecondition { Error { exit: Exit::NoAnswer, ..error } } else { error }
}

async fn write_answer(grid: &Grid, job: &v1::Job, sink: &mut Sink) -> Result<()> {
    let request = v1::ReadAnswerRequest { name: job.name.clone() };
    let response = grid.jobs().read_answer(request).await.map_err(|status| explain(grid, &status))?;
    let mut stream = response.into_inner();
    let mut answer = Vec::new();
    while let Some(piece) = stream.message().await.map_err(|status| explain(grid, &status))? {
        answer.extend_from_slice(&piece.chunk);
    }
    if let Some(expected) = &job.answer {
        check_digest(&format!("the answer of {}", job.name), &answer, &expected.digest)?;
    }
    sink.write(&answer)
}

fn check_digest(what: &str, bytes: &[u8], expected: &[u8]) -> Result<()> {
    if Digest::of(bytes).as_bytes() == expected {
        return Ok(());
    }
    let message = format!(
        "{what} arrived as {} bytes with another digest than {}: try again, and tell the operator",
        bytes.len(),
        hex::encode(expected)
    );
    Err(Error::new(Exit::Failure, message))
}

async fn write_units(grid: &Grid, job: &v1::Job, format: Format, sink: &mut Sink) -> Result<()> {
    let mut pages = Pages::new(&job.name, v1::UnitFilter::Unspecified);
    while let Some(units) = pages.next(grid).await? {
        for unit in units {
            let result = content(grid, &job.name, &unit).await?;
            sink.write(UnitResult::new(unit.number, &result).line(format)?.as_bytes())?;
        }
    }
    Ok(())
}

async fn write_failed(grid: &Grid, job: &v1::Job, format: Format, sink: &mut Sink) -> Result<()> {
    let mut pages = Pages::new(&job.name, v1::UnitFilter::Failed);
    let mut failed = 0_u64;
    while let Some(units) = pages.next(grid).await? {
        for unit in units {
            failed += 1;
            let message = unit.result.clone();
            let unit = FailedUnit {
                stage: view::stage(unit.stage.as_ref()),
                index: unit.index,
                number: unit.number,
                agreeing: unit.agreeing,
                attempts: unit.attempts,
                message: String::from_utf8_lossy(&message).into_owned(),
            };
            sink.write(unit.line(format)?.as_bytes())?;
        }
    }
    if failed == 0 {
        out::say(&format!("no unit of {} failed", job.name));
    }
    Ok(())
}

/// What a unit returned: with the unit when small, otherwise a blob.
async fn content(grid: &Grid, job: &str, unit: &v1::DecidedUnit) -> Result<Vec<u8>> {
    if !unit.result.is_empty() || unit.size_bytes == 0 {
        return Ok(unit.result.clone());
    }
    let request = v1::ReadBlobRequest {
        digest: unit.digest.clone(),
        job: job.to_owned(),
        unit_index: unit.index,
        ..Default::default()
    };
    let response = grid.blobs().read_blob(request).await.map_err(|status| explain(grid, &status))?;
    let mut stream = response.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await.map_err(|status| explain(grid, &status))? {
        bytes.extend_from_slice(&piece.chunk);
    }
    check_digest(&format!("the result of unit {}", unit.number), &bytes, &unit.digest)?;
    Ok(bytes)
}

/// The units of a job, page by page.
struct Pages {
    request: Option<v1::ListUnitsRequest>,
}

impl Pages {
    fn new(job: &str, filter: v1::UnitFilter) -> Self {
        let request = v1::ListUnitsRequest {
            parent: job.to_owned(),
            filter: filter.into(),
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        Self { request: Some(request) }
    }

    async fn next(&mut self, grid: &Grid) -> Result<Option<Vec<v1::DecidedUnit>>> {
        let Some(request) = self.request.take() else { return Ok(None) };
        let response =
            grid.jobs().list_units(request.clone()).await.map_err(|status| explain(grid, &status))?;
        let page = response.into_inner();
        if !page.next_page_token.is_empty() {
            self.request = Some(v1::ListUnitsRequest { page_token: page.next_page_token, ..request });
        }
        Ok(Some(page.units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_job_has_an_answer() {
        let check = |state: v1::JobState, expected: Option<&str>| {
            let job = v1::Job { name: "jobs/3".to_owned(), state: state.into(), ..Default::default() };
            match (check_complete(&job), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => {
                    assert_eq!(error.exit, Exit::NoAnswer);
                    assert!(error.message.contains(text), "{error}");
                }
                (given, expected) => panic!("{given:?}, not {expected:?}"),
            }
        };
        check(v1::JobState::Complete, None);
        check(v1::JobState::Running, Some("`lull watch jobs/3` waits for it"));
        check(v1::JobState::Incomplete, Some("--failed"));
        check(v1::JobState::Cancelled, Some("it is cancelled"));
    }

    #[test]
    fn a_changed_answer_is_not_written() {
        assert!(check_digest("it", b"abc", Digest::of(b"abc").as_bytes()).is_ok());
        assert!(check_digest("it", b"abd", Digest::of(b"abc").as_bytes()).is_err());
    }
}
