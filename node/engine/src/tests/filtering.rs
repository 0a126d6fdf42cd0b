//! L1, L2, L4, L5: what is not permitted does not arrive, whatever it looks like.

use super::attacker::{ATTACKER, Attacker, BYSTANDER, Scene};
use super::craft::{ACK, FIN, PSH, RST, SYN, Segment, URG, echo, icmp_error, ip, tcp, udp};
use crate::Reason;

fn probe(attacker: &Attacker, scene: &Scene, port: u16, flags: u8) -> Vec<u8> {
    tcp(Segment {
        from: (attacker.v4(), 4000),
        to: (scene.victim_v4(), port),
        flags,
        sequence: 1,
        acknowledgement: 1,
        data: b"",
    })
}

#[test]
fn l1_scans_deliver_nothing_to_permitted_and_to_denied_ports() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    for port in [0, 1, 22, 5432, 65_535] {
        for flags in [ACK, RST, RST | ACK, SYN | ACK, FIN | ACK, ACK | PSH | URG] {
            let packet = probe(&attacker, &scene, port, flags);
            attacker.is_refused(&scene, &packet, Reason::NoFlow);
        }
        for flags in [0, FIN, FIN | PSH | URG, PSH, SYN | FIN, SYN | RST, SYN | FIN | ACK] {
            let packet = probe(&attacker, &scene, port, flags);
            attacker.is_refused(&scene, &packet, Reason::BadFlags);
        }
    }
    for port in [0, 22, 5431, 5433, 65_535] {
        let packet = probe(&attacker, &scene, port, SYN);
        attacker.is_refused(&scene, &packet, Reason::NoPermit);
    }
    let packet = probe(&attacker, &scene, 5432, SYN);
    attacker.passes(&scene, &packet);
}

#[test]
fn a_live_flow_cannot_be_turned_round() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let out = Segment {
        from: (scene.victim_v4(), 3333),
        to: (attacker.v4(), 7),
        flags: SYN,
        sequence: 1,
        acknowledgement: 0,
        data: b"",
    };
    assert_eq!(scene.send(&tcp(out)).1.len(), 1);
    let back = Segment { from: out.to, to: out.from, ..out };
    attacker.is_refused(&scene, &tcp(back), Reason::NoFlow);
    attacker.passes(&scene, &tcp(Segment { flags: SYN | ACK, acknowledgement: 2, ..back }));
    // Once the flow is closed, the port is judged like any other, and the attacker may not open to it.
    attacker.passes(&scene, &tcp(Segment { flags: RST, ..back }));
    attacker.is_refused(&scene, &tcp(back), Reason::NoPermit);
}

#[test]
fn l2_unsolicited_icmp_does_not_arrive() {
    let scene = Scene::new();
    let (mut attacker, bystander) = (scene.peer(ATTACKER), scene.peer(BYSTANDER));
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    attacker.is_refused(&scene, &echo(me, victim, false, 9), Reason::NoFlow);

    let sent = udp((victim, 3333), (me, 7), b"question");
    let never_sent = udp((victim, 4444), (me, 7), b"question");
    let to_other = udp((victim, 3333), (bystander.v4(), 7), b"question");
    assert_eq!(scene.send(&sent).1.len(), 1);
    assert_eq!(scene.send(&to_other).1.len(), 1);
    let unreachable = |quoted: &[u8]| icmp_error(me, victim, 3, 3, 0, quoted);
    attacker.is_refused(&scene, &unreachable(&never_sent), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &unreachable(&to_other), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &unreachable(&sent[..27]), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &icmp_error(me, victim, 5, 1, 0x0808_0808, &sent), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &icmp_error(me, victim, 4, 0, 0, &sent), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &icmp_error(me, victim, 3, 4, 68, &sent), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &icmp_error(me, victim, 3, 4, 0, &sent), Reason::UnwantedIcmp);
    for kind in [9, 10, 13, 14, 15, 17, 30, 40, 42] {
        attacker.is_refused(&scene, &icmp_error(me, victim, kind, 0, 0, &sent), Reason::UnwantedIcmp);
    }
    // What a host needs to hear passes, and keeps no flow alive.
    attacker.passes(&scene, &icmp_error(me, victim, 3, 4, 1300, &sent));
    attacker.passes(&scene, &unreachable(&sent));
    attacker.passes(&scene, &unreachable(&sent[..28]));
}

#[test]
fn l2_the_same_in_ipv6() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v6(), scene.victim_v6());
    attacker.is_refused(&scene, &echo(me, victim, false, 9), Reason::NoFlow);
    let sent = udp((victim, 3333), (me, 7), b"question");
    assert_eq!(scene.send(&sent).1.len(), 1);
    // Redirect, router advertisement and solicitation, neighbour discovery, multicast listener, node
    // information.
    for kind in [137, 133, 134, 135, 136, 130, 131, 139, 141, 143, 200] {
        attacker.is_refused(&scene, &icmp_error(me, victim, kind, 0, 0, &sent), Reason::UnwantedIcmp);
    }
    attacker.is_refused(&scene, &icmp_error(me, victim, 2, 0, 68, &sent), Reason::UnwantedIcmp);
    attacker.is_refused(&scene, &icmp_error(me, victim, 2, 0, 1279, &sent), Reason::UnwantedIcmp);
    attacker.passes(&scene, &icmp_error(me, victim, 2, 0, 1280, &sent));
    attacker.passes(&scene, &icmp_error(me, victim, 1, 4, 0, &sent));
}

#[test]
fn an_error_neither_opens_nor_keeps_a_flow() {
    let mut scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let sent = udp((victim, 3333), (me, 7), b"question");
    assert_eq!(scene.send(&sent).1.len(), 1);
    for _ in 0..3 {
        scene.seconds += 10;
        attacker.passes(&scene, &icmp_error(me, victim, 3, 3, 0, &sent));
    }
    scene.seconds += 1;
    attacker.is_refused(&scene, &icmp_error(me, victim, 3, 3, 0, &sent), Reason::UnwantedIcmp);
}

