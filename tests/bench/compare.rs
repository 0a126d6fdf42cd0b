//! Ours and the others in turn, A B A B: throughput, what it costs, packets per second, round trips, memory.

use std::path::Path;
use std::time::Duration;

use crate::echo::{Pace, Trips, round_trips};
use crate::report::{Figure, Report};
use crate::system::{Kind, System};
use crate::tcp::{Saturating, Streams, transfer};
use crate::udp::{Steady, flood, highest_carried};
use crate::usage::{Cpu, largest_mb, peak_mb, resident_mb};
use crate::wire::Veth;

/// UDP payload that fills the inner MTU over IPv6.
const FULL: usize = 1372;
/// UDP payload of a question to a resolver, or of a field bus.
const SMALL: usize = 64;
/// The load beside which round trips are measured, Mbit/s.
const BESIDE_MBIT: f64 = 500.0;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Of one TCP measurement; the others take fractions of it.
    pub(crate) seconds: u64,
}

/// Measures every system that is here, and prints.
pub(crate) fn run(kinds: &[Kind], veths: &[Veth], effort: Effort, peers: Option<&Path>) {
    let mut systems = Vec::new();
    for &kind in kinds {
        match System::start(kind, peers) {
            Some(system) => systems.push(system),
            None => eprintln!("{} is not here, and is left out", kind.name()),
        }
    }
    for (i, &veth) in veths.iter().enumerate() {
        let mut report = Report::new(veth);
        systems.iter().for_each(|system| system.set_veth(veth));
        if i == 0 {
            for system in systems.iter().filter(|system| !system.pids.is_empty()) {
                report.add(("resident, idle", "MB"), system.kind, largest_mb(&system.pids, resident_mb));
            }
        }
        for round in 1..=effort.rounds {
            for system in &systems {
                eprintln!(
                    "veth {}, round {round} of {}: {}",
                    veth.as_str(),
                    effort.rounds,
                    system.kind.name()
                );
                let mut note = |figure: Figure, value: f64| report.add(figure, system.kind, value);
                throughput(system, effort, &mut note);
                // How frames travel changes little for what travels one by one.
                if i == 0 {
                    packets(system, effort, &mut note);
                    latency(system, effort, &mut note);
                }
                if !system.pids.is_empty() {
                    note(("resident, most under load", "MB"), largest_mb(&system.pids, peak_mb));
                }
            }
        }
        report.print();
    }
}

fn throughput(system: &System, effort: Effort, note: &mut impl FnMut(Figure, f64)) {
    let before = (Cpu::of(&system.pids), Cpu::of_machine());
    let one = transfer(system, Streams::One, effort.seconds);
    let daemons = Cpu::of(&system.pids).since(before.0);
    let machine = Cpu::of_machine().since(before.1);
    let gigabytes = one.bytes / 1e9;
    note(("one TCP stream", "Gbit/s"), one.gbit_per_s);
    note(("four TCP streams", "Gbit/s"), transfer(system, Streams::Four, effort.seconds).gbit_per_s);
    note(
        ("a TCP stream each way, sum", "Gbit/s"),
        transfer(system, Streams::BothWays, effort.seconds).gbit_per_s,
    );
    if !system.pids.is_empty() {
        note(("CPU per GB, both daemons", "s"), daemons.total() / gigabytes);
        note(("CPU per GB, both daemons, user", "s"), daemons.user / gigabytes);
        note(("CPU per GB, both daemons, system", "s"), daemons.system / gigabytes);
    }
    note(("CPU per GB, whole machine", "s"), machine.total() / gigabytes);
}

fn packets(system: &System, effort: Effort, note: &mut impl FnMut(Figure, f64)) {
    let length = Duration::from_secs(effort.seconds);
    for (size, carried, flooded) in [
        (FULL, "UDP 1372 bytes, under 1 % loss", "UDP 1372 bytes, flooded"),
        (SMALL, "UDP 64 bytes, under 1 % loss", "UDP 64 bytes, flooded"),
    ] {
        let rate = flood(system, size, length / 4);
        // What is offered when nothing holds the sender back bounds what can arrive; a flood costs it some of its CPU.
        note((carried, "kpps"), highest_carried(system, size, 1.5 * rate.offered, length / 8));
        note((flooded, "kpps"), rate.delivered);
    }
}

fn latency(system: &System, effort: Effort, note: &mut impl FnMut(Figure, f64)) {
    let length = Duration::from_secs(effort.seconds) / 2;
    let mut all = |trips: &Trips, figures: [&'static str; 3]| {
        for (figure, share) in figures.into_iter().zip([0.5, 0.99, 0.999]) {
            note((figure, "us"), trips.quantile(share));
        }
    };
    all(
        &round_trips(system, Pace::BackToBack, length),
        ["round trip back to back, p50", "round trip back to back, p99", "round trip back to back, p99.9"],
    );
    all(
        &round_trips(system, Pace::PerMillisecond, length),
        ["round trip each ms, p50", "round trip each ms, p99", "round trip each ms, p99.9"],
    );
    let steady = Steady::start(system, FULL, BESIDE_MBIT);
    all(
        &round_trips(system, Pace::PerMillisecond, length),
        [
            "round trip beside 500 Mbit/s, p50",
            "round trip beside 500 Mbit/s, p99",
            "round trip beside 500 Mbit/s, p99.9",
        ],
    );
    drop(steady);
    let _saturating = Saturating::start(system);
    all(
        &round_trips(system, Pace::PerMillisecond, length),
        [
            "round trip beside full TCP, p50",
            "round trip beside full TCP, p99",
            "round trip beside full TCP, p99.9",
        ],
    );
}
