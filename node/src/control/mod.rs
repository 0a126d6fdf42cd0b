//! The control task: the one writer of what this node holds.
//!
//! Property: a document is verified, brought into force and saved before it is acknowledged, in that order; what
//! does not verify changes nothing and is reported as refused. Losing the coordinator stops changes, not traffic
//! (P3): nothing here touches the data plane but an accepted document.
//!
//! - [`Control::run`] is the life of the task: connect, serve, pause, again.
//! - [`crate::control::incoming`] takes in what the coordinator sends.

pub(crate) mod backoff;
pub(crate) mod enforce;
mod flows;
pub(crate) mod incoming;
pub(crate) mod link;
pub(crate) mod maphold;
pub(crate) mod renewal;
mod trust;

use crate::control::backoff::Backoff;
use crate::control::enforce::Enforcer;
use crate::control::incoming::cut;
use crate::control::link::{Link, LinkError};
use crate::control::maphold::MapHold;
use crate::control::renewal::Renewal;
use crate::device::endpoints;
use crate::device::netlink::Netlink;
use crate::handle::{AskError, DaemonHandle, LinkPhase, LinkState, Reply, Request};
use crate::state::held::Held;
use crate::state::{Part, Store};
use crate::tls;
use bulkhead_identity::{Chain, IdentityKey, TunnelKey};
use bulkhead_protocol::control::{Endpoint, Receipt, ToCoordinator};
use bulkhead_protocol::{ALPN_CONTROL, PROTOCOL_VERSION};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

/// How often timers are looked at while connected.
const TICK: Duration = Duration::from_secs(1);
/// How often the interface addresses are read.
const ENDPOINTS_INTERVAL: Duration = Duration::from_secs(15);
/// How often saving is tried again after it failed.
const SAVE_INTERVAL: Duration = Duration::from_secs(15);
/// A link that lasted this long was a good one: the next pause is a short one.
const GOOD_LINK: Duration = Duration::from_secs(5);

/// How the task ended.
pub(crate) enum Ending {
    /// As asked; the state stays.
    Shutdown,
    /// The node leaves: the daemon wipes the state and answers.
    Left(Reply),
}

/// Everything the task owns.
pub(crate) struct Control {
    pub(crate) daemon: DaemonHandle,
    pub(crate) identity: IdentityKey,
    /// Only renewals use it: they prove possession again.
    pub(crate) tunnel: TunnelKey,
    pub(crate) store: Arc<Store>,
    pub(crate) addresses: Vec<String>,
    pub(crate) enforcer: Enforcer,
    pub(crate) netlink: Netlink,
    /// Index of our own interface, whose addresses are not endpoints.
    pub(crate) interface: u32,
    pub(crate) link_state: watch::Sender<LinkState>,
    pub(crate) renewal: Renewal,
    pub(crate) hold: MapHold,
    /// What is in force and not yet on disk.
    pub(crate) unsaved: BTreeSet<Part>,
    pub(crate) announced: Vec<Endpoint>,
    /// Monotonic times of the last look and the last try.
    pub(crate) endpoints_at: Duration,
    pub(crate) save_at: Duration,
}

