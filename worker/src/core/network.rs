//! Whether sending costs, and what follows for leases and uploads.

use std::time::Instant;

use super::agent::{Agent, Progress};

/// The network, as far as the owner's settings care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Anything may be sent.
    Free,
    /// It costs by the byte, or is none of those that the owner has chosen: no modules, inputs or results over 4 KiB, no new work. Reports still go, they are small.
    Metered,
}

impl Agent {
    /// When the next upload is to be tried again; none is while the network costs.
    pub(super) fn upload_at(&self) -> Option<Instant> {
        let waiting = self.attempts.values().filter_map(|progress| match progress {
            Progress::UploadAt(_, at) => Some(*at),
            _ => None,
        });
        waiting.min().filter(|_| self.network == Network::Free)
    }

    /// Whether nothing is left to send but results that wait for another network. They are on disk.
    pub(super) fn only_waits_for_network(&self) -> bool {
        let waits = |progress: &Progress| matches!(progress, Progress::UploadAt(..));
        self.network == Network::Metered && self.hand_backs.is_empty() && self.attempts.values().all(waits)
    }
}
