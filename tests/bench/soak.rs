//! Mixed traffic for half an hour while keys, addresses and policy change: does anything break, does memory grow?
//!
//! WireGuard's rekey interval (120 s) is the library's and cannot be lowered: thirty minutes see fifteen rekeys. What
//! broke decides the exit code; how fast anything was does not.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_tests::{Lab, Namespace, Node};

use crate::echo::Echo;
use crate::mesh::{Mesh, permissive};
use crate::report::rounded;
use crate::traffic::{Tally, Way};
use crate::usage::resident_mb;
use crate::wire::INTERFACE;

const ROAM_EVERY: Duration = Duration::from_secs(60);
const POLICY_EVERY: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Answers that may be missing of a hundred thousand: packets that were on their way to an address that is gone.
const MISSING_PER_100_000: u64 = 500;

/// How often a drop may happen without anything being wrong.
#[derive(Clone, Copy)]
enum Bound {
    None,
    /// Once for each rekey and each change of address.
    Handshakes,
}

/// Why packets may be dropped here without anything being wrong.
const EXPLAINED: [(&str, Bound, &str); 9] = [
    (
        "congested",
        Bound::None,
        "segments that a bulk stream lost so that it keeps the interface's queue short",
    ),
    (
        "network_refused",
        Bound::None,
        "datagrams of the moment in which a host that changes its address has none",
    ),
    ("unknown_index", Bound::None, "data for a session that a rekey has replaced"),
    (
        "bad_counter",
        Bound::None,
        "data that overtook others by more than the replay window while an address changed",
    ),
    (
        "forbidden_address",
        Bound::None,
        "multicast and link-local packets that the host itself sends into the tunnel",
    ),
    (
        "source_not_mine",
        Bound::None,
        "packets that the host itself sends into the tunnel from another address",
    ),
    ("unwanted_icmp", Bound::None, "router and neighbour solicitations of the host itself"),
    ("waited_too_long", Bound::None, "packets that waited for a handshake while an address changed"),
    (
        "repeated_handshake",
        Bound::Handshakes,
        "the copy of an initiation that came by the left host's second address",
    ),
];

/// Drop counters of one node by reason.
type Drops = BTreeMap<String, u64>;

