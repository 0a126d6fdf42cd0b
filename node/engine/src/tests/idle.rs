//! Peers that have nothing to do sleep, and whatever time does to a peer happens all the same. G8 in time: what is
//! visited by every tick is what lives, not what is permitted.

use super::attacker::{ATTACKER, Scene};
use super::craft::udp;
use super::domain::{START, now};
use crate::engine::hold;
use crate::limits::{KEEPALIVE_RETRY, UDP_UNANSWERED, WAITING_MAX_AGE};
use crate::*;
use bulkhead_identity::Timestamp;

/// Lets the victim's time pass.
fn tick(scene: &Scene) -> Output {
    let mut out = Output::new();
    scene.victim.handle_timeout(scene.now(), &mut out);
    out
}

/// How many peers the next tick visits, whatever the time.
fn awake(scene: &Scene) -> usize {
    hold(&scene.victim.agenda).awake.len()
}

/// A peer of which no endpoint is known is sent a packet: there will be a flow, and no session.
fn send_in_vain(scene: &Scene) {
    let peer = scene.members[0].addresses.v4.into();
    scene.send(&udp((scene.victim_v4(), 9), (peer, 7), b"hello?"));
}

#[test]
fn nobody_is_visited_who_has_nothing_to_do() {
    let scene = Scene::new();
    assert!(tick(&scene).is_empty());
    assert_eq!(awake(&scene), 0);
    assert!(tick(&scene).is_empty());
    assert_eq!(awake(&scene), 0);
}

#[test]
fn a_session_keeps_its_peer_awake_and_nobody_else() {
    let mut scene = Scene::new();
    tick(&scene);
    let _attacker = scene.peer(ATTACKER);
    for _ in 0..100 {
        assert_eq!(awake(&scene), 1);
        scene.seconds += 1;
        tick(&scene);
    }
}

#[test]
fn a_packet_that_moves_nothing_wakes_for_one_tick() {
    let mut scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let datagram = attacker.seal(&scene, &udp((attacker.v4(), 1), (scene.victim_v4(), 53), b"x"));
    scene.victim = Engine::new(scene.members[1].tunnel_key(), Config::default(), scene.now());
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    tick(&scene);
    // Indices are drawn anew: only one that knows the peer's gets as far as its lock.
    let mut guess = datagram.clone();
    assert_eq!(awake(&scene), 0);
    let index = scene.victim.snapshot().peers[&scene.members[0].name].index;
    guess[4..8].copy_from_slice(&(index << 8).to_le_bytes());
    assert_eq!(scene.receive(attacker.at, &guess), (Vec::new(), Vec::new()));
    assert_eq!(awake(&scene), 1);
    tick(&scene);
    assert_eq!(awake(&scene), 0);
}

#[test]
fn a_flow_without_session_is_forgotten_in_its_time_and_its_peer_sleeps() {
    let mut scene = Scene::new();
    tick(&scene);
    send_in_vain(&scene);
    assert_eq!((awake(&scene), scene.victim.flows(scene.now()).len()), (1, 1));
    for _ in 0..UDP_UNANSWERED.as_secs() {
        scene.seconds += 1;
        tick(&scene);
        assert_eq!(awake(&scene), 1);
    }
    for _ in 0..11 {
        scene.seconds += 1;
        tick(&scene);
    }
    assert_eq!(awake(&scene), 0);
    let state = scene.victim.snapshot().peers[&scene.members[0].name].lock().filter.flows.len();
    assert_eq!(state, 0, "forgotten, not only hidden");
}

#[test]
fn packets_that_waited_too_long_make_room_without_an_answer() {
    let mut scene = Scene::new();
    // A question has no flow.
    let asked = scene.victim.probe(&scene.members[0].name, Probe::Echo, scene.now(), &mut Output::new());
    assert!(asked.is_ok());
    scene.seconds += WAITING_MAX_AGE.as_secs();
    tick(&scene);
    assert_eq!((awake(&scene), scene.counter(Reason::WaitedTooLong)), (1, 0));
    scene.seconds += 1;
    tick(&scene);
    assert_eq!((awake(&scene), scene.counter(Reason::WaitedTooLong)), (0, 1));
    assert!(scene.victim.snapshot().peers[&scene.members[0].name].lock().waiting.is_empty());
}

