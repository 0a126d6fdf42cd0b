//! Packets, written and read by hand, so that the engine's own code is not its own witness.

use std::net::IpAddr;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

/// What a TUN device hands over for a packet that is whole: ten zero bytes (a `virtio_net_hdr`), and the packet.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    [&[0; 10], packet].concat()
}

/// What it hands over for a TCP or UDP packet that is to be cut into segments of `size` bytes of data.
pub fn superframe(packet: &[u8], size: usize) -> Vec<u8> {
    let v6 = packet[0] >> 4 == 6;
    let (start, protocol) = if v6 { (40, packet[6]) } else { (20, packet[9]) };
    let (kind, header, sum_at) = match (protocol, v6) {
        (6, false) => (1, 20, 16),
        (6, true) => (4, 20, 16),
        _ => (5, 8, 6),
    };
    let mut frame = vec![1, kind];
    for number in [start + header, size, start, sum_at] {
        frame.extend((number as u16).to_ne_bytes());
    }
    frame.extend(packet);
    frame
}

/// An IP packet around a transport message, whose checksum is put at `sum_at` if any.
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, message: &[u8], sum_at: Option<usize>) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(at) = sum_at {
        let sum = checksum(&[&pseudo(from, to, protocol, message.len()), &message]);
        message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let mut packet = header(from, to, protocol, message.len());
    packet.extend_from_slice(&message);
    packet
}

fn header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header[2..4].copy_from_slice(&((20 + len) as u16).to_be_bytes());
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => panic!("two families"),
    }
}

pub fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub data: &'a [u8],
}

pub fn tcp(segment: Segment<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(segment.from.1.to_be_bytes());
    message.extend(segment.to.1.to_be_bytes());
    message.extend(segment.sequence.to_be_bytes());
    message.extend(segment.acknowledgement.to_be_bytes());
    message.extend([0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    message.extend(segment.data);
    ip(segment.from.0, segment.to.0, 6, &message, Some(16))
}

pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(from.1.to_be_bytes());
    message.extend(to.1.to_be_bytes());
    message.extend(((8 + data.len()) as u16).to_be_bytes());
    message.extend([0, 0]);
    message.extend(data);
    ip(from.0, to.0, 17, &message, Some(6))
}

/// An echo request or reply.
pub fn echo(from: IpAddr, to: IpAddr, request: bool, id: u16) -> Vec<u8> {
    let (protocol, kind) = match (from.is_ipv6(), request) {
        (false, true) => (1, 8),
        (false, false) => (1, 0),
        (true, true) => (58, 128),
        (true, false) => (58, 129),
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 1, 1, 2, 3, 4]);
    ip(from, to, protocol, &message, None)
}

/// An ICMP error about `quoted`; `rest` are bytes 4 to 8.
pub fn icmp_error(from: IpAddr, to: IpAddr, kind: u8, code: u8, rest: u32, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(quoted);
    ip(from, to, if from.is_ipv6() { 58 } else { 1 }, &message, None)
}

/// What a reset says, checked on the way: addresses and ports turned round, right checksums.
pub fn read_reset(packet: &[u8]) -> Option<(u16, u16, u32, u32)> {
    let v6 = packet[0] >> 4 == 6;
    let (header, protocol) = if v6 { (40, packet[6]) } else { (20, packet[9]) };
    if protocol != 6 || packet[header + 13] & RST == 0 {
        return None;
    }
    let (from, to) = ends(packet);
    assert_eq!(
        checksum(&[&pseudo(from, to, 6, packet.len() - header), &packet[header..]]),
        0,
        "TCP checksum"
    );
    if !v6 {
        assert_eq!(checksum(&[&packet[..20]]), 0, "IP checksum");
    }
    let u16_at = |at: usize| u16::from_be_bytes([packet[header + at], packet[header + at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
    Some((u16_at(0), u16_at(2), u32_at(4), u32_at(8)))
}

/// Type, code and quote of an ICMP error with a right checksum.
pub fn read_error(packet: &[u8]) -> Option<(u8, u8, Vec<u8>)> {
    let v6 = packet[0] >> 4 == 6;
    let (header, protocol) = if v6 { (40, packet[6]) } else { (20, packet[9]) };
    if protocol != if v6 { 58 } else { 1 } {
        return None;
    }
    let (from, to) = ends(packet);
    let pseudo = if v6 { pseudo(from, to, 58, packet.len() - header) } else { Vec::new() };
    assert_eq!(checksum(&[&pseudo, &packet[header..]]), 0, "ICMP checksum");
    Some((packet[header], packet[header + 1], packet[header + 8..].to_vec()))
}

pub fn ends(packet: &[u8]) -> (IpAddr, IpAddr) {
    if packet[0] >> 4 == 4 {
        let at = |i: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[i..i + 4]).unwrap());
        (at(12), at(16))
    } else {
        let at = |i: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[i..i + 16]).unwrap());
        (at(8), at(24))
    }
}
