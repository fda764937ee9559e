//! `lull cancel`: nothing more of a job is handed out.

use clap::Args;
use lull_proto::v1;

use crate::error::Result;
use crate::grid::{Grid, interruptible, until_answered};
use crate::out::{self, Format};
use crate::text::{amount, name};
use crate::view;

/// Cancel a job: its open leases end, its unspent budget returns
///
/// What was verified before stays paid.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lull cancel 12

JSON: the job as `lull jobs JOB` prints it.")]
pub(crate) struct CancelArgs {
    /// The job, such as 12 or jobs/12
    #[arg(value_name = "JOB", value_parser = name::job)]
    job: String,
}

/// Cancels.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn run(grid: &Grid, args: &CancelArgs, format: Format) -> Result<()> {
    let request = v1::CancelJobRequest { name: args.job.clone() };
    let job = interruptible(until_answered(grid, || {
        let (mut client, request) = (grid.jobs(), request.clone());
        async move { client.cancel_job(request).await }
    }))
    .await
    .map_err(|error| error.about(&args.job))?;
    if format == Format::Json {
        return out::json(&view::Job::from(&job));
    }
    let costs = job.costs.clone().unwrap_or_default();
    out::line(&format!(
        "{} is {}: {} spent, {} refunded",
        job.name,
        view::job_state(job.state()),
        amount::money(&costs.spent, view::currency(&job)),
        amount::money(&costs.refunded, view::currency(&job))
    ))
}
