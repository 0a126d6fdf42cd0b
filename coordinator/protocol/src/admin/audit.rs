//! The audit log: the journal as people read it.

use bulkhead_identity::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/audit?after=SEQ&limit=N`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditPage {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Sequence of the journal's last entry.
    pub last: u64,
}

/// One entry of the journal.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// By whom.
    pub actor: String,
    /// What kind, for example `node_revoked`.
    pub event: String,
    /// Its particulars, without secrets.
    pub detail: serde_json::Value,
    /// Hex of this entry's hash in the chain.
    pub hash: String,
}

/// `GET /api/v1/audit/verify`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditVerified {
    /// How many entries were checked.
    pub entries: u64,
    /// Hex of the last one's hash.
    pub head: String,
}
