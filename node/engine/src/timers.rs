//! What time does by itself. Every quarter of a second, for every peer that is awake:
//!
//! - a certificate that has ended ends the peer: keys, flows, waiting packets. Our own, the policy's or the
//!   trust document's end ends all of them. (Every batch checks the same, so that between two ticks nothing
//!   passes either.)
//! - a window of time in the policy that opened or closed has every flow judged again;
//! - boringtun rekeys after two minutes, sends initiations again every five seconds for ninety, and forgets
//!   old keys;
//! - a new peer is greeted with a handshake;
//! - an idle session is kept alive, if the configuration says so, and one that was lost is asked for again;
//! - while packets flow, probes find out what the path carries;
//! - flows whose time is over, and packets that waited too long, are forgotten.
//!
//! A peer is woken by whoever goes behind its lock to move a packet ([`Batch::enter`]), and sleeps when time does nothing
//! more to it until its certificate ends: idle peers cost nothing, however many they are. The property is that nothing of
//! the above comes later for that. All peers are visited when the first certificate ends, after every change of the
//! world, and when the clock was set back. A window of time needs no visit to a peer without flows: who enters is judged by
//! the rules of that moment.

use crate::discovery::discover;
use crate::engine::{Batch, hold};
use crate::limits::{KEEPALIVE_RETRY, SWEEP_INTERVAL, TICK};
use crate::outbound::{initiate, seal};
use crate::peer::{Peer, PeerState};
use crate::session::{Session, Ticked};
use crate::{Engine, Output, Reason};
use bulkhead_identity::{Now, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// Whom the next tick visits, and when it comes. Its lock is taken inside a peer's, never the other way round.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// The next tick.
    tick: Duration,
    /// Peers that are awake, by index. Those that are no more are passed over.
    pub(crate) awake: BTreeSet<u32>,
    /// When everyone is to be visited; at first, at once.
    everyone_at: Timestamp,
    /// The wall clock at the last tick.
    last: Timestamp,
}

/// Who is visited in one tick.
enum Visits {
    Everyone,
    These(BTreeSet<u32>),
}

impl Agenda {
    /// Time begins.
    pub(crate) fn new(now: Now) -> Self {
        Self { tick: now.mono, ..Self::default() }
    }

    /// There is something to do for a peer.
    pub(crate) fn wake(&mut self, index: u32) {
        self.awake.insert(index);
    }

    /// There may be something to do for any peer.
    pub(crate) fn wake_everyone(&mut self) {
        self.everyone_at = Timestamp::default();
    }

    /// Begins a tick: whoever wakes, and whatever happens, from here on is the next one's.
    fn begin(&mut self, now: Now) -> Visits {
        self.tick = now.mono + TICK;
        let was_set_back = now.wall < std::mem::replace(&mut self.last, now.wall);
        let awake = std::mem::take(&mut self.awake);
        if now.wall < self.everyone_at && !was_set_back {
            return Visits::These(awake);
        }
        self.everyone_at = Timestamp(u64::MAX);
        Visits::Everyone
    }

    /// Ends a tick: who stays awake, and when the first of the others' certificates ends.
    fn end(&mut self, mut awake: BTreeSet<u32>, first_end: Timestamp) {
        self.awake.append(&mut awake);
        self.everyone_at = self.everyone_at.min(first_end);
    }
}

impl Engine {
    /// Lets time pass: handshakes, keepalives, certificates that end, windows of the policy.
    pub fn handle_timeout(&self, now: Now, out: &mut Output) {
        hold(&self.probes).expire(now.mono);
        // Before the snapshot is loaded: whoever woke, woke in that one or an older one.
        let visits = hold(&self.agenda).begin(now);
        let batch = self.batch(now);
        let snapshot = &batch.snapshot;
        let mut round = Round { awake: BTreeSet::new(), first_end: snapshot.end_of_me(now) };
        match visits {
            Visits::Everyone => snapshot.peers.values().for_each(|peer| round.visit(&batch, peer, out)),
            Visits::These(awake) => {
                let peers = awake.into_iter().filter_map(|index| snapshot.by_index(index));
                peers.for_each(|peer| round.visit(&batch, peer, out));
            }
        }
        hold(&self.agenda).end(round.awake, round.first_end);
    }

    /// How long from `now` until [`Engine::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        Some(hold(&self.agenda).tick.saturating_sub(now.mono))
    }
}

/// What comes of the visits of one tick.
struct Round {
    /// Who stays awake.
    awake: BTreeSet<u32>,
    /// When the first certificate of a peer that sleeps ends, or our own, or what it stands on.
    first_end: Timestamp,
}

impl Round {
    fn visit(&mut self, batch: &Batch<'_>, peer: &Peer, out: &mut Output) {
        let mut state = peer.lock();
        if state.is_alive() {
            tick_peer(batch, peer, &mut state, out);
        }
        if state.is_alive() {
            // Behind the peer's lock, so that whoever enters after this wakes it again.
            state.awake = !state.is_idle() || is_kept_alive(batch, &state);
            if state.awake {
                self.awake.insert(peer.index);
            } else {
                self.first_end = self.first_end.min(state.identity().not_after());
            }
        }
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
    let worthless = state.waiting.forget_worthless(now.mono);
    state.denied += worthless;
    batch.engine.tally.add(Reason::WaitedTooLong, worthless);
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
    discover(batch, peer, state, out);
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
        && is_kept_alive(batch, state)
    {
        initiate(batch, state, out)?;
    }
    Ok(())
}

/// Whether the peer is to be kept alive, and somewhere.
fn is_kept_alive(batch: &Batch<'_>, state: &PeerState) -> bool {
    batch.engine.config.keepalive.is_some() && state.paths.everywhere().next().is_some()
}
