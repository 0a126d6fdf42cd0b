//! A5 to A9, A11, G1 to G3: only holders of permitted keys are answered, and nobody twice for the same thing.

use super::attacker::{ATTACKER, BYSTANDER, Scene, VICTIM};
use super::craft::udp;
use crate::limits::REJECT_AFTER_MESSAGES;
use crate::probe::Message;
use crate::*;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::sync::Barrier;

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 66], 666))
}

#[test]
fn a5_an_exact_replay_delivers_nothing_at_once_at_the_windows_edge_and_after_a_rekey() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let packet = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"once");
    let first = attacker.seal(&scene, &packet);
    assert_eq!(scene.receive(attacker.at, &first).0, [&packet[..]]);
    assert_eq!(scene.receive(attacker.at, &first), (Vec::new(), Vec::new()));
    assert_eq!(scene.receive(elsewhere(), &first), (Vec::new(), Vec::new()));
    assert_eq!(scene.endpoint_of(0), Some(attacker.at), "a replay moves no endpoint");

    let many: Vec<_> = (0..2000).map(|_| attacker.seal(&scene, &packet)).collect();
    for datagram in many.iter().rev() {
        scene.receive(attacker.at, datagram);
    }
    for datagram in &many {
        assert_eq!(scene.receive(attacker.at, datagram), (Vec::new(), Vec::new()));
    }
    attacker.connect(&scene);
    attacker.passes(&scene, &packet);
    for datagram in many.iter().chain([&first]) {
        assert_eq!(scene.receive(attacker.at, datagram), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a5_of_two_threads_with_the_same_datagrams_each_delivers_its_own_share() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let packet = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"once");
    let datagrams: Vec<_> = (0..500).map(|_| attacker.seal(&scene, &packet)).collect();
    let barrier = Barrier::new(2);
    let race = || {
        barrier.wait();
        datagrams.iter().map(|datagram| scene.receive(attacker.at, datagram).0.len()).sum::<usize>()
    };
    let delivered = std::thread::scope(|threads| {
        let other = threads.spawn(race);
        race() + other.join().unwrap()
    });
    assert_eq!(delivered, datagrams.len());
}

#[test]
fn a6_a_recorded_initiation_gets_no_answer_and_moves_no_endpoint() {
    let scene = Scene::new();
    let mut attacker = scene.stranger(ATTACKER);
    let recorded = attacker.initiation(&scene);
    let (_, answers) = scene.receive(attacker.at, &recorded);
    attacker.take_answer(&scene, &answers[0].1);
    let at = attacker.at;
    for from in [at, elsewhere()] {
        assert_eq!(scene.receive(from, &recorded), (Vec::new(), Vec::new()));
    }
    assert_eq!(scene.counter(Reason::RepeatedHandshake), 2);
    assert_eq!(scene.counter(Reason::Unauthentic), 0);
    // After a map update.
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    assert_eq!(scene.receive(elsewhere(), &recorded), (Vec::new(), Vec::new()));
    assert_eq!(scene.endpoint_of(0), Some(at));

    // After a restart nobody remembers: it is answered, but whoever replays it learns nothing by that and
    // gets nothing.
    let restarted = Scene::new();
    let (packets, answers) = restarted.receive(elsewhere(), &recorded);
    assert!(packets.is_empty() && answers.len() == 1 && answers[0].1.len() < recorded.len());
    assert_eq!(restarted.endpoint_of(0), None);
    let (_, datagrams) = restarted.send(&udp((restarted.victim_v4(), 9), (attacker.v4(), 7), b"secret"));
    assert!(datagrams.is_empty(), "no data goes to where an initiation came from");
}

#[test]
fn a7_counters_at_the_end_of_their_range_are_refused() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let packet = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"once");
    let datagram = attacker.seal(&scene, &packet);
    for counter in [0, 1 << 63, REJECT_AFTER_MESSAGES - 1, REJECT_AFTER_MESSAGES, u64::MAX - 1, u64::MAX] {
        let mut forged = datagram.clone();
        forged[8..16].copy_from_slice(&counter.to_le_bytes());
        assert_eq!(scene.receive(attacker.at, &forged), (Vec::new(), Vec::new()));
    }
    assert!(scene.counter(Reason::BadCounter) >= 3);
    assert_eq!(scene.receive(attacker.at, &datagram).0, [packet], "and the session still works");
}

#[test]
fn a8_low_order_keys_are_nobodys() {
    for low in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        assert!(bulkhead_identity::TunnelPublicKey::parse(&low).is_err());
    }
}

#[test]
fn a9_garbage_and_cookie_replies_move_no_endpoint() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let at = attacker.at;
    let datagram = attacker.seal(&scene, &udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"x"));
    let mut garbage = datagram.clone();
    *garbage.last_mut().unwrap() ^= 1;
    let mut cookie = vec![3, 0, 0, 0];
    cookie.extend(&datagram[4..8]);
    cookie.resize(64, 0);
    for forged in [&garbage, &cookie] {
        assert_eq!(scene.receive(elsewhere(), forged), (Vec::new(), Vec::new()));
    }
    assert_eq!(scene.endpoint_of(0), Some(at));
    // What is authentic does: that is roaming.
    assert_eq!(scene.receive(elsewhere(), &datagram).0.len(), 1);
    assert_eq!(scene.endpoint_of(0), Some(elsewhere()));
}

