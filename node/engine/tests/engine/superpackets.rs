//! Superpackets from our host: judged once, counted as what they stand for, cut to the path, and answered once when
//! they are refused.

use crate::craft::{ACK, SYN, Segment, checksum, pseudo, read_error, read_reset, superframe, tcp, udp};
use crate::domain::Member;
use crate::net::{DB, Net, Step, WEB, WEB_TO_DB};
use bulkhead_node_engine::limits::{DATA_OVERHEAD, MAX_WAITING_PACKETS, MIN_MTU};
use bulkhead_node_engine::*;
use std::net::IpAddr;

/// Interfaces of 1420, over a wire that carries IP packets of `wire_mtu`.
fn over(wire_mtu: usize) -> Net {
    let members = [Member::new("web", 10, "role=web"), Member::new("db", 11, "role=db")];
    let mut net = Net::with_config(&members, WEB_TO_DB, Config { mtu: 1420, ..Config::default() });
    net.wire_mtu = wire_mtu;
    net
}

fn ends(net: &Net, v6: bool) -> (IpAddr, IpAddr) {
    let at = |node: usize| if v6 { net.nodes[node].v6() } else { net.nodes[node].v4() };
    (at(WEB), at(DB))
}

impl Net {
    /// The host of `node` sends a frame.
    pub fn send_frame(&mut self, node: usize, frame: &[u8]) -> Step {
        let step = self.send_frame_held(node, frame);
        self.settle(step)
    }

    fn send_frame_held(&mut self, node: usize, frame: &[u8]) -> Step {
        let (mut out, mut step) = (Output::new(), Step::default());
        self.nodes[node].engine.batch(self.now()).outbound([&mut frame.to_vec()[..]], &mut out);
        let from = self.nodes[node].endpoint;
        step.wire.extend(out.datagrams().map(|(to, datagram)| (from, to, datagram.to_vec())));
        step.packets.extend(out.packets().map(|packet| (node, packet.to_vec())));
        step
    }
}

/// Bytes that are not like their neighbours.
fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Opens a stream from web, and returns the headers of its next segment.
fn stream(net: &mut Net, v6: bool) -> Segment<'static> {
    let (web, db) = ends(net, v6);
    let segment =
        Segment { from: (web, 4000), to: (db, 5432), flags: SYN, sequence: 8, acknowledgement: 0, data: b"" };
    let back =
        Segment { from: segment.to, to: segment.from, flags: SYN | ACK, acknowledgement: 9, ..segment };
    assert_eq!(net.send(WEB, &tcp(segment)).at(DB).len(), 1);
    assert_eq!(net.send(DB, &tcp(back)).at(WEB).len(), 1);
    Segment { flags: ACK, sequence: 9, acknowledgement: 9, ..segment }
}

/// The data of the stream that reached db's host, in order from `sequence` on.
fn read(step: &Step, v6: bool, mut sequence: u32) -> Vec<u8> {
    let headers = if v6 { 40 } else { 20 };
    let mut data = Vec::new();
    for packet in step.at(DB) {
        let at = headers + 4;
        assert_eq!(packet[at..at + 4], sequence.to_be_bytes(), "nothing is missing, nothing comes twice");
        data.extend(&packet[headers + 20..]);
        sequence += (packet.len() - headers - 20) as u32;
    }
    data
}

#[test]
fn a_denied_superpacket_is_answered_once() {
    let mut net = over(1500);
    let bytes = data(20_000);
    for v6 in [false, true] {
        let (web, db) = ends(&net, v6);
        let segment = Segment {
            from: (web, 1),
            to: (db, 22),
            flags: ACK,
            sequence: 9,
            acknowledgement: 700,
            data: &bytes,
        };
        let step = net.send_frame(WEB, &superframe(&tcp(segment), 1200));
        assert!(step.wire.is_empty());
        assert_eq!(step.packets.len(), 1);
        // A reset as the other end would send it (RFC 9293, section 3.5.2): at the number that was acknowledged.
        assert_eq!(read_reset(step.at(WEB)[0]).map(|(from, to, at, _)| (from, to, at)), Some((22, 1, 700)));

        let step = net.send_frame(WEB, &superframe(&udp((web, 1), (db, 123), &bytes), 1200));
        assert!(step.wire.is_empty());
        assert_eq!(step.packets.len(), 1);
        let (kind, code, _) = read_error(step.at(WEB)[0]).unwrap();
        assert_eq!((kind, code), if v6 { (1, 1) } else { (3, 13) });
    }
    assert!(net.nodes[DB].engine.flows(net.now()).is_empty());
}

