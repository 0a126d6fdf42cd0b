//! From a node without permission nothing arrives; from a permitted one, nothing but what is permitted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bulkhead_tests::{Node, SOON, until};

use crate::craft::{self, flags};
use crate::mesh::Mesh;
use crate::rogue::Rogue;

/// Packets that `node`'s daemon has handed to its host.
fn delivered(node: &Node) -> u64 {
    node.host.packets("bulkhead0", "rx").unwrap()
}

/// Waits until the victim's daemon has counted `more` further datagrams as dropped, so that "nothing was
/// delivered" is said after everything was looked at.
fn dropped(node: &Node) -> u64 {
    let denied = node.json(&["peers", "--denied"]).unwrap();
    let by_reason = denied["dropped"].as_object().expect("drops are counted by reason");
    by_reason.values().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn l1_scans_from_the_intruder_deliver_nothing() {
    let mesh = Mesh::start();
    let before = delivered(&mesh.db);
    let db = mesh.db.v4().to_string();
    for scan in ["-sS", "-sA", "-sF", "-sN", "-sX", "-sU", "-sO"] {
        let output = mesh
            .intruder
            .host
            .run(
                "nmap",
                &[
                    scan,
                    "-Pn",
                    "-n",
                    "-T5",
                    "--max-retries",
                    "1",
                    "-p",
                    "22,80,5432,9100",
                    "--host-timeout",
                    "20s",
                    &db,
                ],
            )
            .unwrap();
        assert!(!output.stdout.contains("/tcp open  "), "{scan}: {}", output.stdout);
    }
    let _ = mesh.intruder.host.run("ping", &["-c3", "-i0.2", "-W1", &db]).unwrap();
    let _ = mesh.intruder.host.run("ping", &["-c3", "-i0.2", "-W1", &mesh.db.v6().to_string()]).unwrap();
    assert_eq!(delivered(&mesh.db), before, "not one packet");
}

#[test]
fn the_wireguard_port_tells_a_scanner_nothing() {
    let mesh = Mesh::start();
    let underlay = mesh.db.host.v4.to_string();
    let output =
        mesh.intruder.host.run("nmap", &["-sU", "-Pn", "-n", "-T4", "-p", "51820", &underlay]).unwrap();
    assert!(output.stdout.contains("open|filtered"), "{}", output.stdout);
}

#[test]
fn the_intruders_handshakes_get_no_answer() {
    let mut mesh = Mesh::start();
    mesh.intruder.kill();
    let mut rogue = Rogue::new(&mesh.intruder, &mesh.db, &mesh.web);
    assert!(!rogue.is_answered(Duration::from_secs(5)), "silence for a key that the policy does not permit");
    // The same program with a permitted key is answered: the silence above was not the test's mistake.
    let map = mesh.web.state().join("map.cbor");
    assert!(map.exists());
    mesh.web.kill();
    let mut permitted = Rogue::new(&mesh.web, &mesh.db, &mesh.web);
    assert!(permitted.handshake(Duration::from_secs(20)));
}

/// web's stolen key, in a tunnel to db that stands.
fn stolen(mesh: &mut Mesh) -> (Rogue, IpAddr, IpAddr) {
    let (web, db) = (mesh.web.v4(), mesh.db.v4());
    mesh.web.kill();
    let mut rogue = Rogue::new(&mesh.web, &mesh.db, &mesh.web);
    assert!(rogue.handshake(Duration::from_secs(20)));
    // A permitted SYN is delivered: the tunnel stands and counting works.
    let before = delivered(&mesh.db);
    until("a permitted packet is delivered", SOON, || {
        rogue.send(&craft::tcp(web.into(), db.into(), (40_000, 5432), flags::SYN));
        delivered(&mesh.db) > before
    });
    (rogue, web.into(), db.into())
}

/// Sends packets, waits until the victim has judged them all, and demands that none was delivered.
fn none_delivered(mesh: &Mesh, rogue: &mut Rogue, packets: &[(String, Vec<u8>)]) {
    // What the kernel of db answers to the permitted SYN does not come from the daemon.
    for (what, packet) in packets {
        let (before, seen) = (delivered(&mesh.db), dropped(&mesh.db));
        rogue.send(packet);
        until(&format!("{what} was dropped"), SOON, || dropped(&mesh.db) > seen);
        assert_eq!(delivered(&mesh.db), before, "{what} was delivered");
    }
}

#[test]
fn a1_a3_a_stolen_tunnel_cannot_speak_for_another_address() {
    let mut mesh = Mesh::start();
    let metrics = IpAddr::from(mesh.metrics.v4());
    let intruder = IpAddr::from(mesh.intruder.v4());
    let db6 = mesh.db.v6();
    let (mut rogue, _, db) = stolen(&mut mesh);
    let mut packets = Vec::new();
    for source in [
        metrics,
        intruder,
        db,
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::BROADCAST.into(),
        Ipv4Addr::new(169, 254, 169, 254).into(),
        Ipv4Addr::new(224, 0, 0, 1).into(),
        Ipv4Addr::new(10, 66, 0, 1).into(),
    ] {
        packets.push((format!("from {source}"), craft::tcp(source, db, (40_001, 5432), flags::SYN)));
    }
    for source in ["::1", "::", "fe80::1", "ff02::1", "::ffff:100.64.0.10", "fd66::1"] {
        let source: Ipv6Addr = source.parse().unwrap();
        packets.push((
            format!("from {source}"),
            craft::tcp(source.into(), db6.into(), (40_002, 5432), flags::SYN),
        ));
    }
    none_delivered(&mesh, &mut rogue, &packets);
}

#[test]
fn a3_nor_reach_an_address_that_is_not_the_victims() {
    let mut mesh = Mesh::start();
    let other = IpAddr::from(mesh.metrics.v4());
    let (mut rogue, web, _) = stolen(&mut mesh);
    let packets: Vec<_> = [
        other,
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(10, 66, 0, 3).into(),
        Ipv4Addr::new(224, 0, 0, 251).into(),
        Ipv4Addr::BROADCAST.into(),
        Ipv4Addr::new(169, 254, 169, 254).into(),
        Ipv4Addr::new(100, 127, 255, 53).into(),
    ]
    .into_iter()
    .map(|to| (format!("to {to}"), craft::tcp(web, to, (40_001, 5432), flags::SYN)))
    .collect();
    none_delivered(&mesh, &mut rogue, &packets);
}

#[test]
fn l1_l2_l5_a_stolen_tunnel_gets_only_what_policy_says() {
    let mut mesh = Mesh::start();
    let (mut rogue, web, db) = stolen(&mut mesh);
    let mut packets = Vec::new();
    for (what, bits) in [
        ("ACK", flags::ACK),
        ("FIN", flags::FIN),
        ("NULL", 0),
        ("XMAS", flags::FIN | flags::PSH | flags::URG),
        ("SYN+ACK", flags::SYN | flags::ACK),
        ("RST", flags::RST),
    ] {
        packets.push((format!("{what} without a flow"), craft::tcp(web, db, (41_000, 5432), bits)));
    }
    for port in [22, 0, 5431, 5433, 65_535] {
        packets.push((format!("SYN to {port}"), craft::tcp(web, db, (41_001, port), flags::SYN)));
    }
    packets.push(("UDP to the TCP rule's port".into(), craft::udp(web, db, (41_002, 5432), b"x")));
    packets.push(("protocol 47".into(), craft::ip(web, db, 47, &[0; 24])));
    packets.push((
        "SCTP to the TCP rule's port".into(),
        craft::ip(web, db, 132, &[0xa0, 0x2a, 0x15, 0x38, 0, 0, 0, 0, 0, 0, 0, 0]),
    ));
    packets.push(("an unsolicited echo reply".into(), craft::icmp(web, db, 0, 0, &[0, 9, 0, 9, 1, 2, 3, 4])));
    let quoted = craft::tcp(db, web, (5432, 55_555), flags::ACK);
    for (what, kind, code) in
        [("unreachable", 3, 1), ("too big", 3, 4), ("redirect", 5, 0), ("time exceeded", 11, 0)]
    {
        let mut rest = vec![0, 0, 0, 68];
        rest.extend(&quoted[..28]);
        packets.push((
            format!("ICMP {what} about a flow that never was"),
            craft::icmp(web, db, kind, code, &rest),
        ));
    }
    none_delivered(&mesh, &mut rogue, &packets);
}

#[test]
fn l3_fragments_without_a_judged_first_are_not_delivered() {
    let mut mesh = Mesh::start();
    let (mut rogue, web, db) = stolen(&mut mesh);
    let before = delivered(&mesh.db);
    let whole = craft::tcp(web, db, (42_000, 5432), flags::SYN);
    for (offset, more) in [(1_u16, false), (185, true), (8191, false)] {
        let mut later = whole.clone();
        let field = offset | if more { 0x2000 } else { 0 };
        later[6..8].copy_from_slice(&field.to_be_bytes());
        fix_header(&mut later);
        rogue.send(&later);
    }
    // Tiny first: eight bytes of TCP, the flags are in the next fragment.
    let mut tiny = whole[..28].to_vec();
    tiny[2..4].copy_from_slice(&28_u16.to_be_bytes());
    tiny[6..8].copy_from_slice(&0x2000_u16.to_be_bytes());
    fix_header(&mut tiny);
    rogue.send(&tiny);
    // A permitted packet behind them: when it has arrived, the others have been judged.
    rogue.send(&craft::tcp(web, db, (42_001, 5432), flags::SYN));
    until("the permitted one arrives", SOON, || delivered(&mesh.db) > before);
    assert_eq!(delivered(&mesh.db), before + 1);
}

fn fix_header(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let mut sum = packet[..20].chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum::<u32>();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
}

#[test]
fn a9_garbage_does_not_move_an_endpoint() {
    let mut mesh = Mesh::start();
    let ping =
        |mesh: &Mesh| mesh.web.host.run("ping", &["-c1", "-W3", &mesh.db.v4().to_string()]).unwrap().ok();
    let endpoint = |mesh: &Mesh| {
        let status = mesh.db.json(&["status"]).unwrap();
        let web = status["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == "web").cloned();
        web.unwrap()["endpoint"].clone()
    };
    until("db answers web", SOON, || ping(&mesh));
    let (before, seen) = (endpoint(&mesh), dropped(&mesh.db));
    assert!(before.is_string(), "{before}");
    mesh.intruder.kill();
    let mut rogue = Rogue::new(&mesh.intruder, &mesh.db, &mesh.web);
    for index in 0..512_u32 {
        // Data messages with plausible receiver indices, and cookie replies.
        for kind in [4_u8, 3] {
            let mut datagram = vec![kind, 0, 0, 0];
            datagram.extend((index << 8).to_le_bytes());
            datagram.resize(64, 0xaa);
            rogue.send_raw(&datagram);
        }
        // Not more than a socket holds.
        if index % 64 == 63 {
            until("all of it was judged", SOON, || dropped(&mesh.db) >= seen + 2 * u64::from(index + 1));
        }
    }
    assert_eq!(endpoint(&mesh), before);
    until("db still answers web where web is", SOON, || ping(&mesh));
}
