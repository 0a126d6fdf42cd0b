//! The conversation with a node over its control link. Who the node is was proved by the handshake; what it
//! may have follows from the registry. It is sent only what is newer than what it holds, and nothing at all
//! when it holds something newer than we have: then we are a backup, and must not undo what came after. A node that
//! comes back with a certificate that ended while we were away may renew it, and until then nothing else.

use crate::command::ConnectionId;
use crate::coordinator::Coordinator;
use crate::effect::{CloseReason, Effects};
use crate::entropy::Entropy;
use crate::links::{Held, Link};
use bulkhead_identity::{NodeName, Now, Role, VerifiedIdentity, range};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::admin::ReceiptView;
use bulkhead_protocol::control::{Endpoint, MAX_ENDPOINTS, Receipt, ToCoordinator, ToNode};
use std::net::{IpAddr, SocketAddr};

/// A frame with what the rim knows about it.
pub(crate) struct Arrival<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) arrived_ms: u64,
    pub(crate) entropy: &'a Entropy,
}

impl Coordinator {
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        identity: &VerifiedIdentity,
        observed: SocketAddr,
        now: Now,
        effects: &mut Effects,
    ) {
        let claims = identity.claims();
        let name = identity.name();
        // The key decides, not the name: a name can be removed and given to another node.
        let known = self.state.nodes.get(name);
        let known = known.filter(|node| node.identity_key == claims.identity_key);
        let ours = claims.id.role == Role::Node
            && claims.id.trust_domain == self.config.trust.document().trust_domain;
        let expired = !identity.valid_at(now.wall);
        let refused = match known.filter(|_| ours) {
            Some(node) if !node.is_active() || self.state.revoked.knows(&claims.identity_key) => {
                Some(CloseReason::Revoked)
            }
            Some(node) if expired && !self.may_still_renew(node, identity, now) => Some(CloseReason::Expired),
            Some(_) => None,
            None => Some(CloseReason::Unknown),
        };
        if let Some(reason) = refused {
            effects.close(connection, reason);
            return;
        }
        let observed = SocketAddr::new(observed.ip().to_canonical(), observed.port());
        let link = Link {
            name: name.clone(),
            observed,
            serial: claims.serial,
            held: None,
            ahead: false,
            set_aside: false,
            expired,
            sent: None,
            proofs: Vec::new(),
            challenge: None,
        };
        if let Some(replaced) = self.links.connect(connection, link, now) {
            effects.close(replaced, CloseReason::Replaced);
        }
    }

    pub(crate) fn message(
        &mut self,
        arrival: &Arrival<'_>,
        message: ToCoordinator,
        now: Now,
        effects: &mut Effects,
    ) {
        // A frame that was under way when the link was closed.
        let Some(link) = self.links.link(arrival.connection) else { return };
        let (name, greeted, expired) = (link.name.clone(), link.held.is_some(), link.expired);
        self.source = Some(link.observed.ip());
        self.links.touch(&name, now);
        let is_hello = matches!(message, ToCoordinator::Hello { .. });
        let out_of_turn = match (is_hello, greeted) {
            (true, true) => Some("a second hello"),
            (false, false) => Some("a message before hello"),
            (true, false) | (false, true) => (expired && !is_renewal(&message))
                .then_some("nothing but a renewal before the certificate is renewed"),
        };
        if let Some(how) = out_of_turn {
            self.links.disconnect(arrival.connection);
            effects.close(arrival.connection, CloseReason::Misbehaved(how));
            return;
        }
        match message {
            ToCoordinator::Hello {
                protocol,
                trust_version,
                generation,
                epoch,
                wireguard_port,
                endpoints,
                ..
            } => {
                self.locate(&name, wireguard_port, &endpoints);
                let held = Held { trust_version, generation, epoch };
                self.hello(arrival.connection, protocol, held, now, effects);
                self.plan_reissue(&name, arrival.entropy);
            }
            ToCoordinator::Endpoints { wireguard_port, endpoints } => {
                self.locate(&name, wireguard_port, &endpoints);
                self.flush_due_maps(now, effects);
            }
            ToCoordinator::Acknowledge { trust_version, generation, epoch, map, receipt } => {
                let held = Held { trust_version, generation, epoch };
                let matches =
                    receipt.generation == generation && receipt.epoch == epoch && receipt.map == map;
                self.acknowledge(arrival, &name, held, &receipt, matches, effects);
            }
            ToCoordinator::WantSnapshot => {
                if let Some(link) = self.links.link_mut(arrival.connection) {
                    link.sent = None;
                }
                self.maps.mark(&name);
                self.flush_due_maps(now, effects);
            }
            ToCoordinator::RenewBegin => self.renew_begin(arrival, now, effects),
            ToCoordinator::RenewFinish { request } => {
                self.renew_finish(arrival, &name, &request, now, effects)
            }
            // For the rim's log; nothing here depends on it.
            ToCoordinator::Refused { .. } => {}
            ToCoordinator::Flows { ask, flows, truncated } => {
                self.answered(arrival.connection, ask, (flows, truncated), now, effects);
            }
            ToCoordinator::Leave => {
                if let Err(refusal) = self.leave(&name, now, effects) {
                    refuse(arrival.connection, "leave", &refusal.message, effects);
                }
            }
        }
    }

    fn hello(
        &mut self,
        connection: ConnectionId,
        protocol: u32,
        held: Held,
        now: Now,
        effects: &mut Effects,
    ) {
        if protocol != PROTOCOL_VERSION {
            self.links.disconnect(connection);
            effects.close(connection, CloseReason::Protocol);
            return;
        }
        let ahead = held.is_ahead_of(self.held());
        let set_aside = ahead || self.state.restored;
        let Some(link) = self.links.link_mut(connection) else { return };
        (link.held, link.ahead, link.set_aside) = (Some(held), ahead, set_aside);
        let (observed, name) = (Endpoint(link.observed), link.name.clone());
        let (wall, offloads_off) = (now.wall, self.offloads_off(&name));
        let session_until = self.session_until(&name);
        let welcome =
            ToNode::Welcome { protocol: PROTOCOL_VERSION, wall, observed, offloads_off, session_until };
        effects.send(connection, welcome);
        if set_aside {
            let why = "this coordinator was restored from a backup, and may know less than you";
            refuse(connection, "hello", why, effects);
            return;
        }
        self.bring_up_to_date(connection, held, now, effects);
    }

    /// Sends everything that is newer than `held`. Revocations come before the policy and the map, so that
    /// nothing is admitted that is refused a moment later. A link without a valid certificate is sent nothing.
    pub(crate) fn bring_up_to_date(
        &mut self,
        connection: ConnectionId,
        held: Held,
        now: Now,
        effects: &mut Effects,
    ) {
        if self.links.link(connection).is_none_or(|link| link.expired) {
            return;
        }
        let ours = self.held();
        for document in self.trust_after(held.trust_version) {
            effects.send(connection, document);
        }
        if held.epoch < ours.epoch {
            effects.send(connection, ToNode::Revocations { list: self.state.revoked.list.clone() });
        }
        let Some(link) = self.links.link_mut(connection) else { return };
        link.sent = None;
        let (name, serial) = (link.name.clone(), link.serial);
        if self.state.nodes.get(&name).is_some_and(|node| node.certificate.serial != serial) {
            self.send_certificate(&name, effects);
        }
        // Also when it holds this generation: its labels may have changed since it was given its part of it.
        self.send_slice(connection, &name, effects);
        self.send_map(connection, &name, now, effects);
        if let Some(link) = self.links.link_mut(connection) {
            link.prove_by_map(ours.generation);
        }
        self.flush_due_maps(now, effects);
    }

    /// What a node holds that follows us.
    pub(crate) fn held(&self) -> Held {
        Held {
            trust_version: self.config.trust.document().version,
            generation: self.state.generation(),
            epoch: self.state.revoked.epoch,
        }
    }

    fn locate(&mut self, name: &NodeName, port: u16, reported: &[Endpoint]) {
        let Some(seen) = self.links.seen(name) else { return };
        let endpoints = self.endpoints(seen.observed.ip(), port, reported);
        if self.links.set_endpoints(name, endpoints) {
            self.refresh(name);
        }
    }

    /// Where peers are told to look for a node: the address we saw with its tunnel port, then what it reports.
    fn endpoints(&self, observed: IpAddr, port: u16, reported: &[Endpoint]) -> Vec<Endpoint> {
        let observed = Endpoint(SocketAddr::new(observed, port));
        let mut endpoints = Vec::new();
        for endpoint in std::iter::once(&observed).chain(reported) {
            if self.is_endpoint(*endpoint) && !endpoints.contains(endpoint) {
                endpoints.push(*endpoint);
            }
        }
        endpoints.truncate(MAX_ENDPOINTS);
        endpoints
    }

    /// Whether peers may be sent there. Loopback, multicast and the overlay itself would make a peer's
    /// datagrams go to itself, to a crowd, or into its own tunnels; a link-local address means nothing
    /// without its interface.
    fn is_endpoint(&self, Endpoint(address): Endpoint) -> bool {
        let document = self.config.trust.document();
        let ip = address.ip().to_canonical();
        let usable = match ip {
            IpAddr::V4(ip) => {
                !ip.is_link_local() && !ip.is_broadcast() && !range::contains_v4(document.overlay_v4, ip)
            }
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !range::contains_v6(document.overlay_v6, ip),
        };
        usable && address.port() != 0 && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
    }

    fn acknowledge(
        &mut self,
        arrival: &Arrival<'_>,
        name: &NodeName,
        held: Held,
        receipt: &Receipt,
        matches: bool,
        effects: &mut Effects,
    ) {
        let Some(node) = self.state.nodes.get(name) else { return };
        if !matches || receipt.node != *name || !receipt.verify(&node.identity_key) {
            refuse(arrival.connection, "acknowledge", "the receipt is not this node's word for it", effects);
            return;
        }
        let ahead = held.is_ahead_of(self.held());
        if let Some(link) = self.links.link_mut(arrival.connection) {
            (link.held, link.ahead) = (Some(held), ahead);
            link.set_aside |= ahead;
        }
        if ahead {
            return;
        }
        // What an earlier link proved stays proved: a node's generation only grows.
        let before = self.receipts.latest(name).map_or(0, |view| view.generation);
        let proved = self.links.link(arrival.connection).and_then(|link| link.proved(receipt));
        let generation = before.min(receipt.generation.0).max(proved.map_or(0, |proved| proved.0));
        let view = ReceiptView {
            node: name.to_string(),
            epoch: receipt.epoch.0,
            generation,
            wall: receipt.wall,
            arrived_ms: arrival.arrived_ms,
        };
        self.receipts.record(name, view);
    }
}

/// What a node may say while its certificate has ended.
fn is_renewal(message: &ToCoordinator) -> bool {
    match message {
        ToCoordinator::Hello { .. } | ToCoordinator::RenewBegin | ToCoordinator::RenewFinish { .. } => true,
        ToCoordinator::Endpoints { .. }
        | ToCoordinator::Acknowledge { .. }
        | ToCoordinator::WantSnapshot
        | ToCoordinator::Refused { .. }
        | ToCoordinator::Leave
        | ToCoordinator::Flows { .. } => false,
    }
}

/// Tells a node that something was not done.
pub(crate) fn refuse(connection: ConnectionId, what: &str, why: &str, effects: &mut Effects) {
    let clean: String = why.chars().filter(|c| !c.is_control()).take(256).collect();
    effects.send(connection, ToNode::Refused { what: what.to_owned(), why: clean });
}
