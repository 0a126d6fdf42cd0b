//! What the engine wants sent: trains of datagrams for the UDP socket, frames for the TUN device, and handshake
//! messages for the thread that has time for them.
//!
//! One arena each, reused from batch to batch, so that a warm data thread allocates nothing per packet: bytes
//! are decrypted and encrypted straight into their place. A packet is visible only after it was committed;
//! what was decrypted and then refused is never seen.

use crate::ecn::Ecn;
use crate::limits::{
    HANDSHAKE_BYTES, MAX_KEPT_BYTES, MAX_KEPT_ENTRIES, MAX_TRAIN_BYTES, MAX_TRAIN_DATAGRAMS,
};
use crate::offload::{VNET_HEADER_BYTES, VnetHeader, WHOLE};
use std::net::SocketAddr;
use std::ops::Range;

/// Reusable buffers for the results of engine calls.
///
/// - *Send* [`Output::trains`] to the network and [`Output::frames`] to the TUN device, in the order they were made.
/// - *Hand on* [`Output::handshakes`] to [`Engine::handshake`](crate::Engine::handshake).
/// - *Look* at single datagrams and packets with [`Output::datagrams`] and [`Output::packets`].
/// - *Reuse* with [`Output::clear`]; the memory stays.
#[derive(Default)]
pub struct Output {
    datagrams: Arena,
    trains: Vec<Stretch>,
    packets: Arena,
    frames: Vec<Range<usize>>,
    handshakes: Vec<Handshake>,
    /// Where a plaintext is padded before it is encrypted.
    pub(crate) scratch: Vec<u8>,
    /// What the TUN device takes.
    pub merge: Merge,
}

/// Which packets for our host may be merged into one frame, because its TUN device takes such frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// TCP segments of one flow (`VIRTIO_NET_HDR_GSO_TCPV4` and `TCPV6`).
    pub tcp: bool,
    /// UDP datagrams of one flow (`VIRTIO_NET_HDR_GSO_UDP_L4`, Linux 6.2).
    pub udp: bool,
}

impl Default for Merge {
    fn default() -> Self {
        Self { tcp: true, udp: true }
    }
}

/// Datagrams to one destination that lie end to end, all of one size but the last, which may be shorter: what one
/// `sendmsg` with `UDP_SEGMENT` takes.
#[derive(Clone, Copy, Debug)]
pub struct Train<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// The peer whose packets these are; `None` for handshakes.
    pub peer: Option<PeerIndex>,
    /// What the outer header says of congestion.
    pub ecn: Ecn,
    /// All datagrams.
    pub bytes: &'a [u8],
    /// Bytes of each datagram but the last.
    pub size: usize,
}

impl<'a> Train<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.size.max(1))
    }
}

/// A peer, to [`Engine::too_big`](crate::Engine::too_big).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIndex(pub(crate) u32);

/// A handshake message that came in, small enough to be passed by value.
#[derive(Clone, Copy)]
pub struct Handshake {
    pub(crate) from: SocketAddr,
    bytes: [u8; HANDSHAKE_BYTES],
    len: usize,
}

impl Handshake {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handshake({} bytes from {})", self.len, self.from)
    }
}

/// A train under construction.
#[derive(Clone, Debug)]
struct Stretch {
    to: SocketAddr,
    peer: Option<PeerIndex>,
    ecn: Ecn,
    range: Range<usize>,
    size: usize,
    count: usize,
    /// Whether another datagram may follow.
    open: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the bytes: they are people's traffic.
        write!(f, "Output({} trains, {} frames)", self.trains.len(), self.frames.len())
    }
}

