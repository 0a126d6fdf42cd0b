//! Address ranges of the overlay. A range has no bits beyond its prefix: it can be written in one way only.

use crate::keys::sha256;
use crate::{OverlayAddrs, TrustDomain};
use std::net::{Ipv4Addr, Ipv6Addr};

/// An IPv6 network and its prefix length.
pub type Range6 = (Ipv6Addr, u8);
/// An IPv4 network and its prefix length.
pub type Range4 = (Ipv4Addr, u8);

/// Unique local addresses (RFC 4193): every IPv6 overlay lies within.
const UNIQUE_LOCAL: Range6 = (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
/// Private and shared address space (RFC 1918, RFC 6598): every IPv4 overlay lies within one of these.
const PRIVATE: [Range4; 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// The deployment's default overlay ranges: a ULA /48 from the SHA-256 of the trust domain, and 100.64.0.0/10.
pub fn default_ranges(domain: &TrustDomain) -> (Range6, Range4) {
    let hash = sha256(format!("bulkhead ula{domain}").as_bytes());
    let mut v6 = [0; 16];
    v6[0] = 0xfd;
    v6[1..6].copy_from_slice(&hash[..5]);
    ((Ipv6Addr::from(v6), 48), (Ipv4Addr::new(100, 64, 0, 0), 10))
}

/// Whether `address` is in `range`; nothing is in a malformed range.
#[must_use]
pub fn contains_v6(range: Range6, address: Ipv6Addr) -> bool {
    is_range_v6(range) && network_v6(address, range.1) == Some(range.0.to_bits())
}

/// Whether `address` is in `range`; nothing is in a malformed range.
#[must_use]
pub fn contains_v4(range: Range4, address: Ipv4Addr) -> bool {
    is_range_v4(range) && network_v4(address, range.1) == Some(range.0.to_bits())
}

/// Whether both addresses are in their ranges.
pub(crate) fn contains(v6: Range6, v4: Range4, addresses: OverlayAddrs) -> bool {
    contains_v6(v6, addresses.v6) && contains_v4(v4, addresses.v4)
}

/// Whether an overlay may use these: well formed, and of addresses that are nobody else's on the Internet.
/// A range that reached further could take the host's default route, its loopback or its metadata service.
pub(crate) fn are_private(v6: Range6, v4: Range4) -> bool {
    let v6_private = is_range_v6(v6) && v6.1 >= UNIQUE_LOCAL.1 && contains_v6(UNIQUE_LOCAL, v6.0);
    let v4_private =
        is_range_v4(v4) && PRIVATE.iter().any(|private| v4.1 >= private.1 && contains_v4(*private, v4.0));
    v6_private && v4_private
}

pub(crate) fn is_range_v6(range: Range6) -> bool {
    network_v6(range.0, range.1) == Some(range.0.to_bits())
}

pub(crate) fn is_range_v4(range: Range4) -> bool {
    network_v4(range.0, range.1) == Some(range.0.to_bits())
}

fn network_v6(address: Ipv6Addr, prefix: u8) -> Option<u128> {
    let mask = match prefix {
        0 => 0,
        1..=128 => u128::MAX << (128 - prefix),
        _ => return None,
    };
    Some(address.to_bits() & mask)
}

fn network_v4(address: Ipv4Addr, prefix: u8) -> Option<u32> {
    let mask = match prefix {
        0 => 0,
        1..=32 => u32::MAX << (32 - prefix),
        _ => return None,
    };
    Some(address.to_bits() & mask)
}
