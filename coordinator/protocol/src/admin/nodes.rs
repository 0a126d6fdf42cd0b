//! Nodes, their labels and their revocation.

use super::OwnerView;
use crate::offload::Offloads;
use bulkhead_identity::{IdentityPublicKey, Labels, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One node as administrators see it. `GET /api/v1/nodes/{name}`
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Node {
    /// Unique in the deployment.
    pub name: String,
    /// What the coordinator vouches for.
    pub labels: Labels,
    /// Overlay address.
    pub ipv4: String,
    /// Overlay address.
    pub ipv6: String,
    /// SHA-256 of the identity key, as people compare it.
    pub fingerprint: String,
    /// The identity key itself, which operators seal labels for.
    #[serde(default)]
    pub identity_key: Option<IdentityPublicKey>,
    /// End of the operators' seal over its sealed labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_until: Option<Timestamp>,
    /// Whether it may take part.
    pub state: NodeState,
    /// When it joined.
    pub enrolled: Timestamp,
    /// End of its current certificate.
    pub certificate_expires: Timestamp,
    /// Whether its control link is up.
    pub connected: bool,
    /// Last message on a control link, since the coordinator started.
    pub last_seen: Option<Timestamp>,
    /// Source address of its control link.
    pub observed: Option<String>,
    /// Policy it acknowledged.
    pub generation: Option<u64>,
    /// Revocation list it acknowledged.
    pub epoch: Option<u64>,
    /// How many nodes it may talk to, either way.
    pub permitted_peers: usize,
    /// Whose it is, when somebody signed in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerView>,
}

/// Whether a node may take part.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It may.
    Active,
    /// Never again.
    Revoked,
}

/// `GET /api/v1/nodes`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeList {
    /// In order of names.
    pub nodes: Vec<Node>,
}

/// `PUT /api/v1/nodes/{name}/labels` to [`Node`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLabels {
    /// `null` removes a label; labels that are not named stay.
    pub labels: BTreeMap<String, Option<String>>,
}

/// Which offloads nodes are told to leave off; a node leaves off what any of the three says. `GET /api/v1/offloads`
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct OffloadsOff {
    /// On every node, by the coordinator's configuration.
    pub configured: Offloads,
    /// On every node, by an administrator.
    pub everywhere: Offloads,
    /// On single nodes, by an administrator; only nodes where it is any.
    pub nodes: BTreeMap<String, Offloads>,
}

/// `PUT /api/v1/offloads` for every node, `PUT /api/v1/nodes/{name}/offloads` for one, to [`OffloadsOff`]. What is
/// named in neither stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SwitchOffloads {
    /// To leave off from now on.
    #[serde(default)]
    pub off: Offloads,
    /// To leave off no longer.
    #[serde(default)]
    pub on: Offloads,
}

/// `POST /api/v1/nodes/{name}/revoke` to [`RevokeStatus`]. `DELETE /api/v1/nodes/{name}` then removes the record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// For the audit log.
    pub reason: String,
}

/// Who knows of a revocation. `GET /api/v1/revocations/{epoch}` polls it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct RevokeStatus {
    /// The revoked node.
    pub name: String,
    /// Revocation list that says so.
    pub epoch: u64,
    /// From every node that acknowledged this list or a later one, in order of arrival.
    pub receipts: Vec<ReceiptView>,
    /// Nodes that could talk to the victim and have not acknowledged.
    pub waiting: Vec<Waiting>,
}

/// A node's signed word, verified.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ReceiptView {
    /// Who gave it.
    pub node: String,
    /// Revocation list in force there.
    pub epoch: u64,
    /// Policy in force there.
    pub generation: u64,
    /// The node's clock.
    pub wall: Timestamp,
    /// Unix milliseconds of its arrival here.
    pub arrived_ms: u64,
}

/// A node that has not acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub node: String,
    /// When certificates make it stop by itself.
    pub stops_at: Timestamp,
    /// Whether its control link is up.
    pub connected: bool,
}
