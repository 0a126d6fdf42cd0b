//! How large a packet a path carries: found out, kept, told, and never believed of anyone else.

use crate::craft::{ACK, SYN, Segment, read_error, tcp, udp};
use crate::domain::Member;
use crate::net::{DB, Net, Step, WEB, WEB_TO_DB, send};
use bulkhead_node_engine::*;
use std::net::SocketAddr;

/// Headers of WireGuard, UDP and IPv4 around an inner packet.
const OVERHEAD: usize = 32 + 8 + 20;
/// Probes of a search in which every size fails: the largest, and four times the middle of what is left.
const A_SEARCH: usize = 5 * limits::MTU_PROBES as usize;

/// A wire that carries IP packets of `wire_mtu`, between interfaces of 1420.
fn over(wire_mtu: usize) -> Net {
    let members = [Member::new("web", 10, "role=web"), Member::new("db", 11, "role=db")];
    let mut net = Net::with_config(&members, WEB_TO_DB, Config { mtu: 1420, ..Config::default() });
    net.wire_mtu = wire_mtu;
    net
}

fn mtu(net: &Net) -> u16 {
    let db = &net.nodes[DB].member.name;
    net.nodes[WEB].engine.peer(db, net.now()).unwrap().mtu
}

/// An inner packet of `len` bytes.
fn sized(net: &Net, len: usize, v6: bool) -> Vec<u8> {
    let (web, db) = (&net.nodes[WEB], &net.nodes[DB]);
    let (web, db, header) = if v6 { (web.v6(), db.v6(), 48) } else { (web.v4(), db.v4(), 28) };
    udp((web, 4000), (db, 53), &vec![7; len - header])
}

/// Each second a query and its answer. Returns how many datagrams were larger than [`limits::MIN_MTU`] takes.
fn flow(net: &mut Net, seconds: u64) -> usize {
    let query = sized(net, 100, false);
    let answer = udp((net.nodes[DB].v4(), 53), (net.nodes[WEB].v4(), 4000), b"answer");
    let mut large = 0;
    for _ in 0..seconds {
        net.seconds += 1;
        for step in [net.send(WEB, &query), net.send(DB, &answer), net.tick()] {
            large += large_ones(net, &step);
        }
    }
    large
}

fn large_ones(net: &Net, step: &Step) -> usize {
    let from = net.nodes[WEB].endpoint;
    let is_large = |datagram: &[u8]| datagram.len() > usize::from(limits::MIN_MTU) + limits::DATA_OVERHEAD;
    step.wire.iter().filter(|(source, _, datagram)| *source == from && is_large(datagram)).count()
}

/// What the host of web hears of a packet of `len` bytes that its path does not carry.
fn told(net: &mut Net, len: usize, v6: bool) -> u16 {
    let packet = sized(net, len, v6);
    let step = net.send(WEB, &packet);
    assert!(step.wire.is_empty() && step.at(DB).is_empty());
    let (kind, code, quote) = read_error(step.at(WEB)[0]).unwrap();
    assert_eq!((kind, code), if v6 { (2, 0) } else { (3, 4) });
    assert_eq!(quote, packet[..quote.len()]);
    let at = if v6 { 40 + 6 } else { 20 + 6 };
    u16::from_be_bytes([step.at(WEB)[0][at], step.at(WEB)[0][at + 1]])
}

#[test]
fn a_path_of_1500_carries_1420_within_the_first_round_trip() {
    let mut net = over(1500);
    assert_eq!(mtu(&net), 1280);
    assert!(net.udp_arrives(WEB, DB, 4000, 53));
    assert_eq!(mtu(&net), 1420);
    for v6 in [false, true] {
        let packet = sized(&net, 1420, v6);
        let step = net.send(WEB, &packet);
        assert_eq!(step.at(DB), [&packet[..]]);
        assert!(step.wire.iter().all(|(_, _, datagram)| datagram.len() + 28 <= 1500));
    }
}

#[test]
fn a_narrower_path_is_found_to_carry_what_it_carries() {
    for (wire, inner) in
        [(1500, 1420), (1492, 1420), (1476, 1416), (1460, 1400), (1450, 1390), (1400, 1340), (1405, 1340)]
    {
        let mut net = over(wire);
        flow(&mut net, 60);
        assert_eq!(mtu(&net), inner, "{wire}");
        let largest = sized(&net, inner.into(), false);
        assert_eq!(net.send(WEB, &largest).at(DB), [&largest[..]]);
    }
}

