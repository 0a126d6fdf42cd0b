//! The packet engine of our node `db`, with the one peer `web`: against strangers, against its own host, and
//! against a peer whose key is in the hands of an attacker with a WireGuard of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use bulkhead_acl::{Direction, Policy, Verdict};
use bulkhead_identity::{Now, Revocations, TunnelKey, VerifiedIdentity};
use bulkhead_node_engine::{
    Config, Datagram, Ecn, Engine, Handshake, Output, PROBE_PORT, PeerEntry, World, limits,
};

use super::deployment::{ACME, DB, NOW, WALL, WEB, db_tunnel, web_tunnel};
use super::ip::{self, Plain, What};

/// Largest WireGuard message that a target sends or expects.
const MAX_DATAGRAM: usize = 65_535;
const INITIATION: usize = 148;

/// A datagram from anywhere, and the same again: no stranger gets a packet in, an answer out, or the peer's place.
pub fn datagram(data: &[u8]) -> bool {
    let engine = engine_of_db();
    let mut out = Output::new();
    let mut answered = false;
    for from in [WEB, SocketAddr::from(([203, 0, 113, 9], 4000))] {
        out.clear();
        receive(&engine, NOW, from, data, &mut out);
        assert_eq!(out.packets().count(), 0, "a packet out of a session that there never was");
        let answers: Vec<_> = out.datagrams().collect();
        assert!(answers.is_empty() || !answered, "a replay was answered");
        if let [(to, answer)] = answers[..] {
            // Only an initiation by web's own key gets here.
            assert!(to == from && answer.len() < data.len() && data.len() == INITIATION);
            answered = true;
        } else {
            assert!(answers.is_empty(), "more answers than questions");
        }
        let web = engine.peer(ACME.web.name(), NOW).unwrap();
        assert!(web.endpoint.is_none_or(|endpoint| endpoint == WEB), "a stranger took the peer's place");
        assert!(!web.connected && web.flows == 0 && web.received.packets == 0);
    }
    answered
}

/// A whole packet from our host.
pub(super) fn send(engine: &Engine, now: Now, packet: &[u8], out: &mut Output) {
    // In front of it a `virtio_net_hdr` that asks for nothing.
    engine.batch(now).outbound([&mut [&[0; 10], packet].concat()[..]], out);
}

/// A datagram, and the handshake that it may be part of.
pub(super) fn receive(engine: &Engine, now: Now, from: SocketAddr, bytes: &[u8], out: &mut Output) {
    engine.batch(now).inbound([Datagram { from, ecn: Ecn::NotEct, bytes }], out);
    let handshakes: Vec<Handshake> = out.handshakes().copied().collect();
    handshakes.iter().for_each(|handshake| engine.handshake(handshake, now, out));
}

/// A packet from our own host: what leaves is that packet, from us to the peer, and permitted; what does not leave
/// is answered with a correct packet or not at all.
pub fn host_packet(data: &[u8]) -> bool {
    if ip::claimed_len(data).is_some_and(|len| len > usize::from(limits::MIN_MTU)) {
        // TCP is cut to the path: the target `split` judges that.
        return false;
    }
    let engine = engine_of_db();
    let mut out = Output::new();
    send(&engine, NOW, data, &mut out);
    // Without a session the packet waits for one.
    let waits = out.datagrams().count() > 0;
    assert!(out.datagrams().all(|(to, datagram)| to == WEB && datagram.len() == INITIATION));
    assert_answers(&out);
    assert!(!waits || out.packets().count() == 0, "sent and refused");

    let mut web = Attacker::new(web_tunnel(), &db_tunnel());
    let flushed = web.connect(&engine);
    assert_eq!(flushed.len(), usize::from(waits), "what waited is sent once");
    flushed.iter().for_each(|inner| assert_may_leave(data, inner));

    out.clear();
    send(&engine, NOW, data, &mut out);
    let sent: Vec<_> = out.datagrams().filter_map(|(_, datagram)| web.open(datagram)).collect();
    // The second of two equal fragments is an overlap.
    assert!(sent.len() == flushed.len() || ip::piece(data).is_some(), "a session makes a difference");
    sent.iter().for_each(|inner| assert_may_leave(data, inner));
    assert_answers(&out);
    waits
}

fn assert_may_leave(data: &[u8], inner: &[u8]) {
    assert_eq!(Some(inner.len()), ip::claimed_len(data));
    assert_eq!(Some(inner), data.get(..inner.len()));
    let (source, destination) = ip::addresses(inner).unwrap();
    assert!(addresses_of(&ACME.db).contains(&source) && addresses_of(&ACME.web).contains(&destination));
    if let Some(Plain { what, .. }) = ip::plain(inner) {
        let What::Service { service, .. } = what else { panic!("{what:?} without a flow") };
        assert!(permits(Direction::Outbound, service), "{service} left");
    }
}

