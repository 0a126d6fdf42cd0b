//! What the daemon answers: its state as views, its acts as requests to the control task.
//!
//! Property: nothing is said about anyone who is not a peer of this node. A name that is no peer and a name that
//! does not exist get the same answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_acl::Service;
use bulkhead_identity::{NodeName, Timestamp, VerifiedIdentity};
use bulkhead_node_engine::limits::PROBE_TIMEOUT;
use bulkhead_node_engine::{PeerStatus, Probe, ProbeOutcome};

use super::explain;
use super::probing::Probing;
use super::serve::Answers;
use super::warnings::{Evidence, warnings};
use super::wire::{
    Answer, CertificateView, CoordinatorView, Denial, Denials, NodeView, OffloadView, PeerView, Peers, Ping,
    Refusal, RefusalCode, Request, Status, Whois,
};
use crate::device::Layout;
use crate::handle::{AskError, DaemonHandle, LinkPhase};
use crate::state::held::Standing;

/// `status` measures at most this many round trips.
const MAX_MEASURED: usize = 64;
/// How long `status` waits for them.
const MEASURE: Duration = Duration::from_millis(300);
/// How long `status --check` waits: a handshake may have to come first.
const CHECK: Duration = Duration::from_secs(3);

/// The daemon as the local API sees it.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) daemon: DaemonHandle,
    probing: Arc<Probing>,
}

impl Local {
    pub(super) fn new(daemon: DaemonHandle) -> Self {
        Self { daemon, probing: Arc::default() }
    }
}

impl Answers for Local {
    async fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        Ok(match request {
            Request::Status { check } => Answer::Status(Box::new(self.status(check).await)),
            Request::Peers {} => Answer::Peers(self.peers()),
            Request::Denied {} => Answer::Denied(self.denied()),
            Request::Flows {} => Answer::Flows(self.flows()),
            Request::Ping { name } => Answer::Ping(self.ping(&name).await?),
            Request::Explain { name, service, inbound } => {
                Answer::Explain(Box::new(self.explain(&name, &service, inbound).await?))
            }
            Request::Whois { address } => Answer::Whois(self.whois(address)?),
            Request::Resolve { name } => Answer::Whois(self.resolve(&name)?),
            Request::Certificate {} => Answer::Certificate(self.certificate()),
            Request::Renew {} => done(self.daemon.renew().await)?,
            Request::TakeCertificate { chain } => {
                let chain = minicbor::decode(&chain)
                    .map_err(|_| Refusal::new(RefusalCode::BadRequest, "this is no certificate chain"))?;
                done(self.daemon.take_certificate(chain).await)?
            }
            Request::Down {} => done(self.daemon.shutdown())?,
            Request::Leave { force } => done(self.daemon.leave(force).await)?,
        })
    }
}

fn done(result: Result<(), AskError>) -> Result<Answer, Refusal> {
    result.map(|()| Answer::Done {}).map_err(|error| {
        let code = match error {
            AskError::Busy => RefusalCode::Busy,
            AskError::NotConnected(_) | AskError::Refused(_) | AskError::Local(_) | AskError::Ending => {
                RefusalCode::Failed
            }
        };
        Refusal::new(code, error.to_string())
    })
}

impl Local {
    async fn status(&self, check: bool) -> Status {
        let (held, now) = (self.daemon.held(), self.daemon.now());
        let claims = held.me.claims();
        let mut status = Status {
            schema: "bulkhead.status/1".into(),
            node: self.node(),
            coordinator: self.coordinator(),
            generation: held.policy.generation().0,
            epoch: held.revocations.epoch().0,
            trust_version: held.trust.document().version.0,
            certificate_left_secs: now.wall.until(claims.not_after).as_secs(),
            certificate_lifetime_secs: claims.not_before.until(claims.not_after).as_secs(),
            stage: "enforce".into(),
            peers: self.peers().peers,
            warnings: Vec::new(),
        };
        self.measure(&mut status.peers, check).await;
        status.warnings = warnings(&status, &self.evidence());
        status
    }

