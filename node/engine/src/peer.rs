//! One permitted peer: its session, its flows, and the lock in front of them.
//!
//! A [`Peer`] can only be made from a [`Permit`], and a permit only by the signed policy from two verified
//! identities: no tunnel without a permit. All that ever leaves for a peer or arrives from it passes through
//! [`Peer::lock`], and what is behind the lock says whether the peer still stands and what it may do *now*.
//! That is how the teardown law holds for a data thread that loaded its snapshot before
//! [`Engine::apply`](crate::Engine::apply) returned: the snapshot leads it to this peer, and the peer, marked
//! dead or given its new permit under its own lock, refuses.

use crate::answer;
use crate::bucket::{Bucket, Rate};
use crate::filter::{Filter, Question, Turn};
use crate::flow::{Flow, FlowBudget, FlowKey, Way};
use crate::limits::{MAX_ERRORS_PER_CHANGE, PROBE_BURST, PROBE_REFILL};
use crate::packet::Packet;
use crate::path::Paths;
use crate::session::Session;
use crate::status::{FlowStatus, PeerStatus, Traffic};
use crate::waiting::{Waiting, WaitingBytes};
use crate::{Output, Reason};
use bulkhead_acl::{Direction, Permit, Service, Verdict};
use bulkhead_identity::{
    Generation, NodeName, Now, OverlayAddrs, Timestamp, TunnelPublicKey, VerifiedIdentity,
};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PROBES: Rate = Rate { burst: PROBE_BURST, refill: PROBE_REFILL };

/// A permitted peer. What is outside the lock never changes.
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    /// The upper 24 bits of the session's receiver index.
    pub(crate) index: u32,
    /// Certified; a peer with other addresses is another peer.
    pub(crate) pair: Pair,
    state: Mutex<PeerState>,
}

/// The certified addresses of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) mine: OverlayAddrs,
    pub(crate) theirs: OverlayAddrs,
}

impl Pair {
    pub(crate) fn mine(&self, v6: bool) -> IpAddr {
        if v6 { self.mine.v6.into() } else { self.mine.v4.into() }
    }

    pub(crate) fn theirs(&self, v6: bool) -> IpAddr {
        if v6 { self.theirs.v6.into() } else { self.theirs.v4.into() }
    }
}

/// Bounds that all peers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) flows: Arc<FlowBudget>,
    pub(crate) waiting: Arc<WaitingBytes>,
}

/// What is behind the lock.
pub(crate) struct PeerState {
    /// Cleared once, by [`PeerState::end`]; after that nothing passes.
    alive: bool,
    /// To be greeted with a handshake at the next tick: if it still holds a session of our former life, it
    /// learns at once that it is over, and not after fifteen seconds of silence.
    pub(crate) greet: bool,
    /// Visited by every tick; see [`crate::timers`].
    pub(crate) awake: bool,
    permit: Permit,
    /// When a grant of the permit begins or ends next.
    judge_at: Option<Timestamp>,
    /// When that was worked out.
    judged: Timestamp,
    pub(crate) session: Session,
    pub(crate) paths: Paths,
    pub(crate) filter: Filter,
    pub(crate) waiting: Waiting,
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
    pub(crate) denied: u64,
    probes: Bucket,
}

impl Peer {
    /// `None` when the permit's certificate is no node's: it has no tunnel key or no addresses.
    pub(crate) fn new(
        permit: Permit,
        mine: OverlayAddrs,
        index: u32,
        shared: &Shared,
        now: Now,
    ) -> Option<Self> {
        let claims = permit.peer().claims();
        let (name, key, theirs) = (claims.id.name.clone(), claims.tunnel_key?, claims.addresses?);
        let state = PeerState {
            alive: true,
            greet: false,
            awake: false,
            judged: now.wall,
            judge_at: permit.next_change(now.wall),
            permit,
            session: Session::new(index, &key),
            paths: Paths::default(),
            filter: Filter::new(Arc::clone(&shared.flows)),
            waiting: Waiting::new(Arc::clone(&shared.waiting)),
            sent: Traffic::default(),
            received: Traffic::default(),
            denied: 0,
            probes: Bucket::default(),
        };
        Some(Self { name, index, pair: Pair { mine, theirs }, state: Mutex::new(state) })
    }

    /// The state, if the peer may exchange packets now: it was not removed, and its certificate is valid.
    pub(crate) fn lock_standing(&self, now: Now) -> Result<MutexGuard<'_, PeerState>, Reason> {
        let state = self.lock();
        if !state.alive {
            return Err(Reason::PeerRemoved);
        }
        if !state.permit.peer().valid_at(now.wall) {
            return Err(Reason::PeerExpired);
        }
        Ok(state)
    }

    /// The state. A thread that panicked while it held the lock may have left it half changed: such a peer
    /// ends.
    pub(crate) fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut state = poisoned.into_inner();
            state.forget();
            state
        })
    }

    pub(crate) fn status(&self, now: Now) -> PeerStatus {
        let state = self.lock();
        PeerStatus {
            identity: state.permit.peer().clone(),
            endpoint: state.paths.endpoint(),
            mtu: state.paths.mtu(),
            candidates: state.paths.candidates().to_vec(),
            connected: state.session.is_ready(),
            last_handshake: state.session.last_handshake(),
            last_received: state.session.last_received().map(|at| now.mono.saturating_sub(at)),
            sent: state.sent,
            received: state.received,
            denied: state.denied,
            flows: state.filter.flows.iter().filter(|(_, flow)| !flow.is_expired(now.mono)).count(),
            generation: state.permit.generation(),
        }
    }

    pub(crate) fn flows(&self, now: Now) -> Vec<FlowStatus> {
        let state = self.lock();
        let live = state.filter.flows.iter().filter(|(_, flow)| !flow.is_expired(now.mono));
        live.map(|(key, flow)| FlowStatus {
            peer: self.name.clone(),
            direction: flow.direction,
            service: flow.service,
            local: (self.pair.mine(key.v6), key.local),
            remote: (self.pair.theirs(key.v6), key.remote),
            state: flow.state,
            generation: flow.generation,
            rule: flow.rule.clone(),
            sent: flow.sent,
            received: flow.received,
            age: now.mono.saturating_sub(flow.first),
            idle: now.mono.saturating_sub(flow.last),
        })
        .collect()
    }
}

