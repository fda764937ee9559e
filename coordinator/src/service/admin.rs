//! For operators: who is who.

use std::time::Duration;

use lull_job::stage_to_proto;
use lull_ledger::Currency;
use lull_proto::v1;
use lull_proto::v1::admin_server::Admin;
use tonic::{Request, Response, Status};

use super::{Context, last_part, page_size, status, view};
use crate::auth::{hash_token, new_token};
use crate::core::{DeviceId, Failure, Fault, Standing, Trouble};
use crate::store::{BlameRow, DeviceRow, OperatorId, Subject};

const NAME_BYTES_MAX: usize = 63;
const ENROLMENT_USES_MAX: u32 = 10_000;
const ENROLMENT_TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const ENROLMENT_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const DEVICES_PER_PAGE: i32 = 100;

/// Serves `lull.v1.Admin`.
pub struct AdminService {
    context: Context,
}

impl AdminService {
    /// The service.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn check_name<'a>(field: &str, name: &'a str) -> Result<&'a str, Status> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        let problem =
            format!("`{name}` is not a name: use 1 to {NAME_BYTES_MAX} letters, digits, dots and dashes");
        return Err(status::invalid(field, &problem));
    }
    Ok(name)
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_submitter(
        &self,
        request: Request<v1::CreateSubmitterRequest>,
    ) -> Result<Response<v1::Submitter>, Status> {
        self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let name = check_name("submitter_id", &request.submitter_id)?;
        self.context.store.create_submitter(name).await.map_err(status::from_store)?;
        Ok(Response::new(v1::Submitter { name: format!("submitters/{name}") }))
    }

    async fn create_owner(
        &self,
        request: Request<v1::CreateOwnerRequest>,
    ) -> Result<Response<v1::Owner>, Status> {
        self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let name = check_name("owner_id", &request.owner_id)?;
        self.context.store.create_owner(name).await.map_err(status::from_store)?;
        Ok(Response::new(v1::Owner { name: format!("owners/{name}") }))
    }

    async fn create_operator(
        &self,
        request: Request<v1::CreateOperatorRequest>,
    ) -> Result<Response<v1::Operator>, Status> {
        self.context.auth.unnamed_operator(&request).await?;
        let request = request.into_inner();
        let name = check_name("operator_id", &request.operator_id)?;
        let token = new_token("lull");
        let id = self.context.store.create_operator(name, &hash_token(&token)).await;
        tracing::info!(operator = id.map_err(status::from_store)?.0, name, "operator added");
        Ok(Response::new(v1::Operator { name: format!("operators/{name}"), token }))
    }

    async fn create_api_token(
        &self,
        request: Request<v1::CreateApiTokenRequest>,
    ) -> Result<Response<v1::ApiToken>, Status> {
        self.context.auth.operator(&request).await?;
        if request.get_ref().role() == v1::Role::Operator {
            self.context.auth.unnamed_operator(&request).await?;
        }
        let request = request.into_inner();
        let store = &self.context.store;
        let subject = match request.role() {
            v1::Role::Operator => Subject::Operator(OperatorId::UNNAMED),
            v1::Role::Submitter => {
                let name = last_part(&request.subject, "submitters")?;
                Subject::Submitter(store.submitter(name).await.map_err(status::from_store)?)
            }
            v1::Role::Owner => {
                let name = last_part(&request.subject, "owners")?;
                Subject::Owner(store.owner(name).await.map_err(status::from_store)?)
            }
            v1::Role::Unspecified => return Err(status::invalid("role", "is missing")),
        };
        let token = new_token("lull");
        store.add_api_token(&hash_token(&token), subject).await.map_err(status::from_store)?;
        Ok(Response::new(v1::ApiToken { token }))
    }

    async fn add_currency(
        &self,
        request: Request<v1::AddCurrencyRequest>,
    ) -> Result<Response<v1::Currency>, Status> {
        self.context.auth.operator(&request).await?;
        let v1::AddCurrencyRequest { code, decimals } = request.into_inner();
        let currency = Currency::new(&code, decimals);
        let currency = currency.map_err(|error| status::invalid("code", &error.to_string()))?;
        let added = self.context.store.add_currency(currency).await.map_err(status::from_store)?;
        tracing::info!(%currency, number = added.id.number(), "currency added");
        Ok(Response::new(view::currency(added)))
    }

    async fn list_currencies(
        &self,
        request: Request<v1::ListCurrenciesRequest>,
    ) -> Result<Response<v1::ListCurrenciesResponse>, Status> {
        self.context.auth.subject(&request).await?;
        let currencies = self.context.store.currencies().await.map_err(status::from_store)?;
        let currencies = currencies.into_iter().map(view::currency).collect();
        Ok(Response::new(v1::ListCurrenciesResponse { currencies }))
    }

    async fn create_enrolment_token(
        &self,
        request: Request<v1::CreateEnrolmentTokenRequest>,
    ) -> Result<Response<v1::EnrolmentToken>, Status> {
        self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let name = last_part(&request.parent, "owners")?;
        let uses = request.uses.max(1);
        if uses > ENROLMENT_USES_MAX {
            return Err(status::invalid("uses", &format!("{uses} is more than {ENROLMENT_USES_MAX}")));
        }
        let ttl = match request.ttl_secs {
            0 => ENROLMENT_TTL_DEFAULT,
            secs => Duration::from_secs(secs),
        };
        if ttl > ENROLMENT_TTL_MAX {
            return Err(status::invalid(
                "ttl_secs",
                &format!("is more than {}", ENROLMENT_TTL_MAX.as_secs()),
            ));
        }
        let store = &self.context.store;
        let owner = store.owner(name).await.map_err(status::from_store)?;
        let token = new_token("enrol");
        let expires = store.add_enrolment_token(&hash_token(&token), owner, uses, ttl).await;
        let expire_time = Some(view::timestamp(expires.map_err(status::from_store)?));
        Ok(Response::new(v1::EnrolmentToken { token, expire_time }))
    }

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        let owner = match self.context.auth.subject(&request).await? {
            Subject::Operator(_) => None,
            Subject::Owner(id) => Some(id),
            Subject::Submitter(_) => return Err(status::denied("devices are for operators and owners")),
        };
        let request = request.into_inner();
        let limit = page_size(request.page_size, DEVICES_PER_PAGE)?;
        let after = match request.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| status::invalid("page_token", "is not one of this list's"))?,
        };
        let rows =
            self.context.store.devices(owner, DeviceId(after), limit).await.map_err(status::from_store)?;
        let full = i64::try_from(rows.len()) == Ok(limit);
        let next_page_token = rows.last().filter(|_| full).map(|row| row.id.to_string()).unwrap_or_default();
        let devices = rows.into_iter().map(device).collect();
        Ok(Response::new(v1::ListDevicesResponse { devices, next_page_token }))
    }

    async fn set_referee(
        &self,
        request: Request<v1::SetRefereeRequest>,
    ) -> Result<Response<v1::Device>, Status> {
        self.context.auth.operator(&request).await?;
        let v1::SetRefereeRequest { name, referee } = request.into_inner();
        let id = last_part(&name, "devices")?;
        let id =
            id.parse().map_err(|_| status::invalid("name", &format!("`{name}` is not devices/NUMBER")))?;
        let store = &self.context.store;
        store.set_referee(DeviceId(id), referee).await.map_err(status::from_store)?;
        self.context.auth.forget(DeviceId(id));
        tracing::info!(device = id, referee, "a device was made a referee, or ceased to be one");
        let rows = store.devices(None, DeviceId(id - 1), 1).await.map_err(status::from_store)?;
        let row = rows.into_iter().next().ok_or_else(|| Status::internal("the device is gone"))?;
        Ok(Response::new(device(row)))
    }
}

