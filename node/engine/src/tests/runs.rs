//! What arrives in runs is judged as if it had come packet by packet: whoever is denied delivers nothing, whoever is
//! permitted loses nothing, and no packet is delivered under another's verdict.

use super::attacker::{ATTACKER, Attacker, BYSTANDER, Scene};
use super::craft::{ACK, RST, SYN, Segment, echo, frame, tcp, udp};
use crate::limits::MAX_PACKETS_UNDER_LOCK;
use crate::offload::{VnetHeader, split};
use crate::probe::Message;
use crate::*;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

/// A datagram on its way to the victim.
pub type Arrival = (SocketAddr, Vec<u8>);

/// What the victim makes of datagrams that come at once.
pub fn receive_all(scene: &Scene, arrivals: &[Arrival], merge: Merge) -> Output {
    let mut out = Output::new();
    out.merge = merge;
    let datagrams = arrivals.iter().map(|(from, bytes)| Datagram { from: *from, ecn: Ecn::NotEct, bytes });
    scene.victim.batch(scene.now()).inbound(datagrams, &mut out);
    out
}

/// The packets in `out` as they were before they were merged.
pub fn apart(out: &Output) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for frame in out.frames() {
        let mut frame = frame.to_vec();
        let (header, bytes) = frame.split_first_chunk_mut::<{ offload::VNET_HEADER_BYTES }>().unwrap();
        let header: VnetHeader = *header;
        split(bytes, &header, usize::MAX, |packet| packets.push(unnumbered(packet))).unwrap();
    }
    packets
}

/// Without the identification of IPv4, which means nothing in packets that are never fragmented (RFC 6864): cutting
/// a superpacket counts it up.
pub fn unnumbered(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn seal(who: &mut Attacker, scene: &Scene, packet: &[u8]) -> Arrival {
    (who.at, who.seal(scene, packet))
}

fn plain(packets: &[&Vec<u8>]) -> Vec<Vec<u8>> {
    packets.iter().map(|packet| unnumbered(packet)).collect()
}

/// Segment `number` of a stream to `port`, each of 100 bytes.
fn segment(from: IpAddr, to: IpAddr, port: u16, number: u32) -> Vec<u8> {
    tcp(Segment {
        from: (from, 4000),
        to: (to, port),
        flags: ACK,
        sequence: 2 + 100 * number,
        acknowledgement: 9,
        data: &[number as u8; 100],
    })
}

/// `who` and the victim connect to each other on 5432.
fn open_stream(who: &mut Attacker, scene: &Scene) {
    let syn = Segment {
        from: (who.v4(), 4000),
        to: (scene.victim_v4(), 5432),
        flags: SYN,
        sequence: 1,
        acknowledgement: 0,
        data: b"",
    };
    who.passes(scene, &tcp(syn));
    let answer =
        Segment { from: syn.to, to: syn.from, flags: SYN | ACK, sequence: 8, acknowledgement: 2, ..syn };
    assert_eq!(scene.send(&tcp(answer)).1.len(), 1);
}

fn denied(scene: &Scene, who: usize) -> u64 {
    scene.victim.peer(&scene.members[who].name, scene.now()).unwrap().denied
}

#[test]
fn a_run_of_a_permitted_flow_is_one_frame_and_counts_its_packets() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    open_stream(&mut attacker, &scene);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let packets: Vec<_> = (0..10).map(|i| segment(me, victim, 5432, i)).collect();
    let sealed: Vec<_> = packets.iter().map(|packet| seal(&mut attacker, &scene, packet)).collect();
    let before = scene.victim.flows(scene.now())[0].received;
    let out = receive_all(&scene, &sealed, Merge::default());
    assert_eq!(out.frames().count(), 1);
    assert_eq!(apart(&out), plain(&packets.iter().collect::<Vec<_>>()));
    let after = scene.victim.flows(scene.now())[0].received;
    assert_eq!((after.packets - before.packets, after.bytes - before.bytes), (10, 10 * 140));
}

