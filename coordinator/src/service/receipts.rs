//! Receipts, and what they are compared with.

use lull_proto::v1;
use tonic::Status;

use super::turns::Reader;
use super::{Context, status};
use crate::auth::Device;
use crate::receipts::{HELD_MAX, Held, Look, line};
use crate::store::Posting;

/// What a device says that it has.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn held(message: v1::HeldReceipts) -> Result<Held, Status> {
    if message.numbers.len() > HELD_MAX {
        return Err(status::invalid("held_receipts", &format!("more than {HELD_MAX}: name fewer")));
    }
    Ok(Held { through: message.through, numbers: message.numbers.into_iter().collect() })
}

/// Receipts for an answer to `Sync`: without them it is as good, and the next one brings them.
pub(super) async fn with_sync(context: &Context, device: Device, held: Option<Held>) -> Option<v1::Receipts> {
    let receipts = context.receipts.of(device.id, device.owner, &held?, Look::WhenDue).await;
    receipts.unwrap_or_else(|error| {
        tracing::warn!(%error, "no receipts can be given");
        None
    })
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
    Ok(v1::ListDevicePayResponse { postings: postings.into_iter().map(posting).collect(), more })
}

fn posting(posting: Posting) -> v1::DevicePosting {
    let paid = |one| v1::PaidLine { line: Some(line(&one)), taken_back: one.taken_back };
    v1::DevicePosting {
        posting: posting.number,
        time: Some(posting.time.into()),
        lines: posting.lines.into_iter().map(paid).collect(),
    }
}
