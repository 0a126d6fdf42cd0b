//! From one world to the next: L11, L15, renewals, and the teardown law.

use crate::craft::{ACK, SYN, Segment, echo, read_error, read_reset, tcp, udp};
use crate::domain::{Member, addresses};
use crate::net::{DB, INTRUDER, NOTHING, Net, Step, WEB, WEB_TO_DB, three};
use bulkhead_identity::{Generation, NodeName, Timestamp};
use bulkhead_node_engine::*;

const WEB_TO_DB_DNS_ONLY: &str = r#"
[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["udp/53"]
"#;

/// An established TCP connection, UDP and echo flow from web to db.
fn live_flows(net: &mut Net) {
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let out = Segment {
        from: (web, 4000),
        to: (db, 5432),
        flags: SYN,
        sequence: 1000,
        acknowledgement: 0,
        data: b"",
    };
    let back = Segment {
        from: out.to,
        to: out.from,
        flags: SYN | ACK,
        sequence: 7000,
        acknowledgement: 1001,
        data: b"",
    };
    for (from, to, packet) in [
        (WEB, DB, tcp(out)),
        (DB, WEB, tcp(back)),
        (WEB, DB, tcp(Segment { flags: ACK, sequence: 1001, acknowledgement: 7001, data: b"select", ..out })),
        (DB, WEB, tcp(Segment { flags: ACK, sequence: 7001, acknowledgement: 1007, data: b"rows", ..back })),
        (WEB, DB, udp((web, 9), (db, 9), b"x")),
        (WEB, DB, echo(web, db, true, 77)),
        (DB, WEB, echo(db, web, false, 77)),
    ] {
        assert_eq!(net.send(from, &packet).at(to).len(), 1);
    }
}

#[test]
fn l11_a_narrowed_policy_ends_live_flows_at_both_ends_at_once() {
    let mut net = three();
    live_flows(&mut net);
    let step = net.set_policy(WEB_TO_DB_DNS_ONLY);
    // Each host is told by its own engine, with the numbers that it expects.
    assert!(net.nodes[WEB].engine.flows(net.now()).is_empty());
    assert!(net.nodes[DB].engine.flows(net.now()).is_empty());
    assert!(step.wire.is_empty());
    let at_web = step.resets(WEB);
    assert!(at_web.contains(&(5432, 4000, 7005, 1007)), "{at_web:?}");
    assert!(at_web.contains(&(5432, 4000, 7001, 1007)), "{at_web:?}");
    let at_db = step.resets(DB);
    assert!(at_db.contains(&(4000, 5432, 1007, 7005)), "{at_db:?}");
    // UDP and echo: administratively prohibited, about a packet of that flow.
    let mut errors: Vec<_> = step.at(WEB).into_iter().filter_map(read_error).collect();
    errors.sort_by_key(|(_, _, quote)| quote[9]);
    assert_eq!(errors.len(), 2);
    assert_eq!((errors[0].0, errors[0].1, errors[0].2[20]), (3, 13, 8));
    assert_eq!(&errors[0].2[24..26], 77u16.to_be_bytes());
    assert_eq!((errors[1].0, errors[1].1), (3, 13));
    assert_eq!(&errors[1].2[20..24], [0, 9, 0, 9]);
    assert_eq!(net.nodes[WEB].changes.ended_flows, 3);

    // Nothing more of them, either way; the client is reset if it goes on.
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    net.seconds += 100;
    let more = Segment {
        from: (web, 4000),
        to: (db, 5432),
        flags: ACK,
        sequence: 1007,
        acknowledgement: 7005,
        data: b"more",
    };
    let step = net.send(WEB, &tcp(more));
    assert!(step.wire.is_empty());
    assert_eq!(read_reset(step.at(WEB)[0]), Some((5432, 4000, 7005, 1011)));
    let more = Segment { from: (db, 5432), to: (web, 4000), ..more };
    assert!(net.send(DB, &tcp(more)).wire.is_empty());
    assert!(net.udp_arrives(WEB, DB, 1, 53));
}

#[test]
fn l11_one_honest_end_is_enough() {
    for honest in [WEB, DB] {
        let mut net = three();
        live_flows(&mut net);
        net.policy = net.domain.policy(WEB_TO_DB_DNS_ONLY);
        net.sync_one(honest);
        assert!(!net.udp_arrives(WEB, DB, 9, 9));
        let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
        let data = Segment {
            from: (web, 4000),
            to: (db, 5432),
            flags: ACK,
            sequence: 1007,
            acknowledgement: 7005,
            data: b"x",
        };
        assert!(net.send(WEB, &tcp(data)).at(DB).is_empty());
        let back = Segment { from: data.to, to: data.from, sequence: 7005, acknowledgement: 1007, ..data };
        assert!(net.send(DB, &tcp(back)).at(WEB).iter().all(|packet| read_reset(packet).is_some()));
    }
}

#[test]
fn a_rule_added_back_works_without_restarting_anything() {
    let mut net = three();
    live_flows(&mut net);
    net.set_policy(NOTHING);
    assert!(net.nodes[WEB].engine.peers(net.now()).is_empty());
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
    net.set_policy(WEB_TO_DB);
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    live_flows(&mut net);
}

#[test]
fn l11_a_revoked_peer_is_gone_with_keys_flows_and_waiting_packets() {
    let mut net = three();
    live_flows(&mut net);
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let underway = net.send_held(WEB, &udp((web, 1), (db, 53), b"underway")).wire;
    let revoked = net.nodes[WEB].member.clone();
    net.revocations = net.domain.revoke(&[&revoked]);
    let step = net.sync_one(DB);
    assert_eq!(net.nodes[DB].changes.removed, std::slice::from_ref(&revoked.name));
    assert_eq!(net.nodes[DB].changes.refused, [(revoked.name, Reason::RefusedCertificate)]);
    assert!(!step.resets(DB).is_empty());
    for (from, _, datagram) in underway {
        let step = net.receive_held(DB, from, &datagram);
        assert!(step.packets.is_empty() && step.wire.is_empty());
    }
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
    assert!(!net.udp_arrives(DB, WEB, 53, 1));
    // It cannot shake hands either: its greeting and what its host makes it send are not answered.
    net.revocations = Default::default();
    let greeting = net.restart_unheard(WEB);
    for step in [
        net.settle(Step { packets: Vec::new(), wire: greeting }),
        net.send(WEB, &udp((web, 1), (db, 53), b"again")),
    ] {
        assert_eq!(step.wire.len(), 1, "an initiation, and no answer");
    }
    assert!(net.counter(DB, Reason::Stranger) > 0);
}

#[test]
fn whoever_learns_of_its_own_revocation_stops_by_itself() {
    let mut net = three();
    live_flows(&mut net);
    let me = net.nodes[WEB].member.clone();
    net.revocations = net.domain.revoke(&[&me]);
    net.sync_one(WEB);
    assert!(net.nodes[WEB].changes.isolated.is_some());
    assert!(net.nodes[WEB].engine.peers(net.now()).is_empty());
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    assert!(net.send(WEB, &udp((web, 1), (db, 53), b"x")).wire.is_empty());
    assert!(net.send(DB, &udp((db, 53), (web, 1), b"x")).at(WEB).is_empty());
}

#[test]
fn a_change_that_means_nothing_to_a_peer_leaves_its_session_and_flows() {
    let mut net = three();
    live_flows(&mut net);
    let before = net.nodes[WEB].engine.peers(net.now());
    let wider = format!(
        "{WEB_TO_DB}\n[[allow]]\nid = \"other\"\nfrom = \"role=other\"\nto = \"role=db\"\nports = [\"tcp/1\"]\n"
    );
    let step = net.set_policy(&wider);
    assert!(step.packets.is_empty() && step.wire.is_empty());
    assert_eq!(
        net.nodes[WEB].changes,
        Changes { generation: Generation(2), unpermitted: 1, ..Changes::default() }
    );
    assert_eq!(net.nodes[WEB].engine.flows(net.now()).len(), 3);
    assert!(net.nodes[WEB].engine.flows(net.now()).iter().all(|flow| flow.generation == Generation(2)));
    let after = net.nodes[WEB].engine.peers(net.now());
    assert!(after[0].connected && before[0].connected && after[0].sent == before[0].sent);
    // Data goes on without a new handshake.
    let packet = udp((net.nodes[WEB].v4(), 9), (net.nodes[DB].v4(), 9), b"still");
    let step = net.send(WEB, &packet);
    assert_eq!((step.wire.len(), step.at(DB)), (1, vec![&packet[..]]));
}

#[test]
fn a_renewed_certificate_keeps_the_session_and_a_new_tunnel_key_does_not() {
    let mut net = three();
    live_flows(&mut net);
    net.nodes[WEB].member.not_after = Timestamp(net.nodes[WEB].member.not_after.0 + 100);
    let member = net.nodes[WEB].member.clone();
    net.nodes[WEB].chain = net.domain.certify(&member);
    let step = net.sync();
    assert_eq!(net.nodes[DB].changes.changed, std::slice::from_ref(&member.name));
    assert!(step.packets.is_empty() && step.wire.is_empty());
    assert_eq!(net.nodes[DB].engine.flows(net.now()).len(), 3);
    let packet = udp((net.nodes[WEB].v4(), 9), (net.nodes[DB].v4(), 9), b"still");
    assert_eq!(net.send(WEB, &packet).wire.len(), 1);

    let mut rekeyed = Member { seed: 99, ..member.clone() };
    rekeyed.addresses = addresses(10);
    net.nodes[WEB].chain = net.domain.certify(&rekeyed);
    net.sync_one(DB);
    assert_eq!(net.nodes[DB].changes.added, [member.name]);
    assert!(net.nodes[DB].engine.flows(net.now()).is_empty());
    assert!(net.send(WEB, &packet).at(DB).is_empty(), "the former key is nobody's now");
    // The engine refuses a certificate for another key than its own.
    net.sync_one(WEB);
    assert!(net.nodes[WEB].changes.isolated.is_some());
}

#[test]
fn a_relabelled_peer_is_judged_by_its_new_labels() {
    let mut net = three();
    live_flows(&mut net);
    net.nodes[WEB].member.labels = bulkhead_identity::Labels::parse("role=retired").unwrap();
    let member = net.nodes[WEB].member.clone();
    net.nodes[WEB].chain = net.domain.certify(&member);
    net.sync();
    assert!(net.nodes[DB].engine.peers(net.now()).is_empty());
    assert!(!net.udp_arrives(WEB, DB, 1, 53));
}

#[test]
fn l15_of_peers_that_share_name_address_or_key_none_is_believed() {
    let twin = |name: &str, seed: u8, address: u8| Member {
        seed,
        addresses: addresses(address),
        ..Member::new(name, seed, "role=web")
    };
    // The same address; the same tunnel key; our own address; our own name.
    for (other, refused) in [
        (twin("twin", 20, 10), 2),
        (twin("twin", 10, 21), 2),
        (twin("twin", 22, 11), 1),
        (twin("db", 23, 23), 1),
        (twin("web", 24, 24), 2),
    ] {
        let mut net = three();
        let web = net.nodes[WEB].member.name.clone();
        let mut world = net.world(DB);
        let name = other.name.clone();
        world.peers.push(PeerEntry {
            name: name.clone(),
            chain: net.domain.certify(&other),
            endpoints: Vec::new(),
        });
        let changes = net.nodes[DB].engine.apply(world, &mut Output::new(), net.now());
        assert_eq!(changes.refused.len(), refused, "{other:?} {:?}", changes.refused);
        let names: Vec<NodeName> =
            net.nodes[DB].engine.peers(net.now()).iter().map(|peer| peer.identity.name().clone()).collect();
        assert!(!names.contains(&name));
        assert_eq!(names.contains(&web), refused == 1);
    }
}

#[test]
fn an_entry_that_names_another_or_nobodys_certificate_is_refused() {
    let net = three();
    let mut world = net.world(DB);
    world.peers[0].name = NodeName::parse("somebody").unwrap();
    let changes = net.nodes[DB].engine.apply(world, &mut Output::new(), net.now());
    assert!(changes.refused.contains(&(NodeName::parse("somebody").unwrap(), Reason::RefusedEntry)));
    assert!(net.nodes[DB].engine.peers(net.now()).is_empty());

    // C1: another domain's keys under our name.
    let mut rogue = crate::domain::Domain::with_keys(100);
    let member = net.nodes[WEB].member.clone();
    let mut world = net.world(DB);
    world.peers[0].chain = rogue.certify(&member);
    let changes = net.nodes[DB].engine.apply(world, &mut Output::new(), net.now());
    assert_eq!(changes.refused, [(member.name, Reason::RefusedCertificate)]);
    assert!(net.nodes[DB].engine.peers(net.now()).is_empty());
}

#[test]
fn a_packet_that_waits_is_judged_again_when_it_leaves() {
    let mut net = three();
    net.restart_unheard(WEB);
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let waiting = net.send_held(WEB, &udp((web, 9), (db, 9), b"was permitted"));
    let other = net.send_held(WEB, &udp((web, 1), (db, 53), b"still is"));
    assert!(other.wire.is_empty());
    net.policy = net.domain.policy(WEB_TO_DB_DNS_ONLY);
    net.sync_one(WEB);
    let step = net.settle(waiting);
    assert_eq!(step.at(DB), [&udp((web, 1), (db, 53), b"still is")[..]]);
}

#[test]
fn the_middle_of_a_flow_is_taken_up_only_outbound_and_only_after_the_start() {
    let mut net = three();
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let data =
        Segment { from: (web, 1), to: (db, 5432), flags: ACK, sequence: 5, acknowledgement: 6, data: b"x" };
    // The node started 100 seconds ago: too late.
    let step = net.send(WEB, &tcp(data));
    assert!(step.wire.is_empty());
    assert_eq!(step.resets(WEB), [(5432, 1, 6, 6)]);
    // It starts again now.
    let key = net.nodes[WEB].member.tunnel_key();
    net.nodes[WEB].engine = Engine::new(key, Config::default(), net.now());
    net.sync_one(WEB);
    assert_eq!(net.nodes[WEB].engine.flows(net.now()).len(), 0);
    let step = net.send(WEB, &tcp(data));
    assert_eq!(net.nodes[WEB].engine.flows(net.now()).len(), 1);
    // The other end has no such flow, and takes up none.
    assert!(step.at(DB).is_empty());
    assert_eq!(net.counter(DB, Reason::NoFlow), 1);
    // Nor is a denied one taken up.
    let denied = Segment { to: (db, 22), ..data };
    assert_eq!(net.send(WEB, &tcp(denied)).resets(WEB).len(), 1);
}

#[test]
fn who_restarted_is_reached_at_once_by_those_who_still_have_its_former_session() {
    for restarted in [WEB, DB] {
        let mut net = three();
        live_flows(&mut net);
        let key = net.nodes[restarted].member.tunnel_key();
        net.nodes[restarted].engine = Engine::new(key, Config::default(), net.now());
        net.sync_one(restarted);
        net.tick();
        assert!(net.udp_arrives(WEB, DB, 70, 53));
    }
}

#[test]
fn whoever_learns_of_a_peer_last_is_reached_too() {
    for last in [WEB, DB] {
        let mut net = three();
        net.set_policy(NOTHING);
        net.policy = net.domain.policy(WEB_TO_DB);
        net.sync_one(if last == WEB { DB } else { WEB });
        let packet = udp((net.nodes[WEB].v4(), 1), (net.nodes[DB].v4(), 53), b"early");
        let early = net.send(WEB, &packet);
        assert!(early.at(DB).is_empty());
        net.sync_one(last);
        let step = net.tick();
        // What waited at web leaves when db greets; what web refused, before it knew, does not.
        assert_eq!(step.at(DB).len(), usize::from(last == DB));
        assert!(net.udp_arrives(WEB, DB, 1, 53));
    }
}

#[test]
fn roaming_follows_what_is_authentic() {
    let mut net = three();
    assert!(net.udp_arrives(WEB, DB, 1, 53));
    let new = std::net::SocketAddr::from(([198, 51, 100, 1], 4242));
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let sent = net.send_held(WEB, &udp((web, 1), (db, 53), b"from elsewhere"));
    net.receive_held(DB, new, &sent.wire[0].2);
    let name = net.nodes[WEB].member.name.clone();
    assert_eq!(net.nodes[DB].engine.peer(&name, net.now()).unwrap().endpoint, Some(new));
    let answer = net.send_held(DB, &udp((db, 53), (web, 1), b"there"));
    assert_eq!(answer.wire[0].1, new);
}

#[test]
fn an_initiation_goes_to_every_candidate_and_data_to_the_one_that_answered() {
    let mut net = three();
    let dead = std::net::SocketAddr::from(([198, 51, 100, 9], 51_820));
    let mut world = net.world(WEB);
    let alive = net.nodes[DB].endpoint;
    for entry in &mut world.peers {
        entry.endpoints.insert(0, dead);
    }
    let key = net.nodes[WEB].member.tunnel_key();
    net.nodes[WEB].engine = Engine::new(key, Config::default(), net.now());
    let mut out = Output::new();
    let _ = net.nodes[WEB].engine.apply(world, &mut out, net.now());
    assert!(out.is_empty());
    net.nodes[WEB].engine.handle_timeout(net.now(), &mut out);
    let from = net.nodes[WEB].endpoint;
    let wire: Vec<_> = out.datagrams().map(|(to, datagram)| (from, to, datagram.to_vec())).collect();
    assert_eq!(wire.iter().map(|(_, to, _)| *to).collect::<Vec<_>>(), [dead, alive]);
    let (web, db) = (net.nodes[WEB].v4(), net.nodes[DB].v4());
    let first = Step { packets: Vec::new(), wire };
    net.settle(first);
    let data = net.send_held(WEB, &udp((web, 1), (db, 53), b"y"));
    assert_eq!(data.wire.iter().map(|(_, to, _)| *to).collect::<Vec<_>>(), [alive]);
}

#[test]
fn the_intruder_has_no_peer_at_any_time() {
    let mut net = three();
    for policy in [WEB_TO_DB_DNS_ONLY, NOTHING, WEB_TO_DB] {
        net.set_policy(policy);
        assert!(net.nodes[INTRUDER].engine.peers(net.now()).is_empty());
        assert!(!net.udp_arrives(INTRUDER, DB, 1, 53));
        assert!(!net.udp_arrives(DB, INTRUDER, 1, 53));
    }
}
