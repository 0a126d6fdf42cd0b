//! A10: inner lengths that lie, and laws of the parser.

use super::attacker::{ATTACKER, Scene};
use super::craft::{SYN, Segment, echo, ends, icmp_error, tcp, udp};
use crate::Reason;
use crate::packet::{self, IPV6_HEADER};
use crate::transport::Transport;
use proptest::prelude::*;
use std::net::IpAddr;

#[test]
fn a10_lengths_that_lie_are_refused() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let honest = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"honest!!");
    attacker.passes(&scene, &honest);
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = honest.clone();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    // Total length: longer than what came (with all its padding), shorter than the header, zero.
    for len in [65_535u16, 49, 19, 0] {
        attacker.is_refused(&scene, &with(2, &len.to_be_bytes()), Reason::Malformed);
    }
    // Header length: less than 20, beyond the packet. UDP length: more than there is, less than its header.
    attacker.is_refused(&scene, &with(0, &[0x44]), Reason::Malformed);
    attacker.is_refused(&scene, &with(0, &[0x4f]), Reason::Malformed);
    attacker.is_refused(&scene, &with(24, &17u16.to_be_bytes()), Reason::Malformed);
    attacker.is_refused(&scene, &with(24, &7u16.to_be_bytes()), Reason::Malformed);
    // Neither IPv4 nor IPv6.
    for version in [0, 5, 7, 15] {
        attacker.is_refused(&scene, &with(0, &[version << 4 | 5]), Reason::Malformed);
    }
    for len in [1, 19] {
        attacker.is_refused(&scene, &honest[..len], Reason::Malformed);
    }
    let v6 = udp((attacker.v6(), 9), (scene.victim_v6(), 53), b"honest!!");
    for len in [65_535u16, 100, 7, 0] {
        let mut lie = v6.clone();
        lie[4..6].copy_from_slice(&len.to_be_bytes());
        let before = scene.victim.counters();
        assert!(attacker.inject(&scene, &lie).is_empty());
        assert_ne!(scene.victim.counters(), before);
    }
    // A shorter packet with bytes behind it is cut: that is what padding looks like.
    let mut longer = honest.clone();
    longer.extend(b"secret tail");
    assert_eq!(attacker.inject(&scene, &longer), [honest]);
}

#[test]
fn a_tcp_header_longer_than_its_segment_is_refused() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let mut packet = tcp(Segment {
        from: (attacker.v4(), 9),
        to: (scene.victim_v4(), 5432),
        flags: SYN,
        sequence: 0,
        acknowledgement: 0,
        data: b"",
    });
    for offset in [0x00, 0x40, 0x60, 0xf0] {
        packet[32] = offset;
        attacker.is_refused(&scene, &packet, Reason::Malformed);
    }
}

fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    let v4 = || any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = || any::<[u8; 16]>().prop_map(IpAddr::from);
    let pair = prop_oneof![(v4(), v4()).boxed(), (v6(), v6()).boxed()];
    (pair, any::<u16>(), any::<u16>(), 0u8..4, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..100))
        .prop_map(|((from, to), a, b, kind, flags, data)| match kind {
            0 => tcp(Segment {
                from: (from, a),
                to: (to, b),
                flags,
                sequence: 1,
                acknowledgement: 2,
                data: &data,
            }),
            1 => udp((from, a), (to, b), &data),
            2 => echo(from, to, flags & 1 == 0, a),
            _ => icmp_error(from, to, flags, 0, u32::from(b), &udp((to, b), (from, a), &data)),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_parser_never_panics_and_stays_inside(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(packet) = packet::parse(&bytes) {
            prop_assert!(packet.len <= bytes.len());
            prop_assert!(packet.payload <= packet.len);
        }
    }

    #[test]
    fn a_damaged_packet_is_refused_or_says_what_its_bytes_say(
        mut bytes in some_packet(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let Ok(packet) = packet::parse(&bytes) else { return Ok(()) };
        prop_assert!(packet.len <= bytes.len() && packet.payload <= packet.len);
        prop_assert_eq!((packet.source, packet.destination), ends(&bytes));
        // Parsing is about the packet, not about what is behind it.
        prop_assert_eq!(packet::parse(&bytes[..packet.len]), Ok(packet));
        if let Transport::Tcp(segment) = packet.transport {
            let at = packet.payload;
            let source = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            prop_assert_eq!((packet.protocol, segment.ports.source), (6, source));
        }
        if packet.source.is_ipv6() {
            prop_assert!(packet.payload >= IPV6_HEADER);
        }
    }

    #[test]
    fn an_undamaged_packet_is_understood(bytes in some_packet()) {
        let packet = packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.len, bytes.len());
        prop_assert!(packet.fragment.is_none());
        prop_assert!(packet.transport != Transport::Other && packet.transport != Transport::LaterFragment);
    }

    /// P1 for everything that mutation can make of an honest packet: what arrives is from the peer, for the
    /// victim, and of a permitted service.
    #[test]
    fn whatever_arrives_is_permitted(
        kind in 0u8..3,
        damage in proptest::collection::vec((0usize..60, any::<u8>()), 0..6),
    ) {
        thread_local! { static SCENE: (Scene, std::cell::RefCell<super::attacker::Attacker>) = {
            let scene = Scene::new();
            let attacker = scene.peer(ATTACKER);
            (scene, attacker.into())
        }; }
        SCENE.with(|(scene, attacker)| {
            let mut attacker = attacker.borrow_mut();
            let (me, victim) = (attacker.v4(), scene.victim_v4());
            let mut packet = match kind {
                0 => udp((me, 9), (victim, 53), &[0; 20]),
                1 => tcp(Segment { from: (me, 9), to: (victim, 5432), flags: SYN, sequence: 0, acknowledgement: 0, data: &[0; 8] }),
                _ => echo(me, victim, true, 5),
            };
            let len = packet.len();
            for (at, value) in damage {
                packet[at % len] = value;
            }
            for arrived in attacker.inject(scene, &packet) {
                prop_assert_eq!(ends(&arrived), (me, victim));
                let header = usize::from(arrived[0] & 15) * 4;
                let later_fragment = (arrived[6] & 0x1f, arrived[7]) != (0, 0);
                let port = u16::from_be_bytes([arrived[header + 2], arrived[header + 3]]);
                match arrived[9] {
                    _ if later_fragment => {}
                    1 => prop_assert_eq!(arrived[header], 8),
                    6 => prop_assert_eq!(port, 5432),
                    17 => prop_assert_eq!(port, 53),
                    other => prop_assert!(false, "protocol {}", other),
                }
            }
            Ok(())
        })?;
    }
}
