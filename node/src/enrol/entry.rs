//! First contact: where the coordinators are, and the hash of the trust document by which they are known.
//!
//! Property: without that hash nobody is asked anything. There is no first use that trusts whoever answers.

use crate::enrol::https::Https;
use crate::enrol::{EnrolError, trust};
use crate::tls;
use bulkhead_identity::{Timestamp, Trust, TrustHash};
use bulkhead_protocol::token::{Invitation, Token};
use std::sync::Arc;

/// What first contact needs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// `host:port` of HTTPS, in the order to try.
    pub(crate) coordinators: Vec<String>,
    /// Pins the trust document.
    pub(crate) trust: TrustHash,
}

impl From<&Token> for Entry {
    fn from(token: &Token) -> Self {
        Self { coordinators: token.coordinators.clone(), trust: token.trust }
    }
}

impl From<Invitation> for Entry {
    fn from(invitation: Invitation) -> Self {
        Self { coordinators: invitation.coordinators, trust: invitation.trust }
    }
}

/// A connection to a verified coordinator, and the newest trust document.
pub(crate) struct Reached {
    /// The connection.
    pub(crate) https: Https,
    /// In force now.
    pub(crate) trust: Arc<Trust>,
}

impl Entry {
    /// Asks the coordinators in turn. One that serves another trust document is an impostor, or the entry is for
    /// another deployment: either way the next one may still be right.
    ///
    /// # Errors
    /// That of the last one.
    pub(crate) async fn reach(&self, wall: Timestamp) -> Result<Reached, EnrolError> {
        let mut last = EnrolError::Unreachable("none is known".into());
        for address in &self.coordinators {
            match self.reach_one(address, wall).await {
                Ok(reached) => return Ok(reached),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn reach_one(&self, address: &str, wall: Timestamp) -> Result<Reached, EnrolError> {
        let trust = Arc::new(trust::pinned(address, self.trust, wall).await?);
        let https = Https::connect(address, tls::anonymous(Arc::clone(&trust), wall)?, &trust).await?;
        Ok(Reached { https, trust })
    }
}
