//! Handshakes, apart from the data threads: an X25519 exchange takes as long as fifty packets, and a message that
//! asks for it is cheap to send.
//!
//! Whoever receives does only what costs a few hashes ([`receive`]): our mark, the source's share, the cookie under load.
//! What passes waits in a bounded queue of the caller's for [`answer`], on a thread of its own. The property is that of
//! [`crate::session`]: nobody but a permitted peer hears an answer to an initiation.

use crate::discovery::discover;
use crate::engine::Batch;
use crate::outbound::flush;
use crate::peer::{Peer, PeerState};
use crate::session::{Admission, Kind, Opened, Session, classify};
use crate::{Output, Reason};
use std::net::SocketAddr;

/// Keeps an initiation for [`answer`], if it is worth that.
pub(crate) fn receive(
    batch: &Batch<'_>,
    from: SocketAddr,
    initiation: &[u8],
    out: &mut Output,
) -> Result<(), Reason> {
    let room = out.datagram_room(Session::opened_room(0));
    match batch.engine.door.admit(from.ip(), initiation, batch.now.mono, room) {
        Admission::Granted => {
            out.push_handshake(from, initiation);
            Ok(())
        }
        Admission::Cookie(len) => {
            out.commit_datagram(len, [from]);
            Err(Reason::CookieAsked)
        }
        Admission::Refused(reason) => Err(reason),
    }
}

/// Keeps a response or a cookie reply for [`answer`], if it is for a session of ours.
pub(crate) fn receive_answer(
    batch: &Batch<'_>,
    from: SocketAddr,
    peer: u32,
    message: &[u8],
    out: &mut Output,
) -> Result<(), Reason> {
    batch.snapshot.by_index(peer).ok_or(Reason::UnknownIndex)?;
    batch.engine.door.admit_answer(from.ip(), message, batch.now.mono)?;
    out.push_handshake(from, message);
    Ok(())
}

/// Takes the next step of the handshake that `message` belongs to.
pub(crate) fn answer(batch: &Batch<'_>, from: SocketAddr, message: &[u8], out: &mut Output) {
    if let Err(reason) = try_answer(batch, from, message, out) {
        batch.count(reason);
    }
}

fn try_answer(batch: &Batch<'_>, from: SocketAddr, message: &[u8], out: &mut Output) -> Result<(), Reason> {
    if !batch.open {
        return Err(Reason::SelfExpired);
    }
    let door = &batch.engine.door;
    let kind = classify(message).ok_or(Reason::NotWireGuard)?;
    let peer = match kind {
        Kind::Initiation => batch.snapshot.by_key(&door.knock(message)?).ok_or(Reason::Stranger)?,
        Kind::Answer { peer } => batch.snapshot.by_index(peer).ok_or(Reason::UnknownIndex)?,
        Kind::Data { .. } => return Err(Reason::NotWireGuard),
    };
    let mut state = batch.enter(peer, out)?;
    let room = out.packet_room(Session::opened_room(message.len()));
    let opened = match kind {
        Kind::Initiation => state.session.answer(door, from, message, room, batch.now.mono),
        Kind::Answer { .. } | Kind::Data { .. } => {
            state.session.open(from, message, kind, room, batch.now.mono)
        }
    };
    step(batch, peer, &mut state, from, opened, out)
}

/// What boringtun wants sent is in the packet room of `out`.
fn step(
    batch: &Batch<'_>,
    peer: &Peer,
    state: &mut PeerState,
    from: SocketAddr,
    opened: Opened,
    out: &mut Output,
) -> Result<(), Reason> {
    match opened {
        Opened::Answer(len) => out.move_to_datagram(len, from),
        Opened::Established(len) => {
            state.paths.authenticated(from);
            out.move_to_datagram(len, from);
            flush(batch, peer, state, out);
            discover(batch, peer, state, out);
        }
        Opened::Cookie => {
            let room = out.datagram_room(Session::sealed_room(0));
            if let Some(len) = state.session.initiate_with_cookie(&batch.engine.door, room, batch.now.mono) {
                out.commit_datagram(len, state.paths.everywhere());
            }
        }
        Opened::Refused(reason) => return Err(reason),
        // Only data carries these.
        Opened::Packet(_) | Opened::Keepalive | Opened::NotIp => return Err(Reason::NotWireGuard),
    }
    Ok(())
}
