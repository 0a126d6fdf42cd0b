//! Logging in and out.

use bulkhead_identity::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/session` to [`Session`]: spends the bootstrap secret.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// From the `bulkhead-admin1.` token.
    #[serde(with = "crate::enrol::b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub secret: Vec<u8>,
    /// What to call the administrator in the audit log.
    pub name: String,
}

/// A key for further calls: `authorization: Bearer <key in base64url>`. `DELETE /api/v1/session` ends it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Name of the administrator.
    pub user: String,
    /// What the key permits.
    #[schemars(with = "super::AdminRole")]
    pub role: String,
    /// The secret.
    #[serde(with = "crate::enrol::b64")]
    #[schemars(with = "crate::schema::Base64Url")]
    pub key: Vec<u8>,
    /// When it ends.
    #[schemars(with = "u64")]
    pub expires: Timestamp,
}

/// `GET /api/v1/whoami`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// Name of the caller.
    pub user: String,
    /// What the caller may do.
    #[schemars(with = "super::AdminRole")]
    pub role: String,
    /// The deployment.
    pub trust_domain: String,
}
