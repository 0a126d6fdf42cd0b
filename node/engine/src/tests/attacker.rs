//! A peer with a real tunnel key and no manners, and its victim: a real engine.

use super::craft;
use super::domain::{Domain, Member, now};
use crate::session::{Door, Kind, Opened, Sealed, Session, classify};
use crate::*;
use bulkhead_acl::Policy;
use bulkhead_identity::*;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub const ATTACKER: u8 = 10;
pub const VICTIM: u8 = 11;
pub const BYSTANDER: u8 = 12;

/// The attacker may reach the victim so, the victim may reach it on `udp/7` and by ping.
pub const POLICY: &str = r#"
[[allow]]
id = "in"
from = "role=attacker"
to = "role=victim"
ports = ["tcp/5432", "udp/53", "icmp"]
[[allow]]
id = "out"
from = "role=victim"
to = "*"
ports = ["udp/7", "tcp/7", "icmp"]
[[allow]]
id = "bystander"
from = "role=bystander"
to = "role=victim"
ports = ["tcp/5432", "udp/53"]
"#;

/// Packets for the victim's host, and datagrams that it sends.
pub type Caused = (Vec<Vec<u8>>, Vec<(SocketAddr, Vec<u8>)>);

/// Keys and a session, by the same code as everybody's; packets of any kind.
pub struct Attacker {
    door: Door,
    session: Session,
    pub at: SocketAddr,
    pub address: OverlayAddrs,
}

pub struct Scene {
    pub domain: Domain,
    pub policy: Arc<Policy>,
    pub members: Vec<Member>,
    pub chains: Vec<Chain>,
    pub victim: Engine,
    pub seconds: u64,
}

impl Scene {
    pub fn new() -> Self {
        Self::with_policy(POLICY)
    }

    pub fn with_policy(policy: &str) -> Self {
        let mut domain = Domain::new();
        let members = vec![
            Member::new("attacker", ATTACKER, "role=attacker"),
            Member::new("victim", VICTIM, "role=victim"),
            Member::new("bystander", BYSTANDER, "role=bystander"),
        ];
        let chains = members.iter().map(|member| domain.certify(member)).collect();
        let victim = Engine::new(members[1].tunnel_key(), Config::default(), now(0));
        let policy = domain.policy(policy);
        let scene = Self { domain, policy, members, chains, victim, seconds: 100 };
        let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
        scene
    }

    pub fn world(&self) -> World {
        let peers = [0, 2].map(|at: usize| PeerEntry {
            name: self.members[at].name.clone(),
            chain: self.chains[at].clone(),
            endpoints: Vec::new(),
        });
        World {
            trust: Arc::clone(&self.domain.trust),
            policy: Arc::clone(&self.policy),
            revocations: Arc::default(),
            me: self.domain.verify(&self.chains[1]),
            peers: peers.into(),
        }
    }

    pub fn now(&self) -> Now {
        now(self.seconds)
    }

    pub fn victim_v4(&self) -> IpAddr {
        self.members[1].addresses.v4.into()
    }

    pub fn victim_v6(&self) -> IpAddr {
        self.members[1].addresses.v6.into()
    }

    /// `who` attacks, without a session yet.
    pub fn stranger(&self, who: u8) -> Attacker {
        let member = self.members.iter().find(|member| member.seed == who).unwrap();
        Attacker {
            door: Door::new(member.tunnel_key()),
            session: Session::new(u32::from(who), &self.members[1].tunnel_key().public()),
            at: SocketAddr::from(([192, 0, 2, who], 51_820)),
            address: member.addresses,
        }
    }

    /// `who` attacks, inside a session.
    pub fn peer(&self, who: u8) -> Attacker {
        let mut attacker = self.stranger(who);
        attacker.connect(self);
        attacker
    }

    /// What the victim makes of a datagram: packets for its host, and datagrams.
    pub fn receive(&self, from: SocketAddr, datagram: &[u8]) -> Caused {
        let mut out = Output::new();
        let arrival = Datagram { from, ecn: Ecn::NotEct, bytes: datagram };
        self.victim.batch(self.now()).inbound([arrival], &mut out);
        let handshakes: Vec<Handshake> = out.handshakes().copied().collect();
        handshakes.iter().for_each(|handshake| self.victim.handshake(handshake, self.now(), &mut out));
        split(&out)
    }

    /// What the victim makes of a packet that its own host sends.
    pub fn send(&self, packet: &[u8]) -> Caused {
        let mut out = Output::new();
        self.victim.batch(self.now()).outbound([&mut craft::frame(packet)[..]], &mut out);
        split(&out)
    }