#[test]
fn tcp_is_cut_again_to_a_path_that_carries_less_than_its_sender_believed() {
    for (wire, carries) in [(1500, 1420), (1280 + 60, 1280)] {
        let mut net = over(wire);
        for v6 in [false, true] {
            let next = stream(&mut net, v6);
            let size = 1420 - if v6 { 60 } else { 40 };
            let bytes = data(40_000);
            let step = net.send_frame(WEB, &superframe(&tcp(Segment { data: &bytes, ..next }), size));
            assert_eq!(read(&step, v6, 9), bytes, "over {wire}");
            let longest = step.wire.iter().map(|(_, _, datagram)| datagram.len()).max();
            assert_eq!(longest, Some(carries + DATA_OVERHEAD), "over {wire}");
        }
    }
}

#[test]
fn a_packet_whose_checksum_is_left_to_us_is_cut_as_well() {
    let mut net = over(1280 + 60);
    for v6 in [false, true] {
        let next = stream(&mut net, v6);
        let headers = if v6 { 60 } else { 40 };
        let bytes = data(1420 - headers);
        let mut frame = superframe(&tcp(Segment { data: &bytes, ..next }), 0);
        // Checksum only: no kind of superpacket, and the sum of the pseudo header where the checksum will be.
        frame[1] = 0;
        frame[10 + headers - 4..10 + headers - 2].copy_from_slice(&pseudo_sum(&net, v6, 1420).to_be_bytes());
        let step = net.send_frame(WEB, &frame);
        assert_eq!(step.at(WEB), [&[] as &[u8]; 0], "no reset");
        assert_eq!(read(&step, v6, 9), bytes);
        assert!(step.wire.iter().all(|(_, _, datagram)| datagram.len() <= 1280 + DATA_OVERHEAD));
    }
}

/// What the kernel puts in place of the checksum of a TCP packet of `len` bytes from web to db that it leaves to us.
fn pseudo_sum(net: &Net, v6: bool, len: usize) -> u16 {
    let (web, db) = ends(net, v6);
    !checksum(&[&pseudo(web, db, 6, len - if v6 { 40 } else { 20 })])
}

#[test]
fn datagrams_are_refused_with_the_figure_of_the_path() {
    let mut net = over(1280 + 60);
    assert!(net.udp_arrives(WEB, DB, 4000, 53));
    // Long enough that the search has ended.
    for _ in 0..60 {
        net.seconds += 1;
        assert!(net.udp_arrives(WEB, DB, 4000, 53));
        net.tick();
        let (web, db) = ends(&net, false);
        net.send(DB, &udp((db, 53), (web, 4000), b"answer"));
    }
    for v6 in [false, true] {
        let (web, db) = ends(&net, v6);
        let bytes = data(9000);
        let headers = if v6 { 48 } else { 28 };
        let frame = superframe(&udp((web, 4000), (db, 53), &bytes), 1281 - headers);
        let step = net.send_frame(WEB, &frame);
        assert!(step.wire.is_empty() && step.at(DB).is_empty());
        assert_eq!(step.at(WEB).len(), 1, "one answer");
        let (kind, code, _) = read_error(step.at(WEB)[0]).unwrap();
        assert_eq!((kind, code), if v6 { (2, 0) } else { (3, 4) });
        let at = if v6 { 46 } else { 26 };
        assert_eq!(step.at(WEB)[0][at..at + 2], MIN_MTU.to_be_bytes());

        let frame = superframe(&udp((web, 4000), (db, 53), &bytes), 1280 - headers);
        let sent = net.send_frame(WEB, &frame);
        assert_eq!(sent.wire.len(), bytes.len().div_ceil(1280 - headers));
    }
}

#[test]
fn a_superpacket_that_waits_for_a_handshake_leaves_its_first_segments_in_order() {
    for v6 in [false, true] {
        let mut net = over(1500);
        let next = stream(&mut net, v6);
        // Without keys, but just started: the stream may be taken up in its middle.
        net.restart_unheard(WEB);
        let bytes = data(20 * 1000);
        let held = net.send_frame_held(WEB, &superframe(&tcp(Segment { data: &bytes, ..next }), 1000));
        assert_eq!(held.wire.len(), 1, "one initiation for all of them");
        let step = net.settle(held);
        let kept = MAX_WAITING_PACKETS * 1000;
        assert_eq!(read(&step, v6, 9), bytes[..kept]);
    }
}

