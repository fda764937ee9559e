//! Checkpoints on the wire: their signatures are verified before anything else looks at them.

use ed25519_dalek::{Signature, VerifyingKey};
use lull_job::Digest;
use lull_proto::v1;
use tonic::Status;

use super::{Context, status};
use crate::core::{Checkpoint, DeviceId, Lease, Made};
use crate::store::Error;

/// Checkpoints in one call: a device runs no more units than it has slots.
const CHECKPOINTS_PER_CALL_MAX: usize = 64;

/// The checkpoints of each hand-back that are signed by this device for units of that lease. The rest is
/// logged and dropped: their units are handed back all the same, and start again.
pub(super) async fn verified(
    context: &Context,
    device: DeviceId,
    hand_backs: &[v1::HandBack],
) -> Result<Vec<Vec<Made>>, Status> {
    let mut all = Vec::with_capacity(hand_backs.len());
    let mut left = CHECKPOINTS_PER_CALL_MAX;
    let mut known_key = None;
    for hand_back in hand_backs {
        let mut good = Vec::new();
        let lease =
            if hand_back.checkpoints.is_empty() { None } else { lease(context, device, hand_back).await? };
        if let Some(lease) = lease {
            let key = match known_key {
                Some(key) => key,
                None => key(context, device).await?,
            };
            known_key = Some(key);
            for checkpoint in hand_back.checkpoints.iter().take(left) {
                match read(context.auth.grid_id(), &lease, &key, checkpoint) {
                    Ok(made) => good.push(made),
                    Err(problem) => tracing::warn!(
                        %device, lease = %lease.token, job = %lease.job, index = checkpoint.index, problem,
                        "a checkpoint was dropped"
                    ),
                }
            }
            left = left.saturating_sub(hand_back.checkpoints.len());
        }
        all.push(good);
    }
    Ok(all)
}

async fn lease(
    context: &Context,
    device: DeviceId,
    hand_back: &v1::HandBack,
) -> Result<Option<Lease>, Status> {
    let token = i64::try_from(hand_back.lease_token).unwrap_or(0);
    match context.store.lease(token, device).await {
        Ok((lease, _)) => Ok(Some(lease)),
        Err(Error::NotFound(_)) => {
            tracing::info!(%device, lease = token, "checkpoints of a lease that is no more were dropped");
            Ok(None)
        }
        Err(error) => Err(status::from_store(error)),
    }
}

async fn key(context: &Context, device: DeviceId) -> Result<VerifyingKey, Status> {
    let key = context.store.device_key(device).await.map_err(status::from_store)?;
    let key = key.and_then(|(_, key, _)| VerifyingKey::from_bytes(&key).ok());
    key.ok_or_else(|| status::unauthenticated("this device is not enrolled here"))
}

fn read(
    grid_id: &str,
    lease: &Lease,
    key: &VerifyingKey,
    checkpoint: &v1::Checkpoint,
) -> Result<Made, &'static str> {
    let v1::Checkpoint { index, steps, size_bytes, .. } = *checkpoint;
    if steps == 0 || i64::try_from(steps).is_err() {
        return Err("it names no possible number of steps");
    }
    if !lease.open.contains(&index) {
        return Err("its unit is not open in that lease");
    }
    let state = Digest::try_from(checkpoint.state_digest.as_slice());
    let blob = Digest::try_from(checkpoint.blob_digest.as_slice());
    let (Ok(state), Ok(blob)) = (state, blob) else { return Err("its digests are not 32 bytes") };
    let signature =
        Signature::from_slice(&checkpoint.signature).map_err(|_| "its signature is not 64 bytes")?;
    let signed = format!(
        "lull.v1 checkpoint\n{grid_id}\n{}\n{}\n{index}\n{steps}\n{state}\n{blob}",
        lease.job,
        lease.stage.code()
    );
    key.verify_strict(signed.as_bytes(), &signature)
        .map_err(|_| "its signature is not the device's over it")?;
    Ok(Made { index, steps, state, blob, size_bytes, signature: checkpoint.signature.clone() })
}

/// A checkpoint to go on from.
pub(super) fn message(index: u64, checkpoint: Checkpoint) -> v1::Checkpoint {
    v1::Checkpoint {
        index,
        steps: checkpoint.steps,
        state_digest: checkpoint.state.as_bytes().to_vec(),
        blob_digest: checkpoint.blob.as_bytes().to_vec(),
        size_bytes: checkpoint.size_bytes,
        signature: checkpoint.signature,
        maker_device_id: u64::try_from(checkpoint.device.0).unwrap_or(0),
    }
}
