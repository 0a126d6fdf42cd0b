//! What time does by itself. Every quarter of a second, for every peer:
//!
//! - a certificate that has ended ends the peer: keys, flows, waiting packets. Our own, the policy's or the
//!   trust document's end ends all of them. (Every batch checks the same, so that between two ticks nothing
//!   passes either.)
//! - a window of time in the policy that opened or closed has every flow judged again;
//! - boringtun rekeys after two minutes, sends initiations again every five seconds for ninety, and forgets
//!   old keys;
//! - a new peer is greeted with a handshake;
//! - an idle session is kept alive, if the configuration says so, and one that was lost is asked for again;
//! - flows whose time is over are forgotten.

use crate::engine::{Batch, hold};
use crate::limits::{KEEPALIVE_RETRY, SWEEP_INTERVAL, TICK};
use crate::outbound::{initiate, seal};
use crate::peer::{Peer, PeerState};
use crate::session::{Session, Ticked};
use crate::{Engine, Output, Reason};
use bulkhead_identity::Now;
use std::time::Duration;

impl Engine {
    /// Lets time pass: handshakes, keepalives, certificates that end, windows of the policy.
    pub fn handle_timeout(&self, now: Now, out: &mut Output) {
        *self.next_tick() = now.mono + TICK;
        self.door.reset_count();
        hold(&self.probes).expire(now.mono);
        let batch = self.batch(now);
        for peer in batch.snapshot.peers.values() {
            let mut state = peer.lock();
            if state.is_alive() {
                tick_peer(&batch, peer, &mut state, out);
            }
        }
    }

    /// How long from `now` until [`Engine::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        Some(self.next_tick().saturating_sub(now.mono))
    }
}

fn tick_peer(batch: &Batch<'_>, peer: &Peer, state: &mut PeerState, out: &mut Output) {
    let now = batch.now;
    if !batch.open || !state.identity().valid_at(now.wall) {
        let ended = state.end(&peer.pair, out);
        batch.engine.tally.add(Reason::FlowRevoked, ended as u64);
        batch.count(if batch.open { Reason::PeerExpired } else { Reason::SelfExpired });
        return;
    }
    let ended = state.judge_if_due(&peer.pair, out, now);
    batch.engine.tally.add(Reason::FlowRevoked, ended as u64);
    state.filter.flows.sweep_each(SWEEP_INTERVAL, now.mono);
    let room = out.datagram_room(Session::sealed_room(0));
    match state.session.tick(room, now.mono) {
        Ticked::Initiation(len) => out.commit_datagram(len, state.paths.everywhere()),
        Ticked::Keepalive(len) => out.commit_datagram(len, state.paths.endpoint()),
        Ticked::Nothing => {}
    }
    if std::mem::take(&mut state.greet) && !state.session.is_ready() {
        // A peer of which no endpoint is known cannot be greeted; it may greet us.
        let _ = initiate(batch, state, out);
    }
    if let Err(reason) = keep_alive(batch, state, out) {
        batch.count(reason);
    }
}

fn keep_alive(batch: &Batch<'_>, state: &mut PeerState, out: &mut Output) -> Result<(), Reason> {
    let Some(interval) = batch.engine.config.keepalive else { return Ok(()) };
    let since = |at: Duration| batch.now.mono.saturating_sub(at);
    if state.session.is_ready() {
        if since(state.session.last_sent()) >= interval {
            seal(batch, state, &[], out)?;
        }
    } else if state.session.last_initiation().is_none_or(|at| since(at) >= KEEPALIVE_RETRY)
        && state.paths.everywhere().next().is_some()
    {
        initiate(batch, state, out)?;
    }
    Ok(())
}
