//! Addresses that never travel inside the overlay, whatever a certificate, a route or a packet says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Multicast, broadcast, loopback, link-local, unspecified, mapped and translated addresses: each of them
/// means something to the host that receives it which no certificate can vouch for.
#[must_use]
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => is_forbidden_v6(v6),
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved with the broadcast address at its end.
    first == 0 || first >= 240 || address.is_loopback() || address.is_link_local() || address.is_multicast()
}

fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let compatible_or_unspecified = s[..6] == [0; 6];
    let mapped = s[..6] == [0, 0, 0, 0, 0, 0xffff];
    let nat64 = s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || s[..3] == [0x64, 0xff9b, 1];
    let six_to_four = s[0] == 0x2002;
    let teredo = s[..2] == [0x2001, 0];
    // fe80::/10 and the deprecated site-local fec0::/10.
    let local = s[0] & 0xff80 == 0xfe80;
    compatible_or_unspecified || mapped || nat64 || six_to_four || teredo || local || address.is_multicast()
}

/// Whether datagrams may be sent there: a unicast address of the underlay with a port.
#[must_use]
pub(crate) fn is_usable_endpoint(endpoint: SocketAddr) -> bool {
    let unusable = match endpoint.ip() {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240 || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast() || v6.to_ipv4_mapped().is_some(),
    };
    endpoint.port() != 0 && !unusable
}

/// Whether `address` lies in `network/length`.
#[must_use]
pub(crate) fn in_v4(address: Ipv4Addr, (network, length): (Ipv4Addr, u8)) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
    u32::from(address) & mask == u32::from(network) & mask
}

/// Whether `address` lies in `network/length`.
#[must_use]
pub(crate) fn in_v6(address: Ipv6Addr, (network, length): (Ipv6Addr, u8)) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
    u128::from(address) & mask == u128::from(network) & mask
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_unicast_travels_in_the_overlay() {
        for forbidden in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:100.64.0.10",
            "64:ff9b::6440:a",
            "64:ff9b:1::1",
            "2002:6440:a::1",
            "2001:0:1::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(is_forbidden(forbidden.parse().unwrap()), "{forbidden}");
        }
        for fine in ["100.64.0.10", "10.0.0.1", "192.168.1.1", "fd00::10", "2001:db8::1"] {
            assert!(!is_forbidden(fine.parse().unwrap()), "{fine}");
        }
    }

    #[test]
    fn prefixes_of_every_length_hold_their_own_address_and_not_its_neighbours() {
        let v4: Ipv4Addr = "100.64.0.0".parse().unwrap();
        assert!(in_v4("100.127.255.255".parse().unwrap(), (v4, 10)));
        assert!(!in_v4("100.128.0.0".parse().unwrap(), (v4, 10)));
        assert!(in_v4("8.8.8.8".parse().unwrap(), (v4, 0)));
        assert!(in_v4(v4, (v4, 32)) && !in_v4("100.64.0.1".parse().unwrap(), (v4, 32)));
        let v6: Ipv6Addr = "fd12:3456:789a::".parse().unwrap();
        assert!(in_v6("fd12:3456:789a:ffff::1".parse().unwrap(), (v6, 48)));
        assert!(!in_v6("fd12:3456:789b::1".parse().unwrap(), (v6, 48)));
        assert!(in_v6("::1".parse().unwrap(), (v6, 0)));
    }
}
