//! Nodes that wait for an administrator. One holds its name and its keys, so that nobody takes them meanwhile, and
//! nothing else: it has no address and no certificate, and is in no map. It is kept as long as its person's session, for
//! thirty days at most: its machine may be switched off in between, and its device code fetches the certificate afterwards.

use crate::command::Road;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::newcomer::{Newcomer, Proved};
use crate::person::{Owner, Person};
use crate::refusal::{Class, Refusal};
use crate::registry::{NodeRecord, Unique};
use crate::revoke::remark;
use crate::sessions::sign_in_first;
use crate::state::{ReplayError, State, contradiction};
use crate::timing::PENDING_LIFETIME;
use bulkhead_identity::{IdentityPublicKey, KeyBinding, Labels, NodeName, Now, Timestamp, TunnelPublicKey};
use bulkhead_protocol::admin::{PendingList, PendingNode, PendingOwner, Reject};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// Most nodes that wait at once.
pub(crate) const MAX_PENDING_NODES: usize = 1000;
/// Most of them of one person.
pub(crate) const MAX_PENDING_PER_PERSON: usize = 10;
/// So many are forgotten at one tick, so that the room which the journal keeps for ticks is enough.
const MAX_FORGOTTEN_AT_ONCE: usize = 16;

/// A machine that somebody confirmed and no administrator has approved.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PendingRecord {
    /// The name it will have.
    #[n(0)]
    pub name: NodeName,
    /// Proved.
    #[n(1)]
    pub identity_key: IdentityPublicKey,
    /// Proved.
    #[n(2)]
    pub tunnel_key: TunnelPublicKey,
    /// The one's word for the other.
    #[n(3)]
    pub binding: KeyBinding,
    /// Who confirmed it. Its labels are those that were granted; its session began when the provider last vouched for
    /// the person.
    #[n(4)]
    pub owner: Owner,
    /// Of its certificates.
    #[n(6)]
    pub lifetime: Option<Duration>,
    /// How it was confirmed.
    #[n(7)]
    pub road: Road,
    /// The address that asked.
    #[n(8)]
    pub source: IpAddr,
    /// Since when it waits.
    #[n(9)]
    pub since: Timestamp,
}

/// Where a sign-in came from, and how it can be asked about.
pub(crate) struct Asked {
    pub(crate) road: Road,
    pub(crate) source: IpAddr,
    pub(crate) device: ByteArray<32>,
}

impl PendingRecord {
    pub(crate) fn unique(&self) -> Unique<'_> {
        let (identity_key, tunnel_key) = (self.identity_key, self.tunnel_key);
        Unique { name: &self.name, identity_key, tunnel_key, addresses: None }
    }

    /// Beyond the session of its person nobody could approve it: they would have to sign in again anyway.
    fn until(&self) -> Timestamp {
        self.since.plus(PENDING_LIFETIME).min(self.owner.session_until)
    }

    pub(crate) fn audit(&self) -> Value {
        json!({ "name": self.name, "owner": self.owner.view(), "labels": self.owner.granted,
                "identity_key": self.identity_key.fingerprint().to_string(), "source": self.source })
    }

    fn view(&self) -> PendingNode {
        PendingNode {
            name: self.name.to_string(),
            fingerprint: self.identity_key.fingerprint().to_string(),
            owner: PendingOwner {
                provider: self.owner.provider.clone(),
                issuer: self.owner.person.issuer.clone(),
                subject: self.owner.person.subject.clone(),
                name: self.owner.name.clone(),
                seen: match self.road {
                    Road::Page => true,
                    Road::ProviderDevice => false,
                },
            },
            labels: self.owner.granted.clone(),
            source: self.source.to_string(),
            since: self.since,
            until: self.until(),
        }
    }

    /// Refuses when what the provider said of the person is older than a session: it may not hold any more.
    fn newcomer(&self, now: Now) -> Result<Newcomer, Refusal> {
        let (identity_key, tunnel_key, binding) = (self.identity_key, self.tunnel_key, self.binding);
        let owner = Owner { approved: true, ..self.owner.clone() };
        if now.wall >= owner.session_until {
            return Err(sign_in_first(&owner));
        }
        Ok(Newcomer {
            name: self.name.clone(),
            proved: Proved { identity_key, tunnel_key, binding },
            labels: owner.granted.clone(),
            owner: Some(owner),
            lifetime: self.lifetime,
            workload: None,
        })
    }
}

