//! A1 to A4, L7, L17: nobody is anybody else, and nothing but plain unicast travels.

use super::attacker::{ATTACKER, BYSTANDER, Scene};
use super::craft::{ACK, SYN, Segment, tcp, udp};
use crate::Reason;
use std::net::IpAddr;

#[test]
fn a1_another_peers_address_is_not_the_attackers() {
    let scene = Scene::new();
    let (mut attacker, bystander) = (scene.peer(ATTACKER), scene.peer(BYSTANDER));
    let honest = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"me");
    attacker.passes(&scene, &honest);
    for (from, to) in [(bystander.v4(), scene.victim_v4()), (bystander.v6(), scene.victim_v6())] {
        attacker.is_refused(&scene, &udp((from, 9), (to, 53), b"him"), Reason::DishonestSource);
    }
    // A neighbour's address that nobody has, and the victim's own.
    for from in ["100.64.0.77", "100.64.0.11", "10.0.0.1"] {
        let packet = udp((from.parse().unwrap(), 9), (scene.victim_v4(), 53), b"?");
        attacker.is_refused(&scene, &packet, Reason::DishonestSource);
    }
}

#[test]
fn a3_l7_l17_addresses_that_mean_something_else_to_a_host_never_pass() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let forbidden: [&str; 14] = [
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "169.254.169.254",
        "240.0.0.1",
        "::",
        "::1",
        "::ffff:100.64.0.10",
        "64:ff9b::6440:a",
        "2002:6440:a::1",
        "fe80::1",
        "ff02::1",
        "::100.64.0.10",
    ];
    for address in forbidden.map(|text| text.parse::<IpAddr>().unwrap()) {
        let (mine, victim) = if address.is_ipv6() {
            (attacker.v6(), scene.victim_v6())
        } else {
            (attacker.v4(), scene.victim_v4())
        };
        attacker.is_refused(&scene, &udp((address, 9), (victim, 53), b"from"), Reason::ForbiddenAddress);
        attacker.is_refused(&scene, &udp((mine, 9), (address, 53), b"to"), Reason::ForbiddenAddress);
        // L17: nor out, from a program on our own host.
        let (packets, datagrams) = scene.send(&udp((victim, 9), (address, 7), b"out"));
        assert!(packets.is_empty() && datagrams.is_empty(), "{address}");
    }
}

#[test]
fn a3_what_is_not_for_the_victim_is_not_forwarded() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    for to in ["100.64.0.12", "8.8.8.8", "10.0.0.1", "100.127.255.53"] {
        attacker.is_refused(
            &scene,
            &udp((attacker.v4(), 9), (to.parse().unwrap(), 53), b"?"),
            Reason::NotForMe,
        );
    }
    for to in ["fd00:1:2::c", "2001:db8::1"] {
        attacker.is_refused(
            &scene,
            &udp((attacker.v6(), 9), (to.parse().unwrap(), 53), b"?"),
            Reason::NotForMe,
        );
    }
}

#[test]
fn a4_another_peers_flow_is_not_the_attackers() {
    let scene = Scene::new();
    let (mut attacker, mut bystander) = (scene.peer(ATTACKER), scene.peer(BYSTANDER));
    let segment = Segment {
        from: (bystander.v4(), 4000),
        to: (scene.victim_v4(), 5432),
        flags: SYN,
        sequence: 1,
        acknowledgement: 0,
        data: b"",
    };
    bystander.passes(&scene, &tcp(segment));
    let data = Segment { flags: ACK, sequence: 2, acknowledgement: 1, data: b"drop table", ..segment };
    attacker.is_refused(&scene, &tcp(data), Reason::DishonestSource);
    let own = Segment { from: (attacker.v4(), 4000), ..data };
    attacker.is_refused(&scene, &tcp(own), Reason::NoFlow);
    bystander.passes(&scene, &tcp(data));
}
