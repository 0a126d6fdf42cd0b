//! What the pages ask of others: the engine about sign-ins, the relying party about people. Tests put their own in
//! these places, and nowhere else.
//!
//! Nothing here is secret but what [`Attempt`] and [`SignedIn`] keep to themselves; neither has a `Debug`.

use bulkhead_coordinator_engine::{Claims, Preview, Refusal, SignInOutcome, SignInView};
use std::net::IpAddr;
use std::pin::Pin;
use zeroize::Zeroizing;

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sign-ins, each by its user code, as typed. Who may do what is decided behind this, and so is how many wrong codes
/// may come from `source`, the address of the browser.
pub trait SignIns: Send + Sync {
    /// What waits under this code.
    fn look<'a>(&'a self, code: &'a str, source: IpAddr) -> Answer<'a, Result<SignInView, Refusal>>;
    /// What confirming would do; changes nothing.
    fn preview<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<Preview, Refusal>>;
    /// The person says yes.
    fn confirm<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<SignInOutcome, Refusal>>;
    /// The person says no.
    fn refuse<'a>(
        &'a self,
        code: &'a str,
        claims: &'a Claims,
        source: IpAddr,
    ) -> Answer<'a, Result<(), Refusal>>;
}

/// The OpenID providers at which people sign in.
pub trait RelyingParty: Send + Sync {
    /// Their names, which are safe in a path, in the order to offer them.
    fn providers(&self) -> Vec<String>;
    /// Starts a sign-in; its answer is to come to `redirect_uri`.
    fn authorize<'a>(
        &'a self,
        provider: &'a str,
        redirect_uri: &'a str,
    ) -> Answer<'a, Result<Box<dyn Attempt>, SsoFault>>;
    /// The person has confirmed: what lets the provider be asked again later may be kept from now on.
    fn keep<'a>(&'a self, person: &'a SignedIn) -> Answer<'a, ()>;
}

/// A sign-in at a provider that has begun: its nonce and its PKCE verifier are inside.
pub trait Attempt: Send {
    /// Name of the provider in the configuration.
    fn provider(&self) -> &str;
    /// Where the browser goes.
    fn url(&self) -> &str;
    /// What the provider's answer must carry (RFC 6749, section 10.12).
    fn state(&self) -> &str;
    /// Trades the answer for a person. An attempt is finished once, however it ends.
    fn finish(self: Box<Self>, callback: Callback) -> Answer<'static, Result<SignedIn, SsoFault>>;
}

/// The provider's answer, as the browser brought it (RFC 6749, section 4.1.2; RFC 9207).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Callback {
    /// The authorization code.
    pub code: Option<Zeroizing<String>>,
    /// Who says that it answers.
    pub issuer: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The same, for people.
    pub error_description: Option<String>,
}

/// A person for whom a provider vouched just now.
pub struct SignedIn {
    /// Who it is.
    pub claims: Claims,
    /// With which the provider can be asked again.
    pub refresh: Option<Zeroizing<String>>,
}

/// Why a provider vouched for nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SsoFault {
    /// No provider has this name.
    #[error("there is no provider of this name")]
    Unknown,
    /// It said no, in its words; for example that the person may not use this application.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// It could not be asked.
    #[error("the provider cannot be asked: {0}")]
    Unreachable(String),
    /// What came back is not what it may be. For the log, not for the page: whoever made it up need not know.
    #[error("the provider's answer is refused: {0}")]
    Invalid(String),
}
