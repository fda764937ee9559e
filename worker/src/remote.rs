//! The coordinator, over gRPC. Each call is made once; when to try again is somebody else's to say.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use lull_job::Digest;
use lull_proto::v1::blobs_client::BlobsClient;
use lull_proto::v1::work_client::WorkClient;
use lull_proto::v1::{self, write_blob_request::Message};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::core::{Books, InCurrency, Tally};
use crate::identity::{ASSERTION_RENEW_SECS, ASSERTION_SECS, Identity};

/// The largest answer that is taken: leases with the results to merge.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a result in one message of its upload.
const CHUNK_BYTES: usize = 256 * 1024;
/// Time to reach the coordinator.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Time for an answer where nothing is waited for.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Time for the books to be read: somebody waits for it.
const EARNINGS_TIME: Duration = Duration::from_secs(5);
/// Time between two pieces of a blob.
const PIECE_TIME: Duration = Duration::from_secs(60);
/// Time for an upload: 64 MiB over a slow line.
const UPLOAD_TIME: Duration = Duration::from_secs(600);
/// A connection that is silent this long is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Whether a call that failed so may work later, with nothing changed here.
#[must_use]
pub fn is_temporary(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown
            // Said of nothing but this PC's clock, which its owner can set.
            | Code::FailedPrecondition
    )
}

/// What a status says, in one line, and what it came from in the end: `tcp connect error` helps nobody.
#[must_use]
pub fn explain(status: &Status) -> String {
    let mut text = format!("{:?}", status.code());
    if !status.message().is_empty() {
        text = format!("{text}: {}", status.message());
    }
    let (mut root, mut cause) = (None, status.source());
    while let Some(error) = cause {
        (root, cause) = (Some(error.to_string()), error.source());
    }
    match root {
        Some(root) if !text.ends_with(&root) => format!("{text}: {root}"),
        _ => text,
    }
}

/// Why something is no address of a coordinator.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It asks for TLS.
    #[error(
        "coordinators do not speak TLS yet: write http://, on the coordinator's own machine, such as http://127.0.0.1:7878"
    )]
    Tls,
    /// It is no URL of http.
    #[error("write one like http://127.0.0.1:7878")]
    NotHttp,
}

