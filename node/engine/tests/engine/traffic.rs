//! What is permitted works, both families, and what is not does not.

use crate::craft::{ACK, SYN, Segment, echo, read_error, read_reset, tcp, udp};
use crate::net::{DB, INTRUDER, Net, Node, Step, WEB, three};
use bulkhead_acl::{Direction, RuleId, Service};
use bulkhead_identity::Generation;
use bulkhead_node_engine::*;

#[test]
fn a_tcp_connection_works_in_both_families() {
    for v6 in [false, true] {
        let mut net = three();
        let address = |node: usize, net: &Net| if v6 { net.nodes[node].v6() } else { net.nodes[node].v4() };
        let (web, db) = (address(WEB, &net), address(DB, &net));
        let out = |flags, sequence, acknowledgement, data: &'static [u8]| {
            tcp(Segment { from: (web, 40_000), to: (db, 5432), flags, sequence, acknowledgement, data })
        };
        let back = |flags, sequence, acknowledgement, data: &'static [u8]| {
            tcp(Segment { from: (db, 5432), to: (web, 40_000), flags, sequence, acknowledgement, data })
        };
        for (from, to, packet) in [
            (WEB, DB, out(SYN, 1, 0, b"")),
            (DB, WEB, back(SYN | ACK, 500, 2, b"")),
            (WEB, DB, out(ACK, 2, 501, b"select 1")),
            (DB, WEB, back(ACK, 501, 10, b"1")),
        ] {
            let step = net.send(from, &packet);
            assert_eq!(step.at(to), [&packet[..]], "v6: {v6}");
            assert!(step.at(from).is_empty());
        }
        let flows = net.nodes[DB].engine.flows(net.now());
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].direction, Direction::Inbound);
        assert_eq!(flows[0].state, FlowState::Established);
        assert_eq!((flows[0].local, flows[0].remote), ((db, 5432), (web, 40_000)));
        assert_eq!(flows[0].rule, RuleId("web-to-db".into()));
    }
}

#[test]
fn udp_and_its_answer_and_echo_and_its_answer_work() {
    let mut net = three();
    for v6 in [false, true] {
        let ends = |node: &Node| if v6 { node.v6() } else { node.v4() };
        let (web, db) = (ends(&net.nodes[WEB]), ends(&net.nodes[DB]));
        for (from, to, packet) in [
            (WEB, DB, udp((web, 4000), (db, 53), b"query")),
            (DB, WEB, udp((db, 53), (web, 4000), b"answer")),
            (WEB, DB, echo(web, db, true, 7)),
            (DB, WEB, echo(db, web, false, 7)),
        ] {
            assert_eq!(net.send(from, &packet).at(to), [&packet[..]]);
        }
    }
}

/// An IPv4 packet in two fragments, the first with sixteen bytes.
fn in_two(packet: &[u8]) -> [Vec<u8>; 2] {
    let piece = |flags: [u8; 2], payload: &[u8]| {
        let mut piece = [&packet[..20], payload].concat();
        let length = u16::try_from(piece.len()).unwrap();
        piece[2..4].copy_from_slice(&length.to_be_bytes());
        piece[6..8].copy_from_slice(&flags);
        piece
    };
    [piece([0x20, 0], &packet[20..36]), piece([0, 2], &packet[36..])]
}

#[test]
fn the_fragments_that_began_a_handshake_arrive_once_it_is_done() {
    let mut net = three();
    let packet = udp((net.nodes[WEB].v4(), 4000), (net.nodes[DB].v4(), 53), &[7; 100]);
    let [first, second] = in_two(&packet);
    let held = [net.send_held(WEB, &first), net.send_held(WEB, &second)];
    let [shake, nothing] = held;
    assert_eq!((shake.wire.len(), nothing.wire.len()), (1, 0));
    assert_eq!(net.settle(shake).at(DB), [&first[..], &second[..]]);
}