#[test]
fn a_run_of_a_denied_flow_delivers_nothing_and_every_packet_of_it_is_counted() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    for (reason, packets) in [
        (Reason::NoFlow, (0..10).map(|i| segment(me, victim, 5432, i)).collect::<Vec<_>>()),
        (Reason::NoPermit, (0..10).map(|i| udp((me, 9), (victim, 123), &[i; 50])).collect()),
    ] {
        let (before, of_peer) = (scene.counter(reason), denied(&scene, 0));
        let sealed: Vec<_> = packets.iter().map(|packet| seal(&mut attacker, &scene, packet)).collect();
        assert!(receive_all(&scene, &sealed, Merge::default()).is_empty());
        assert_eq!((scene.counter(reason) - before, denied(&scene, 0) - of_peer), (10, 10), "{reason:?}");
    }
    assert_eq!(scene.victim.peer(&scene.members[0].name, scene.now()).unwrap().received.packets, 0);
}

#[test]
fn a_denied_packet_between_permitted_ones_takes_nobody_with_it_and_goes_with_nobody() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let fine: Vec<_> = (0..2u8).map(|i| udp((me, 9), (victim, 53), &[i; 50])).collect();
    for bad in [
        udp((me, 9), (victim, 54), &[9; 50]),
        segment(me, victim, 5432, 0),
        echo(me, victim, false, 9),
        b"garbage".to_vec(),
    ] {
        let sealed = [&fine[0], &bad, &fine[1]].map(|packet| seal(&mut attacker, &scene, packet));
        let refused = denied(&scene, 0);
        assert_eq!(apart(&receive_all(&scene, &sealed, Merge::default())), plain(&[&fine[0], &fine[1]]));
        assert_eq!(denied(&scene, 0), refused + 1);
    }
}

#[test]
fn a_policy_change_between_two_batches_ends_the_run() {
    let mut scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let mut sealed: Vec<Arrival> =
        (0..20u8).map(|i| seal(&mut attacker, &scene, &udp((me, 9), (victim, 53), &[i; 50]))).collect();
    let second = sealed.split_off(10);
    let batch = scene.victim.batch(scene.now());
    let datagrams = |arrivals: &[Arrival], out: &mut Output| {
        let datagrams =
            arrivals.iter().map(|(from, bytes)| Datagram { from: *from, ecn: Ecn::NotEct, bytes });
        batch.inbound(datagrams.collect::<Vec<_>>(), out);
    };
    let mut out = Output::new();
    datagrams(&sealed, &mut out);
    assert_eq!(apart(&out).len(), 10);
    out.clear();
    let narrower =
        "[[allow]]\nid = \"in\"\nfrom = \"role=attacker\"\nto = \"role=victim\"\nports = [\"tcp/5432\"]\n";
    scene.policy = scene.domain.policy(narrower);
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    // Even by a thread that still works with the former snapshot.
    datagrams(&second, &mut out);
    assert!(out.is_empty());
    assert_eq!(scene.counter(Reason::NoPermit), 10);
}

#[test]
fn flows_that_take_turns_arrive_in_order_and_whole() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let packets: Vec<_> =
        (0..30u8).map(|i| udp((me, 9 + u16::from(i % 3)), (victim, 53), &[i; 50])).collect();
    let sealed: Vec<_> = packets.iter().map(|packet| seal(&mut attacker, &scene, packet)).collect();
    let out = receive_all(&scene, &sealed, Merge::default());
    assert_eq!(apart(&out), plain(&packets.iter().collect::<Vec<_>>()));
    assert_eq!(scene.victim.flows(scene.now()).len(), 3);
}

