//! Superpackets: many segments of one flow behind one header, as the kernel hands them to us and takes them from
//! us through a TUN device with a vnet header. Pure functions over bytes; nothing is allocated.
//!
//! The property: what leaves is what the kernel would have cut had it done the work itself, and what is merged
//! could have been one superpacket of the sender. Nothing is ever joined that differs in any field that matters,
//! nothing with a checksum that does not hold, and nothing that our strict parse and the kernel's words about
//! it disagree on is cut.
//!
//! | file | holds |
//! |---|---|
//! | `vnet.rs` | the ten bytes in front of each packet: what the kernel asks, what we ask of it |
//! | `split.rs` | one superpacket to segments, in place |
//! | `merge.rs` | segments of one flow to one superpacket, in place |
//! | `checksum.rs` | the Internet checksum |

pub(crate) mod checksum;
pub(crate) mod merge;
pub(crate) mod split;
#[cfg(test)]
mod tests;
pub(crate) mod vnet;

pub use crate::packet::Malformed;
pub use split::Refused;
pub use vnet::{Protocol, Request, Segments, VNET_HEADER_BYTES, VnetHeader, WHOLE, read};

use crate::packet::{self, IPV4_HEADER, IPV6_HEADER, Packet};
use crate::transport::Transport;
use merge::Run;
use split::Split;

/// Where the headers of a TCP or UDP packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) v6: bool,
    pub(crate) protocol: Protocol,
    /// Where the transport header begins.
    pub(crate) transport: usize,
    /// Where it ends.
    pub(crate) headers: usize,
}

impl Layout {
    /// Of the packet at the start of `bytes`; `None` for fragments, other protocols, and a datagram that does not
    /// fill its packet.
    pub(crate) fn of(packet: &Packet, bytes: &[u8]) -> Option<Self> {
        if packet.fragment.is_some() || bytes.len() < packet.len {
            return None;
        }
        let transport = packet.payload;
        let (protocol, header) = match packet.transport {
            // At least 20, or the packet did not parse.
            Transport::Tcp(_) => (Protocol::Tcp, usize::from(bytes.get(transport + 12)? >> 4) * 4),
            Transport::Udp(_) => {
                let len = usize::from(packet::u16_at(bytes, transport + 4).ok()?);
                (Protocol::Udp, (transport + len == packet.len).then_some(8)?)
            }
            Transport::Sctp(_)
            | Transport::Echo(_)
            | Transport::Error(_)
            | Transport::OtherIcmp
            | Transport::Other
            | Transport::LaterFragment => return None,
        };
        let headers = transport + header;
        (headers <= packet.len).then_some(Self { v6: packet.source.is_ipv6(), protocol, transport, headers })
    }

    /// Whether nothing stands between the fixed IP header and the transport header.
    pub(crate) fn is_plain(self) -> bool {
        self.transport == if self.v6 { IPV6_HEADER } else { IPV4_HEADER }
    }

    /// The sum over the pseudo header without its length, from the addresses in `headers`.
    pub(crate) fn pseudo_header(self, headers: &[u8]) -> u64 {
        let addresses = if self.v6 { &headers[8..40] } else { &headers[12..20] };
        checksum::sum(addresses) + u64::from(self.protocol.number())
    }

    /// Whether the checksums of the packet `bytes` hold: of the IPv4 header, and of its segment or datagram.
    pub(crate) fn holds(self, bytes: &[u8]) -> bool {
        let pseudo_header = self.pseudo_header(bytes) + (bytes.len() - self.transport) as u64;
        (self.v6 || checksum::checksum(0, &bytes[..self.transport]) == 0)
            && checksum::checksum(pseudo_header, &bytes[self.transport..]) == 0
    }

    /// Writes how long the packet is that these headers begin, and the checksum of an IPv4 header.
    pub(crate) fn write_ip_length(self, headers: &mut [u8], len: usize) {
        if self.v6 {
            headers[4..6].copy_from_slice(&((len - IPV6_HEADER) as u16).to_be_bytes());
        } else {
            headers[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            headers[10..12].fill(0);
            let sum = checksum::checksum(0, &headers[..self.transport]);
            headers[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// Does with the packet at the start of `bytes` what `header` asks, for a path that carries packets of `mtu` bytes,
/// shows each packet that leaves, and says how many they are. A door for tests and fuzzing: the engine judges between the steps.
///
/// # Errors
///
/// [`Refused`]; nothing was shown.
pub fn split(
    bytes: &mut [u8],
    header: &VnetHeader,
    mtu: usize,
    mut segment: impl FnMut(&[u8]),
) -> Result<usize, Refused> {
    let request = read(header)?;
    let packet = packet::parse(bytes)?;
    let mut split = match request {
        Request::Segments(asked) => Split::new(&packet, bytes, asked, mtu)?,
        Request::Checksum { .. } | Request::Whole => {
            if let Request::Checksum { start, offset } = request {
                split::complete_checksum(&packet, bytes, start, offset)?;
            }
            if packet.len <= mtu {
                segment(&bytes[..packet.len]);
                return Ok(1);
            }
            Split::resegment_tcp(&packet, bytes, mtu)?
        }
    };
    while let Some(range) = split.next(bytes) {
        segment(&bytes[range]);
    }
    Ok(split.segments())
}

/// A packet for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// What it is told about it.
    pub header: VnetHeader,
    /// The packet.
    pub bytes: Vec<u8>,
    /// How many packets it was.
    pub segments: usize,
}

/// Merges what may be merged of packets that come one after the other, each with the header to hand it to the
/// kernel with; what does not parse is left out. A door for tests and fuzzing, which allocates: the engine merges
/// in the arena it decrypts into.
#[must_use]
pub fn merge(packets: &[&[u8]]) -> Vec<Merged> {
    let mut merged = Vec::new();
    let mut open: Option<(Run, Vec<u8>)> = None;
    let mut finish = |open: Option<(Run, Vec<u8>)>| {
        if let Some((run, mut arena)) = open {
            arena.truncate(run.len());
            let segments = run.segments();
            let header = run.finish(&mut arena);
            merged.push(Merged { header, bytes: arena, segments });
        }
    };
    for bytes in packets {
        let Ok(packet) = packet::parse(bytes) else { continue };
        if let Some((run, arena)) = &mut open {
            arena.truncate(run.len());
            arena.extend(*bytes);
            let next = run.len()..arena.len();
            if run.extend(arena, next, &packet) {
                continue;
            }
        }
        finish(open.replace((Run::begin(bytes, &packet), bytes.to_vec())));
    }
    finish(open);
    merged
}