fn assert_answers(out: &Output) {
    assert!(out.packets().count() <= 1, "two answers to one packet");
    out.packets().for_each(|answer| ip::assert_is_answer(answer, &addresses_of(&ACME.db)));
}

/// Packets of a compromised peer inside its own session, and of our host: each two bytes of length, whose first
/// bit says whose, and the packet. What reaches our host is whole, from that peer to us, and permitted, or belongs
/// to a flow that our host opened.
pub fn packet(data: &[u8]) -> bool {
    let engine = engine_of_db();
    let mut web = Attacker::new(web_tunnel(), &db_tunnel());
    web.connect(&engine);
    let mut host = Host::default();
    let mut out = Output::new();
    for (ours, bytes) in records(data) {
        out.clear();
        if ours {
            send(&engine, NOW, bytes, &mut out);
            host.opened.extend(out.datagrams().filter_map(|(_, datagram)| web.open(datagram)));
            assert_answers(&out);
        } else {
            let sealed = web.seal(bytes);
            receive(&engine, NOW, WEB, &sealed, &mut out);
            out.packets().for_each(|delivered| host.take(delivered, bytes, &engine));
            // Engines answer each other's probes, and nothing else.
            for reply in out.datagrams().filter_map(|(_, datagram)| web.open(datagram)) {
                assert!(is_probe(&reply), "an answer to the peer: {reply:02x?}");
            }
        }
    }
    host.delivered > 0
}

/// What our host sees, and what it sent itself.
#[derive(Default)]
struct Host {
    opened: Vec<Vec<u8>>,
    pieces: Vec<ip::Piece>,
    delivered: usize,
}

impl Host {
    fn take(&mut self, delivered: &[u8], sent: &[u8], engine: &Engine) {
        self.delivered += 1;
        assert_eq!(Some(delivered.len()), ip::claimed_len(sent), "not the length it states");
        assert_eq!(Some(delivered), sent.get(..delivered.len()), "not what was sent");
        let (source, destination) = ip::addresses(delivered).unwrap();
        assert!(addresses_of(&ACME.web).contains(&source), "the source is {source}");
        assert!(addresses_of(&ACME.db).contains(&destination), "the destination is {destination}");
        assert!(!is_probe(delivered), "a probe reached the host");
        if let Some(piece) = ip::piece(delivered) {
            self.take_piece(piece);
        } else if let Some(plain) = ip::plain(delivered) {
            assert!(self.may_reach(&plain, engine), "{plain:?} was delivered");
        }
    }

    fn may_reach(&self, packet: &Plain, engine: &Engine) -> bool {
        let replies = |what: fn(&Plain) -> bool| {
            self.opened.iter().filter_map(|sent| ip::plain(sent)).any(|sent| {
                (sent.source, sent.destination) == (packet.destination, packet.source) && what(&sent)
            })
        };
        match packet.what {
            What::Service { service, source_port } => {
                permits(Direction::Inbound, service)
                    || self
                        .opened
                        .iter()
                        .filter_map(|sent| ip::plain(sent))
                        .any(|sent| is_reply(&sent, packet.source, service, source_port))
            }
            What::EchoReply => replies(|sent| matches!(sent.what, What::Service { .. })),
            // An error is of use only where there is something that it can be about.
            What::OtherIcmp => !engine.flows(NOW).is_empty(),
        }
    }

    /// Pieces follow their first, and none covers what another covered.
    fn take_piece(&mut self, piece: ip::Piece) {
        let of_datagram = |held: &&ip::Piece| held.datagram == piece.datagram;
        let held: Vec<_> = self.pieces.iter().filter(of_datagram).copied().collect();
        if piece.start == 0 {
            // Whole datagrams are forgotten, and so is the oldest of too many.
            self.pieces.retain(|held| held.datagram != piece.datagram);
        } else {
            assert!(held.iter().any(|held| held.start == 0), "a piece without its first");
            assert!(held.iter().all(|held| held.end <= piece.start || piece.end <= held.start), "an overlap");
        }
        self.pieces.push(piece);
    }
}

/// Whether a packet from `peer` with these ports answers what our host `sent`.
pub(super) fn is_reply(sent: &Plain, peer: IpAddr, service: bulkhead_acl::Service, source_port: u16) -> bool {
    use bulkhead_acl::Service::{Echo, Ip, Sctp, Tcp, Udp};
    let What::Service { service: opened, source_port: ours } = sent.what else { return false };
    sent.destination == peer
        && match (opened, service) {
            (Tcp(to), Tcp(back)) | (Udp(to), Udp(back)) | (Sctp(to), Sctp(back)) => {
                to == source_port && back == ours
            }
            (Ip(to), Ip(back)) => to == back,
            (Tcp(_) | Udp(_) | Sctp(_) | Ip(_) | Echo, _) => false,
        }
}