#[test]
fn l7_spoofed_sources_between_segments_of_a_run_do_not_join_it() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let bystander = scene.peer(BYSTANDER);
    open_stream(&mut attacker, &scene);
    let (me, other, victim) = (attacker.v4(), bystander.v4(), scene.victim_v4());
    let mine: Vec<_> = (0..10).map(|i| segment(me, victim, 5432, i)).collect();
    let mut sealed = Vec::new();
    for (i, packet) in (0..).zip(&mine) {
        sealed.push(seal(&mut attacker, &scene, packet));
        // The same flow but for the address, which is another's, the victim's own, or the other way round.
        for (from, to) in [(other, victim), (victim, victim), (me, other)] {
            sealed.push(seal(&mut attacker, &scene, &segment(from, to, 5432, i + 1)));
        }
    }
    let out = receive_all(&scene, &sealed, Merge::default());
    assert_eq!(apart(&out), plain(&mine.iter().collect::<Vec<_>>()));
    assert_eq!((scene.counter(Reason::DishonestSource), scene.counter(Reason::NotForMe)), (20, 10));
    assert_eq!(denied(&scene, 0), 30);
}

#[test]
fn segments_of_two_peers_are_never_one_run() {
    let scene = Scene::new();
    let (mut attacker, mut bystander) = (scene.peer(ATTACKER), scene.peer(BYSTANDER));
    open_stream(&mut attacker, &scene);
    let victim = scene.victim_v4();
    let mut expected = Vec::new();
    let mut sealed = Vec::new();
    for i in 0..10 {
        let fine = segment(attacker.v4(), victim, 5432, i);
        sealed.push(seal(&mut attacker, &scene, &fine));
        expected.push(fine);
        // The same ports at the next sequence number; the bystander has no flow.
        let denied = segment(bystander.v4(), victim, 5432, i + 1);
        sealed.push(seal(&mut bystander, &scene, &denied));
    }
    let out = receive_all(&scene, &sealed, Merge::default());
    assert_eq!(apart(&out), plain(&expected.iter().collect::<Vec<_>>()));
    assert_eq!((denied(&scene, 0), denied(&scene, 2), scene.counter(Reason::NoFlow)), (0, 10, 10));
}

