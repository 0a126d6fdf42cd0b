//! An honest, permitted peer that shakes hands again and again, each time as if it had never before: how long until it
//! is answered.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use bulkhead_tests::Namespace;

use crate::echo::Trips;
use crate::wire::INTERFACE;

/// What our own nodes wait before they ask again. When they are asked for a cookie they do not wait.
const RETRY: Duration = Duration::from_secs(1);
/// The first byte of a cookie reply (whitepaper, section 5.4.7).
const COOKIE_REPLY: u8 = 3;
/// Whoever is not answered by then counts with this.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// From one handshake to the next.
const PERIOD: Duration = Duration::from_millis(100);
/// Addresses it does so from, in turn: whoever comes anew has not used up its address's cookies.
const ADDRESSES: u8 = 100;

/// One handshake after the other for a while; milliseconds.
pub(crate) fn handshakes(
    host: &Namespace,
    secret: [u8; 32],
    victim: ([u8; 32], SocketAddrV4),
    length: Duration,
) -> Trips {
    let (key, address) = victim;
    let own = (0..ADDRESSES).map(|i| Ipv4Addr::from(u32::from(host.v4) + 1 + u32::from(i)));
    let own: Vec<Ipv4Addr> = own.collect();
    for address in &own {
        host.ip(&["addr", "add", &format!("{address}/32"), "dev", INTERFACE]).unwrap();
    }
    let started = Instant::now();
    let mut taken = Vec::new();
    for &own in own.iter().cycle() {
        if started.elapsed() >= length {
            break;
        }
        let begun = Instant::now();
        taken.push(one(host, own, secret, key, address).as_secs_f64() * 1e3);
        while let Some(left) = PERIOD.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }
    for address in &own {
        host.ip(&["addr", "del", &format!("{address}/32"), "dev", INTERFACE]).unwrap();
    }
    Trips::new(taken)
}

fn one(
    host: &Namespace,
    own: Ipv4Addr,
    secret: [u8; 32],
    victim: [u8; 32],
    address: SocketAddrV4,
) -> Duration {
    let socket = host.inside(|| UdpSocket::bind((own, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut tunnel = Tunn::new(StaticSecret::from(secret), PublicKey::from(victim), None, None, 1, None);
    let (mut datagram, mut buffer) = ([0; 2048], [0; 2048]);
    let begun = Instant::now();
    let mut asked = None::<Instant>;
    while begun.elapsed() < GIVEN_UP {
        if asked.is_none_or(|at| at.elapsed() >= RETRY) {
            asked = Some(Instant::now());
            if let TunnResult::WriteToNetwork(packet) = tunnel.format_handshake_initiation(&mut buffer, true)
            {
                // What the flood pushed out of a queue is asked for again.
                let _ = socket.send_to(packet, address);
            }
        }
        // From whichever of its addresses is nearest to us.
        let Ok((length, _)) = socket.recv_from(&mut datagram) else { continue };
        if datagram[..length].first() == Some(&COOKIE_REPLY) {
            tunnel.decapsulate(None, &datagram[..length], &mut buffer);
            asked = None;
            continue;
        }
        // The answer to a response is a keepalive, which confirms the session.
        if let TunnResult::WriteToNetwork(confirmation) =
            tunnel.decapsulate(None, &datagram[..length], &mut buffer)
        {
            let taken = begun.elapsed();
            let _ = socket.send_to(confirmation, address);
            return taken;
        }
    }
    GIVEN_UP
}
