//! The same as `network.rs`, for Windows and macOS: nobody is asked there yet whether the network costs by the byte, so that it
//! counts as one that does not, which is what the owner is told.

use std::io;

use super::{Networks, Settings};
use crate::core::Network;

/// What is known of the network's price.
#[derive(Debug, Clone)]
pub struct Meter {
    detail: &'static str,
    is_metered: bool,
}

impl Meter {
    /// Of a network whose price does not matter.
    #[must_use]
    pub const fn unwatched() -> Self {
        Self { detail: "any may be used", is_metered: false }
    }

    /// Tells that it counts as free; where the owner has chosen some, as none of them.
    ///
    /// # Errors
    /// None here.
    #[allow(clippy::unnecessary_wraps, clippy::needless_pass_by_value, reason = "the same as elsewhere")]
    pub fn watch(settings: &Settings, tell: impl Fn(Network) + Send + 'static) -> io::Result<Self> {
        if settings.networks != Networks::Any {
            tell(Network::Metered);
            let detail = "its name is not known on this system: no work is asked for; see `networks`";
            return Ok(Self { detail, is_metered: true });
        }
        tell(Network::Free);
        Ok(Self {
            detail: "its price is not known on this system: it counts as not metered",
            is_metered: false,
        })
    }

    /// Whether it costs.
    #[must_use]
    pub const fn is_metered(&self) -> bool {
        self.is_metered
    }

    /// What is known, for the owner.
    #[must_use]
    pub fn detail(&self) -> String {
        self.detail.to_owned()
    }
}
