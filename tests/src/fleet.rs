//! Devices that speak the wire themselves: for load, and for what no honest agent does.

use std::time::Duration;

use anyhow::{Context, Result};
use ed25519_dalek::{Signer, SigningKey};
use lull_job::Digest;
use lull_proto::v1::admin_client::AdminClient;
use lull_proto::v1::blobs_client::BlobsClient;
use lull_proto::v1::jobs_client::JobsClient;
use lull_proto::v1::ledger_client::LedgerClient;
use lull_proto::v1::work_client::WorkClient;
use lull_proto::v1::{self, write_blob_request::Message};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Owners, devices and a submitter of a grid.
pub struct Fleet {
    url: String,
    channel: Channel,
    operator: MetadataValue<Ascii>,
}

/// A device with its key.
#[derive(Clone)]
pub struct Device {
    /// The services for agents, on a connection of its own.
    pub work: WorkClient<Channel>,
    /// Blobs, on the same connection.
    pub blobs: BlobsClient<Channel>,
    /// Its number.
    pub id: u64,
    /// The grid that it is enrolled in.
    pub grid_id: String,
    key: SigningKey,
    assertion: MetadataValue<Ascii>,
}

/// A submitter with its token.
#[derive(Clone)]
pub struct Submitter {
    /// Jobs.
    pub jobs: JobsClient<Channel>,
    blobs: BlobsClient<Channel>,
    token: MetadataValue<Ascii>,
}

fn with<T>(message: T, credentials: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", credentials.clone());
    request
}

async fn connect(url: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?)
}

impl Fleet {
    /// A fleet for the grid at this address.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn new(url: &str, operator_token: &str) -> Result<Self> {
        let operator = format!("Bearer {operator_token}").parse()?;
        Ok(Self { url: url.to_owned(), channel: connect(url).await?, operator })
    }

    /// A device of an owner, enrolled under a key of its own.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn device(&self, owner: &str) -> Result<Device> {
        let mut admin = AdminClient::new(self.channel.clone());
        admin
            .create_owner(with(v1::CreateOwnerRequest { owner_id: owner.to_owned() }, &self.operator))
            .await?;
        let token = self.enrolment_token(owner, 1).await?;
        self.enrol(&token, &SigningKey::from_bytes(&rand::random())).await
    }

    /// Makes a device a referee, or an ordinary device again.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn set_referee(&self, device: &Device, referee: bool) -> Result<v1::Device, Status> {
        self.set_referee_of(v1::SetRefereeRequest { name: format!("devices/{}", device.id), referee }).await
    }

    /// The same with a request as it is.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn set_referee_of(&self, request: v1::SetRefereeRequest) -> Result<v1::Device, Status> {
        let mut admin = AdminClient::new(self.channel.clone());
        Ok(admin.set_referee(with(request, &self.operator)).await?.into_inner())
    }

    /// A token with which so many devices of an owner enrol.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn enrolment_token(&self, owner: &str, uses: u32) -> Result<String> {
        let mut admin = AdminClient::new(self.channel.clone());
        let request =
            v1::CreateEnrolmentTokenRequest { parent: format!("owners/{owner}"), uses, ttl_secs: 600 };
        Ok(admin.create_enrolment_token(with(request, &self.operator)).await?.into_inner().token)
    }

    /// Enrols a key with a token.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn enrol(&self, token: &str, key: &SigningKey) -> Result<Device> {
        let proof = key.sign(format!("lull.v1 enrolment\n{token}").as_bytes());
        self.enrol_with_proof(token, key, &proof.to_bytes()).await
    }

    /// Enrols a key with a token and whatever proof.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn enrol_with_proof(&self, token: &str, key: &SigningKey, proof: &[u8]) -> Result<Device> {
        let channel = connect(&self.url).await?;
        let mut work = WorkClient::new(channel.clone());
        let request = v1::EnrolRequest {
            enrolment_token: token.to_owned(),
            public_key: key.verifying_key().to_bytes().to_vec(),
            proof: proof.to_vec(),
            display_name: "fleet".to_owned(),
            agent_version: String::new(),
        };
        let enrolled = work.enrol(request).await?.into_inner();
        let assertion = assertion(key, enrolled.device_id, &enrolled.grid_id).parse()?;
        let (id, grid_id) = (enrolled.device_id, enrolled.grid_id);
        Ok(Device { work, blobs: BlobsClient::new(channel), id, grid_id, key: key.clone(), assertion })
    }

    /// A submitter with a balance.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn submitter(&self, name: &str, balance: &str) -> Result<Submitter> {
        let mut admin = AdminClient::new(self.channel.clone());
        let request = v1::CreateSubmitterRequest { submitter_id: name.to_owned() };
        admin.create_submitter(with(request, &self.operator)).await?;
        let deposit = v1::CreateDepositRequest {
            parent: format!("submitters/{name}"),
            amount: balance.to_owned(),
            request_id: request_id(),
        };
        LedgerClient::new(self.channel.clone()).create_deposit(with(deposit, &self.operator)).await?;
        let request = v1::CreateApiTokenRequest {
            role: v1::Role::Submitter.into(),
            subject: format!("submitters/{name}"),
        };
        let token = admin.create_api_token(with(request, &self.operator)).await?.into_inner().token;
        let (jobs, blobs) = (JobsClient::new(self.channel.clone()), BlobsClient::new(self.channel.clone()));
        Ok(Submitter { jobs, blobs, token: format!("Bearer {token}").parse()? })
    }

    /// Recomputes the books.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn books(&self) -> Result<v1::Books> {
        let request = with(v1::CheckBooksRequest {}, &self.operator);
        Ok(LedgerClient::new(self.channel.clone()).check_books(request).await?.into_inner())
    }
}

