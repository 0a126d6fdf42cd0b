//! From a trust document that is known by its hash to the newest one.
//!
//! Property: what is fetched here comes from nobody in particular, over a connection that verifies nobody. The first
//! document is the one that is pinned or held, and each of the rest is believed because the operators of the one
//! before signed it; so the worst that whoever answers can do is to withhold the newest.

use crate::enrol::EnrolError;
use crate::enrol::https::Https;
use crate::tls;
use bulkhead_identity::{Timestamp, Trust, TrustHash};
use bulkhead_protocol::enrol::TrustPath;

const PATH_TRUST: &str = "/enrol/v1/trust";

/// What `address` shows from the document with this hash on, unverified.
async fn fetch(address: &str, hash: TrustHash) -> Result<TrustPath, EnrolError> {
    let mut https = Https::connect_unverified(address, tls::unverified()?).await?;
    let bytes = https.fetch(&format!("{PATH_TRUST}/{hash}")).await?;
    TrustPath::decode(&bytes).map_err(|_| EnrolError::Malformed("trust documents"))
}

/// First contact: the document that `pin` names, and from there to the newest.
///
/// # Errors
/// When nobody answers, or the answer is not that document and its successors.
pub(crate) async fn pinned(address: &str, pin: TrustHash, wall: Timestamp) -> Result<Trust, EnrolError> {
    let wrong = |error| EnrolError::WrongTrust(address.to_owned(), error);
    let path = fetch(address, pin).await?;
    let first = path.documents().next().unwrap_or_default();
    let first = Trust::pinned(first, pin, wall).map_err(wrong)?;
    newest(address, &first, wall).await
}

/// From the document that is held to the newest.
///
/// # Errors
/// When nobody answers, or the answer does not lead on from the held one.
pub(crate) async fn newest(address: &str, held: &Trust, wall: Timestamp) -> Result<Trust, EnrolError> {
    let mut trust = held.clone();
    loop {
        let path = fetch(address, trust.hash()).await?;
        let next = trust.follow(path.documents(), wall);
        let next = next.map_err(|error| EnrolError::WrongTrust(address.to_owned(), error))?;
        // Versions only grow, so this ends.
        if next.document().version == trust.document().version {
            return Ok(next);
        }
        trust = next;
    }
}