    pub fn counter(&self, reason: Reason) -> u64 {
        self.victim.counters().of(reason)
    }

    pub fn endpoint_of(&self, who: usize) -> Option<SocketAddr> {
        self.victim.peer(&self.members[who].name, self.now()).unwrap().endpoint
    }
}

fn split(out: &Output) -> Caused {
    (
        out.packets().map(<[u8]>::to_vec).collect(),
        out.datagrams().map(|(to, datagram)| (to, datagram.to_vec())).collect(),
    )
}

impl Attacker {
    pub fn v4(&self) -> IpAddr {
        self.address.v4.into()
    }

    pub fn v6(&self) -> IpAddr {
        self.address.v6.into()
    }

    /// Decrypts what the victim sends.
    pub fn open(&mut self, scene: &Scene, datagram: &[u8]) -> Vec<u8> {
        let mut room = vec![0; Session::opened_room(datagram.len())];
        let kind = classify(datagram).unwrap();
        let opened = self.session.open(self.at, datagram, kind, &mut room, scene.now().mono);
        let Opened::Packet(len) = opened else { panic!("{opened:?}") };
        room.truncate(len);
        room
    }

    pub fn initiation(&mut self, scene: &Scene) -> Vec<u8> {
        let mut room = [0; 256];
        let len = self.session.initiate(&self.door, &mut room, scene.now().mono).unwrap();
        room[..len].to_vec()
    }

    pub fn connect(&mut self, scene: &Scene) {
        let initiation = self.initiation(scene);
        let (_, answers) = scene.receive(self.at, &initiation);
        assert_eq!(answers.len(), 1, "the victim answers a permitted peer");
        self.take_answer(scene, &answers[0].1);
    }

    pub fn take_answer(&mut self, scene: &Scene, answer: &[u8]) {
        let confirmation = self.read_answer(scene, answer);
        assert_eq!(scene.receive(self.at, &confirmation), (Vec::new(), Vec::new()));
    }

    /// Takes an answer and returns what confirms it.
    pub fn read_answer(&mut self, scene: &Scene, answer: &[u8]) -> Vec<u8> {
        let kind = classify(answer).unwrap();
        assert!(matches!(kind, Kind::Answer { .. }));
        let mut room = [0; 256];
        let opened = self.session.open(self.at, answer, kind, &mut room, scene.now().mono);
        let Opened::Established(len) = opened else { panic!("{opened:?}") };
        room[..len].to_vec()
    }

    /// Takes a cookie, and returns the initiation that bears it, if it causes one.
    pub fn take_cookie(&mut self, scene: &Scene, cookie: &[u8]) -> Option<Vec<u8>> {
        let kind = classify(cookie).unwrap();
        let mut room = [0; 256];
        let opened = self.session.open(self.at, cookie, kind, &mut room, scene.now().mono);
        let Opened::Cookie = opened else { return None };
        let len = self.session.initiate_with_cookie(&self.door, &mut room, scene.now().mono)?;
        Some(room[..len].to_vec())
    }

    /// Encrypts any bytes at all.
    pub fn seal(&mut self, scene: &Scene, bytes: &[u8]) -> Vec<u8> {
        let mut room = vec![0; Session::sealed_room(bytes.len())];
        let sealed = self.session.seal(bytes, u16::MAX, &mut Vec::new(), &mut room, scene.now().mono);
        let Sealed::Datagram { len, .. } = sealed else { panic!("{sealed:?}") };
        room.truncate(len);
        room
    }

    /// Sends any bytes at all through the session; returns what reaches the victim's host.
    pub fn inject(&mut self, scene: &Scene, bytes: &[u8]) -> Vec<Vec<u8>> {
        let datagram = self.seal(scene, bytes);
        scene.receive(self.at, &datagram).0
    }

    /// Asserts that a packet reaches the victim's host.
    #[track_caller]
    pub fn passes(&mut self, scene: &Scene, packet: &[u8]) {
        assert_eq!(self.inject(scene, packet), [packet]);
    }

    /// Asserts that a packet does not, for this reason and in silence.
    #[track_caller]
    pub fn is_refused(&mut self, scene: &Scene, packet: &[u8], reason: Reason) {
        let before = scene.counter(reason);
        let datagram = self.seal(scene, packet);
        let (packets, answers) = scene.receive(self.at, &datagram);
        assert_eq!((packets, answers), (Vec::new(), Vec::new()), "{packet:02x?}");
        let counted: Vec<_> = scene.victim.counters().iter().filter(|&(_, count)| count > 0).collect();
        assert_eq!(scene.counter(reason), before + 1, "{reason:?} for {packet:02x?}, but {counted:?}");
    }
}