#[test]
fn the_certificate_of_a_sleeping_peer_ends_on_the_second_l16() {
    let mut scene = Scene::new();
    scene.members[0].not_after = Timestamp(START.0 + 160);
    scene.chains[0] = scene.domain.certify(&scene.members[0].clone());
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    let alive = |scene: &Scene| scene.victim.snapshot().peers[&scene.members[0].name].lock().is_alive();
    while scene.seconds < 160 {
        tick(&scene);
        assert!(alive(&scene) && awake(&scene) == 0);
        assert_eq!(scene.counter(Reason::PeerExpired), 0);
        scene.seconds += 1;
    }
    assert!(tick(&scene).is_empty());
    assert!(!alive(&scene));
    scene.seconds += 1;
    tick(&scene);
    assert_eq!(scene.counter(Reason::PeerExpired), 1, "ended once");
}

#[test]
fn a_change_of_the_world_wakes_everyone() {
    let mut scene = Scene::new();
    tick(&scene);
    assert_eq!(awake(&scene), 0);
    // The same peer, with less time left.
    scene.members[0].not_after = Timestamp(START.0 + 110);
    scene.chains[0] = scene.domain.certify(&scene.members[0].clone());
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    tick(&scene);
    scene.seconds = 110;
    tick(&scene);
    assert_eq!(scene.counter(Reason::PeerExpired), 1);
    // And a new one, that is greeted.
    scene.members[0].not_after = Timestamp(START.0 + 1000);
    scene.chains[0] = scene.domain.certify(&scene.members[0].clone());
    let mut world = scene.world();
    world.peers[0].endpoints.push("192.0.2.10:51820".parse().unwrap());
    let _ = scene.victim.apply(world, &mut Output::new(), scene.now());
    assert_eq!(tick(&scene).datagrams().count(), 1);
}

#[test]
fn our_own_end_ends_sleeping_peers() {
    let mut scene = Scene::new();
    scene.policy = scene.domain.policy_until(super::attacker::POLICY, Timestamp(START.0 + 150));
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    tick(&scene);
    assert_eq!((awake(&scene), scene.counter(Reason::SelfExpired)), (0, 0));
    scene.seconds = 150;
    tick(&scene);
    tick(&scene);
    assert_eq!(scene.counter(Reason::SelfExpired), 2, "each peer once");
}

#[test]
fn a_clock_that_was_set_back_wakes_everyone() {
    let scene = Scene::new();
    tick(&scene);
    let mut earlier = scene.now();
    // Before any certificate began.
    earlier.wall = Timestamp(START.0 - 61);
    scene.victim.handle_timeout(earlier, &mut Output::new());
    assert_eq!(scene.counter(Reason::SelfExpired), 2);
}

#[test]
fn a_peer_to_be_kept_alive_never_sleeps_and_is_asked_again() {
    let mut scene = Scene::new();
    let keepalive = Some(std::time::Duration::from_secs(25));
    scene.victim =
        Engine::new(scene.members[1].tunnel_key(), Config { keepalive, ..Config::default() }, now(0));
    let mut world = scene.world();
    world.peers[0].endpoints.push("192.0.2.10:51820".parse().unwrap());
    let _ = scene.victim.apply(world, &mut Output::new(), scene.now());
    assert_eq!(tick(&scene).datagrams().count(), 1, "greeted");
    assert_eq!(awake(&scene), 1, "whoever has no endpoint cannot be asked");
    for _ in 0..3 {
        // As if nobody had answered for ninety seconds.
        scene.victim.snapshot().peers[&scene.members[0].name].lock().session.close();
        for _ in 1..KEEPALIVE_RETRY.as_secs() {
            scene.seconds += 1;
            assert_eq!((tick(&scene).datagrams().count(), awake(&scene)), (0, 1));
        }
        scene.seconds += 1;
        assert_eq!(tick(&scene).datagrams().count(), 1);
    }
}

#[test]
fn an_idle_session_is_kept_alive() {
    let mut scene = Scene::new();
    let keepalive = Some(std::time::Duration::from_secs(25));
    scene.victim =
        Engine::new(scene.members[1].tunnel_key(), Config { keepalive, ..Config::default() }, now(0));
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    let _attacker = scene.peer(ATTACKER);
    let mut sent = 0;
    for _ in 0..100 {
        scene.seconds += 1;
        sent += tick(&scene).datagrams().count();
    }
    assert_eq!(sent, 4);
}
