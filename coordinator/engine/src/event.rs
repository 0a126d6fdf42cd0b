//! What happened: the unit of the journal. An event carries outcomes (certificates, signed lists, hashes),
//! never inputs to be decided again, so replay needs no keys and gives the same state for ever. It carries no
//! secret: only hashes of tokens, keys and the bootstrap secret (S4).

use crate::admins::AdminRole;
use crate::keys::ApiKey;
use crate::pending::PendingRecord;
use crate::person::{Claims, Person, display, who};
use crate::policy::PolicyRecord;
use crate::registry::{Certified, NodeRecord};
use crate::revoke::{Audience, RevocationStep};
use crate::sessions::SignedIn;
use crate::tokens::TokenRecord;
use bulkhead_identity::{
    Generation, KeyBinding, Labels, NodeName, Seal, Timestamp, TrustHash, TunnelPublicKey,
};
use bulkhead_protocol::offload::Offloads;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use std::net::IpAddr;

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Actor {
    /// The coordinator itself, as time passes.
    #[n(0)]
    System,
    /// A user of the coordinator's host, over the unix socket.
    #[n(1)]
    Root {
        /// Its user id.
        #[n(0)]
        uid: u32,
    },
    /// An administrator with an API key.
    #[n(2)]
    Admin {
        /// As given at login.
        #[n(0)]
        name: String,
    },
    /// A node, over its control link.
    #[n(3)]
    Node(#[n(0)] NodeName),
    /// A machine that joined by a token.
    #[n(4)]
    JoinToken {
        /// The token's id.
        #[n(0)]
        id: String,
    },
    /// A person, or a workload, whom a provider vouched for.
    #[n(8)]
    Person {
        /// The provider, as the configuration calls it.
        #[n(0)]
        provider: String,
        /// Who it is.
        #[n(1)]
        person: Person,
        /// What the provider called the person.
        #[n(2)]
        name: String,
    },
    /// Nobody that we know: without a valid credential.
    #[n(10)]
    Stranger,
}

impl Actor {
    /// Whoever these claims are about.
    pub(crate) fn person(claims: &Claims) -> Self {
        let (provider, person) = (claims.provider.clone(), claims.person());
        Self::Person { provider, person, name: display(&claims.name) }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Root { uid } => write!(f, "root:{uid}"),
            Self::Admin { name } => write!(f, "admin:{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::JoinToken { id } => write!(f, "token:{id}"),
            Self::Person { provider, person, name } => {
                write!(f, "person:{}", who(provider, &person.subject, name))
            }
            Self::Stranger => f.write_str("stranger"),
        }
    }
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// When, by the coordinator's clock.
    #[n(0)]
    pub time: Timestamp,
    /// By whom.
    #[n(1)]
    pub actor: Actor,
    /// What changed.
    #[n(2)]
    pub change: Change,
    /// From which address; none over the unix socket, and when nobody outside caused it.
    #[cbor(n(3), default)]
    pub source: Option<IpAddr>,
}

/// What changed. Numbers are never reused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// First entry of every journal.
    #[n(0)]
    Initialised {
        /// SHA-256 of the first trust document.
        #[cbor(n(0), with = "minicbor::bytes")]
        trust: [u8; 32],
        /// SHA-256 of the secret that makes the first administrator.
        #[cbor(n(1), with = "minicbor::bytes")]
        bootstrap: [u8; 32],
    },
    /// A join token exists.
    #[n(1)]
    TokenCreated {
        /// All but its secret.
        #[n(0)]
        token: TokenRecord,
    },
    /// A join token ended before its time.
    #[n(2)]
    TokenRevoked {
        /// Its id.
        #[n(0)]
        id: String,
    },
    /// A token was spent and a node exists: one event, so that a token cannot be spent twice.
    #[n(3)]
    NodeEnrolled {
        /// Id of the token.
        #[n(0)]
        token: String,
        /// The node, with its certificate.
        #[n(1)]
        node: Box<NodeRecord>,
    },
    /// A node holds a new certificate.
    #[n(4)]
    NodeRenewed {
        /// The node.
        #[n(0)]
        name: NodeName,
        /// Its tunnel key from now on.
        #[n(1)]
        tunnel_key: TunnelPublicKey,
        /// Its certificate from now on.
        #[n(2)]
        certificate: Certified,
        /// Present when the tunnel key changed: the certificate of the old one ends.
        #[n(3)]
        revocation: Option<RevocationStep>,
        /// The node's word for that tunnel key.
        #[n(4)]
        binding: KeyBinding,
    },
    /// A node's labels changed: a new certificate for the same keys, and the old one ends.
    #[n(5)]
    NodeRelabelled {
        /// The node.
        #[n(0)]
        name: NodeName,
        /// All its labels from now on.
        #[n(1)]
        labels: Labels,
        /// Its certificate from now on.
        #[n(2)]
        certificate: Certified,
        /// Ends the old one.
        #[n(3)]
        revocation: RevocationStep,
        /// The operators' word for those labels that are sealed.
        #[n(4)]
        seal: Option<Seal>,
    },
    /// A node is refused for good, by key and by serial number.
    #[n(6)]
    NodeRevoked {
        /// The node.
        #[n(0)]
        name: NodeName,
        /// As given by whoever did it.
        #[n(1)]
        reason: String,
        /// Who could talk to it.
        #[n(2)]
        audience: Audience,
        /// The list that says so.
        #[n(3)]
        revocation: RevocationStep,
        /// Whether its record goes too, which frees its name: a node that left by itself.
        #[n(4)]
        removed: bool,
    },
    /// A revoked node's record is gone and its name is free; its key stays refused.
    #[n(7)]
    NodeRemoved {
        /// The node.
        #[n(0)]
        name: NodeName,
    },
    /// A policy is in force.
    #[n(8)]
    PolicyApplied {
        /// Its text and its signed bundle.
        #[n(0)]
        policy: Box<PolicyRecord>,
    },
    /// An administrator spent the bootstrap secret for an API key.
    #[n(9)]
    SessionOpened {
        /// All but its secret.
        #[n(0)]
        key: ApiKey,
    },
    /// An API key ended before its time.
    #[n(10)]
    SessionClosed {
        /// Its id.
        #[n(0)]
        id: String,
    },
    /// The journal before this entry came from a backup: read-only from here.
    #[n(11)]
    Restored,
    /// An administrator takes the restored state as true. Counters jump over whatever nodes may have seen;
    /// tokens and API keys of the backup end.
    #[n(12)]
    RestoreAccepted {
        /// The list under the new epoch.
        #[n(0)]
        revocation: RevocationStep,
        /// The policy under the new generation, the empty one if there was none; `None` when the coordinator signs no
        /// policy: then the one in force stays until a later one is applied.
        #[n(1)]
        policy: Option<Box<PolicyRecord>>,
    },
    /// Somebody confirmed the policy in force: it does not go back by itself any more.
    #[n(13)]
    PolicyConfirmed {
        /// Which.
        #[n(0)]
        generation: Generation,
        /// Nodes that were missing, whose silence was accepted.
        #[n(1)]
        without: Vec<NodeName>,
    },
    /// Nodes leave other offloads off than before.
    #[n(14)]
    OffloadsSwitched {
        /// Which; `None`: every node.
        #[n(0)]
        node: Option<NodeName>,
        /// All that an administrator has switched off there.
        #[n(1)]
        off: Offloads,
    },
    /// Operators changed whom everybody trusts.
    #[n(20)]
    TrustUpdated {
        /// As they signed it.
        #[cbor(n(0), with = "minicbor::bytes")]
        document: Vec<u8>,
    },
    /// The revocation list was signed again, by another issuer.
    #[n(21)]
    RevocationsSigned {
        /// The list under the new epoch.
        #[n(0)]
        revocation: RevocationStep,
    },
    /// A person signed in for a machine that now waits for an administrator.
    #[n(40)]
    NodePending {
        /// What it will be.
        #[n(0)]
        pending: Box<PendingRecord>,
        /// SHA-256 of its device code.
        #[n(1)]
        device: ByteArray<32>,
    },
    /// A machine waits no longer: an administrator refused it, its person lost the right, or nobody came.
    #[n(41)]
    PendingEnded {
        /// The name that it would have had.
        #[n(0)]
        name: NodeName,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// An administrator made a node of a machine that waited.
    #[n(42)]
    NodeApproved {
        /// The node, with its certificate.
        #[n(0)]
        node: Box<NodeRecord>,
    },
    /// A person signed in for a machine, which is a node.
    #[n(43)]
    PersonEnrolled {
        /// The node, with its owner and its certificate.
        #[n(0)]
        node: Box<NodeRecord>,
        /// SHA-256 of its device code.
        #[n(1)]
        device: ByteArray<32>,
    },
    /// A workload showed its platform's token and is a node.
    #[n(44)]
    WorkloadEnrolled {
        /// The provider, as the configuration calls it.
        #[n(0)]
        provider: String,
        /// Who vouches, and for what.
        #[n(1)]
        workload: Person,
        /// The node, with its certificate.
        #[n(2)]
        node: Box<NodeRecord>,
    },
    /// What a person's node is follows again from what the provider says: after another sign-in, or because the
    /// provider said something else when it was asked again.
    #[n(45)]
    NodeSignedIn {
        /// Owner, labels and certificate from now on.
        #[n(0)]
        signed_in: Box<SignedIn>,
        /// Present when the labels changed: the certificate with the old ones ends.
        #[n(1)]
        revocation: Option<RevocationStep>,
    },
    /// A provider still vouches for a person.
    #[n(46)]
    PersonRefreshed {
        /// Whom.
        #[n(0)]
        person: Person,
        /// What it calls the person now.
        #[n(1)]
        name: String,
        /// Until when the person's nodes are renewed; `None`: the rules grant no nodes any more, and each that there
        /// is has an event of its own.
        #[n(2)]
        session_until: Option<Timestamp>,
        /// What the person's administrator keys permit; `None`: they end.
        #[n(3)]
        administrator: Option<AdminRole>,
        /// Nodes whose session stays as it is all the same.
        #[cbor(n(4), default)]
        not_prolonged: Vec<NodeName>,
    },
    /// A provider no longer vouches for a person: nodes are not renewed, and administrator keys end.
    #[n(47)]
    PersonDenied {
        /// Whom.
        #[n(0)]
        person: Person,
        /// In the provider's words.
        #[n(1)]
        reason: String,
    },
    /// A person signed in as an administrator.
    #[n(48)]
    AdministratorSignedIn {
        /// All but its secret.
        #[n(0)]
        key: ApiKey,
    },
    /// What a person's node is cannot be certified any more, so what it has ends: session, certificate, and every label
    /// that the rules granted.
    #[n(49)]
    NodeSessionEnded {
        /// The node.
        #[n(0)]
        name: NodeName,
        /// All the labels that are left.
        #[n(1)]
        labels: Labels,
        /// Ends its certificate; `None` when the list had no room for it.
        #[n(2)]
        revocation: Option<RevocationStep>,
        /// Why it could not be certified.
        #[n(3)]
        reason: String,
    },
    /// An API key exists.
    #[n(30)]
    KeyCreated {
        /// All but its secret.
        #[n(0)]
        key: ApiKey,
    },
    /// An administrator ended an API key.
    #[n(31)]
    KeyRevoked {
        /// Its id.
        #[n(0)]
        id: String,
    },
    /// An API key was used, for the first time or again after an hour.
    #[n(32)]
    KeyUsed {
        /// Its id.
        #[n(0)]
        id: String,
    },
    /// A request was refused; nothing changed.
    #[n(33)]
    Refused {
        /// Method and path of the route, or the step of a sign-in.
        #[n(0)]
        what: String,
        /// Code of the refusal.
        #[n(1)]
        code: String,
        /// Its message.
        #[n(2)]
        why: String,
    },
    /// So many more requests were refused than were written down.
    #[n(34)]
    RefusalsCounted {
        /// Without a valid credential.
        #[n(0)]
        strangers: u64,
        /// With one.
        #[n(1)]
        administrators: u64,
        /// Of people whom a provider vouched for.
        #[cbor(n(2), default)]
        people: u64,
    },
}

impl Event {
    /// The first entry of a new journal. `bootstrap` is `secret_hash` of the bootstrap secret.
    #[must_use]
    pub fn initialised(trust: TrustHash, bootstrap: [u8; 32], time: Timestamp) -> Self {
        let change = Change::Initialised { trust: trust.0, bootstrap };
        Self { time, actor: Actor::System, change, source: None }
    }

    /// What `restore` appends to the journal that it brought back.
    #[must_use]
    pub fn restored(time: Timestamp) -> Self {
        Self { time, actor: Actor::System, change: Change::Restored, source: None }
    }
}

impl Change {
    /// The revocation list that this change makes.
    pub(crate) fn revocation(&self) -> Option<&RevocationStep> {
        match self {
            Self::NodeRenewed { revocation, .. }
            | Self::NodeSignedIn { revocation, .. }
            | Self::NodeSessionEnded { revocation, .. } => revocation.as_ref(),
            Self::NodeRelabelled { revocation, .. }
            | Self::NodeRevoked { revocation, .. }
            | Self::RestoreAccepted { revocation, .. }
            | Self::RevocationsSigned { revocation } => Some(revocation),
            Self::Initialised { .. }
            | Self::TokenCreated { .. }
            | Self::TokenRevoked { .. }
            | Self::NodeEnrolled { .. }
            | Self::NodeRemoved { .. }
            | Self::PolicyApplied { .. }
            | Self::PolicyConfirmed { .. }
            | Self::OffloadsSwitched { .. }
            | Self::SessionOpened { .. }
            | Self::SessionClosed { .. }
            | Self::KeyCreated { .. }
            | Self::KeyRevoked { .. }
            | Self::KeyUsed { .. }
            | Self::Refused { .. }
            | Self::RefusalsCounted { .. }
            | Self::NodePending { .. }
            | Self::PendingEnded { .. }
            | Self::NodeApproved { .. }
            | Self::PersonEnrolled { .. }
            | Self::WorkloadEnrolled { .. }
            | Self::PersonRefreshed { .. }
            | Self::PersonDenied { .. }
            | Self::AdministratorSignedIn { .. }
            | Self::Restored
            | Self::TrustUpdated { .. } => None,
        }
    }
}