#[test]
fn a_denied_packet_does_not_leave_and_the_application_learns_at_once() {
    let mut net = three();
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let syn =
        tcp(Segment { from: (web, 1), to: (db, 22), flags: SYN, sequence: 9, acknowledgement: 0, data: b"" });
    let step = net.send(WEB, &syn);
    assert!(step.wire.is_empty());
    assert_eq!(read_reset(step.at(WEB)[0]), Some((22, 1, 0, 10)));

    let query = udp((web, 1), (db, 123), b"time?");
    let step = net.send(WEB, &query);
    assert!(step.wire.is_empty());
    assert_eq!(read_error(step.at(WEB)[0]), Some((3, 13, query)));

    // The other direction was not asked for.
    let (web, db) = (net.nodes[WEB].v6(), net.nodes[DB].v6());
    let query = udp((db, 1), (web, 53), b"query");
    let step = net.send(DB, &query);
    assert!(step.wire.is_empty());
    assert_eq!(read_error(step.at(DB)[0]), Some((1, 1, query)));

    // A stranger's address.
    let intruder = net.nodes[INTRUDER].v4();
    let syn = tcp(Segment {
        from: (intruder, 1),
        to: (net.nodes[DB].v4(), 5432),
        flags: SYN,
        sequence: 9,
        acknowledgement: 0,
        data: b"",
    });
    let step = net.send(INTRUDER, &syn);
    assert!(step.wire.is_empty());
    assert!(read_reset(step.at(INTRUDER)[0]).is_some());
    assert_eq!(net.counter(INTRUDER, Reason::NoPeer), 1);
}

#[test]
fn the_engine_knows_only_those_whom_the_policy_permits() {
    let net = three();
    assert_eq!(net.nodes[INTRUDER].engine.peers(net.now()).len(), 0);
    assert_eq!(net.nodes[INTRUDER].changes.unpermitted, 2);
    let peers = net.nodes[WEB].engine.peers(net.now());
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].identity.name().as_str(), "db");
    assert_eq!(net.nodes[WEB].engine.whois(net.nodes[DB].v6()).unwrap().name().as_str(), "db");
    assert_eq!(net.nodes[WEB].engine.whois(net.nodes[WEB].v4()).unwrap().name().as_str(), "web");
    assert!(net.nodes[WEB].engine.whois(net.nodes[INTRUDER].v4()).is_none());
}

#[test]
fn explanations_are_what_the_filter_does() {
    let net = three();
    let explain = |node: usize, peer: usize, direction, service| {
        net.nodes[node].engine.explain(&net.nodes[peer].member.name, direction, service, net.now())
    };
    let allowed = Explanation::Allowed { rule: RuleId("web-to-db".into()), generation: Generation(1) };
    let denied = Explanation::Denied { generation: Generation(1) };
    assert_eq!(explain(WEB, DB, Direction::Outbound, Service::Tcp(5432)), allowed);
    assert_eq!(explain(DB, WEB, Direction::Inbound, Service::Tcp(5432)), allowed);
    assert_eq!(explain(DB, WEB, Direction::Outbound, Service::Tcp(5432)), denied);
    assert_eq!(explain(WEB, DB, Direction::Outbound, Service::Tcp(22)), denied);
    assert_eq!(explain(WEB, INTRUDER, Direction::Outbound, Service::Tcp(5432)), Explanation::NotAPeer);
}

