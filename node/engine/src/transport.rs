//! Reading what is behind the IP headers: ports, TCP flags, echo identifiers, and what an ICMP error quotes.

use crate::limits::{MIN_ANNOUNCED_MTU_V4, MIN_MTU};
use crate::packet::{
    Family, Fragment, IPV6_HEADER, Malformed, addresses, protocol, u16_at, u32_at, v4_header_len, walk_chain,
};
use std::net::IpAddr;

/// The transport header of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp(Tcp),
    Udp(Ports),
    Sctp(Ports),
    /// ICMP or ICMPv6 echo.
    Echo(Echo),
    /// An ICMP or ICMPv6 error of a kind that may be of use, and what it is about.
    Error(Quoted),
    /// Every other ICMP or ICMPv6 message: redirects, router and neighbour discovery, timestamps, nonsense.
    OtherIcmp,
    /// A protocol that has no ports for us.
    Other,
    /// Not the first fragment: there is no transport header here.
    LaterFragment,
}

/// Source and destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) source: u16,
    pub(crate) destination: u16,
}

/// What following a TCP flow needs of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) ports: Ports,
    pub(crate) flags: Flags,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    /// Sequence space the segment takes: its data, and one each for SYN and FIN.
    pub(crate) extent: u32,
}

/// The TCP flags byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const ECE: u8 = 0x40;
    pub(crate) const CWR: u8 = 0x80;

    pub(crate) fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    /// A segment that may open a connection: SYN, and none of ACK, FIN, RST.
    pub(crate) fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::FIN | Self::RST) == Self::SYN
    }

    /// Whether an honest stack can have sent this: NULL, XMAS and FIN scans have no ACK, and nobody opens and
    /// closes at once (RFC 9293, section 3.10.7).
    pub(crate) fn are_sane(self) -> bool {
        let some_sense = self.has(Self::ACK) || self.has(Self::SYN) || self.has(Self::RST);
        let contradicts = self.has(Self::SYN) && (self.has(Self::FIN) || self.has(Self::RST));
        some_sense && !contradicts
    }
}

/// An echo message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) request: bool,
    pub(crate) id: u16,
}

/// The packet that an ICMP error is about, as far as it is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) what: QuotedTransport,
}

/// What an ICMP error quotes of the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotedTransport {
    Ports(Ports),
    Echo(Echo),
    Other,
}

/// Reads the transport header at `at` of a packet that ends with `bytes`.
pub(crate) fn parse(
    bytes: &[u8],
    at: usize,
    protocol: u8,
    family: Family,
    fragment: Option<Fragment>,
) -> Result<Transport, Malformed> {
    if fragment.is_some_and(|piece| piece.offset > 0) {
        return Ok(Transport::LaterFragment);
    }
    match (protocol, family) {
        (protocol::TCP, _) => parse_tcp(bytes, at),
        (protocol::UDP, _) => parse_udp(bytes, at, fragment.is_some()),
        (protocol::SCTP, _) if bytes.len() < at + 12 => Err(Malformed),
        (protocol::SCTP, _) => Ok(Transport::Sctp(ports(bytes, at)?)),
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
            parse_icmp(bytes, at, family, fragment.is_some())
        }
        _ => Ok(Transport::Other),
    }
}

fn ports(bytes: &[u8], at: usize) -> Result<Ports, Malformed> {
    Ok(Ports { source: u16_at(bytes, at)?, destination: u16_at(bytes, at + 2)? })
}

fn parse_tcp(bytes: &[u8], at: usize) -> Result<Transport, Malformed> {
    let header = usize::from(bytes.get(at + 12).ok_or(Malformed)? >> 4) * 4;
    if header < 20 || at + header > bytes.len() {
        return Err(Malformed);
    }
    let flags = Flags(bytes[at + 13]);
    let data = (bytes.len() - at - header) as u32;
    Ok(Transport::Tcp(Tcp {
        ports: ports(bytes, at)?,
        flags,
        sequence: u32_at(bytes, at + 4)?,
        acknowledgement: u32_at(bytes, at + 8)?,
        extent: data + u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN)),
    }))
}

