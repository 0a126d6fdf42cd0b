//! What is no WireGuard message is dropped by the kernel: noise neither wakes a data thread nor takes places in its receive
//! calls.
//!
//! It refuses nothing that the engine would not refuse as well, and the engine does not rely on it. What is dropped here
//! the kernel counts, per socket (`ss --udp --memory --listening`, the last of `skmem`).

use socket2::{SockFilter, Socket};
use std::io;

/// Bytes of a UDP header, where a socket's filter begins to read (RFC 768).
const UDP_HEADER: u32 = 8;
/// The first four bytes of a message, as the kernel reads them: its kind, and three zeros (whitepaper, section 5.4).
const KINDS: [u32; 4] = [0x0400_0000, 0x0100_0000, 0x0200_0000, 0x0300_0000];

/// Has the kernel drop datagrams that do not begin as a WireGuard message does.
///
/// # Errors
/// The operating system's; everything arrives then.
pub(crate) fn attach(socket: &Socket) -> io::Result<()> {
    // A classic BPF program (linux/filter.h); a datagram too short for the first instruction is dropped.
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let [data, initiation, response, cookie] = KINDS;
    socket.attach_filter(&[
        SockFilter::new(load, 0, 0, UDP_HEADER),
        SockFilter::new(jump_if_equal, 4, 0, data),
        SockFilter::new(jump_if_equal, 3, 0, initiation),
        SockFilter::new(jump_if_equal, 2, 0, response),
        SockFilter::new(jump_if_equal, 1, 0, cookie),
        SockFilter::new(end, 0, 0, 0),
        SockFilter::new(end, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use socket2::{Domain, Type};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::time::Duration;

    #[test]
    fn only_what_begins_as_a_wireguard_message_arrives() {
        for (domain, host) in
            [(Domain::IPV4, Ipv4Addr::LOCALHOST.into()), (Domain::IPV6, Ipv6Addr::LOCALHOST.into())]
        {
            let socket = Socket::new(domain, Type::DGRAM, None).unwrap();
            socket.bind(&SocketAddr::new(host, 0).into()).unwrap();
            attach(&socket).unwrap();
            let socket: UdpSocket = socket.into();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let sender = UdpSocket::bind(SocketAddr::new(host, 0)).unwrap();
            let to = socket.local_addr().unwrap();
            let mut buffer = [0; 64];
            for kind in 1..=4 {
                for noise in
                    [&[][..], &[kind], &[kind, 0, 0], &[0; 32], &[5, 0, 0, 0, 1], &[kind, 0, 1, 0, 2]]
                {
                    sender.send_to(noise, to).unwrap();
                }
                let message = [kind, 0, 0, 0, 9, 9, 9];
                sender.send_to(&message, to).unwrap();
                let (length, _) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], message);
            }
        }
    }
}
