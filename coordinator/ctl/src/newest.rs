//! From a trust document that is known by its hash to the newest one. What is fetched here comes from whoever
//! answers: the first document is pinned or held, and the operators of each signed the next, or it is not believed.

use crate::client::Client;
use crate::failure::Failure;
use crate::moment;
use anyhow::Context as _;
use bulkhead_identity::{Trust, TrustHash};
use bulkhead_protocol::enrol::TrustPath;

const OTHER: &str = "whoever answered does not have the trust document that was asked for";

/// First contact: the document with this hash, and from there to the newest.
pub(crate) async fn pinned(addresses: &[String], pin: TrustHash) -> Result<Trust, Failure> {
    let path = fetch(addresses, pin).await?;
    let first = path.documents().next().unwrap_or_default();
    let first = Trust::pinned(first, pin, moment::now()).context(OTHER)?;
    newest(addresses, &first).await
}

/// From the document that is held to the newest.
pub(crate) async fn newest(addresses: &[String], held: &Trust) -> Result<Trust, Failure> {
    let mut trust = held.clone();
    loop {
        let path = fetch(addresses, trust.hash()).await?;
        let next = trust.follow(path.documents(), moment::now()).context(OTHER)?;
        // Versions only grow, so this ends.
        if next.document().version == trust.document().version {
            return Ok(next);
        }
        trust = next;
    }
}

async fn fetch(addresses: &[String], hash: TrustHash) -> Result<TrustPath, Failure> {
    let mut client = Client::unverified(addresses);
    let bytes = client.get_bytes(&format!("/enrol/v1/trust/{hash}")).await?;
    Ok(TrustPath::decode(&bytes).context(OTHER)?)
}
