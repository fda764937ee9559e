//! Networks that devices call from: a unit is checked from elsewhere where that is possible.
//!
//! Owners who share a network may be one person with several names. It is a preference and no rule: a unit that nobody from
//! elsewhere takes goes out anyway, after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ids::OwnerId;
use super::slice::Wanted;

/// So long a unit waits for a checker from another network, in seconds: longer than it waits in any case, while leases of
/// two minutes are out, and not so long that one who asks and gets nothing holds a job up for much longer.
const NEAR_WAITS_SECS: u64 = 300;

/// A network: the first 24 bits of an IPv4 address, or the first 48 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(pub i64);

impl Network {
    /// The network of an address; none of one that says nothing, such as a loopback address.
    #[must_use]
    pub fn of(address: IpAddr) -> Option<Self> {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return None;
        }
        let (kind, octets): (i64, Vec<u8>) = match address {
            IpAddr::V4(address) => (4, address.octets()[..3].to_vec()),
            IpAddr::V6(address) => (6, address.octets()[..6].to_vec()),
        };
        Some(Self(octets.into_iter().fold(kind, |number, octet| number << 8 | i64::from(octet))))
    }
}

/// Who called from where lately: a hint.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// Of every owner that is known.
    pub known: BTreeMap<OwnerId, BTreeSet<Network>>,
    /// Owners of devices that would take work now.
    pub asking: BTreeSet<OwnerId>,
}

impl Networks {
    /// Whether anybody from another network asks for work.
    pub(super) fn asks_elsewhere(&self, network: Option<Network>) -> bool {
        let is_elsewhere = |owner: &OwnerId| {
            self.known.get(owner).is_some_and(|at| at.iter().any(|at| Some(*at) != network))
        };
        network.is_some() && self.asking.iter().any(is_elsewhere)
    }

    /// Whether a unit should rather go to somebody else than to a device on this network: another owner's that has
    /// answered it is on it too, somebody on another one is there, and it has not waited for long.
    pub(super) fn prefer_others(&self, network: Option<Network>, row: &Wanted) -> bool {
        let Some(network) = network.filter(|_| row.waited_secs < NEAR_WAITS_SECS) else { return false };
        let has_answered = |at: &Network| {
            row.excluded
                .iter()
                .any(|owner| self.known.get(owner).is_some_and(|networks| networks.contains(at)))
        };
        has_answered(&network)
            && self.asking.iter().filter(|owner| !row.excluded.contains(owner)).any(|owner| {
                self.known.get(owner).is_some_and(|networks| networks.iter().any(|at| !has_answered(at)))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_is() {
        let of = |address: &str| Network::of(address.parse().expect("an address"));
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"), "one address, written in two ways");
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:f::1"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        for says_nothing in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
            assert_eq!(of(says_nothing), None);
        }
    }
}
