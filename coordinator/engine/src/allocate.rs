//! Overlay addresses. Node number n has address n of both ranges; numbers only go up, so an address never
//! passes from one node to another, not even after removal.

use bulkhead_identity::{OverlayAddrs, TrustDocument};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Number of the first node; those below are kept for services of the mesh itself.
pub(crate) const FIRST_INDEX: u32 = 10;
/// The end of the IPv4 range is kept: the resolver on every node's own interface is there.
const RESERVED_V4: u32 = 256;

/// The addresses of a node number, or `None` when the range has no such number.
pub(crate) fn addresses(document: &TrustDocument, index: u32) -> Option<OverlayAddrs> {
    let (v4, v4_length) = document.overlay_v4;
    let (v6, v6_length) = document.overlay_v6;
    let v4_size = 1u64.checked_shl(32u32.checked_sub(v4_length.into())?)?;
    let fits_v4 = u64::from(index) < v4_size.checked_sub(RESERVED_V4.into())?;
    let fits_v6 = u32::from(v6_length) <= 96;
    (index >= FIRST_INDEX && fits_v4 && fits_v6).then(|| OverlayAddrs {
        v6: Ipv6Addr::from_bits(v6.to_bits() | u128::from(index)),
        v4: Ipv4Addr::from_bits(v4.to_bits() | index),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::{Epoch, Timestamp, TrustDomain};

    fn document(v4_length: u8) -> TrustDocument {
        TrustDocument {
            version: Epoch(1),
            trust_domain: TrustDomain::parse("acme.example").unwrap(),
            roots: Vec::new(),
            operator_keys: Vec::new(),
            operator_threshold: 1,
            policy_keys: Vec::new(),
            policy_threshold: 1,
            sealed: Vec::new(),
            overlay_v6: ("fd00::".parse().unwrap(), 48),
            overlay_v4: ("100.64.0.0".parse().unwrap(), v4_length),
            issued: Timestamp(0),
            expires: Timestamp(u64::MAX),
        }
    }

    #[test]
    fn the_first_node_is_number_ten() {
        let first = addresses(&document(10), FIRST_INDEX).unwrap();
        assert_eq!(first.v4.to_string(), "100.64.0.10");
        assert_eq!(first.v6.to_string(), "fd00::a");
        assert_eq!(addresses(&document(10), FIRST_INDEX - 1), None);
    }

    #[test]
    fn the_last_block_of_the_range_is_never_assigned() {
        let size = 1u32 << 22;
        let last = addresses(&document(10), size - RESERVED_V4 - 1).unwrap();
        assert_eq!(last.v4.to_string(), "100.127.254.255");
        assert_eq!(addresses(&document(10), size - RESERVED_V4), None);
        assert_eq!(addresses(&document(10), u32::MAX), None);
    }

    #[test]
    fn a_range_too_small_assigns_nothing() {
        assert_eq!(addresses(&document(24), FIRST_INDEX), None);
        assert_eq!(addresses(&document(32), FIRST_INDEX), None);
    }
}