/// A fresh request id.
#[must_use]
pub fn request_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// An assertion, as the `authorization` header carries it.
#[must_use]
pub fn assertion(key: &SigningKey, device: u64, grid: &str) -> String {
    #[allow(clippy::disallowed_methods, reason = "assertions go by the wall clock")]
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expiry = now + 290;
    let signature = key.sign(format!("lull.v1 device assertion\n{device}\n{expiry}\n{grid}").as_bytes());
    format!("Lull-Device {device}.{expiry}.{}", hex::encode(signature.to_bytes()))
}

impl Device {
    /// The same connection under other credentials.
    ///
    /// # Errors
    /// When they are no header.
    pub fn with_credentials(&self, credentials: &str) -> Result<Self> {
        Ok(Self { assertion: credentials.parse()?, ..self.clone() })
    }

    /// The same device at another coordinator of the grid, connected when it is needed.
    ///
    /// # Errors
    /// When the address is none.
    pub fn at(&self, url: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect_lazy();
        let (work, blobs) = (WorkClient::new(channel.clone()), BlobsClient::new(channel));
        Ok(Self { work, blobs, ..self.clone() })
    }

    /// What it shows to the coordinator.
    #[must_use]
    pub fn credentials(&self) -> &str {
        self.assertion.to_str().unwrap_or_default()
    }

    /// Reports units of one lease.
    ///
    /// # Errors
    /// When the coordinator refuses the call.
    pub async fn report(&mut self, report: v1::LeaseReport) -> Result<v1::SyncResponse, Status> {
        self.sync(v1::SyncRequest { reports: vec![report], ..Default::default() }).await
    }

    /// One call.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn sync(&mut self, request: v1::SyncRequest) -> Result<v1::SyncResponse, Status> {
        let request = with(request, &self.assertion);
        Ok(self.work.sync(request).await?.into_inner())
    }

    /// What it has earned.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn earnings(&mut self) -> Result<v1::DeviceEarnings, Status> {
        let request = with(v1::GetDeviceEarningsRequest {}, &self.assertion);
        Ok(self.work.get_device_earnings(request).await?.into_inner())
    }

    /// Asks for one lease, and waits for it.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn ask(&mut self, max_units: u32, wait: Duration) -> Result<Vec<v1::Lease>, Status> {
        Ok(self.sync(asking(max_units, wait)).await?.leases)
    }

    /// Uploads a result.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn upload(&mut self, content: &[u8], digest: Digest, lease_token: u64) -> Result<(), Status> {
        let messages = blob_messages(content, digest, lease_token);
        let mut request = Request::new(tokio_stream_iter(messages));
        request.metadata_mut().insert("authorization", self.assertion.clone());
        self.blobs.write_blob(request).await.map(drop)
    }

    /// Reads a blob under a lease.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn read(&mut self, digest: Vec<u8>, lease_token: u64) -> Result<Vec<u8>, Status> {
        let request =
            with(v1::ReadBlobRequest { digest, lease_token, ..Default::default() }, &self.assertion);
        let mut stream = self.blobs.read_blob(request).await?.into_inner();
        let mut content = Vec::new();
        while let Some(piece) = stream.message().await? {
            content.extend(piece.chunk);
        }
        Ok(content)
    }
}

