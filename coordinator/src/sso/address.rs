//! Which addresses a fetch may go to. Whoever writes an issuer's documents, or answers for its name in DNS, must not
//! be able to make this coordinator speak to its own machine or network (D12).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks inside, or nowhere: IANA's special-purpose registry, without what is reachable globally.
const INSIDE_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Carriers' networks, and Bulkhead's own overlay.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Also where clouds hand credentials to whoever asks.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];
const NOWHERE_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, reserved and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];
/// Loopback, unique local, link-local.
const INSIDE_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];
/// Within 2000::/3, the only part of IPv6 that is given out: protocols (Teredo among them), documentation, 6to4.
const NOWHERE_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// IPv4 behind NAT64 (RFC 6052): what a resolver of an IPv6-only network answers for IPv4-only names.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the internet.
    Outside,
    /// Private, loopback or link-local.
    Inside,
    /// Nothing can be fetched from there: multicast, unspecified, documentation, IPv4 written as IPv6.
    Nowhere,
}

/// Where `address` is.
#[must_use]
pub fn place(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => place_v4(address),
        IpAddr::V6(address) => place_v6(address),
    }
}

fn place_v4(address: Ipv4Addr) -> Place {
    let within = |networks: &[(Ipv4Addr, u32)]| networks.iter().any(|network| holds_v4(*network, address));
    match () {
        () if within(INSIDE_V4) => Place::Inside,
        () if within(NOWHERE_V4) => Place::Nowhere,
        () => Place::Outside,
    }
}

fn place_v6(address: Ipv6Addr) -> Place {
    let within = |networks: &[(Ipv6Addr, u32)]| networks.iter().any(|network| holds_v6(*network, address));
    if within(INSIDE_V6) {
        Place::Inside
    } else if holds_v6(NAT64, address) {
        let [.., a, b, c, d] = address.octets();
        place_v4(Ipv4Addr::new(a, b, c, d))
    } else if holds_v6(GLOBAL_V6, address) && !within(NOWHERE_V6) {
        Place::Outside
    } else {
        Place::Nowhere
    }
}

fn holds_v4((network, length): (Ipv4Addr, u32), address: Ipv4Addr) -> bool {
    (u32::from(network) ^ u32::from(address)).leading_zeros() >= length
}

fn holds_v6((network, length): (Ipv6Addr, u32), address: Ipv6Addr) -> bool {
    (u128::from(network) ^ u128::from(address)).leading_zeros() >= length
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn d12_only_addresses_of_the_internet_are_outside() {
        let outside =
            ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "223.255.255.255", "2606:4700::1"];
        let inside = ["10.0.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.31.255.255"];
        let inside = inside.iter().chain(&["192.168.1.1", "100.64.0.11", "::1", "fd5a::b", "fe80::1"]);
        let inside = inside.chain(&["64:ff9b::a00:1", "64:ff9b::a9fe:a9fe"]);
        let nowhere =
            ["0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::", "ff02::1", "2001:db8::1"];
        let nowhere =
            nowhere.iter().chain(&["::ffff:127.0.0.1", "::ffff:1.1.1.1", "::7f00:1", "2002:7f00:1::"]);
        let nowhere = nowhere.chain(&["2001::1", "64:ff9b::e000:1", "64:ff9b:1::1", "fec0::1", "4000::1"]);
        let check =
            |address: &str, expected| assert_eq!(place(address.parse().unwrap()), expected, "{address}");
        outside.iter().chain(&["64:ff9b::101:101"]).for_each(|address| check(address, Place::Outside));
        inside.for_each(|address| check(address, Place::Inside));
        nowhere.for_each(|address| check(address, Place::Nowhere));
    }
}