impl Output {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Datagrams for the UDP socket, as many as possible in one piece.
    pub fn trains(&self) -> impl Iterator<Item = Train<'_>> {
        self.trains.iter().map(|train| Train {
            to: train.to,
            peer: train.peer,
            ecn: train.ecn,
            bytes: &self.datagrams.bytes[train.range.clone()],
            size: train.size,
        })
    }

    /// The same one by one, with their destinations.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.trains().flat_map(|train| train.datagrams().map(move |datagram| (train.to, datagram)))
    }

    /// What is to be written to a TUN device with `IFF_VNET_HDR`: a `virtio_net_hdr`, and an IP packet, which may be
    /// several merged ones.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().map(|range| &self.packets.bytes[range.clone()])
    }

    /// The packets in the frames.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.frames().map(|frame| &frame[VNET_HEADER_BYTES..])
    }

    /// Handshake messages, whose cryptography takes longer than a data thread may.
    pub fn handshakes(&self) -> impl Iterator<Item = &Handshake> {
        self.handshakes.iter()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty() && self.frames.is_empty() && self.handshakes.is_empty()
    }

    /// Forgets what was sent and keeps the memory, but for what only an uncommon batch needs.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.packets.clear();
        empty(&mut self.trains);
        empty(&mut self.frames);
        empty(&mut self.handshakes);
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
        let alone = |to| Stretch {
            to,
            peer: None,
            ecn: Ecn::NotEct,
            range: range.clone(),
            size: len,
            count: 1,
            open: false,
        };
        self.trains.push(alone(first));
        self.trains.extend(destinations.map(alone));
    }

    /// Makes the first `len` bytes of the room a datagram with data, which goes by the last train if it can.
    pub(crate) fn couple_datagram(&mut self, len: usize, to: SocketAddr, peer: PeerIndex, ecn: Ecn) {
        let range = self.datagrams.commit(len);
        let last = self.trains.last_mut().filter(|train| {
            train.open
                && (train.to, train.peer, train.ecn) == (to, Some(peer), ecn)
                && train.range.end == range.start
                && len <= train.size
                && train.count < MAX_TRAIN_DATAGRAMS
                && train.range.len() + len <= MAX_TRAIN_BYTES
        });
        match last {
            Some(train) => {
                train.range.end = range.end;
                train.count += 1;
                train.open = len == train.size;
            }
            None => {
                let peer = Some(peer);
                self.trains.push(Stretch { to, peer, ecn, range, size: len, count: 1, open: true });
            }
        }
    }

    /// Free room of `len` bytes where the next packet will be, with place for a `virtio_net_hdr` in front of it.
    pub(crate) fn packet_room(&mut self, len: usize) -> &mut [u8] {
        &mut self.packets.room(VNET_HEADER_BYTES + len)[VNET_HEADER_BYTES..]
    }

    /// Makes the first `len` bytes of the room a packet.
    pub(crate) fn commit_packet(&mut self, len: usize) {
        self.commit_frame(WHOLE, len);
    }

    /// Makes the first `len` bytes of the room a packet under `header`.
    pub(crate) fn commit_frame(&mut self, header: VnetHeader, len: usize) {
        self.packets.room(VNET_HEADER_BYTES).copy_from_slice(&header);
        let range = self.packets.commit(VNET_HEADER_BYTES + len);
        self.frames.push(range);
    }

    /// Leaves the first `len` bytes of the room behind, unseen.
    pub(crate) fn skip_packet(&mut self, len: usize) {
        self.packets.commit(VNET_HEADER_BYTES + len);
    }

    /// Copies the first `len` bytes of the packet room, which hold a WireGuard message, out to the network.
    pub(crate) fn move_to_datagram(&mut self, len: usize, to: SocketAddr) {
        let start = self.packets.used + VNET_HEADER_BYTES;
        let room = self.datagrams.room(len);
        room.copy_from_slice(&self.packets.bytes[start..start + len]);
        self.commit_datagram(len, [to]);
    }

    /// Keeps a handshake message for the thread that has time for it. One that is too long for any is not one.
    pub(crate) fn push_handshake(&mut self, from: SocketAddr, message: &[u8]) {
        let mut handshake = Handshake { from, bytes: [0; HANDSHAKE_BYTES], len: message.len() };
        if let Some(room) = handshake.bytes.get_mut(..message.len()) {
            room.copy_from_slice(message);
            self.handshakes.push(handshake);
        }
    }
}

