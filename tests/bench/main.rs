//! Figures for the README: ours and boringtun-cli in turn on one machine, medians with ratios, a JSON line each.
//!
//! The two ends, the load and its sink share the machine's cores: compare within one run, and quote the ratios.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod load;
mod peer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, Node, until};

use crate::load::Ends;

const POLICY: &str = r#"
version = 1
[[allow]]
id = "all-for-the-benchmark"
from = "*"
to = "*"
ports = ["any"]
"#;

struct Options {
    rounds: usize,
    seconds: u64,
    peer: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options { rounds: 3, seconds: 5, peer: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--seconds" => options.seconds = value().parse().unwrap(),
            "--peer" => options.peer = Some(PathBuf::from(value())),
            other => panic!("unknown option {other}: --rounds N --seconds N --peer PATH"),
        }
    }
    options
}

/// Prints one figure of one system: the median of its rounds, and all of them.
fn print(what: &str, unit: &str, system: &str, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    println!(
        "{}",
        serde_json::json!({ "figure": what, "unit": unit, "system": system, "median": median, "rounds": values })
    );
    median
}

/// Figures of one pair of ends, in the order of [`FIGURES`].
fn measure(ends: &Ends, seconds: u64) -> [f64; 5] {
    let tcp = ends.tcp_gbit(seconds);
    let pps = ends.udp_kpps(seconds);
    let mut trips = ends.round_trips_us(Duration::from_secs(2));
    trips.sort_by(f64::total_cmp);
    [tcp, pps.delivered, pps.offered, trips[trips.len() / 2], trips[trips.len() * 99 / 100]]
}

const FIGURES: [(&str, &str); 5] = [
    ("one TCP stream", "Gbit/s"),
    ("UDP 64 bytes delivered, flooded", "kpps"),
    ("UDP 64 bytes offered", "kpps"),
    ("round trip p50", "us"),
    ("round trip p99", "us"),
];

/// Resident set of a process, MB (from /proc/PID/status).
fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let options = options();
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    coordinator.apply(POLICY).unwrap();

    let (mut first_ping, mut nodes) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c", "d"] {
        let token = coordinator.token(name, &[]).unwrap();
        let mut node = Node::prepare(&lab, name).unwrap();
        let started = Instant::now();
        node.start_with(&["--token-file", &token.to_string_lossy()]).unwrap();
        if name != "a" {
            let target = Node::v4(&nodes[0]).to_string();
            until("the first ping", Duration::from_secs(30), || {
                node.host.run("ping", &["-c1", "-W1", &target]).unwrap().ok()
            });
            first_ping.push(started.elapsed().as_secs_f64() * 1e3);
        }
        nodes.push(node);
    }
    print("`bulkhead up` with a token to the first ping", "ms", "bulkhead", first_ping);

    let mut applied = Vec::new();
    for round in 0..20 {
        let folder = coordinator.write_policy(&format!("{POLICY}why = \"round {round}\"\n")).unwrap();
        let started = Instant::now();
        coordinator
            .ctl(&["policy", "apply", &folder.to_string_lossy(), "--wait"])
            .unwrap()
            .success()
            .unwrap();
        applied.push(started.elapsed().as_secs_f64() * 1e3);
    }
    print("`policy apply --wait`, command to last of 4 acknowledgements", "ms", "bulkhead", applied);
    print("resident, idle: coordinator", "MB", "bulkhead", vec![resident_mb(coordinator.process().id())]);
    print("resident, idle: node daemon", "MB", "bulkhead", vec![resident_mb(nodes[0].process().id())]);

    let ours = Ends::new(&nodes[0].host, &nodes[1].host, nodes[1].v4());
    let peer_lab = Lab::new().unwrap();
    let peer = options.peer.as_ref().map(|program| peer::Pair::start(&peer_lab, program));
    let theirs = peer.as_ref().map(|p| Ends::new(&p.left, &p.right, p.right_overlay()));
    let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        our_rounds.push(measure(&ours, options.seconds));
        if let Some(theirs) = &theirs {
            their_rounds.push(measure(theirs, options.seconds));
        }
    }
    for (i, (what, unit)) in FIGURES.into_iter().enumerate() {
        let our_median = print(what, unit, "bulkhead", our_rounds.iter().map(|r| r[i]).collect());
        if !their_rounds.is_empty() {
            let their_median =
                print(what, unit, "boringtun-cli 0.7.1", their_rounds.iter().map(|r| r[i]).collect());
            println!("  ratio bulkhead / boringtun-cli: {:.2}", our_median / their_median);
        }
    }
    print("resident, after load: node daemon", "MB", "bulkhead", vec![resident_mb(nodes[0].process().id())]);
}
