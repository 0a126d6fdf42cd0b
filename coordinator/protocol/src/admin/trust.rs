//! The trust document, and the seals that operators make under it.

use super::Signing;
use crate::enrol::b64;
use bulkhead_identity::{IdentityPublicKey, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The trust document in force, and how far the deployment follows it. `GET /api/v1/trust`
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct TrustView {
    /// Its version.
    pub version: u64,
    /// The signed document, whole.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub document: Vec<u8>,
    /// `HOST:PORT` of each coordinator, as nodes reach it.
    pub coordinators: Vec<String>,
    /// The document's roots, in its order.
    pub roots: Vec<RootView>,
    /// Connected nodes that hold an older version.
    pub behind: usize,
    /// Where policy is signed.
    pub signing: Signing,
    /// Nodes whose labels have to be sealed again soon, the most urgent first: from the end of its seal on a node's
    /// certificate is not renewed.
    pub ending_seals: Vec<EndingSeal>,
}

/// A seal that ends soon.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct EndingSeal {
    /// Over whose labels.
    pub node: String,
    /// When it ends.
    #[schemars(with = "u64")]
    pub not_after: Timestamp,
}

/// A root, and who depends on it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct RootView {
    /// Its key.
    #[schemars(with = "crate::schema::Key")]
    pub key: IdentityPublicKey,
    /// When its certificate ends.
    #[schemars(with = "u64")]
    pub not_after: Timestamp,
    /// Whether the coordinator issues under it.
    pub issuing: bool,
    /// Active nodes whose certificate, valid now, is under it.
    pub nodes: usize,
    /// How many of them are connected: they get another certificate soon, if the coordinator issues under another
    /// root; the rest when they come back.
    pub connected: usize,
}

/// `POST /api/v1/trust` to [`TrustView`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustApply {
    /// The next version, signed by the operators of the one in force and by its own.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub document: Vec<u8>,
    /// What may be cut.
    #[serde(default)]
    pub overrides: TrustOverrides,
}

/// What a new trust document may cut. Each stands for one refusal, which names it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrustOverrides {
    /// The policy in force: nodes permit nothing until one arrives that the new policy keys signed.
    pub policy: bool,
    /// This coordinator: nodes believe neither its certificates nor its revocation lists.
    pub issuer: bool,
    /// Nodes whose certificates no longer verify.
    pub nodes: bool,
}

/// `PUT /api/v1/nodes/{name}/seal` to [`Node`](super::Node).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSeal {
    /// A [`bulkhead_identity::Seal`], encoded: its labels take the place of all sealed labels of the node.
    #[serde(with = "b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub seal: Vec<u8>,
}
