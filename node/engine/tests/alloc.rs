//! Warm buffers, known flows, and no allocation: not few, none. Neither for what our host sends, nor for what peers
//! send, nor for what strangers send. (A program of its own: counting replaces the allocator of all of it.)

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "engine/craft.rs"]
mod craft;
#[path = "engine/domain.rs"]
mod domain;
#[path = "engine/net.rs"]
mod net;

use allocation_counter::measure;
use bulkhead_identity::Now;
use bulkhead_node_engine::*;
use craft::{ACK, SYN, Segment, frame, superframe, tcp, udp};
use domain::Member;
use net::{DB, Net, WEB, arrival};
use std::net::IpAddr;

/// The third node.
const CACHE: usize = 2;
/// Inner packets each way.
const PACKETS: usize = 10_000;
/// Data of one segment: with its headers it fits the smallest path.
const SIZE: usize = 1200;
/// Segments of one superpacket.
const SEGMENTS: usize = 40;
/// Small datagrams to each peer in one batch.
const SMALL: u8 = 8;

const POLICY: &str = r#"
[[allow]]
id = "web-to-all"
from = "role=web"
to = "role in (db, cache)"
ports = ["tcp/5432", "udp/53"]
"#;

fn mesh() -> Net {
    let members = [("web", 10, "role=web"), ("db", 11, "role=db"), ("cache", 12, "role=cache")];
    Net::new(&members.map(|(name, index, labels)| Member::new(name, index, labels)), POLICY)
}

/// Everything that hosts send in one round, the kernel's header in front of each.
struct Host {
    frames: Vec<Vec<u8>>,
    /// What an engine is given: it writes into frames.
    scratch: Vec<Vec<u8>>,
    /// Inner packets that they stand for.
    packets: usize,
}

impl Host {
    /// To or from each peer and in both families: a TCP superpacket, a UDP superpacket, and small datagrams.
    fn new(net: &mut Net, near: usize, far: &[usize]) -> Self {
        let mut host = Self { frames: Vec::new(), scratch: Vec::new(), packets: 0 };
        for &far in far {
            for v6 in [false, true] {
                let at = |node: usize| if v6 { net.nodes[node].v6() } else { net.nodes[node].v4() };
                let (near_at, far_at) = (at(near), at(far));
                if near == WEB {
                    open(net, far, near_at, far_at);
                }
                host.send(near == WEB, near_at, far_at);
            }
        }
        host.scratch = host.frames.clone();
        host
    }

    fn send(&mut self, client: bool, near: IpAddr, far: IpAddr) {
        let ends = |ephemeral, service| if client { (ephemeral, service) } else { (service, ephemeral) };
        let data = vec![7; SEGMENTS * SIZE];
        let (mine, theirs) = ends(40_000, 5432);
        let (from, to) = ((near, mine), (far, theirs));
        let bulk = tcp(Segment { from, to, flags: ACK, sequence: 9, acknowledgement: 9, data: &data });
        let (mine, theirs) = ends(40_000, 53);
        let datagrams = udp((near, mine), (far, theirs), &data);
        self.frames.extend([superframe(&bulk, SIZE), superframe(&datagrams, SIZE)]);
        let small = (0..SMALL).map(|i| frame(&udp((near, mine), (far, theirs), &[i; 24])));
        self.frames.extend(small);
        self.packets += 2 * SEGMENTS + usize::from(SMALL);
    }

    /// What one data thread does with all of it.
    fn outbound(&mut self, engine: &Engine, now: Now, out: &mut Output) {
        for (scratch, frame) in self.scratch.iter_mut().zip(&self.frames) {
            scratch.copy_from_slice(frame);
        }
        engine.batch(now).outbound(self.scratch.iter_mut().map(|frame| &mut frame[..]), out);
    }
}

/// A TCP connection and a UDP flow from web.
fn open(net: &mut Net, far: usize, web_at: IpAddr, far_at: IpAddr) {
    let (client, server) = ((web_at, 40_000), (far_at, 5432));
    let segment =
        |from, to, flags| tcp(Segment { from, to, flags, sequence: 8, acknowledgement: 9, data: b"" });
    for (node, packet) in [
        (WEB, segment(client, server, SYN)),
        (far, segment(server, client, SYN | ACK)),
        (WEB, segment(client, server, ACK)),
        (WEB, udp(client, (far_at, 53), b"query")),
        (far, udp((far_at, 53), client, b"answer")),
    ] {
        let other = if node == WEB { far } else { WEB };
        assert_eq!(net.send(node, &packet).at(other), [&packet[..]]);
    }
}

