//! What size costs: a mesh with 2,000 rules and 10,000 permitted peers beside a mesh of two nodes, in turn.

use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, until};

use crate::compare::Effort;
use crate::crowd;
use crate::mesh::{Mesh, hosts, permissive};
use crate::report::Alone;
use crate::system::System;
use crate::tcp::{Streams, transfer};
use crate::usage::{Cpu, largest_mb, peak_mb, resident_mb};

const RULES: usize = 2000;
/// Permitted peers of each of the two nodes that run.
const PEERS: usize = 10_000;
/// How long the large mesh may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// How long idle daemons are watched.
const IDLE: Duration = Duration::from_secs(10);

/// Prints throughput, memory and idle CPU of both.
pub(crate) fn run(effort: Effort, alone: &mut Alone) {
    let small = {
        let lab = Lab::new().unwrap();
        let mesh = Mesh::start(&lab, &permissive(0));
        System::of_mesh(lab, mesh)
    };
    let large = large();
    for (name, system) in [("2 nodes", &small), ("10,000 peers, 2,000 rules", &large)] {
        alone.note(&format!("resident, idle, {name}"), "MB", &[largest_mb(&system.pids, resident_mb)]);
        alone.note(&format!("idle CPU of one node, {name}"), "ms per s", &[idle_ms_per_s(system)]);
    }
    for (name, streams) in [("one TCP stream", Streams::One), ("four TCP streams", Streams::Four)] {
        let rounds: Vec<[f64; 2]> = (0..effort.rounds.max(2))
            .map(|_| [&small, &large].map(|system| transfer(system, streams, effort.seconds).gbit_per_s))
            .collect();
        let of = |pick: fn(&[f64; 2]) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
        alone.note(&format!("{name}, 2 nodes"), "Gbit/s", &of(|round| round[0]));
        alone.note(&format!("{name}, 10,000 peers, 2,000 rules"), "Gbit/s", &of(|round| round[1]));
        alone.note(
            &format!("{name}, the large one to the small one"),
            "ratio",
            &of(|round| round[1] / round[0]),
        );
    }
    alone.note("resident, most ever, 10,000 peers, 2,000 rules", "MB", &[largest_mb(&large.pids, peak_mb)]);
}

fn large() -> System {
    let lab = Lab::new().unwrap();
    let (ends, hub) = hosts(&lab);
    let mut coordinator = Coordinator::initialised(&lab, hub, &[]).unwrap();
    let started = Instant::now();
    crowd::enrol(&coordinator.state(), PEERS - 1);
    eprintln!("{} nodes enrolled in {:?}", PEERS - 1, started.elapsed());
    coordinator.serve().unwrap();
    coordinator.apply(&permissive(RULES)).unwrap();
    let mesh = Mesh::join(&lab, ends, coordinator);
    until("both know all peers", SETTLE_LIMIT, || {
        mesh.nodes.iter().all(|node| node.peers().is_ok_and(|peers| peers.len() == PEERS))
    });
    System::of_mesh(lab, mesh)
}

fn idle_ms_per_s(system: &System) -> f64 {
    let (before, started) = (Cpu::of(&system.pids), Instant::now());
    while started.elapsed() < IDLE {
        std::thread::park_timeout(IDLE.saturating_sub(started.elapsed()));
    }
    let cpu = Cpu::of(&system.pids).since(before).total() / system.pids.len() as f64;
    cpu * 1e3 / started.elapsed().as_secs_f64()
}
