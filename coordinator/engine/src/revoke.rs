//! Revocation. One event refuses a node by key and serial number and makes the next revocation list; the list
//! goes first to the nodes that may talk to the victim, its own link is closed, then everyone else hears of it.
//! Receipts say who enforces it; for the rest, certificates say when they stop by themselves.

use crate::coordinator::Coordinator;
use crate::effect::{CloseReason, Effects, Reply};
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::registry::{Certified, NodeState};
use crate::timing::REVOCATION_MEMORY;
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::revocation::{MAX_REVOKED_KEYS, MAX_REVOKED_SERIALS};
use bulkhead_identity::{Epoch, IdentityPublicKey, Issuer, NodeName, Now, RevocationList, Timestamp};
use bulkhead_protocol::admin::{Revoke, RevokeStatus, Waiting};
use bulkhead_protocol::control::ToNode;
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many revocations can be asked about; older ones are in the audit log only.
pub(crate) const MAX_REVOCATION_RECORDS: usize = 1024;
/// Longest reason or message that an administrator can leave.
pub(crate) const MAX_REMARK_BYTES: usize = 512;

/// The next signed revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RevocationStep {
    /// Its epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// The signed list.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub list: Vec<u8>,
}

/// Nodes that could talk to a revoked one, each with the time at which it stops by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Audience(#[n(0)] pub Vec<(NodeName, Timestamp)>);

/// A revocation whose receipts can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RevocationRecord {
    #[n(0)]
    pub(crate) name: NodeName,
    #[n(1)]
    pub(crate) audience: Audience,
}

/// Everything that is refused, and the list in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Revoked {
    #[n(0)]
    pub(crate) epoch: Epoch,
    /// As signed; empty at epoch 0.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) list: Vec<u8>,
    /// With the end of the certificate; forgotten [`REVOCATION_MEMORY`] after it.
    #[n(2)]
    serials: BTreeMap<Serial, Timestamp>,
    /// With the end of the last certificate. Never forgotten, but listed only [`REVOCATION_MEMORY`] long.
    #[n(3)]
    keys: BTreeMap<IdentityPublicKey, Timestamp>,
}

impl Revoked {
    /// Whether this key was refused for good.
    pub(crate) fn knows(&self, key: &IdentityPublicKey) -> bool {
        self.keys.contains_key(key)
    }

    /// Begins a new epoch: what ended long ago is no longer listed.
    fn begin(&mut self, epoch: Epoch, time: Timestamp) {
        self.epoch = epoch;
        self.serials.retain(|_, end| is_listed(*end, time));
    }

    pub(crate) fn advance(&mut self, step: &RevocationStep, time: Timestamp) {
        self.begin(step.epoch, time);
        self.list.clone_from(&step.list);
    }

    pub(crate) fn add_serial(&mut self, certificate: &Certified) {
        // Of a certificate that was ended before its time, the later end is the true one.
        let end = self.serials.entry(certificate.serial).or_insert(certificate.not_after);
        *end = (*end).max(certificate.not_after);
    }

    pub(crate) fn add_key(&mut self, key: IdentityPublicKey, end: Timestamp) {
        self.keys.insert(key, end);
    }

    /// Keys alone; see [`Coordinator::link_revocations`].
    pub(crate) fn keys_list(&self, time: Timestamp) -> RevocationList {
        let listed = self.keys.iter().filter(|(_, end)| is_listed(**end, time));
        let keys = listed.map(|(key, _)| *key).collect();
        RevocationList { epoch: self.epoch, issued: time, serials: Vec::new(), keys }
    }

    fn sign(&self, issuer: &Issuer, time: Timestamp) -> Result<RevocationStep, Refusal> {
        let list = RevocationList { serials: self.serials.keys().copied().collect(), ..self.keys_list(time) };
        if list.serials.len() > MAX_REVOKED_SERIALS || list.keys.len() > MAX_REVOKED_KEYS {
            return Err(Refusal::new(Class::Unavailable, "BH-C130", "the revocation list is full")
                .help("entries leave the list a week after their certificates end"));
        }
        Ok(RevocationStep { epoch: self.epoch, list: list.sign(issuer.key(), Some(issuer.certificate())) })
    }
}

fn is_listed(end: Timestamp, time: Timestamp) -> bool {
    end.plus(REVOCATION_MEMORY) > time
}

/// How far the epoch moves.
#[derive(Clone, Copy)]
pub(crate) enum Stride {
    Next,
    /// Over whatever nodes may have seen from the coordinator that the backup was not taken from.
    Restore,
}

/// Larger than the number of changes any deployment makes between a backup and its restore.
pub(crate) const RESTORE_STRIDE: u64 = 1 << 20;

impl Stride {
    pub(crate) fn after(self, counter: u64) -> u64 {
        counter.saturating_add(match self {
            Self::Next => 1,
            Self::Restore => RESTORE_STRIDE,
        })
    }
}

impl Coordinator {
    /// Signs the list that follows when `add` has added to what is refused.
    pub(crate) fn next_revocations(
        &self,
        stride: Stride,
        now: Now,
        add: impl FnOnce(&mut Revoked),
    ) -> Result<RevocationStep, Refusal> {
        let mut next = self.state.revoked.clone();
        next.begin(Epoch(stride.after(next.epoch.0)), now.wall);
        add(&mut next);
        next.sign(&self.config.issuer, now.wall)
    }

