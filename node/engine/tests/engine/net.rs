//! Engines on one wire. Every datagram goes where it is sent, at once, unless a test holds it back.

use crate::craft;
use crate::domain::{Domain, Member, now};
use bulkhead_acl::Policy;
use bulkhead_identity::*;
use bulkhead_node_engine::*;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Most datagrams one step may cause; more is a storm.
const STORM: usize = 10_000;
/// IPv4 and UDP, around a datagram.
const OUTER_HEADERS: usize = 20 + 8;

pub struct Node {
    pub member: Member,
    pub chain: Chain,
    pub engine: Engine,
    pub endpoint: SocketAddr,
    pub changes: Changes,
}

impl Node {
    pub fn v4(&self) -> IpAddr {
        self.member.addresses.v4.into()
    }

    pub fn v6(&self) -> IpAddr {
        self.member.addresses.v6.into()
    }
}

/// A datagram on the wire.
pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

/// What one step caused.
#[derive(Debug, Default)]
pub struct Step {
    /// Packets that came out of a TUN device, by node. Answers to a node's own packets are among them.
    pub packets: Vec<(usize, Vec<u8>)>,
    /// Everything that went over the wire.
    pub wire: Vec<Datagram>,
}

impl Step {
    /// What reached the host of `node`.
    pub fn at(&self, node: usize) -> Vec<&[u8]> {
        self.packets.iter().filter(|(at, _)| *at == node).map(|(_, packet)| &packet[..]).collect()
    }

    /// Resets that the host of `node` was sent.
    pub fn resets(&self, node: usize) -> Vec<(u16, u16, u32, u32)> {
        self.at(node).into_iter().filter_map(craft::read_reset).collect()
    }
}

pub struct Net {
    pub domain: Domain,
    pub nodes: Vec<Node>,
    pub policy: Arc<Policy>,
    pub revocations: Arc<Revocations>,
    pub seconds: u64,
    /// How far the wall clock was set back.
    pub set_back: u64,
    /// The wire loses IP packets that are larger.
    pub wire_mtu: usize,
}

impl Net {
    /// One engine per member, none of which knows of any other before [`Net::sync`].
    pub fn new(members: &[Member], policy: &str) -> Self {
        Self::with_config(members, policy, Config::default())
    }

    pub fn with_config(members: &[Member], policy: &str, config: Config) -> Self {
        let mut domain = Domain::new();
        let policy = domain.policy(policy);
        let nodes = members.iter().map(|member| node(&mut domain, member, config.clone())).collect();
        let mut net = Self {
            domain,
            nodes,
            policy,
            revocations: Arc::default(),
            seconds: 100,
            set_back: 0,
            wire_mtu: usize::MAX,
        };
        net.sync();
        net
    }

    pub fn now(&self) -> Now {
        let Now { mono, wall } = now(self.seconds);
        Now { mono, wall: Timestamp(wall.0 - self.set_back) }
    }

    /// Everybody learns of everybody.
    pub fn sync(&mut self) -> Step {
        let mut step = Step::default();
        for at in 0..self.nodes.len() {
            let world = self.world(at);
            let mut out = Output::new();
            self.nodes[at].changes = self.nodes[at].engine.apply(world, &mut out, self.now());
            self.collect(at, &mut out, &mut step);
        }
        self.settle(step)
    }

    /// Only `node` learns of the world.
    pub fn sync_one(&mut self, node: usize) -> Step {
        let mut out = Output::new();
        let world = self.world(node);
        self.nodes[node].changes = self.nodes[node].engine.apply(world, &mut out, self.now());
        let mut step = Step::default();
        self.collect(node, &mut out, &mut step);
        self.settle(step)
    }

    /// `node` starts anew, and nothing that it says at its start arrives.
    pub fn restart_unheard(&mut self, node: usize) -> Vec<Datagram> {
        let key = self.nodes[node].member.tunnel_key();
        self.nodes[node].engine = Engine::new(key, Config::default(), self.now());
        let (mut out, mut step, world) = (Output::new(), Step::default(), self.world(node));
        self.nodes[node].changes = self.nodes[node].engine.apply(world, &mut out, self.now());
        self.nodes[node].engine.handle_timeout(self.now(), &mut out);
        self.collect(node, &mut out, &mut step);
        self.seconds += 1;
        step.wire
    }

    pub fn world(&self, at: usize) -> World {
        let others = self.nodes.iter().enumerate().filter(|&(other, _)| other != at);
        World {
            trust: Arc::clone(&self.domain.trust),
            policy: Arc::clone(&self.policy),
            revocations: Arc::clone(&self.revocations),
            me: self.domain.verify(&self.nodes[at].chain),
            peers: others
                .map(|(_, node)| PeerEntry {
                    name: node.member.name.clone(),
                    chain: node.chain.clone(),
                    endpoints: vec![node.endpoint],
                })
                .collect(),
        }
    }

