//! Receipts, and what they are compared with.

use std::time::Duration;

use lull_proto::v1;
use tonic::Status;

use super::turns::Reader;
use super::{Context, status};
use crate::auth::Device;
use crate::receipts::{HELD_MAX, Held, Look, lines_of};
use crate::store::{Posting, PostingLine};

/// What a device says that it has.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn held(message: v1::HeldReceipts) -> Result<Held, Status> {
    if message.numbers.len() > HELD_MAX {
        return Err(status::invalid("held_receipts", &format!("more than {HELD_MAX}: name fewer")));
    }
    Ok(Held { through: message.through, numbers: message.numbers.into_iter().collect() })
}

/// An answer to `Sync` waits so long for its receipts.
const PATIENCE: Duration = Duration::from_secs(1);

/// Receipts for an answer to `Sync`: without them it is as good, and the next one brings them.
pub(super) async fn with_sync(context: &Context, device: Device, held: Option<Held>) -> Option<v1::Receipts> {
    let held = held?;
    let _turn = context.turns.take(Reader::Agent(device.id)).ok()?;
    let receipts = context.receipts.of(device.id, device.owner, &held, Look::WhenDue);
    match tokio::time::timeout(PATIENCE, receipts).await {
        Ok(Ok(receipts)) => receipts,
        Ok(Err(error)) => {
            tracing::warn!(%error, "no receipts can be given");
            None
        }
        Err(_) => None,
    }
}

/// All receipts that a device lacks, or the first of them.
pub(super) async fn list(
    context: &Context,
    device: Device,
    held: v1::HeldReceipts,
) -> Result<v1::Receipts, Status> {
    let held = self::held(held)?;
    let _turn = context.turns.take(Reader::Device(device.id))?;
    let receipts = context.receipts.of(device.id, device.owner, &held, Look::Now).await;
    Ok(receipts.map_err(status::from_store)?.unwrap_or_default())
}

/// What the ledger says that a device was paid.
pub(super) async fn pay(
    context: &Context,
    device: Device,
    after: u64,
) -> Result<v1::ListDevicePayResponse, Status> {
    let _turn = context.turns.take(Reader::Device(device.id))?;
    let pay = context.store.device_pay(device.id, device.owner, after).await;
    let (postings, more) = pay.map_err(status::from_store)?;
    let mut said = Vec::with_capacity(postings.len());
    for one in postings {
        let lines = lines_of(&context.store, &one).await.map_err(status::from_store)?;
        said.push(posting(one, lines));
    }
    Ok(v1::ListDevicePayResponse { postings: said, more })
}

fn posting(posting: Posting, lines: Vec<v1::ReceiptLine>) -> v1::DevicePosting {
    let paid = |(line, one): (_, PostingLine)| v1::PaidLine { line: Some(line), taken_back: one.taken_back };
    v1::DevicePosting {
        posting: posting.number,
        time: Some(posting.time.into()),
        lines: lines.into_iter().zip(posting.lines).map(paid).collect(),
    }
}
