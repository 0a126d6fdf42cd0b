//! What the control link tells the engine: a complete world, never a difference.
//!
//! The names and endpoints in it are hints from a coordinator that may be hostile. What a peer is comes from
//! its certificate, and whether we talk to it from the policy; both are checked by
//! [`Engine::apply`](crate::Engine::apply).

use crate::Reason;
use bulkhead_acl::Policy;
use bulkhead_identity::{Chain, Epoch, Generation, NodeName, Revocations, Trust, VerifiedIdentity};
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything the engine decides by. Absent means absent: a peer that is not in `peers` is removed.
#[derive(Clone, Debug)]
pub struct World {
    /// Roots and overlay ranges.
    pub trust: Arc<Trust>,
    /// The policy in force; [`Policy::nobody`] when there is none.
    pub policy: Arc<Policy>,
    /// Revoked serials and keys.
    pub revocations: Arc<Revocations>,
    /// Our own certificate; verified again under `trust` and `revocations`.
    pub me: VerifiedIdentity,
    /// Everyone the coordinator introduces.
    pub peers: Vec<PeerEntry>,
}

/// One introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// Must be the name in the certificate.
    pub name: NodeName,
    /// The peer's certificate chain, not yet verified.
    pub chain: Chain,
    /// Where it may be reached; the first [`MAX_ENDPOINTS`](crate::limits::MAX_ENDPOINTS) usable ones are
    /// kept.
    pub endpoints: Vec<SocketAddr>,
}

/// What one [`Engine::apply`](crate::Engine::apply) did, for the log and the acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[must_use]
pub struct Changes {
    /// Peers that are gone: keys, flows, fragments and waiting packets dropped.
    pub removed: Vec<NodeName>,
    /// Peers whose certificate, grants or endpoints are other than before; their session goes on.
    pub changed: Vec<NodeName>,
    /// Peers that are new.
    pub added: Vec<NodeName>,
    /// Introductions that were refused, and why.
    pub refused: Vec<(NodeName, Reason)>,
    /// Peers with a good certificate whom the policy permits nothing.
    pub unpermitted: usize,
    /// Flows that ended because of this change.
    pub ended_flows: usize,
    /// Why we ourselves may not talk to anyone, if so: then every peer was removed.
    pub isolated: Option<String>,
    /// The policy now in force.
    pub generation: Generation,
    /// The revocation list now in force.
    pub epoch: Epoch,
}
