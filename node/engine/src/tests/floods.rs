//! G1 to G3: floods of handshakes cost us a bounded number of exchanges, never make us send more than came, and do not
//! keep honest peers out. No time passes here but what a test lets pass.

use super::attacker::{ATTACKER, BYSTANDER, Scene};
use super::craft::udp;
use crate::limits::{COOKIES_PER_SECOND, COOKIES_PER_SOURCE, HANDSHAKES_PER_SECOND};
use crate::session::Kind;
use crate::session::classify;
use crate::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const FLOOD: u32 = 100_000;
/// What passes in a second without a cookie.
const WITHOUT_COOKIE: usize = HANDSHAKES_PER_SECOND as usize;
/// Cookies that one source gets in a second.
const COOKIES: u64 = COOKIES_PER_SECOND + 2 * COOKIES_PER_SOURCE as u64;

/// What a flood was answered with.
#[derive(Debug, Default)]
struct Flood {
    bytes_in: usize,
    bytes_out: usize,
    /// Messages that asked for an exchange of keys.
    handshakes: usize,
    /// The most of them at one time.
    most: usize,
}

/// What a data thread does with copies of one message, in batches, from where `from` says.
fn flood(scene: &Scene, message: &[u8], from: impl Fn(u32) -> SocketAddr) -> Flood {
    let mut out = Output::new();
    let mut flood = Flood::default();
    for start in (0..FLOOD).step_by(64) {
        let datagrams =
            (start..start + 64).map(|i| Datagram { from: from(i), ecn: Ecn::NotEct, bytes: message });
        flood.bytes_in += 64 * message.len();
        scene.victim.batch(scene.now()).inbound(datagrams, &mut out);
        flood.bytes_out += out.datagrams().map(|(_, datagram)| datagram.len()).sum::<usize>();
        let handshakes = out.handshakes().count();
        flood.handshakes += handshakes;
        flood.most = flood.most.max(handshakes);
        assert!(flood.bytes_out <= flood.bytes_in, "G3, at every moment");
        out.clear();
    }
    flood
}

/// An honest peer comes: by a cookie, if it is asked for one.
fn connects(scene: &Scene, who: u8) {
    let mut honest = scene.stranger(who);
    let initiation = honest.initiation(scene);
    let (_, answers) = scene.receive(honest.at, &initiation);
    assert_eq!(answers.len(), 1, "an honest peer is answered");
    let mut answer = answers[0].1.clone();
    if answer[0] == 3 {
        let again = honest.take_cookie(scene, &answer).expect("it tries again at once");
        let (_, answers) = scene.receive(honest.at, &again);
        assert_eq!(answers.len(), 1, "{:?}", refusals(scene));
        answer = answers[0].1.clone();
    }
    honest.take_answer(scene, &answer);
    let packet = udp((honest.v4(), 9), (scene.victim_v4(), 53), b"hello");
    honest.passes(scene, &packet);
}

fn refusals(scene: &Scene) -> Vec<(Reason, u64)> {
    scene.victim.counters().iter().filter(|&(_, count)| count > 0).collect()
}

#[test]
fn g1_g3_a_flood_from_one_source_is_its_own_share_and_no_more() {
    let scene = Scene::new();
    let initiation = scene.stranger(ATTACKER).initiation(&scene);
    for from in [SocketAddr::from(([203, 0, 113, 66], 666)), "[2001:db8::66]:666".parse().unwrap()] {
        let flood = flood(&scene, &initiation, |_| from);
        assert!(flood.handshakes <= WITHOUT_COOKIE, "{flood:?}");
    }
    let cookies = scene.counter(Reason::CookieAsked);
    assert!(cookies <= COOKIES + 2 * u64::from(COOKIES_PER_SOURCE), "{cookies}");
    connects(&scene, BYSTANDER);
}

#[test]
fn g1_addresses_of_one_64_are_one_source() {
    let scene = Scene::new();
    let initiation = scene.stranger(ATTACKER).initiation(&scene);
    let from = |i: u32| {
        let [a, b] = [(i >> 16) as u16, i as u16];
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, a, b), 666))
    };
    let flood = flood(&scene, &initiation, from);
    assert!(flood.handshakes <= WITHOUT_COOKIE, "{flood:?}");
    assert!(scene.counter(Reason::CookieAsked) <= COOKIES);
}

#[test]
fn g1_g3_a_flood_from_ten_thousand_sources_waits_for_cookies_and_honest_peers_get_in() {
    let scene = Scene::new();
    let initiation = scene.stranger(ATTACKER).initiation(&scene);
    let from = |i: u32| SocketAddr::from((Ipv4Addr::from(0xcb00_7100 + i % 10_000), 666));
    let flood = flood(&scene, &initiation, from);
    assert!(flood.handshakes <= WITHOUT_COOKIE && flood.most <= 64, "{flood:?}");
    assert!(flood.bytes_out > 0 && scene.counter(Reason::CookieAsked) > 0);
    connects(&scene, BYSTANDER);
    connects(&scene, ATTACKER);
}

