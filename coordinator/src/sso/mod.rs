//! Sign-in at the company's OpenID Providers: this coordinator is their relying party.
//!
//! A person is `(issuer, subject)` as the provider signed it, never an e-mail address. What leaves this module as
//! [`Claims`] was verified, is bounded, and is safe to print; who may do what with it is the engine's to decide.
//!
//! | module | concept |
//! |---|---|
//! | [`oidc`] | the protocol: authorization code, device flow, refresh, tokens of workloads |
//! | `provider`, `kept` | one provider, and what it published |
//! | [`claims`] | what a verified token says, in bounds |
//! | [`fetch`], [`address`], [`roots`] | the one way out to providers, and where it does not lead |
//! | [`discovery`] | what a provider says of itself |
//! | [`sessions`], `sealed` | refresh tokens at rest |
//! | `queue`, [`refresher`] | whom to ask about again, and what comes of it |

pub mod address;
pub mod claims;
pub mod discovery;
pub mod error;
pub mod fetch;
mod json;
mod jwt;
mod kept;
pub mod oidc;
mod provider;
mod queue;
pub mod refresher;
pub mod roots;
mod sealed;
pub mod sessions;
#[cfg(test)]
mod tests;

pub use bulkhead_coordinator_engine::{Claims, RefreshOutcome};
pub use error::SsoError;
pub use oidc::{Attempt, DeviceAttempt, Providers};

use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// Characters of what others say, in our errors.
pub const MAX_WORDS: usize = 300;

/// One `[[provider]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderConfig {
    /// Unique; on the page and in rules.
    pub name: String,
    /// https, exactly as in its tokens.
    pub issuer: String,
    /// Us, for people; without it people cannot sign in.
    pub client_id: Option<String>,
    /// Holds the client's secret; without it the client is public.
    pub client_secret_file: Option<PathBuf>,
    /// Us, for workloads; without it no token of a workload is taken.
    pub audience: Option<String>,
    /// To ask for, besides `openid` and `profile`.
    pub scopes: Vec<String>,
    /// Where groups are: a claim's name, or a path with dots into objects.
    pub groups_claim: String,
    /// Whether people may use the provider's own device flow (RFC 8628).
    pub device_flow: bool,
    /// Roots that sign the provider's certificate, in PEM; without it the system's.
    pub ca: Option<PathBuf>,
    /// Whether it may be at a private, loopback or link-local address.
    pub private_addresses: bool,
    /// How often groups are asked for again.
    pub refresh: Duration,
}

impl ProviderConfig {
    /// Whether people sign in there; otherwise it vouches for workloads.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        self.client_id.is_some()
    }

    /// Whether refresh tokens are asked for that outlive the person's session at the provider.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "offline_access")
    }
}

/// A refresh token: whoever has it can ask the provider in this person's name.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(Zeroizing<String>);

impl RefreshToken {
    /// Wraps a token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// The token itself, for the provider or to be sealed.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken(..)")
    }
}

/// A person who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who, and what the provider says.
    pub claims: Claims,
    /// To ask again later, where the provider gives one.
    pub refresh: Option<RefreshToken>,
}

/// What a provider answered to a refresh token.
#[derive(Debug)]
pub struct Renewed {
    /// What it says of the person, if that is believed.
    pub claims: Result<Claims, SsoError>,
    /// Replaces the token that was shown; without it that one stays.
    pub refresh: Option<RefreshToken>,
}

/// What came of asking a provider about a person again.
pub struct Refreshed {
    /// The person's issuer.
    pub issuer: String,
    /// The person.
    pub subject: String,
    /// What the provider said. One that cannot be reached has said nothing.
    pub outcome: RefreshOutcome,
}

/// `text` without what moves a cursor, hides or reorders, and no longer than `limit` characters: what a stranger
/// wrote, fit to be shown (E6).
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let shown = text.chars().map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c });
    shown.take(limit).collect()
}

/// An error with its causes, as one sentence that can be shown.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    printable(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "), MAX_WORDS)
}

/// Control characters, and those of Unicode that are invisible or change the direction of writing.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || invisible
}
