//! Why a sign-in failed, told so that one knows whose turn it is: the person, the administrator, the provider, or
//! nobody, because it is an attack.

use super::claims::ClaimsError;
use super::fetch::FetchError;

/// A sign-in, a refresh or a workload's token that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SsoError {
    /// No such provider, or not for this.
    #[error("no provider {0}")]
    NoProvider(String),
    /// The provider could not be asked. It has said nothing about the person.
    #[error("the provider {provider} cannot be reached")]
    Unreachable {
        /// Its name.
        provider: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// The provider was asked a moment ago, to no avail; it is asked again a minute later.
    #[error("the provider {provider} could not be asked a moment ago ({reason}); try again in a minute")]
    Resting {
        /// Its name.
        provider: String,
        /// What happened then.
        reason: String,
    },
    /// The provider answers what makes no sense, or refuses this coordinator as a client.
    #[error("the provider {provider} and this coordinator do not understand each other: {reason}")]
    Misconfigured {
        /// Its name.
        provider: String,
        /// What is wrong.
        reason: String,
    },
    /// The provider says no to this person.
    #[error("the provider {provider} refused: {reason}")]
    Denied {
        /// Its name.
        provider: String,
        /// In its words.
        reason: String,
    },
    /// The browser came back with what does not belong to this sign-in.
    #[error("this is not the answer to the sign-in that was begun: {0}")]
    Callback(&'static str),
    /// A token that does not verify.
    #[error("the token is refused: {0}")]
    Token(String),
    /// A verified token that says what is not taken.
    #[error("the provider {provider} sent claims that are not taken")]
    Claims {
        /// Its name.
        provider: String,
        /// Which, and what to do.
        #[source]
        source: ClaimsError,
    },
}

impl SsoError {
    /// Whether the provider itself said that this person may not (any more).
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}