#[test]
fn a_path_that_carries_no_more_stays_at_1280_with_few_probes() {
    let mut net = over(1280 + OVERHEAD);
    let probes = flow(&mut net, 3600);
    assert_eq!(mtu(&net), 1280);
    assert!(probes <= 6 * A_SEARCH, "{probes}");
    let largest = sized(&net, 1280, true);
    assert_eq!(net.send(WEB, &largest).at(DB), [&largest[..]]);
}

#[test]
fn larger_packets_are_answered_with_the_figure_of_the_path() {
    let mut net = over(1400);
    flow(&mut net, 60);
    for v6 in [false, true] {
        assert_eq!(told(&mut net, 1341, v6), 1340);
        assert_eq!(told(&mut net, 1500, v6), 1340);
    }
    // Whether the packet may be fragmented makes no difference.
    let mut packet = sized(&net, 1400, false);
    packet[6] = 0;
    let step = net.send(WEB, &packet);
    assert!(step.wire.is_empty());
    assert_eq!(read_error(step.at(WEB)[0]).map(|(kind, code, _)| (kind, code)), Some((3, 4)));
    assert!(net.counter(WEB, Reason::TooBig) >= 5);
}

#[test]
fn nothing_is_told_before_the_first_answer_and_a_large_packet_asks_for_it_at_once() {
    let mut net = over(1500);
    let packet = sized(&net, 1400, false);
    let first = net.send(WEB, &packet);
    assert!(first.packets.is_empty());
    assert_eq!(net.counter(WEB, Reason::PathUnknown), 1);
    assert_eq!(mtu(&net), 1420);
    assert_eq!(net.send(WEB, &packet).at(DB), [&packet[..]]);

    // Over a narrow path the host is told once the first probe was lost.
    let mut net = over(1400);
    assert!(net.send(WEB, &packet).packets.is_empty());
    flow(&mut net, 5);
    assert_eq!(told(&mut net, 1400, false), 1280);
}

#[test]
fn a_black_hole_is_noticed_and_what_is_left_of_the_path_is_found() {
    let mut net = over(1500);
    flow(&mut net, 10);
    assert_eq!(mtu(&net), 1420);
    net.wire_mtu = 1400;
    let patience = limits::MTU_CONFIRMATION_TIMER.as_secs() + 60;
    flow(&mut net, patience);
    assert_eq!(mtu(&net), 1340);
    // And the way back up.
    net.wire_mtu = 1500;
    flow(&mut net, limits::MTU_RAISE_TIMER.as_secs() + 5);
    assert_eq!(mtu(&net), 1420);
}

#[test]
fn a_black_hole_is_noticed_when_only_large_packets_flow_and_nothing_comes_back() {
    let mut net = over(1500);
    flow(&mut net, 3);
    let large = sized(&net, 1420, false);
    net.wire_mtu = 1400;
    let second = |net: &mut Net| {
        net.seconds += 1;
        net.send(WEB, &large);
        net.tick();
    };
    let losses: u64 = (0..u32::from(limits::MTU_PROBES)).map(|lost| 1 << lost).sum();
    (0..limits::MTU_SILENCE.as_secs() + losses + 1).for_each(|_| second(&mut net));
    assert_eq!(mtu(&net), 1280);
    (0..60).for_each(|_| second(&mut net));
    assert_eq!(mtu(&net), 1340);
}

#[test]
fn a_peer_that_is_away_does_not_change_the_figure() {
    let mut net = over(1500);
    flow(&mut net, 10);
    net.wire_mtu = 0;
    let probes = flow(&mut net, 600);
    assert_eq!(mtu(&net), 1420);
    assert!(probes <= 600 / 8 + 4, "{probes}");
    net.wire_mtu = 1500;
    flow(&mut net, 10);
    assert_eq!(mtu(&net), 1420);
}

#[test]
fn a_peer_that_roams_begins_at_1280() {
    let mut net = over(1500);
    flow(&mut net, 10);
    assert_eq!(mtu(&net), 1420);
    net.nodes[DB].endpoint = SocketAddr::from(([198, 51, 100, 7], 4500));
    net.wire_mtu = 1400;
    let answer = udp((net.nodes[DB].v4(), 53), (net.nodes[WEB].v4(), 4000), b"here I am");
    assert_eq!(net.send(DB, &answer).at(WEB), [&answer[..]]);
    assert_eq!(mtu(&net), 1280);
    flow(&mut net, 60);
    assert_eq!(mtu(&net), 1340);
}

