//! The switchboard: it owns the parts and routes to them, and holds no rule about policy, cryptography or
//! time itself.

use crate::apply::Control;
use crate::bucket::{Bucket, Rate};
use crate::counters::Tally;
use crate::draw::Draw;
use crate::ecn::Ecn;
use crate::flow::FlowBudget;
use crate::limits::{LOCAL_ERROR_BURST, LOCAL_ERROR_REFILL};
use crate::peer::{Peer, PeerState, Shared};
use crate::probe::Probes;
use crate::session::Door;
use crate::snapshot::Snapshot;
use crate::timers::Agenda;
use crate::waiting::WaitingBytes;
use crate::{
    Changes, Config, Counters, Explanation, FlowStatus, Handshake, Output, PeerStatus, Probe, ProbeId,
    ProbeResult, Reason, World,
};
use crate::{handshake, outbound};
use arc_swap::{ArcSwap, Guard};
use bulkhead_acl::{Direction, Service, Verdict};
use bulkhead_identity::{NodeName, Now, TunnelKey, VerifiedIdentity};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LOCAL_ERRORS: Rate = Rate { burst: LOCAL_ERROR_BURST, refill: LOCAL_ERROR_REFILL };

/// The packet engine of one node. `Sync`: the data threads and the control task share one.
///
/// - *Move packets* with [`Engine::batch`], from any number of threads, and shake hands with
///   [`Engine::handshake`], from one that has time.
/// - *Change the world* with [`Engine::apply`], from the control task.
/// - *Let time pass* with [`Engine::handle_timeout`] whenever [`Engine::next_timeout`] says so.
/// - *Tell it* what the kernel would not send with [`Engine::too_big`].
/// - *Look* with [`Engine::peers`], [`Engine::flows`], [`Engine::explain`], [`Engine::whois`],
///   [`Engine::counters`].
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) door: Door,
    pub(crate) tally: Tally,
    shared: Shared,
    snapshot: ArcSwap<Snapshot>,
    control: Mutex<Control>,
    pub(crate) probes: Mutex<Probes>,
    pub(crate) mtu_probe_ids: Draw,
    local_errors: Mutex<Bucket>,
    started: Duration,
    pub(crate) agenda: Mutex<Agenda>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} peers)", self.snapshot.load().peers.len())
    }
}

impl Engine {
    /// An engine that talks to nobody, until [`Engine::apply`] tells it of a world in which it may.
    #[must_use]
    pub fn new(tunnel_key: TunnelKey, config: Config, now: Now) -> Self {
        let config = config.clamped();
        Self {
            control: Mutex::new(Control::new(&tunnel_key.to_bytes(), now)),
            mtu_probe_ids: Draw::new(&tunnel_key.to_bytes(), b"bulkhead mtu probes v1", now),
            door: Door::new(tunnel_key),
            tally: Tally::default(),
            shared: Shared {
                flows: Arc::new(FlowBudget::new(config.max_flows, config.max_flows_per_peer)),
                waiting: Arc::new(WaitingBytes::default()),
            },
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            probes: Mutex::new(Probes::default()),
            local_errors: Mutex::new(Bucket::default()),
            started: now.mono,
            agenda: Mutex::new(Agenda::new(now)),
            config,
        }
    }

    /// Makes `world` the world: complete, not a difference. Every chain is verified, every permit computed
    /// anew; peers that stay keep their sessions and their permitted flows. The teardown law is told in
    /// `apply.rs`.
    ///
    /// `out` gets what our own host has to be told about flows that end.
    pub fn apply(&self, world: World, out: &mut Output, now: Now) -> Changes {
        let mut control = hold(&self.control);
        let old = self.snapshot.load_full();
        let (snapshot, changes) = control.reconcile(&old, &world, self.door.public(), &self.shared, out, now);
        self.snapshot.store(Arc::new(snapshot));
        hold(&self.agenda).wake_everyone();
        self.tally.add(Reason::FlowRevoked, changes.ended_flows as u64);
        for (_, reason) in &changes.refused {
            self.tally.count(*reason);
        }
        changes
    }

