//! One superpacket to segments, in place: the headers of each segment are written directly in front of its payload,
//! over the end of the payload before, which has been handed out and used. No payload byte moves.
//!
//! The property: the segments are those the kernel would have made (`tcp_gso_segment` and `__udp_gso_segment`,
//! net/ipv4/{tcp,udp}_offload.c), each whole, with right lengths and checksums, and none longer than its path
//! carries. What the kernel says of a superpacket agrees with our own strict reading of it, or nothing is cut.

use super::checksum::checksum;
use super::vnet::{Protocol, Segments};
use super::{Layout, Malformed};
use crate::limits::{MAX_SEGMENTS, MAX_SPLIT_HEADERS};
use crate::packet::Packet;
use crate::transport::Flags;
use std::ops::Range;

/// Flags of segments that can be cut. A superpacket has no others: SYN and RST end or begin a stream and stand for
/// themselves, and an urgent pointer counts from the sequence number of its own segment (Linux sends none in
/// superpackets: `tcp_write_xmit`).
const CUTTABLE: u8 = Flags::ACK | Flags::PSH | Flags::FIN | Flags::ECE | Flags::CWR;
/// What is said at the end of the data, so by the last segment only.
const LAST_ONLY: u8 = Flags::FIN | Flags::PSH;
/// Said once (RFC 3168, section 6.1.2), so by the first segment only.
const FIRST_ONLY: u8 = Flags::CWR;

/// TCP options that sign the segment they are in: MD5 (RFC 2385) and TCP-AO (RFC 5925).
const SIGNATURES: [u8; 2] = [19, 29];

/// Why a packet is not cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It says one thing about itself and is another.
    Malformed,
    /// It is longer than its path carries and cannot be cut without its sender.
    TooLong,
}

impl From<Malformed> for Refused {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed => Malformed.fmt(f),
            Self::TooLong => f.write_str("the packet is longer than its path carries"),
        }
    }
}

impl std::error::Error for Refused {}

/// A packet that is being cut. [`Split::next`] is to be given the bytes that it was made of, until it returns `None`.
pub(crate) struct Split {
    /// The headers of every segment, but for what differs: lengths, identification, sequence number, checksums.
    template: [u8; MAX_SPLIT_HEADERS],
    layout: Layout,
    /// Sum over the pseudo header without its length.
    pseudo_header: u64,
    size: usize,
    payload: usize,
    segments: usize,
    /// Segments handed out.
    next: usize,
}

impl Split {
    /// Cuts the superpacket `bytes`, read as `packet`, as the kernel asks.
    ///
    /// `mtu` is the longest packet that the path carries. Where the kernel asks for more, TCP is cut smaller: its
    /// sender believed in a longer path, and the stream does not depend on where it is cut. Datagrams are the
    /// application's own and are refused as [`Refused::TooLong`].
    pub(crate) fn new(packet: &Packet, bytes: &[u8], asked: Segments, mtu: usize) -> Result<Self, Refused> {
        let layout = Layout::of(packet, bytes).ok_or(Malformed)?;
        let agreed = (layout.protocol, layout.transport) == (asked.protocol, asked.checksum_start);
        if !agreed || asked.size == 0 {
            return Err(Refused::Malformed);
        }
        let size = asked.size.min(packet.len - layout.headers);
        let size = match layout.protocol {
            _ if layout.headers + size <= mtu => asked.size,
            Protocol::Tcp => room(layout, mtu)?,
            Protocol::Udp => return Err(Refused::TooLong),
        };
        Self::cut(layout, &bytes[..packet.len], size)
    }

    /// Cuts a TCP packet that is longer than the `mtu` of its path and whose checksum is complete.
    ///
    /// The receiver sees what its peer's own stack would have sent over a shorter path: the same bytes at the same
    /// sequence numbers, with the same acknowledgement, window and options (a repeated timestamp is what every
    /// superpacket's segments have). Refused as [`Refused::TooLong`] where that is not so: other protocols,
    /// segments with SYN, RST or URG, and what is signed as a whole (TCP-MD5, TCP-AO, and whatever stands in IPv6
    /// extension headers, such as AH). A packet whose checksums do not hold is malformed: ours would make it good.
    pub(crate) fn resegment_tcp(packet: &Packet, bytes: &[u8], mtu: usize) -> Result<Self, Refused> {
        let layout = Layout::of(packet, bytes).ok_or(Refused::TooLong)?;
        let bytes = &bytes[..packet.len];
        let extended = layout.v6 && !layout.is_plain();
        if layout.protocol == Protocol::Udp || extended || !is_free(&bytes[layout.transport..layout.headers])
        {
            return Err(Refused::TooLong);
        }
        if !layout.holds(bytes) {
            return Err(Refused::Malformed);
        }
        Self::cut(layout, bytes, room(layout, mtu)?)
    }