#[test]
fn probes_measure_and_ask_inside_the_session() {
    let mut net = three();
    let db = net.nodes[DB].member.name.clone();
    let ask = |net: &mut Net, probe| {
        let mut out = Output::new();
        let id = net.nodes[WEB].engine.probe(&db, probe, net.now(), &mut out).unwrap();
        let wire = out.datagrams().map(|(to, d)| (net.nodes[WEB].endpoint, to, d.to_vec())).collect();
        let step = net.settle(Step { packets: Vec::new(), wire });
        assert!(step.packets.is_empty(), "never handed to a host");
        let results = net.nodes[WEB].engine.probe_results();
        assert_eq!(results.len(), 1);
        assert_eq!((results[0].id, &results[0].peer), (id, &db));
        results[0].outcome
    };
    assert!(matches!(ask(&mut net, Probe::Echo), ProbeOutcome::Echo { .. }));
    for (service, expected) in [(Service::Tcp(5432), true), (Service::Tcp(22), false), (Service::Echo, true)]
    {
        let outcome = ask(&mut net, Probe::Verdict(service));
        let ProbeOutcome::Verdict { allowed, generation, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!((allowed, generation), (expected, Generation(1)));
    }
    let intruder = net.nodes[INTRUDER].member.name.clone();
    let asked = net.nodes[WEB].engine.probe(&intruder, Probe::Echo, net.now(), &mut Output::new());
    assert_eq!(asked, Err(Reason::NoPeer));
}

#[test]
fn a_probe_without_an_answer_times_out() {
    let mut net = three();
    let db = net.nodes[DB].member.name.clone();
    net.nodes[WEB].engine.probe(&db, Probe::Echo, net.now(), &mut Output::new()).unwrap();
    net.seconds += 6;
    net.tick();
    assert_eq!(net.nodes[WEB].engine.probe_results()[0].outcome, ProbeOutcome::TimedOut);
}

#[test]
fn no_program_reaches_the_port_of_the_engines() {
    let mut net = Net::any();
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    assert!(net.udp_arrives(WEB, DB, 1, 51_820));
    let step = net.send(WEB, &udp((web, PROBE_PORT), (db, PROBE_PORT), b"hello"));
    assert!(step.at(DB).is_empty() && step.wire.is_empty());
    assert_eq!(net.counter(WEB, Reason::ReservedPort), 1);
    // A program that was given the port by its host, and a service that has it.
    assert!(net.udp_arrives(WEB, DB, PROBE_PORT, 53) && net.udp_arrives(WEB, DB, 1, PROBE_PORT));
}

#[test]
fn packets_that_wait_for_a_handshake_arrive_in_order_and_few() {
    let mut net = three();
    net.restart_unheard(WEB);
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let packets: Vec<_> = (0..20u8).map(|i| udp((web, 4000), (db, 53), &[i])).collect();
    let mut first = net.send_held(WEB, &packets[0]);
    for packet in &packets[1..] {
        first.wire.extend(net.send_held(WEB, packet).wire);
    }
    assert_eq!(first.wire.len(), 1, "one initiation and no more");
    let step = net.settle(first);
    let newest: Vec<&[u8]> = packets[12..].iter().map(|packet| &packet[..]).collect();
    assert_eq!(step.at(DB), newest);
}

#[test]
fn a_packet_that_waited_for_a_handshake_is_counted_once() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 4000, 53));
    let sent = net.nodes[WEB].engine.flows(net.now())[0].sent;
    let received = net.nodes[DB].engine.flows(net.now())[0].received;
    assert_eq!((sent.packets, sent), (1, received));
}

#[test]
fn a_packet_larger_than_the_mtu_gets_packet_too_big() {
    let mut net = three();
    for v6 in [false, true] {
        let ends = |node: &Node| if v6 { node.v6() } else { node.v4() };
        let packet = udp((ends(&net.nodes[WEB]), 1), (ends(&net.nodes[DB]), 53), &[0; 1300]);
        let step = net.send(WEB, &packet);
        assert!(step.wire.is_empty());
        let (kind, code, _) = read_error(step.at(WEB)[0]).unwrap();
        assert_eq!((kind, code), if v6 { (2, 0) } else { (3, 4) });
        let mtu_at = if v6 { 40 + 6 } else { 20 + 6 };
        assert_eq!(&step.at(WEB)[0][mtu_at..mtu_at + 2], 1280u16.to_be_bytes());
    }
    // The largest that fits: padding does not carry it beyond.
    let packet = udp((net.nodes[WEB].v4(), 1), (net.nodes[DB].v4(), 53), &[0; 1280 - 28]);
    let step = net.send(WEB, &packet);
    assert_eq!(step.at(DB), [&packet[..]]);
    assert!(step.wire.iter().all(|(_, _, datagram)| datagram.len() <= 1280 + 32));
}

impl Net {
    /// Everybody may do everything.
    pub fn any() -> Self {
        let mut net = three();
        net.set_policy("[[allow]]\nid = \"any\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n");
        net
    }
}
