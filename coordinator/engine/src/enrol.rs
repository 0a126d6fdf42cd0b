//! Enrolment: a challenge, then proofs of both keys and a join token's secret. Spending the token and creating
//! the node are one event, so a token for one node makes one node (D1). A stranger hears one sentence for
//! every way in which a token can be wrong (D2). Challenges wait in a bounded table that no single network can
//! crowd others out of.

use crate::allocate::addresses;
use crate::challenge::Open;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::registry::{Clash, NodeRecord, NodeState, Subject};
use crate::tokens::TokenRecord;
use bulkhead_identity::{CertificateRequest, NodeName, Now};
use bulkhead_protocol::control::MAX_MAP_PEERS;
use bulkhead_protocol::enrol::{BeginResponse, FinishResponse};
use bulkhead_protocol::offload::Offloads;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

/// How many challenges wait at once.
pub(crate) const MAX_PENDING: usize = 4096;

/// The part of a source address that one tenant holds: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(source: IpAddr) -> Self {
        Self(match source.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

/// Challenges that wait for their answer.
#[derive(Default)]
pub(crate) struct Pending {
    open: BTreeMap<String, (Network, Open)>,
    /// Ids by network, oldest first; answered ones are skipped.
    order: BTreeMap<Network, VecDeque<String>>,
}

impl Pending {
    fn insert(&mut self, id: String, source: IpAddr, open: Open, now: Now) {
        self.expire(now);
        if self.open.len() >= MAX_PENDING {
            self.evict();
        }
        let network = Network::from(source);
        self.order.entry(network).or_default().push_back(id.clone());
        self.open.insert(id, (network, open));
    }

    fn take(&mut self, id: &str) -> Option<Open> {
        let (network, open) = self.open.remove(id)?;
        if let Some(order) = self.order.get_mut(&network) {
            order.retain(|other| other != id);
            if order.is_empty() {
                self.order.remove(&network);
            }
        }
        Some(open)
    }

    pub(crate) fn expire(&mut self, now: Now) {
        let over: Vec<_> =
            self.open.iter().filter(|(_, (_, open))| open.is_over(now)).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.take(&id);
        }
    }

    /// Drops the oldest challenge of the network that holds most.
    fn evict(&mut self) {
        let most = self.order.values().max_by_key(|order| order.len());
        if let Some(oldest) = most.and_then(|order| order.front().cloned()) {
            self.take(&oldest);
        }
    }
}

impl Coordinator {
    pub(crate) fn enrol_begin(
        &mut self,
        source: IpAddr,
        entropy: &Entropy,
        now: Now,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let enrolment = entropy.id("enrolment", 16);
        let open = Open::new(entropy, now);
        let (challenge, challenge_key) = (open.challenge().0.to_vec(), open.key().0.to_vec());
        self.pending.insert(enrolment.clone(), source, open, now);
        Ok(Reply::EnrolBegun(BeginResponse { enrolment, challenge, challenge_key }))
    }

    pub(crate) fn enrol_finish(
        &mut self,
        finish: &Finish<'_>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let Some(open) = self.pending.take(finish.enrolment) else {
            return Err(Refusal::new(Class::NotFound, "BH-C101", "this enrolment is over or never began")
                .help("run `bulkhead up` again"));
        };
        let keys = open.answer(finish.request, now);
        // Looked up before the proofs are judged, so that a wrong token costs as much time as a right one.
        let token = self.state.usable_token(finish.secret, now);
        let (identity_key, tunnel_key, binding) =
            keys.map_err(|why| Refusal::new(Class::BadRequest, "BH-C103", why))?;
        let token = token.ok_or_else(token_refused)?;
        if self.state.nodes.len() >= MAX_MAP_PEERS {
            let message = format!("there are {MAX_MAP_PEERS} nodes (MAX_MAP_PEERS)");
            return Err(Refusal::new(Class::Unavailable, "BH-C108", message).help("remove revoked nodes"));
        }
        let name = choose_name(token, finish.name)?;
        let index = self.state.next_index;
        let addresses = addresses(self.config.trust.document(), index).ok_or_else(|| {
            Refusal::new(Class::Unavailable, "BH-C107", "the overlay address range is used up")
                .help("addresses are never used again; a deployment with a larger range is needed")
        })?;
        let subject = Subject {
            name: &name,
            identity_key,
            tunnel_key,
            binding,
            addresses,
            labels: &token.labels,
            seal: None,
        };
        let certificate = self.certify(&subject, finish.entropy.serial(), now)?;
        let node = NodeRecord {
            name,
            identity_key,
            tunnel_key,
            index,
            addresses,
            labels: token.labels.clone(),
            enrolled: now.wall,
            certificate,
            state: NodeState::Active,
            seal: None,
            previous: None,
            binding,
            offloads_off: Offloads::NONE,
        };
        if let Some(clash) = self.state.clash(&node) {
            return Err(clash_refused(clash, &node.name));
        }
        let token = token.id.clone();
        let actor = Actor::JoinToken { id: token.clone() };
        let (name, chain) = (node.name.clone(), node.certificate.chain.encode());
        self.commit(actor, Change::NodeEnrolled { token, node: Box::new(node) }, now, effects)?;
        self.admit(&name, now);
        self.flush_due_maps(now, effects);
        Ok(Reply::Enrolled(FinishResponse {
            name: name.to_string(),
            chain,
            control: self.config.control.clone(),
        }))
    }
}

/// What a joining machine shows.
pub(crate) struct Finish<'a> {
    pub(crate) enrolment: &'a str,
    pub(crate) request: &'a CertificateRequest,
    pub(crate) secret: &'a [u8],
    pub(crate) name: Option<&'a str>,
    pub(crate) entropy: &'a Entropy,
}

/// The name on the token, else the wish; the coordinator makes up none.
fn choose_name(token: &TokenRecord, wish: Option<&str>) -> Result<NodeName, Refusal> {
    if let Some(name) = &token.name {
        return Ok(name.clone());
    }
    let wish = wish.ok_or_else(|| {
        Refusal::new(Class::BadRequest, "BH-C104", "this node has no name yet")
            .help("choose one with `bulkhead up --name NAME`")
    })?;
    NodeName::parse(wish).map_err(|error| {
        Refusal::new(Class::BadRequest, "BH-C104", error.to_string())
            .help("a name is 1 to 63 lower-case letters, digits and hyphens: `bulkhead up --name NAME`")
    })
}

fn token_refused() -> Refusal {
    Refusal::new(
        Class::Forbidden,
        "BH-C102",
        "the join token is not valid here: unknown, expired, revoked or used up",
    )
    .help("ask an administrator for a new one: bulkheadctl token create")
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
