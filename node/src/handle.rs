//! The face of the running daemon: what the local API, the resolver and the tests may see and ask.
//!
//! Property: nothing here changes state by itself. Whoever holds a handle reads snapshots, or puts a request to
//! the one task that owns the state ([`crate::control`]); so there is one writer, and no lock is shared with it.
//!
//! How to use it: clone it freely (one `Arc`). Time comes from [`DaemonHandle::now`], never from elsewhere, so that
//! every part of the daemon judges validity by the same clock.

use crate::clock::Clock;
use crate::config::Config;
use crate::packets::offload::Switches;
use crate::packets::transmit::{Lost, Transmit};
use crate::state::held::Held;
use arc_swap::ArcSwap;
use bulkhead_identity::{Chain, NodeName, Now, Timestamp, TrustDomain, VerifiedIdentity, VerifyError};
use bulkhead_node_engine::{Engine, Output};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// At most this many requests wait for the control task; more are refused as [`AskError::Busy`].
pub(crate) const MAX_WAITING_REQUESTS: usize = 16;

/// The cloneable face of the running daemon.
#[derive(Clone)]
pub(crate) struct DaemonHandle(pub(crate) Arc<Shared>);

/// What all clones share. Built once by [`crate::daemon`].
pub(crate) struct Shared {
    /// The packet switchboard: `peers`, `peer`, `whois`, `explain`, `flows`, `counters`, `probe`.
    pub(crate) engine: Arc<Engine>,
    /// Settings in force, flags over environment over file.
    pub(crate) config: Config,
    /// The two clocks; wall never runs below what the coordinator vouched for.
    pub(crate) clock: Clock,
    /// Documents, own certificate and peer map now held; replaced as a whole by the control task.
    pub(crate) held: ArcSwap<Held>,
    /// State of the control link; `watch`, so that a reader may also wait for a change.
    pub(crate) link: watch::Receiver<LinkState>,
    /// Puts engine output (datagrams, packets for the TUN) on the wire outside the data threads.
    pub(crate) transmit: Transmit,
    /// Which offloads the data path uses.
    pub(crate) switches: Arc<Switches>,
    /// Requests to the control task.
    pub(crate) requests: mpsc::Sender<Request>,
    /// When the daemon started.
    pub(crate) started: Timestamp,
    /// Why mesh addresses are not kept off other interfaces, if so ([`crate::device::guard`]).
    pub(crate) unguarded: Option<String>,
}

/// The link to the coordinator, for status and doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// What the link is doing.
    pub(crate) phase: LinkPhase,
    /// Since when it does so.
    pub(crate) since: Timestamp,
    /// `host:port` in use, or last tried.
    pub(crate) coordinator: Option<String>,
    /// Why the last attempt or connection ended.
    pub(crate) last_error: Option<String>,
    /// Our clock minus the coordinator's in seconds, from its last welcome: positive means that we are ahead.
    pub(crate) skew_secs: Option<i64>,
    /// Our address as the coordinator saw it last.
    pub(crate) observed: Option<SocketAddr>,
    /// The last document that was refused, and why; `None` once a later one of its kind was accepted.
    pub(crate) refused: Option<String>,
}

/// What the link is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkPhase {
    /// Trying the addresses in turn, or resting between attempts.
    Connecting,
    /// Welcomed by the coordinator.
    Connected,
    /// The daemon is ending.
    Closed,
}

impl LinkState {
    /// Before the first attempt.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            phase: LinkPhase::Connecting,
            since: now,
            coordinator: None,
            last_error: None,
            skew_secs: None,
            observed: None,
            refused: None,
        }
    }
}

/// Where the answer to a request goes.
pub(crate) type Reply = oneshot::Sender<Result<(), AskError>>;

/// What may be asked of the control task. Each is answered once it is done, or has failed.
pub(crate) enum Request {
    /// Renew the certificate now. Answered when the new one is in force.
    Renew(Reply),
    /// Take up a certificate that came past the link. Answered when it is in force, or a newer one.
    TakeCertificate(Chain, Reply),
    /// Tell the coordinator to forget us, wipe the state directory, remove leak-stop routes, and end.
    Leave {
        /// Leave even when the coordinator cannot be told.
        force: bool,
        /// Answered just before the daemon ends.
        done: Reply,
    },
    /// End; leak-stop routes and state stay.
    Shutdown,
}

