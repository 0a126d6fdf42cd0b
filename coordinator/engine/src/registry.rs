//! The nodes that exist. A name, an identity key, a tunnel key and an address belong to at most one node at a
//! time; a revoked node keeps all of them until it is removed, and its identity key never comes back (L15).

use crate::coordinator::Coordinator;
use crate::pending::PendingRecord;
use crate::person::{Owner, Person};
use crate::refusal::{Class, Refusal};
use crate::seal::{require_seal, seal_for};
use crate::state::State;
use crate::timing::BACKDATE;
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{
    Chain, Claims, Epoch, IdentityPublicKey, KeyBinding, LabelKey, LabelValue, Labels, NodeName, Now,
    OverlayAddrs, Role, Seal, SpiffeId, Timestamp, TunnelPublicKey,
};
use bulkhead_protocol::admin::{self, SetLabels};
use bulkhead_protocol::offload::Offloads;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A certificate as the registry holds it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certified {
    /// Leaf first.
    #[n(0)]
    pub chain: Chain,
    /// The leaf's serial number.
    #[n(1)]
    pub serial: Serial,
    /// The leaf's end; sooner when it was ended before.
    #[n(2)]
    pub not_after: Timestamp,
}

/// Whether a node may take part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NodeState {
    /// It may.
    #[n(0)]
    Active,
    /// Never again.
    #[n(1)]
    Revoked {
        /// Since when.
        #[n(0)]
        time: Timestamp,
        /// Since which revocation list.
        #[n(1)]
        epoch: Epoch,
    },
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRecord {
    /// Unique among nodes.
    #[n(0)]
    pub name: NodeName,
    /// Unique among nodes, for ever.
    #[n(1)]
    pub identity_key: IdentityPublicKey,
    /// Unique among nodes.
    #[n(2)]
    pub tunnel_key: TunnelPublicKey,
    /// Number from which the addresses follow; never used again.
    #[n(3)]
    pub index: u32,
    /// Unique among nodes.
    #[n(4)]
    pub addresses: OverlayAddrs,
    /// What the coordinator vouches for.
    #[n(5)]
    pub labels: Labels,
    /// When it joined.
    #[n(6)]
    pub enrolled: Timestamp,
    /// Its current certificate.
    #[n(7)]
    pub certificate: Certified,
    /// Whether it may take part.
    #[n(8)]
    pub state: NodeState,
    /// The operators' word for those of its labels that are sealed.
    #[n(9)]
    pub seal: Option<Seal>,
    /// The certificate before: a node that was away when it was replaced still holds it.
    #[n(10)]
    pub previous: Option<Certified>,
    /// The node's word for its tunnel key.
    #[n(11)]
    pub binding: KeyBinding,
    /// By an administrator, for this node alone.
    #[cbor(n(12), default)]
    pub offloads_off: Offloads,
    /// Whose it is, when somebody signed in for it.
    #[cbor(n(13), default)]
    pub owner: Option<Owner>,
    /// Of its certificates, when a rule set it.
    #[cbor(n(14), default)]
    pub lifetime: Option<Duration>,
    /// Which workload it is, when it joined by a platform's word.
    #[cbor(n(15), default)]
    pub workload: Option<Person>,
}

impl NodeRecord {
    /// Not revoked.
    #[must_use]
    pub fn is_active(&self) -> bool {
        match self.state {
            NodeState::Active => true,
            NodeState::Revoked { .. } => false,
        }
    }

