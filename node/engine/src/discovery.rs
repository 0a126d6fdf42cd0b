//! Path MTU discovery, between the search ([`crate::pathmtu`]) and the session: probes out, answers in, and
//! what our own host is told about packets that are too large.
//!
//! The property: a packet leaves only if the path to its peer is known to carry it, and a probe only to the
//! endpoint from which the peer last proved itself. The answer to a probe is short, so nobody is made to send
//! more than came in.

use crate::answer::{self, Trouble};
use crate::engine::Batch;
use crate::limits::{DATA_OVERHEAD, MAX_MTU, MIN_MTU};
use crate::outbound::{self, seal};
use crate::packet::{IPV4_HEADER, IPV6_HEADER, Packet};
use crate::pathmtu::Seen;
use crate::peer::{Peer, PeerState};
use crate::probe::{Message, PROBE_BYTES, PROBE_PORT};
use crate::{Engine, Output, PeerIndex, Reason};
use std::net::SocketAddr;

const UDP_HEADER: usize = 8;
/// What is in a probe packet besides padding.
const BARE_PROBE: usize = IPV6_HEADER + UDP_HEADER + PROBE_BYTES;
/// The id of questions whose answers nobody waits for: that there is one says enough.
const NOBODY: u64 = 0;

impl Engine {
    /// The kernel refused (EMSGSIZE) to send `peer` a datagram of `len` bytes, or segments of that size: the first
    /// link is narrower than we thought. The peer gets packets of [`MIN_MTU`] at once, and the search begins anew
    /// below what was refused. Saying it again changes nothing.
    pub fn too_big(&self, peer: PeerIndex, len: usize) {
        let size = u16::try_from(len.saturating_sub(DATA_OVERHEAD)).unwrap_or(u16::MAX);
        if let Some(peer) = self.snapshot().by_index(peer.0) {
            peer.lock().paths.search().too_big(size);
        }
    }
}

/// Sends the probe that the search wants now, if any.
pub(crate) fn discover(batch: &Batch<'_>, peer: &Peer, state: &mut PeerState, out: &mut Output) {
    let max = batch.engine.config.mtu;
    let Some(endpoint) = state.paths.endpoint().filter(|_| state.session.is_ready() && max > MIN_MTU) else {
        return;
    };
    let seen = Seen {
        mono: batch.now.mono,
        max,
        overhead: overhead(endpoint),
        sent: state.sent.packets,
        heard: state.session.last_received(),
    };
    let Some(ask) = state.paths.discover(seen, || batch.engine.mtu_probe_ids.next()) else { return };
    // A probe that does not leave is a lost one.
    let _ = ask_peer(batch, peer, state, Message::MtuProbe { id: ask.id }, usize::from(ask.size), out);
    if ask.paired {
        let _ = ask_peer(batch, peer, state, Message::EchoRequest { id: NOBODY }, BARE_PROBE, out);
    }
}

/// The longest packet that may be sent to the peer now: what its path is known to carry. While there is no session,
/// what the interface takes: the packet waits, and comes here again.
pub(crate) fn limit(batch: &Batch<'_>, state: &PeerState) -> u16 {
    if state.session.is_ready() { state.paths.mtu() } else { batch.engine.config.mtu }
}

/// Says why a packet that is longer than that, and cannot be cut, does not leave; our host is told what the path
/// does carry.
///
/// IPv4 packets that may be fragmented are refused all the same. A router would have to cut them (RFC 791),
/// but they come from our own host, whose kernel notes the figure for them too and cuts the next ones itself.
///
/// While the first answer is awaited nothing is told: the host would keep to [`MIN_MTU`] for ten minutes
/// (Linux, `net.ipv4.route.mtu_expires`), though most paths carry more and we know within a round trip.
pub(crate) fn refuse(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    bytes: &[u8],
    packet: &Packet,
    fits_interface: bool,
    out: &mut Output,
) -> Reason {
    state.paths.search().want();
    discover(batch, peer, state, out);
    let undecided = state.session.is_ready() && state.paths.search().is_undecided(batch.now.mono);
    if undecided && fits_interface {
        return Reason::PathUnknown;
    }
    let figure = if undecided { batch.engine.config.mtu } else { limit(batch, state) };
    outbound::tell(batch, bytes, packet, Trouble::TooBig(figure), out);
    Reason::TooBig
}

/// Writes `message`, padded so that the inner packet has `len` bytes, and sends it. Cold: its room is not to be
/// on the stack of what runs for every packet.
#[cold]
fn ask_peer(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    message: Message,
    len: usize,
    out: &mut Output,
) -> Result<bool, Reason> {
    let mut room = [0; MAX_MTU as usize];
    let (mine, theirs) = (peer.pair.mine(true), peer.pair.theirs(true));
    let padding = len.saturating_sub(BARE_PROBE);
    let len = answer::write_udp(&mut room, mine, theirs, PROBE_PORT, &message.encode(), padding);
    seal(batch, state, &room[..len], out)
}

/// What the headers around an inner packet take of the outer path's MTU.
fn overhead(endpoint: SocketAddr) -> u16 {
    let ip = if endpoint.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
    (ip + UDP_HEADER + DATA_OVERHEAD) as u16
}
