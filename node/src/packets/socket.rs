//! The WireGuard UDP sockets: one per queue, all on one port, each for IPv6 and IPv4.
//!
//! Properties: above this file there are no IPv4-mapped addresses. What comes in is made plain, what goes out is
//! mapped back, so that one host never looks like two. And datagrams are never fragmented, nor is the kernel's idea of
//! a path's MTU, which anyone can forge by ICMP, believed: the engine finds out by itself.

use crate::packets::sieve;
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
/// Receives done by one system call.
const RECEIVES: usize = 8;
/// The most that one receive can bring: datagrams of one sender, joined by the kernel.
const RECEIVE_BYTES: usize = 65_535;

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

impl WireSocket {
    /// Binds `port` on all addresses, `count` times, for as many threads. The kernel gives all datagrams from one
    /// address and port to one of them.
    ///
    /// # Errors
    /// The operating system's; `AddrInUse` when another WireGuard has the port.
    pub(crate) fn bind(port: u16, count: usize) -> io::Result<Vec<Self>> {
        if count > 1 {
            // Sockets that share a port do not notice one that is not of theirs, if it shares as well.
            Self::bind_one(port, false)?;
        }
        (0..count).map(|_| Self::bind_one(port, count > 1)).collect()
    }

    fn bind_one(port: u16, shared: bool) -> io::Result<Self> {
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
        inbox.filled = 0;
        let mut rooms = inbox.bytes.chunks_exact_mut(RECEIVE_BYTES);
        let mut rooms: [IoSliceMut<'_>; RECEIVES] =
            array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        inbox.filled = self.state.recv((&self.socket).into(), &mut rooms, &mut inbox.meta)?;
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
    bytes: Vec<u8>,
    meta: [RecvMeta; RECEIVES],
    filled: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; RECEIVES * RECEIVE_BYTES], meta: [RecvMeta::default(); RECEIVES], filled: 0 }
    }

    /// Whether there was room for more than came: what waited has been received.
    pub(crate) fn has_room(&self) -> bool {
        self.filled < RECEIVES
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
