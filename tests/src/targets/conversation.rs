//! Two engines that talk over a network which loses, repeats and damages, while their worlds change.
//!
//! Whatever happens in whatever order: a host gets only packets that the other host sent, unchanged and permitted;
//! and from the moment a world without the peer was applied, not one byte goes to it or comes from it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bulkhead_acl::{Direction, Policy, Service, Verdict};
use bulkhead_identity::{Now, Revocations, TunnelKey, VerifiedIdentity};
use bulkhead_node_engine::{Config, Engine, Output};

use super::deployment::{ACME, DB, NOW, WEB, db_tunnel, web_tunnel};
use super::ip::{self, What};
use super::packets::{self, addresses_of, is_reply, world};

/// Longest script, so that one input does not take a minute.
const MAX_STEPS: usize = 512;
/// Most datagrams on their way in one direction; the network drops what is more.
const MAX_UNDERWAY: usize = 64;

/// A script of steps, two bytes each: what happens, and the detail of it.
pub fn conversation(data: &[u8]) -> bool {
    let mut scene = Scene::new();
    for step in data.chunks_exact(2).take(MAX_STEPS) {
        scene.step(step[0], step[1]);
    }
    scene.sides.iter().any(|side| side.delivered > 0)
}

struct Scene {
    sides: [Side; 2],
    now: Now,
}

/// A host, its engine, and what is on its way to it.
struct Side {
    me: &'static VerifiedIdentity,
    peer: &'static VerifiedIdentity,
    at: SocketAddr,
    engine: Engine,
    policy: Arc<Policy>,
    /// Whether its world has the peer in it.
    has_peer: bool,
    underway: VecDeque<Underway>,
    sent: Vec<Vec<u8>>,
    delivered: usize,
}

/// What a policy may be in this play.
static POLICIES: LazyLock<[Arc<Policy>; 3]> = LazyLock::new(|| {
    let echo_only =
        "version = 1\n[[allow]]\nid = \"ping\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"icmp\"]\n";
    [Arc::clone(&ACME.policy), ACME.policy_of(echo_only, 5), ACME.policy_of("version = 1\n", 6)]
});

static WEB_IS_REVOKED: LazyLock<Arc<Revocations>> = LazyLock::new(|| Arc::new(ACME.revocations_of_web()));

impl Side {
    fn new(
        me: &'static VerifiedIdentity,
        peer: &'static VerifiedIdentity,
        key: TunnelKey,
        at: SocketAddr,
    ) -> Self {
        let engine = Engine::new(key, Config::default(), NOW);
        let policy = Arc::clone(&ACME.policy);
        let _ = engine.apply(world(me, &policy, &ACME.revocations), &mut Output::new(), NOW);
        Self {
            me,
            peer,
            at,
            engine,
            policy,
            has_peer: true,
            underway: VecDeque::new(),
            sent: Vec::new(),
            delivered: 0,
        }
    }
}

impl Scene {
    fn new() -> Self {
        let web = Side::new(&ACME.web, &ACME.db, web_tunnel(), WEB);
        let db = Side::new(&ACME.db, &ACME.web, db_tunnel(), DB);
        Self { sides: [web, db], now: NOW }
    }

    fn step(&mut self, what: u8, detail: u8) {
        let to = usize::from(detail & 1);
        let detail = detail >> 1;
        match what % 8 {
            0 | 1 => self.send(to, detail),
            2 | 3 => self.arrive(to),
            4 => {
                self.sides[to].underway.pop_front();
            }
            5 => {
                let again = self.sides[to].underway.front().cloned();
                self.sides[to].underway.extend(again);
            }
            6 => self.damage(to, detail),
            _ if detail & 1 == 0 => self.wait(detail >> 1),
            _ => self.change(to, detail >> 1),
        }
    }

    /// A host sends a packet.
    fn send(&mut self, from: usize, kind: u8) {
        let packet = host_packet(self.sides[from].me, self.sides[from].peer, kind);
        self.sides[from].sent.push(packet.clone());
        let mut out = Output::new();
        packets::send(&self.sides[from].engine, self.now, &packet, &mut out);
        self.collect(from, &out, None);
    }

    /// The next datagram arrives.
    fn arrive(&mut self, to: usize) {
        let Some(datagram) = self.sides[to].underway.pop_front() else { return };
        let from = self.sides[1 - to].at;
        let mut out = Output::new();
        packets::receive(&self.sides[to].engine, self.now, from, &datagram.arrives, &mut out);
        self.collect(to, &out, Some(datagram.is_damaged()));
    }

    fn damage(&mut self, to: usize, detail: u8) {
        let Some(datagram) = self.sides[to].underway.front_mut() else { return };
        let at = usize::from(detail) * 7 % datagram.arrives.len();
        datagram.arrives[at] ^= 1 << (detail % 8);
    }

    fn wait(&mut self, detail: u8) {
        self.now.mono += [1, 5, 31, 61, 181][usize::from(detail) % 5] * Duration::from_secs(1);
        for side in 0..2 {
            let mut out = Output::new();
            self.sides[side].engine.handle_timeout(self.now, &mut out);
            self.collect(side, &out, None);
        }
    }

