//! Policy changed as fast as the coordinator takes it, under traffic (L12).

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_tests::{Coordinator, Lab, Node, SOON, until};
use serde_json::json;

use crate::api::Api;
use crate::load::{Echoes, reaches};
use crate::policy::{connect, echo_server, exchange};

/// Permitted by every policy: UDP and TCP.
const ALWAYS: u16 = 7000;
/// Permitted by some policies of the first half only.
const FIRST: u16 = 7001;
/// Permitted by some policies of the second half only.
const SECOND: u16 = 7002;
/// Permitted by none: UDP and TCP.
const NEVER: u16 = 7003;

/// How long each half lasts.
const HALF: Duration = Duration::from_secs(5);
/// Administrators who apply at once.
const ADMINISTRATORS: usize = 4;
/// Datagrams a second, on each port.
const RATE: u32 = 500;

/// A policy that permits [`ALWAYS`], and `port` if there is one.
fn text(port: Option<u16>) -> String {
    let more = port.map(|port| {
        format!(
            "\n[[allow]]\nid = \"sometimes\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"udp/{port}\"]\n\
             why = \"comes and goes\"\n"
        )
    });
    format!(
        "version = 1\n[labels.role]\nvalues = [\"web\", \"db\"]\n\n[[allow]]\nid = \"always\"\nfrom = \"role=web\"\n\
         to = \"role=db\"\nports = [\"tcp/{ALWAYS}\", \"udp/{ALWAYS}\"]\nwhy = \"must not be interrupted\"\n{}",
        more.unwrap_or_default()
    )
}

/// Applies a policy; its generation.
fn apply(api: &mut Api, port: Option<u16>) -> u64 {
    let body = json!({ "sources": { "main.toml": text(port) }, "base": null, "message": "" });
    let (status, answer) = api.post("/api/v1/policy", &body);
    assert_eq!(status, 200, "{answer}");
    answer["generation"].as_u64().unwrap()
}

/// Applies and waits until both nodes have acknowledged.
fn settle(coordinator: &Coordinator, port: Option<u16>) {
    let mut api = Api::connect(coordinator);
    let started = Instant::now();
    let generation = apply(&mut api, port);
    until("every node enforces the last policy", Duration::from_secs(240), || {
        let (status, answer) = api.get(&format!("/api/v1/policy/ack/{generation}"));
        assert_eq!(status, 200, "{answer}");
        answer["acknowledged"].as_array().unwrap().len() == 2
    });
    eprintln!("generation {generation} is in force everywhere after {:?}", started.elapsed());
}

/// Several administrators switch `port` on and off for a while; how many policies they applied.
fn churn(coordinator: &Coordinator, port: u16) -> u64 {
    let deadline = Instant::now() + HALF;
    std::thread::scope(|scope| {
        let administrators: Vec<_> = (0..ADMINISTRATORS)
            .map(|_| {
                scope.spawn(|| {
                    let mut api = Api::connect(coordinator);
                    let mut applied = 0;
                    while Instant::now() < deadline {
                        apply(&mut api, (applied % 2 == 0).then_some(port));
                        applied += 1;
                    }
                    applied
                })
            })
            .collect();
        administrators.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Resident memory of a process in KiB.
fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Exchanges on one connection and asks for forbidden ones, until told to stop; how many exchanges there were.
fn tcp_load(web: &Node, db: &Node, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let mut stream = connect(web, (db.v4(), ALWAYS).into()).unwrap();
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut exchanges = 0;
        while !stop.load(Ordering::Relaxed) {
            exchange(&mut stream).expect("what every policy permits is not interrupted");
            exchanges += 1;
            std::thread::park_timeout(Duration::from_millis(1));
        }
        exchanges
    })
}

/// Counts the connections that arrive at `port`.
fn arrivals(db: &Node, port: u16) -> Arc<AtomicU64> {
    let listener = db.host.inside(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counting = count.clone();
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    count
}

#[test]
fn l12_policies_follow_each_other_and_nothing_passes_that_none_of_them_permits() {
    let lab = Lab::new().unwrap();
    let mut coordinator = Coordinator::start(&lab, &[]).unwrap();
    let mut web = Node::enrol(&lab, &coordinator, "web", &["role=web"]).unwrap();
    let mut db = Node::enrol(&lab, &coordinator, "db", &["role=db"]).unwrap();
    settle(&coordinator, None);
    echo_server(&db, ALWAYS);
    until("the pair talks", SOON, || reaches(&web, (db.v4(), ALWAYS)));

    let stop = Arc::new(AtomicBool::new(false));
    let exchanges = tcp_load(&web, &db, &stop);
    let forbidden = arrivals(&db, NEVER);
    let [always, first, second, never] =
        [ALWAYS, FIRST, SECOND, NEVER].map(|port| Echoes::start(&web, &db, port, RATE));

    let before = [coordinator.process().id(), web.process().id(), db.process().id()].map(resident_kib);
    let halted = AtomicBool::new(false);
    let mut applied = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !halted.load(Ordering::Relaxed) {
                assert!(!reaches(&web, (db.v4(), NEVER)));
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        let applied = churn(&coordinator, FIRST);
        settle(&coordinator, None);
        halted.store(true, Ordering::Relaxed);
        applied
    });
    let passed = first.delivered();
    assert!(passed > 0, "what comes and goes passes at times");
    assert_eq!(second.delivered(), 0, "no policy of the first half permits this");

    applied += churn(&coordinator, SECOND);
    settle(&coordinator, Some(SECOND));
    let after = [coordinator.process().id(), web.process().id(), db.process().id()].map(resident_kib);
    eprintln!(
        "{applied} policies in {:?}: {:.0} a second; resident KiB of coordinator, web, db: {before:?}, then {after:?}",
        2 * HALF,
        applied as f64 / (2 * HALF).as_secs_f64()
    );
    assert_eq!(first.delivered(), passed, "no policy of the second half permits this");
    assert_eq!(never.delivered(), 0, "no policy permits this");
    assert_eq!(forbidden.load(Ordering::Relaxed), 0, "no policy permits this");
    let seen = second.heard();
    until("the last policy is in force", SOON, || second.heard() > seen);

    stop.store(true, Ordering::Relaxed);
    let exchanges = exchanges.join().unwrap();
    let tally = always.finish();
    eprintln!("{exchanges} exchanges, {} echoes beside them", tally.sent);
    assert_eq!(tally.lost, [0; 0], "of {} echoes that every policy permits", tally.sent);
    for (now, then) in after.iter().zip(before) {
        // The history of 256 generations, and no more with every change.
        assert!(*now < then + (64 << 10), "resident KiB grew from {before:?} to {after:?}");
    }
}