fn parse_udp(bytes: &[u8], at: usize, fragmented: bool) -> Result<Transport, Malformed> {
    let len = usize::from(u16_at(bytes, at + 4)?);
    let present = bytes.len().saturating_sub(at);
    if len < 8 || present < 8 || (!fragmented && len > present) {
        return Err(Malformed);
    }
    Ok(Transport::Udp(ports(bytes, at)?))
}

fn parse_icmp(bytes: &[u8], at: usize, family: Family, fragmented: bool) -> Result<Transport, Malformed> {
    let message = bytes.get(at..).filter(|message| message.len() >= 8).ok_or(Malformed)?;
    let (kind, code) = (message[0], message[1]);
    if let Some(request) = echo_kind(kind, code, family) {
        return Ok(Transport::Echo(Echo { request, id: u16_at(message, 4)? }));
    }
    if fragmented || !is_useful_error(message, family) {
        return Ok(Transport::OtherIcmp);
    }
    Ok(parse_quoted(&message[8..], family).map_or(Transport::OtherIcmp, Transport::Error))
}

/// `Some(true)` for an echo request, `Some(false)` for a reply.
fn echo_kind(kind: u8, code: u8, family: Family) -> Option<bool> {
    match (family, kind, code) {
        (Family::V4, 8, 0) | (Family::V6, 128, 0) => Some(true),
        (Family::V4, 0, 0) | (Family::V6, 129, 0) => Some(false),
        _ => None,
    }
}

/// Unreachable, too big, time exceeded, parameter problem. Redirects and source quench are not: they would
/// let a peer steer our host. Nor is a path MTU that no overlay path can have (CVE-2004-1060 and its kin).
fn is_useful_error(message: &[u8], family: Family) -> bool {
    match (family, message[0], message[1]) {
        (Family::V4, 3, 4) => u16::from_be_bytes([message[6], message[7]]) >= MIN_ANNOUNCED_MTU_V4,
        (Family::V4, 3 | 11 | 12, _) => true,
        (Family::V6, 2, _) => {
            u32::from_be_bytes([message[4], message[5], message[6], message[7]]) >= u32::from(MIN_MTU)
        }
        (Family::V6, 1 | 3 | 4, _) => true,
        _ => false,
    }
}

/// Reads a quoted packet, which may be cut short behind the first eight bytes of its transport header.
fn parse_quoted(bytes: &[u8], family: Family) -> Result<Quoted, Malformed> {
    let version = bytes.first().ok_or(Malformed)? >> 4;
    let (protocol, at) = match (family, version) {
        (Family::V4, 4) => {
            let header = v4_header_len(bytes)?;
            if u16_at(bytes, 6)? & 0x1fff != 0 {
                return Err(Malformed);
            }
            (bytes[9], header)
        }
        (Family::V6, 6) if bytes.len() >= IPV6_HEADER => {
            let chain = walk_chain(bytes)?;
            if chain.fragment.is_some_and(|piece| piece.offset > 0) {
                return Err(Malformed);
            }
            (chain.protocol, chain.end)
        }
        _ => return Err(Malformed),
    };
    let (source, destination) = addresses(bytes)?;
    let what = match (protocol, family) {
        (protocol::TCP | protocol::UDP | protocol::SCTP, _) => {
            QuotedTransport::Ports(ports(quoted_header(bytes, at)?, 0)?)
        }
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
            let header = quoted_header(bytes, at)?;
            let request = echo_kind(header[0], header[1], family).ok_or(Malformed)?;
            QuotedTransport::Echo(Echo { request, id: u16_at(header, 4)? })
        }
        _ => QuotedTransport::Other,
    };
    Ok(Quoted { source, destination, protocol, what })
}

/// Every error quotes at least eight bytes behind the IP header (RFC 792).
fn quoted_header(bytes: &[u8], at: usize) -> Result<&[u8], Malformed> {
    bytes.get(at..at + 8).ok_or(Malformed)
}
