//! For submitters: jobs and their answers.

use std::pin::Pin;
use std::time::Duration;

use lull_job::Stage;
use lull_proto::v1::jobs_server::Jobs;
use lull_proto::v1::{self, UnitFilter};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Context, number, page_size, status, submission, view};
use crate::core::{JobId, JobState, SubmitterId};

/// How often a watched job is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(300);
const JOBS_PER_PAGE: i32 = 50;
const UNITS_PER_PAGE: i32 = 100;

/// Serves `lull.v1.Jobs`.
pub struct JobsService {
    context: Context,
}

impl JobsService {
    /// The service.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn view(&self, id: JobId, submitter: Option<SubmitterId>) -> Result<v1::Job, Status> {
        Ok(view::job(self.context.store.job(id, submitter).await.map_err(status::from_store)?, self.liars()))
    }

    fn liars(&self) -> lull_job::Share {
        self.context.grid.policy().liars
    }
}

type JobStream = Pin<Box<dyn Stream<Item = Result<v1::Job, Status>> + Send>>;
type AnswerStream = Pin<Box<dyn Stream<Item = Result<v1::ReadAnswerResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Jobs for JobsService {
    async fn create_job(&self, request: Request<v1::CreateJobRequest>) -> Result<Response<v1::Job>, Status> {
        let submitter = self.context.auth.submitter(&request).await?;
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let new = submission::check(&self.context, submitter, request).await?;
        if validate_only {
            return Ok(Response::new(validated(new, self.liars())));
        }
        let (id, aftermath) = self.context.store.create_job(&new).await.map_err(status::from_store)?;
        tracing::info!(job = %id, %submitter, items = new.items, "job accepted");
        self.context.grid.tell(&aftermath);
        Ok(Response::new(self.view(id, Some(submitter)).await?))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        let submitter = self.context.auth.job_reader(&request).await?;
        let id = JobId(number(&request.into_inner().name, "jobs")?);
        Ok(Response::new(self.view(id, submitter).await?))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let submitter = self.context.auth.job_reader(&request).await?;
        let request = request.into_inner();
        let limit = page_size(request.page_size, JOBS_PER_PAGE)?;
        let before = match request.page_token.as_str() {
            "" => i64::MAX,
            token => token.parse().map_err(|_| status::invalid("page_token", "is not one of this list's"))?,
        };
        let views =
            self.context.store.jobs(submitter, JobId(before), limit).await.map_err(status::from_store)?;
        let full = i64::try_from(views.len()) == Ok(limit);
        let next_page_token =
            views.last().filter(|_| full).map(|view| view.job.id.to_string()).unwrap_or_default();
        let jobs = views.into_iter().map(|view| view::job(view, self.liars())).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let submitter = self.context.auth.job_reader(&request).await?;
        let id = JobId(number(&request.into_inner().name, "jobs")?);
        self.view(id, submitter).await?;
        let aftermath = self.context.store.cancel_job(id).await.map_err(status::from_store)?;
        self.context.grid.tell(&aftermath);
        tracing::info!(job = %id, "job cancelled");
        Ok(Response::new(self.view(id, submitter).await?))
    }

    type WatchJobStream = JobStream;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<JobStream>, Status> {
        let submitter = self.context.auth.job_reader(&request).await?;
        let id = JobId(number(&request.into_inner().name, "jobs")?);
        let mut last = self.view(id, submitter).await?;
        let (store, liars) = (self.context.store.clone(), self.liars());
        let (send, receive) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(WATCH_INTERVAL);
            let mut sent = send.send(Ok(last.clone())).await;
            while sent.is_ok() && last.state() == v1::JobState::Running {
                ticks.tick().await;
                sent = match store.job(id, submitter).await {
                    Ok(view) => {
                        let job = view::job(view, liars);
                        if job == last {
                            if send.is_closed() { return } else { continue }
                        }
                        last = job;
                        send.send(Ok(last.clone())).await
                    }
                    Err(error) => {
                        // The watcher calls again; it may already have gone.
                        let _ = send.send(Err(status::from_store(error))).await;
                        return;
                    }
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn list_units(
        &self,
        request: Request<v1::ListUnitsRequest>,
    ) -> Result<Response<v1::ListUnitsResponse>, Status> {
        let submitter = self.context.auth.job_reader(&request).await?;
        let request = request.into_inner();
        let id = JobId(number(&request.parent, "jobs")?);
        let limit = page_size(request.page_size, UNITS_PER_PAGE)?;
        let after = match request.page_token.as_str() {
            "" => (-1, -1),
            token => token
                .split_once('.')
                .and_then(|(stage, index)| Some((stage.parse().ok()?, index.parse().ok()?)))
                .ok_or_else(|| status::invalid("page_token", "is not one of this list's"))?,
        };
        let view = self.context.store.job(id, submitter).await.map_err(status::from_store)?;
        let failed = request.filter() == UnitFilter::Failed;
        let rows = self.context.store.units(id, failed, after, limit).await.map_err(status::from_store)?;
        let full = i64::try_from(rows.len()) == Ok(limit);
        let last = rows.last().filter(|_| full);
        let next_page_token =
            last.map(|row| format!("{}.{}", row.stage_number, row.index)).unwrap_or_default();
        let units = rows.into_iter().map(|row| view::unit(row, &view.job)).collect();
        Ok(Response::new(v1::ListUnitsResponse { units, next_page_token }))
    }

    type ReadAnswerStream = AnswerStream;

    async fn read_answer(
        &self,
        request: Request<v1::ReadAnswerRequest>,
    ) -> Result<Response<AnswerStream>, Status> {
        let submitter = self.context.auth.job_reader(&request).await?;
        let id = JobId(number(&request.into_inner().name, "jobs")?);
        let view = self.context.store.job(id, submitter).await.map_err(status::from_store)?;
        if view.job.state != JobState::Complete {
            let message = format!("job {id} has no answer: it is {}", state_name(view.job.state));
            return Err(status::precondition("NO_ANSWER", message));
        }
        let Some(answer) = view.job.answer else {
            let message = format!("job {id} does not merge its results: list its units instead");
            return Err(status::precondition("NOT_REDUCED", message));
        };
        let finish = self.context.store.parts(id, Stage::Finish, 0..1).await.map_err(status::from_store)?;
        if let Some(content) = finish.into_iter().next().and_then(|part| part.content) {
            let only = Ok(v1::ReadAnswerResponse { chunk: content });
            return Ok(Response::new(Box::pin(tokio_stream::once(only))));
        }
        let stream =
            super::blobs::stream(&self.context, answer.digest, |chunk| v1::ReadAnswerResponse { chunk });
        Ok(Response::new(stream.await?))
    }
}

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Running => "still running; watch it",
        JobState::Complete => "complete",
        JobState::Incomplete => "incomplete; list its failed units",
        JobState::Cancelled => "cancelled",
    }
}

/// A job that was only checked: what it would be, without a name.
fn validated(new: crate::store::NewJob, liars: lull_job::Share) -> v1::Job {
    let plan = new.spec.plan(new.items);
    let expected =
        crate::core::expected_cost(&plan, new.prices, new.copies, new.service_owners, new.strangers);
    v1::Job {
        progress: Some(v1::Progress {
            units: plan.work_units() + plan.service_units().total(),
            ..v1::Progress::default()
        }),
        costs: Some(v1::Costs {
            budget: new.budget.to_string(),
            expected_fee: expected.as_ref().map(|cost| new.fee.of(*cost).to_string()).unwrap_or_default(),
            expected: expected.map(|cost| cost.to_string()).unwrap_or_default(),
            fee_percent: new.fee.to_string(),
            ..v1::Costs::default()
        }),
        confidence: (new.strangers > 0)
            .then(|| view::confidence(new.copies, liars, new.strangers, plan.work_units())),
        spec: Some(new.message),
        ..v1::Job::default()
    }
}