#[test]
fn a_stranger_hears_nothing() {
    // The policy knows only the bystander; the attacker has a certificate and a key, and no permit.
    let scene = Scene::with_policy(
        "[[allow]]\nid = \"b\"\nfrom = \"role=bystander\"\nto = \"role=victim\"\nports = [\"udp/53\"]\n",
    );
    let mut attacker = scene.stranger(ATTACKER);
    let initiation = attacker.initiation(&scene);
    assert_eq!(scene.receive(attacker.at, &initiation), (Vec::new(), Vec::new()));
    assert_eq!(scene.counter(Reason::Stranger), 1);
    // Not even the victim's own key is somebody.
    let mut mirror = scene.stranger(VICTIM);
    let initiation = mirror.initiation(&scene);
    assert_eq!(scene.receive(mirror.at, &initiation), (Vec::new(), Vec::new()));
    scene.peer(BYSTANDER);
}

#[test]
fn g1_garbage_in_a_peers_name_does_not_keep_the_peer_out() {
    let scene = Scene::new();
    let mut bystander = scene.stranger(BYSTANDER);
    let mut garbage = [0xa5; 148];
    garbage[..4].copy_from_slice(&[1, 0, 0, 0]);
    for _ in 0..1000 {
        assert_eq!(scene.receive(bystander.at, &garbage), (Vec::new(), Vec::new()));
    }
    bystander.connect(&scene);
}

#[test]
fn a9_a_datagram_from_inside_the_mesh_or_from_nowhere_is_nobodys() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let at = attacker.at;
    let packet = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"in a circle");
    for from in [(attacker.v4(), 51_820), (attacker.v6(), 51_820), (at.ip(), 0)].map(SocketAddr::from) {
        let datagram = attacker.seal(&scene, &packet);
        assert_eq!(scene.receive(from, &datagram), (Vec::new(), Vec::new()), "{from}");
        let initiation = scene.stranger(BYSTANDER).initiation(&scene);
        assert_eq!(scene.receive(from, &initiation), (Vec::new(), Vec::new()), "{from}");
    }
    assert_eq!(scene.endpoint_of(0), Some(at));
}

#[test]
fn g3_a_probe_that_is_shorter_than_its_answer_gets_none() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let question = Message::EchoRequest { id: 1 }.encode();
    let ports = |mine, theirs| ((mine, PROBE_PORT), (theirs, PROBE_PORT));
    let (from, to) = ports(attacker.v6(), scene.victim_v6());
    let datagram = attacker.seal(&scene, &udp(from, to, &question));
    let (packets, answers) = scene.receive(attacker.at, &datagram);
    assert!(packets.is_empty() && answers.len() == 1 && answers[0].1.len() <= datagram.len());
    let (from, to) = ports(attacker.v4(), scene.victim_v4());
    attacker.is_refused(&scene, &udp(from, to, &question), Reason::ProbeRefused);
}

#[test]
fn g1_a_flood_from_many_addresses_is_asked_for_cookies_and_never_amplified() {
    let scene = Scene::new();
    let mut attacker = scene.stranger(ATTACKER);
    let initiation = attacker.initiation(&scene);
    let mut answered = 0;
    for i in 0..10_000u32 {
        let from = SocketAddr::from((std::net::Ipv4Addr::from(0xc633_0000 + i), 9));
        for (to, answer) in scene.receive(from, &initiation).1 {
            assert_eq!(to, from);
            assert!(answer.len() <= initiation.len());
            answered += 1;
        }
    }
    assert!(answered > 0 && scene.counter(Reason::CookieAsked) > 0);
}

proptest! {
    #[test]
    fn a11_g2_random_datagrams_produce_nothing(
        kind in 0u8..6,
        mut datagram in proptest::collection::vec(any::<u8>(), 0..2000),
        index in any::<[u8; 4]>(),
    ) {
        thread_local! { static SCENE: Scene = Scene::new(); }
        SCENE.with(|scene| {
            if datagram.len() >= 8 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
                datagram[4..8].copy_from_slice(&index);
            }
            if kind < 4 && datagram.len() >= 148 {
                datagram.truncate([148, 148, 92, 64][usize::from(kind)]);
            }
            prop_assert_eq!(scene.receive(elsewhere(), &datagram), (Vec::new(), Vec::new()));
            Ok(())
        })?;
    }
}

#[test]
fn a11_datagrams_of_every_extreme_length_produce_nothing() {
    let scene = Scene::new();
    for len in [0, 1, 3, 4, 15, 16, 31, 32, 63, 64, 91, 92, 147, 148, 149, 1500, 65_507, 65_535] {
        for kind in 0..=5 {
            let mut datagram = vec![0xa5; len];
            for (byte, value) in datagram.iter_mut().zip([kind, 0, 0, 0]) {
                *byte = value;
            }
            assert_eq!(scene.receive(elsewhere(), &datagram), (Vec::new(), Vec::new()));
        }
    }
}