#[test]
fn a_recorded_initiation_sent_a_thousand_times_does_not_keep_its_peer_out() {
    let scene = Scene::new();
    let recorded = scene.stranger(ATTACKER).initiation(&scene);
    let mut out = Output::new();
    let from = |i: usize| SocketAddr::from((Ipv4Addr::from(0xcb00_7100 + i as u32), 666));
    let datagrams =
        (0..WITHOUT_COOKIE).map(|i| Datagram { from: from(i), ecn: Ecn::NotEct, bytes: &recorded });
    scene.victim.batch(scene.now()).inbound(datagrams, &mut out);
    assert_eq!(out.handshakes().count(), WITHOUT_COOKIE);
    // All of them passed the door before it asked for cookies; now they come to their peer's session.
    let handshakes: Vec<Handshake> = out.handshakes().copied().collect();
    let mut answers = Output::new();
    handshakes.iter().for_each(|handshake| scene.victim.handshake(handshake, scene.now(), &mut answers));
    assert!(answers.datagrams().all(|(_, answer)| answer.len() < recorded.len()));
    connects(&scene, ATTACKER);
}

#[test]
fn made_up_cookies_in_a_peers_name_do_not_keep_the_peer_out() {
    let scene = Scene::new();
    let honest = scene.stranger(BYSTANDER);
    let mut cookie = [0xa5; 64];
    cookie[..4].copy_from_slice(&[3, 0, 0, 0]);
    let at = honest.at;
    let flood = flood(&scene, &cookie, |_| at);
    assert_eq!((flood.handshakes, flood.bytes_out), (0, 0));
    connects(&scene, BYSTANDER);
}

#[test]
fn what_does_not_bear_our_mark_costs_nobody_a_share() {
    let scene = Scene::new();
    let honest = scene.stranger(BYSTANDER);
    let mut forged = scene.stranger(ATTACKER).initiation(&scene);
    forged[116] ^= 1;
    let at = honest.at;
    let flood = flood(&scene, &forged, |_| at);
    assert_eq!((flood.handshakes, flood.bytes_out), (0, 0));
    assert_eq!(scene.counter(Reason::Unauthentic), u64::from(FLOOD.next_multiple_of(64)));
    connects(&scene, BYSTANDER);
}

#[test]
fn a_peer_whose_address_a_flood_bears_gets_one_of_the_cookies_that_are_to_spare() {
    let mut scene = Scene::new();
    let initiation = scene.stranger(ATTACKER).initiation(&scene);
    let at = scene.stranger(BYSTANDER).at;
    let from_it = flood(&scene, &initiation, |_| at);
    assert!(from_it.handshakes <= WITHOUT_COOKIE, "{from_it:?}");
    let (_, answers) = scene.receive(at, &initiation);
    assert!(answers.is_empty(), "in this second, all are used up");
    scene.seconds += 1;
    let mut out = Output::new();
    let some = HANDSHAKES_PER_SECOND + COOKIES_PER_SECOND - 1;
    let datagrams = (0..some).map(|_| Datagram { from: at, ecn: Ecn::NotEct, bytes: &initiation });
    scene.victim.batch(scene.now()).inbound(datagrams, &mut out);
    connects(&scene, BYSTANDER);
}

#[test]
fn made_up_marks_of_cookies_get_no_more_cookies_than_none() {
    let scene = Scene::new();
    let mut initiation = scene.stranger(ATTACKER).initiation(&scene);
    initiation[132..].fill(0xa5);
    let flood = flood(&scene, &initiation, |_| SocketAddr::from(([203, 0, 113, 66], 666)));
    assert!(flood.handshakes <= WITHOUT_COOKIE, "{flood:?}");
    let (asked, refused) = (scene.counter(Reason::CookieAsked), scene.counter(Reason::HandshakeRate));
    assert!(0 < asked && asked <= COOKIES, "{asked}");
    assert_eq!(asked + refused + flood.handshakes as u64, u64::from(FLOOD.next_multiple_of(64)));
    connects(&scene, BYSTANDER);
}

#[test]
fn a_cookie_is_answered_once_for_each_initiation() {
    let scene = Scene::new();
    let initiation = scene.stranger(ATTACKER).initiation(&scene);
    let from = |i: u32| SocketAddr::from((Ipv4Addr::from(0xcb00_7100 + i % 10_001), 666));
    let _ = flood(&scene, &initiation, from);
    let mut honest = scene.stranger(BYSTANDER);
    let first = honest.initiation(&scene);
    let (_, answers) = scene.receive(honest.at, &first);
    let cookie = &answers[0].1;
    assert!(matches!(classify(cookie), Some(Kind::Answer { .. })) && cookie[0] == 3);
    let again = honest.take_cookie(&scene, cookie).expect("at once");
    assert_ne!(again[132..], [0; 16], "with the cookie's mark");
    // A cookie is that of its address. Whoever sends the reply again, or has one made for what it caused, causes no
    // more.
    let (_, elsewhere) = scene.receive(([192, 0, 2, 200], 666).into(), &again);
    assert_eq!(elsewhere[0].1[0], 3);
    for reply in [cookie, &elsewhere[0].1, cookie] {
        assert_eq!(honest.take_cookie(&scene, reply), None);
    }
    let (_, answers) = scene.receive(honest.at, &again);
    assert_eq!(answers[0].1[0], 2);
}