    /// A new world: another policy, no peer, or a peer that is revoked.
    fn change(&mut self, of: usize, detail: u8) {
        let side = &mut self.sides[of];
        side.policy = Arc::clone(&POLICIES[usize::from(detail) % 3]);
        let revoked = detail & 4 != 0;
        let revocations = if revoked { &WEB_IS_REVOKED } else { &ACME.revocations };
        let mut next = world(side.me, &side.policy, revocations);
        if detail & 8 != 0 {
            next.peers.clear();
        }
        side.has_peer = !next.peers.is_empty()
            && !revoked
            && side.policy.permit(side.me, side.peer, self.now.wall).is_some();
        let mut out = Output::new();
        let changes = side.engine.apply(next, &mut out, self.now);
        assert_eq!(side.engine.peers(self.now).len(), usize::from(side.has_peer), "{changes:?}");
        self.collect(of, &out, None);
    }

    /// Judges what an engine wants sent. `arrived`: in answer to a datagram, and whether that was damaged.
    fn collect(&mut self, of: usize, out: &Output, arrived: Option<bool>) {
        let [web, db] = &mut self.sides;
        let (side, other) = if of == 0 { (web, db) } else { (db, web) };
        assert!(side.has_peer || out.datagrams().count() == 0, "bytes to a peer that is gone");
        for (to, datagram) in out.datagrams() {
            assert_eq!(to, other.at);
            if other.underway.len() < MAX_UNDERWAY {
                other.underway.push_back(Underway::new(datagram));
            }
        }
        for packet in out.packets() {
            // Our own host is told of its flows on any occasion.
            if let Some(damaged) = arrived.filter(|_| other.sent.iter().any(|sent| sent == packet)) {
                assert!(side.has_peer, "a packet from a peer that is gone");
                assert!(!damaged, "a packet out of a damaged datagram");
                assert!(side.may_reach(packet, self.now), "not permitted: {:?}", ip::plain(packet));
                side.delivered += 1;
            } else {
                ip::assert_is_answer(packet, &addresses_of(side.me));
            }
        }
    }
}

/// A datagram as it was sent, and as it will arrive.
#[derive(Clone)]
struct Underway {
    sent: Vec<u8>,
    arrives: Vec<u8>,
}

impl Underway {
    fn new(datagram: &[u8]) -> Self {
        Self { sent: datagram.to_vec(), arrives: datagram.to_vec() }
    }

    fn is_damaged(&self) -> bool {
        self.sent != self.arrives
    }
}

impl Side {
    /// Permitted to the other to open, or an answer to what this host was permitted to open, both under the rules
    /// of this moment. Fragments and errors are judged in `packet`.
    fn may_reach(&self, packet: &[u8], now: Now) -> bool {
        let Some(plain) = ip::plain(packet) else { return true };
        let Some(permit) = self.policy.permit(self.me, self.peer, now.wall) else { return false };
        let permits = |way, service| matches!(permit.verdict(way, service, now.wall), Verdict::Allow(_));
        let mut opened =
            self.sent.iter().filter_map(|sent| ip::plain(sent)).filter_map(|sent| match sent.what {
                What::Service { service, .. } if permits(Direction::Outbound, service) => {
                    Some((sent, service))
                }
                What::Service { .. } | What::EchoReply | What::OtherIcmp => None,
            });
        match plain.what {
            What::Service { service, source_port } => {
                permits(Direction::Inbound, service)
                    || opened.any(|(sent, _)| is_reply(&sent, plain.source, service, source_port))
            }
            What::EchoReply => opened.any(|(_, service)| service == Service::Echo),
            What::OtherIcmp => !self.engine.flows(now).is_empty(),
        }
    }
}

const CLIENT: u16 = 40_000;

/// What a host may want to send; some of it is permitted.
fn host_packet(me: &VerifiedIdentity, peer: &VerifiedIdentity, kind: u8) -> Vec<u8> {
    let family = usize::from(kind & 1);
    let (source, destination) = (addresses_of(me)[family], addresses_of(peer)[family]);
    let plain = |protocol, payload: &[u8]| ip::packet(source, destination, protocol, payload);
    let icmp = |v4: u8, v6: u8| {
        let (protocol, kind) = if family == 0 { (1, v4) } else { (58, v6) };
        plain(protocol, &[kind, 0, 0, 0, 0, 9, 0, 1])
    };
    let piece = |flags| match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip::v4(source, destination, ip::UDP, flags, &ip::udp(CLIENT, 5050, &[0; 8]))
        }
        _ => plain(ip::UDP, &ip::udp(CLIENT, 5050, &[])),
    };
    match (kind >> 1) % 16 {
        0 => plain(ip::TCP, &ip::tcp(CLIENT, 5432, ip::SYN)),
        1 => plain(ip::TCP, &ip::tcp(5432, CLIENT, ip::SYN | ip::ACK)),
        2 => plain(ip::TCP, &ip::tcp(CLIENT, 5432, ip::ACK)),
        3 => plain(ip::TCP, &ip::tcp(5432, CLIENT, ip::ACK)),
        4 => plain(ip::TCP, &ip::tcp(5432, CLIENT, ip::RST)),
        5 => plain(ip::TCP, &ip::tcp(CLIENT, 443, ip::SYN)),
        6 => plain(ip::TCP, &ip::tcp(443, CLIENT, ip::SYN | ip::ACK)),
        7 => plain(ip::UDP, &ip::udp(CLIENT, 5050, b"ask")),
        8 => plain(ip::UDP, &ip::udp(5050, CLIENT, b"tell")),
        9 => plain(ip::UDP, &ip::udp(CLIENT, 53, b"dns")),
        10 => icmp(8, 128),
        11 => icmp(0, 129),
        12 => plain(47, b"gre"),
        13 => piece(0x2000),
        14 => piece(2),
        _ => plain(132, &[0x9c, 0x40, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]),
    }
}
