//! Payouts, for operators with a name.

use lull_ledger::Amount;
use lull_ledger::payout::{Bic, Iban, IbanError, Party, PartyError};
use lull_proto::v1;
use lull_proto::v1::payouts_server::Payouts;
use tonic::{Request, Response, Status};

use super::{Context, last_part, number, page_size, statements, status, view};
use crate::core::OwnerId;
use crate::store::{Batch, BatchState, Payee, Payer, Payout, PayoutState};

const PAYEES_PER_PAGE: i32 = 1_000;
const BATCHES_PER_PAGE: i32 = 50;
/// A request id is a UUID or as long as one.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Serves `lull.v1.Payouts`.
pub struct PayoutsService {
    context: Context,
}

impl PayoutsService {
    /// The service.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn batch(&self, id: i64) -> Result<Response<v1::PayoutBatch>, Status> {
        let batch = self.context.store.payout_batch(id).await.map_err(status::from_store)?;
        Ok(Response::new(batch_message(batch)))
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn party(name: &str, iban: &str) -> Result<Party, Status> {
    let iban = iban.parse::<Iban>();
    let iban = iban.map_err(|error: IbanError| status::invalid("iban", &error.to_string()))?;
    Party::new(name, iban).map_err(|error| status::invalid("display_name", &error.to_string()))
}

#[tonic::async_trait]
impl Payouts for PayoutsService {
    async fn set_payer(&self, request: Request<v1::SetPayerRequest>) -> Result<Response<v1::Payer>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let payer = request.into_inner().payer.ok_or_else(|| status::invalid("payer", "is missing"))?;
        let party = party(&payer.display_name, &payer.iban)?;
        let bic = match payer.bic.as_str() {
            "" => String::new(),
            bic => {
                let bic = bic.parse::<Bic>();
                bic.map_err(|error: PartyError| status::invalid("bic", &error.to_string()))?.to_string()
            }
        };
        let currency = self.context.store.currency(&payer.currency).await.map_err(status::from_store)?;
        let payer = Payer { currency, name: party.name().to_owned(), iban: party.iban.to_string(), bic };
        self.context.store.set_payer(&payer, operator).await.map_err(status::from_store)?;
        tracing::info!(operator = operator.0, "payer set");
        Ok(Response::new(payer_message(payer)))
    }

