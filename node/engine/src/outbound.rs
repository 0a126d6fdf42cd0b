//! From our host to a peer. Read top down, this is what happens to a frame from the TUN device:
//!
//! what the kernel left to do -> headers -> forbidden addresses -> source is mine -> destination is a peer's -> the peer
//! stands -> flow or verdict, once for all segments -> cut to the path -> session -> datagrams. Whatever stops on the
//! way is counted, and our host is told at once.
//!
//! Frames to one peer that come in a row are handled behind its lock together.

use crate::answer::{self, Trouble};
use crate::discovery;
use crate::ecn::Ecn;
use crate::engine::Batch;
use crate::filter::Turn;
use crate::limits::{BULK_BYTES, MAX_PACKETS_UNDER_LOCK, MAX_WAITING_PACKETS};
use crate::offload::split::{Split, complete_checksum};
use crate::offload::{self, Malformed, Refused, Request, Segments, VNET_HEADER_BYTES};
use crate::packet::{self, Packet};
use crate::peer::{Peer, PeerState};
use crate::probe::{Message, PROBE_PORT};
use crate::session::{Sealed, Session};
use crate::status::Traffic;
use crate::transport::Transport;
use crate::{Output, PeerIndex, Reason, address};
use std::sync::MutexGuard;

/// Room for a probe packet: IPv6 and UDP header, and a message.
const PROBE_PACKET: usize = 40 + 8 + crate::probe::PROBE_BYTES;

/// Behind the lock of the peer to whom frames go in a row.
struct Visit<'b> {
    peer: &'b Peer,
    state: MutexGuard<'b, PeerState>,
    /// Frames until the lock is let go.
    left: usize,
}

pub(crate) fn outbound<'f>(
    batch: &Batch<'_>,
    frames: impl IntoIterator<Item = &'f mut [u8]>,
    out: &mut Output,
) {
    let mut visit = None;
    for frame in frames {
        depart(batch, &mut visit, frame, out);
    }
}

fn depart<'b>(batch: &'b Batch<'_>, visit: &mut Option<Visit<'b>>, frame: &mut [u8], out: &mut Output) {
    let Some((header, bytes)) = frame.split_first_chunk_mut::<VNET_HEADER_BYTES>() else {
        return batch.count(Reason::Malformed);
    };
    let (Ok(request), Ok(packet)) = (offload::read(header), packet::parse(bytes)) else {
        return batch.count(Reason::Malformed);
    };
    let bytes = &mut bytes[..packet.len];
    let Ok(asked) = prepare(request, bytes, &packet) else { return batch.count(Reason::Malformed) };
    if let Err(reason) = try_depart(batch, visit, asked, bytes, &packet, out) {
        batch.count(reason);
        if !is_quiet(reason) {
            tell(batch, bytes, &packet, Trouble::Prohibited, out);
        }
    }
}

/// Completes the checksum that the kernel left to us; how the packet is to be cut, if it is a superpacket.
fn prepare(request: Request, bytes: &mut [u8], packet: &Packet) -> Result<Option<Segments>, Malformed> {
    match request {
        Request::Whole => Ok(None),
        Request::Checksum { start, offset } => complete_checksum(packet, bytes, start, offset).map(|()| None),
        Request::Segments(asked) => Ok(Some(asked)),
    }
}

fn try_depart<'b>(
    batch: &'b Batch<'_>,
    visit: &mut Option<Visit<'b>>,
    asked: Option<Segments>,
    bytes: &mut [u8],
    packet: &Packet,
    out: &mut Output,
) -> Result<(), Reason> {
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
    let v6 = packet.destination.is_ipv6();
    let _ = visit.take_if(|visit| visit.left == 0 || visit.peer.pair.theirs(v6) != packet.destination);
    let visit = match visit {
        Some(visit) => visit,
        None => {
            let peer = batch.snapshot.by_address(packet.destination).ok_or(Reason::NoPeer)?;
            let state = batch.enter(peer, out)?;
            visit.insert(Visit { peer, state, left: MAX_PACKETS_UNDER_LOCK })
        }
    };
    visit.left -= 1;
    let (peer, state) = (visit.peer, &mut *visit.state);
    pass(batch, peer, state, asked, bytes, packet, Turn::First, out).inspect_err(|_| state.denied += 1)
}

/// Judges a packet and sends it, or lets it wait for a handshake. Also what a packet goes through that has
/// waited.
#[expect(clippy::too_many_arguments, reason = "what a packet is, and where it goes")]
fn pass(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    asked: Option<Segments>,
    bytes: &mut [u8],
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
    let limit = discovery::limit(batch, state);
    let mut cut = fit(asked, bytes, packet, limit);
    let traffic = match &cut {
        Ok(Some(split)) => Traffic { packets: split.segments() as u64, bytes: split.bytes() as u64 },
        Ok(None) | Err(_) => Traffic::one(packet.len),
    };
    state.judge_outbound(packet, traffic, batch.now, batch.engine.picks_up(batch.now), turn)?;
    let told = cut.is_ok() && is_bulk(packet) && batch.congested.replace(false);
    let lost = told && !mark(bytes);
    if lost {
        batch.count(Reason::Congested);
    } else if told {
        cut = fit(asked, bytes, packet, limit);
    }
    match cut {
        Ok(None) if lost => Ok(()),
        Ok(None) => send(batch, state, bytes, out),
        Ok(Some(mut split)) => {
            if lost {
                split.next(bytes);
            }
            send_cut(batch, state, split, bytes, out)
        }
        Err(Refused::Malformed) => Err(Reason::Malformed),
        Err(Refused::TooLong) => {
            let fits_interface = fit(asked, bytes, packet, batch.engine.config.mtu).is_ok();
            Err(discovery::refuse(batch, peer, state, bytes, packet, fits_interface, out))
        }
    }
}

