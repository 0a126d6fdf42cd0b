//! The WireGuard UDP sockets: one per queue and one for initiations, all on one port, each for IPv6 and IPv4.
//!
//! Properties: above this file there are no IPv4-mapped addresses. What comes in is made plain, what goes out is
//! mapped back, so that one host never looks like two. Datagrams are never fragmented, nor is the kernel's idea of
//! a path's MTU, which anyone can forge by ICMP, believed: the engine finds out by itself.

use crate::packets::{sieve, steering};
use crate::sys;
use bulkhead_node_engine::{Datagram, Ecn, Train};
use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::array;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// What may arrive while a thread is off the CPU.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// What may wait for the card; more would only make the queue longer.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// How long a full send buffer is waited for.
const ROOM_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// Receives done by one system call, at most. Their places together are smaller than a huge page, which the kernel would
/// otherwise give whole for the first byte.
const RECEIVES: usize = 24;
/// Where the kernel joins datagrams: half a megabyte, which stays in the cache.
const JOINED_RECEIVES: usize = 8;
const _: () = assert!(RECEIVES <= quinn_udp::BATCH_SIZE && RECEIVES * RECEIVE_BYTES < 2 * 1024 * 1024);
/// The most that one receive can bring: datagrams of one sender, joined by the kernel.
const RECEIVE_BYTES: usize = 65_535;

/// All sockets of a port.
pub(crate) struct Sockets {
    /// One for each queue: everything but initiations.
    pub(crate) data: Vec<WireSocket>,
    /// Initiations; `None` where the kernel cannot tell them apart.
    pub(crate) door: Option<WireSocket>,
}

/// An open socket. Receiving and sending take `&self`.
pub(crate) struct WireSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// IPv6, and IPv4 as mapped addresses.
    Dual,
    /// A host without IPv6.
    V4,
}

impl Sockets {
    /// Binds `port` on all addresses, for `queues` queues.
    ///
    /// # Errors
    /// The operating system's; `AddrInUse` when another WireGuard has the port.
    pub(crate) fn bind(port: u16, queues: usize) -> io::Result<Self> {
        // Sockets that share a port do not notice one that is not of theirs, if it shares as well.
        WireSocket::bind_one(port, false)?;
        let data = (0..queues).map(|_| WireSocket::bind_one(port, true)).collect::<io::Result<Vec<_>>>()?;
        let door = WireSocket::bind_one(port, true)?;
        let steered = steering::attach(&door, queues);
        if let Err(error) = &steered {
            tracing::warn!(%error, "initiations come to the data threads");
        }
        Ok(Self { data, door: steered.is_ok().then_some(door) })
    }
}