impl State {
    /// A machine that waits already waits anew.
    pub(crate) fn add_pending(
        &mut self,
        pending: &PendingRecord,
        device: &ByteArray<32>,
    ) -> Result<(), ReplayError> {
        if let Some(clash) = self.clash(&pending.unique()) {
            return contradiction(format!("node {} has the {clash:?} of another", pending.name));
        }
        self.forget_waiting(&pending.identity_key);
        self.pending.insert(pending.name.clone(), pending.clone());
        self.devices.insert(*device, pending.name.clone());
        Ok(())
    }

    pub(crate) fn end_pending(&mut self, name: &NodeName) -> Result<(), ReplayError> {
        let Some(ended) = self.pending.get(name) else {
            return contradiction(format!("no node {name} waits"));
        };
        let key = ended.identity_key;
        self.forget_waiting(&key);
        Ok(())
    }

    /// The machine goes on asking with the same device code.
    pub(crate) fn approve(&mut self, node: &NodeRecord) -> Result<(), ReplayError> {
        let same = |waiting: &PendingRecord| waiting.identity_key == node.identity_key;
        if !self.pending.get(&node.name).is_some_and(same) {
            return contradiction(format!("no node {} with this key waits", node.name));
        }
        let device = self.device_of(&node.name);
        self.add_node(node)?;
        self.devices.extend(device.map(|device| (device, node.name.clone())));
        Ok(())
    }

    pub(crate) fn forget_waiting(&mut self, key: &IdentityPublicKey) {
        let waiting = self.pending.values().find(|waiting| waiting.identity_key == *key);
        let Some(name) = waiting.map(|waiting| waiting.name.clone()) else { return };
        self.pending.remove(&name);
        self.devices.retain(|_, node| *node != name);
    }

    fn device_of(&self, name: &NodeName) -> Option<ByteArray<32>> {
        self.devices.iter().find(|(_, node)| *node == name).map(|(device, _)| *device)
    }

    fn waiting(&self, name: &NodeName) -> Result<&PendingRecord, Refusal> {
        self.pending.get(name).ok_or_else(|| {
            Refusal::no_such("pending node", name.as_str())
                .help("`bulkheadctl node list --pending` shows the nodes that wait")
        })
    }
}

impl Coordinator {
    /// Has a newcomer wait for an administrator.
    pub(crate) fn put_off(
        &mut self,
        actor: Actor,
        newcomer: Newcomer,
        asked: &Asked,
        now: Now,
        effects: &mut Effects,
    ) -> Result<NodeName, Refusal> {
        let Newcomer { name, proved, labels: _, owner: Some(owner), lifetime, workload: None } = newcomer
        else {
            return Err(Refusal::new(Class::Forbidden, "BH-C211", "only a person's node can wait"));
        };
        let others =
            || self.state.pending.values().filter(|waiting| waiting.identity_key != proved.identity_key);
        let own = others().filter(|waiting| waiting.owner.person == owner.person).count();
        if others().count() >= MAX_PENDING_NODES || own >= MAX_PENDING_PER_PERSON {
            let message = format!(
                "too many nodes wait already: at most {MAX_PENDING_PER_PERSON} of one person \
                 (MAX_PENDING_PER_PERSON), {MAX_PENDING_NODES} in all (MAX_PENDING_NODES)"
            );
            return Err(Refusal::new(Class::TooMany, "BH-C212", message)
                .help("ask an administrator: bulkheadctl node list --pending"));
        }
        let Proved { identity_key, tunnel_key, binding } = proved;
        let (road, source, since) = (asked.road, asked.source, now.wall);
        let pending = PendingRecord {
            name: name.clone(),
            identity_key,
            tunnel_key,
            binding,
            owner,
            lifetime,
            road,
            source,
            since,
        };
        let change = Change::NodePending { pending: Box::new(pending), device: asked.device };
        self.commit(actor, change, now, effects)?;
        Ok(name)
    }

