//! A coordinator that says what a test tells it to, and the binary that calls it.

use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use lull_proto::v1;
use lull_proto::v1::blobs_server::{Blobs, BlobsServer};
use lull_proto::v1::jobs_server::{Jobs, JobsServer};
use lull_proto::v1::ledger_server::{Ledger, LedgerServer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// What the fake says, and what it was told.
#[derive(Default)]
pub(crate) struct Script {
    /// The job of every call.
    pub(crate) job: v1::Job,
    /// Refuses every call of a job with this.
    pub(crate) refusal: Option<Status>,
    /// Jobs by page.
    pub(crate) pages: Vec<Vec<v1::Job>>,
    /// Units by page.
    pub(crate) unit_pages: Vec<Vec<v1::DecidedUnit>>,
    /// What each watch streams, in turn; an `Err` breaks the stream off.
    pub(crate) watches: VecDeque<Vec<Result<v1::Job, Status>>>,
    /// The answer, in pieces.
    pub(crate) answer: Vec<Vec<u8>>,
    /// Blobs by digest: there before, or uploaded.
    pub(crate) blobs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Digests uploaded, in order.
    pub(crate) uploads: Vec<Vec<u8>>,
    /// Calls of CreateJob that break off before one is answered.
    pub(crate) creates_lost: u32,
    /// Requests of CreateJob.
    pub(crate) creates: Vec<v1::CreateJobRequest>,
    /// The books.
    pub(crate) books: v1::Books,
    /// The `authorization` of the last call.
    pub(crate) authorization: String,
}

/// A fake coordinator; it ends with the value.
pub(crate) struct FakeGrid {
    script: Arc<Mutex<Script>>,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl FakeGrid {
    /// Serves a script on a free port.
    pub(crate) fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let script = Arc::new(Mutex::new(script));
        let fake = Fake(Arc::clone(&script));
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(JobsServer::new(fake.clone()))
                .add_service(BlobsServer::new(fake.clone()))
                .add_service(LedgerServer::new(fake))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { script, url, _runtime: runtime }
    }

    /// What was said and heard so far.
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no panic under the lock")
    }

    /// `lull` with these words, for this coordinator.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lull"));
        command
            .args(args)
            .env_clear()
            .env("LULL_COORDINATOR", &self.url)
            .env("LULL_TOKEN", "secret")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn lull(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("lull runs")
    }
}

#[derive(Clone)]
struct Fake(Arc<Mutex<Script>>);

impl Fake {
    fn hear<T>(&self, request: &Request<T>) -> Result<MutexGuard<'_, Script>, Status> {
        let mut script = self.0.lock().expect("no panic under the lock");
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        script.authorization = header.unwrap_or("").to_owned();
        script.refusal.clone().map_or(Ok(script), Err)
    }
}

fn page<T: Clone>(pages: &[Vec<T>], token: &str) -> (Vec<T>, String) {
    let at: usize = token.parse().unwrap_or(0);
    let next = if at + 1 < pages.len() { (at + 1).to_string() } else { String::new() };
    (pages.get(at).cloned().unwrap_or_default(), next)
}

type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

#[tonic::async_trait]
impl Jobs for Fake {
    async fn create_job(&self, request: Request<v1::CreateJobRequest>) -> Result<Response<v1::Job>, Status> {
        let mut script = self.hear(&request)?;
        script.creates.push(request.into_inner());
        if script.creates_lost > 0 {
            script.creates_lost -= 1;
            return Err(Status::unavailable("restarting"));
        }
        Ok(Response::new(script.job.clone()))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        Ok(Response::new(self.hear(&request)?.job.clone()))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let script = self.hear(&request)?;
        let (jobs, next_page_token) = page(&script.pages, &request.get_ref().page_token);
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        Ok(Response::new(self.hear(&request)?.job.clone()))
    }

    type WatchJobStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::Job, Status>> + Send>>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        use tokio_stream::StreamExt as _;
        let jobs = self.hear(&request)?.watches.pop_front();
        match jobs {
            // A job of which nothing more is said.
            Some(jobs) if jobs.is_empty() => Ok(Response::new(Box::pin(
                tokio_stream::once(Ok(self.hear(&request)?.job.clone())).chain(tokio_stream::pending()),
            ))),
            Some(jobs) => Ok(Response::new(Box::pin(tokio_stream::iter(jobs)))),
            None => Err(Status::internal("nothing to say")),
        }
    }

    async fn list_units(
        &self,
        request: Request<v1::ListUnitsRequest>,
    ) -> Result<Response<v1::ListUnitsResponse>, Status> {
        let script = self.hear(&request)?;
        let (units, next_page_token) = page(&script.unit_pages, &request.get_ref().page_token);
        Ok(Response::new(v1::ListUnitsResponse { units, next_page_token }))
    }

    type ReadAnswerStream = Stream<v1::ReadAnswerResponse>;

    async fn read_answer(
        &self,
        request: Request<v1::ReadAnswerRequest>,
    ) -> Result<Response<Self::ReadAnswerStream>, Status> {
        let pieces = self.hear(&request)?.answer.clone();
        let pieces: Vec<_> = pieces.into_iter().map(|chunk| Ok(v1::ReadAnswerResponse { chunk })).collect();
        Ok(Response::new(tokio_stream::iter(pieces)))
    }
}

