//! From our host to a peer. Read top down, this is what happens to a packet from the TUN device:
//!
//! headers -> forbidden addresses -> source is mine -> destination is a peer's -> the peer stands -> flow or
//! verdict -> session -> datagram. Whatever stops on the way is counted, and our host is told at once.

use crate::answer::{self, Trouble};
use crate::engine::Batch;
use crate::filter::Turn;
use crate::packet::{self, Packet};
use crate::peer::{Peer, PeerState};
use crate::probe::{Message, PROBE_PORT};
use crate::session::{Sealed, Session};
use crate::transport::Transport;
use crate::{Output, Reason, address};

/// Room for a probe packet: IPv6 and UDP header, and a message.
const PROBE_PACKET: usize = 40 + 8 + crate::probe::PROBE_BYTES;

pub(crate) fn outbound(batch: &Batch<'_>, bytes: &[u8], out: &mut Output) {
    let packet = match packet::parse(bytes) {
        Ok(packet) => packet,
        Err(packet::Malformed) => return batch.count(Reason::Malformed),
    };
    let bytes = &bytes[..packet.len];
    if let Err(reason) = try_outbound(batch, bytes, &packet, out) {
        batch.count(reason);
        tell(batch, bytes, &packet, reason, out);
    }
}

fn try_outbound(batch: &Batch<'_>, bytes: &[u8], packet: &Packet, out: &mut Output) -> Result<(), Reason> {
    if address::is_forbidden(packet.source) || address::is_forbidden(packet.destination) {
        return Err(Reason::ForbiddenAddress);
    }
    let me = batch.snapshot.me.as_ref().ok_or(Reason::SelfExpired)?;
    if !me.has(packet.source) {
        return Err(Reason::SourceNotMine);
    }
    if !batch.open {
        return Err(Reason::SelfExpired);
    }
    if packet.len > usize::from(batch.engine.config.mtu) {
        return Err(Reason::TooBig);
    }
    let peer = batch.snapshot.by_address(packet.destination).ok_or(Reason::NoPeer)?;
    let mut state = batch.enter(peer, out)?;
    pass_outbound(batch, peer, &mut state, bytes, packet, Turn::First, out).inspect_err(|_| state.denied += 1)
}

/// Judges a packet and sends it, or lets it wait for a handshake. Also what a packet goes through that has
/// waited.
fn pass_outbound(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    bytes: &[u8],
    packet: &Packet,
    turn: Turn,
    out: &mut Output,
) -> Result<(), Reason> {
    let v6 = packet.source.is_ipv6();
    if packet.source != peer.pair.mine(v6) || packet.destination != peer.pair.theirs(v6) {
        return Err(Reason::NoPeer);
    }
    if is_reserved(packet) {
        return Err(Reason::ReservedPort);
    }
    state.judge_outbound(packet, batch.now, batch.engine.picks_up(batch.now), turn)?;
    if send(batch, state, bytes, out)? {
        state.sent.add(bytes.len());
    }
    Ok(())
}

/// Whether a packet is to or from the port that engines keep for themselves.
pub(crate) fn is_reserved(packet: &Packet) -> bool {
    let Transport::Udp(ports) = packet.transport else { return false };
    ports.source == PROBE_PORT || ports.destination == PROBE_PORT
}

/// Seals `bytes` and sends them to the peer's endpoint (`true`), or queues them and starts a handshake.
fn send(batch: &Batch<'_>, state: &mut PeerState, bytes: &[u8], out: &mut Output) -> Result<bool, Reason> {
    if seal(batch, state, bytes, out)? {
        return Ok(true);
    }
    state.waiting.push(bytes, batch.now.mono)?;
    initiate(batch, state, out)?;
    Ok(false)
}

/// Seals `bytes` and sends them; `false` when there is no session.
pub(crate) fn seal(
    batch: &Batch<'_>,
    state: &mut PeerState,
    bytes: &[u8],
    out: &mut Output,
) -> Result<bool, Reason> {
    let mut scratch = std::mem::take(&mut out.scratch);
    let room = out.datagram_room(Session::sealed_room(bytes.len()));
    let sealed = state.session.seal(bytes, batch.engine.config.mtu, &mut scratch, room, batch.now.mono);
    out.scratch = scratch;
    match sealed {
        Sealed::Datagram { len, rekey } => {
            let endpoint = state.paths.endpoint().ok_or(Reason::NoEndpoint)?;
            out.commit_datagram(len, [endpoint]);
            if rekey {
                initiate(batch, state, out)?;
            }
            Ok(true)
        }
        Sealed::NoSession => Ok(false),
    }
}

/// Sends a handshake initiation to everywhere the peer might be, unless one is on its way.
pub(crate) fn initiate(batch: &Batch<'_>, state: &mut PeerState, out: &mut Output) -> Result<(), Reason> {
    if state.paths.everywhere().next().is_none() {
        return Err(Reason::NoEndpoint);
    }
    let room = out.datagram_room(Session::sealed_room(0));
    if let Some(len) = state.session.initiate(&batch.engine.door, room, batch.now.mono) {
        out.commit_datagram(len, state.paths.everywhere());
    }
    Ok(())
}

/// Sends what waited for a handshake: judged again, because the policy may have changed meanwhile.
pub(crate) fn flush(batch: &Batch<'_>, peer: &Peer, state: &mut PeerState, out: &mut Output) {
    if state.session.is_ready() {
        state.filter.judge_waiting_anew();
    }
    while state.session.is_ready() {
        let Some(waited) = state.waiting.pop(batch.now.mono) else { return };
        let sent = waited.and_then(|bytes| {
            let packet = packet::parse(&bytes).map_err(|packet::Malformed| Reason::Malformed)?;
            if is_reserved(&packet) {
                // One of our own probes: nothing else to that port gets into the queue.
                return seal(batch, state, &bytes, out).map(|_| ());
            }
            pass_outbound(batch, peer, state, &bytes, &packet, Turn::Again, out)
        });
        if let Err(reason) = sent {
            batch.deny(state, reason);
        }
    }
}

/// Sends a message of our own to the peer's engine.
pub(crate) fn send_probe(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    message: Message,
    out: &mut Output,
) {
    let mut room = [0; PROBE_PACKET];
    let (mine, theirs) = (peer.pair.mine(true), peer.pair.theirs(true));
    let len = answer::write_udp(&mut room, mine, theirs, PROBE_PORT, &message.encode());
    if let Err(reason) = send(batch, state, &room[..len], out) {
        batch.deny(state, reason);
    }
}

/// Tells our host why a packet did not leave. Addresses that are not ours are not answered: nobody there
/// could listen.
fn tell(batch: &Batch<'_>, bytes: &[u8], packet: &Packet, reason: Reason, out: &mut Output) {
    if is_quiet(reason) {
        return;
    }
    let trouble =
        if reason == Reason::TooBig { Trouble::TooBig(batch.engine.config.mtu) } else { Trouble::Prohibited };
    if answer::is_reset(packet, trouble) || batch.engine.may_tell(batch.now) {
        answer::refuse(out, bytes, packet, trouble);
    } else {
        batch.count(Reason::LocalErrorRate);
    }
}

/// Refusals that are not the application's to hear: nobody honest sent the packet, or sending it again may
/// help.
fn is_quiet(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ForbiddenAddress
            | Reason::SourceNotMine
            | Reason::BadFlags
            | Reason::Fragment
            | Reason::UnwantedIcmp
            | Reason::WaitingLimit
            | Reason::NoEndpoint
    )
}
