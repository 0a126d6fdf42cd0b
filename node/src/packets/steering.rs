//! Which socket of our port a datagram comes to: the kernel asks a small program of ours.
//!
//! Initiations have a socket of their own, because they are what anyone can send any number of: they fill no buffer that
//! data needs, and the threads that move data are not woken for them. Data goes by the index of the peer it is for, so
//! that a peer stays with one thread wherever it roams to. A socket that another program binds to the same port and all
//! addresses after ours is never chosen. The threads rely on none of this: each hands whatever it reads to the engine,
//! and of datagrams that the kernel joined, only the first is looked at here.

use crate::sys;
use std::io;
use std::os::fd::AsFd;

/// The kind of an initiation, and three zeros, as the kernel reads them (whitepaper, section 5.4.2).
const INITIATION: u32 = 0x0100_0000;
/// Where a data message has the lowest byte of our index, which is random; the byte before it is boringtun's own.
const INDEX: u32 = 5;

/// Has the kernel give initiations to the last of the sockets that share the port of `socket`, in the order in which they
/// were bound, and the rest to the first `queues`.
///
/// # Errors
/// The operating system's.
pub(crate) fn attach(socket: &impl AsFd, queues: usize) -> io::Result<()> {
    let queues = u32::try_from(queues).map_err(|_| io::ErrorKind::InvalidInput)?;
    // A classic BPF program (linux/filter.h), which reads from the end of the UDP header on and answers with the number of
    // a socket; a datagram too short for it goes to the first.
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    sys::steer_datagrams(
        socket,
        &[
            instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, INITIATION),
            instruction(libc::BPF_RET | libc::BPF_K, 0, 0, queues),
            instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, INDEX),
            instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, queues),
            instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
        ],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::packets::socket::{Inbox, Sockets, WireSocket};
    use crate::packets::watch;
    use std::iter;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::os::fd::AsFd;

    /// Sockets on a port that nobody had a moment ago.
    fn bind(queues: usize) -> (Sockets, u16) {
        let free = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
        let mut tries = iter::repeat_with(free).take(100);
        tries.find_map(|port| Some((Sockets::bind(port, queues).ok()?, port))).unwrap()
    }

    /// The first bytes of the datagram that comes next.
    fn next(socket: &WireSocket, inbox: &mut Inbox) -> Vec<u8> {
        if socket.receive(inbox).is_err() {
            watch::sleep([socket.as_fd()]).unwrap();
            socket.receive(inbox).unwrap();
        }
        let mut datagrams = inbox.datagrams();
        let first = datagrams.next().unwrap().bytes.to_vec();
        assert!(datagrams.next().is_none());
        first
    }

    #[test]
    fn initiations_come_to_the_door_and_each_peer_to_one_thread_whoever_else_has_the_port() {
        let (sockets, port) = bind(3);
        let (added, mut inbox) = (WireSocket::bind_one(port, true).unwrap(), Inbox::new());
        for host in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            // From many addresses, because the kernel would choose by address.
            for i in 0..64_u8 {
                let sender = UdpSocket::bind(SocketAddr::new(host, 0)).unwrap();
                let send = |message: &[u8]| {
                    assert_eq!(sender.send_to(message, (host, port)).unwrap(), message.len())
                };
                let initiation = [1, 0, 0, 0, 9, i];
                send(&initiation);
                assert_eq!(next(sockets.door.as_ref().unwrap(), &mut inbox), initiation);
                for kind in [2, 3, 4] {
                    let message = [kind, 0, 0, 0, 9, i, 7];
                    send(&message);
                    assert_eq!(next(&sockets.data[usize::from(i % 3)], &mut inbox), message);
                }
                let short = [4, 0, 0, 0, i];
                send(&short);
                assert_eq!(next(&sockets.data[0], &mut inbox), short);
            }
        }
        assert!(added.receive(&mut inbox).is_err());
    }
}