#[test]
fn probes_and_fragments_inside_a_run_are_what_they_are_alone() {
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    let (me, victim) = (attacker.v4(), scene.victim_v4());
    let question = Message::EchoRequest { id: 1 }.encode();
    let probe = udp((attacker.v6(), PROBE_PORT), (scene.victim_v6(), PROBE_PORT), &question);
    let datagram = |i: u8| udp((me, 9), (victim, 53), &[i; 48]);
    let piece = |offset: usize, end: usize, more: bool| {
        let whole = datagram(9);
        let mut piece = [&whole[..20], &whole[20 + offset..20 + end]].concat();
        let len = piece.len() as u16;
        piece[2..4].copy_from_slice(&len.to_be_bytes());
        piece[6..8].copy_from_slice(&((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
        piece
    };
    let packets = [
        datagram(0),
        datagram(1),
        probe.clone(),
        datagram(2),
        piece(0, 16, true),
        datagram(3),
        piece(16, 56, false),
        datagram(4),
    ];
    let sealed: Vec<_> = packets.iter().map(|packet| seal(&mut attacker, &scene, packet)).collect();
    let out = receive_all(&scene, &sealed, Merge::default());
    let expected: Vec<_> = packets.iter().filter(|packet| **packet != probe).collect();
    assert_eq!(apart(&out), plain(&expected));
    assert_eq!(out.datagrams().count(), 1, "one answer to one probe");
    assert_eq!(scene.victim.counters().iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[test]
fn what_our_host_is_told_while_a_run_is_gathered_does_not_get_into_it() {
    let mut scene = Scene::new();
    let config = Config { mtu: 1420, ..Config::default() };
    scene.victim = Engine::new(scene.members[1].tunnel_key(), config, scene.now());
    let _ = scene.victim.apply(scene.world(), &mut Output::new(), scene.now());
    let former = scene.peer(ATTACKER);
    let (me, victim) = (former.v4(), scene.victim_v4());
    // The path was found to be narrow; the keys ended; a longer packet waits for new ones.
    let snapshot = scene.victim.snapshot();
    let mut state = snapshot.peers.get(&scene.members[0].name).unwrap().lock();
    state.paths.search().too_big(1300);
    state.session.close();
    drop(state);
    assert_eq!(scene.send(&udp((victim, 4000), (me, 7), &[7; 1350])).1.len(), 1, "an initiation");

    let mut attacker = scene.stranger(ATTACKER);
    let initiation = attacker.initiation(&scene);
    let (_, answers) = scene.receive(attacker.at, &initiation);
    let _lost = attacker.read_answer(&scene, &answers[0].1);
    let packets: Vec<_> = (0..3u8).map(|i| udp((me, 9), (victim, 53), &[i; 50])).collect();
    let sealed: Vec<_> = packets.iter().map(|packet| seal(&mut attacker, &scene, packet)).collect();
    let out = receive_all(&scene, &sealed, Merge::default());
    let (told, came): (Vec<_>, Vec<_>) = apart(&out).into_iter().partition(|packet| packet[9] == 1);
    assert_eq!(told.len(), 1, "packet too big");
    assert_eq!(came, plain(&packets.iter().collect::<Vec<_>>()));
}

/// When the batch is over, by a panic too, nobody waits for it to begin.
struct Begun<'a>(&'a AtomicBool);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_for_a_peer_gets_it_before_a_long_batch_ends() {
    const PATIENCE: usize = 10_000_000;
    let scene = Scene::new();
    let mut attacker = scene.peer(ATTACKER);
    // After the first time it is a replay; it keeps the thread behind the lock all the same.
    let packet = udp((attacker.v4(), 9), (scene.victim_v4(), 53), b"again");
    let (from, bytes) = seal(&mut attacker, &scene, &packet);
    let (begun, let_in) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut came = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !begun.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
            let _ = scene.victim.peers(scene.now());
            let_in.store(true, Ordering::SeqCst);
        });
        let _end = Begun(&begun);
        let datagrams = (0..PATIENCE).map_while(|i| {
            came = i;
            begun.store(i >= MAX_PACKETS_UNDER_LOCK / 2, Ordering::SeqCst);
            (!let_in.load(Ordering::SeqCst)).then_some(Datagram { from, ecn: Ecn::NotEct, bytes: &bytes })
        });
        scene.victim.batch(scene.now()).inbound(datagrams, &mut Output::new());
    });
    assert!(came < PATIENCE - 1, "the lock was held throughout");
}

#[test]
fn a_long_batch_of_frames_lets_go_of_the_peer_as_well() {
    const PATIENCE: usize = 2_000_000;
    let scene = Scene::new();
    let attacker = scene.peer(ATTACKER);
    // Refused, so that there is nothing to send; judged behind the lock all the same.
    let refused = Segment {
        from: (scene.victim_v4(), 9),
        to: (attacker.v4(), 9),
        flags: RST,
        sequence: 1,
        acknowledgement: 1,
        data: b"",
    };
    let frame = frame(&tcp(refused));
    let (begun, let_in) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut came = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !begun.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
            let _ = scene.victim.peers(scene.now());
            let_in.store(true, Ordering::SeqCst);
        });
        let _end = Begun(&begun);
        let frames = (0..PATIENCE).map_while(|i| {
            came = i;
            begun.store(i >= MAX_PACKETS_UNDER_LOCK / 2, Ordering::SeqCst);
            // Leaked: each has to be there for as long as the batch, and only this process sees how many.
            (!let_in.load(Ordering::SeqCst)).then(|| frame.clone().leak())
        });
        scene.victim.batch(scene.now()).outbound(frames, &mut Output::new());
    });
    assert!(came < PATIENCE - 1, "the lock was held throughout");
}