    /// Work on packets by one thread: loads the snapshot once. Make a new one for every batch.
    #[must_use]
    pub fn batch(&self, now: Now) -> Batch<'_> {
        let snapshot = self.snapshot.load();
        let open = snapshot.me_at(now).is_some();
        Batch { engine: self, snapshot, now, open, congested: Cell::new(false) }
    }

    /// Takes the next step of a handshake: an exchange of keys, which takes longer than a data thread may. `out` gets
    /// the answer, and what waited for the session.
    pub fn handshake(&self, message: &Handshake, now: Now, out: &mut Output) {
        handshake::answer(&self.batch(now), message.from, message.bytes(), out);
    }

    /// Counts a handshake message for which the caller's queue had no room.
    pub fn forgot_handshake(&self) {
        self.tally.count(Reason::HandshakeBacklog);
    }

    /// Permitted peers by name.
    #[must_use]
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        self.snapshot.load().peers.values().map(|peer| peer.status(now)).collect()
    }

    /// One permitted peer.
    #[must_use]
    pub fn peer(&self, name: &NodeName, now: Now) -> Option<PeerStatus> {
        self.snapshot.load().peers.get(name).map(|peer| peer.status(now))
    }

    /// Who has this overlay address: a permitted peer, or ourselves.
    #[must_use]
    pub fn whois(&self, address: IpAddr) -> Option<VerifiedIdentity> {
        let snapshot = self.snapshot.load();
        match &snapshot.me {
            Some(me) if me.has(address) => Some(me.identity.clone()),
            Some(_) | None => snapshot.by_address(address).map(|peer| peer.lock().identity().clone()),
        }
    }

    /// How often which refusal happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.read()
    }

    /// All live flows, by peer.
    #[must_use]
    pub fn flows(&self, now: Now) -> Vec<FlowStatus> {
        self.snapshot.load().peers.values().flat_map(|peer| peer.flows(now)).collect()
    }

    /// Whether `service` is permitted with `peer` now, as this engine would decide about a packet.
    #[must_use]
    pub fn explain(&self, peer: &NodeName, direction: Direction, service: Service, now: Now) -> Explanation {
        let snapshot = self.snapshot.load();
        if snapshot.me_at(now).is_none() {
            return Explanation::SelfExpired;
        }
        let Some(peer) = snapshot.peers.get(peer) else { return Explanation::NotAPeer };
        let state = match peer.lock_standing(now) {
            Ok(state) => state,
            Err(Reason::PeerExpired) => return Explanation::PeerExpired,
            Err(_) => return Explanation::NotAPeer,
        };
        let generation = state.generation();
        match state.verdict(direction, service, now) {
            Verdict::Allow(rule) => Explanation::Allowed { rule, generation },
            Verdict::Deny => Explanation::Denied { generation },
        }
    }

    /// Asks a peer something inside the session, after a handshake if need be. The result comes by
    /// [`Engine::probe_results`], within [`PROBE_TIMEOUT`](crate::limits::PROBE_TIMEOUT) of calls to
    /// [`Engine::handle_timeout`].
    ///
    /// # Errors
    ///
    /// When there is no such permitted peer, when we may talk to nobody, or when too many probes are on their
    /// way.
    pub fn probe(
        &self,
        name: &NodeName,
        probe: Probe,
        now: Now,
        out: &mut Output,
    ) -> Result<ProbeId, Reason> {
        let batch = self.batch(now);
        if !batch.open {
            return Err(Reason::SelfExpired);
        }
        let peer = batch.snapshot.peers.get(name).ok_or(Reason::NoPeer)?;
        let mut state = batch.enter(peer, out)?;
        let (id, message) = hold(&self.probes).ask(name, probe, now.mono).ok_or(Reason::ProbeRefused)?;
        outbound::send_probe(&batch, peer, &mut state, message, out);
        Ok(id)
    }

    /// Results of probes since the last call.
    #[must_use]
    pub fn probe_results(&self) -> Vec<ProbeResult> {
        hold(&self.probes).take()
    }

    /// Whether our host may be told one more ICMP error.
    pub(crate) fn may_tell(&self, now: Now) -> bool {
        hold(&self.local_errors).take(LOCAL_ERRORS, now.mono)
    }

    /// Whether the middle of a TCP flow that our host sends may still be taken up.
    pub(crate) fn picks_up(&self, now: Now) -> bool {
        now.mono.saturating_sub(self.started) < self.config.pickup
    }

    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }
}

/// Packets handled by one thread, under one snapshot and at one moment.
pub struct Batch<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) snapshot: Guard<Arc<Snapshot>>,
    pub(crate) now: Now,
    /// Our own certificate, the policy and the trust document are valid.
    pub(crate) open: bool,
    /// The next packet of a bulk stream is to be told that the queue it came through is long.
    pub(crate) congested: Cell<bool>,
}

/// A datagram as it came from the network.
#[derive(Clone, Copy)]
pub struct Datagram<'d> {
    /// Where it came from.
    pub from: SocketAddr,
    /// What its IP header says of congestion.
    pub ecn: Ecn,
    /// The UDP payload.
    pub bytes: &'d [u8],
}

impl Batch<'_> {
    /// Takes what our host sent into the TUN device: frames, each a `virtio_net_hdr` and an IP packet, which may be
    /// one to cut into segments. `out` gets the datagrams that carry them, or what our host is told instead. The
    /// frames are scratch space afterwards.
    pub fn outbound<'f>(&self, frames: impl IntoIterator<Item = &'f mut [u8]>, out: &mut Output) {
        outbound::outbound(self, frames, out);
    }

    /// The queue that the frames come from is long (see [`Backlog`](crate::Backlog)): the next packet of a bulk stream is
    /// marked, if its transport knows such marks (RFC 3168), or loses its first segment.
    pub fn tell_congestion(&self) {
        self.congested.set(true);
    }

    /// Whether nobody was left to be told.
    #[must_use]
    pub fn has_told(&self) -> bool {
        !self.congested.get()
    }

    /// Takes datagrams from the UDP socket. `out` gets the packets that were in them, and handshake messages for
    /// [`Engine::handshake`].
    pub fn inbound<'d>(&self, datagrams: impl IntoIterator<Item = Datagram<'d>>, out: &mut Output) {
        crate::inbound::inbound(self, datagrams, out);
    }

    /// Goes behind a peer's lock: the peer stands, and its flows are judged by the rules of this moment. Whatever happens
    /// there, the next tick looks what follows from it.
    pub(crate) fn enter<'p>(
        &self,
        peer: &'p Peer,
        out: &mut Output,
    ) -> Result<MutexGuard<'p, PeerState>, Reason> {
        let mut state = peer.lock_standing(self.now)?;
        if !std::mem::replace(&mut state.awake, true) {
            hold(&self.engine.agenda).wake(peer.index);
        }
        let ended = state.judge_if_due(&peer.pair, out, self.now);
        self.engine.tally.add(Reason::FlowRevoked, ended as u64);
        Ok(state)
    }

    pub(crate) fn count(&self, reason: Reason) {
        self.engine.tally.count(reason);
    }

    /// Counts a refusal against a peer, too.
    pub(crate) fn deny(&self, state: &mut PeerState, reason: Reason) {
        state.denied += 1;
        self.count(reason);
    }
}

/// Locks what no panic can leave half changed: each holder makes one step.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