    async fn set_payee(&self, request: Request<v1::SetPayeeRequest>) -> Result<Response<v1::Payee>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let payee = request.into_inner().payee.ok_or_else(|| status::invalid("payee", "is missing"))?;
        let owner_name = last_part(&payee.owner, "owners")?.to_owned();
        let party = party(&payee.display_name, &payee.iban)?;
        let store = &self.context.store;
        let owner = store.owner(&owner_name).await.map_err(status::from_store)?;
        let currency = store.currency(&payee.currency).await.map_err(status::from_store)?;
        let payee = Payee {
            currency,
            owner,
            owner_name,
            name: party.name().to_owned(),
            iban: party.iban.to_string(),
        };
        store.set_payee(&payee, operator).await.map_err(status::from_store)?;
        tracing::info!(%owner, operator = operator.0, "payee set");
        Ok(Response::new(payee_message(payee)))
    }

    async fn list_payees(
        &self,
        request: Request<v1::ListPayeesRequest>,
    ) -> Result<Response<v1::ListPayeesResponse>, Status> {
        self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let limit = page_size(request.page_size, PAYEES_PER_PAGE)?;
        let after = payees_after(&request.page_token)?;
        let payees = self.context.store.payees(after, limit).await.map_err(status::from_store)?;
        let full = i64::try_from(payees.len()) == Ok(limit);
        let next_page_token = payees
            .last()
            .filter(|_| full)
            .map(|last| format!("{}.{}", last.owner, last.currency.id.number()));
        let next_page_token = next_page_token.unwrap_or_default();
        let payees = payees.into_iter().map(payee_message).collect();
        Ok(Response::new(v1::ListPayeesResponse { payees, next_page_token }))
    }

    async fn propose_payouts(
        &self,
        request: Request<v1::ProposePayoutsRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let request = request.into_inner();
        if request.request_id.is_empty() || request.request_id.len() > REQUEST_ID_BYTES_MAX {
            return Err(status::invalid("request_id", "give a UUID, so that a retry proposes once"));
        }
        let store = &self.context.store;
        let of = store.currency(&request.currency).await.map_err(status::from_store)?;
        let smallest = of.currency.smallest();
        let minimum = match request.minimum.as_str() {
            "" => smallest,
            text => {
                let minimum = text.parse::<Amount>();
                minimum.map_err(|error: lull_ledger::AmountError| {
                    status::invalid("minimum", &error.to_string())
                })?
            }
        };
        if minimum < smallest || of.currency.payable(minimum) != minimum {
            let (code, places) = (of.currency, of.currency.decimals());
            let problem = format!("is at least {smallest} {code}, with at most {places} places");
            return Err(status::invalid("minimum", &problem));
        }
        let proposal = store.propose_payouts(&request.request_id, of, minimum, operator).await;
        let proposal = proposal.map_err(status::from_store)?;
        tracing::info!(batch = proposal.batch, operator = operator.0, "payouts proposed");
        let mut batch = self.batch(proposal.batch).await?;
        batch.get_mut().owners_without_payee =
            proposal.without_payee.into_iter().map(|name| format!("owners/{name}")).collect();
        Ok(batch)
    }

    async fn approve_payout_batch(
        &self,
        request: Request<v1::ApprovePayoutBatchRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let id = number(&request.into_inner().name, "payouts")?;
        self.context.store.approve_batch(id, operator).await.map_err(status::from_store)?;
        tracing::info!(batch = id, operator = operator.0, "payouts approved");
        self.batch(id).await
    }

    async fn reject_payout_batch(
        &self,
        request: Request<v1::RejectPayoutBatchRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let request = request.into_inner();
        let (id, reason) = (number(&request.name, "payouts")?, statements::reason(&request.reason)?);
        self.context.store.reject_batch(id, reason, operator).await.map_err(status::from_store)?;
        tracing::info!(batch = id, operator = operator.0, "payouts rejected");
        self.batch(id).await
    }

    async fn export_payout_batch(
        &self,
        request: Request<v1::ExportPayoutBatchRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let id = number(&request.into_inner().name, "payouts")?;
        self.context.store.export_batch(id, operator).await.map_err(status::from_store)?;
        tracing::info!(batch = id, operator = operator.0, "payouts exported");
        self.batch(id).await
    }

    async fn mark_payouts_paid(
        &self,
        request: Request<v1::MarkPayoutsPaidRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let request = request.into_inner();
        let id = number(&request.name, "payouts")?;
        let store = &self.context.store;
        let mut owners = Vec::new();
        for name in &request.owners {
            owners.push(store.owner(last_part(name, "owners")?).await.map_err(status::from_store)?.0);
        }
        owners.sort_unstable();
        owners.dedup();
        let owners = (!owners.is_empty()).then_some(owners.as_slice());
        store.mark_paid(id, owners).await.map_err(status::from_store)?;
        tracing::info!(batch = id, operator = operator.0, "payouts paid");
        self.batch(id).await
    }

    async fn mark_payout_returned(
        &self,
        request: Request<v1::MarkPayoutReturnedRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        let operator = self.context.auth.named_operator(&request).await?;
        let request = request.into_inner();
        let (id, reason) = (number(&request.name, "payouts")?, statements::reason(&request.reason)?);
        let store = &self.context.store;
        let owner = store.owner(last_part(&request.owner, "owners")?).await.map_err(status::from_store)?;
        store.mark_returned(id, owner, reason, operator).await.map_err(status::from_store)?;
        tracing::info!(batch = id, %owner, operator = operator.0, "payout returned");
        self.batch(id).await
    }

    async fn get_payout_batch(
        &self,
        request: Request<v1::GetPayoutBatchRequest>,
    ) -> Result<Response<v1::PayoutBatch>, Status> {
        self.context.auth.operator(&request).await?;
        self.batch(number(&request.into_inner().name, "payouts")?).await
    }

    async fn list_payout_batches(
        &self,
        request: Request<v1::ListPayoutBatchesRequest>,
    ) -> Result<Response<v1::ListPayoutBatchesResponse>, Status> {
        self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let limit = page_size(request.page_size, BATCHES_PER_PAGE)?;
        let before = page_token(&request.page_token, i64::MAX)?;
        let batches = self.context.store.payout_batches(before, limit).await.map_err(status::from_store)?;
        let full = i64::try_from(batches.len()) == Ok(limit);
        let next_page_token =
            batches.last().filter(|_| full).map(|batch| batch.id.to_string()).unwrap_or_default();
        let batches = batches.into_iter().map(batch_message).collect();
        Ok(Response::new(v1::ListPayoutBatchesResponse { batches, next_page_token }))
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn page_token(token: &str, first: i64) -> Result<i64, Status> {
    match token {
        "" => Ok(first),
        token => token.parse().map_err(|_| status::invalid("page_token", "is not one of this list's")),
    }
}

/// The owner and the currency that a page of payees ends with.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn payees_after(token: &str) -> Result<(OwnerId, i16), Status> {
    if token.is_empty() {
        return Ok((OwnerId(0), 0));
    }
    let parts = token.split_once('.').and_then(|(owner, of)| Some((owner.parse().ok()?, of.parse().ok()?)));
    let (owner, of) = parts.ok_or_else(|| status::invalid("page_token", "is not one of this list's"))?;
    Ok((OwnerId(owner), of))
}

