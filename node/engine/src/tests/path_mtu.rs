//! G3, and a peer that lies about what its path carries: it can lose packets sent to itself in any case, but it
//! makes us send nothing larger than what it was seen to receive, and no more than it sent.

use super::attacker::{ATTACKER, Attacker, Scene};
use super::craft::udp;
use super::domain::now;
use crate::limits::{DATA_OVERHEAD, MIN_MTU, PROBE_BURST};
use crate::probe::Message;
use crate::*;

/// A victim whose interface takes 1420.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let config = Config { mtu: 1420, ..Config::default() };
    scene.victim = Engine::new(scene.members[1].tunnel_key(), config, now(0));
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    scene
}

fn mtu(scene: &Scene) -> u16 {
    scene.victim.peer(&scene.members[0].name, scene.now()).unwrap().mtu
}

/// Seals a message from engine to engine, followed by zeros.
fn message(attacker: &mut Attacker, scene: &Scene, message: Message, padding: usize) -> Vec<u8> {
    let bytes = [&message.encode()[..], &vec![0; padding]].concat();
    let packet = udp((attacker.v6(), PROBE_PORT), (scene.victim_v6(), PROBE_PORT), &bytes);
    attacker.seal(scene, &packet)
}

/// Has the victim send something, and returns the id of the probe that follows.
fn probed(attacker: &mut Attacker, scene: &mut Scene) -> u64 {
    scene.send(&udp((scene.victim_v4(), 9), (attacker.v4(), 7), b"flows"));
    scene.seconds += 1;
    let mut out = Output::new();
    scene.victim.handle_timeout(scene.now(), &mut out);
    let datagram =
        out.datagrams().map(|(_, datagram)| datagram).max_by_key(|datagram| datagram.len()).unwrap();
    assert_eq!(datagram.len(), 1420 + DATA_OVERHEAD);
    let probe = attacker.open(scene, datagram);
    assert_eq!(probe.len(), 1420);
    let Some(Message::MtuProbe { id }) = Message::decode(&probe[48..48 + 32]) else { panic!("no probe") };
    id
}

#[test]
fn g3_a_probe_of_the_path_gets_a_short_answer_and_not_without_end() {
    let scene = scene();
    let mut attacker = scene.peer(ATTACKER);
    for padding in [0, 1, 100, 1420 - 80, 9000] {
        let datagram = message(&mut attacker, &scene, Message::MtuProbe { id: 1 }, padding);
        let (packets, answers) = scene.receive(attacker.at, &datagram);
        assert!(packets.is_empty() && answers.len() == 1);
        assert!(answers[0].1.len() <= datagram.len().min(80 + DATA_OVERHEAD));
    }
    let answers = (0..100).filter(|_| {
        let datagram = message(&mut attacker, &scene, Message::MtuProbe { id: 1 }, 0);
        !scene.receive(attacker.at, &datagram).1.is_empty()
    });
    assert!(answers.count() < PROBE_BURST as usize);
}

#[test]
fn a_peer_that_did_not_receive_a_probe_cannot_answer_for_it() {
    let mut scene = scene();
    let mut attacker = scene.peer(ATTACKER);
    let answer = |attacker: &mut Attacker, scene: &Scene, id, size| {
        let datagram = message(attacker, scene, Message::MtuReply { id, size }, 0);
        assert_eq!(scene.receive(attacker.at, &datagram), (Vec::new(), Vec::new()));
        mtu(scene)
    };
    for id in 0..10 {
        assert_eq!(answer(&mut attacker, &scene, id, 1420), MIN_MTU, "nothing was asked");
    }
    let id = probed(&mut attacker, &mut scene);
    for (id, size) in [(id.wrapping_add(1), 1420), (0, 1420), (id, 1421), (id, 1419), (id, u16::MAX)] {
        assert_eq!(answer(&mut attacker, &scene, id, size), MIN_MTU);
    }
    let old = std::mem::replace(&mut attacker.at, "198.51.100.9:9".parse().unwrap());
    assert_eq!(answer(&mut attacker, &scene, id, 1420), MIN_MTU, "asked on another path");
    let again = probed(&mut attacker, &mut scene);
    assert_ne!(again, id.wrapping_add(1), "ids do not count on");
    assert_eq!(answer(&mut attacker, &scene, again, 1420), 1420);
    attacker.at = old;
    assert_eq!(answer(&mut attacker, &scene, again, 1420), MIN_MTU, "answered once");
}
