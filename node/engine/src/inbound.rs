//! From the network to our host. Read top down, this is what happens to a datagram from the UDP socket:
//!
//! from outside the mesh -> kind -> whose session -> the peer stands -> decrypt -> now authentic: learn the endpoint -> headers ->
//! source is this peer's certified address -> destination is mine -> joins the run of its flow; and to the run, when it
//! ends: flow or verdict -> TUN. Whatever stops on the way is counted and leaves silence on the wire: nobody learns
//! anything who could not already prove who they are.
//!
//! Datagrams of one peer that come in a row are one [`Visit`] behind its lock, and segments of one flow in a row are one
//! run, judged once and handed to our host as one frame. A visit ends with its run: nothing is committed later that
//! the peer's lock does not cover.

use crate::discovery::discover;
use crate::ecn::{Congested, Ecn};
use crate::engine::{Batch, Datagram, hold};
use crate::limits::MAX_PACKETS_UNDER_LOCK;
use crate::offload::VNET_HEADER_BYTES;
use crate::offload::merge::Run;
use crate::outbound::{flush, is_reserved, seal};
use crate::packet::{self, Packet};
use crate::peer::{Peer, PeerState};
use crate::probe::{Message, PROBE_BYTES, PROBE_PORT};
use crate::session::{Kind, Opened, Session, classify};
use crate::status::Traffic;
use crate::transport::{Ports, Transport};
use crate::{Output, Reason, address, answer, handshake};
use bulkhead_acl::{Direction, Verdict};
use std::ops::Range;
use std::sync::MutexGuard;

pub(crate) fn inbound<'d>(
    batch: &Batch<'_>,
    datagrams: impl IntoIterator<Item = Datagram<'d>>,
    out: &mut Output,
) {
    let mut visit = None;
    for datagram in datagrams {
        if let Err(reason) = arrive(batch, &mut visit, &datagram, out) {
            batch.count(reason);
        }
    }
    leave(visit, batch, out);
}

fn arrive<'b>(
    batch: &'b Batch<'_>,
    visit: &mut Option<Visit<'b>>,
    datagram: &Datagram<'_>,
    out: &mut Output,
) -> Result<(), Reason> {
    let me = batch.snapshot.me.as_ref().filter(|_| batch.open).ok_or(Reason::SelfExpired)?;
    let (from, bytes) = (datagram.from, datagram.bytes);
    // A peer that speaks WireGuard to us through its own tunnel would have our answers go round in a circle.
    if me.is_overlay(from.ip()) || !address::is_usable_endpoint(from) {
        return Err(Reason::ForbiddenAddress);
    }
    let kind = classify(bytes).ok_or(Reason::NotWireGuard)?;
    let stays = |visit: &Visit<'_>| {
        visit.left > 0 && matches!(kind, Kind::Data { peer, .. } if peer == visit.peer.index)
    };
    leave(visit.take_if(|visit| !stays(visit)), batch, out);
    match kind {
        Kind::Initiation => handshake::receive(batch, from, bytes, out),
        Kind::Answer { peer } => handshake::receive_answer(batch, from, peer, bytes, out),
        Kind::Data { peer, .. } => {
            let visit = match visit {
                Some(visit) => visit,
                None => {
                    let peer = batch.snapshot.by_index(peer).ok_or(Reason::UnknownIndex)?;
                    let state = batch.enter(peer, out)?;
                    visit.insert(Visit { peer, state, gathered: None, left: MAX_PACKETS_UNDER_LOCK })
                }
            };
            visit.receive(batch, datagram, kind, out)
        }
    }
}

fn leave(visit: Option<Visit<'_>>, batch: &Batch<'_>, out: &mut Output) {
    if let Some(mut visit) = visit {
        visit.conclude(batch, out);
    }
}

/// Behind the lock of the peer whose datagrams come in a row.
struct Visit<'b> {
    peer: &'b Peer,
    state: MutexGuard<'b, PeerState>,
    gathered: Option<Gathered>,
    /// Packets until the lock is let go.
    left: usize,
}

/// Segments of one flow, decrypted and checked, not judged yet. They lie at the start of the packet room.
struct Gathered {
    run: Run,
    /// The first, and for what the filter reads, all of them.
    packet: Packet,
    traffic: Traffic,
}

