//! What the pages ask of others: the engine about sign-ins, the relying party about people. Tests put their own in
//! these places, and nowhere else.
//!
//! Nothing here is secret but what [`Attempt`] and [`SignedIn`] keep to themselves; neither has a `Debug`.

use crate::web::user_code::UserCode;
use bulkhead_identity::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;
use zeroize::Zeroizing;

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sign-ins, each by its user code. Who may do what is decided behind this.
pub trait SignIns: Send + Sync {
    /// What waits under this code.
    fn look<'a>(&'a self, code: &'a UserCode) -> Answer<'a, Result<Asked, Refused>>;
    /// What confirming would do; changes nothing.
    fn preview<'a>(
        &'a self,
        code: &'a UserCode,
        person: &'a SignedIn,
    ) -> Answer<'a, Result<Preview, Refused>>;
    /// The person says yes, from this address.
    fn confirm<'a>(
        &'a self,
        code: &'a UserCode,
        person: &'a SignedIn,
        source: IpAddr,
    ) -> Answer<'a, Result<Outcome, Refused>>;
    /// The person says no.
    fn refuse<'a>(&'a self, code: &'a UserCode) -> Answer<'a, Result<(), Refused>>;
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

/// Stands in until the engine's own arrives.
#[allow(missing_docs)]
#[derive(Clone)]
pub struct Claims {
    pub provider: String,
    pub issuer: String,
    pub subject: String,
    pub name: String,
    pub groups: BTreeSet<String>,
    pub other: BTreeMap<String, Vec<String>>,
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

/// What waits for a person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What for.
    pub purpose: Purpose,
    /// The name that the device wants, or of the machine that logs in; from a stranger.
    pub device: String,
    /// Of the device's key; none for a login.
    pub fingerprint: Option<String>,
    /// From where it asked.
    pub source: IpAddr,
    /// Stands on its screen, too.
    pub match_code: String,
    /// When it is over.
    pub expires: Timestamp,
}

/// What a sign-in is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A device becomes a node, or its owner signs in again.
    Enrol,
    /// Somebody wants to administer.
    Login,
}

/// What confirming would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What it gives.
    pub gain: Gain,
    /// The groups by which the rules let this person.
    pub groups: Vec<String>,
}

/// What a person gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gain {
    /// A node.
    Node {
        /// `key=value` of each label.
        labels: Vec<String>,
        /// Of each certificate.
        lifetime: Duration,
        /// Until when it goes on without a new sign-in.
        until: Timestamp,
        /// Whether an administrator has to approve it first.
        approval: bool,
    },
    /// An administrator's session.
    Session {
        /// The role.
        role: String,
        /// Until when.
        until: Timestamp,
    },
}

/// What confirming did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device is a node.
    Enrolled {
        /// Its name.
        name: String,
        /// `key=value` of each label.
        labels: Vec<String>,
    },
    /// The device waits for an administrator.
    Pending {
        /// Its name.
        name: String,
    },
    /// The session is open.
    LoggedIn {
        /// As whom.
        user: String,
        /// With which role.
        role: String,
    },
}

/// Why the engine said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing waits under this code.
    #[error("nothing waits under this code")]
    UnknownCode,
    /// The rules do not let this person.
    #[error("{why}")]
    Denied {
        /// In a sentence.
        why: String,
        /// What to do next.
        help: Option<String>,
    },
    /// Not now: too many, no disk, stopping.
    #[error("{0}")]
    Unavailable(String),
}
