//! What ten thousand permitted peers cost that have nothing to say (design/09-performance.md: at most 1 ms of CPU per
//! second).
#![expect(clippy::disallowed_methods, reason = "what a tick costs is printed, and asserted nowhere")]

use crate::domain::{Domain, Member, START, now};
use crate::net::{WEB_TO_DB, node, send};
use bulkhead_identity::{Now, Timestamp};
use bulkhead_node_engine::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEERS: u16 = 10_000;
/// Of those that are asleep, as many as most of what is measured.
const TICKS: u32 = 2_000;

/// The mean time of ticks, which is CPU time: nobody waits in them.
fn mean(engine: &Engine, seconds: &mut u64) -> Duration {
    let mut out = Output::new();
    let start = Instant::now();
    for tick in 0..TICKS {
        *seconds += u64::from(tick % 4 == 0);
        engine.handle_timeout(now(*seconds), &mut out);
        assert!(out.is_empty(), "an idle peer sends nothing");
    }
    start.elapsed() / TICKS
}

/// `cargo test --release -p bulkhead-node-engine --test engine -- --ignored --nocapture idle`
#[test]
#[ignore = "prints a figure; ten thousand certificates take a while"]
fn ten_thousand_idle_peers() {
    let mut domain = Domain::new();
    let policy = domain.policy(WEB_TO_DB);
    let me = node(&mut domain, &Member::new("web", 10, "role=web"), Config::default());
    let peers = (0..PEERS).map(|number| {
        let member = Member::numbered(number, "role=db");
        PeerEntry { name: member.name.clone(), chain: domain.certify(&member), endpoints: Vec::new() }
    });
    let world = World {
        peers: peers.collect(),
        trust: Arc::clone(&domain.trust),
        policy,
        revocations: Arc::default(),
        me: domain.verify(&me.chain),
    };
    let mut out = Output::new();
    let mut seconds = 100;
    let changes = me.engine.apply(world, &mut out, now(seconds));
    assert_eq!(changes.added.len(), usize::from(PEERS));

    let asleep = mean(&me.engine, &mut seconds);
    println!("{PEERS} idle peers: {asleep:?} a tick, {:?} a second", asleep * 4);

    // A clock that is set back again and again has everyone visited.
    seconds += 1_000;
    let start = Instant::now();
    for back in 0..100 {
        let now = Now { wall: Timestamp(START.0 + seconds - back), ..now(seconds) };
        me.engine.handle_timeout(now, &mut out);
    }
    println!("a tick that visits all: {:?}", start.elapsed() / 100);

    // Packets that have nowhere to go: flows that time has to end.
    for number in 0..PEERS {
        let to = Member::numbered(number, "role=db").addresses.v4.into();
        let packet = crate::craft::udp((me.v4(), 1), (to, 53), b"x");
        send(&me.engine.batch(now(seconds)), &packet, &mut out);
    }
    out.clear();
    let awake = mean(&me.engine, &mut seconds);
    println!("{PEERS} peers, each with a flow for 30 of {} seconds: {awake:?} a tick", TICKS / 4);
    assert!(me.engine.flows(now(seconds)).is_empty());
}