/// Runs for so long, prints, and fails when something broke.
pub(crate) fn run(length: Duration) -> ExitCode {
    let lab = Lab::new().unwrap();
    let mut mesh = Mesh::start(&lab, &permissive(0));
    let pids = mesh.pids();
    let before = mesh.nodes.each_ref().map(drops);
    for (node, before) in mesh.nodes.iter().zip(&before) {
        println!("{}: dropped before the tunnel stood: {before:?}", node.name);
    }
    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    let (roamed, applied) = (AtomicU64::new(0), AtomicU64::new(0));
    let memory = std::thread::scope(|scope| {
        let [left, right] = mesh.hosts();
        let (tally, stop) = (&tally, &stop);
        let there =
            Way { name: "left to right", from: left, to: right, address: mesh.nodes[1].v4(), stop, tally };
        let back =
            Way { name: "right to left", from: right, to: left, address: mesh.nodes[0].v4(), stop, tally };
        let _servers = [Echo::open(right, 7301), Echo::open(right, 7302)];
        let mut threads = vec![
            scope.spawn(move || there.bulk(7201)),
            scope.spawn(move || back.bulk(7201)),
            scope.spawn(move || there.questions(7301)),
            scope.spawn(move || there.echoes(7302)),
        ];
        threads.push(
            scope.spawn(|| every(ROAM_EVERY, stop, || roam(right, roamed.fetch_add(1, Ordering::Relaxed)))),
        );
        let policy = || {
            let rules = applied.fetch_add(1, Ordering::Relaxed) % 2;
            mesh.coordinator.apply(&permissive(rules as usize)).unwrap();
        };
        threads.push(scope.spawn(move || every(POLICY_EVERY, stop, policy)));
        let memory = watch(&pids, length, tally, || mesh.nodes.each_ref().map(drops));
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        memory
    });
    let (roamed, rekeys) = (roamed.into_inner(), length.as_secs() / 120);
    println!("{} policy changes, {roamed} changes of address, {rekeys} rekeys", applied.into_inner());
    let mut wrong = tally.broken.lock().unwrap().clone();
    println!("bulk TCP: {:.1} GB, connections that broke: {}", gigabytes(&tally), wrong.len());
    for (what, sent, back) in
        [("questions", &tally.asked, &tally.answered), ("echoes", &tally.called, &tally.echoed)]
    {
        let (sent, back) = (sent.load(Ordering::Relaxed), back.load(Ordering::Relaxed));
        println!("{what}: {sent}, without an answer: {}", sent - back);
        if (sent - back) * 100_000 > sent * MISSING_PER_100_000 {
            wrong.push(format!("{what}: {} of {sent} without an answer", sent - back));
        }
    }
    for ((node, samples), before) in mesh.nodes.iter_mut().zip(&memory).zip(&before) {
        let half = &samples[samples.len() / 2..];
        println!(
            "{}: resident {:.1} MB, slope over the second half {} KB/min",
            node.name,
            samples.last().map_or(f64::NAN, |(_, mb)| *mb),
            rounded(slope(half) * 60.0 * 1024.0)
        );
        if !node.process().running() {
            wrong.push(format!("{} ended", node.name));
        }
        wrong.extend(unexplained(node, before, rekeys + roamed));
    }
    wrong.iter().for_each(|what| println!("BROKEN: {what}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Samples memory until the end: (seconds, MB) of each process.
fn watch(
    pids: &[u32],
    length: Duration,
    tally: &Tally,
    drops: impl Fn() -> [Drops; 2],
) -> Vec<Vec<(f64, f64)>> {
    let started = Instant::now();
    let mut samples = vec![Vec::new(); pids.len()];
    let never = AtomicBool::new(false);
    let rounds = (length.as_secs_f64() / SAMPLE_EVERY.as_secs_f64()) as u32;
    for round in 1..=rounds {
        wait_until(started + SAMPLE_EVERY * round, &never);
        for (samples, &pid) in samples.iter_mut().zip(pids) {
            samples.push((started.elapsed().as_secs_f64(), resident_mb(pid)));
        }
        let resident: Vec<f64> =
            samples.iter().filter_map(|s| s.last()).map(|(_, mb)| rounded(*mb)).collect();
        println!(
            "{}",
            serde_json::json!({
                "seconds": started.elapsed().as_secs(), "resident_mb": resident, "bulk_gb": rounded(gigabytes(tally)),
                "dropped": drops(),
            })
        );
    }
    samples
}

fn gigabytes(tally: &Tally) -> f64 {
    tally.bulk_bytes.load(Ordering::Relaxed) as f64 / 1e9
}

fn wait_until(due: Instant, stop: &AtomicBool) {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::park_timeout(left.min(Duration::from_millis(100)));
    }
}

fn every(period: Duration, stop: &AtomicBool, mut act: impl FnMut()) {
    let mut due = Instant::now() + period;
    loop {
        wait_until(due, stop);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        act();
        due += period;
    }
}

/// The right node's only underlay address goes, and another comes; so does its route to the coordinator.
fn roam(host: &Namespace, times: u64) {
    let address = |number: u64| format!("10.77.0.{}/24", if number == 0 { 2 } else { 10 + number % 200 });
    host.ip(&["addr", "del", &address(times), "dev", INTERFACE]).unwrap();
    host.ip(&["addr", "add", &address(times + 1), "dev", INTERFACE]).unwrap();
    host.ip(&["route", "replace", "10.78.0.0/24", "via", "10.77.0.1"]).unwrap();
}

fn drops(node: &Node) -> Drops {
    serde_json::from_value(node.json(&["peers", "--denied"]).unwrap()["dropped"].clone()).unwrap()
}

/// Prints what was dropped since `before`; what of it nothing here explains.
fn unexplained(node: &Node, before: &Drops, handshakes: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (reason, count) in drops(node) {
        let count = count - before.get(&reason).copied().unwrap_or(0);
        if count == 0 {
            continue;
        }
        let known = EXPLAINED.iter().find(|(known, ..)| *known == reason);
        println!(
            "{}: dropped {count} {reason}: {}",
            node.name,
            known.map_or("not explained", |(.., why)| why)
        );
        let explained = known.is_some_and(|(_, bound, _)| match bound {
            Bound::None => true,
            Bound::Handshakes => count <= handshakes,
        });
        if !explained {
            wrong.push(format!("{}: {count} packets dropped: {reason}", node.name));
        }
    }
    wrong
}

/// Least squares, MB per second.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let (x, y) = samples.iter().fold((0.0, 0.0), |sum, s| (sum.0 + s.0 / count, sum.1 + s.1 / count));
    let above: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    let below: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
    if below == 0.0 { 0.0 } else { above / below }
}
