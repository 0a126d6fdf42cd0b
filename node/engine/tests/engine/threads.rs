//! The laws under threads: two data threads and the control task on one engine. L11, L12.

use crate::craft::udp;
use crate::net::{DB, Net, WEB, WEB_TO_DB, arrival, send, three};
use bulkhead_identity::Now;
use bulkhead_node_engine::*;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn the_engine_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Engine>();
}

#[test]
fn a_batch_that_began_before_a_removal_lets_nothing_through_after_it() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    let (web, db, now) = (net.nodes[WEB].v4(), net.nodes[DB].v4(), net.now());
    let sent = net.send_held(WEB, &udp((web, 1), (db, 53), b"late"));
    net.policy = net.domain.policy("");
    let world = net.world(DB);
    let engine = &net.nodes[DB].engine;

    let batch = engine.batch(now);
    let mut out = Output::new();
    let _ = engine.apply(world, &mut out, now);
    out.clear();
    // The old snapshot still leads to the peer; the peer refuses.
    batch.inbound([arrival(net.nodes[WEB].endpoint, &sent.wire[0].2)], &mut out);
    send(&batch, &udp((db, 53), (web, 1), b"answer"), &mut out);
    assert_eq!(out.datagrams().count(), 0);
    assert!(out.packets().all(|packet| packet[9] == 1), "nothing but what our host is told");
    assert_eq!(engine.counters().of(Reason::PeerRemoved), 2);
}

#[test]
fn a_batch_that_began_before_a_narrower_policy_is_judged_by_it() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    assert!(net.udp_arrives(WEB, DB, 1, 9));
    let (web, db, now) = (net.nodes[WEB].v4(), net.nodes[DB].v4(), net.now());
    let denied = net.send_held(WEB, &udp((web, 1), (db, 9), b"late")).wire;
    let allowed = net.send_held(WEB, &udp((web, 1), (db, 53), b"fine")).wire;
    net.policy = net.domain.policy(
        "[[allow]]\nid = \"web-to-db\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"udp/53\"]\n",
    );
    let world = net.world(DB);
    let engine = &net.nodes[DB].engine;
    let batch = engine.batch(now);
    let mut out = Output::new();
    let _ = engine.apply(world, &mut out, now);
    out.clear();
    for datagram in denied.iter().chain(&allowed) {
        batch.inbound([arrival(net.nodes[WEB].endpoint, &datagram.2)], &mut out);
    }
    assert_eq!(out.packets().collect::<Vec<_>>(), [&udp((web, 1), (db, 53), b"fine")[..]]);
}

/// Datagrams that each carry one numbered packet.
fn numbered(net: &Net, ports: &[u16], count: u32, now: Now) -> Vec<Vec<u8>> {
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let mut out = Output::new();
    let batch = net.nodes[WEB].engine.batch(now);
    for i in 0..count {
        send(&batch, &udp((web, 1), (db, ports[i as usize % ports.len()]), &i.to_be_bytes()), &mut out);
    }
    let datagrams: Vec<_> = out.datagrams().map(|(_, datagram)| datagram.to_vec()).collect();
    assert_eq!(datagrams.len(), count as usize);
    datagrams
}

#[test]
fn l11_nothing_arrives_after_apply_has_returned_while_threads_go_on() {
    for round in 0..20 {
        let mut net = three();
        assert!(net.udp_arrives(WEB, DB, 1, 53));
        let now = net.now();
        let datagrams = numbered(&net, &[53], 4000, now);
        net.policy = net.domain.policy("");
        let world = net.world(DB);
        let (engine, from): (&Engine, SocketAddr) = (&net.nodes[DB].engine, net.nodes[WEB].endpoint);
        let answer = udp((net.nodes[DB].v4(), 53), (net.nodes[WEB].v4(), 1), b"answer");
        let (applied, delivered) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|threads| {
            let halves = datagrams.split_at(datagrams.len() / 2);
            for half in [halves.0, halves.1] {
                let (applied, delivered, answer) = (&applied, &delivered, &answer);
                threads.spawn(move || {
                    let mut out = Output::new();
                    for chunk in half.chunks(32) {
                        let batch = engine.batch(now);
                        for datagram in chunk {
                            out.clear();
                            let after = applied.load(Ordering::SeqCst);
                            batch.inbound([arrival(from, datagram)], &mut out);
                            let arrived = out.packets().count();
                            send(&batch, answer, &mut out);
                            let left = out.datagrams().count();
                            assert!(!after || (arrived, left) == (0, 0), "after apply, in round {round}");
                            delivered.fetch_add(arrived as u64, Ordering::SeqCst);
                        }
                    }
                });
            }
            // Some way into the traffic, not at its start.
            while delivered.load(Ordering::SeqCst) < 200 {
                std::hint::spin_loop();
            }
            let changes = engine.apply(world, &mut Output::new(), now);
            applied.store(true, Ordering::SeqCst);
            assert_eq!(changes.removed.len(), 1);
        });
    }
}