#[test]
fn counters_count_segments() {
    let mut net = over(1500);
    let next = stream(&mut net, false);
    let (sent, received) = (traffic(&net, WEB).0, traffic(&net, DB).1);
    let bytes = data(30 * 1000 + 1);
    net.send_frame(WEB, &superframe(&tcp(Segment { data: &bytes, ..next }), 1000));
    let (sent, received) =
        (difference(traffic(&net, WEB).0, sent), difference(traffic(&net, DB).1, received));
    assert_eq!((sent, received), ((31, (31 * 40 + bytes.len()) as u64), sent));
    let peer = &net.nodes[DB].engine.peers(net.now())[0];
    assert_eq!(peer.received, traffic(&net, DB).1, "of a peer with one flow");
}

/// What its only flow has sent and received.
fn traffic(net: &Net, node: usize) -> (Traffic, Traffic) {
    let flows = net.nodes[node].engine.flows(net.now());
    assert_eq!(flows.len(), 1);
    (flows[0].sent, flows[0].received)
}

fn difference(after: Traffic, before: Traffic) -> (u64, u64) {
    (after.packets - before.packets, after.bytes - before.bytes)
}

/// A frame that asks for nothing, around a packet.
fn whole(packet: &[u8]) -> Vec<u8> {
    [&[0; 10], packet].concat()
}

/// What reaches db's host of frames that web's host sends in one batch, with its queue too long.
fn sent_from_a_long_queue(net: &mut Net, mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut out = Output::new();
    let batch = net.nodes[WEB].engine.batch(net.now());
    batch.tell_congestion();
    batch.outbound(frames.iter_mut().map(|frame| &mut frame[..]), &mut out);
    drop(batch);
    let from = net.nodes[WEB].endpoint;
    let wire = out.datagrams().map(|(to, datagram)| (from, to, datagram.to_vec())).collect();
    let step = net.settle(Step { wire, ..Step::default() });
    step.at(DB).into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn of_a_long_queue_the_first_bulk_stream_is_told_once() {
    for v6 in [false, true] {
        let mut net = over(1500);
        let next = stream(&mut net, v6);
        let (web, db) = ends(&net, v6);
        let bytes = data(3 * 1200);
        let congested = net.counter(WEB, Reason::Congested);

        // Neither a key stroke nor a datagram fills the queue; of two superpackets only the first is told.
        let (line, datagram) =
            (tcp(Segment { data: b"ls", ..next }), udp((web, 1), (db, 53), &bytes[..1200]));
        let bulk = |sequence| tcp(Segment { sequence, data: &bytes, ..next });
        let arrived = sent_from_a_long_queue(
            &mut net,
            vec![whole(&line), whole(&datagram), superframe(&bulk(11), 1200), superframe(&bulk(3611), 1200)],
        );
        assert_eq!(arrived.len(), 2 + 2 + 3, "one segment is lost");
        assert_eq!(arrived[..2], [line, datagram]);
        let at = if v6 { 44 } else { 24 };
        assert_eq!(arrived[2][at..at + 4], 1211_u32.to_be_bytes(), "it was the first");
        assert_eq!(net.counter(WEB, Reason::Congested), congested + 1);

        // A stream that knows the marks loses nothing.
        let able = |sequence| {
            let mut packet = bulk(sequence);
            Ecn::Ect0.set(&mut packet);
            packet
        };
        let arrived = sent_from_a_long_queue(
            &mut net,
            vec![superframe(&able(7211), 1200), superframe(&able(10_811), 1200)],
        );
        let marks: Vec<Ecn> = arrived.iter().map(|packet| Ecn::of(packet)).collect();
        assert_eq!(marks, [[Ecn::Ce; 3], [Ecn::Ect0; 3]].concat());

        // One packet that is no superpacket can be told as well.
        let single = tcp(Segment { sequence: 14_411, data: &bytes[..1200], ..next });
        assert!(sent_from_a_long_queue(&mut net, vec![whole(&single)]).is_empty());
        assert_eq!(net.counter(WEB, Reason::Congested), congested + 2);
        assert_eq!(
            net.send_frame(WEB, &whole(&single)).at(DB),
            [&single[..]],
            "and is taken when it comes again"
        );
    }
}
