//! The vnet header: ten bytes in front of each packet of a TUN device opened with `IFF_VNET_HDR`
//! (include/uapi/linux/virtio_net.h, `struct virtio_net_hdr`), its numbers in the host's order.
//!
//! The property: a request that is not wholly understood is [`Malformed`]. `hdr_len` is never read: on forwarded
//! packets the kernel's value is wrong.

use super::Layout;
use crate::packet::{Malformed, protocol};

/// Length of the vnet header.
pub const VNET_HEADER_BYTES: usize = 10;
/// The vnet header.
pub type VnetHeader = [u8; VNET_HEADER_BYTES];

/// The header of a packet that is one packet and complete.
pub const WHOLE: VnetHeader = [0; VNET_HEADER_BYTES];

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;
/// Says that the first segment may carry CWR; the TCP header says so too.
const GSO_ECN: u8 = 0x80;

/// What a superpacket is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A stream: where it is cut does not matter to the application.
    Tcp,
    /// Datagrams: each is the application's own.
    Udp,
}

impl Protocol {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    /// Where in the transport header the checksum is.
    pub(crate) fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// What the kernel leaves to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    Whole,
    /// The checksum over everything from `start` on, at `start + offset`, where the sum of the pseudo header is.
    Checksum {
        /// Where the transport header begins.
        start: usize,
        /// Where in it the checksum is.
        offset: usize,
    },
    /// Cutting, and every checksum.
    Segments(Segments),
}

/// How a superpacket is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Bytes of payload in each segment but the last, which may have fewer.
    pub size: usize,
    /// What the segments are.
    pub protocol: Protocol,
    /// Where the transport header begins.
    pub checksum_start: usize,
}

/// Reads the vnet header that the kernel put in front of a packet.
///
/// # Errors
///
/// [`Malformed`] for what the kernel was not asked to send: unknown flags and kinds of segmentation, UDP
/// fragmentation (UFO), segmentation without checksums or of nothing.
pub fn read(header: &VnetHeader) -> Result<Request, Malformed> {
    let [flags, kind, _, _, size @ .., s0, s1, o0, o1] = *header;
    let size = usize::from(u16::from_ne_bytes(size));
    let start = usize::from(u16::from_ne_bytes([s0, s1]));
    let offset = usize::from(u16::from_ne_bytes([o0, o1]));
    if flags & !(NEEDS_CHECKSUM | DATA_VALID) != 0 {
        return Err(Malformed);
    }
    let needs_checksum = flags & NEEDS_CHECKSUM != 0;
    let protocol = match kind & !GSO_ECN {
        GSO_NONE if kind == GSO_NONE && needs_checksum => return Ok(Request::Checksum { start, offset }),
        GSO_NONE if kind == GSO_NONE => return Ok(Request::Whole),
        GSO_TCP_V4 | GSO_TCP_V6 => Protocol::Tcp,
        GSO_UDP => Protocol::Udp,
        _ => return Err(Malformed),
    };
    if !needs_checksum || size == 0 || offset != protocol.checksum_offset() {
        return Err(Malformed);
    }
    Ok(Request::Segments(Segments { size, protocol, checksum_start: start }))
}

/// The header that asks the kernel to take a packet for segments of `size` bytes, and to finish their checksums.
pub(crate) fn write(layout: Layout, size: usize) -> VnetHeader {
    let kind = match (layout.protocol, layout.v6) {
        (Protocol::Tcp, false) => GSO_TCP_V4,
        (Protocol::Tcp, true) => GSO_TCP_V6,
        (Protocol::Udp, _) => GSO_UDP,
    };
    let mut header = [NEEDS_CHECKSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    let numbers = [layout.headers, size, layout.transport, layout.protocol.checksum_offset()];
    for (field, number) in header[2..].chunks_exact_mut(2).zip(numbers) {
        // All are within one packet, which has at most 65,535 bytes.
        field.copy_from_slice(&(number as u16).to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, kind: u8, size: u16, start: u16, offset: u16) -> VnetHeader {
        let mut header = [flags, kind, 0xff, 0xff, 0, 0, 0, 0, 0, 0];
        for (field, number) in header[4..].chunks_exact_mut(2).zip([size, start, offset]) {
            field.copy_from_slice(&number.to_ne_bytes());
        }
        header
    }

    #[test]
    fn what_the_kernel_asks_is_read() {
        assert_eq!(read(&WHOLE), Ok(Request::Whole));
        assert_eq!(read(&header(2, 0, 0, 20, 6)), Ok(Request::Whole), "checksum known to be right");
        assert_eq!(read(&header(1, 0, 0, 20, 6)), Ok(Request::Checksum { start: 20, offset: 6 }));
        for (kind, protocol, offset) in [
            (1, Protocol::Tcp, 16),
            (4, Protocol::Tcp, 16),
            (0x81, Protocol::Tcp, 16),
            (0x84, Protocol::Tcp, 16),
            (5, Protocol::Udp, 6),
        ] {
            let asked = Segments { size: 1360, protocol, checksum_start: 40 };
            assert_eq!(read(&header(1, kind, 1360, 40, offset)), Ok(Request::Segments(asked)));
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        for refused in [
            header(0, 1, 1360, 20, 16), // segments without checksums
            header(1, 1, 0, 20, 16),    // segments of nothing
            header(1, 1, 1360, 20, 6),  // a TCP checksum where UDP has it
            header(1, 5, 1360, 20, 16), // and the reverse
            header(1, 3, 1360, 20, 6),  // UFO
            header(1, 2, 1360, 20, 16), // unknown kinds
            header(1, 0x80, 0, 20, 16),
            header(1, 0x21, 1360, 20, 16),
            header(4, 0, 0, 20, 16), // an unknown flag
        ] {
            assert_eq!(read(&refused), Err(Malformed), "{refused:02x?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for v6 in [false, true] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let layout = Layout { v6, protocol, transport: 40, headers: 72 };
                let asked = Segments { size: 1348, protocol, checksum_start: 40 };
                assert_eq!(read(&write(layout, 1348)), Ok(Request::Segments(asked)));
            }
        }
    }
}
