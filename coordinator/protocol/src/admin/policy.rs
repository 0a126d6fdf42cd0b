//! Policy: check, apply, history, questions, acknowledgements.

use super::ReceiptView;
use bulkhead_identity::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/policy/check` to [`CheckReport`], also when it has errors. `POST /api/v1/policy` to
/// [`Applied`]; 409 when `base` is stale, 422 when the text has errors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// Every file.
    pub sources: bulkhead_acl::Sources,
    /// The generation this edit started from; `None` overrides the check for staleness.
    #[serde(default)]
    pub base: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    pub message: String,
}

/// What a check found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckReport {
    /// Whether this text could be applied.
    pub ok: bool,
    /// Errors and warnings by file and place.
    pub diagnostics: Vec<bulkhead_acl::Diagnostic>,
    /// Expectations of `[[test]]` that held.
    pub tests_passed: usize,
    /// Number of allow rules.
    pub allow_rules: usize,
    /// Number of never rules.
    pub never_rules: usize,
}

/// A policy is in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Applied {
    /// Its generation.
    pub generation: u64,
    /// What was noticed on the way.
    pub warnings: Vec<bulkhead_acl::Diagnostic>,
}

/// Who enforces a generation. `GET /api/v1/policy/ack/{generation}`
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyCurrent {
    /// 0 when there never was a policy.
    pub generation: u64,
    /// Its text.
    pub sources: bulkhead_acl::Sources,
}

/// `GET /api/v1/policy/history`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyHistory {
    /// Newest first.
    pub entries: Vec<PolicyEntry>,
}

/// One generation.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PolicyEntry {
    /// Its number.
    pub generation: u64,
    /// Since when.
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Whose text.
    pub generation: u64,
}

/// `POST /api/v1/policy/can` to [`CanAnswer`], about the coordinator's nodes and the policy in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    pub at: Option<Timestamp>,
}

/// Yes or no, with the reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CanAnswer {
    /// Yes or no.
    pub allowed: bool,
    /// Policy that says so.
    pub generation: u64,
    /// A [`bulkhead_acl::Decision`].
    pub decision: serde_json::Value,
}
