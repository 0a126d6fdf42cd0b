//! What we tell our own host in place of a packet that does not leave, or a flow that ended: the application
//! learns at once instead of waiting for a timeout. Nothing here ever goes onto the wire.

use crate::Output;
use crate::flow::{Flow, FlowKey};
use crate::offload::checksum::{checksum, pseudo_header};
use crate::packet::{IPV4_HEADER, IPV6_HEADER, Packet, protocol};
use crate::tcp::{self, Reset};
use crate::transport::{Flags, Transport};
use bulkhead_acl::{Direction, Service};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// ICMP errors quote as much as fits in these (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4).
const MAX_ERROR_V4: usize = 576;
const MAX_ERROR_V6: usize = 1280;
const ICMP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const TTL: u8 = 64;

/// Why a packet did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Administratively prohibited.
    Prohibited,
    /// Larger than this MTU.
    TooBig(u16),
}

/// Whether telling needs the right to send one more ICMP error; resets do not.
pub(crate) fn is_reset(packet: &Packet, trouble: Trouble) -> bool {
    matches!((packet.transport, trouble), (Transport::Tcp(_), Trouble::Prohibited))
}

/// Answers `packet`, whose bytes are `bytes` and which our own host sent, in the name of its destination.
/// Resets, errors and later fragments get no answer (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
pub(crate) fn refuse(out: &mut Output, bytes: &[u8], packet: &Packet, trouble: Trouble) {
    match (packet.transport, trouble) {
        (Transport::Error(_) | Transport::OtherIcmp | Transport::LaterFragment, _) => {}
        (Transport::Tcp(segment), Trouble::Prohibited) => {
            if !segment.flags.has(Flags::RST) {
                let (from, to) = (packet.destination, packet.source);
                let ports = (segment.ports.destination, segment.ports.source);
                reset(out, from, to, ports, tcp::answer(&segment));
            }
        }
        (Transport::Echo(echo), _) if !echo.request => {}
        (
            Transport::Tcp(_)
            | Transport::Udp(_)
            | Transport::Sctp(_)
            | Transport::Echo(_)
            | Transport::Other,
            _,
        ) => error(out, packet.destination, packet.source, trouble, bytes),
    }
}

/// Tells our own host that a flow has ended. `remote` and `local` are the addresses of its family.
pub(crate) fn end_flow(out: &mut Output, key: &FlowKey, flow: &Flow, remote: IpAddr, local: IpAddr) {
    if let Service::Tcp(_) = flow.service {
        for numbers in flow.segments.resets() {
            reset(out, remote, local, (key.remote, key.local), numbers);
        }
        return;
    }
    // The error quotes a packet that our host might have sent: headers only.
    let mut quote = [0; IPV6_HEADER + 8];
    let header = write_ip(&mut quote, local, remote, key.protocol, 8);
    let transport = &mut quote[header..header + 8];
    if flow.service == Service::Echo {
        let (request, reply) = if key.v6 { (128, 129) } else { (8, 0) };
        transport[0] = if flow.direction == Direction::Outbound { request } else { reply };
        transport[4..6].copy_from_slice(&(key.local | key.remote).to_be_bytes());
    } else {
        transport[..2].copy_from_slice(&key.local.to_be_bytes());
        transport[2..4].copy_from_slice(&key.remote.to_be_bytes());
        transport[5] = 8;
    }
    error(out, remote, local, Trouble::Prohibited, &quote[..header + 8]);
}