impl Control {
    /// Runs until it is asked to end.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Ending {
        let ending = self.follow(&mut requests).await;
        self.link_state.send_modify(|state| state.phase = LinkPhase::Closed);
        ending
    }

    /// Connects, serves, pauses, and again.
    async fn follow(&mut self, requests: &mut mpsc::Receiver<Request>) -> Ending {
        let mut backoff = Backoff::default();
        let endpoint = match link::endpoint() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::error!(%error, "no UDP socket for the control link");
                self.lost(&error.to_string());
                loop {
                    let call = answer_offline(requests, &self.link_state).await;
                    if let Some(ending) = self.heed(call) {
                        return ending;
                    }
                }
            }
        };
        loop {
            let connecting = self.connect(&endpoint);
            let connected = tokio::select! {
                connected = connecting => connected,
                call = answer_offline(requests, &self.link_state) => match self.heed(call) {
                    Some(ending) => return ending,
                    None => continue,
                },
            };
            match connected {
                Ok(link) => {
                    let since = self.daemon.now().mono;
                    match self.serve(link, requests).await {
                        Ok(ending) => return ending,
                        Err(error) => self.lost(&error.to_string()),
                    }
                    if self.daemon.now().mono.saturating_sub(since) >= GOOD_LINK {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    self.lost(&error.to_string());
                    if matches!(error, LinkError::Unverified(..)) {
                        let looking = self.newer_trust();
                        let found = tokio::select! {
                            found = looking => found,
                            call = answer_offline(requests, &self.link_state) => match self.heed(call) {
                                Some(ending) => return ending,
                                None => continue,
                            },
                        };
                        self.take_newer_trust(found);
                    }
                }
            }
            let pause = backoff.pause();
            if let Some(ending) = self.offline(requests, tokio::time::sleep(pause)).await {
                return ending;
            }
            self.save_again();
        }
    }

    /// Does what a request without a link asks for; `Some` when it ends the task.
    fn heed(&mut self, call: Call) -> Option<Ending> {
        match call {
            Call::End(ending) => Some(ending),
            Call::TakeCertificate(chain, done) => {
                self.take_over(&chain, done);
                None
            }
        }
    }

    /// Answers requests until `until` is over, or a new certificate is worth another attempt; `Some` when one of them
    /// ends the task.
    async fn offline(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        until: impl Future<Output = ()>,
    ) -> Option<Ending> {
        tokio::select! {
            () = until => None,
            call = answer_offline(requests, &self.link_state) => self.heed(call),
        }
    }

    /// Tries all addresses once, in their order.
    async fn connect(&self, endpoint: &quinn::Endpoint) -> Result<Link, LinkError> {
        let mut last = LinkError::Protocol("no control address is known");
        for address in &self.addresses {
            self.link_state.send_modify(|state| state.coordinator = Some(address.clone()));
            let held = self.daemon.held();
            let (trust, revocations) = (Arc::clone(&held.trust), Arc::clone(&held.revocations));
            let wall = self.daemon.now().wall;
            let config =
                tls::mutual(trust, revocations, wall, held.me.chain(), &self.identity, ALPN_CONTROL)?;
            match Link::connect(endpoint, address, config, &tls::server_name(&held.trust)).await {
                Ok(link) => return Ok(link),
                Err(error) => {
                    tracing::debug!(address, %error, "cannot reach the coordinator");
                    last = last.or(error);
                }
            }
        }
        Err(last)
    }

    async fn serve(
        &mut self,
        mut link: Link,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<Ending, LinkError> {
        self.hello(&mut link).await?;
        if self.has_ended() {
            self.renewal.hasten(self.daemon.now().wall);
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = link.receive() => self.take_in(&mut link, message?).await?,
                request = requests.recv() => match request {
                    None | Some(Request::Shutdown) => {
                        link.close();
                        return Ok(Ending::Shutdown);
                    }
                    Some(Request::Renew(done)) => self.renew_now(&mut link, done).await?,
                    Some(Request::TakeCertificate(chain, done)) => {
                        if self.take_over(&chain, done) {
                            link.close();
                            return Err(LinkError::Superseded);
                        }
                    }
                    Some(Request::Leave { force: false, done }) if self.has_ended() => {
                        let why = "the certificate has ended, and is not renewed yet".into();
                        // Whoever asked may have given up.
                        let _ = done.send(Err(AskError::NotConnected(why)));
                    }
                    Some(Request::Leave { done, .. }) => return leave(link, done).await,
                },
                _ = ticks.tick() => self.tick(&mut link).await?,
            }
        }
    }

    /// Whether our own certificate has: then the coordinator serves its renewal, and nothing else.
    fn has_ended(&self) -> bool {
        self.daemon.now().wall >= self.daemon.me().not_after()
    }

    async fn hello(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let held = self.daemon.held();
        self.announced = self.endpoints(&held).await.unwrap_or_default();
        self.endpoints_at = self.daemon.now().mono;
        link.send(&ToCoordinator::Hello {
            protocol: PROTOCOL_VERSION,
            trust_version: held.trust.document().version,
            generation: held.policy.generation(),
            epoch: held.revocations.epoch(),
            wireguard_port: self.daemon.config().port,
            endpoints: self.announced.clone(),
            software: concat!("bulkhead ", env!("CARGO_PKG_VERSION")).into(),
        })
        .await
    }

    async fn tick(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let now = self.daemon.now();
        if self.renewal.is_overdue(now.mono) {
            let not_after = self.daemon.me().not_after();
            self.renewal.failed(now.wall, not_after, AskError::Refused("no answer came".into()));
        }
        if self.renewal.is_due(now.wall) {
            self.renewal.asked(now.mono);
            link.send(&ToCoordinator::RenewBegin).await?;
        }
        if self.has_ended() {
            // Anything but the renewal would end the link.
            self.save_again();
            return Ok(());
        }
        if let Some(map) = self.hold.due(&self.daemon.held(), now) {
            tracing::warn!(peers = map.peers.len(), "the map that lacked most peers is applied now");
            let next = self.daemon.held().with_map(map);
            self.install(link, next, Part::Map).await?;
        }
        if now.mono.saturating_sub(self.endpoints_at) >= ENDPOINTS_INTERVAL {
            self.announce(link, now.mono).await?;
        }
        if self.save_again() {
            self.acknowledge(link).await?;
        }
        Ok(())
    }

    async fn announce(&mut self, link: &mut Link, mono: Duration) -> Result<(), LinkError> {
        self.endpoints_at = mono;
        let Some(endpoints) = self.endpoints(&self.daemon.held()).await else { return Ok(()) };
        if endpoints == self.announced {
            return Ok(());
        }
        self.announced.clone_from(&endpoints);
        link.send(&ToCoordinator::Endpoints { wireguard_port: self.daemon.config().port, endpoints }).await
    }

    /// `None` when the kernel could not be asked: an error is not an empty list.
    async fn endpoints(&self, held: &Held) -> Option<Vec<Endpoint>> {
        let config = self.daemon.config();
        match endpoints::discover(&self.netlink, self.interface, config.port, &config.endpoints, held).await {
            Ok(endpoints) => Some(endpoints),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot read the interface addresses");
                None
            }
        }
    }

    /// Brings `next` into force, saves it, and acknowledges it if both are done.
    pub(crate) async fn install(&mut self, link: &mut Link, next: Held, part: Part) -> Result<(), LinkError> {
        self.unsaved.extend([part, Part::Marks]);
        tokio::task::block_in_place(|| self.enforcer.enforce(&next));
        self.daemon.0.held.store(Arc::new(next));
        if self.save() { self.acknowledge(link).await } else { Ok(()) }
    }

    async fn acknowledge(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let held = self.daemon.held();
        let (generation, epoch) = (held.policy.generation(), held.revocations.epoch());
        let (map, wall) = (held.map.sequence, self.daemon.now().wall);
        let receipt = Receipt::sign(&self.identity, held.me.name().clone(), generation, epoch, wall, map);
        let trust_version = held.trust.document().version;
        link.send(&ToCoordinator::Acknowledge { trust_version, generation, epoch, map, receipt }).await
    }

    /// Saves what is unsaved. On failure what is in force stays in force, unacknowledged.
    fn save(&mut self) -> bool {
        let held = self.daemon.held();
        self.save_at = self.daemon.now().mono;
        let saved = tokio::task::block_in_place(|| self.store.save(&held, &self.addresses, &self.unsaved));
        match saved {
            Ok(()) => {
                self.unsaved.clear();
                true
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "in force but not saved, therefore not acknowledged");
                false
            }
        }
    }

    /// Whether something that had failed to be saved now is.
    fn save_again(&mut self) -> bool {
        let waited = self.daemon.now().mono.saturating_sub(self.save_at);
        !self.unsaved.is_empty() && waited >= SAVE_INTERVAL && self.save()
    }

    /// The link ended, or was not made.
    fn lost(&mut self, why: &str) {
        let why = cut(why);
        self.renewal.interrupted();
        self.hold.forget();
        let now = self.daemon.now().wall;
        let mut news = false;
        self.link_state.send_modify(|state| {
            news = state.phase == LinkPhase::Connected || state.last_error.as_deref() != Some(&why);
            if state.phase != LinkPhase::Connecting {
                state.since = now;
            }
            state.phase = LinkPhase::Connecting;
            state.last_error = Some(why.clone());
        });
        // Once per reason, not once per attempt (G9).
        if news {
            tracing::warn!(why, "no link to the coordinator; what is in force stays in force");
        }
    }
}