impl Device {
    /// A checkpoint of a unit of a lease, signed: so many steps done, this is the state.
    #[must_use]
    pub fn checkpoint(&self, lease: &v1::Lease, index: u64, steps: u64, state: &[u8]) -> v1::Checkpoint {
        let (digest, job) = (Digest::of(state), lease.job.as_ref().map_or(0, |job| job.job_id));
        let stage = lull_job::stage_from_proto(lease.stage.as_ref()).map_or(0, lull_job::Stage::code);
        // These tests have no guest: the state stands for itself.
        let signed = format!(
            "lull.v1 checkpoint\n{}\n{job}\n{stage}\n{index}\n{steps}\n{digest}\n{digest}",
            self.grid_id
        );
        v1::Checkpoint {
            index,
            steps,
            state_digest: digest.as_bytes().to_vec(),
            blob_digest: digest.as_bytes().to_vec(),
            size_bytes: state.len() as u64,
            signature: self.key.sign(signed.as_bytes()).to_bytes().to_vec(),
            maker_device_id: 0,
        }
    }

    /// Hands units of a lease back, with checkpoints.
    ///
    /// # Errors
    /// When the coordinator refuses the call.
    pub async fn hand_back(
        &mut self,
        lease: &v1::Lease,
        checkpoints: Vec<v1::Checkpoint>,
    ) -> Result<(), Status> {
        let hand_back =
            v1::HandBack { lease_token: lease.token, indices: lease.indices.clone(), checkpoints };
        self.sync(v1::SyncRequest { hand_backs: vec![hand_back], ..Default::default() }).await.map(drop)
    }
}

/// A call that asks for one lease.
#[must_use]
pub fn asking(max_units: u32, wait: Duration) -> v1::SyncRequest {
    v1::SyncRequest {
        presence: v1::Presence::Dedicated.into(),
        free_slots: 1,
        max_units,
        wait: prost_types::Duration::try_from(wait).ok(),
        ..v1::SyncRequest::default()
    }
}

/// A report of a lease whose every unit returned what `result` says, however it was run.
#[must_use]
pub fn report(lease: &v1::Lease, result: impl Fn(u64) -> Vec<u8>) -> v1::LeaseReport {
    report_both(lease, &result, &result)
}

/// A report of a lease whose every unit returned what `normal` says at full speed, and what `strict` says strictly.
#[must_use]
pub fn report_both(
    lease: &v1::Lease,
    normal: impl Fn(u64) -> Vec<u8>,
    strict: impl Fn(u64) -> Vec<u8>,
) -> v1::LeaseReport {
    let attempts = lease.indices.iter().map(|index| match lease.run_mode() {
        v1::RunMode::Unspecified | v1::RunMode::Normal => attempt(*index, normal(*index)),
        v1::RunMode::Strict => v1::AttemptReport { fuel: Some(FUEL), ..attempt(*index, strict(*index)) },
        v1::RunMode::Referee => {
            let digest = Digest::of(&strict(*index)).as_bytes().to_vec();
            let strict = Some(v1::StrictRun { outcome: v1::Outcome::Result.into(), digest });
            v1::AttemptReport { fuel: Some(FUEL), strict, ..attempt(*index, normal(*index)) }
        }
    });
    v1::LeaseReport {
        lease_token: lease.token,
        job_id: lease.job.as_ref().map_or(0, |job| job.job_id),
        stage: lease.stage,
        attempts: attempts.collect(),
    }
}

/// What a strict run of anything burns here.
const FUEL: u64 = 1_000;

/// A report of one unit, run at full speed.
#[must_use]
pub fn attempt(index: u64, result: Vec<u8>) -> v1::AttemptReport {
    v1::AttemptReport {
        index,
        outcome: v1::Outcome::Result.into(),
        digest: Digest::of(&result).as_bytes().to_vec(),
        size_bytes: result.len() as u64,
        result,
        cpu_micros: 1,
        ..v1::AttemptReport::default()
    }
}

