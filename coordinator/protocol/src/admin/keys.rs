//! API keys, with which programs and people act as administrators. The secret is shown once.

use super::AdminRole;
use bulkhead_identity::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/keys` to [`CreatedKey`]. Nobody can make a key of a higher role than his own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What the audit log calls whoever uses it; no two living keys have the same.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._@-]{1,64}$"))]
    pub name: String,
    /// What it permits.
    pub role: AdminRole,
    /// How long it lives in seconds; 90 days when absent, at most a year.
    #[serde(default)]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_secs: Option<u64>,
}

/// The only time the secret is shown.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreatedKey {
    /// Public name of the key.
    pub id: String,
    /// `bulkhead-key1.…`: goes into a file, or whole into `authorization: Bearer`.
    pub key: String,
    /// What it permits.
    pub role: AdminRole,
    /// When it ends.
    #[schemars(with = "u64")]
    pub expires: Timestamp,
}

/// `GET /api/v1/keys`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyList {
    /// Newest first; the sessions of people are keys too.
    pub keys: Vec<KeyView>,
}

/// A key without its secret. `DELETE /api/v1/keys/{id}` ends it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct KeyView {
    /// Public name of the key.
    pub id: String,
    /// What the audit log calls whoever uses it.
    pub name: String,
    /// What it permits.
    pub role: AdminRole,
    /// Since when.
    #[schemars(with = "u64")]
    pub created: Timestamp,
    /// Until when.
    #[schemars(with = "u64")]
    pub expires: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it was last used, to the hour.
    #[schemars(with = "Option<u64>")]
    pub last_used: Option<Timestamp>,
}
