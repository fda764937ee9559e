//! Who calls: an API token of a person or program, or an assertion of a device's key.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ed25519_dalek::{Signature, VerifyingKey};
use tonic::{Request, Status};

use crate::clock;
use crate::core::{DeviceId, OwnerId, SubmitterId};
use crate::service::status;
use crate::store::{OperatorId, Store, Subject};

/// The longest that an assertion may be good for: a stolen one is soon worthless.
pub const ASSERTION_SECS_MAX: u64 = 300;
/// Clocks of devices may be this much ahead.
const CLOCK_SKEW_SECS: u64 = 60;
/// Verified assertions that are remembered; past that all are forgotten and verified again.
const KNOWN_ASSERTIONS_MAX: usize = 100_000;

/// A device that proved its key.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// Its number.
    pub id: DeviceId,
    /// Whose it is.
    pub owner: OwnerId,
    /// Whether the operator trusts it to settle disputes.
    pub referee: bool,
}

/// Devices that have shown who they are.
#[derive(Default)]
struct Known {
    /// By assertion, with the time at which that is over.
    devices: BTreeMap<String, (Device, u64)>,
    /// How often one was forgotten.
    forgotten: u64,
}

/// Checks who calls.
pub struct Auth {
    store: Store,
    grid_id: String,
    known: Mutex<Known>,
}

impl Auth {
    /// Checks callers of this grid.
    #[must_use]
    pub fn new(store: Store, grid_id: String) -> Self {
        Self { store, grid_id, known: Mutex::default() }
    }

    /// The name of this grid, which assertions must carry.
    #[must_use]
    pub fn grid_id(&self) -> &str {
        &self.grid_id
    }

    /// Whom the API token of a call speaks for.
    ///
    /// # Errors
    /// When there is none, or it is not known.
    pub async fn subject<T>(&self, request: &Request<T>) -> Result<Subject, Status> {
        let token = credential(request, "Bearer ")?;
        let subject = self.store.subject(&hash_token(token)).await.map_err(status::from_store)?;
        subject.ok_or_else(|| {
            status::unauthenticated("this API token is not known here: ask the operator for one")
        })
    }

    /// The caller, who must be an operator.
    ///
    /// # Errors
    /// When it is somebody else.
    pub async fn operator<T>(&self, request: &Request<T>) -> Result<OperatorId, Status> {
        match self.subject(request).await? {
            Subject::Operator(id) => Ok(id),
            _ => Err(status::denied("only an operator may do this: use an operator's token")),
        }
    }

    /// The caller, who must be an operator with a name: a person who answers for what is done.
    ///
    /// # Errors
    /// When it is somebody else.
    pub async fn named_operator<T>(&self, request: &Request<T>) -> Result<OperatorId, Status> {
        let operator = self.operator(request).await?;
        if operator.is_named() {
            return Ok(operator);
        }
        Err(status::denied(
            "payouts are for operators with a name: `lull admin operator add NAME` gives one a token",
        ))
    }