    pub(crate) fn node_revoke(
        &mut self,
        actor: Actor,
        name: &NodeName,
        revoke: Revoke,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let reason = remark(revoke.reason)?;
        // Asking twice is harmless: the answer is the revocation that happened.
        if let NodeState::Revoked { epoch, .. } = self.state.node(name)?.state {
            return self.revoke_status(epoch.0);
        }
        // Not even a restore that waits for its acceptance stands in the way: refusing more is always safe, and
        // whoever accepts it may have to revoke again what the backup does not know as revoked.
        let epoch = self.refuse_node(actor, name, reason, false, now, effects)?;
        self.revoke_status(epoch.0)
    }

    /// A node that leaves is revoked by its own wish, and forgotten.
    pub(crate) fn leave(&mut self, name: &NodeName, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        let reason = "left".to_owned();
        self.refuse_node(Actor::Node(name.clone()), name, reason, true, now, effects).map(drop)
    }

    fn refuse_node(
        &mut self,
        actor: Actor,
        name: &NodeName,
        reason: String,
        removed: bool,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Epoch, Refusal> {
        let node = self.state.node(name)?;
        let (key, certificate) = (node.identity_key, node.certificate.clone());
        let revocation = self.next_revocations(Stride::Next, now, |refused| {
            refused.add_serial(&certificate);
            refused.add_key(key, certificate.not_after);
        })?;
        let epoch = revocation.epoch;
        let audience = self.audience(name, certificate.not_after);
        let first: BTreeSet<_> = audience.0.iter().map(|(name, _)| name.clone()).collect();
        let change = Change::NodeRevoked { name: name.clone(), reason, audience, revocation, removed };
        self.mark_peers(name);
        self.commit(actor, change, now, effects)?;
        self.receipts.track_epoch(epoch);
        let victim = self.links.connection(name);
        self.forget(name);
        self.push_revocations(effects, |name| first.contains(name));
        if let Some(connection) = victim {
            self.links.disconnect(connection);
            effects.close(connection, CloseReason::Revoked);
        }
        if removed {
            self.links.forget(name);
        }
        self.push_revocations(effects, |name| !first.contains(name));
        self.flush_maps(now, effects);
        Ok(epoch)
    }

    /// Who may talk to `name`, each with the time by which it stops by itself: when its own certificate or the
    /// victim's ends, whichever is first.
    fn audience(&self, name: &NodeName, end: Timestamp) -> Audience {
        let peers = self.reach.peers(name).filter_map(|peer| self.state.nodes.get(peer));
        let active = peers.filter(|peer| peer.is_active());
        Audience(active.map(|peer| (peer.name.clone(), peer.certificate.not_after.min(end))).collect())
    }

    /// Sends the list in force to the links that `to` selects.
    pub(crate) fn push_revocations(&self, effects: &mut Effects, to: impl Fn(&NodeName) -> bool) {
        let list = self.state.revoked.list.clone();
        if list.is_empty() {
            return;
        }
        let message = Arc::new(ToNode::Revocations { list });
        for (connection, name) in self.links.following() {
            if to(name) {
                effects.send(connection, message.clone());
            }
        }
    }

    pub(crate) fn revoke_status(&self, epoch: u64) -> Result<Reply, Refusal> {
        let Some(record) = self.state.revocations.get(&epoch) else {
            return Err(Refusal::no_such("revocation of epoch", &epoch.to_string()));
        };
        let receipts = self.receipts.of_epoch(Epoch(epoch));
        let heard: BTreeSet<_> = receipts.iter().map(|view| view.node.as_str()).collect();
        let waiting = record.audience.0.iter().filter(|(name, _)| {
            let active = self.state.nodes.get(name).is_some_and(|node| node.is_active());
            active && !heard.contains(name.as_str())
        });
        let waiting = waiting.map(|(name, stops_at)| Waiting {
            node: name.to_string(),
            stops_at: *stops_at,
            connected: self.links.is_connected(name),
        });
        let waiting = waiting.collect();
        Ok(Reply::Revocation(RevokeStatus { name: record.name.to_string(), epoch, receipts, waiting }))
    }

    pub(crate) fn node_remove(
        &mut self,
        actor: Actor,
        name: &NodeName,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        if self.state.node(name)?.is_active() {
            return Err(Refusal::new(Class::Conflict, "BH-C131", format!("node {name} is active"))
                .help(format!("revoke it first: bulkheadctl node revoke {name} --reason TEXT")));
        }
        self.commit(actor, Change::NodeRemoved { name: name.clone() }, now, effects)?;
        self.links.forget(name);
        self.receipts.forget(name);
        Ok(Reply::Done)
    }
}

/// A line that an administrator leaves in the audit log.
pub(crate) fn remark(text: String) -> Result<String, Refusal> {
    let text = text.trim().to_owned();
    if text.len() > MAX_REMARK_BYTES || text.chars().any(char::is_control) {
        return Err(Refusal::new(
            Class::BadRequest,
            "BH-C132",
            format!("a reason or message is one line of at most {MAX_REMARK_BYTES} bytes (MAX_REMARK_BYTES)"),
        ));
    }
    Ok(text)
}
