//! A machine that is about to be a node: what every way of enrolment does alike. Both keys are proved, the name is
//! the machine's wish and nothing else is, and name, keys and address are nobody else's (D13, L15).

use crate::allocate::addresses;
use crate::challenge::Open;
use crate::coordinator::Coordinator;
use crate::person::{Owner, Person};
use crate::refusal::{Class, Refusal};
use crate::registry::{Clash, NodeRecord, NodeState, Subject, Unique};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{
    CertificateRequest, IdentityPublicKey, KeyBinding, Labels, NodeName, Now, TunnelPublicKey,
};
use bulkhead_protocol::control::MAX_MAP_PEERS;
use bulkhead_protocol::enrol::FinishResponse;
use bulkhead_protocol::offload::Offloads;
use std::time::Duration;

/// `/api/v1/nodes/pending` lists the nodes that wait.
const RESERVED_NAME: &str = "pending";

/// Keys whose possession was proved.
#[derive(Clone, Copy)]
pub(crate) struct Proved {
    pub(crate) identity_key: IdentityPublicKey,
    pub(crate) tunnel_key: TunnelPublicKey,
    pub(crate) binding: KeyBinding,
}

impl Proved {
    pub(crate) fn answer(open: Open, request: &CertificateRequest, now: Now) -> Result<Self, Refusal> {
        let answered = open.answer(request, now);
        let (identity_key, tunnel_key, binding) =
            answered.map_err(|why| Refusal::new(Class::BadRequest, "BH-C103", why))?;
        Ok(Self { identity_key, tunnel_key, binding })
    }

    pub(crate) fn unique<'a>(&self, name: &'a NodeName) -> Unique<'a> {
        let (identity_key, tunnel_key) = (self.identity_key, self.tunnel_key);
        Unique { name, identity_key, tunnel_key, addresses: None }
    }
}

/// All that is decided about a node before it has an address and a certificate.
pub(crate) struct Newcomer {
    pub(crate) name: NodeName,
    pub(crate) proved: Proved,
    pub(crate) labels: Labels,
    pub(crate) owner: Option<Owner>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) workload: Option<Person>,
}

impl Coordinator {
    /// A node of this newcomer, not in the registry yet.
    pub(crate) fn new_node(
        &self,
        newcomer: Newcomer,
        serial: Serial,
        now: Now,
    ) -> Result<NodeRecord, Refusal> {
        if self.state.nodes.len() >= MAX_MAP_PEERS {
            let message = format!("there are {MAX_MAP_PEERS} nodes (MAX_MAP_PEERS)");
            return Err(Refusal::new(Class::Unavailable, "BH-C108", message).help("remove revoked nodes"));
        }
        let index = self.state.next_index;
        let addresses = addresses(self.config.trust.document(), index).ok_or_else(|| {
            Refusal::new(Class::Unavailable, "BH-C107", "the overlay address range is used up")
                .help("addresses are never used again; a deployment with a larger range is needed")
        })?;
        let Newcomer { name, proved, labels, owner, lifetime, workload } = newcomer;
        let unique = Unique { addresses: Some(addresses), ..proved.unique(&name) };
        self.refuse_clash(&unique)?;
        let Proved { identity_key, tunnel_key, binding } = proved;
        let subject = Subject {
            name: &name,
            identity_key,
            tunnel_key,
            binding,
            addresses,
            labels: &labels,
            seal: None,
            lifetime,
            ends: owner.as_ref().map(|owner| owner.session_until),
        };
        let certificate = self.certify(&subject, serial, now)?;
        Ok(NodeRecord {
            name,
            identity_key,
            tunnel_key,
            index,
            addresses,
            labels,
            enrolled: now.wall,
            certificate,
            state: NodeState::Active,
            seal: None,
            previous: None,
            binding,
            offloads_off: Offloads::NONE,
            owner,
            lifetime,
            workload,
        })
    }

    /// Whether a rule of the policy in force asks for this name. It means a machine that an administrator knows: whoever
    /// chooses a free name must not choose its rights.
    pub(crate) fn has_rights(&self, name: &NodeName) -> bool {
        self.reach.rules().is_named(name)
    }

    /// Name and keys are nobody else's.
    pub(crate) fn refuse_clash(&self, newcomer: &Unique<'_>) -> Result<(), Refusal> {
        self.state.clash(newcomer).map_or(Ok(()), |clash| Err(clash_refused(clash, newcomer.name)))
    }

    /// What a machine is told that is a node.
    pub(crate) fn enrolled(&self, name: &NodeName) -> Result<FinishResponse, Refusal> {
        let node = self.state.node(name)?;
        let (name, chain) = (node.name.to_string(), node.certificate.chain.encode());
        Ok(FinishResponse { name, chain, control: self.config.control.clone() })
    }
}

/// The machine's wish; the coordinator makes up none.
pub(crate) fn wished_name(wish: Option<&str>) -> Result<NodeName, Refusal> {
    let wish = wish.ok_or_else(|| {
        Refusal::new(Class::BadRequest, "BH-C104", "this node has no name yet")
            .help("choose one with `bulkhead up --name NAME`")
    })?;
    if wish == RESERVED_NAME {
        let message = format!("a node cannot be called {RESERVED_NAME}: the API means others by it");
        return Err(Refusal::new(Class::BadRequest, "BH-C104", message)
            .help("choose another name with `bulkhead up --name NAME`"));
    }
    NodeName::parse(wish).map_err(|error| {
        Refusal::new(Class::BadRequest, "BH-C104", error.to_string())
            .help("a name is 1 to 63 lower-case letters, digits and hyphens: `bulkhead up --name NAME`")
    })
}

fn clash_refused(clash: Clash, name: &NodeName) -> Refusal {
    match clash {
        Clash::Name => Refusal::new(Class::Conflict, "BH-C105", format!("there is a node {name} already"))
            .help("choose another name, or have the old node revoked and removed"),
        Clash::IdentityKey | Clash::TunnelKey => Refusal::new(
            Class::Conflict,
            "BH-C106",
            "this machine's keys belong to another node, or to a revoked one",
        )
        .help("`bulkhead leave` on this machine, then `bulkhead up` makes new keys"),
        Clash::Address => Refusal::new(Class::Internal, "BH-C109", "the next overlay address is in use"),
    }
}