impl WireSocket {
    /// One socket; `shared`: others of this user may have the port as well.
    pub(crate) fn bind_one(port: u16, shared: bool) -> io::Result<Self> {
        let (socket, family) = match Self::bind_dual(port, shared) {
            Ok(socket) => (socket, Family::Dual),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                tracing::info!(%error, "no IPv6 socket: this node speaks IPv4 only");
                (Self::bind_v4(port, shared)?, Family::V4)
            }
        };
        if let Err(error) = sys::set_socket_buffers(&socket, RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES) {
            tracing::debug!(%error, "socket buffers stay as they are");
        }
        if let Err(error) = sieve::attach(&socket) {
            tracing::debug!(%error, "noise is received and refused by the engine");
        }
        let socket: UdpSocket = socket.into();
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, family })
    }

    fn bind_dual(port: u16, shared: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.set_reuse_port(shared)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    }

    fn bind_v4(port: u16, shared: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(shared)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    }

    /// Fills `inbox` with what waits; `WouldBlock` when there is nothing.
    ///
    /// # Errors
    /// The operating system's. Errors that the network reports about earlier sends are among them, and pass.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.offer();
        let mut rooms = inbox.bytes.chunks_exact_mut(RECEIVE_BYTES);
        let mut rooms: [IoSliceMut<'_>; RECEIVES] =
            array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        let rooms = &mut rooms[..inbox.offered];
        inbox.filled = self.state.recv((&self.socket).into(), rooms, &mut inbox.meta)?;
        Ok(())
    }

    /// Whether the kernel can cut a train into datagrams. Whether every interface can, it says when they are sent.
    pub(crate) fn can_send_trains(&self) -> bool {
        self.state.max_gso_segments() > 1
    }

    /// Sends a train by one system call.
    ///
    /// # Errors
    /// The operating system's: `InvalidInput` or EIO when it cannot cut trains here, EMSGSIZE when the datagrams are
    /// larger than the interface takes.
    pub(crate) fn send(&self, train: &Train<'_>) -> io::Result<()> {
        let destination = match (self.family, train.to) {
            (Family::Dual, SocketAddr::V4(v4)) => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            (Family::Dual, SocketAddr::V6(_)) | (Family::V4, SocketAddr::V4(_)) => train.to,
            (Family::V4, SocketAddr::V6(_)) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let transmit = quinn_udp::Transmit {
            destination,
            ecn: EcnCodepoint::from_bits(train.ecn.bits()),
            contents: train.bytes,
            segment_size: Some(train.size),
            src_ip: None,
        };
        self.state.try_send((&self.socket).into(), &transmit)
    }

    /// Waits until a full send buffer has room again, for a short time.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn wait_for_room(&self) -> io::Result<()> {
        let mut watched = [PollFd::new(&self.socket, PollFlags::OUT)];
        match poll(&mut watched, Some(&ROOM_PATIENCE)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for WireSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Buffers for one call of [`WireSocket::receive`].
pub(crate) struct Inbox {
    /// Of a place that little comes into, the kernel gives us the first page only.
    bytes: Vec<u8>,
    meta: [RecvMeta; RECEIVES],
    /// Places offered to the kernel.
    offered: usize,
    filled: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; RECEIVES * RECEIVE_BYTES],
            meta: [RecvMeta::default(); RECEIVES],
            offered: JOINED_RECEIVES,
            filled: 0,
        }
    }

    /// Empties it, and offers as many places as what came last says will do: all while those that were offered are
    /// filled with datagrams that the kernel does not join.
    fn offer(&mut self) {
        let joined = self.meta.iter().take(self.filled).any(|meta| meta.len > meta.stride);
        self.offered = if self.has_room() || joined { JOINED_RECEIVES } else { RECEIVES };
        self.filled = 0;
    }

    /// Whether there was room for more than came: what waited has been received.
    pub(crate) fn has_room(&self) -> bool {
        self.filled < self.offered
    }

    /// Bytes received.
    pub(crate) fn bytes(&self) -> usize {
        self.meta.iter().take(self.filled).map(|meta| meta.len).sum()
    }

    /// What was received, datagram by datagram.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let received = self.bytes.chunks_exact(RECEIVE_BYTES).zip(&self.meta).take(self.filled);
        received.flat_map(|(bytes, meta)| {
            let (from, ecn) =
                (plain(meta.addr), meta.ecn.map_or(Ecn::NotEct, |ecn| Ecn::from_bits(ecn as u8)));
            let bytes = &bytes[..meta.len.min(RECEIVE_BYTES)];
            bytes.chunks(meta.stride.max(1)).map(move |bytes| Datagram { from, ecn, bytes })
        })
    }
}

/// An IPv4-mapped address as the IPv4 address that it is.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_places_are_offered_only_while_datagrams_that_the_kernel_does_not_join_fill_them() {
        let mut inbox = Inbox::new();
        let mut offered_after = |filled: usize, len: usize, stride: usize| {
            inbox.filled = filled;
            for meta in &mut inbox.meta {
                (meta.len, meta.stride) = (len, stride);
            }
            inbox.offer();
            assert!(inbox.has_room());
            inbox.offered
        };
        assert_eq!(offered_after(0, 0, 0), JOINED_RECEIVES);
        assert_eq!(offered_after(JOINED_RECEIVES, 64_000, 1_452), JOINED_RECEIVES);
        assert_eq!(offered_after(JOINED_RECEIVES - 1, 1_452, 1_452), JOINED_RECEIVES);
        assert_eq!(offered_after(JOINED_RECEIVES, 1_452, 1_452), RECEIVES);
        assert_eq!(offered_after(RECEIVES, 60, 60), RECEIVES);
        assert_eq!(offered_after(RECEIVES - 1, 60, 60), JOINED_RECEIVES);
        assert_eq!(offered_after(JOINED_RECEIVES, 60, 60), RECEIVES);
        assert_eq!(offered_after(RECEIVES, 2_904, 1_452), JOINED_RECEIVES);
    }
}
