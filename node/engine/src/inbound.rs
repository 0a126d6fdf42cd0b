//! From the network to our host. Read top down, this is what happens to a datagram from the UDP socket:
//!
//! from outside the mesh -> kind -> whose session -> the peer stands -> decrypt -> now authentic: learn the endpoint -> headers ->
//! source is this peer's certified address -> destination is mine -> flow or verdict -> TUN. Whatever stops
//! on the way is counted and leaves silence on the wire: nobody learns anything who could not already prove
//! who they are.

use crate::engine::{Batch, hold};
use crate::outbound::{flush, is_reserved, seal};
use crate::packet::{self, Packet};
use crate::peer::{Peer, PeerState};
use crate::probe::{Message, PROBE_BYTES, PROBE_PORT};
use crate::session::{Kind, Knock, Opened, Session, classify};
use crate::transport::{Ports, Transport};
use crate::{Output, Reason, address, answer};
use bulkhead_acl::{Direction, Verdict};
use std::net::SocketAddr;

pub(crate) fn inbound(batch: &Batch<'_>, from: SocketAddr, datagram: &[u8], out: &mut Output) {
    if let Err(reason) = try_inbound(batch, from, datagram, out) {
        batch.count(reason);
    }
}

fn try_inbound(batch: &Batch<'_>, from: SocketAddr, datagram: &[u8], out: &mut Output) -> Result<(), Reason> {
    let me = batch.snapshot.me.as_ref().filter(|_| batch.open).ok_or(Reason::SelfExpired)?;
    // A peer that speaks WireGuard to us through its own tunnel would have our answers go round in a circle.
    if me.is_overlay(from.ip()) || !address::is_usable_endpoint(from) {
        return Err(Reason::ForbiddenAddress);
    }
    match classify(datagram).ok_or(Reason::NotWireGuard)? {
        Kind::Initiation => answer_initiation(batch, from, datagram, out),
        kind @ (Kind::Answer { peer } | Kind::Data { peer, .. }) => {
            let peer = batch.snapshot.by_index(peer).ok_or(Reason::UnknownIndex)?;
            if matches!(kind, Kind::Answer { .. }) {
                batch.engine.door.admit(from.ip(), datagram, batch.now.mono)?;
            }
            let mut state = batch.enter(peer, out)?;
            let room = out.packet_room(Session::opened_room(datagram.len()));
            let opened = state.session.open(from, datagram, kind, room, batch.now.mono);
            handle(batch, peer, &mut state, from, opened, out)
        }
    }
}

/// Answers a handshake, if its static key is that of a peer whom the policy lets us talk to. Nobody else
/// hears anything.
fn answer_initiation(
    batch: &Batch<'_>,
    from: SocketAddr,
    datagram: &[u8],
    out: &mut Output,
) -> Result<(), Reason> {
    let door = &batch.engine.door;
    door.admit(from.ip(), datagram, batch.now.mono)?;
    let room = out.datagram_room(Session::opened_room(0));
    let key = match door.knock(from.ip(), datagram, room) {
        Knock::By(key) => key,
        Knock::Cookie(len) => {
            out.commit_datagram(len, [from]);
            return Err(Reason::CookieAsked);
        }
        Knock::Refused(reason) => return Err(reason),
    };
    let peer = batch.snapshot.by_key(&key).ok_or(Reason::Stranger)?;
    let mut state = batch.enter(peer, out)?;
    let room = out.packet_room(Session::opened_room(datagram.len()));
    let opened = state.session.answer(door, from, datagram, room, batch.now.mono);
    handle(batch, peer, &mut state, from, opened, out)
}

/// What was decrypted is in the packet room of `out`.
fn handle(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    from: SocketAddr,
    opened: Opened,
    out: &mut Output,
) -> Result<(), Reason> {
    match opened {
        Opened::Answer(len) => {
            out.move_to_datagram(len, from);
            return Ok(());
        }
        Opened::Cookie => return Ok(()),
        Opened::Refused(reason) => return Err(reason),
        Opened::Established(_) | Opened::Packet(_) | Opened::Keepalive | Opened::NotIp => {
            state.paths.authenticated(from);
        }
    }
    if let Opened::Established(len) = opened {
        out.move_to_datagram(len, from);
    }
    let delivered = match opened {
        Opened::Packet(len) => deliver(batch, peer, state, len, out),
        Opened::NotIp => Err(Reason::Malformed),
        Opened::Established(_)
        | Opened::Keepalive
        | Opened::Answer(_)
        | Opened::Cookie
        | Opened::Refused(_) => Ok(()),
    };
    if !state.waiting.is_empty() {
        flush(batch, peer, state, out);
    }
    delivered.inspect_err(|_| state.denied += 1)
}

/// Judges the decrypted packet of `len` bytes in the packet room and lets it through to our host.
fn deliver(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    len: usize,
    out: &mut Output,
) -> Result<(), Reason> {
    let bytes = &out.packet_room(len)[..len];
    let packet = packet::parse(bytes).map_err(|packet::Malformed| Reason::Malformed)?;
    if address::is_forbidden(packet.source) || address::is_forbidden(packet.destination) {
        return Err(Reason::ForbiddenAddress);
    }
    let v6 = packet.source.is_ipv6();
    if packet.source != peer.pair.theirs(v6) {
        return Err(Reason::DishonestSource);
    }
    if packet.destination != peer.pair.mine(v6) {
        return Err(Reason::NotForMe);
    }
    if is_reserved(&packet) {
        let message = probe_of(bytes, &packet).ok_or(Reason::ProbeRefused)?;
        return handle_probe(batch, peer, state, message, out);
    }
    state.judge_inbound(&packet, batch.now)?;
    out.commit_packet(packet.len);
    state.received.add(packet.len);
    Ok(())
}

fn probe_of(bytes: &[u8], packet: &Packet) -> Option<Message> {
    let expected = Ports { source: PROBE_PORT, destination: PROBE_PORT };
    let whole = packet.fragment.is_none() && packet.transport == Transport::Udp(expected);
    // Answers go by IPv6, and are not to be larger than the question.
    let is_ours = whole && packet.source.is_ipv6();
    let payload = bytes.get(packet.payload + 8..packet.payload + 8 + PROBE_BYTES)?;
    Message::decode(payload).filter(|_| is_ours)
}

fn handle_probe(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    message: Message,
    out: &mut Output,
) -> Result<(), Reason> {
    let reply = match message {
        Message::EchoReply { .. } | Message::VerdictReply { .. } => {
            hold(&batch.engine.probes).answered(&peer.name, message, batch.now.mono);
            return Ok(());
        }
        Message::EchoRequest { id } => Message::EchoReply { id },
        Message::VerdictQuery { id, service } => {
            let verdict = state.verdict(Direction::Inbound, service, batch.now);
            let generation = state.generation();
            Message::VerdictReply { id, allowed: matches!(verdict, Verdict::Allow(_)), generation }
        }
    };
    if !state.may_answer_probe(batch.now) {
        return Err(Reason::ProbeRefused);
    }
    let mut room = [0; 40 + 8 + PROBE_BYTES];
    let (mine, theirs) = (peer.pair.mine(true), peer.pair.theirs(true));
    let len = answer::write_udp(&mut room, mine, theirs, PROBE_PORT, &reply.encode());
    seal(batch, state, &room[..len], out).map(|_| ())
}