/// Why a request was not carried out. The texts say what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// No link to the coordinator.
    #[error("the coordinator is not connected: {0}")]
    NotConnected(String),
    /// The coordinator said no.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// Another request of this kind is under way, or too many wait.
    #[error("busy with an earlier request; try again in a moment")]
    Busy,
    /// Something on this host failed.
    #[error("{0}")]
    Local(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}

impl DaemonHandle {
    /// Both clocks, now.
    pub(crate) fn now(&self) -> Now {
        self.0.clock.now()
    }

    /// The packet switchboard.
    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Settings in force.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// When the daemon started.
    pub(crate) fn started(&self) -> Timestamp {
        self.0.started
    }

    /// Which offloads the data path uses.
    pub(crate) fn switches(&self) -> &Switches {
        &self.0.switches
    }

    /// What the operating system did not take since the start.
    pub(crate) fn lost(&self) -> Lost {
        self.0.transmit.lost()
    }

    /// Why the local network can reach mesh addresses of this host, if so: for status and doctor.
    pub(crate) fn unguarded(&self) -> Option<&str> {
        self.0.unguarded.as_deref()
    }

    /// Documents, own certificate and peer map now held (trust, policy, revocations, me, map, marks).
    pub(crate) fn held(&self) -> Arc<Held> {
        self.0.held.load_full()
    }

    /// This node's own identity. Ask `valid_at(now)` before relying on it.
    pub(crate) fn me(&self) -> VerifiedIdentity {
        self.0.held.load().me.clone()
    }

    /// The trust domain, also the suffix of every DNS name.
    pub(crate) fn trust_domain(&self) -> TrustDomain {
        self.0.held.load().trust.document().trust_domain.clone()
    }

    /// State of the control link.
    pub(crate) fn link(&self) -> LinkState {
        self.0.link.borrow().clone()
    }

    /// Verifies one entry of the peer map, under what is held now; `None`: no such entry.
    pub(crate) fn verify_peer(&self, name: &NodeName) -> Option<Result<VerifiedIdentity, VerifyError>> {
        let held = self.held();
        let peer = held.map.peers.get(name)?;
        Some(bulkhead_identity::verify(&peer.chain, &held.trust, &held.revocations, self.now().wall))
    }

    /// How far this host's own clock is behind what the coordinator vouched for; zero when it is not.
    pub(crate) fn clock_behind(&self) -> Duration {
        self.0.clock.behind()
    }

    /// Runs `act` with an empty engine output and sends what it produced: for `engine.probe`.
    pub(crate) fn with_output<R>(&self, act: impl FnOnce(&Engine, Now, &mut Output) -> R) -> R {
        let mut out = Output::default();
        self.0.transmit.carry(&mut out, |out| act(&self.0.engine, self.now(), out))
    }

    /// Renews the certificate now; returns when the new one is in force.
    ///
    /// # Errors
    /// See [`AskError`]; the old certificate stays in force.
    pub(crate) async fn renew(&self) -> Result<(), AskError> {
        self.ask(Request::Renew).await
    }

    /// Takes up the certificate that a sign-in of the owner brought; returns when it is in force.
    ///
    /// # Errors
    /// See [`AskError`]; the old certificate stays in force.
    pub(crate) async fn take_certificate(&self, chain: Chain) -> Result<(), AskError> {
        self.ask(|done| Request::TakeCertificate(chain, done)).await
    }

    /// Leaves the mesh for good and ends the daemon. Without `force` a coordinator that cannot be told is an error.
    ///
    /// # Errors
    /// See [`AskError`]; nothing was wiped.
    pub(crate) async fn leave(&self, force: bool) -> Result<(), AskError> {
        self.ask(|done| Request::Leave { force, done }).await
    }

    /// Ends the daemon: interface removed, leak-stop routes and state stay.
    ///
    /// # Errors
    /// [`AskError::Busy`] or [`AskError::Ending`].
    pub(crate) fn shutdown(&self) -> Result<(), AskError> {
        self.submit(Request::Shutdown)
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<(), AskError> {
        let (done, answer) = oneshot::channel();
        self.submit(request(done))?;
        answer.await.unwrap_or(Err(AskError::Ending))
    }

    fn submit(&self, request: Request) -> Result<(), AskError> {
        self.0.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Ending,
        })
    }
}
