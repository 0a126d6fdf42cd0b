//! The WireGuard UDP socket: one for IPv6 and IPv4.
//!
//! Property: above this file there are no IPv4-mapped addresses. What comes in is made plain, what goes out is
//! mapped back, so that one host never looks like two.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Asked of the kernel, which may give less (`net.core.rmem_max`): what arrives while a thread is off the CPU.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The open socket. Receiving and sending take `&self`: the data threads share it.
pub(crate) struct WireSocket {
    socket: UdpSocket,
    family: Family,
    wake: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// IPv6, and IPv4 as mapped addresses.
    Dual,
    /// A host without IPv6.
    V4,
}

impl WireSocket {
    /// Binds `port` on all addresses.
    ///
    /// # Errors
    /// The operating system's; `AddrInUse` when another WireGuard has the port.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let (socket, family) = match Self::bind_dual(port) {
            Ok(socket) => (socket, Family::Dual),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                tracing::info!(%error, "no IPv6 socket: this node speaks IPv4 only");
                (Self::bind_v4(port)?, Family::V4)
            }
        };
        for (what, result) in [
            ("receive", socket.set_recv_buffer_size(BUFFER_BYTES)),
            ("send", socket.set_send_buffer_size(BUFFER_BYTES)),
        ] {
            if let Err(error) = result {
                tracing::debug!(what, %error, "socket buffer stays as it is");
            }
        }
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: socket.into(),
            family,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn bind_dual(port: u16) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    }

    fn bind_v4(port: u16) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    }

    /// One datagram; `WouldBlock` when there is none.
    ///
    /// # Errors
    /// The operating system's. Errors that the network reports about earlier sends are among them, and pass.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (length, from) = self.socket.recv_from(buffer)?;
        Ok((length, plain(from)))
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<usize> {
        match (self.family, to) {
            (Family::Dual, SocketAddr::V4(v4)) => {
                let mapped = SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0);
                self.socket.send_to(datagram, SocketAddr::V6(mapped))
            }
            (Family::Dual, SocketAddr::V6(_)) | (Family::V4, SocketAddr::V4(_)) => {
                self.socket.send_to(datagram, to)
            }
            (Family::V4, SocketAddr::V6(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Waits until there is something to receive, until [`WireSocket::wake`], or at most `patience`.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<()> {
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        let patience = Timespec::try_from(patience).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut watched, Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends the waiting of [`WireSocket::wait`], now and from now on.
    pub(crate) fn wake(&self) {
        // The counter can only be full when it has been woken already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ipv4_peer_looks_like_one() {
        let socket = WireSocket::bind(0).unwrap();
        let port = socket.socket.local_addr().unwrap().port();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        socket.wait(Duration::from_secs(5)).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = socket.receive(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], other.local_addr().unwrap()));

        socket.send(from, b"back").unwrap();
        let (length, _) = other.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"back");
    }

    #[test]
    fn waking_ends_the_wait() {
        let socket = WireSocket::bind(0).unwrap();
        socket.wake();
        socket.wait(Duration::from_secs(3600)).unwrap();
    }
}