    fn node(&self) -> NodeView {
        let (config, held) = (self.daemon.config(), self.daemon.held());
        let addresses = held.me.claims().addresses;
        let resolver =
            addresses.map(|own| Layout::new(&config.interface, config.mtu, &held.trust, own).resolver);
        NodeView {
            name: format!("{}.{}", held.me.name(), self.daemon.trust_domain()),
            addresses,
            overlay_v4: held.trust.document().overlay_v4.0,
            labels: held.me.labels().clone(),
            interface: config.interface.clone(),
            port: config.port,
            queues: config.queues,
            resolvers: resolver.map_or_else(Vec::new, |at| vec![IpAddr::V4(at.v4), IpAddr::V6(at.v6)]),
            write_resolv_conf: config.write_resolv_conf,
            offloads: (self.daemon.switches().report().into_iter())
                .map(|(name, position)| OffloadView { name, position })
                .collect(),
            up_secs: self.daemon.started().until(self.daemon.now().wall).as_secs(),
            software: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn coordinator(&self) -> CoordinatorView {
        let link = self.daemon.link();
        let connected = match link.phase {
            LinkPhase::Connected => true,
            LinkPhase::Connecting | LinkPhase::Closed => false,
        };
        CoordinatorView {
            address: link.coordinator,
            connected,
            since_secs: link.since.until(self.daemon.now().wall).as_secs(),
            last_error: link.last_error,
            skew_secs: link.skew_secs,
            observed: link.observed,
        }
    }

    fn evidence(&self) -> Evidence {
        let (held, wall) = (self.daemon.held(), self.daemon.now().wall);
        let isolated = match held.standing(wall) {
            // What has ended is a warning of its own.
            Standing::Good | Standing::NotValidNow => None,
            Standing::Revoked => Some("its certificate is revoked"),
            Standing::RevocationsLost => Some("the revocation list on disk is older than one seen before"),
        };
        Evidence {
            behind_secs: self.daemon.clock_behind().as_secs(),
            refused: self.daemon.link().refused,
            refused_entries: self.denied().entries.into_iter().map(|entry| entry.name).collect(),
            unguarded: self.daemon.unguarded().map(str::to_owned),
            isolated: isolated.map(str::to_owned),
            session_left_secs: self.session_left_secs(),
            policy_ended: held.policy.generation().0 > 0 && held.policy.expires() <= wall,
        }
    }

    /// Seconds until the owner has to sign in again, when that is soon.
    fn session_left_secs(&self) -> Option<u64> {
        let (now, end) = (self.daemon.now().wall, self.daemon.me().not_after());
        let session = self.daemon.held().session.filter(|session| session.is_ending(now, end))?;
        Some(now.until(session.until).as_secs())
    }

    fn peers(&self) -> Peers {
        let peers = self.daemon.engine().peers(self.daemon.now());
        let peers = peers.iter().filter_map(|peer| self.peer(peer)).collect();
        Peers { schema: "bulkhead.peers/1".into(), peers }
    }

    /// `None` for an identity without addresses, which no peer has.
    fn peer(&self, peer: &PeerStatus) -> Option<PeerView> {
        let (held, wall) = (self.daemon.held(), self.daemon.now().wall);
        let (me, them) = ((&held.me).into(), (&peer.identity).into());
        Some(PeerView {
            name: peer.identity.name().to_string(),
            addresses: peer.identity.claims().addresses?,
            labels: peer.identity.labels().clone(),
            outbound: held.policy.rules().may_ever(&me, &them, wall),
            inbound: held.policy.rules().may_ever(&them, &me, wall),
            endpoint: peer.endpoint,
            mtu: peer.mtu,
            round_trip_us: None,
            handshake_secs: peer.last_handshake.map(|ago| ago.as_secs()),
            unanswered: false,
            tx_bytes: peer.sent.bytes,
            rx_bytes: peer.received.bytes,
            certificate_left_secs: wall.until(peer.identity.not_after()).as_secs(),
        })
    }

    /// Fills in round trips: of peers with a session, or, to check, of all.
    async fn measure(&self, peers: &mut [PeerView], check: bool) {
        let chosen = peers.iter().filter(|peer| check || peer.handshake_secs.is_some()).take(MAX_MEASURED);
        let names: Vec<NodeName> = chosen.filter_map(|peer| NodeName::parse(&peer.name).ok()).collect();
        let patience = if check { CHECK } else { MEASURE };
        let answers = self.probing.ask(&self.daemon, names.iter().cloned(), Probe::Echo, patience).await;
        for peer in peers {
            let Some(name) = names.iter().find(|name| name.as_str() == peer.name) else { continue };
            peer.round_trip_us = answers.get(name).and_then(round_trip_us);
            peer.unanswered = check && peer.round_trip_us.is_none();
        }
    }

    fn denied(&self) -> Denials {
        let (held, now) = (self.daemon.held(), self.daemon.now());
        let verdict = |name: &NodeName| {
            let why = self.daemon.verify_peer(name)?.err()?.to_string();
            Some(Denial { name: name.to_string(), why })
        };
        let refused = self.daemon.engine().peers(now).into_iter().filter(|peer| peer.denied > 0);
        let counters = self.daemon.engine().counters();
        let lost = self.daemon.lost();
        let refusals = counters.iter().map(|(reason, count)| (reason.as_str(), count));
        let losses = [("network_refused", lost.datagrams), ("interface_refused", lost.packets)];
        Denials {
            schema: "bulkhead.denied/1".into(),
            entries: held.map.peers.keys().filter_map(verdict).collect(),
            by_peer: refused.map(|peer| (peer.identity.name().to_string(), peer.denied)).collect(),
            dropped: refusals
                .chain(losses)
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (reason.to_owned(), count))
                .collect(),
        }
    }

    async fn ping(&self, name: &str) -> Result<Ping, Refusal> {
        let name = self.peer_name(name)?;
        self.permitted(&name)?;
        let answers = self.probing.ask(&self.daemon, [name.clone()], Probe::Echo, PROBE_TIMEOUT).await;
        let peer = self.permitted(&name)?;
        Ok(Ping {
            name: name.to_string(),
            addresses: peer.identity.claims().addresses.ok_or_else(|| no_peer(&name))?,
            endpoint: peer.endpoint.or(peer.candidates.first().copied()),
            round_trip_us: answers.get(&name).and_then(round_trip_us),
        })
    }

    async fn explain(
        &self,
        name: &str,
        service: &str,
        inbound: bool,
    ) -> Result<super::wire::Explained, Refusal> {
        let service =
            Service::parse(service).map_err(|error| Refusal::new(RefusalCode::BadRequest, error))?;
        let name = self.peer_name(name)?;
        let question = explain::Question { peer: name, service, inbound };
        explain::explain(&self.daemon, &self.probing, &question).await
    }

    fn whois(&self, address: IpAddr) -> Result<Whois, Refusal> {
        let identity = self.daemon.engine().whois(address).ok_or_else(|| {
            Refusal::new(
                RefusalCode::Unknown,
                format!("{address} is not an address of this node or of a peer"),
            )
        })?;
        Ok(self.whois_of(&identity, address))
    }

    fn resolve(&self, name: &str) -> Result<Whois, Refusal> {
        let name = self.peer_name(name)?;
        let peer = self.permitted(&name)?;
        let addresses = peer.identity.claims().addresses.ok_or_else(|| no_peer(&name))?;
        Ok(self.whois_of(&peer.identity, IpAddr::V4(addresses.v4)))
    }

    fn whois_of(&self, identity: &VerifiedIdentity, address: IpAddr) -> Whois {
        Whois {
            schema: "bulkhead.whois/1".into(),
            address,
            name: format!("{}.{}", identity.name(), self.daemon.trust_domain()),
            id: identity.claims().id.to_string(),
            labels: identity.labels().clone(),
            me: identity.claims().id == self.daemon.me().claims().id,
            addresses: identity.claims().addresses,
        }
    }

    fn certificate(&self) -> CertificateView {
        let (held, wall) = (self.daemon.held(), self.daemon.now().wall);
        let claims = held.me.claims();
        let Timestamp(not_before) = claims.not_before;
        let Timestamp(not_after) = claims.not_after;
        CertificateView {
            schema: "bulkhead.certificate/1".into(),
            id: claims.id.to_string(),
            serial: claims.serial.to_string(),
            labels: claims.labels.clone(),
            addresses: claims.addresses,
            not_before,
            not_after,
            left_secs: wall.until(claims.not_after).as_secs(),
            valid: match held.standing(wall) {
                Standing::Good | Standing::RevocationsLost => true,
                Standing::Revoked | Standing::NotValidNow => false,
            },
            identity_fingerprint: claims.identity_key.fingerprint().to_string(),
        }
    }

    /// A name as people write it: with or without the trust domain, in any case.
    fn peer_name(&self, text: &str) -> Result<NodeName, Refusal> {
        let lower = text.trim_end_matches('.').to_ascii_lowercase();
        let domain = format!(".{}", self.daemon.trust_domain());
        let name = NodeName::parse(lower.strip_suffix(&domain).unwrap_or(&lower))
            .map_err(|error| Refusal::new(RefusalCode::BadRequest, error.to_string()))?;
        if name == *self.daemon.me().name() {
            return Err(Refusal::new(RefusalCode::BadRequest, format!("{name} is this node itself")));
        }
        Ok(name)
    }

    fn permitted(&self, name: &NodeName) -> Result<PeerStatus, Refusal> {
        self.daemon.engine().peer(name, self.daemon.now()).ok_or_else(|| no_peer(name))
    }
}

/// One answer for "no such node" and for "not permitted", which this node cannot and need not tell apart.
pub(super) fn no_peer(name: &NodeName) -> Refusal {
    let message = format!(
        "denied: {name} is not a peer of this node: there is no such node, or the policy lets neither talk to the \
         other; an administrator can tell with `bulkheadctl policy can`"
    );
    Refusal::new(RefusalCode::NotPermitted, message)
}

fn round_trip_us(outcome: &ProbeOutcome) -> Option<u64> {
    match outcome {
        ProbeOutcome::Echo { round_trip } | ProbeOutcome::Verdict { round_trip, .. } => {
            u64::try_from(round_trip.as_micros()).ok()
        }
        ProbeOutcome::TimedOut => None,
    }
}
