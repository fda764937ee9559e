//! Sends the files of a job that the coordinator has not got from this submitter yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use lull_job::Digest;
use lull_proto::v1;
use lull_proto::v1::blobs_client::BlobsClient;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::job_input::JobBlob;
use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, Wire, until_answered};
use crate::out;
use crate::text::human;

/// Digests in one question, as the wire allows.
const DIGESTS_PER_CALL: usize = 1_000;
/// One message of an upload: well under what a server takes by default.
const CHUNK_BYTES: usize = 256 * 1024;
/// Messages read ahead of the network.
const CHUNKS_AHEAD: usize = 4;
/// Files on their way at once: many small files wait for the disk, not for the wire.
const UPLOADS_AT_ONCE: usize = 8;

/// Sends what is missing, each file once.
///
/// # Errors
/// When a file cannot be read any more, or the coordinator refuses it.
pub(crate) async fn upload(grid: &Grid, blobs: &BTreeMap<PathBuf, JobBlob>) -> Result<()> {
    let by_digest: BTreeMap<Digest, &JobBlob> = blobs.values().map(|blob| (blob.digest, blob)).collect();
    let digests: Vec<Digest> = by_digest.keys().copied().collect();
    let mut missing = BTreeSet::new();
    for digests in digests.chunks(DIGESTS_PER_CALL) {
        missing.extend(find_missing(grid, digests).await?);
    }
    let missing: Vec<&JobBlob> =
        by_digest.iter().filter(|(digest, _)| missing.contains(digest)).map(|(_, blob)| *blob).collect();
    let meter = Meter::new(&missing);
    let mut uploads: JoinSet<Result<()>> = JoinSet::new();
    for blob in missing {
        if uploads.len() >= UPLOADS_AT_ONCE {
            join_one(&mut uploads).await?;
        }
        meter.begins(blob);
        let upload = upload_one(grid.blobs(), blob.clone(), meter.bar.clone());
        let path = blob.path.clone();
        let url = grid.url().to_owned();
        uploads.spawn(async move {
            upload.await.map_err(|failure| match failure {
                Failure::File(error) => error,
                Failure::Wire(status) => {
                    let error = Error::from_status(&status, &url);
                    Error::new(error.exit, format!("uploading {}: {error}", path.display()))
                }
            })
        });
    }
    while !uploads.is_empty() {
        join_one(&mut uploads).await?;
    }
    meter.bar.finish_and_clear();
    Ok(())
}

async fn find_missing(grid: &Grid, digests: &[Digest]) -> Result<Vec<Digest>> {
    let request = v1::FindMissingBlobsRequest {
        digests: digests.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
    };
    let response = until_answered(grid, || {
        let (mut client, request) = (grid.blobs(), request.clone());
        async move { client.find_missing_blobs(request).await }
    })
    .await?;
    response
        .missing
        .iter()
        .map(|bytes| Digest::try_from(bytes.as_slice()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::new(Exit::Failure, format!("the coordinator asks for {error}")))
}

async fn join_one(uploads: &mut JoinSet<Result<()>>) -> Result<()> {
    match uploads.join_next().await {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(Error::new(Exit::Failure, format!("an upload broke off: {error}"))),
    }
}

enum Failure {
    File(Error),
    Wire(Status),
}

async fn upload_one(
    mut client: BlobsClient<Wire>,
    blob: JobBlob,
    bar: ProgressBar,
) -> std::result::Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let reader = read_ahead(blob, sender, bar);
    let answer = client.write_blob(ReceiverStream::new(receiver)).await;
    // The file's own trouble explains a refused upload, so it goes first.
    match reader.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Failure::File(error)),
        Err(error) => return Err(Failure::File(Error::new(Exit::Failure, error.to_string()))),
    }
    answer.map(|_| ()).map_err(Failure::Wire)
}

/// Reads a file into messages on a thread of its own.
fn read_ahead(
    blob: JobBlob,
    sender: mpsc::Sender<v1::WriteBlobRequest>,
    bar: ProgressBar,
) -> JoinHandle<Result<()>> {
    use std::io::Read as _;
    use v1::write_blob_request::Message;
    tokio::task::spawn_blocking(move || {
        let unreadable = |error: std::io::Error| Error::usage(format!("{}: {error}", blob.path.display()));
        let header = v1::BlobHeader {
            digest: blob.digest.as_bytes().to_vec(),
            size_bytes: blob.size_bytes,
            lease_token: 0,
        };
        let send = |message| sender.blocking_send(v1::WriteBlobRequest { message: Some(message) });
        let mut file = std::fs::File::open(&blob.path).map_err(unreadable)?;
        if send(Message::Header(header)).is_err() {
            return Ok(());
        }
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let length =
                file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk).map_err(unreadable)?;
            // A closed channel means that the call is over: its status says why.
            if length == 0 || send(Message::Chunk(chunk)).is_err() {
                return Ok(());
            }
            bar.inc(length as u64);
        }
    })
}

/// Shows how far the uploads are: a bar to a person, a line for each file otherwise.
struct Meter {
    bar: ProgressBar,
    watched: bool,
}

impl Meter {
    fn new(missing: &[&JobBlob]) -> Self {
        let watched = out::is_watched();
        let size_bytes = missing.iter().map(|blob| blob.size_bytes).sum();
        let bar =
            if watched && !missing.is_empty() { ProgressBar::new(size_bytes) } else { ProgressBar::hidden() };
        if let Ok(style) =
            ProgressStyle::with_template("uploading {wide_bar} {binary_bytes} of {binary_total_bytes}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, watched }
    }

    fn begins(&self, blob: &JobBlob) {
        if !self.watched {
            out::say(&format!("uploading {} ({})", blob.path.display(), human::bytes(blob.size_bytes)));
        }
    }
}