    fn cut(layout: Layout, bytes: &[u8], size: usize) -> Result<Self, Refused> {
        let mut template = [0; MAX_SPLIT_HEADERS];
        let headers = template.get_mut(..layout.headers).ok_or(Malformed)?;
        headers.copy_from_slice(&bytes[..layout.headers]);
        let transport = &mut headers[layout.transport..];
        if layout.protocol == Protocol::Tcp && !is_cuttable(transport[13]) {
            return Err(Refused::Malformed);
        }
        let checksum = layout.protocol.checksum_offset();
        transport[checksum..checksum + 2].fill(0);
        let payload = bytes.len() - layout.headers;
        let segments = payload.div_ceil(size).max(1);
        if segments > MAX_SEGMENTS {
            return Err(Refused::Malformed);
        }
        let pseudo_header = layout.pseudo_header(headers);
        Ok(Self { template, layout, pseudo_header, size, payload, segments, next: 0 })
    }

    /// How many segments the packet is cut into, those handed out included.
    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// Bytes of all segments together, headers included.
    pub(crate) fn bytes(&self) -> usize {
        self.payload + self.segments * self.layout.headers
    }

    /// Makes the next segment and says where in `bytes` it is.
    pub(crate) fn next(&mut self, bytes: &mut [u8]) -> Option<Range<usize>> {
        if self.next == self.segments {
            return None;
        }
        let start = self.next * self.size;
        let len = self.layout.headers + self.size.min(self.payload - start);
        let segment = bytes.get_mut(start..start + len)?;
        let headers = &mut segment[..self.layout.headers];
        headers.copy_from_slice(&self.template[..self.layout.headers]);
        if !self.layout.v6 {
            let id = u16::from_be_bytes([headers[4], headers[5]]).wrapping_add(self.next as u16);
            headers[4..6].copy_from_slice(&id.to_be_bytes());
        }
        self.layout.write_ip_length(headers, len);
        self.write_transport(&mut segment[self.layout.transport..], start);
        self.next += 1;
        Some(start..start + len)
    }

    /// Writes what is the segment's own into its transport header; its payload begins at `start` of the whole.
    fn write_transport(&self, message: &mut [u8], start: usize) {
        let len = message.len();
        match self.layout.protocol {
            Protocol::Tcp => {
                let first = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
                // Sequence numbers wrap, and 65,535 bytes fit (RFC 9293, section 3.4).
                message[4..8].copy_from_slice(&first.wrapping_add(start as u32).to_be_bytes());
                if self.next > 0 {
                    message[13] &= !FIRST_ONLY;
                }
                if self.next + 1 < self.segments {
                    message[13] &= !LAST_ONLY;
                }
            }
            Protocol::Udp => message[4..6].copy_from_slice(&(len as u16).to_be_bytes()),
        }
        let sum = checksum(self.pseudo_header + len as u64, message);
        write_checksum(message, self.layout.protocol, sum);
    }
}

/// Bytes of payload that fit behind these headers.
fn room(layout: Layout, mtu: usize) -> Result<usize, Refused> {
    mtu.checked_sub(layout.headers).filter(|room| *room > 0).ok_or(Refused::TooLong)
}

fn is_cuttable(flags: u8) -> bool {
    flags & !CUTTABLE == 0
}

/// Whether a segment with this TCP header means the same in pieces.
fn is_free(header: &[u8]) -> bool {
    let mut options = &header[20..];
    loop {
        match options {
            [] | [0, ..] => return is_cuttable(header[13]),
            [1, tail @ ..] => options = tail,
            [kind, len, ..]
                if *len >= 2 && usize::from(*len) <= options.len() && !SIGNATURES.contains(kind) =>
            {
                options = &options[usize::from(*len)..];
            }
            // Signed, or who knows what the receiver makes of it.
            _ => return false,
        }
    }
}

/// Writes a checksum into the transport header at the start of `message`.
fn write_checksum(message: &mut [u8], protocol: Protocol, sum: u16) {
    let sum = match (protocol, sum) {
        // RFC 768: zero means "none".
        (Protocol::Udp, 0) => u16::MAX,
        (Protocol::Udp | Protocol::Tcp, sum) => sum,
    };
    let at = protocol.checksum_offset();
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Completes the checksum of `bytes`, read as `packet`, whose field holds the sum of the pseudo header.
///
/// Only where the strict parse sees that checksum: elsewhere two bytes could change what was judged.
pub(crate) fn complete_checksum(
    packet: &Packet,
    bytes: &mut [u8],
    start: usize,
    offset: usize,
) -> Result<(), Malformed> {
    let layout = Layout::of(packet, bytes).ok_or(Malformed)?;
    if (start, offset) != (layout.transport, layout.protocol.checksum_offset()) {
        return Err(Malformed);
    }
    let message = &mut bytes[layout.transport..packet.len];
    let sum = checksum(0, message);
    write_checksum(message, layout.protocol, sum);
    Ok(())
}