    /// What its certificate is to say.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            name: &self.name,
            identity_key: self.identity_key,
            tunnel_key: self.tunnel_key,
            binding: self.binding,
            addresses: self.addresses,
            labels: &self.labels,
            seal: self.seal.as_ref(),
            lifetime: self.lifetime,
            // Once the session is over, what it has runs out, and nothing lasts longer.
            ends: self.owner.as_ref().map(|owner| owner.session_until.max(self.certificate.not_after)),
        }
    }

    pub(crate) fn unique(&self) -> Unique<'_> {
        Unique {
            name: &self.name,
            identity_key: self.identity_key,
            tunnel_key: self.tunnel_key,
            addresses: Some(self.addresses),
        }
    }

    /// Whether it is a node of this person.
    pub(crate) fn is_of(&self, person: &Person) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.person == *person)
    }

    /// With how it came to be, for example `token` and the id of one.
    pub(crate) fn audit(&self, how: &str, by: &Value) -> Value {
        json!({ "name": self.name, (how): by, "labels": self.labels, "ipv4": self.addresses.v4,
                "ipv6": self.addresses.v6, "identity_key": self.identity_key.fingerprint().to_string(),
                "serial": self.certificate.serial, "not_after": self.certificate.not_after })
    }
}

/// What makes two nodes one: whatever of it a newcomer shares with a node that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    Name,
    IdentityKey,
    TunnelKey,
    Address,
}

/// What a newcomer wants to have for itself.
#[derive(Clone, Copy)]
pub(crate) struct Unique<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) identity_key: IdentityPublicKey,
    pub(crate) tunnel_key: TunnelPublicKey,
    /// None while it has none.
    pub(crate) addresses: Option<OverlayAddrs>,
}

impl Unique<'_> {
    fn clash(&self, other: &Unique<'_>) -> Option<Clash> {
        let same_address =
            |own: OverlayAddrs, theirs: OverlayAddrs| own.v4 == theirs.v4 || own.v6 == theirs.v6;
        let shares = [
            (other.name == self.name, Clash::Name),
            (other.identity_key == self.identity_key, Clash::IdentityKey),
            (other.tunnel_key == self.tunnel_key, Clash::TunnelKey),
            (
                self.addresses
                    .is_some_and(|own| other.addresses.is_some_and(|theirs| same_address(own, theirs))),
                Clash::Address,
            ),
        ];
        shares.into_iter().find_map(|(shared, what)| shared.then_some(what))
    }
}

impl State {
    /// What a newcomer shares with another, be it a node or one that is to be. One pass over all: enrolment is rare
    /// and keys are short. A machine that waits already, proved by its identity key, is not in its own way.
    pub(crate) fn clash(&self, newcomer: &Unique<'_>) -> Option<Clash> {
        if self.nodes.contains_key(newcomer.name) {
            return Some(Clash::Name);
        }
        if self.revoked.knows(&newcomer.identity_key) {
            return Some(Clash::IdentityKey);
        }
        let waiting = self.pending.values().filter(|other| other.identity_key != newcomer.identity_key);
        let nodes = self.nodes.values().map(NodeRecord::unique);
        nodes.chain(waiting.map(PendingRecord::unique)).find_map(|other| newcomer.clash(&other))
    }

    pub(crate) fn node(&self, name: &NodeName) -> Result<&NodeRecord, Refusal> {
        self.nodes.get(name).ok_or_else(|| {
            Refusal::no_such("node", name.as_str()).help("`bulkheadctl node list` shows the nodes that exist")
        })
    }

    /// A node that can still be given something.
    pub(crate) fn active_node(&self, name: &NodeName) -> Result<&NodeRecord, Refusal> {
        let node = self.node(name)?;
        if node.is_active() {
            return Ok(node);
        }
        Err(Refusal::new(Class::Conflict, "BH-C112", format!("node {name} is revoked")).help(format!(
            "it comes back only by enrolling anew, once `bulkheadctl node remove {name}` freed its name"
        )))
    }
}

/// What a certificate is to say about a node; the rest follows from configuration and time.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) identity_key: IdentityPublicKey,
    pub(crate) tunnel_key: TunnelPublicKey,
    pub(crate) binding: KeyBinding,
    pub(crate) addresses: OverlayAddrs,
    pub(crate) labels: &'a Labels,
    pub(crate) seal: Option<&'a Seal>,
    /// None: as configured.
    pub(crate) lifetime: Option<Duration>,
    /// The certificate lasts no longer, whatever its lifetime.
    pub(crate) ends: Option<Timestamp>,
}