fn device(row: DeviceRow) -> v1::Device {
    v1::Device {
        name: format!("devices/{}", row.id),
        display_name: row.display_name,
        owner: format!("owners/{}", row.owner),
        enrol_time: Some(view::timestamp(row.enrolled_at)),
        last_seen_time: Some(view::timestamp(row.last_seen_at)),
        presence: row.presence.into(),
        open_leases: row.open_leases,
        attempts: row.attempts,
        blames: row.blames,
        recent_blames: row.recent_blames.into_iter().map(blame).collect(),
        limited_reason: limited_reason(row.standing, row.trouble),
        referee: row.referee,
    }
}

/// Why a device gets less work than others; empty when it does not.
fn limited_reason(standing: Standing, trouble: Option<Trouble>) -> String {
    if let Some(trouble) = trouble.filter(|trouble| trouble.is_watched()) {
        return trouble_reason(trouble);
    }
    if standing.rests() {
        let minutes = standing.rest_secs().div_ceil(60);
        format!(
            "its owner returned a wrong result: no units of jobs that buy confidence for {minutes} minutes more"
        )
    } else if standing.wastes() {
        "its owner's devices hand back, let expire or give up on nearly everything: they get no units of jobs that buy \
         confidence, and half of what they dropped is forgotten each day"
            .to_owned()
    } else if standing.picks() {
        "its owner's devices hand back, let expire or give up on too many units: they get one at a time and no checks"
            .to_owned()
    } else {
        String::new()
    }
}

fn trouble_reason(trouble: Trouble) -> String {
    let last = match trouble.last {
        Failure::Limit => "it ran into a limit where others had a result",
        Failure::Wrong => "it returned another result than was accepted",
        Failure::Expired => "it let a lease expire",
    };
    let gets = match trouble.rest_secs().div_ceil(60) {
        0 => "it gets one unit at a time until it succeeds".to_owned(),
        minutes => {
            format!("it gets no units for {minutes} minutes more, and then one at a time until it succeeds")
        }
    };
    format!("it failed {} times in a row, the last time because {last}: {gets}", trouble.fails)
}

fn blame(row: BlameRow) -> v1::Blame {
    let fault = match row.fault {
        Fault::Poisoned => v1::Fault::Poisoned,
        Fault::Resumed => v1::Fault::Resumed,
    };
    v1::Blame {
        job: format!("jobs/{}", row.unit.job),
        stage: Some(stage_to_proto(row.unit.stage)),
        index: row.unit.index,
        fault: fault.into(),
        steps: row.steps,
        state_digest: row.state.as_bytes().to_vec(),
        witnessed_digest: row.witnessed.as_bytes().to_vec(),
        witnesses: row.witnesses,
        create_time: Some(view::timestamp(row.created_at)),
    }
}