impl PeerState {
    pub(crate) fn identity(&self) -> &VerifiedIdentity {
        self.permit.peer()
    }

    /// The certified tunnel key; the same as long as the peer is the same.
    pub(crate) fn tunnel_key(&self) -> Option<TunnelPublicKey> {
        self.identity().claims().tunnel_key
    }

    pub(crate) fn generation(&self) -> Generation {
        self.permit.generation()
    }

    /// What the current permit says of a service.
    pub(crate) fn verdict(&self, direction: Direction, service: Service, now: Now) -> Verdict {
        self.permit.verdict(direction, service, now.wall)
    }

    /// Whether `other` is for the same certificate and grants the same.
    pub(crate) fn means_the_same(&self, other: &Permit) -> bool {
        self.permit.same_grants(other) && self.identity().claims() == other.peer().claims()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }

    /// Whether time does nothing to the peer before its certificate ends: there is no session and no handshake, no flow,
    /// and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.session.is_dormant() && self.filter.flows.len() == 0 && self.waiting.is_empty()
    }

    /// Takes the place of the former permit, for the same peer; every flow is judged again at once. Returns
    /// how many ended.
    pub(crate) fn set_permit(&mut self, permit: Permit, pair: &Pair, out: &mut Output, now: Now) -> usize {
        self.permit = permit;
        self.judge_all(pair, out, now)
    }

    /// Judges again when a window of time opened or closed. Cheap when none did.
    pub(crate) fn judge_if_due(&mut self, pair: &Pair, out: &mut Output, now: Now) -> usize {
        // A clock that was set back may have edges before it again that it had left behind.
        if now.wall >= self.judged && self.judge_at.is_none_or(|at| now.wall < at) {
            return 0;
        }
        self.judge_all(pair, out, now)
    }

    /// The end: keys, flows, fragments and waiting packets are gone, and nothing passes any more. Returns how
    /// many flows ended; our host is told of each.
    pub(crate) fn end(&mut self, pair: &Pair, out: &mut Output) -> usize {
        let mut teller = Teller::new(pair, out);
        let ended = self.filter.end_all(|key, flow| teller.tell(key, flow));
        self.forget();
        ended
    }

    /// The filter's verdict on a packet from the peer.
    pub(crate) fn judge_inbound(
        &mut self,
        packet: &Packet,
        traffic: Traffic,
        now: Now,
    ) -> Result<(), Reason> {
        let (way, turn) = (Way::In, Turn::First);
        let question = Question { permit: &self.permit, way, now, pickup: false, turn, traffic };
        self.filter.judge(question, packet)
    }

    /// The filter's verdict on a packet to the peer.
    pub(crate) fn judge_outbound(
        &mut self,
        packet: &Packet,
        traffic: Traffic,
        now: Now,
        pickup: bool,
        turn: Turn,
    ) -> Result<(), Reason> {
        let question = Question { permit: &self.permit, way: Way::Out, now, pickup, turn, traffic };
        self.filter.judge(question, packet)
    }

    /// Whether a probe of this peer may be answered now.
    pub(crate) fn may_answer_probe(&mut self, now: Now) -> bool {
        self.probes.take(PROBES, now.mono)
    }

    fn judge_all(&mut self, pair: &Pair, out: &mut Output, now: Now) -> usize {
        (self.judged, self.judge_at) = (now.wall, self.permit.next_change(now.wall));
        let mut teller = Teller::new(pair, out);
        self.filter.judge_all(&self.permit, now.wall, |key, flow| teller.tell(key, flow))
    }

    fn forget(&mut self) {
        self.alive = false;
        self.session.close();
        self.waiting.clear();
        self.filter.end_all(|_, _| {});
    }
}

/// Tells our own host about flows that end: every TCP flow, and a bounded number of others.
struct Teller<'a> {
    pair: &'a Pair,
    out: &'a mut Output,
    errors: usize,
}

impl<'a> Teller<'a> {
    fn new(pair: &'a Pair, out: &'a mut Output) -> Self {
        Self { pair, out, errors: 0 }
    }

    fn tell(&mut self, key: &FlowKey, flow: &Flow) {
        if !matches!(flow.service, Service::Tcp(_)) {
            self.errors += 1;
            if self.errors > MAX_ERRORS_PER_CHANGE {
                return;
            }
        }
        answer::end_flow(self.out, key, flow, self.pair.theirs(key.v6), self.pair.mine(key.v6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_peer_is_small() {
        // design/04-data-plane.md, limits: at most 600 bytes for an idle permitted peer, its certificate
        // aside.
        assert!(size_of::<Peer>() <= 600, "{}", size_of::<Peer>());
    }
}
