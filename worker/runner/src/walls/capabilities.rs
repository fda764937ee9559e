//! No capability: a runner that root starts can do no more than anybody's.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Gives all of them up, for this thread and those that it starts.
pub(super) fn drop_all() -> Result<(), String> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|error| error.to_string())
}
