//! What outlives the process: the sum of all events. `replay` is the only thing that changes it, for an event
//! that was just made as for one that was read back, so the two can never differ. An event that contradicts
//! the state changes nothing.

use crate::allocate::FIRST_INDEX;
use crate::event::{Change, Event};
use crate::keys::ApiKey;
use crate::pending::PendingRecord;
use crate::policy::{PolicyRecord, drop_bundles, remember};
use crate::registry::{Certified, NodeRecord, NodeState};
use crate::revoke::{Audience, RevocationRecord, Revoked};
use crate::timing::TOKEN_MEMORY;
use crate::tokens::TokenRecord;
use crate::trust::TrustRecord;
use bulkhead_identity::{Generation, NodeName, Timestamp};
use bulkhead_protocol::offload::Offloads;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use std::collections::BTreeMap;

/// Everything that events add up to. `default()` knows nobody.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct State {
    #[n(0)]
    pub(crate) nodes: BTreeMap<NodeName, NodeRecord>,
    /// Of the next node.
    #[n(1)]
    pub(crate) next_index: u32,
    #[n(2)]
    pub(crate) tokens: BTreeMap<String, TokenRecord>,
    #[n(3)]
    pub(crate) revoked: Revoked,
    /// By epoch.
    #[n(4)]
    pub(crate) revocations: BTreeMap<u64, RevocationRecord>,
    /// Oldest first; the last one is in force, and has its bundle.
    #[n(5)]
    pub(crate) policies: Vec<PolicyRecord>,
    /// SHA-256 of the bootstrap secret, until it is spent.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub(crate) bootstrap: Option<[u8; 32]>,
    #[n(7)]
    pub(crate) api_keys: BTreeMap<String, ApiKey>,
    /// Restored from a backup and not accepted yet.
    #[n(8)]
    pub(crate) restored: bool,
    /// Every trust document after the first, oldest first; the last one is in force.
    #[n(20)]
    pub(crate) trusts: Vec<TrustRecord>,
    /// On every node, by an administrator.
    #[cbor(n(21), default)]
    pub(crate) offloads_off: Offloads,
    /// Machines that wait for an administrator.
    #[cbor(n(30), default)]
    pub(crate) pending: BTreeMap<NodeName, PendingRecord>,
    /// SHA-256 of the device code of each machine that may ask how its sign-in ended, with what it became.
    #[cbor(n(31), default)]
    pub(crate) devices: BTreeMap<ByteArray<32>, NodeName>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            next_index: FIRST_INDEX,
            tokens: BTreeMap::new(),
            revoked: Revoked::default(),
            revocations: BTreeMap::new(),
            policies: Vec::new(),
            bootstrap: None,
            api_keys: BTreeMap::new(),
            restored: false,
            trusts: Vec::new(),
            offloads_off: Offloads::NONE,
            pending: BTreeMap::new(),
            devices: BTreeMap::new(),
        }
    }
}

/// An event does not fit the state it is applied to: the journal is not what this program wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event does not fit what came before it: {0}")]
pub struct ReplayError(pub String);

pub(crate) fn contradiction<T>(what: impl Into<String>) -> Result<T, ReplayError> {
    Err(ReplayError(what.into()))
}