fn blob_messages(content: &[u8], digest: Digest, lease_token: u64) -> Vec<v1::WriteBlobRequest> {
    let header =
        v1::BlobHeader { digest: digest.as_bytes().to_vec(), size_bytes: content.len() as u64, lease_token };
    let mut messages = vec![v1::WriteBlobRequest { message: Some(Message::Header(header)) }];
    let chunks = content.chunks(256 * 1024).map(|chunk| Message::Chunk(chunk.to_vec()));
    messages.extend(chunks.map(|chunk| v1::WriteBlobRequest { message: Some(chunk) }));
    messages
}

fn tokio_stream_iter<T: Send + 'static>(
    items: Vec<T>,
) -> impl tonic::codegen::tokio_stream::Stream<Item = T> + Send {
    tonic::codegen::tokio_stream::iter(items)
}

/// Calls of all devices after which a job must be done.
const ROUNDS_MAX: u32 = 1_000;

/// Plays devices that all return the same for a unit, until the job ends.
///
/// # Errors
/// When it does not end, or ends without its results.
pub async fn work_off(submitter: &mut Submitter, job: &str, devices: &mut [Device]) -> Result<v1::Job> {
    for _ in 0..ROUNDS_MAX {
        for device in &mut *devices {
            for lease in device.ask(100, Duration::ZERO).await? {
                device.report(report(&lease, |index| index.to_le_bytes().to_vec())).await?;
            }
        }
        let job = submitter.job(job).await?;
        if job.state() != v1::JobState::Running {
            anyhow::ensure!(job.state() == v1::JobState::Complete, "the job ended as {job:?}");
            return Ok(job);
        }
    }
    anyhow::bail!("{job} does not end")
}

impl Submitter {
    /// What it shows to the coordinator.
    #[must_use]
    pub fn credentials(&self) -> &str {
        self.token.to_str().unwrap_or_default()
    }

    /// Uploads a blob and names it.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn upload(&mut self, name: &str, content: &[u8]) -> Result<v1::Input> {
        let digest = Digest::of(content);
        let mut request = Request::new(tokio_stream_iter(blob_messages(content, digest, 0)));
        request.metadata_mut().insert("authorization", self.token.clone());
        self.blobs.write_blob(request).await?;
        Ok(v1::Input {
            name: name.to_owned(),
            digest: digest.as_bytes().to_vec(),
            size_bytes: content.len() as u64,
        })
    }

    /// Submits a job of trivial units: integers, one a unit, not merged.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn trivial_job(&mut self, module: &v1::Input, units: u64) -> Result<v1::Job> {
        self.create(Self::trivial_spec(module, units)).await.context("submitting")
    }

    /// A job of trivial units, as it is submitted.
    #[must_use]
    pub fn trivial_spec(module: &v1::Input, units: u64) -> v1::JobSpec {
        let range = v1::split::Kind::Range(v1::IntegerRange { start: 0, end: units });
        v1::JobSpec {
            module: Some(module.clone()),
            split: Some(v1::Split { kind: Some(range) }),
            items_per_unit: 1,
            reduce: v1::Reduce::None.into(),
            item_price: "0.000001".to_owned(),
            ..v1::JobSpec::default()
        }
    }

    /// Submits a job.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn create(&mut self, spec: v1::JobSpec) -> Result<v1::Job, Status> {
        self.create_as(request_id(), spec).await
    }

    /// Submits a job under this name of the request.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn create_as(&mut self, request_id: String, spec: v1::JobSpec) -> Result<v1::Job, Status> {
        let request = v1::CreateJobRequest { spec: Some(spec), request_id, validate_only: false };
        Ok(self.jobs.create_job(with(request, &self.token)).await?.into_inner())
    }

    /// The job as it is.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn job(&mut self, name: &str) -> Result<v1::Job, Status> {
        let request = with(v1::GetJobRequest { name: name.to_owned() }, &self.token);
        Ok(self.jobs.get_job(request).await?.into_inner())
    }

    /// Its accepted work units.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn units(&mut self, name: &str) -> Result<Vec<v1::DecidedUnit>, Status> {
        let mut request = v1::ListUnitsRequest { parent: name.to_owned(), ..v1::ListUnitsRequest::default() };
        let mut units = Vec::new();
        loop {
            let page = self.jobs.list_units(with(request.clone(), &self.token)).await?.into_inner();
            units.extend(page.units);
            if page.next_page_token.is_empty() {
                return Ok(units);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn cancel(&mut self, name: &str) -> Result<(), Status> {
        let request = with(v1::CancelJobRequest { name: name.to_owned() }, &self.token);
        self.jobs.cancel_job(request).await.map(drop)
    }
}