impl Visit<'_> {
    fn receive(
        &mut self,
        batch: &Batch<'_>,
        datagram: &Datagram<'_>,
        kind: Kind,
        out: &mut Output,
    ) -> Result<(), Reason> {
        self.left -= 1;
        let behind = self.gathered.as_ref().map_or(0, |gathered| gathered.run.len() + VNET_HEADER_BYTES);
        let room = &mut out.packet_room(behind + Session::opened_room(datagram.bytes.len()))[behind..];
        let opened = self.state.session.open(datagram.from, datagram.bytes, kind, room, batch.now.mono);
        let arrived = match opened {
            Opened::Refused(reason) => return Err(reason),
            // Only handshakes have these.
            Opened::Answer(_) | Opened::Established(_) | Opened::Cookie => return Err(Reason::NotWireGuard),
            Opened::Packet(len) => Ok(Some(len)),
            Opened::Keepalive => Ok(None),
            Opened::NotIp => Err(Reason::Malformed),
        };
        self.state.paths.authenticated(datagram.from);
        let delivered = match arrived {
            Ok(Some(len)) => self.deliver(batch, behind..behind + len, datagram.ecn, out),
            Ok(None) => Ok(()),
            Err(reason) => Err(reason),
        };
        if !self.state.waiting.is_empty() {
            // What leaves may end in a word to our host, which must not be written over what was gathered.
            self.conclude(batch, out);
            flush(batch, self.peer, &mut self.state, out);
            discover(batch, self.peer, &mut self.state, out);
        }
        delivered.inspect_err(|_| self.state.denied += 1)
    }

    /// Checks the decrypted packet at `place` in the packet room, and has it join its flow's run or begin one.
    fn deliver(
        &mut self,
        batch: &Batch<'_>,
        place: Range<usize>,
        ecn: Ecn,
        out: &mut Output,
    ) -> Result<(), Reason> {
        let merge = out.merge;
        let room = out.packet_room(place.end);
        let bytes = &mut room[place.clone()];
        let packet = packet::parse(bytes).map_err(|packet::Malformed| Reason::Malformed)?;
        if address::is_forbidden(packet.source) || address::is_forbidden(packet.destination) {
            return Err(Reason::ForbiddenAddress);
        }
        let v6 = packet.source.is_ipv6();
        if packet.source != self.peer.pair.theirs(v6) {
            return Err(Reason::DishonestSource);
        }
        if packet.destination != self.peer.pair.mine(v6) {
            return Err(Reason::NotForMe);
        }
        let marked = Ecn::of(bytes).combine(ecn).map_err(|Congested| Reason::Congested)?;
        marked.set(bytes);
        if is_reserved(&packet) {
            let message = probe_of(bytes, &packet).ok_or(Reason::ProbeRefused)?;
            return self.answer_probe(batch, message, packet.len, out);
        }
        let mergeable = (merge.tcp && matches!(packet.transport, Transport::Tcp(_)))
            || (merge.udp && matches!(packet.transport, Transport::Udp(_)));
        let place = place.start..place.start + packet.len;
        if let Some(gathered) = self.gathered.as_mut().filter(|_| mergeable)
            && gathered.run.extend(room, place, &packet)
        {
            gathered.join(&packet);
            return Ok(());
        }
        // What is concluded lies in front; then the packet is at the start of the room.
        self.conclude(batch, out);
        let run = Run::begin(out.packet_room(packet.len), &packet);
        self.gathered = Some(Gathered { run, packet, traffic: Traffic::one(packet.len) });
        Ok(())
    }

    /// Judges what was gathered and lets it through to our host.
    fn conclude(&mut self, batch: &Batch<'_>, out: &mut Output) {
        let Some(Gathered { run, packet, traffic }) = self.gathered.take() else { return };
        let len = run.len();
        match self.state.judge_inbound(&packet, traffic, batch.now) {
            Ok(()) => {
                let header = run.finish(out.packet_room(len));
                out.commit_frame(header, len);
                self.state.received.add(traffic);
            }
            Err(reason) => {
                out.skip_packet(len);
                self.state.denied += traffic.packets;
                batch.engine.tally.add(reason, traffic.packets);
            }
        }
    }

    /// Takes a message that came in a packet of `len` bytes.
    fn answer_probe(
        &mut self,
        batch: &Batch<'_>,
        message: Message,
        len: usize,
        out: &mut Output,
    ) -> Result<(), Reason> {
        let reply = match message {
            Message::EchoReply { .. } | Message::VerdictReply { .. } => {
                hold(&batch.engine.probes).answered(&self.peer.name, message, batch.now.mono);
                return Ok(());
            }
            Message::MtuReply { id, size } => {
                self.state.paths.search().answered(id, size, batch.now.mono);
                return Ok(());
            }
            Message::EchoRequest { id } => Message::EchoReply { id },
            Message::MtuProbe { id } => {
                Message::MtuReply { id, size: u16::try_from(len).map_err(|_| Reason::ProbeRefused)? }
            }
            Message::VerdictQuery { id, service } => {
                let verdict = self.state.verdict(Direction::Inbound, service, batch.now);
                let generation = self.state.generation();
                Message::VerdictReply { id, allowed: matches!(verdict, Verdict::Allow(_)), generation }
            }
        };
        if !self.state.may_answer_probe(batch.now) {
            return Err(Reason::ProbeRefused);
        }
        let mut room = [0; 40 + 8 + PROBE_BYTES];
        let (mine, theirs) = (self.peer.pair.mine(true), self.peer.pair.theirs(true));
        let len = answer::write_udp(&mut room, mine, theirs, PROBE_PORT, &reply.encode(), 0);
        seal(batch, &mut self.state, &room[..len], out).map(|_| ())
    }
}

impl Gathered {
    fn join(&mut self, next: &Packet) {
        self.traffic.add(Traffic::one(next.len));
        if let (Transport::Tcp(held), Transport::Tcp(segment)) = (&mut self.packet.transport, next.transport)
        {
            held.extent = held.extent.wrapping_add(segment.extent);
        }
    }
}

fn probe_of(bytes: &[u8], packet: &Packet) -> Option<Message> {
    let expected = Ports { source: PROBE_PORT, destination: PROBE_PORT };
    let whole = packet.fragment.is_none() && packet.transport == Transport::Udp(expected);
    // Answers go by IPv6, and are not to be larger than the question.
    let is_ours = whole && packet.source.is_ipv6();
    let payload = bytes.get(packet.payload + 8..packet.payload + 8 + PROBE_BYTES)?;
    Message::decode(payload).filter(|_| is_ours)
}
