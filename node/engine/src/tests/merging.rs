//! Merging changes nothing but the number of frames: whatever peers send, in whatever order, our host gets the same
//! packets in the same order, and the counters say the same.

use super::attacker::{ATTACKER, Attacker, BYSTANDER, Scene};
use super::craft::{ACK, FIN, PSH, SYN, Segment, echo, tcp, udp};
use super::runs::{Arrival, apart, receive_all};
use crate::*;
use proptest::prelude::*;
use std::net::IpAddr;

/// One datagram of a peer.
#[derive(Clone, Debug)]
struct Sent {
    /// One of two peers.
    peer: bool,
    v6: bool,
    /// As another's: spoofed.
    foreign: bool,
    what: What,
    /// One of two flows.
    source: u16,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// To a service that is permitted, or to one that is not.
    Udp {
        permitted: bool,
    },
    /// The next segment of the stream, or one that does not follow.
    Tcp {
        permitted: bool,
        flags: u8,
        next: bool,
    },
    Echo,
    /// Its checksum is wrong.
    Broken,
    Garbage,
}

fn what() -> impl Strategy<Value = What> {
    // Mostly what forms runs: plain data of permitted flows.
    prop_oneof![
        4 => any::<bool>().prop_map(|often| What::Udp { permitted: often }),
        4 => Just(What::Udp { permitted: true }),
        8 => Just(What::Tcp { permitted: true, flags: ACK, next: true }),
        3 => (any::<bool>(), prop_oneof![Just(ACK), Just(ACK | PSH), Just(SYN), Just(ACK | FIN)], any::<bool>())
            .prop_map(|(permitted, flags, next)| What::Tcp { permitted, flags, next }),
        1 => Just(What::Echo),
        1 => Just(What::Broken),
        1 => Just(What::Garbage),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let rare = |chance| prop::bool::weighted(chance);
    let len = prop_oneof![6 => Just(200usize), 1 => 0usize..400];
    (rare(0.2), rare(0.2), rare(0.05), what(), 0u16..2, len).prop_map(
        |(peer, v6, foreign, what, flow, len)| Sent { peer, v6, foreign, what, source: 4000 + flow, len },
    )
}

/// What came of all batches.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// What our host got.
    packets: Vec<Vec<u8>>,
    counters: Counters,
    /// Of each peer: packets delivered and refused.
    peers: Vec<(u64, u64)>,
}

/// A victim and two peers with their sessions.
struct Stage {
    scene: Scene,
    peers: [Attacker; 2],
    merge: Merge,
}

impl Stage {
    fn new(merge: Merge) -> Self {
        let scene = Scene::new();
        let peers = [scene.peer(ATTACKER), scene.peer(BYSTANDER)];
        Self { scene, peers, merge }
    }

    fn packet(&self, sent: &Sent, number: usize, sequence: &mut u32) -> Vec<u8> {
        let me = &self.peers[usize::from(sent.peer)];
        let other = &self.peers[usize::from(!sent.peer)];
        let from: IpAddr = match (sent.foreign, sent.v6) {
            (false, false) => me.v4(),
            (false, true) => me.v6(),
            (true, false) => other.v4(),
            (true, true) => other.v6(),
        };
        let to = if sent.v6 { self.scene.victim_v6() } else { self.scene.victim_v4() };
        let data = vec![number as u8; sent.len];
        let from = (from, sent.source);
        match sent.what {
            What::Udp { permitted } => udp(from, (to, if permitted { 53 } else { 54 }), &data),
            What::Tcp { permitted, flags, next } => {
                let sequence_now = if next { *sequence } else { sequence.wrapping_add(77) };
                *sequence = sequence_now.wrapping_add(data.len() as u32);
                tcp(Segment {
                    from,
                    to: (to, if permitted { 5432 } else { 22 }),
                    flags,
                    sequence: sequence_now,
                    acknowledgement: 9,
                    data: &data,
                })
            }
            What::Echo => echo(from.0, to, true, 9),
            What::Broken => {
                let mut packet = udp(from, (to, 53), &[&data[..], b"x"].concat());
                *packet.last_mut().unwrap() ^= 0xff;
                packet
            }
            What::Garbage => data,
        }
    }

    /// Delivers batches; also returns in how many frames our host got the packets.
    fn play(&mut self, batches: &[Vec<Sent>]) -> (Outcome, usize) {
        let (mut packets, mut frames) = (Vec::new(), 0);
        let mut sequences = [[u32::MAX - 500; 2]; 4];
        for (number, batch) in batches.iter().enumerate() {
            let arrivals: Vec<Arrival> = batch
                .iter()
                .enumerate()
                .map(|(i, sent)| {
                    let stream = usize::from(sent.peer) * 2 + usize::from(sent.v6);
                    let sequence = &mut sequences[stream][usize::from(sent.source - 4000)];
                    let packet = self.packet(sent, number * 16 + i, sequence);
                    let peer = &mut self.peers[usize::from(sent.peer)];
                    (peer.at, peer.seal(&self.scene, &packet))
                })
                .collect();
            let out = receive_all(&self.scene, &arrivals, self.merge);
            frames += out.frames().count();
            packets.extend(apart(&out));
        }
        let peers = self.scene.victim.peers(self.scene.now());
        let peers = peers.iter().map(|peer| (peer.received.packets, peer.denied)).collect();
        (Outcome { packets, counters: self.scene.victim.counters(), peers }, frames)
    }
}

/// The streams that segments belong to.
fn openings() -> Vec<Sent> {
    let syn = What::Tcp { permitted: true, flags: SYN, next: true };
    let stream = |peer, v6| Sent { peer, v6, foreign: false, what: syn, source: 4000, len: 0 };
    [(false, false), (false, true), (true, false), (true, true)].map(|(peer, v6)| stream(peer, v6)).into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn merged_or_not_our_host_gets_the_same_packets_in_the_same_order(
        mut batches in prop::collection::vec(prop::collection::vec(sent(), 1..80), 1..4),
        tcp in any::<bool>(),
        udp in any::<bool>(),
    ) {
        batches.insert(0, openings());
        let (merged, few) = Stage::new(Merge { tcp, udp }).play(&batches);
        let (single, many) = Stage::new(Merge { tcp: false, udp: false }).play(&batches);
        prop_assert_eq!(&merged, &single);
        prop_assert_eq!(many, single.packets.len());
        prop_assert_eq!(many as u64, single.peers.iter().map(|(received, _)| received).sum::<u64>());
        prop_assert!(few <= many);
    }
}
