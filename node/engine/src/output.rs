//! What the engine wants sent: datagrams for the UDP socket, packets for the TUN device.
//!
//! One arena each, reused from batch to batch, so that a warm data thread allocates nothing per packet: bytes
//! are decrypted and encrypted straight into their place. A packet is visible only after it was committed;
//! what was decrypted and then refused is overwritten by the next one and never seen.

use std::net::SocketAddr;
use std::ops::Range;

/// Reusable buffers for the results of engine calls.
///
/// - *Read* with [`Output::datagrams`] and [`Output::packets`], in the order they were made.
/// - *Reuse* with [`Output::clear`]; the memory stays.
#[derive(Default)]
pub struct Output {
    datagrams: Arena,
    destinations: Vec<SocketAddr>,
    packets: Arena,
    /// Where a plaintext is padded before it is encrypted.
    pub(crate) scratch: Vec<u8>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the bytes: they are people's traffic.
        write!(f, "Output({} datagrams, {} packets)", self.destinations.len(), self.packets.ranges.len())
    }
}

impl Output {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Datagrams for the UDP socket, with their destinations.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.destinations.iter().copied().zip(self.datagrams.iter())
    }

    /// IP packets for the TUN device.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty() && self.packets.ranges.is_empty()
    }

    /// Forgets what was sent and keeps the memory.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.destinations.clear();
        self.packets.clear();
    }

    /// Free room of `len` bytes where the next datagram will be.
    pub(crate) fn datagram_room(&mut self, len: usize) -> &mut [u8] {
        self.datagrams.room(len)
    }

    /// Makes the first `len` bytes of the room a datagram for each of `to`.
    pub(crate) fn commit_datagram(&mut self, len: usize, to: impl IntoIterator<Item = SocketAddr>) {
        let mut destinations = to.into_iter();
        let Some(first) = destinations.next() else { return };
        let range = self.datagrams.commit(len);
        self.destinations.push(first);
        for further in destinations {
            self.destinations.push(further);
            self.datagrams.ranges.push(range.clone());
        }
    }

    /// Free room of `len` bytes where the next packet will be.
    pub(crate) fn packet_room(&mut self, len: usize) -> &mut [u8] {
        self.packets.room(len)
    }

    /// Makes the first `len` bytes of the room a packet.
    pub(crate) fn commit_packet(&mut self, len: usize) {
        self.packets.commit(len);
    }

    /// Copies the first `len` bytes of the packet room, which hold a WireGuard message, out to the network.
    pub(crate) fn move_to_datagram(&mut self, len: usize, to: SocketAddr) {
        let start = self.packets.used;
        let room = self.datagrams.room(len);
        room.copy_from_slice(&self.packets.bytes[start..start + len]);
        self.commit_datagram(len, [to]);
    }
}

/// Bytes laid end to end. `bytes` only ever grows, so that taking room again costs no zeroing.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    used: usize,
    ranges: Vec<Range<usize>>,
}

impl Arena {
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.used..end]
    }

    fn commit(&mut self, len: usize) -> Range<usize> {
        let range = self.used..self.used + len;
        debug_assert!(range.end <= self.bytes.len(), "only bytes of the room are committed");
        self.used = range.end;
        self.ranges.push(range.clone());
        range
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.bytes[range.clone()])
    }

    fn clear(&mut self) {
        self.used = 0;
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncommitted_bytes_are_never_seen_and_one_datagram_may_go_to_many() {
        let mut out = Output::new();
        out.packet_room(4).copy_from_slice(b"leak");
        assert!(out.is_empty());
        out.packet_room(2).copy_from_slice(b"ok");
        out.commit_packet(2);
        assert_eq!(out.packets().collect::<Vec<_>>(), [b"ok"]);

        let (a, b) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2)));
        out.datagram_room(3).copy_from_slice(b"hey");
        out.commit_datagram(3, [a, b]);
        out.datagram_room(3).copy_from_slice(b"you");
        out.commit_datagram(3, []);
        assert_eq!(out.datagrams().collect::<Vec<_>>(), [(a, &b"hey"[..]), (b, &b"hey"[..])]);
        out.clear();
        assert!(out.is_empty());
    }
}