#[tonic::async_trait]
impl Blobs for Fake {
    async fn write_blob(
        &self,
        request: Request<Streaming<v1::WriteBlobRequest>>,
    ) -> Result<Response<v1::WriteBlobResponse>, Status> {
        use v1::write_blob_request::Message;
        drop(self.hear(&request)?);
        let mut stream = request.into_inner();
        let (mut digest, mut content) = (Vec::new(), Vec::new());
        while let Some(message) = stream.message().await? {
            match message.message {
                Some(Message::Header(header)) => digest = header.digest,
                Some(Message::Chunk(chunk)) => content.extend(chunk),
                None => return Err(Status::invalid_argument("nothing in it")),
            }
        }
        let mut script = self.0.lock().expect("no panic under the lock");
        script.uploads.push(digest.clone());
        script.blobs.insert(digest, content);
        Ok(Response::new(v1::WriteBlobResponse {}))
    }

    type ReadBlobStream = Stream<v1::ReadBlobResponse>;

    async fn read_blob(
        &self,
        request: Request<v1::ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        let script = self.hear(&request)?;
        let content =
            script.blobs.get(&request.get_ref().digest).ok_or_else(|| Status::not_found("no blob"))?;
        let pieces: Vec<_> =
            content.chunks(1_000).map(|chunk| Ok(v1::ReadBlobResponse { chunk: chunk.to_vec() })).collect();
        Ok(Response::new(tokio_stream::iter(pieces)))
    }

    async fn find_missing_blobs(
        &self,
        request: Request<v1::FindMissingBlobsRequest>,
    ) -> Result<Response<v1::FindMissingBlobsResponse>, Status> {
        let script = self.hear(&request)?;
        let digests = &request.get_ref().digests;
        let missing = digests.iter().filter(|digest| !script.blobs.contains_key(*digest)).cloned().collect();
        Ok(Response::new(v1::FindMissingBlobsResponse { missing }))
    }
}

#[tonic::async_trait]
impl Ledger for Fake {
    async fn create_deposit(
        &self,
        request: Request<v1::CreateDepositRequest>,
    ) -> Result<Response<v1::Deposit>, Status> {
        drop(self.hear(&request)?);
        let amount = request.into_inner().amount;
        Ok(Response::new(v1::Deposit { name: "deposits/1".to_owned(), balance: amount.clone(), amount }))
    }

    async fn get_balance(
        &self,
        request: Request<v1::GetBalanceRequest>,
    ) -> Result<Response<v1::Balance>, Status> {
        drop(self.hear(&request)?);
        Ok(Response::new(v1::Balance::default()))
    }

    async fn get_earnings(
        &self,
        request: Request<v1::GetEarningsRequest>,
    ) -> Result<Response<v1::Earnings>, Status> {
        drop(self.hear(&request)?);
        Ok(Response::new(v1::Earnings::default()))
    }

    async fn check_books(
        &self,
        request: Request<v1::CheckBooksRequest>,
    ) -> Result<Response<v1::Books>, Status> {
        Ok(Response::new(self.hear(&request)?.books.clone()))
    }
}

/// The smallest module with what a runner asks for; its functions only trap.
pub(crate) fn module() -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    // () -> i32, (i32) -> i32, (i32, i32, i32, i32) -> (), (i32, i32) -> i32
    let types = b"\x04\x60\0\x01\x7f\x60\x01\x7f\x01\x7f\x60\x04\x7f\x7f\x7f\x7f\0\x60\x02\x7f\x7f\x01\x7f";
    let functions: [(&str, u8); 8] = [
        ("lull_abi_version", 0),
        ("lull_alloc", 1),
        ("lull_input", 2),
        ("lull_prepare", 0),
        ("lull_begin", 3),
        ("lull_step", 0),
        ("lull_result_ptr", 0),
        ("lull_result_len", 0),
    ];
    let mut section = |id: u8, content: &[u8]| {
        assert!(content.len() < 0x4000);
        let length = content.len() as u16;
        wasm.extend([id, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        wasm.extend_from_slice(content);
    };
    section(1, types);
    section(3, &[&[8_u8][..], &functions.map(|(_, kind)| kind)].concat());
    section(5, b"\x01\0\x01");
    let mut exports = vec![9, 6];
    exports.extend_from_slice(b"memory\x02\0");
    for (index, (name, _)) in functions.iter().enumerate() {
        exports.push(name.len() as u8);
        exports.extend_from_slice(name.as_bytes());
        exports.extend([0, index as u8]);
    }
    section(7, &exports);
    section(10, &[&[8_u8][..], &[3_u8, 0, 0, 0x0b].repeat(8)].concat());
    wasm
}