fn payer_message(payer: Payer) -> v1::Payer {
    v1::Payer {
        display_name: payer.name,
        iban: payer.iban,
        bic: payer.bic,
        currency: payer.currency.currency.to_string(),
    }
}

fn payee_message(payee: Payee) -> v1::Payee {
    v1::Payee {
        owner: format!("owners/{}", payee.owner_name),
        display_name: payee.name,
        iban: payee.iban,
        currency: payee.currency.currency.to_string(),
    }
}

fn batch_message(batch: Batch) -> v1::PayoutBatch {
    let state = match batch.state {
        BatchState::Proposed => v1::PayoutBatchState::Proposed,
        BatchState::Approved => v1::PayoutBatchState::Approved,
        BatchState::Exported => v1::PayoutBatchState::Exported,
        BatchState::Rejected => v1::PayoutBatchState::Rejected,
    };
    let (proposer, proposed_at) = batch.proposed;
    let (approver, approved_at) = batch.approved.unzip();
    let (exporter, exported_at) = batch.exported.unzip();
    v1::PayoutBatch {
        name: format!("payouts/{}", batch.id),
        state: state.into(),
        minimum: batch.minimum.to_string(),
        amount: batch.amount.to_string(),
        payout_count: batch.payouts_count,
        open_count: batch.open_count,
        payer: Some(payer_message(batch.payer)),
        proposer,
        approver: approver.unwrap_or_default(),
        exporter: exporter.unwrap_or_default(),
        propose_time: Some(view::timestamp(proposed_at)),
        approve_time: approved_at.map(view::timestamp),
        export_time: exported_at.map(view::timestamp),
        payouts: batch.payouts.into_iter().map(payout_message).collect(),
        owners_without_payee: Vec::new(),
        currency: Some(view::currency(batch.currency)),
    }
}

fn payout_message(payout: Payout) -> v1::Payout {
    let state = match payout.state {
        PayoutState::Open => v1::PayoutState::Open,
        PayoutState::Paid => v1::PayoutState::Paid,
        PayoutState::Returned => v1::PayoutState::Returned,
    };
    v1::Payout {
        owner: format!("owners/{}", payout.payee.owner_name),
        owner_number: payout.payee.owner.0.unsigned_abs(),
        payee: Some(payee_message(payout.payee)),
        amount: payout.amount.to_string(),
        state: state.into(),
        carried_in: payout.carried_in.to_string(),
        carried_out: payout.carried_out.to_string(),
        remainder: payout.remainder.to_string(),
        lines: payout.lines,
        reason: payout.reason,
        paid_before: payout.paid_before,
    }
}
