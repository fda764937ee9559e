//! The gRPC services: messages in, messages out. What may happen is decided by the core and the store.

mod admin;
mod blobs;
mod checkpoints;
mod jobs;
mod ledger;
mod payouts;
mod receipts;
mod statements;
pub mod status;
mod submission;
mod turns;
mod view;
mod work;

pub use admin::AdminService;
pub use blobs::BlobsService;
pub use jobs::JobsService;
pub use ledger::LedgerService;
pub use payouts::PayoutsService;
pub use turns::Turns;
pub use work::WorkService;

use std::sync::Arc;

use lull_ledger::FeeRate;

use crate::auth::Auth;
use crate::blobs::Blobs;
use crate::grid::Grid;
use crate::receipts::Receipts;
use crate::store::Store;

/// What every service works with.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub store: Store,
    /// Bytes by digest.
    pub blobs: Blobs,
    /// Where calls of devices meet.
    pub grid: Grid,
    /// Who calls.
    pub auth: Arc<Auth>,
    /// What the platform takes of each reward of a new job.
    pub fee: FeeRate,
    /// What devices are given for their pay.
    pub receipts: Arc<Receipts>,
    /// Who is reading the ledger at length.
    pub turns: Turns,
}

/// Rows on one page of a list.
const PAGE_SIZE_MAX: i32 = 1_000;

/// The page size that a caller gets.
///
/// # Errors
/// When it asked for a negative one.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn page_size(asked: i32, default: i32) -> Result<i64, tonic::Status> {
    match asked {
        0 => Ok(i64::from(default)),
        1.. => Ok(i64::from(asked.min(PAGE_SIZE_MAX))),
        _ => Err(status::invalid("page_size", "is negative")),
    }
}

/// The number in a resource name such as `jobs/12`.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn number(name: &str, collection: &'static str) -> Result<i64, tonic::Status> {
    let number = name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/'));
    number
        .and_then(|number| number.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| status::invalid("name", &format!("`{name}` is not a name such as `{collection}/12`")))
}

/// The last part of a resource name such as `owners/alice`.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn last_part<'a>(name: &'a str, collection: &'static str) -> Result<&'a str, tonic::Status> {
    name.strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|part| !part.is_empty())
        .ok_or_else(|| {
            status::invalid("name", &format!("`{name}` is not a name such as `{collection}/alice`"))
        })
}
