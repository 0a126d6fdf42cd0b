//! L3: fragments deliver nothing that a whole packet would not.

use super::attacker::{ATTACKER, Attacker, Scene};
use super::craft::{SYN, Segment, ip, tcp, udp};
use crate::Reason;

/// Cuts an IPv4 packet's payload at `from..to`.
fn piece(packet: &[u8], id: u16, from: usize, to: usize, more: bool) -> Vec<u8> {
    let mut cut = packet[..20].to_vec();
    cut.extend(&packet[20 + from..20 + to]);
    let len = cut.len() as u16;
    cut[2..4].copy_from_slice(&len.to_be_bytes());
    cut[4..6].copy_from_slice(&id.to_be_bytes());
    cut[6..8].copy_from_slice(&((from / 8) as u16 | u16::from(more) << 13).to_be_bytes());
    cut
}

/// The same in IPv6.
fn piece_v6(
    attacker: &Attacker,
    scene: &Scene,
    packet: &[u8],
    from: usize,
    to: usize,
    more: bool,
) -> Vec<u8> {
    let mut message = vec![packet[6], 0];
    message.extend((from as u16 | u16::from(more)).to_be_bytes());
    message.extend([0, 0, 0, 7]);
    message.extend(&packet[40 + from..40 + to]);
    ip(attacker.v6(), scene.victim_v6(), 44, &message, None)
}

#[test]
fn l3_an_honest_fragmented_datagram_arrives() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let whole = udp((attacker.v4(), 9), (scene.victim_v4(), 53), &[7; 40]);
    attacker.passes(&scene, &piece(&whole, 1, 0, 16, true));
    attacker.passes(&scene, &piece(&whole, 1, 16, 32, true));
    attacker.passes(&scene, &piece(&whole, 1, 32, 48, false));
    let whole = udp((attacker.v6(), 9), (scene.victim_v6(), 53), &[7; 40]);
    let pieces = [(0, 16, true), (16, 32, true), (32, 48, false)];
    for (from, to, more) in pieces {
        let fragment = piece_v6(&attacker, &scene, &whole, from, to, more);
        attacker.passes(&scene, &fragment);
    }
}

#[test]
fn l3_later_fragments_alone_do_not_arrive() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let denied = udp((attacker.v4(), 9), (scene.victim_v4(), 123), &[7; 40]);
    attacker.is_refused(&scene, &piece(&denied, 1, 8, 16, true), Reason::Fragment);
    attacker.is_refused(&scene, &piece(&denied, 1, 0, 16, true), Reason::NoPermit);
    attacker.is_refused(&scene, &piece(&denied, 1, 16, 48, false), Reason::Fragment);
    // Another identification, another protocol.
    let allowed = udp((attacker.v4(), 9), (scene.victim_v4(), 53), &[7; 40]);
    attacker.passes(&scene, &piece(&allowed, 2, 0, 16, true));
    attacker.is_refused(&scene, &piece(&allowed, 3, 16, 48, false), Reason::Fragment);
    let mut other = piece(&allowed, 2, 16, 48, false);
    other[9] = 47;
    attacker.is_refused(&scene, &other, Reason::Fragment);
}

#[test]
fn l3_overlaps_and_tiny_firsts_are_refused() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let segment = Segment {
        from: (attacker.v4(), 9),
        to: (scene.victim_v4(), 5432),
        flags: SYN,
        sequence: 1,
        acknowledgement: 0,
        data: &[7; 28],
    };
    let allowed = tcp(segment);
    let denied = tcp(Segment { to: (scene.victim_v4(), 22), ..segment });
    // The header has to be in the first.
    attacker.is_refused(&scene, &piece(&allowed, 1, 0, 8, true), Reason::Malformed);
    attacker.is_refused(&scene, &piece(&allowed, 1, 0, 16, true), Reason::Malformed);
    // Nothing overwrites it: neither a later fragment nor a second first.
    attacker.passes(&scene, &piece(&allowed, 2, 0, 24, true));
    attacker.is_refused(&scene, &piece(&denied, 2, 8, 24, true), Reason::Fragment);
    attacker.is_refused(&scene, &piece(&allowed, 2, 24, 48, false), Reason::Fragment);
    attacker.passes(&scene, &piece(&allowed, 3, 0, 24, true));
    attacker.is_refused(&scene, &piece(&allowed, 3, 0, 24, true), Reason::Fragment);
    attacker.is_refused(&scene, &piece(&allowed, 3, 24, 48, false), Reason::Fragment);
    // Not a multiple of eight; beyond 65,535; empty.
    attacker.is_refused(&scene, &piece(&allowed, 4, 0, 23, true), Reason::Malformed);
    let mut beyond = piece(&allowed, 4, 24, 48, false);
    beyond[6..8].copy_from_slice(&0x1fffu16.to_be_bytes());
    attacker.is_refused(&scene, &beyond, Reason::Malformed);
    attacker.is_refused(&scene, &piece(&allowed, 4, 24, 24, true), Reason::Malformed);
}

#[test]
fn l3_a_fragment_header_in_ipv6_hides_nothing() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let denied = udp((attacker.v6(), 9), (scene.victim_v6(), 123), &[7; 40]);
    let allowed = udp((attacker.v6(), 9), (scene.victim_v6(), 53), &[7; 40]);
    // An atomic fragment is a packet.
    let atomic = piece_v6(&attacker, &scene, &denied, 0, 48, false);
    attacker.is_refused(&scene, &atomic, Reason::NoPermit);
    let atomic = piece_v6(&attacker, &scene, &allowed, 0, 48, false);
    attacker.passes(&scene, &atomic);
    // The chain has to end in the first (RFC 7112), and there is one fragment header.
    let mut hidden = vec![60, 0, 0, 1, 0, 0, 0, 9];
    hidden.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    let packet = ip(attacker.v6(), scene.victim_v6(), 44, &hidden, None);
    attacker.is_refused(&scene, &packet, Reason::Malformed);
    let mut twice = vec![44, 0, 0, 1, 0, 0, 0, 9, 17, 0, 0, 1, 0, 0, 0, 9];
    twice.extend(&allowed[40..56]);
    let packet = ip(attacker.v6(), scene.victim_v6(), 44, &twice, None);
    attacker.is_refused(&scene, &packet, Reason::Malformed);
}

#[test]
fn l3_a_flood_of_firsts_is_bounded_and_others_still_work() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let whole = udp((attacker.v4(), 9), (scene.victim_v4(), 53), &[7; 40]);
    for id in 0..5000 {
        attacker.passes(&scene, &piece(&whole, id, 0, 16, true));
    }
    attacker.is_refused(&scene, &piece(&whole, 1, 16, 48, false), Reason::Fragment);
    attacker.passes(&scene, &piece(&whole, 4999, 16, 48, false));
}