fn empty<T>(list: &mut Vec<T>) {
    list.clear();
    list.shrink_to(MAX_KEPT_ENTRIES);
}

/// Bytes laid end to end. `bytes` only ever grows, so that taking room again costs no zeroing.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    used: usize,
}

impl Arena {
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.used..end]
    }

    fn clear(&mut self) {
        self.used = 0;
        if self.bytes.len() > MAX_KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }

    fn commit(&mut self, len: usize) -> Range<usize> {
        let range = self.used..self.used + len;
        debug_assert!(range.end <= self.bytes.len(), "only bytes of the room are committed");
        self.used = range.end;
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ([u8; 4], u16) = ([192, 0, 2, 1], 1);
    const B: ([u8; 4], u16) = ([192, 0, 2, 2], 2);

    #[test]
    fn uncommitted_bytes_are_never_seen_and_one_datagram_may_go_to_many() {
        let mut out = Output::new();
        out.packet_room(4).copy_from_slice(b"leak");
        assert!(out.is_empty());
        out.packet_room(6).copy_from_slice(b"secret");
        out.skip_packet(6);
        out.packet_room(2).copy_from_slice(b"ok");
        out.commit_frame([7; VNET_HEADER_BYTES], 2);
        assert_eq!(out.packets().collect::<Vec<_>>(), [b"ok"]);
        assert_eq!(out.frames().collect::<Vec<_>>(), [b"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07ok"]);

        let (a, b) = (SocketAddr::from(A), SocketAddr::from(B));
        out.datagram_room(3).copy_from_slice(b"hey");
        out.commit_datagram(3, [a, b]);
        out.datagram_room(3).copy_from_slice(b"you");
        out.commit_datagram(3, []);
        assert_eq!(out.datagrams().collect::<Vec<_>>(), [(a, &b"hey"[..]), (b, &b"hey"[..])]);
        out.clear();
        assert!(out.is_empty());
    }

    #[test]
    fn datagrams_couple_while_they_are_equal_and_go_the_same_way() {
        let mut out = Output::new();
        let mut send = |bytes: &[u8], to: ([u8; 4], u16), ecn: Ecn| {
            out.datagram_room(bytes.len()).copy_from_slice(bytes);
            out.couple_datagram(bytes.len(), to.into(), PeerIndex(7), ecn);
        };
        send(b"aaaa", A, Ecn::NotEct);
        send(b"bbbb", A, Ecn::NotEct);
        send(b"cc", A, Ecn::NotEct);
        // A shorter one was the last.
        send(b"dd", A, Ecn::NotEct);
        send(b"ee", B, Ecn::NotEct);
        send(b"ff", B, Ecn::Ce);
        send(b"longer", B, Ecn::Ce);
        let trains: Vec<_> = out.trains().map(|train| (train.bytes, train.size)).collect();
        let expected: [(&[u8], usize); 5] =
            [(b"aaaabbbbcc", 4), (b"dd", 2), (b"ee", 2), (b"ff", 2), (b"longer", 6)];
        assert_eq!(trains, expected);
        assert_eq!(out.datagrams().count(), 7);
    }

    #[test]
    fn a_train_is_no_longer_than_the_kernel_takes() {
        let mut out = Output::new();
        for _ in 0..200 {
            out.datagram_room(1452).fill(1);
            out.couple_datagram(1452, A.into(), PeerIndex(7), Ecn::NotEct);
            out.datagram_room(8).fill(1);
        }
        assert_eq!(out.trains().map(|train| train.bytes.len()).max(), Some(45 * 1452));
        out.clear();
        (0..200).for_each(|_| out.couple_datagram(0, A.into(), PeerIndex(7), Ecn::NotEct));
        assert!(out.trains().count() > 2);
    }
}
