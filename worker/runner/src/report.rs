//! What the runner says of a wall.

use lull_sandbox::{Standing, Wall, WallReport};

/// Bytes of a reason; a frame with all of them stays small.
const REASON_BYTES_MAX: usize = 200;

/// Says that a wall stands, or why not.
pub(crate) fn report(wall: Wall, result: Result<(), String>) -> WallReport {
    let standing = match result {
        Ok(()) => Standing::Stands,
        Err(mut reason) => {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            Standing::Missing { reason }
        }
    };
    WallReport { wall, standing }
}