/// A channel to a coordinator; it connects when it is used, again and again.
///
/// # Errors
/// When the address is none.
pub fn channel(coordinator: &str) -> Result<Channel, AddressError> {
    let endpoint = endpoint(coordinator)?
        .connect_timeout(CONNECT_TIME)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// Without a scheme a call would fail like one to a coordinator that is away, and be tried again for ever.
fn endpoint(coordinator: &str) -> Result<Endpoint, AddressError> {
    if coordinator.starts_with("https://") {
        return Err(AddressError::Tls);
    }
    coordinator
        .strip_prefix("http://")
        .filter(|authority| !authority.is_empty())
        .and_then(|_| Endpoint::from_shared(coordinator.to_owned()).ok())
        .and_then(|endpoint| endpoint.user_agent(concat!("lull-worker/", env!("CARGO_PKG_VERSION"))).ok())
        .ok_or(AddressError::NotHttp)
}

/// Enrols this device.
///
/// # Errors
/// What the coordinator answers.
pub async fn enrol(channel: Channel, request: v1::EnrolRequest) -> Result<v1::EnrolResponse, Status> {
    let mut request = Request::new(request);
    request.set_timeout(ANSWER_TIME);
    Ok(WorkClient::new(channel).enrol(request).await?.into_inner())
}

/// What a coordinator shows to whoever calls.
#[derive(Debug, Clone, Copy)]
pub struct Greeting {
    /// Its clock, in Unix seconds; `None` if it does not tell.
    pub unix_secs: Option<u64>,
}

/// Calls without credentials: the refusal shows that a coordinator is there.
///
/// # Errors
/// What is answered instead, or that nothing is.
pub async fn greet(channel: Channel) -> Result<Greeting, Status> {
    let mut request = Request::new(v1::GetDeviceEarningsRequest {});
    request.set_timeout(ANSWER_TIME);
    match WorkClient::new(channel).get_device_earnings(request).await {
        Err(status) if status.code() == Code::Unauthenticated => {
            // As HTTP has it: RFC 9110, section 6.6.1.
            let date = status.metadata().get("date").and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
            Ok(Greeting { unix_secs: date.and_then(|date| u64::try_from(date.timestamp()).ok()) })
        }
        Err(status) => Err(status),
        Ok(_) => Err(Status::internal(
            "what answers there knows callers without credentials: is it a coordinator?",
        )),
    }
}

/// The coordinator, as this device speaks to it.
#[derive(Debug)]
pub struct Remote {
    channel: Channel,
    identity: Identity,
    assertion: Mutex<Option<Assertion>>,
}

#[derive(Debug)]
struct Assertion {
    made_unix_secs: u64,
    header: MetadataValue<Ascii>,
}

impl Remote {
    /// Speaks as that device.
    #[must_use]
    pub const fn new(channel: Channel, identity: Identity) -> Self {
        Self { channel, identity, assertion: Mutex::new(None) }
    }

    /// Who this device is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the coordinator was when this device enrolled.
    #[must_use]
    pub fn coordinator(&self) -> &str {
        &self.identity.enrolment.coordinator
    }

    /// Reports, renews and asks.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub async fn sync(
        &self,
        request: v1::SyncRequest,
        timeout: Duration,
    ) -> Result<v1::SyncResponse, Status> {
        let mut client = WorkClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let call = client.sync(self.request(request, timeout)?);
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("the coordinator did not answer in time")),
        }
    }

    /// What this device has earned, from the coordinator's books.
    ///
    /// # Errors
    /// What the coordinator answers; when that is no amount.
    pub async fn earnings(&self) -> Result<Books, Status> {
        let mut client = WorkClient::new(self.channel.clone());
        let call = client.get_device_earnings(self.request(v1::GetDeviceEarningsRequest {}, EARNINGS_TIME)?);
        let answer = tokio::time::timeout(EARNINGS_TIME, call)
            .await
            .map_err(|_| Status::deadline_exceeded("the coordinator did not answer in time"))??
            .into_inner();
        let decimal = |amount: &str| {
            let no_amount =
                || Status::data_loss(format!("the coordinator sent `{amount}`, which is no amount"));
            amount.parse().map_err(|_| no_amount())
        };
        let (default, others) = answer.by_currency.split_first().unzip();
        let currency = default.map(|one| one.currency.clone()).unwrap_or_default();
        let mut total = Tally {
            currency,
            amount: decimal(&answer.total_amount)?,
            units: answer.total_units,
            others: Vec::new(),
        };
        let mut this_month =
            Tally { amount: decimal(&answer.month_amount)?, units: answer.month_units, ..total.clone() };
        for one in others.unwrap_or_default() {
            let part = |amount: &str, units| {
                Ok::<_, Status>(InCurrency {
                    currency: one.currency.clone(),
                    amount: decimal(amount)?,
                    units,
                })
            };
            total.others.push(part(&one.total_amount, one.total_units)?);
            this_month.others.push(part(&one.month_amount, one.month_units)?);
        }
        this_month.others.retain(|one| one.units > 0);
        Ok(Books { total, this_month, month: answer.month })
    }

    /// Receipts that are not among these.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub async fn receipts(&self, held: v1::HeldReceipts) -> Result<v1::Receipts, Status> {
        let mut client = WorkClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(client.list_receipts(self.request(held, ANSWER_TIME)?).await?.into_inner())
    }

    /// What the ledger says that this device was paid, after that posting.
    ///
    /// # Errors
    /// What the coordinator answers, or that it does not.
    pub async fn pay(&self, after: u64) -> Result<v1::ListDevicePayResponse, Status> {
        let mut client = WorkClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = self.request(v1::ListDevicePayRequest { after }, ANSWER_TIME)?;
        Ok(client.list_device_pay(request).await?.into_inner())
    }

    /// Reads a blob of exactly `size_bytes` that a lease names.
    ///
    /// # Errors
    /// What the coordinator answers; when it sends more or less than that, or something else.
    pub async fn read_blob(
        &self,
        digest: Digest,
        size_bytes: u64,
        lease_token: u64,
    ) -> Result<Vec<u8>, Status> {
        let mut client = BlobsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request =
            v1::ReadBlobRequest { digest: digest.as_bytes().to_vec(), lease_token, ..Default::default() };
        let late = |_| Status::deadline_exceeded("the coordinator stopped sending");
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", self.header()?);
        let answer = tokio::time::timeout(PIECE_TIME, client.read_blob(request)).await.map_err(late)?;
        let mut pieces = answer?.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = tokio::time::timeout(PIECE_TIME, pieces.message()).await.map_err(late)?? {
            bytes.extend_from_slice(&piece.chunk);
            if bytes.len() as u64 > size_bytes {
                break;
            }
        }
        if bytes.len() as u64 != size_bytes || Digest::of(&bytes) != digest {
            return Err(Status::data_loss(format!("blob {digest} did not arrive as it should be")));
        }
        Ok(bytes)
    }

    /// Uploads a result.
    ///
    /// # Errors
    /// What the coordinator answers.
    pub async fn write_blob(&self, digest: Digest, bytes: Vec<u8>, lease_token: u64) -> Result<(), Status> {
        let mut client = BlobsClient::new(self.channel.clone());
        let header = v1::BlobHeader {
            digest: digest.as_bytes().to_vec(),
            size_bytes: bytes.len() as u64,
            lease_token,
        };
        let count = bytes.len().div_ceil(CHUNK_BYTES);
        let chunks = (0..count).map(move |at| {
            let start = at * CHUNK_BYTES;
            Message::Chunk(bytes[start..bytes.len().min(start + CHUNK_BYTES)].to_vec())
        });
        let messages = std::iter::once(Message::Header(header)).chain(chunks);
        let messages = messages.map(|message| v1::WriteBlobRequest { message: Some(message) });
        let call = client.write_blob(self.request(tokio_stream::iter(messages), UPLOAD_TIME)?);
        match tokio::time::timeout(UPLOAD_TIME, call).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(Status::deadline_exceeded("the upload took too long")),
        }
    }

    /// Makes the next call carry a fresh assertion: the last one was not taken.
    pub fn renew_assertion(&self) {
        *self.assertion.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn request<T>(&self, message: T, timeout: Duration) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        request.metadata_mut().insert("authorization", self.header()?);
        Ok(request)
    }

    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    fn header(&self) -> Result<MetadataValue<Ascii>, Status> {
        let now = unix_secs();
        let mut assertion = self.assertion.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Assertion { made_unix_secs, header }) = &*assertion
            && (*made_unix_secs..made_unix_secs + ASSERTION_RENEW_SECS).contains(&now)
        {
            return Ok(header.clone());
        }
        let text = self.identity.assertion(now + ASSERTION_SECS);
        let header = MetadataValue::try_from(text)
            .map_err(|_| Status::internal("this device's assertion is not a header"))?;
        *assertion = Some(Assertion { made_unix_secs: now, header: header.clone() });
        Ok(header)
    }
}

/// Seconds since 1970, by this PC's clock.
pub(crate) fn unix_secs() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "assertions and pauses end by everybody's clock")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, refused: Option<&str>| {
            let error = endpoint(text).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), refused.is_some(), "{text}: {error:?}");
            assert!(error.unwrap_or_default().contains(refused.unwrap_or_default()), "{text}");
        };
        check("http://127.0.0.1:7878", None);
        check("http://localhost:1/", None);
        check("https://grid.example", Some("do not speak TLS yet"));
        for wrong in ["127.0.0.1:7878", "localhost:7878", "http://", "x y", ""] {
            check(wrong, Some("write one like http://127.0.0.1:7878"));
        }
    }

    #[test]
    fn a_status_is_explained_by_what_it_came_from() {
        let refused = Status::from_error(Box::new(io::Error::other("connection refused")));
        assert_eq!(explain(&refused), "Unknown: connection refused");
        let told = Status::unavailable("the database is not reachable");
        assert_eq!(explain(&told), "Unavailable: the database is not reachable");
    }
}