    /// The caller, who must be the operator without a name.
    ///
    /// # Errors
    /// When it is somebody else.
    pub async fn unnamed_operator<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if self.operator(request).await?.is_named() {
            let only = "only the operator who holds the coordinator's state directory makes operators: with another \
                name in hand, one person could propose and approve";
            return Err(status::denied(only));
        }
        Ok(())
    }

    /// The caller, who must be a submitter.
    ///
    /// # Errors
    /// When it is somebody else.
    pub async fn submitter<T>(&self, request: &Request<T>) -> Result<SubmitterId, Status> {
        match self.subject(request).await? {
            Subject::Submitter(id) => Ok(id),
            _ => Err(status::denied("only a submitter may do this: use a submitter's token")),
        }
    }

    /// The submitter whose jobs the caller may see; `None` for an operator, who may see all.
    ///
    /// # Errors
    /// When the caller is an owner.
    pub async fn job_reader<T>(&self, request: &Request<T>) -> Result<Option<SubmitterId>, Status> {
        match self.subject(request).await? {
            Subject::Operator(_) => Ok(None),
            Subject::Submitter(id) => Ok(Some(id)),
            Subject::Owner(_) => Err(status::denied("jobs are for submitters: use a submitter's token")),
        }
    }

    /// The device that calls.
    ///
    /// # Errors
    /// When its assertion is missing, expired or not signed by its key.
    pub async fn device<T>(&self, request: &Request<T>) -> Result<Device, Status> {
        let assertion = credential(request, "Lull-Device ")?;
        let now = clock::unix_secs();
        let forgotten = {
            let known = self.lock_known();
            if let Some((device, expiry)) = known.devices.get(assertion)
                && *expiry >= now
            {
                return Ok(*device);
            }
            known.forgotten
        };
        let bad = || {
            status::unauthenticated("the device assertion is malformed: it is {device}.{expiry}.{signature}")
        };
        let mut fields = assertion.splitn(3, '.');
        let mut field = || fields.next().ok_or_else(bad);
        let (id, expiry, signature) = (field()?, field()?, field()?);
        let (id, expiry): (i64, u64) = (id.parse().map_err(|_| bad())?, expiry.parse().map_err(|_| bad())?);
        let signature = hex::decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or_else(bad)?;
        if expiry < now || expiry > now + ASSERTION_SECS_MAX + CLOCK_SKEW_SECS {
            return Err(status::clock_differs(now));
        }
        let key = self.store.device_key(DeviceId(id)).await.map_err(status::from_store)?;
        let (owner, key, referee) = key.ok_or_else(|| {
            status::unauthenticated("this device is not enrolled here: enrol it with a new enrolment token")
        })?;
        let signed = format!("lull.v1 device assertion\n{id}\n{expiry}\n{}", self.grid_id);
        let verified = VerifyingKey::from_bytes(&key)
            .is_ok_and(|key| key.verify_strict(signed.as_bytes(), &signature).is_ok());
        if !verified {
            return Err(status::unauthenticated(
                "the device assertion is not signed by the device's key for this grid",
            ));
        }
        let device = Device { id: DeviceId(id), owner, referee };
        let mut known = self.lock_known();
        // Who was to be forgotten while this was looked up may be known as it was before.
        if known.forgotten == forgotten {
            if known.devices.len() >= KNOWN_ASSERTIONS_MAX {
                known.devices.clear();
            }
            known.devices.insert(assertion.to_owned(), (device, expiry));
        }
        Ok(device)
    }

    /// Forgets what is remembered of a device, so that its next call finds what the database says of it. Other coordinators
    /// remember it until its assertion is over, [`ASSERTION_SECS_MAX`] at most.
    pub fn forget(&self, device: DeviceId) {
        let mut known = self.lock_known();
        known.devices.retain(|_, (known, _)| known.id != device);
        known.forgotten += 1;
    }

    fn lock_known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Checks that the caller of an enrolment holds the key that it names.
///
/// # Errors
/// When it is no key, or the proof is not its signature.
pub fn check_enrolment(public_key: &[u8], token: &str, proof: &[u8]) -> Result<[u8; 32], Status> {
    let bytes: [u8; 32] =
        public_key.try_into().map_err(|_| status::invalid("public_key", "is not 32 bytes"))?;
    let key =
        VerifyingKey::from_bytes(&bytes).map_err(|_| status::invalid("public_key", "is no ed25519 key"))?;
    let signature = Signature::from_slice(proof).map_err(|_| status::invalid("proof", "is not 64 bytes"))?;
    key.verify_strict(format!("lull.v1 enrolment\n{token}").as_bytes(), &signature)
        .map_err(|_| status::invalid("proof", "is not the key's signature over the enrolment token"))?;
    Ok(bytes)
}

/// A new random token: 256 bits, with a prefix that says what it is.
#[must_use]
pub fn new_token(prefix: &str) -> String {
    let bytes: [u8; 32] = rand::random();
    format!("{prefix}_{}", hex::encode(bytes))
}

/// What is kept of a token.
#[must_use]
pub fn hash_token(token: &str) -> [u8; 32] {
    blake3::hash(token.as_bytes()).into()
}

fn credential<'a, T>(request: &'a Request<T>, scheme: &str) -> Result<&'a str, Status> {
    let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix(scheme)).ok_or_else(|| {
        status::unauthenticated(&format!("no credentials: send the metadata `authorization: {scheme}...`"))
    })
}
