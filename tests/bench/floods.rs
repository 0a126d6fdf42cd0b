//! Floods against one of our nodes (attacks G1, G2, G3): what is left for the honest, and how much the node sends back.
//!
//! Throughput under a flood is compared with the throughput under the same flood at a port of the same host where
//! nothing listens, so that the attacker's own CPU and the kernel's are in both.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use bulkhead_identity::TunnelKey;
use bulkhead_tests::{Lab, Namespace, Node, until};
use zeroize::Zeroizing;

use crate::compare::Effort;
use crate::echo::Trips;
use crate::flooder::{Ammunition, Flood, SOURCE_NET, Shape};
use crate::knock::handshakes;
use crate::mesh::{Mesh, permissive};
use crate::report::Alone;
use crate::system::System;
use crate::tcp::{Streams, transfer};
use crate::usage::{Cpu, resident_mb};
use crate::wire::beside_left;

/// Where the attacker's and the honest stranger's cables are.
const ATTACKER: u8 = 79;
const HONEST: u8 = 80;
/// WireGuard of a node, and a port where nothing listens.
const PORT: u16 = 51820;
const NOTHING: u16 = 51999;
/// Handshakes a flood offers: some hundred times what a node looks at.
const HANDSHAKE_KPPS: f64 = 50.0;

/// The flooded node is the left one: the third hosts hang on it.
struct Siege {
    system: System,
    attacker: Namespace,
    honest: Node,
    key: [u8; 32],
    address: Ipv4Addr,
}

/// Prints all floods.
pub(crate) fn run(effort: Effort, alone: &mut Alone) {
    let siege = Siege::prepare();
    let length = Duration::from_secs(effort.seconds) * 2;
    note_handshakes("no flood", &siege.knock(length), alone);
    for (name, shape, kpps) in [
        ("handshakes from one address", Shape::HandshakesFromOne, Some(HANDSHAKE_KPPS)),
        ("handshakes from 10,000 addresses", Shape::HandshakesFromMany, Some(HANDSHAKE_KPPS)),
        ("random UDP, as fast as it goes", Shape::Random, None),
    ] {
        eprintln!("flood: {name}");
        siege.endure(name, shape, kpps, effort, alone);
    }
}

impl Siege {
    fn prepare() -> Self {
        let lab = Lab::new().unwrap();
        let mesh = Mesh::start(&lab, &permissive(0));
        let attacker = beside_left(&lab, mesh.hosts(), "attacker", ATTACKER);
        let host = beside_left(&lab, mesh.hosts(), "honest", HONEST);
        mesh.nodes[0].host.ip(&["route", "add", SOURCE_NET, "via", &attacker.v4.to_string()]).unwrap();
        // Answers to addresses that nobody has end here, unanswered.
        attacker.ip(&["route", "add", "blackhole", SOURCE_NET]).unwrap();

        let token = mesh.coordinator.token("honest", &[]).unwrap();
        let honest = Node::prepare_on(&lab, host, "honest").unwrap();
        let joined = ["up", "--enrol-only", "--token-file", &token.to_string_lossy()];
        honest.cli(&joined).unwrap().success().unwrap();
        until("the victim knows the honest one", Duration::from_secs(30), || {
            mesh.nodes[0].peers().is_ok_and(|peers| peers.iter().any(|peer| peer == "honest"))
        });
        let key = *tunnel_key(&mesh.nodes[0]).public().as_bytes();
        let address = mesh.nodes[0].host.v4;
        Self { system: System::of_mesh(lab, mesh), attacker, honest, key, address }
    }

    fn flood(&self, shape: Shape, port: u16, kpps: Option<f64>) -> Flood {
        let ammunition = Ammunition::new(shape, self.key, SocketAddrV4::new(self.address, port));
        Flood::start(&self.attacker, self.address, ammunition, kpps)
    }

    fn endure(&self, name: &str, shape: Shape, kpps: Option<f64>, effort: Effort, alone: &mut Alone) {
        let victim = self.system.pids[0];
        let before_mb = resident_mb(victim);
        let (mut elsewhere, mut here) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            for (port, gbit) in [(NOTHING, &mut elsewhere), (PORT, &mut here)] {
                let _flood = self.flood(shape, port, kpps);
                gbit.push(transfer(&self.system, Streams::One, effort.seconds).gbit_per_s);
            }
        }
        alone.note(&format!("one TCP stream, {name} elsewhere"), "Gbit/s", &elsewhere);
        alone.note(&format!("one TCP stream, {name}"), "Gbit/s", &here);
        let ratios: Vec<f64> =
            here.iter().zip(&elsewhere).map(|(here, elsewhere)| here / elsewhere).collect();
        alone.note(&format!("one TCP stream, {name} to elsewhere"), "ratio", &ratios);

        let flood = self.flood(shape, PORT, kpps);
        let (counted, cpu, started) = (self.counted(), Cpu::of(&[victim]), Instant::now());
        let trips = self.knock(Duration::from_secs(effort.seconds) * 2);
        let elapsed = started.elapsed().as_secs_f64();
        let [received, answered] = self.counted();
        let cpu = Cpu::of(&[victim]).since(cpu).total();
        alone.note(&format!("offered, {name}"), "kpps", &[flood.sent() as f64 / elapsed / 1e3]);
        drop(flood);
        alone.note(&format!("CPU of the node, {name}"), "ms per s", &[cpu * 1e3 / elapsed]);
        note_handshakes(name, &trips, alone);
        let (received, answered) = (received - counted[0], answered - counted[1]);
        alone.note(
            &format!("sent back towards the attacker, {name}"),
            "bytes per byte",
            &[answered as f64 / received as f64],
        );
        alone.note(&format!("resident, before {name}"), "MB", &[before_mb]);
        alone.note(&format!("resident, after {name}"), "MB", &[resident_mb(victim)]);
    }

    /// Bytes from and to the attacker, as the victim's own interface counts them.
    fn counted(&self) -> [u64; 2] {
        ["rx", "tx"].map(|direction| {
            let path = format!("/sys/class/net/attacker0/statistics/{direction}_bytes");
            let text = self.system.left().run("cat", &[&path]).unwrap().success().unwrap();
            text.trim().parse().unwrap()
        })
    }

    fn knock(&self, length: Duration) -> Trips {
        let secret = *tunnel_key(&self.honest).to_bytes();
        let address = SocketAddrV4::new(self.address, PORT);
        handshakes(&self.honest.host, secret, (self.key, address), length)
    }
}

fn note_handshakes(name: &str, trips: &Trips, alone: &mut Alone) {
    alone.note(&format!("honest handshake p50, {name}"), "ms", &[trips.quantile(0.5)]);
    alone.note(&format!("honest handshake p99, {name}"), "ms", &[trips.quantile(0.99)]);
}

fn tunnel_key(node: &Node) -> TunnelKey {
    let bytes: [u8; 32] = std::fs::read(node.state().join("tunnel.key")).unwrap().try_into().unwrap();
    TunnelKey::from_bytes(Zeroizing::new(bytes))
}
