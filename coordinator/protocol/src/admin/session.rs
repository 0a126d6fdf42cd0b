//! Logging in and out.

use bulkhead_identity::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/session` to [`Session`]: spends the bootstrap secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// From the `bulkhead-admin1.` token.
    #[serde(with = "crate::enrol::b64")]
    pub secret: Vec<u8>,
    /// What to call the administrator in the audit log.
    pub name: String,
}

/// A key for further calls: `authorization: Bearer <key in base64url>`. `DELETE /api/v1/session` ends it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Name of the administrator.
    pub user: String,
    /// What the key permits.
    pub role: String,
    /// The secret.
    #[serde(with = "crate::enrol::b64")]
    pub key: Vec<u8>,
    /// When it ends.
    pub expires: Timestamp,
}

/// `GET /api/v1/whoami`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhoAmI {
    /// Name of the caller.
    pub user: String,
    /// What the caller may do.
    pub role: String,
    /// The deployment.
    pub trust_domain: String,
}
