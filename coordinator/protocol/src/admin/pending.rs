//! Nodes that wait for an administrator, and the people whom nodes belong to.

use bulkhead_identity::{Labels, Timestamp};
use serde::{Deserialize, Serialize};

/// The person of a node, as the provider knows them. `issuer` and `subject` are who it is; the name is for people.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct OwnerView {
    /// The provider, as the configuration calls it.
    pub provider: String,
    /// Who vouches for the person.
    pub issuer: String,
    /// The person, for ever.
    pub subject: String,
    /// What the provider calls the person today.
    pub name: String,
    /// The node's certificate is renewed until then; later only after another sign-in.
    pub session_until: Timestamp,
}

/// A machine that somebody confirmed and no administrator has approved yet: it has no certificate and no peers.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PendingNode {
    /// The name it will have.
    pub name: String,
    /// SHA-256 of its identity key, as people compare it.
    pub fingerprint: String,
    /// Who confirmed it.
    pub owner: PendingOwner,
    /// What it will be.
    pub labels: Labels,
    /// The address that it asked from.
    pub source: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// When it is forgotten.
    pub until: Timestamp,
}

/// Who confirmed a pending node.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PendingOwner {
    /// The provider, as the configuration calls it.
    pub provider: String,
    /// Who vouches for the person.
    pub issuer: String,
    /// The person, for ever.
    pub subject: String,
    /// What the provider calls the person today.
    pub name: String,
    /// Whether the person saw the machine's fingerprint and match code on a page of ours.
    pub seen: bool,
}

/// `GET /api/v1/nodes/pending`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PendingList {
    /// In order of names.
    pub nodes: Vec<PendingNode>,
}

/// `POST /api/v1/nodes/{name}/reject`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// For the audit log and for the machine that waits.
    #[serde(default)]
    pub reason: String,
}
