//! Reading an IP packet strictly, once. What the rest of the engine judges is what the host's own stack will
//! see.
//!
//! The property: for every packet that [`parse`] accepts, all lengths agree with the bytes, the transport
//! header is the one at the end of the header chain and lies wholly inside this packet, and there is one way
//! to read it. Whatever is ambiguous (a header chain that is too long, a source route, a length that lies) is
//! [`Malformed`]. Protocols that are not understood keep their number and are never taken for TCP or UDP by
//! position.

use crate::limits::MAX_EXTENSION_HEADERS;
use crate::transport::{self, Transport};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
}

pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
/// IPv4 options 131 and 137: loose and strict source route. They make the destination address a lie.
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// The packet says one thing about itself and is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the packet says one thing about itself and is another")
    }
}

impl std::error::Error for Malformed {}

/// One packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// The packet's own length; bytes behind it are padding.
    pub(crate) len: usize,
    /// The last header's protocol; for a later fragment, what the fragment header says.
    pub(crate) protocol: u8,
    /// Where the transport header begins, or what a later fragment carries.
    pub(crate) payload: usize,
    pub(crate) fragment: Option<Fragment>,
    pub(crate) transport: Transport,
}

/// A piece of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    /// First byte and length, counted from behind the unfragmentable part.
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) more: bool,
}

/// Reads the packet at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Packet, Malformed> {
    match bytes.first().ok_or(Malformed)? >> 4 {
        4 => parse_v4(bytes),
        6 => parse_v6(bytes),
        _ => Err(Malformed),
    }
}