fn is_probe(packet: &[u8]) -> bool {
    let port = bulkhead_acl::Service::Udp(PROBE_PORT);
    ip::plain(packet)
        .is_some_and(|plain| matches!(plain.what, What::Service { service, .. } if service == port))
}

fn permits(direction: Direction, service: bulkhead_acl::Service) -> bool {
    let permit = ACME.policy.permit(&ACME.db, &ACME.web, WALL).unwrap();
    matches!(permit.verdict(direction, service, WALL), Verdict::Allow(_))
}

/// Records of two bytes of length, whose first bit is a flag, and as many bytes.
pub(super) fn records(data: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (header, tail) = rest.split_first_chunk::<2>()?;
        let header = u16::from_be_bytes(*header);
        let (record, after) = tail.split_at_checked(usize::from(header & 0x7fff))?;
        rest = after;
        Some((header & 0x8000 != 0, record))
    })
}

/// A world of `me` and the other of the two.
pub(super) fn world(me: &VerifiedIdentity, policy: &Arc<Policy>, revocations: &Arc<Revocations>) -> World {
    let (peer, endpoint) = if me == &ACME.db { (&ACME.web, WEB) } else { (&ACME.db, DB) };
    World {
        trust: Arc::clone(&ACME.trust),
        policy: Arc::clone(policy),
        revocations: Arc::clone(revocations),
        me: me.clone(),
        peers: vec![PeerEntry {
            name: peer.name().clone(),
            chain: peer.chain().clone(),
            endpoints: vec![endpoint],
        }],
    }
}

fn engine_of_db() -> Engine {
    let engine = Engine::new(db_tunnel(), Config::default(), NOW);
    let world = world(&ACME.db, &ACME.policy, &ACME.revocations);
    let changes = engine.apply(world, &mut Output::new(), NOW);
    assert_eq!((changes.added.len(), changes.isolated), (1, None));
    engine
}

/// Both overlay addresses of a node.
pub(super) fn addresses_of(node: &VerifiedIdentity) -> [IpAddr; 2] {
    let addresses = node.claims().addresses.unwrap();
    [addresses.v4.into(), addresses.v6.into()]
}

/// A WireGuard that filters nothing, with a key that was taken.
pub(super) struct Attacker {
    tunnel: Tunn,
    buffer: Vec<u8>,
}

impl Attacker {
    pub(super) fn new(own: TunnelKey, victim: &TunnelKey) -> Self {
        let secret = StaticSecret::from(*own.to_bytes());
        let public = PublicKey::from(*victim.public().as_bytes());
        Self { tunnel: Tunn::new(secret, public, None, None, 7, None), buffer: vec![0; MAX_DATAGRAM] }
    }

    pub(super) fn initiation(&mut self) -> Vec<u8> {
        let initiation = self.tunnel.format_handshake_initiation(&mut self.buffer, true);
        let TunnResult::WriteToNetwork(initiation) = initiation else {
            panic!("no initiation: {initiation:?}")
        };
        initiation.to_vec()
    }

    /// Shakes hands; the packets that had waited for it.
    fn connect(&mut self, engine: &Engine) -> Vec<Vec<u8>> {
        let mut out = Output::new();
        receive(engine, NOW, WEB, &self.initiation(), &mut out);
        let response = out.datagrams().next().expect("the peer's handshake is answered").1.to_vec();
        let TunnResult::WriteToNetwork(keepalive) =
            self.tunnel.decapsulate(None, &response, &mut self.buffer)
        else {
            panic!("no session with the peer");
        };
        out.clear();
        receive(engine, NOW, WEB, keepalive, &mut out);
        assert!(engine.peer(ACME.web.name(), NOW).is_some_and(|web| web.connected));
        out.datagrams().filter_map(|(_, datagram)| self.open(datagram)).collect()
    }

    /// Any bytes, as a data message.
    pub(super) fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.resize(MAX_DATAGRAM + 64, 0);
        let sealed = self.tunnel.encapsulate(bytes, &mut self.buffer);
        let TunnResult::WriteToNetwork(datagram) = sealed else { panic!("not sealed: {sealed:?}") };
        datagram.to_vec()
    }

    fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        match self.tunnel.decapsulate(None, datagram, &mut self.buffer) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Some(packet.to_vec())
            }
            TunnResult::Done => None,
            what @ (TunnResult::WriteToNetwork(_) | TunnResult::Err(_)) => {
                panic!("the engine sent what nobody can open: {what:?}")
            }
        }
    }
}