    pub fn set_policy(&mut self, text: &str) -> Step {
        self.policy = self.domain.policy(text);
        self.sync()
    }

    /// The host of `node` sends a packet.
    pub fn send(&mut self, node: usize, packet: &[u8]) -> Step {
        let mut out = Output::new();
        send(&self.nodes[node].engine.batch(self.now()), packet, &mut out);
        let mut step = Step::default();
        self.collect(node, &mut out, &mut step);
        self.settle(step)
    }

    /// The same, but the wire keeps what was sent.
    pub fn send_held(&mut self, node: usize, packet: &[u8]) -> Step {
        let mut out = Output::new();
        send(&self.nodes[node].engine.batch(self.now()), packet, &mut out);
        let mut step = Step::default();
        self.collect(node, &mut out, &mut step);
        step
    }

    /// A datagram arrives at `node`, and nothing that it causes goes further.
    pub fn receive_held(&mut self, node: usize, from: SocketAddr, datagram: &[u8]) -> Step {
        let mut out = Output::new();
        receive(&self.nodes[node].engine, self.now(), from, datagram, &mut out);
        let mut step = Step::default();
        self.collect(node, &mut out, &mut step);
        step
    }

    pub fn tick(&mut self) -> Step {
        let mut step = Step::default();
        for at in 0..self.nodes.len() {
            let mut out = Output::new();
            self.nodes[at].engine.handle_timeout(self.now(), &mut out);
            self.collect(at, &mut out, &mut step);
        }
        self.settle(step)
    }

    pub fn counter(&self, node: usize, reason: Reason) -> u64 {
        self.nodes[node].engine.counters().of(reason)
    }

    /// Whether a UDP packet from `from`'s host arrives at `to`'s.
    pub fn udp_arrives(&mut self, from: usize, to: usize, source: u16, port: u16) -> bool {
        let packet =
            craft::udp((self.nodes[from].v4(), source), (self.nodes[to].v4(), port), b"are you there?");
        self.send(from, &packet).at(to) == [&packet[..]]
    }

    fn collect(&self, node: usize, out: &mut Output, step: &mut Step) {
        let from = self.nodes[node].endpoint;
        step.wire.extend(out.datagrams().map(|(to, datagram)| (from, to, datagram.to_vec())));
        step.packets.extend(out.packets().map(|packet| (node, packet.to_vec())));
        out.clear();
    }

    /// Lets datagrams arrive until there are none.
    pub fn settle(&mut self, mut step: Step) -> Step {
        let mut underway: VecDeque<Datagram> = step.wire.clone().into();
        while let Some((from, to, datagram)) = underway.pop_front() {
            if datagram.len() + OUTER_HEADERS > self.wire_mtu {
                continue;
            }
            let Some(at) = self.nodes.iter().position(|node| node.endpoint == to) else { continue };
            let caused = self.receive_held(at, from, &datagram);
            underway.extend(caused.wire.iter().cloned());
            step.wire.extend(caused.wire);
            step.packets.extend(caused.packets);
            assert!(step.wire.len() < STORM, "a storm");
        }
        step
    }
}

pub fn node(domain: &mut Domain, member: &Member, config: Config) -> Node {
    let chain = domain.certify(member);
    Node {
        engine: Engine::new(member.tunnel_key(), config, now(0)),
        endpoint: SocketAddr::from(([192, 0, 2, member.seed], 51820)),
        member: member.clone(),
        chain,
        changes: Changes::default(),
    }
}

/// A packet that our host sends.
pub fn send(batch: &Batch<'_>, packet: &[u8], out: &mut Output) {
    batch.outbound([&mut craft::frame(packet)[..]], out);
}

/// A datagram as it comes from the network.
pub fn arrival(from: SocketAddr, bytes: &[u8]) -> bulkhead_node_engine::Datagram<'_> {
    bulkhead_node_engine::Datagram { from, ecn: Ecn::NotEct, bytes }
}

/// A datagram that arrives, and the handshake that it may be part of.
pub fn receive(engine: &Engine, now: Now, from: SocketAddr, datagram: &[u8], out: &mut Output) {
    engine.batch(now).inbound([arrival(from, datagram)], out);
    let handshakes: Vec<Handshake> = out.handshakes().copied().collect();
    handshakes.iter().for_each(|handshake| engine.handshake(handshake, now, out));
}

pub const WEB: usize = 0;
pub const DB: usize = 1;
pub const INTRUDER: usize = 2;

/// `web` may reach `db`; `intruder` nobody.
pub fn three() -> Net {
    Net::new(
        &[
            Member::new("web", 10, "role=web"),
            Member::new("db", 11, "role=db"),
            Member::new("intruder", 12, "role=intruder"),
        ],
        WEB_TO_DB,
    )
}

pub const WEB_TO_DB: &str = r#"
[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432", "udp/53", "icmp", "udp/9"]
"#;

pub const NOTHING: &str = "";