/// The two addresses, for packets of which nothing more is known yet.
pub(crate) fn addresses(bytes: &[u8]) -> Result<(IpAddr, IpAddr), Malformed> {
    match bytes.first().ok_or(Malformed)? >> 4 {
        4 => Ok((address_v4(bytes, 12)?.into(), address_v4(bytes, 16)?.into())),
        6 => Ok((address_v6(bytes, 8)?.into(), address_v6(bytes, 24)?.into())),
        _ => Err(Malformed),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Packet, Malformed> {
    let header = v4_header_len(bytes)?;
    let len = usize::from(u16_at(bytes, 2)?);
    if len < header || len > bytes.len() {
        return Err(Malformed);
    }
    let bytes = &bytes[..len];
    check_v4_options(&bytes[IPV4_HEADER..header])?;
    let flags = u16_at(bytes, 6)?;
    let piece = Fragment {
        id: u32::from(u16_at(bytes, 4)?),
        offset: u32::from(flags & 0x1fff) * 8,
        len: (len - header) as u32,
        more: flags & 0x2000 != 0,
    };
    if flags & 0x8000 != 0 {
        return Err(Malformed);
    }
    let fragment = check_fragment(piece)?;
    let protocol = bytes[9];
    let transport = transport::parse(bytes, header, protocol, Family::V4, fragment)?;
    let (source, destination) = addresses(bytes)?;
    Ok(Packet { source, destination, len, protocol, payload: header, fragment, transport })
}

fn parse_v6(bytes: &[u8]) -> Result<Packet, Malformed> {
    let len = IPV6_HEADER + usize::from(u16_at(bytes, 4)?);
    if len > bytes.len() {
        return Err(Malformed);
    }
    let bytes = &bytes[..len];
    let (source, destination) = addresses(bytes)?;
    let chain = walk_chain(bytes)?;
    let transport = transport::parse(bytes, chain.end, chain.protocol, Family::V6, chain.fragment)?;
    Ok(Packet {
        source,
        destination,
        len,
        protocol: chain.protocol,
        payload: chain.end,
        fragment: chain.fragment,
        transport,
    })
}

/// Which of the two protocols a packet is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Where an IPv6 header chain ends.
pub(crate) struct Chain {
    pub(crate) protocol: u8,
    pub(crate) end: usize,
    pub(crate) fragment: Option<Fragment>,
}

/// Follows the extension headers of an IPv6 packet whose fixed header is inside `bytes`.
///
/// The chain of a first fragment must end inside it (RFC 7112). A routing header that has not been used up
/// would have us forward the packet: refused, of whatever type.
pub(crate) fn walk_chain(bytes: &[u8]) -> Result<Chain, Malformed> {
    let mut protocol = *bytes.get(6).ok_or(Malformed)?;
    let mut at = IPV6_HEADER;
    let mut fragment = None;
    for walked in 0..=MAX_EXTENSION_HEADERS {
        let size = match protocol {
            // RFC 8200, section 4.3: only directly behind the fixed header.
            protocol::HOP_BY_HOP if walked > 0 => return Err(Malformed),
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => extension_len(bytes, at)?,
            protocol::ROUTING => {
                let routing_type = *bytes.get(at + 2).ok_or(Malformed)?;
                let segments_left = *bytes.get(at + 3).ok_or(Malformed)?;
                if routing_type == 0 || segments_left != 0 {
                    return Err(Malformed);
                }
                extension_len(bytes, at)?
            }
            // RFC 4302, section 2.2: in units of four bytes, minus two.
            protocol::AUTHENTICATION => (usize::from(*bytes.get(at + 1).ok_or(Malformed)?) + 2) * 4,
            protocol::FRAGMENT => {
                let piece = read_fragment(bytes, at)?;
                if fragment.is_some() {
                    return Err(Malformed);
                }
                fragment = check_fragment(piece)?;
                8
            }
            _ => return Ok(Chain { protocol, end: at, fragment }),
        };
        if at + size > bytes.len() || walked == MAX_EXTENSION_HEADERS {
            return Err(Malformed);
        }
        protocol = bytes[at];
        at += size;
        if fragment.is_some_and(|piece: Fragment| piece.offset > 0) {
            return Ok(Chain { protocol, end: at, fragment });
        }
    }
    Err(Malformed)
}

fn extension_len(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    Ok((usize::from(*bytes.get(at + 1).ok_or(Malformed)?) + 1) * 8)
}

fn read_fragment(bytes: &[u8], at: usize) -> Result<Fragment, Malformed> {
    let position = u16_at(bytes, at + 2)?;
    let id = u32_at(bytes, at + 4)?;
    Ok(Fragment {
        id,
        offset: u32::from(position & 0xfff8),
        len: bytes.len().saturating_sub(at + 8) as u32,
        more: position & 1 != 0,
    })
}

/// `None` when the piece is the whole datagram (an "atomic" fragment, RFC 6946).
fn check_fragment(piece: Fragment) -> Result<Option<Fragment>, Malformed> {
    if piece.offset == 0 && !piece.more {
        return Ok(None);
    }
    let aligned = !piece.more || piece.len.is_multiple_of(8);
    if piece.len == 0 || !aligned || piece.offset + piece.len > u32::from(u16::MAX) {
        return Err(Malformed);
    }
    Ok(Some(piece))
}

/// The IPv4 header's length, if it is all there.
pub(crate) fn v4_header_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let header = usize::from(bytes.first().ok_or(Malformed)? & 0x0f) * 4;
    if header < IPV4_HEADER || header > bytes.len() {
        return Err(Malformed);
    }
    Ok(header)
}

fn check_v4_options(options: &[u8]) -> Result<(), Malformed> {
    let mut rest = options;
    loop {
        match rest {
            [] | [0, ..] => return Ok(()),
            [1, tail @ ..] => rest = tail,
            [kind, len, ..] if !SOURCE_ROUTES.contains(kind) && *len >= 2 => {
                rest = rest.get(usize::from(*len)..).ok_or(Malformed)?;
            }
            _ => return Err(Malformed),
        }
    }
}

fn address_v4(bytes: &[u8], at: usize) -> Result<Ipv4Addr, Malformed> {
    let octets: [u8; 4] = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(Malformed)?;
    Ok(octets.into())
}

fn address_v6(bytes: &[u8], at: usize) -> Result<Ipv6Addr, Malformed> {
    let octets: [u8; 16] = bytes.get(at..at + 16).and_then(|b| b.try_into().ok()).ok_or(Malformed)?;
    Ok(octets.into())
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => Ok(u16::from_be_bytes([a, b])),
        _ => Err(Malformed),
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(Malformed),
    }
}