impl Coordinator {
    /// Makes a certificate. Every field comes from the registry or from us, none from a request (D13).
    pub(crate) fn certify(
        &self,
        subject: &Subject<'_>,
        serial: Serial,
        now: Now,
    ) -> Result<Certified, Refusal> {
        let backdated = Timestamp(now.wall.0.saturating_sub(BACKDATE.as_secs()));
        let not_before = backdated.max(self.config.issuer.not_before());
        let seal = seal_for(subject, self.config.trust.document(), now)?;
        let ends = [
            now.wall.plus(subject.lifetime.unwrap_or(self.config.certificate_lifetime)),
            seal.map_or(Timestamp(u64::MAX), |seal| seal.statement().not_after),
            subject.ends.unwrap_or(Timestamp(u64::MAX)),
            self.config.issuer.not_after(),
        ];
        let not_after = ends.into_iter().fold(Timestamp(u64::MAX), Timestamp::min);
        // What is over already has to begin before its end all the same.
        let not_after = not_after.max(not_before.plus(Duration::from_secs(1)));
        let claims = Claims {
            id: SpiffeId {
                trust_domain: self.config.trust.document().trust_domain.clone(),
                role: Role::Node,
                name: subject.name.clone(),
            },
            identity_key: subject.identity_key,
            tunnel_key: Some(subject.tunnel_key),
            addresses: Some(subject.addresses),
            labels: subject.labels.clone(),
            serial,
            not_before,
            not_after,
            seal: seal.cloned(),
            // Nobody asks for it without a seal.
            binding: seal.map(|_| subject.binding),
        };
        require_seal(&claims, self.config.trust.document())?;
        let chain = self.config.issuer.issue(&claims).map_err(|error| {
            Refusal::new(Class::Unprocessable, "BH-C110", error.to_string())
                .help("the issuing CA's own limits forbid this certificate")
        })?;
        Ok(Certified { chain, serial, not_after })
    }

    pub(crate) fn node_view(&self, node: &NodeRecord) -> admin::Node {
        let seen = self.links.seen(&node.name);
        let acknowledged = self.receipts.latest(&node.name);
        let state = match node.state {
            NodeState::Active => admin::NodeState::Active,
            NodeState::Revoked { .. } => admin::NodeState::Revoked,
        };
        admin::Node {
            name: node.name.to_string(),
            labels: node.labels.clone(),
            ipv4: node.addresses.v4.to_string(),
            ipv6: node.addresses.v6.to_string(),
            fingerprint: node.identity_key.fingerprint().to_string(),
            identity_key: Some(node.identity_key),
            sealed_until: node.seal.as_ref().map(|seal| seal.statement().not_after),
            state,
            enrolled: node.enrolled,
            certificate_expires: node.certificate.not_after,
            connected: self.links.is_connected(&node.name),
            last_seen: seen.map(|seen| seen.last),
            observed: seen.map(|seen| seen.observed.to_string()),
            generation: acknowledged.map(|view| view.generation),
            epoch: acknowledged.map(|view| view.epoch),
            permitted_peers: self.reach.count(&node.name),
            owner: node.owner.as_ref().map(Owner::view),
        }
    }
}

/// The labels after a change.
pub(crate) fn relabelled(labels: &Labels, change: &SetLabels) -> Result<Labels, Refusal> {
    let refuse = |error: bulkhead_identity::name::NameError| {
        Refusal::new(Class::BadRequest, "BH-C111", error.to_string())
            .help("label keys and values are lower-case letters, digits, `.`, `_` and `-`, at most 63")
    };
    let mut next: BTreeMap<LabelKey, LabelValue> =
        labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in &change.labels {
        let key = LabelKey::parse(key).map_err(refuse)?;
        match value {
            Some(value) => next.insert(key, LabelValue::parse(value).map_err(refuse)?),
            None => next.remove(&key),
        };
    }
    Labels::new(next).map_err(refuse)
}
