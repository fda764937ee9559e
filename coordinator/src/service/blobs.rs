//! Bytes in and out, for those whom they concern.

use std::pin::Pin;

use lull_job::limits::{INPUT_BYTES_MAX, RESULT_BYTES_MAX};
use lull_job::{Digest, Spec, Split, Stage};
use lull_proto::v1::blobs_server::Blobs;
use lull_proto::v1::{self, write_blob_request::Message};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{Context, number, status};
use crate::core::{DeviceId, JobId, Lease, SubmitterId, state_bytes_max};
use crate::store::{JobView, Subject, Uploader};

/// Digests in one question.
const DIGESTS_PER_CALL_MAX: usize = 1_000;

/// Serves `lull.v1.Blobs`.
pub struct BlobsService {
    context: Context,
}

enum Caller {
    Operator,
    Submitter(SubmitterId),
    Device(DeviceId),
}

impl BlobsService {
    /// The service.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let header =
            request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
        if header.starts_with("Lull-Device ") {
            return Ok(Caller::Device(self.context.auth.device(request).await?.id));
        }
        match self.context.auth.subject(request).await? {
            Subject::Submitter(id) => Ok(Caller::Submitter(id)),
            Subject::Operator(_) => Ok(Caller::Operator),
            Subject::Owner(_) => {
                Err(status::denied("blobs are for submitters and devices: use a submitter's token"))
            }
        }
    }

    async fn lease(&self, token: u64, device: DeviceId) -> Result<(Lease, JobView), Status> {
        let token = i64::try_from(token).unwrap_or(0);
        self.context.store.lease(token, device).await.map_err(status::from_store)
    }

    /// Whether a blob is the accepted result of the unit that the caller names, of a job that it may see.
    async fn is_result(
        &self,
        request: &v1::ReadBlobRequest,
        submitter: Option<SubmitterId>,
        digest: Digest,
    ) -> Result<bool, Status> {
        let store = &self.context.store;
        let job = JobId(number(&request.job, "jobs")?);
        store.job(job, submitter).await.map_err(status::from_store)?;
        let unit = request.unit_index..request.unit_index.saturating_add(1);
        let parts = store.parts(job, Stage::Work, unit).await.map_err(status::from_store)?;
        Ok(parts.iter().any(|part| part.digest == digest))
    }

    /// Whether a lease offers a state to go on from that lies in this blob.
    async fn is_offered(&self, lease: &Lease, view: &JobView, digest: Digest) -> Result<bool, Status> {
        if !view.job.checkpointed {
            return Ok(false);
        }
        self.context.store.offers_blob(lease.token, digest).await.map_err(status::from_store)
    }

    /// Whether a lease names a blob: the job's module and inputs, the unit's files, or results that it merges.
    async fn is_named(&self, lease: &Lease, view: &JobView, digest: Digest) -> Result<bool, Status> {
        let spec =
            Spec::check(&view.message).map_err(|error| status::invalid(error.field, &error.problem))?;
        let is_it = |file: &lull_job::InputFile| file.digest == digest;
        let in_split = match &spec.split {
            Split::Lines(file) => is_it(file),
            Split::Files(files) => files.iter().any(is_it),
            Split::Range { .. } | Split::Grid(_) | Split::Module => false,
        };
        if is_it(&spec.module) || spec.inputs.iter().any(is_it) || in_split {
            return Ok(true);
        }
        let plan = view.job.plan;
        let mut ranges = Vec::new();
        match lease.stage {
            Stage::Work if plan.has_split => ranges.push((Stage::Split, 0..1)),
            Stage::Split | Stage::Work => {}
            stage @ (Stage::Merge(_) | Stage::Finish) => {
                let source = plan.source_stage(stage).unwrap_or(Stage::Work);
                ranges.extend(lease.open.iter().map(|index| (source, plan.parts(stage, *index))));
            }
        }
        for (stage, range) in ranges {
            let parts =
                self.context.store.parts(lease.job, stage, range).await.map_err(status::from_store)?;
            if parts.iter().any(|part| part.digest == digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

type BlobStream = Pin<Box<dyn Stream<Item = Result<v1::ReadBlobResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Blobs for BlobsService {
    async fn write_blob(
        &self,
        request: Request<Streaming<v1::WriteBlobRequest>>,
    ) -> Result<Response<v1::WriteBlobResponse>, Status> {
        let caller = self.caller(&request).await?;
        let mut messages = request.into_inner();
        let Some(Message::Header(header)) = messages.message().await?.and_then(|message| message.message)
        else {
            return Err(status::invalid("header", "is missing: send it before the content"));
        };
        let digest = digest(&header.digest)?;
        let (uploader, size_max) = match caller {
            Caller::Operator => {
                return Err(status::denied("inputs are a submitter's: use a submitter's token"));
            }
            Caller::Submitter(id) => (Uploader::Submitter(id), INPUT_BYTES_MAX),
            Caller::Device(device) => {
                let (lease, view) = self.lease(header.lease_token, device).await?;
                // A result, or the state of a unit that is handed back.
                let result_max = view.job.result_bytes_max.min(RESULT_BYTES_MAX);
                let size_max = result_max.max(state_bytes_max(view.job.memory_bytes_max));
                (Uploader::Device(device, lease.job), size_max)
            }
        };
        if header.size_bytes > size_max {
            let problem = format!("{} is more than the {size_max} bytes allowed", header.size_bytes);
            return Err(status::invalid("header.size_bytes", &problem));
        }
        let blobs = &self.context.blobs;
        let mut writer = blobs.writer(digest, header.size_bytes).await.map_err(status::from_blobs)?;
        while let Some(message) = messages.message().await? {
            let Some(Message::Chunk(chunk)) = message.message else {
                return Err(status::invalid("chunk", "is missing: after the header, send content"));
            };
            writer.write(chunk.into()).await.map_err(status::from_blobs)?;
        }
        writer.finish().await.map_err(status::from_blobs)?;
        self.context.store.add_blob(digest, header.size_bytes, uploader).await.map_err(status::from_store)?;
        Ok(Response::new(v1::WriteBlobResponse {}))
    }

    type ReadBlobStream = BlobStream;

    async fn read_blob(&self, request: Request<v1::ReadBlobRequest>) -> Result<Response<BlobStream>, Status> {
        let caller = self.caller(&request).await?;
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let allowed = match caller {
            Caller::Submitter(id) if request.job.is_empty() => {
                let missing =
                    self.context.store.missing_blobs(id, &[digest]).await.map_err(status::from_store)?;
                missing.is_empty()
            }
            Caller::Submitter(id) => self.is_result(&request, Some(id), digest).await?,
            Caller::Operator => self.is_result(&request, None, digest).await?,
            Caller::Device(device) => {
                let (lease, view) = self.lease(request.lease_token, device).await?;
                self.is_named(&lease, &view, digest).await? || self.is_offered(&lease, &view, digest).await?
            }
        };
        if !allowed {
            return Err(status::not_found("blob"));
        }
        Ok(Response::new(stream(&self.context, digest, |chunk| v1::ReadBlobResponse { chunk }).await?))
    }

    async fn find_missing_blobs(
        &self,
        request: Request<v1::FindMissingBlobsRequest>,
    ) -> Result<Response<v1::FindMissingBlobsResponse>, Status> {
        let submitter = self.context.auth.submitter(&request).await?;
        let digests = request.into_inner().digests;
        if digests.len() > DIGESTS_PER_CALL_MAX {
            let problem =
                format!("{} digests, more than {DIGESTS_PER_CALL_MAX}: ask in several calls", digests.len());
            return Err(status::invalid("digests", &problem));
        }
        let digests: Vec<Digest> = digests.iter().map(|bytes| digest(bytes)).collect::<Result<_, _>>()?;
        let missing =
            self.context.store.missing_blobs(submitter, &digests).await.map_err(status::from_store)?;
        let missing = missing.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        Ok(Response::new(v1::FindMissingBlobsResponse { missing }))
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    Digest::try_from(bytes).map_err(|error| status::invalid("digest", &error.to_string()))
}

/// A blob as a stream of messages.
pub(super) async fn stream<M: Send + 'static>(
    context: &Context,
    digest: Digest,
    message: impl Fn(Vec<u8>) -> M + Send + 'static,
) -> Result<Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>, Status> {
    let content = context.blobs.stream(digest).await.map_err(status::from_blobs)?;
    Ok(Box::pin(content.map(move |piece| match piece {
        Ok(piece) => Ok(message(piece.into())),
        Err(error) => Err(status::from_blobs(error.into())),
    })))
}
