//! Policy: check, apply, history, questions, acknowledgements.

use super::ReceiptView;
use bulkhead_identity::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/policy/check` to [`CheckReport`], also when it has errors. `POST /api/v1/policy` to
/// [`Applied`]; 409 when `base` is stale, 422 when the text has errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// Every file.
    #[schemars(with = "crate::schema::Sources")]
    pub sources: bulkhead_acl::Sources,
    /// The generation this edit started from; `None` overrides the check for staleness.
    #[serde(default)]
    pub base: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    pub message: String,
    /// Base64 of a complete signed bundle, made where the policy keys are. `sources` must compile to exactly its
    /// rules.
    #[serde(default)]
    pub bundle: Option<String>,
    /// Base64 of the signed bundle that takes over when nobody confirms: the generation after `bundle`'s, with the
    /// text that is in force now.
    #[serde(default)]
    pub fallback: Option<String>,
    /// Go back by itself unless somebody confirms within so many seconds.
    #[serde(default)]
    pub confirm_within: Option<u64>,
    /// What to do all the same.
    #[serde(default)]
    pub overrides: Overrides,
}

/// Refusals that the caller has read and decided against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Apply although `[[test]]` expectations fail.
    #[serde(default)]
    pub failing_tests: bool,
    /// Apply although it cuts the caller's or a connected node's way to the coordinator.
    #[serde(default)]
    pub lockout: bool,
}

/// [`SignedPolicy::schema`] of this version.
pub const SIGNED_POLICY_SCHEMA: &str = "bulkhead.signed-policy/1";

/// The file that `bulkheadctl policy sign` writes and `bulkheadctl policy apply FILE` sends: a policy signed where
/// the coordinator's disk is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedPolicy {
    /// [`SIGNED_POLICY_SCHEMA`].
    pub schema: String,
    /// Every file.
    #[schemars(with = "crate::schema::Sources")]
    pub sources: bulkhead_acl::Sources,
    /// See [`PolicyText::bundle`].
    pub bundle: String,
    /// See [`PolicyText::fallback`].
    #[serde(default)]
    pub fallback: Option<String>,
    /// Every file of the fallback, for whoever signs it next: it compiles to exactly the fallback's rules. The
    /// coordinator has this text already, and is not sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::Sources>")]
    pub fallback_sources: Option<bulkhead_acl::Sources>,
}

/// What a check found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckReport {
    /// Whether this text could be applied.
    pub ok: bool,
    /// Errors and warnings by file and place.
    #[schemars(with = "Vec<crate::schema::Diagnostic>")]
    pub diagnostics: Vec<bulkhead_acl::Diagnostic>,
    /// Expectations of `[[test]]` that held.
    pub tests_passed: usize,
    /// Number of allow rules.
    pub allow_rules: usize,
    /// Number of never rules.
    pub never_rules: usize,
}

/// A policy is in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// Its generation.
    pub generation: u64,
    /// What was noticed on the way.
    #[schemars(with = "Vec<crate::schema::Diagnostic>")]
    pub warnings: Vec<bulkhead_acl::Diagnostic>,
}

/// Who enforces a generation. `GET /api/v1/policy/ack/{generation}`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AckStatus {
    /// Asked for.
    pub generation: u64,
    /// Nodes that enforce it or a later one.
    pub acknowledged: Vec<ReceiptView>,
    /// Connected nodes that have not said so.
    pub waiting: Vec<String>,
    /// Not connected: they follow when they return.
    pub offline: Vec<String>,
}

/// `GET /api/v1/policy`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyCurrent {
    /// 0 when there never was a policy.
    pub generation: u64,
    /// Its text.
    #[schemars(with = "crate::schema::Sources")]
    pub sources: bulkhead_acl::Sources,
    /// When its signature ends; nodes permit nothing from then on.
    #[schemars(with = "Option<u64>")]
    pub expires: Option<Timestamp>,
    /// Where policy is signed.
    pub signing: Signing,
    /// What somebody has to confirm.
    pub pending: Option<PendingConfirmation>,
    /// The node on the coordinator's own machine, when people or machines reach the coordinator through it.
    pub coordinator_node: Option<String>,
    /// What needs somebody's attention, in sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Where policy is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    /// The coordinator holds enough of the policy keys and signs what it is given.
    Online,
    /// It does not: `bulkheadctl policy sign` on a machine that does.
    Offline,
}

/// A policy that goes back by itself unless somebody confirms it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingConfirmation {
    /// What is in force until then.
    pub generation: u64,
    /// When it goes back.
    #[schemars(with = "u64")]
    pub confirm_by: Timestamp,
    /// Whose text it goes back to; 0: nobody may talk to anybody.
    pub back_to: u64,
    /// Nodes that were connected when it was applied and have not acknowledged it on a live link since.
    pub waiting: Vec<String>,
}

/// `POST /api/v1/policy/confirm` to [`Applied`]; 409 while a node is missing that is not in `without`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// What is confirmed.
    pub generation: u64,
    /// Nodes whose silence is accepted.
    #[serde(default)]
    pub without: Vec<String>,
}

/// `GET /api/v1/policy/history`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PolicyHistory {
    /// Newest first.
    pub entries: Vec<PolicyEntry>,
}

/// One generation.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct PolicyEntry {
    /// Its number.
    pub generation: u64,
    /// Since when.
    #[schemars(with = "u64")]
    pub time: Timestamp,
    /// Who applied it.
    pub author: String,
    /// Why.
    pub message: String,
    /// Number of allow rules.
    pub allow_rules: usize,
    /// Number of never rules.
    pub never_rules: usize,
}

/// `POST /api/v1/policy/rollback` to [`Applied`]: an old text as a new generation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Whose text; 0: nobody may talk to anybody.
    pub generation: u64,
    /// What to do all the same.
    #[serde(default)]
    pub overrides: Overrides,
}

/// `POST /api/v1/policy/can` to [`CanAnswer`], about the coordinator's nodes and the policy in force.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Can {
    /// Name of the client node.
    pub from: String,
    /// Name of the server node.
    pub to: String,
    /// For example `tcp/5432`.
    pub service: String,
    /// Now when absent.
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub at: Option<Timestamp>,
}

/// Yes or no, with the reason.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CanAnswer {
    /// Yes or no.
    pub allowed: bool,
    /// Policy that says so.
    pub generation: u64,
    /// A [`bulkhead_acl::Decision`].
    pub decision: serde_json::Value,
}