/// How `packet` is cut for a path of `mtu`; `None`: it is not. TCP is cut to the path, because where its segments end is
/// nobody's business but the two stacks'; everything else is as large as its sender made it, or too long.
fn fit(asked: Option<Segments>, bytes: &[u8], packet: &Packet, mtu: u16) -> Result<Option<Split>, Refused> {
    let mtu = usize::from(mtu);
    match asked {
        Some(asked) => Split::new(packet, bytes, asked, mtu).map(Some),
        None if packet.len <= mtu => Ok(None),
        None => Split::resegment_tcp(packet, bytes, mtu).map(Some),
    }
}

/// Whether the packet is data of a bulk stream, whose sender slows down when it is told.
fn is_bulk(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp(segment) if segment.extent as usize >= BULK_BYTES)
}

/// Tells a transport that knows the mark; whether it does.
fn mark(bytes: &mut [u8]) -> bool {
    match Ecn::of(bytes) {
        Ecn::NotEct => false,
        Ecn::Ect0 | Ecn::Ect1 | Ecn::Ce => {
            Ecn::Ce.set(bytes);
            true
        }
    }
}

fn send_cut(
    batch: &Batch<'_>,
    state: &mut PeerState,
    mut split: Split,
    bytes: &mut [u8],
    out: &mut Output,
) -> Result<(), Reason> {
    // What would push the head of its own stream out of the queue does not wait.
    let most = if state.session.is_ready() { usize::MAX } else { MAX_WAITING_PACKETS };
    for _ in 0..most {
        let Some(segment) = split.next(bytes) else { break };
        send(batch, state, &bytes[segment], out)?;
    }
    Ok(())
}

/// Whether a packet is between the ports that engines keep for themselves. One of the two alone is an application's: the
/// port is within the range from which hosts take theirs.
pub(crate) fn is_reserved(packet: &Packet) -> bool {
    let Transport::Udp(ports) = packet.transport else { return false };
    ports.source == PROBE_PORT && ports.destination == PROBE_PORT
}

/// Seals `bytes` and sends them to the peer's endpoint, or queues them and starts a handshake.
fn send(batch: &Batch<'_>, state: &mut PeerState, bytes: &[u8], out: &mut Output) -> Result<(), Reason> {
    if seal(batch, state, bytes, out)? {
        state.sent.add(Traffic::one(bytes.len()));
        return Ok(());
    }
    state.waiting.push(bytes, batch.now.mono)?;
    initiate(batch, state, out)
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
    let sealed = state.session.seal(bytes, state.paths.mtu(), &mut scratch, room, batch.now.mono);
    out.scratch = scratch;
    match sealed {
        Sealed::Datagram { len, rekey } => {
            let endpoint = state.paths.endpoint().ok_or(Reason::NoEndpoint)?;
            out.couple_datagram(len, endpoint, PeerIndex(state.session.index()), Ecn::of(bytes));
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
        let sent = waited.and_then(|mut bytes| {
            let packet = packet::parse(&bytes).map_err(|Malformed| Reason::Malformed)?;
            if is_reserved(&packet) {
                // One of our own probes: nothing else to that port gets into the queue.
                return seal(batch, state, &bytes, out).map(|_| ());
            }
            pass(batch, peer, state, None, &mut bytes, &packet, Turn::Again, out)
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
    let len = answer::write_udp(&mut room, mine, theirs, PROBE_PORT, &message.encode(), 0);
    if let Err(reason) = send(batch, state, &room[..len], out) {
        batch.deny(state, reason);
    }
}

/// Tells our host why a packet did not leave. Addresses that are not ours are not answered: nobody there
/// could listen.
pub(crate) fn tell(batch: &Batch<'_>, bytes: &[u8], packet: &Packet, trouble: Trouble, out: &mut Output) {
    if answer::is_reset(packet, trouble) || batch.engine.may_tell(batch.now) {
        answer::refuse(out, bytes, packet, trouble);
    } else {
        batch.count(Reason::LocalErrorRate);
    }
}

/// Refusals that are not the application's to hear: nobody honest sent the packet, or sending it again may
/// help. (That a packet is too large was told where it was refused, by the figure of its path.)
fn is_quiet(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Malformed
            | Reason::ForbiddenAddress
            | Reason::SourceNotMine
            | Reason::BadFlags
            | Reason::Fragment
            | Reason::UnwantedIcmp
            | Reason::WaitingLimit
            | Reason::NoEndpoint
            | Reason::TooBig
            | Reason::PathUnknown
    )
}