/// Hands what `from` sent to `to`; how many packets reached the host there, and in how many frames.
fn inbound(net: &Net, from: usize, to: usize, sent: &Output, out: &mut Output) -> usize {
    let (from, to) = (&net.nodes[from], &net.nodes[to]);
    let to_them = sent.trains().filter(|train| train.to == to.endpoint);
    let datagrams = to_them.flat_map(|train| train.datagrams().map(|bytes| arrival(from.endpoint, bytes)));
    to.engine.batch(net.now()).inbound(datagrams, out);
    out.frames().count()
}

fn received(net: &Net, node: usize) -> u64 {
    net.nodes[node].engine.peers(net.now()).iter().map(|peer| peer.received.packets).sum()
}

#[test]
fn ten_thousand_packets_each_way_of_known_flows_allocate_nothing() {
    let mut net = mesh();
    let mut web = Host::new(&mut net, WEB, &[DB, CACHE]);
    let packets = web.packets;
    let mut others = [DB, CACHE].map(|node| (node, Host::new(&mut net, node, &[WEB])));
    let (mut sent, mut arrived) = (Output::new(), Output::new());
    let mut round = |net: &Net| {
        let mut frames = 0;
        web.outbound(&net.nodes[WEB].engine, net.now(), &mut sent);
        for to in [DB, CACHE] {
            frames += inbound(net, WEB, to, &sent, &mut arrived);
            arrived.clear();
        }
        sent.clear();
        for (node, host) in &mut others {
            host.outbound(&net.nodes[*node].engine, net.now(), &mut sent);
            frames += inbound(net, *node, WEB, &sent, &mut arrived);
            arrived.clear();
            sent.clear();
        }
        frames
    };
    // Warm.
    round(&net);
    let before = [WEB, DB, CACHE].map(|node| received(&net, node));
    let rounds = PACKETS.div_ceil(packets);
    let mut frames = 0;
    let counted = measure(|| frames = (0..rounds).map(|_| round(&net)).sum());
    assert_eq!(counted.count_total, 0, "{counted:?}");

    let after = [WEB, DB, CACHE].map(|node| received(&net, node));
    let [at_web, at_db, at_cache] = [0, 1, 2].map(|node| (after[node] - before[node]) as usize);
    assert_eq!((at_web, at_db + at_cache), (rounds * packets, rounds * packets));
    assert!(at_web >= PACKETS && at_db == at_cache, "both peers, both ways");
    assert!(frames > 0 && frames < at_web / 4, "{frames} frames: runs were merged");
}

#[test]
fn refusals_of_packets_allocate_nothing() {
    let net = mesh();
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let data = vec![7; SEGMENTS * SIZE];
    let segment =
        Segment { from: (web, 1), to: (db, 22), flags: ACK, sequence: 9, acknowledgement: 9, data: &data };
    let denied = [
        superframe(&tcp(segment), SIZE),
        superframe(&udp((web, 1), (db, 22), &data), SIZE),
        frame(&udp((web, 1), (db, 22), b"no")),
        frame(&udp((db, 1), (web, 53), b"not mine")),
        frame(b"not IP at all"),
        vec![0; 3],
    ];
    let mut scratch = denied.clone();
    let mut out = Output::new();
    let mut refuse = || {
        for (scratch, frame) in scratch.iter_mut().zip(&denied) {
            scratch.copy_from_slice(frame);
        }
        let frames = scratch.iter_mut().map(|frame| &mut frame[..]);
        net.nodes[WEB].engine.batch(net.now()).outbound(frames, &mut out);
        let answers = out.frames().count();
        assert_eq!(out.datagrams().count(), 0);
        out.clear();
        answers
    };
    assert_eq!(refuse(), 3, "a reset and two errors");
    let counted = measure(|| (0..1000).for_each(|_| _ = refuse()));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// Xorshift (Marsaglia 2003).
fn noise(state: &mut u64, bytes: &mut [u8]) {
    for byte in bytes {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *byte = *state as u8;
    }
}

#[test]
fn g2_garbage_of_every_length_makes_no_output_and_allocates_nothing() {
    let net = mesh();
    let stranger = ([203, 0, 113, 66], 666).into();
    let mut room = vec![0; 2048];
    let mut out = Output::new();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    // Whatever it says it is; one of them is the length of every message there is.
    let mut flood = |lengths: std::ops::Range<usize>| {
        for len in lengths {
            for kind in 0..=5 {
                let datagram = &mut room[..len];
                noise(&mut state, datagram);
                datagram.iter_mut().zip([kind, 0, 0, 0]).for_each(|(byte, value)| *byte = value);
                net.nodes[DB].engine.batch(net.now()).inbound([arrival(stranger, datagram)], &mut out);
                assert!(out.is_empty(), "{len} bytes of kind {kind}");
            }
        }
    };
    flood(0..2048);
    let counted = measure(|| flood(0..2048));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
