//! Join tokens.

use bulkhead_identity::{Labels, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/tokens` to [`CreatedToken`].
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Of the nodes that join by it.
    #[serde(default)]
    #[schemars(with = "crate::schema::Labels")]
    pub labels: Labels,
    /// How many nodes may join by it; one when absent.
    #[serde(default)]
    pub uses: Option<u32>,
    /// How long it lives; an hour when absent.
    #[serde(default)]
    pub ttl_secs: Option<u64>,
    /// Fixes the node's name.
    #[serde(default)]
    pub name: Option<String>,
}

/// The only time the secret is shown.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct CreatedToken {
    /// Public name of the token.
    pub id: String,
    /// `bulkhead1.…`
    pub token: String,
    /// When it ends.
    #[schemars(with = "u64")]
    pub expires: Timestamp,
    /// How many nodes may join by it.
    pub uses: u32,
}

/// `GET /api/v1/tokens`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// Newest first.
    pub tokens: Vec<TokenView>,
}

/// A token without its secret. `DELETE /api/v1/tokens/{id}` ends it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct TokenView {
    /// Public name of the token.
    pub id: String,
    /// Of the nodes that join by it.
    #[schemars(with = "crate::schema::Labels")]
    pub labels: Labels,
    /// How many may still join.
    pub uses_left: u32,
    /// How many could join in all.
    pub uses: u32,
    /// Since when.
    #[schemars(with = "u64")]
    pub created: Timestamp,
    /// Until when.
    #[schemars(with = "u64")]
    pub expires: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Ended before its time.
    pub revoked: bool,
}