#[test]
fn a_peer_that_roams_with_every_datagram_gets_no_more_probes() {
    let mut net = over(1500);
    flow(&mut net, 10);
    let mut large = 0;
    for i in 0..1000u16 {
        net.nodes[DB].endpoint = SocketAddr::from(([198, 51, 100, 7], 1000 + i));
        let answer = udp((net.nodes[DB].v4(), 53), (net.nodes[WEB].v4(), 4000), b"here I am");
        let query = sized(&net, 100, false);
        for step in [net.send(DB, &answer), net.send(WEB, &query), net.tick()] {
            large += large_ones(&net, &step);
        }
        net.seconds += u64::from(i % 100 == 0);
    }
    assert!(large <= 11, "{large}");
}

#[test]
fn no_packets_no_probes_and_busy_paths_get_few() {
    let mut net = over(1500);
    let idle = |net: &mut Net| -> usize {
        (0..3600)
            .map(|_| {
                net.seconds += 1;
                let step = net.tick();
                large_ones(net, &step)
            })
            .sum()
    };
    assert_eq!(idle(&mut net), 0);
    let db = net.nodes[DB].member.name.clone();
    assert!(net.nodes[WEB].engine.peer(&db, net.now()).unwrap().connected, "greeted, and nothing more");
    flow(&mut net, 5);
    assert!(idle(&mut net) <= 1);
    let busy = flow(&mut net, 3600);
    assert!(busy <= 3600 / 60 + 2, "{busy}");

    let mut narrow = over(1400);
    let busy = flow(&mut narrow, 3600);
    // One per minute confirms, six searches look further up.
    assert!(busy <= 60 + 6 * A_SEARCH, "{busy}");
}

#[test]
fn a_size_that_the_kernel_refuses_is_not_used_again() {
    let mut net = over(1500);
    flow(&mut net, 10);
    assert_eq!(mtu(&net), 1420);
    let mut out = Output::new();
    send(&net.nodes[WEB].engine.batch(net.now()), &sized(&net, 100, false), &mut out);
    let db = out.trains().find_map(|train| train.peer).unwrap();
    net.wire_mtu = 1460;
    for _ in 0..40 {
        // A batch that was on its way.
        net.nodes[WEB].engine.too_big(db, 1420 + limits::DATA_OVERHEAD);
    }
    assert_eq!(mtu(&net), 1280);
    flow(&mut net, 30);
    assert_eq!(mtu(&net), 1400);
    net.nodes[WEB].engine.too_big(db, 1420 + limits::DATA_OVERHEAD);
    assert_eq!(mtu(&net), 1400, "a late report of a size that is not used any more");
}

/// As the host sends TCP: the sum of the pseudo header in place of the checksum, and a word about it in front.
#[test]
fn a_tcp_segment_longer_than_the_path_is_cut_and_its_checksum_completed() {
    let mut net = over(1340);
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let data: Vec<u8> = (0..1380).map(|i| i as u8).collect();
    let ours = |flags, sequence, acknowledgement, data| {
        tcp(Segment { from: (web, 4000), to: (db, 5432), flags, sequence, acknowledgement, data })
    };
    net.send(WEB, &ours(SYN, 0, 0, b""));
    let (flags, from, to) = (SYN | ACK, (db, 5432), (web, 4000));
    net.send(DB, &tcp(Segment { from, to, flags, sequence: 0, acknowledgement: 1, data: b"" }));
    let whole = ours(ACK, 1, 1, &data);
    let mut left = whole.clone();
    let transport = whole.len() - 20;
    let pseudo = web_to_db_sum(&whole[12..20], transport);
    left[36..38].copy_from_slice(&pseudo.to_be_bytes());
    let header = [&[1, 0], &[0u8; 4][..], &20u16.to_ne_bytes(), &16u16.to_ne_bytes()].concat();
    let step = net.send_frame(WEB, &[&header[..], &left].concat());
    assert_eq!(step.resets(WEB), [], "the host is not told that it may not");
    // Two segments; what arrives in one batch is one packet again, and that is the one that was sent.
    let arrived: Vec<u8> = step.at(DB).iter().flat_map(|packet| packet[40..].to_vec()).collect();
    assert_eq!(arrived, data);
    assert!(step.at(DB).iter().all(|packet| packet.len() <= 1280));
}

/// The sum of the pseudo header of TCP over IPv4, not inverted.
fn web_to_db_sum(addresses: &[u8], len: usize) -> u16 {
    let words = addresses.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + 6 + len as u32;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