impl State {
    /// Applies one event of the journal.
    ///
    /// # Errors
    /// When the event contradicts the state; the state is then unchanged.
    pub fn replay(&mut self, event: &Event) -> Result<(), ReplayError> {
        let time = event.time;
        if event.change.revocation().is_some_and(|step| step.epoch <= self.revoked.epoch) {
            return contradiction("the epoch does not grow");
        }
        match &event.change {
            Change::Initialised { trust: _, bootstrap } => {
                if *self != Self::default() {
                    return contradiction("a journal begins once");
                }
                self.bootstrap = Some(*bootstrap);
            }
            Change::TokenCreated { token } => self.create_token(token, time)?,
            Change::TokenRevoked { id } => self.token_mut(id)?.revoked = true,
            Change::NodeEnrolled { token, node } => self.enrol(token, node)?,
            Change::NodeRenewed { name, tunnel_key, certificate, revocation, binding } => {
                let old = self.replace_certificate(name, certificate, |node| {
                    (node.tunnel_key, node.binding) = (*tunnel_key, *binding);
                })?;
                if let Some(step) = revocation {
                    self.revoked.advance(step, time);
                    self.revoked.add_serial(&old);
                }
            }
            Change::NodeRelabelled { name, labels, certificate, revocation, seal } => {
                let old = self.replace_certificate(name, certificate, |node| {
                    node.labels.clone_from(labels);
                    node.seal.clone_from(seal);
                })?;
                self.revoked.advance(revocation, time);
                self.revoked.add_serial(&old);
            }
            Change::NodeRevoked { name, reason: _, audience, revocation, removed } => {
                self.active_mut(name)?;
                self.revoked.advance(revocation, time);
                self.revoke(name, audience, *removed, time);
            }
            Change::NodeRemoved { name } => match self.nodes.get(name) {
                Some(node) if !node.is_active() => self.remove_node(name),
                Some(_) | None => return contradiction(format!("node {name} is not revoked")),
            },
            Change::PolicyApplied { policy } => self.apply_policy(policy)?,
            Change::PolicyConfirmed { generation, without: _ } => self.confirm_policy(*generation)?,
            Change::OffloadsSwitched { node: Some(name), off } => self.active_mut(name)?.offloads_off = *off,
            Change::OffloadsSwitched { node: None, off } => self.offloads_off = *off,
            Change::SessionOpened { key } => self.open_session(key, time)?,
            Change::SessionClosed { id } | Change::KeyRevoked { id } => self.end_key(id)?,
            Change::KeyCreated { key } => self.create_key(key, time)?,
            Change::KeyUsed { id } => self.use_key(id, time)?,
            Change::Refused { .. } | Change::RefusalsCounted { .. } => {}
            Change::Restored => self.restored = true,
            Change::RestoreAccepted { revocation, policy } => {
                if let Some(policy) = policy {
                    self.apply_policy(policy)?;
                }
                self.revoked.advance(revocation, time);
                self.accept_restore(time);
            }
            Change::TrustUpdated { document } => self.follow_trust(document, time)?,
            Change::RevocationsSigned { revocation } => self.revoked.advance(revocation, time),
            Change::NodePending { pending, device } => self.add_pending(pending, device)?,
            Change::PendingEnded { name, reason: _ } => self.end_pending(name)?,
            Change::NodeApproved { node } => self.approve(node)?,
            Change::PersonEnrolled { node, device } => {
                self.add_node(node)?;
                self.devices.insert(*device, node.name.clone());
            }
            Change::WorkloadEnrolled { provider: _, workload: _, node } => self.add_node(node)?,
            Change::NodeSignedIn { signed_in, revocation } => {
                let old = self.sign_in_node(signed_in)?;
                if let Some(step) = revocation {
                    self.revoked.advance(step, time);
                    self.revoked.add_serial(&old);
                }
            }
            Change::PersonRefreshed { person, name, session_until, administrator, not_prolonged } => {
                self.refresh_person((person, name), *session_until, not_prolonged, time);
                self.follow_administrator(person, *administrator);
            }
            Change::NodeSessionEnded { name, labels, revocation, reason: _ } => {
                let ended = self.end_node_session(name, labels, time)?;
                if let Some(step) = revocation {
                    self.revoked.advance(step, time);
                    self.revoked.add_serial(&ended);
                }
            }
            Change::PersonDenied { person, reason: _ } => self.deny_person(person, time),
            Change::AdministratorSignedIn { key } => self.create_key(key, time)?,
        }
        Ok(())
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<&PolicyRecord> {
        self.policies.last()
    }

    /// 0 when there never was a policy.
    pub(crate) fn generation(&self) -> Generation {
        self.policy().map_or(Generation(0), |policy| policy.generation)
    }

    fn create_token(&mut self, token: &TokenRecord, time: Timestamp) -> Result<(), ReplayError> {
        if self.tokens.contains_key(&token.id) {
            return contradiction(format!("two tokens {}", token.id));
        }
        self.tokens.retain(|_, old| old.expires.plus(TOKEN_MEMORY) > time);
        self.tokens.insert(token.id.clone(), token.clone());
        Ok(())
    }

    fn token_mut(&mut self, id: &str) -> Result<&mut TokenRecord, ReplayError> {
        self.tokens.get_mut(id).ok_or_else(|| ReplayError(format!("no token {id}")))
    }

    pub(crate) fn active_mut(&mut self, name: &NodeName) -> Result<&mut NodeRecord, ReplayError> {
        let node = self.nodes.get_mut(name).filter(|node| node.is_active());
        node.ok_or_else(|| ReplayError(format!("no active node {name}")))
    }

    /// Spends one use of the token and creates the node: both or neither.
    fn enrol(&mut self, token: &str, node: &NodeRecord) -> Result<(), ReplayError> {
        let Some(uses_left) = self.token_mut(token)?.uses_left.checked_sub(1) else {
            return contradiction(format!("token {token} has no uses left"));
        };
        self.add_node(node)?;
        self.token_mut(token)?.uses_left = uses_left;
        Ok(())
    }

    /// Creates a node. Should its machine have waited for an administrator, it waits no longer.
    pub(crate) fn add_node(&mut self, node: &NodeRecord) -> Result<(), ReplayError> {
        if let Some(clash) = self.clash(&node.unique()) {
            return contradiction(format!("node {} has the {clash:?} of another", node.name));
        }
        if node.index < self.next_index {
            return contradiction(format!("number {} was used before", node.index));
        }
        self.forget_waiting(&node.identity_key);
        self.next_index = node.index.saturating_add(1);
        self.nodes.insert(node.name.clone(), node.clone());
        Ok(())
    }

    /// Returns the certificate that was replaced.
    pub(crate) fn replace_certificate(
        &mut self,
        name: &NodeName,
        certificate: &Certified,
        change: impl FnOnce(&mut NodeRecord),
    ) -> Result<Certified, ReplayError> {
        let node = self.active_mut(name)?;
        change(node);
        let replaced = std::mem::replace(&mut node.certificate, certificate.clone());
        node.previous = Some(replaced.clone());
        Ok(replaced)
    }

    fn revoke(&mut self, name: &NodeName, audience: &Audience, removed: bool, time: Timestamp) {
        let epoch = self.revoked.epoch;
        let record = RevocationRecord { name: name.clone(), audience: audience.clone() };
        self.revocations.insert(epoch.0, record);
        while self.revocations.len() > crate::revoke::MAX_REVOCATION_RECORDS {
            self.revocations.pop_first();
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.state = NodeState::Revoked { time, epoch };
        self.revoked.add_serial(&node.certificate);
        self.revoked.add_key(node.identity_key, node.certificate.not_after);
        if removed {
            self.remove_node(name);
        }
    }

    fn remove_node(&mut self, name: &NodeName) {
        self.nodes.remove(name);
        self.devices.retain(|_, node| node != name);
    }

    fn apply_policy(&mut self, policy: &PolicyRecord) -> Result<(), ReplayError> {
        if policy.generation <= self.generation() {
            return contradiction(format!("generation {} is not newer", policy.generation.0));
        }
        let back_to = policy.confirmation.as_ref().map(|confirmation| confirmation.back_to);
        let known = |generation| self.policies.iter().any(|old| old.generation == generation);
        if let Some(back_to) = back_to.filter(|back_to| *back_to != Generation(0) && !known(*back_to)) {
            return contradiction(format!("there is no generation {} to go back to", back_to.0));
        }
        remember(&mut self.policies, policy.clone());
        Ok(())
    }

    fn confirm_policy(&mut self, generation: Generation) -> Result<(), ReplayError> {
        let current = self.policies.last_mut().filter(|policy| policy.generation == generation);
        if current.and_then(|policy| policy.confirmation.take()).is_none() {
            return contradiction(format!("generation {} waits for no confirmation", generation.0));
        }
        drop_bundles(&mut self.policies);
        Ok(())
    }

    fn open_session(&mut self, key: &ApiKey, time: Timestamp) -> Result<(), ReplayError> {
        if self.bootstrap.is_none() {
            return contradiction("the bootstrap secret was spent before");
        }
        self.create_key(key, time)?;
        self.bootstrap = None;
        Ok(())
    }

    /// What the backup says about secrets is old: a token that was spent or a key that was closed since must
    /// not come back, so all of them end. So do the sessions of people, whom their provider may have denied since, and
    /// the machines that wait, which may have been refused: they sign in again.
    fn accept_restore(&mut self, time: Timestamp) {
        self.restored = false;
        self.bootstrap = None;
        self.api_keys.clear();
        for token in self.tokens.values_mut() {
            token.revoked = true;
        }
        for owner in self.nodes.values_mut().filter_map(|node| node.owner.as_mut()) {
            owner.session_until = owner.session_until.min(time);
            owner.denied = true;
        }
        self.pending.clear();
        let Self { devices, nodes, .. } = self;
        devices.retain(|_, node| nodes.contains_key(node));
    }
}