#[test]
fn l12_a_thousand_policy_changes_under_traffic_let_nothing_pass_that_neither_admits() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    let now = net.now();
    // 53 is always permitted, 9 by every second policy, 7 by none that db knows; web sends them all.
    let allow = |ports: &str| {
        format!("[[allow]]\nid = \"r\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [{ports}]\n")
    };
    net.policy = net.domain.policy(&allow("\"udp/53\", \"udp/9\", \"udp/7\""));
    net.sync_one(WEB);
    let datagrams = numbered(&net, &[53, 9, 7], 12_000, now);
    let worlds: Vec<World> = (0..1000)
        .map(|i| {
            net.policy =
                net.domain.policy(&allow(if i % 2 == 0 { "\"udp/53\", \"udp/9\"" } else { "\"udp/53\"" }));
            net.world(DB)
        })
        .collect();
    let (engine, from) = (&net.nodes[DB].engine, net.nodes[WEB].endpoint);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for world in worlds {
                let _ = engine.apply(world, &mut Output::new(), now);
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut out = Output::new();
        let (mut always, mut never) = (0, 0);
        for chunk in datagrams.chunks(8) {
            let batch = engine.batch(now);
            for datagram in chunk {
                batch.inbound([arrival(from, datagram)], &mut out);
            }
            for packet in out.packets().filter(|packet| packet[9] == 17) {
                match u16::from_be_bytes([packet[22], packet[23]]) {
                    53 => always += 1,
                    9 => {}
                    _ => never += 1,
                }
            }
            out.clear();
        }
        // Unaffected traffic loses nothing by a thousand changes.
        assert_eq!((always, never), (4000, 0));
        while !done.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
    });
    assert_eq!(net.nodes[DB].engine.flows(now).iter().filter(|flow| flow.local.1 == 9).count(), 0);
    net.set_policy(WEB_TO_DB);
    assert!(net.udp_arrives(WEB, DB, 1, 9));
}

/// When the batch is over, by a panic too, nobody waits for it.
struct LookedAtAll<'a>(&'a AtomicU64);

impl Drop for LookedAtAll<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
    }
}

/// The numbers in the packets for the host, one by one.
fn numbers(out: &Output) -> Vec<u32> {
    let mut numbers = Vec::new();
    for frame in out.frames() {
        let mut frame = frame.to_vec();
        let (header, bytes) = frame.split_first_chunk_mut::<{ offload::VNET_HEADER_BYTES }>().unwrap();
        let header = *header;
        let number = |packet: &[u8]| u32::from_be_bytes(packet[28..32].try_into().unwrap());
        offload::split(bytes, &header, usize::MAX, |packet| numbers.push(number(packet))).unwrap();
    }
    numbers
}

#[test]
fn l11_of_one_batch_nothing_is_delivered_that_was_looked_at_after_apply_had_returned() {
    for round in 0..20 {
        let mut net = three();
        assert!(net.udp_arrives(WEB, DB, 1, 53));
        let now = net.now();
        let datagrams = numbered(&net, &[53], 4000, now);
        net.policy = net.domain.policy("");
        let world = net.world(DB);
        let (engine, from) = (&net.nodes[DB].engine, net.nodes[WEB].endpoint);
        let (looked_at, applied) = (AtomicU64::new(0), AtomicBool::new(false));
        // The first that was taken from the socket when `apply` had returned.
        let mut late = None;
        let mut out = Output::new();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while looked_at.load(Ordering::SeqCst) < 200 {
                    std::hint::spin_loop();
                }
                let changes = engine.apply(world, &mut Output::new(), now);
                applied.store(true, Ordering::SeqCst);
                assert_eq!(changes.removed.len(), 1);
            });
            let _end = LookedAtAll(&looked_at);
            let arrivals = (0u32..).zip(&datagrams).map(|(number, datagram)| {
                looked_at.store(u64::from(number), Ordering::SeqCst);
                if late.is_none() && applied.load(Ordering::SeqCst) {
                    late = Some(number);
                }
                arrival(from, datagram)
            });
            engine.batch(now).inbound(arrivals, &mut out);
        });
        let delivered = numbers(&out);
        assert!(delivered.iter().copied().eq(0..delivered.len() as u32), "in order, and none is missing");
        let late = late.unwrap_or(4000);
        assert!(delivered.len() <= late as usize, "{} after {late}, in round {round}", delivered.len());
        assert_eq!(engine.counters().of(Reason::PeerRemoved), 4000 - delivered.len() as u64);
    }
}

#[test]
fn l12_of_one_batch_nothing_is_delivered_that_the_policy_denied_when_it_was_looked_at() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    assert!(net.udp_arrives(WEB, DB, 1, 9));
    let now = net.now();
    // Runs of two flows: 53 stays permitted, 9 does not.
    let datagrams = numbered(&net, &[53, 53, 53, 9, 9, 9], 6000, now);
    net.policy = net.domain.policy(
        "[[allow]]\nid = \"web-to-db\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"udp/53\"]\n",
    );
    let world = net.world(DB);
    let (engine, from) = (&net.nodes[DB].engine, net.nodes[WEB].endpoint);
    let (looked_at, applied) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut late = None;
    let mut out = Output::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while looked_at.load(Ordering::SeqCst) < 200 {
                std::hint::spin_loop();
            }
            let _ = engine.apply(world, &mut Output::new(), now);
            applied.store(true, Ordering::SeqCst);
        });
        let _end = LookedAtAll(&looked_at);
        let arrivals = (0u32..).zip(&datagrams).map(|(number, datagram)| {
            looked_at.store(u64::from(number), Ordering::SeqCst);
            if late.is_none() && applied.load(Ordering::SeqCst) {
                late = Some(number);
            }
            arrival(from, datagram)
        });
        engine.batch(now).inbound(arrivals, &mut out);
    });
    let delivered = numbers(&out);
    assert!(delivered.is_sorted());
    let is_denied = |number: &&u32| **number % 6 >= 3;
    assert_eq!(delivered.iter().filter(|number| !is_denied(number)).count(), 3000, "53 lost packets");
    let late: u32 = late.unwrap_or(6000);
    assert!(delivered.iter().filter(is_denied).all(|number| *number < late), "9 after {late}");
    let denied = delivered.iter().filter(is_denied).count() as u64;
    // The change itself ended one flow.
    let refused = engine.counters().of(Reason::NoPermit) + engine.counters().of(Reason::FlowRevoked);
    assert_eq!(refused, 3000 - denied + 1);
}
