//! Segments of one flow to one superpacket, in place: the run grows at the start of the arena, and the payload of
//! each segment that joins it is moved to its end.
//!
//! The property: a run could have been one superpacket of its sender (the rules of the kernel's own receive offload,
//! net/ipv4/{af_inet,tcp_offload,udp_offload}.c): splitting it gives back what came. Segments that differ in any
//! field that matters are never joined. Joining writes a new checksum, so a segment whose own does not hold
//! never joins and is never joined: it reaches the host as it came, and the host drops it.

use super::Layout;
use super::checksum::fold;
use super::vnet::{self, Protocol, VnetHeader};
use crate::limits::{MAX_MERGED_BYTES, MAX_MERGED_DATAGRAMS, MAX_SEGMENTS};
use crate::packet::Packet;
use crate::transport::Flags;
use std::ops::Range;

/// TCP flags of segments that can be joined; ACK must be there.
const JOINABLE: u8 = Flags::ACK | Flags::PSH | Flags::ECE;
/// "Do not fragment" among the flags of IPv4.
const DONT_FRAGMENT: u8 = 0x40;

/// Segments of one flow, merged so far. They are at the start of the bytes that each call is given.
pub(crate) struct Run {
    len: usize,
    segments: usize,
    /// What the first segment is, if it can be joined with others.
    first: Option<First>,
    /// Whether anything may still follow.
    open: bool,
}

/// What is remembered of the first segment.
#[derive(Clone, Copy)]
struct First {
    layout: Layout,
    /// Bytes of its payload.
    size: usize,
    /// Whether its checksums were looked at; only when a second segment is there to make it worth while.
    checked: bool,
}

impl Run {
    /// A run of the one packet at the start of `bytes`. Any packet may begin one; not every run can grow.
    pub(crate) fn begin(bytes: &[u8], packet: &Packet) -> Self {
        let first = joinable(packet, bytes).map(|layout| First {
            layout,
            size: packet.len - layout.headers,
            checked: false,
        });
        let open = first.is_some_and(|first| !pushes(first.layout, bytes));
        Self { len: packet.len, segments: 1, first, open }
    }

    /// Appends the packet at `next`, which lies behind the run, if the rules allow. `false`: nothing has changed.
    pub(crate) fn extend(&mut self, bytes: &mut [u8], next: Range<usize>, packet: &Packet) -> bool {
        let Some(first) = self.first.filter(|_| self.open) else { return false };
        let Some((run, behind)) = bytes.split_at_mut_checked(self.len) else { return false };
        let Some(segment) = next.start.checked_sub(self.len).and_then(|start| behind.get(start..)) else {
            return false;
        };
        let Some(layout) = joinable(packet, segment) else { return false };
        let size = packet.len - layout.headers;
        let follows = layout == first.layout
            && size <= first.size
            && self.len + size <= MAX_MERGED_BYTES
            && agree(layout, run, segment)
            && self.continues(layout, run, segment);
        if !follows || !self.first_holds(run) || !layout.holds(&segment[..packet.len]) {
            return false;
        }
        let pushed = pushes(layout, segment);
        if pushed {
            run[layout.transport + 13] |= Flags::PSH;
        }
        bytes.copy_within(next.start + layout.headers..next.start + packet.len, self.len);
        self.len += size;
        self.segments += 1;
        self.open = size == first.size && !pushed;
        true
    }

    /// Whether `segment` is the next one of its sender.
    fn continues(&self, layout: Layout, run: &[u8], segment: &[u8]) -> bool {
        let (in_sequence, most) = match layout.protocol {
            Protocol::Tcp => {
                let merged = (self.len - layout.headers) as u32;
                (sequence(layout, run).wrapping_add(merged) == sequence(layout, segment), MAX_SEGMENTS)
            }
            Protocol::Udp => (true, MAX_MERGED_DATAGRAMS),
        };
        // Splitting counts identifications up. Where fragmenting is forbidden they mean nothing, and receivers must
        // not look at them (RFC 6864, section 4.1).
        let id = |headers: &[u8]| u16::from_be_bytes([headers[4], headers[5]]);
        let identified = layout.v6
            || run[6] & DONT_FRAGMENT != 0
            || id(run).wrapping_add(self.segments as u16) == id(segment);
        in_sequence && identified && self.segments < most
    }