#[test]
fn l5_another_protocol_does_not_pass_by_a_tcp_rule() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    attacker.is_refused(&scene, &udp((me, 4000), (victim, 5432), b"?"), Reason::NoPermit);
    let like_tcp = probe(&attacker, &scene, 5432, SYN)[20..].to_vec();
    for protocol in [0, 2, 4, 33, 41, 43, 44, 47, 50, 51, 58, 60, 89, 103, 115, 132, 136, 253, 255] {
        attacker.is_refused(&scene, &ip(me, victim, protocol, &like_tcp, None), Reason::NoPermit);
    }
}

#[test]
fn l4_extension_headers_hide_nothing() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v6(), scene.victim_v6());
    let segment = |port| {
        let whole = tcp(Segment {
            from: (me, 4000),
            to: (victim, port),
            flags: SYN,
            sequence: 1,
            acknowledgement: 0,
            data: b"",
        });
        whole[40..].to_vec()
    };
    let with = |first: u8, headers: &[u8], port: u16| {
        ip(me, victim, first, &[headers, &segment(port)].concat(), None)
    };
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];

    // A chain that is understood is judged by what is behind it.
    attacker.passes(&scene, &with(60, &options(6), 5432));
    attacker.is_refused(&scene, &with(60, &options(6), 22), Reason::NoPermit);
    attacker.passes(&scene, &with(0, &[options(60), options(6)].concat(), 5432));
    // AH: twelve bytes of header and twelve of check value.
    let authentication = [&[6u8, 4, 0, 0][..], &[0; 20]].concat();
    attacker.is_refused(&scene, &with(51, &authentication, 22), Reason::NoPermit);
    attacker.passes(&scene, &with(51, &authentication, 5432));

    // Routing: type 0, and any that has somewhere to go.
    attacker.is_refused(&scene, &with(43, &[6, 0, 0, 0, 0, 0, 0, 0], 5432), Reason::Malformed);
    attacker.is_refused(&scene, &with(43, &[6, 0, 2, 1, 0, 0, 0, 0], 5432), Reason::Malformed);
    // Hop-by-hop anywhere but first.
    attacker.is_refused(&scene, &with(60, &[options(0), options(6)].concat(), 5432), Reason::Malformed);
    // Length 255, a chain of 100, a chain that never ends.
    attacker.is_refused(&scene, &with(60, &[6, 255, 1, 4, 0, 0, 0, 0], 5432), Reason::Malformed);
    let mut chain: Vec<u8> = (0..99).flat_map(|_| options(60)).collect();
    chain.extend(options(6));
    attacker.is_refused(&scene, &with(60, &chain, 5432), Reason::Malformed);
    attacker.is_refused(&scene, &ip(me, victim, 60, &options(60), None), Reason::Malformed);
    // ESP, no next header, unknown: a protocol of that number.
    for protocol in [50, 59, 135, 139, 140, 253] {
        attacker.is_refused(&scene, &with(protocol, &[], 5432), Reason::NoPermit);
        attacker.is_refused(&scene, &with(60, &options(protocol), 5432), Reason::NoPermit);
    }
    // ICMP of the other family.
    attacker.is_refused(&scene, &ip(me, victim, 1, &[8, 0, 0, 0, 0, 1, 0, 1], None), Reason::NoPermit);
}

#[test]
fn a_source_route_is_refused() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let plain = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"x");
    let with_options = |options: [u8; 4]| {
        let mut packet = plain.clone();
        packet[0] = 0x46;
        packet[3] += 4;
        packet.splice(20..20, options);
        packet
    };
    attacker.passes(&scene, &with_options([1, 1, 1, 0]));
    attacker.passes(&scene, &with_options([148, 4, 0, 0]));
    for bad in [[131, 3, 4, 0], [137, 3, 4, 0], [1, 131, 3, 4], [7, 1, 0, 0], [7, 0, 0, 0], [7, 5, 0, 0]] {
        attacker.is_refused(&scene, &with_options(bad), Reason::Malformed);
    }
}

#[test]
fn one_peer_cannot_use_up_anothers_flows() {
    let scene = Scene::new();
    let (mut attacker, mut bystander) = (scene.peer(ATTACKER), scene.peer(BYSTANDER));
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let held = udp((bystander.v4(), 1), (victim, 53), b"mine");
    bystander.passes(&scene, &held);
    for port in 0..crate::limits::MAX_FLOWS_PER_PEER as u16 {
        attacker.passes(&scene, &udp((me, port), (victim, 53), b"flood"));
    }
    attacker.is_refused(&scene, &udp((me, 60_000), (victim, 53), b"flood"), Reason::FlowLimit);
    bystander.passes(&scene, &held);
    bystander.passes(&scene, &udp((bystander.v4(), 2), (victim, 53), b"another"));
    assert_eq!(scene.send(&udp((victim, 1), (me, 7), b"out")).1.len(), 1, "nor what goes the other way");
}

#[test]
fn echo_identifiers_of_both_sides_are_apart_even_when_equal() {
    let policy = "[[allow]]\nid = \"out\"\nfrom = \"role=victim\"\nto = \"*\"\nports = [\"icmp\"]\n";
    let scene = Scene::with_policy(policy);
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    for id in [0, 1, 65_535] {
        assert_eq!(scene.send(&echo(victim, me, true, id)).1.len(), 1);
        attacker.is_refused(&scene, &echo(me, victim, true, id), Reason::NoPermit);
        attacker.passes(&scene, &echo(me, victim, false, id));
    }
}
