//! IP packets for targets: written plainly, and read by a second, smaller reader than the engine's own, which
//! knows only packets without options, extension headers and fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_acl::Service;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// A plain packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) what: What,
}

/// What a plain packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// What the policy is asked, and the ports that make the flow.
    Service {
        service: Service,
        source_port: u16,
    },
    EchoReply,
    OtherIcmp,
}

/// A piece of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) datagram: (IpAddr, u8, u32),
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) more: bool,
}

/// The length that the IP header states.
pub(super) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? >> 4 {
        4 => Some(usize::from(u16_at(bytes, 2)?)),
        6 => Some(40 + usize::from(u16_at(bytes, 4)?)),
        _ => None,
    }
}

/// Source and destination.
pub(super) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    match bytes.first()? >> 4 {
        4 => Some((v4(12)?, v4(16)?)),
        6 => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}

/// Reads a plain packet; `None` for anything less simple.
pub(super) fn plain(bytes: &[u8]) -> Option<Plain> {
    let (source, destination) = addresses(bytes)?;
    let (protocol, at) = match bytes[0] >> 4 {
        4 if bytes[0] == 0x45 && u16_at(bytes, 6)? & 0x3fff == 0 => (bytes[9], 20),
        6 if ![0, 43, FRAGMENT, 51, 60].contains(&bytes[6]) => (bytes[6], 40),
        _ => return None,
    };
    let port = |at| u16_at(bytes, at);
    let what = match (protocol, source.is_ipv6()) {
        (TCP, _) => What::Service { service: Service::Tcp(port(at + 2)?), source_port: port(at)? },
        (UDP, _) => What::Service { service: Service::Udp(port(at + 2)?), source_port: port(at)? },
        (132, _) => What::Service { service: Service::Sctp(port(at + 2)?), source_port: port(at)? },
        (1, false) | (58, true) => match (source.is_ipv6(), *bytes.get(at)?, *bytes.get(at + 1)?) {
            (false, 8, 0) | (true, 128, 0) => What::Service { service: Service::Echo, source_port: 0 },
            (false, 0, 0) | (true, 129, 0) => What::EchoReply,
            _ => What::OtherIcmp,
        },
        (other, _) => What::Service { service: Service::Ip(other), source_port: 0 },
    };
    Some(Plain { source, destination, what })
}

/// Reads a fragment whose fragment header, if any, is the first; not a whole datagram.
pub(super) fn piece(bytes: &[u8]) -> Option<Piece> {
    let (source, _) = addresses(bytes)?;
    let (datagram, at, start, more) = match bytes[0] >> 4 {
        4 => {
            let flags = u16_at(bytes, 6)?;
            let id = u32::from(u16_at(bytes, 4)?);
            let header = usize::from(bytes[0] & 0x0f) * 4;
            ((source, bytes[9], id), header, usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0)
        }
        _ if bytes[6] == FRAGMENT => {
            let position = u16_at(bytes, 42)?;
            let id = u32::from_be_bytes(bytes.get(44..48)?.try_into().ok()?);
            ((source, 0, id), 48, usize::from(position & 0xfff8), position & 1 != 0)
        }
        _ => return None,
    };
    let end = start + bytes.len().checked_sub(at)?;
    (start > 0 || more).then_some(Piece { datagram, start, end, more })
}

/// A packet with this payload, without options.
pub(super) fn packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => v4(source, destination, protocol, 0, payload),
        (IpAddr::V6(source), IpAddr::V6(destination)) => v6(source, destination, protocol, payload),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("two families in one packet")
        }
    }
}

/// An IPv4 packet; `flags` are the flags and fragment offset.
pub(super) fn v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    flags: u16,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut bytes = vec![0x45, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    let sum = checksum(&bytes, 0);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([protocol, 64]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(payload);
    bytes
}

pub(super) fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut bytes = ports(source, destination);
    bytes.extend([0, 0, 0, 1, 0, 0, 0, if flags & ACK == 0 { 0 } else { 2 }]);
    bytes.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    bytes
}

pub(super) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ports(source, destination);
    bytes.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// What an engine tells its own host in place of a packet: a whole, correct packet to us, an ICMP error or a reset.
pub(super) fn assert_is_answer(bytes: &[u8], us: &[IpAddr; 2]) {
    assert!(
        bytes.len() <= 1280 && claimed_len(bytes) == Some(bytes.len()),
        "its length is not the one it states"
    );
    let (source, destination) = addresses(bytes).unwrap();
    assert!(us.contains(&destination), "an answer for {destination}");
    let (protocol, at) = if destination.is_ipv6() { (bytes[6], 40) } else { (bytes[9], 20) };
    if destination.is_ipv4() {
        assert_eq!(checksum(&bytes[..20], 0), 0, "IPv4 header checksum");
    }
    let pseudo = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) if protocol == TCP => {
            sum(&source.octets()) + sum(&destination.octets())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        _ => 0,
    };
    let length = if pseudo == 0 { 0 } else { (bytes.len() - at) as u32 + u32::from(protocol) };
    assert_eq!(checksum(&bytes[at..], pseudo + length), 0, "transport checksum");
    match (destination.is_ipv6(), protocol) {
        (_, TCP) => assert!(bytes[at + 13] & RST != 0, "not a reset"),
        (false, 1) => assert_eq!(bytes[at], 3, "not an error"),
        (true, 58) => assert!([1, 2].contains(&bytes[at]), "not an error"),
        (_, other) => panic!("an answer of protocol {other}"),
    }
}

/// Whether the checksum of the IPv4 header holds, and that of the TCP or UDP message at `at`.
pub(super) fn sums_hold(bytes: &[u8], at: usize, protocol: u8) -> bool {
    (bytes[0] >> 4 == 6 || checksum(&bytes[..usize::from(bytes[0] & 0x0f) * 4], 0) == 0)
        && checksum(&bytes[at..], pseudo_header(bytes, at, protocol)) == 0
}

/// Gives a TCP or UDP packet without options and extension headers the checksums of its bytes.
pub(super) fn mend(bytes: &mut [u8]) {
    let Some(bytes) = claimed_len(bytes).and_then(|len| bytes.get_mut(..len)) else { return };
    let v6 = bytes.first().is_some_and(|first| first >> 4 == 6);
    let (protocol_at, at) = if v6 { (6, 40) } else { (9, 20) };
    let (protocol, sum_at) = match bytes.get(protocol_at) {
        Some(&TCP) => (TCP, at + 16),
        Some(&UDP) => (UDP, at + 6),
        _ => return,
    };
    if bytes.len() < sum_at + 2 {
        return;
    }
    if !v6 {
        bytes[10..12].fill(0);
        let sum = checksum(&bytes[..20], 0);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    bytes[sum_at..sum_at + 2].fill(0);
    let sum = checksum(&bytes[at..], pseudo_header(bytes, at, protocol));
    bytes[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The sum over the pseudo header of the message at `at`, which ends with the packet.
fn pseudo_header(bytes: &[u8], at: usize, protocol: u8) -> u32 {
    let addresses = if bytes[0] >> 4 == 6 { &bytes[8..40] } else { &bytes[12..20] };
    sum(addresses) + (bytes.len() - at) as u32 + u32::from(protocol)
}

/// The Internet checksum (RFC 1071) over `bytes` and what was summed before.
pub(super) fn checksum(bytes: &[u8], before: u32) -> u16 {
    let mut total = before + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