    /// Whether the checksums of the first segment hold. Asked once: while there is one segment.
    fn first_holds(&mut self, run: &[u8]) -> bool {
        let Some(first) = &mut self.first else { return false };
        if !first.checked {
            first.checked = true;
            self.open = first.layout.holds(run);
        }
        self.open
    }

    /// Bytes of the run.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Segments in the run.
    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// Writes the lengths and the sum of the pseudo header, and returns the header to hand the run to the kernel
    /// with. A run of one stays as it came.
    pub(crate) fn finish(self, bytes: &mut [u8]) -> VnetHeader {
        let (Some(First { layout, size, .. }), 2..) = (self.first, self.segments) else { return vnet::WHOLE };
        let Some(headers) = bytes.get_mut(..layout.headers) else { return vnet::WHOLE };
        layout.write_ip_length(headers, self.len);
        let len = self.len - layout.transport;
        let sum = fold(layout.pseudo_header(headers) + len as u64);
        let transport = &mut headers[layout.transport..];
        let at = layout.protocol.checksum_offset();
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        if layout.protocol == Protocol::Udp {
            transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        }
        vnet::write(layout, size)
    }
}

/// The layout of a packet that may be part of a run, as far as it can be told from it alone: a plain TCP segment with
/// data or a plain datagram with data and a checksum, without IPv4 options or IPv6 extension headers.
fn joinable(packet: &Packet, bytes: &[u8]) -> Option<Layout> {
    let layout = Layout::of(packet, bytes).filter(|layout| layout.is_plain())?;
    let transport = &bytes[layout.transport..layout.headers];
    let allowed = match layout.protocol {
        // The low half of byte 12: reserved bits and AE, of which no two segments need to mean the same.
        Protocol::Tcp => {
            transport[12] & 0x0f == 0 && transport[13] & !JOINABLE == 0 && transport[13] & Flags::ACK != 0
        }
        Protocol::Udp => transport[6..8] != [0, 0],
    };
    (allowed && packet.len > layout.headers).then_some(layout)
}

/// Whether the headers agree in all that splitting will copy. Both are of this layout.
fn agree(layout: Layout, a: &[u8], b: &[u8]) -> bool {
    let same = |range: Range<usize>| a[range.clone()] == b[range];
    let transport = layout.transport;
    let ip = if layout.v6 {
        // All but the length: class, flow label, next header, hop limit, addresses.
        same(0..4) && same(6..40)
    } else {
        // All but length, identification and checksum: TOS, flags, TTL, protocol, addresses.
        same(0..2) && same(6..10) && same(12..20)
    };
    let message = match layout.protocol {
        // All but sequence number, PSH and checksum: ports, acknowledgement, window, urgent pointer, options.
        Protocol::Tcp => {
            same(transport..transport + 4)
                && same(transport + 8..transport + 13)
                && (a[transport + 13] ^ b[transport + 13]) & !Flags::PSH == 0
                && same(transport + 14..transport + 16)
                && same(transport + 18..layout.headers)
        }
        Protocol::Udp => same(transport..transport + 4),
    };
    ip && message
}

/// Whether the sender wants this delivered and not waited upon.
fn pushes(layout: Layout, bytes: &[u8]) -> bool {
    layout.protocol == Protocol::Tcp && bytes[layout.transport + 13] & Flags::PSH != 0
}

fn sequence(layout: Layout, bytes: &[u8]) -> u32 {
    let at = layout.transport + 4;
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