    pub(crate) fn pending_list(&self) -> Reply {
        Reply::Pending(PendingList { nodes: self.state.pending.values().map(PendingRecord::view).collect() })
    }

    pub(crate) fn node_approve(
        &mut self,
        actor: Actor,
        name: &NodeName,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let waiting = self.state.waiting(name)?;
        self.may_have_one_more(&waiting.owner.person)?;
        let newcomer = waiting.newcomer(now)?;
        let node = self.new_node(newcomer, entropy.serial(), now)?;
        self.commit(actor, Change::NodeApproved { node: Box::new(node) }, now, effects)?;
        self.admit(name, now);
        self.flush_due_maps(now, effects);
        Ok(Reply::Node(self.node_view(self.state.node(name)?)))
    }

    pub(crate) fn node_reject(
        &mut self,
        actor: Actor,
        name: &NodeName,
        reject: Reject,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let reason = remark(reject.reason)?;
        self.state.waiting(name)?;
        self.end_waiting(actor, name, reason, now, effects)?;
        Ok(Reply::Done)
    }

    fn end_waiting(
        &mut self,
        actor: Actor,
        name: &NodeName,
        reason: String,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let device = self.state.device_of(name);
        let message = match reason.as_str() {
            "" => format!("an administrator refused node {name}"),
            why => format!("node {name} was refused: {why}"),
        };
        self.commit(actor, Change::PendingEnded { name: name.clone(), reason }, now, effects)?;
        if let Some(device) = device {
            self.remember_end(*device, Refusal::new(Class::Forbidden, "BH-C213", message), now);
        }
        Ok(())
    }

    /// What rules and provider no longer grant is not approved either.
    pub(crate) fn end_waiting_of(
        &mut self,
        person: &Person,
        reason: &str,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let theirs = self.state.pending.values().filter(|waiting| waiting.owner.person == *person);
        for name in theirs.map(|waiting| waiting.name.clone()).collect::<Vec<_>>() {
            self.end_waiting(Actor::System, &name, reason.to_owned(), now, effects)?;
        }
        Ok(())
    }

    /// What waits is to be what rules grant now, not what they granted when its person signed in.
    pub(crate) fn relabel_waiting_of(
        &mut self,
        person: &Person,
        granted: &Labels,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let outdated = self
            .state
            .pending
            .values()
            .filter(|waiting| waiting.owner.person == *person && waiting.owner.granted != *granted);
        for mut pending in outdated.cloned().collect::<Vec<_>>() {
            let Some(device) = self.state.device_of(&pending.name) else { continue };
            pending.owner.granted = granted.clone();
            let change = Change::NodePending { pending: Box::new(pending), device };
            self.commit(Actor::System, change, now, effects)?;
        }
        Ok(())
    }

    /// Forgets whom nobody approved in time.
    pub(crate) fn expire_pending(&mut self, now: Now, effects: &mut Effects) -> Result<(), Refusal> {
        let over = self.state.pending.values().filter(|waiting| waiting.until() <= now.wall);
        let over: Vec<_> = over.map(|waiting| waiting.name.clone()).take(MAX_FORGOTTEN_AT_ONCE).collect();
        if !over.is_empty() {
            self.writable()?;
        }
        for name in over {
            let reason = "nobody approved it in time: sign in again".to_owned();
            self.end_waiting(Actor::System, &name, reason, now, effects)?;
        }
        Ok(())
    }
}
