//! The part of an address that one tenant holds, which is what limits are counted by.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(source: IpAddr) -> Self {
        Self(match source.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        })
    }
}