/// Tells the coordinator to forget us, and waits until it has heard.
async fn leave(mut link: Link, done: Reply) -> Result<Ending, LinkError> {
    match link.send(&ToCoordinator::Leave).await {
        Ok(()) => {
            link.farewell().await;
            Ok(Ending::Left(done))
        }
        Err(error) => {
            // Whoever asked may have given up.
            let _ = done.send(Err(AskError::NotConnected(error.to_string())));
            Err(error)
        }
    }
}

/// An error with its causes as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A request that the task heeds without a link, too.
enum Call {
    End(Ending),
    TakeCertificate(Chain, Reply),
}

/// Answers requests that need a link, until there is one that needs none.
async fn answer_offline(
    requests: &mut mpsc::Receiver<Request>,
    link_state: &watch::Sender<LinkState>,
) -> Call {
    loop {
        let why = || {
            let error = link_state.borrow().last_error.clone();
            AskError::NotConnected(error.unwrap_or_else(|| "still connecting".into()))
        };
        match requests.recv().await {
            None | Some(Request::Shutdown) => return Call::End(Ending::Shutdown),
            Some(Request::Leave { force: true, done }) => return Call::End(Ending::Left(done)),
            Some(Request::TakeCertificate(chain, done)) => return Call::TakeCertificate(chain, done),
            Some(Request::Leave { force: false, done } | Request::Renew(done)) => {
                // Whoever asked may have given up.
                let _ = done.send(Err(why()));
            }
        }
    }
}
