//! A compromised node: its stolen tunnel key in a WireGuard of the attacker's own, which filters nothing.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use bulkhead_identity::Certificate;
use bulkhead_tests::Node;

use crate::mesh::map_of;

/// A WireGuard endpoint that sends whatever it is told to.
pub(crate) struct Rogue {
    socket: UdpSocket,
    tunnel: Tunn,
    victim: SocketAddr,
}

impl Rogue {
    /// Takes over `thief`'s key (its daemon must be dead) against `victim`. The victim's tunnel key comes from the
    /// map of `informant`, which is permitted to know it.
    pub(crate) fn new(thief: &Node, victim: &Node, informant: &Node) -> Self {
        let secret: [u8; 32] = std::fs::read(thief.state().join("tunnel.key")).unwrap().try_into().unwrap();
        let map = map_of(informant);
        let entry = map
            .peers
            .values()
            .find(|p| p.name.as_str() == victim.name)
            .expect("the informant knows the victim");
        let claims = Certificate::parse(entry.chain.leaf()).unwrap().claims;
        let public = PublicKey::from(*claims.tunnel_key.unwrap().as_bytes());
        let socket = thief.host.inside(|| UdpSocket::bind("0.0.0.0:51820").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let tunnel = Tunn::new(StaticSecret::from(secret), public, None, None, 7, None);
        Self { socket, tunnel, victim: SocketAddr::from((victim.host.v4, 51820)) }
    }

    /// Tries to shake hands until `limit`; whether there is a session then.
    pub(crate) fn handshake(&mut self, limit: Duration) -> bool {
        // The victim may have had something to say to the node whose key this is.
        self.knock(limit, |tunnel| tunnel.time_since_last_handshake().is_some())
    }

    /// The same; whether the victim answered with anything at all.
    pub(crate) fn is_answered(&mut self, limit: Duration) -> bool {
        self.knock(limit, |_| true)
    }

    fn knock(&mut self, limit: Duration, enough: impl Fn(&Tunn) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            if let TunnResult::WriteToNetwork(packet) =
                self.tunnel.format_handshake_initiation(&mut buffer, true)
            {
                self.socket.send_to(packet, self.victim).unwrap();
            }
            while self.receive() && Instant::now() < deadline {
                if enough(&self.tunnel) {
                    return true;
                }
            }
        }
        false
    }

    fn receive(&mut self) -> bool {
        let (mut datagram, mut buffer) = ([0; 2048], [0; 2048]);
        let Ok((length, _)) = self.socket.recv_from(&mut datagram) else { return false };
        let mut input = &datagram[..length];
        while let TunnResult::WriteToNetwork(packet) = self.tunnel.decapsulate(None, input, &mut buffer) {
            self.socket.send_to(packet, self.victim).unwrap();
            input = &[];
        }
        true
    }

    /// Encrypts an inner packet and sends it.
    pub(crate) fn send(&mut self, inner: &[u8]) {
        let mut buffer = vec![0; inner.len() + 148];
        if let TunnResult::WriteToNetwork(packet) = self.tunnel.encapsulate(inner, &mut buffer) {
            self.socket.send_to(packet, self.victim).unwrap();
        }
    }

    /// Sends a datagram exactly as it is.
    pub(crate) fn send_raw(&mut self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.victim).unwrap();
    }
}