/// Writes an inner UDP packet of `payload` and as many zeros as `padding` says into `room` and returns its
/// length.
pub(crate) fn write_udp(
    room: &mut [u8],
    from: IpAddr,
    to: IpAddr,
    port: u16,
    payload: &[u8],
    padding: usize,
) -> usize {
    let len = 8 + payload.len() + padding;
    let header = write_ip(room, from, to, protocol::UDP, len);
    let message = &mut room[header..header + len];
    message[..2].copy_from_slice(&port.to_be_bytes());
    message[2..4].copy_from_slice(&port.to_be_bytes());
    message[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    message[6..8].fill(0);
    message[8..8 + payload.len()].copy_from_slice(payload);
    message[8 + payload.len()..].fill(0);
    let sum = match checksum(pseudo_header(from, to, protocol::UDP, len), message) {
        // RFC 768: zero means "none".
        0 => u16::MAX,
        sum => sum,
    };
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    header + len
}

fn reset(out: &mut Output, from: IpAddr, to: IpAddr, (source, destination): (u16, u16), numbers: Reset) {
    let room = out.packet_room(IPV6_HEADER + TCP_HEADER);
    let header = write_ip(room, from, to, protocol::TCP, TCP_HEADER);
    let segment = &mut room[header..header + TCP_HEADER];
    segment.fill(0);
    segment[..2].copy_from_slice(&source.to_be_bytes());
    segment[2..4].copy_from_slice(&destination.to_be_bytes());
    segment[4..8].copy_from_slice(&numbers.sequence.to_be_bytes());
    segment[8..12].copy_from_slice(&numbers.acknowledgement.to_be_bytes());
    segment[12] = (TCP_HEADER as u8 / 4) << 4;
    segment[13] = Flags::RST | Flags::ACK;
    let sum = checksum(pseudo_header(from, to, protocol::TCP, TCP_HEADER), segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    out.commit_packet(header + TCP_HEADER);
}

fn error(out: &mut Output, from: IpAddr, to: IpAddr, trouble: Trouble, about: &[u8]) {
    let (header, max, protocol) = match from {
        IpAddr::V4(_) => (IPV4_HEADER, MAX_ERROR_V4, protocol::ICMP),
        IpAddr::V6(_) => (IPV6_HEADER, MAX_ERROR_V6, protocol::ICMPV6),
    };
    let quote = &about[..about.len().min(max - header - ICMP_HEADER)];
    let len = ICMP_HEADER + quote.len();
    let room = out.packet_room(header + len);
    write_ip(room, from, to, protocol, len);
    let message = &mut room[header..];
    message[..ICMP_HEADER].fill(0);
    let (kind, code) = match (from, trouble) {
        // RFC 792 and RFC 1812: communication administratively prohibited; fragmentation needed, MTU in bytes
        // 6 and 7.
        (IpAddr::V4(_), Trouble::Prohibited) => (3, 13),
        (IpAddr::V4(_), Trouble::TooBig(_)) => (3, 4),
        // RFC 4443: the same; packet too big, MTU in bytes 4 to 7.
        (IpAddr::V6(_), Trouble::Prohibited) => (1, 1),
        (IpAddr::V6(_), Trouble::TooBig(_)) => (2, 0),
    };
    message[..2].copy_from_slice(&[kind, code]);
    if let Trouble::TooBig(mtu) = trouble {
        message[6..8].copy_from_slice(&mtu.to_be_bytes());
    }
    message[ICMP_HEADER..].copy_from_slice(quote);
    let start = if from.is_ipv6() { pseudo_header(from, to, protocol, len) } else { 0 };
    let sum = checksum(start, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    out.commit_packet(header + len);
}

/// Writes an IP header for `len` bytes of payload and returns its length. Addresses are of one family: both
/// are those of one packet.
fn write_ip(room: &mut [u8], from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> usize {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_v4(room, from, to, protocol, len),
        (from, to) => write_v6(room, to_v6(from), to_v6(to), protocol, len),
    }
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn write_v4(room: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, protocol: u8, len: usize) -> usize {
    let header = &mut room[..IPV4_HEADER];
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((IPV4_HEADER + len) as u16).to_be_bytes());
    // Do not fragment, so that the identification may be zero (RFC 6864).
    header[6] = 0x40;
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum(0, header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    IPV4_HEADER
}

fn write_v6(room: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, protocol: u8, len: usize) -> usize {
    let header = &mut room[..IPV6_HEADER];
    header.fill(0);
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = TTL;
    header[8..24].copy_from_slice(&from.octets());
    header[24..40].copy_from_slice(&to.octets());
    IPV6_HEADER
}
