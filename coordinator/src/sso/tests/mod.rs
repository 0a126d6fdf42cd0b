//! Against providers that lie, over real TLS on loopback. Each test names its attack (08-attacks.md, part D).
#![allow(clippy::unwrap_used)]

mod flows;
mod keys;
mod network;
mod provider;
mod refreshed;
mod tokens;

use super::{Providers, SignedIn, SsoError};
use provider::{Provider, REDIRECT};

/// A person signs in at `provider`.
async fn sign_in(provider: &Provider, providers: &Providers) -> Result<SignedIn, SsoError> {
    let (url, attempt) = providers.authorize("acme", REDIRECT).await?;
    providers.finish(attempt, &provider.agree(&url)).await
}
