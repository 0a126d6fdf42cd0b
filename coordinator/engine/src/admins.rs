//! Administrators: the bootstrap secret that makes the first one, and API keys. Secrets are stored hashed and
//! compared in constant time; every key expires; a wrong secret, a spent one and none at all are one refusal
//! (D2, D10, S4).

use crate::command::Credential;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::person::Person;
use crate::refusal::{Class, Refusal};
use bulkhead_identity::{Now, Timestamp};
use bulkhead_protocol::admin::{Login, Session, WhoAmI};
use bulkhead_protocol::token::secret_hash;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::time::Duration;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How long an API key lives.
pub const API_KEY_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest name of an administrator.
const MAX_USER_BYTES: usize = 64;

/// What an administrator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum AdminRole {
    /// Everything but what only the host's root may.
    #[n(0)]
    Admin,
    /// Reads everything but secrets.
    #[n(1)]
    Viewer,
    /// Viewer, and nodes and tokens.
    #[n(2)]
    Operator,
}

impl AdminRole {
    /// As shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }

    /// Whether whoever has this role has what `needed` has.
    fn covers(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Admin, _)
            | (Self::Operator, Self::Operator | Self::Viewer)
            | (Self::Viewer, Self::Viewer) => true,
            (Self::Operator, Self::Admin) | (Self::Viewer, Self::Operator | Self::Admin) => false,
        }
    }
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ApiKey {
    /// Public name of the key.
    #[n(0)]
    pub id: String,
    /// SHA-256 of its secret.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// Of the administrator.
    #[n(2)]
    pub name: String,
    /// What it permits.
    #[n(3)]
    pub role: AdminRole,
    /// Since when.
    #[n(4)]
    pub created: Timestamp,
    /// Until when.
    #[n(5)]
    pub expires: Timestamp,
    /// Of the person who signed in for it; it goes with the person's right.
    #[cbor(n(10), default)]
    pub person: Option<Person>,
}

impl ApiKey {
    pub(crate) fn audit(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "role": self.role.as_str(), "expires": self.expires,
                "issuer": self.person.as_ref().map(|person| &person.issuer),
                "subject": self.person.as_ref().map(|person| &person.subject) })
    }
}

impl Coordinator {
    /// Whether this credential may do what `role` may, and who it is. For what the rim does alone: the audit
    /// log.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn authorize(&self, credential: &Credential, role: AdminRole, now: Now) -> Result<Actor, Refusal> {
        match credential {
            Credential::LocalRoot { uid } => Ok(Actor::Root { uid: *uid }),
            Credential::ApiKey(secret) => {
                let key = self.api_key(secret, now).ok_or_else(Refusal::unauthorized)?;
                if !key.role.covers(role) {
                    let message = format!("this needs the role {}", role.as_str());
                    return Err(Refusal::new(Class::Forbidden, "BH-C004", message));
                }
                Ok(Actor::Admin { name: key.name.clone() })
            }
            Credential::Anonymous => Err(Refusal::unauthorized()),
        }
    }

    /// Looks at every key, whether it matched or not.
    fn api_key(&self, secret: &[u8], now: Now) -> Option<&ApiKey> {
        let hash = secret_hash(secret);
        let mut found = None;
        for key in self.state.api_keys.values() {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some(key);
            }
        }
        found.filter(|key| now.wall < key.expires)
    }

    pub(crate) fn login(
        &mut self,
        login: Login,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let Login { secret, name } = login;
        let hash = secret_hash(&Zeroizing::new(secret));
        let matches = self.state.bootstrap.is_some_and(|bootstrap| bool::from(bootstrap.ct_eq(&hash)));
        if !matches {
            return Err(Refusal::new(Class::Unauthorized, "BH-C005", "this secret opens no session")
                .help("it can be used once; root on the coordinator's host can always use the unix socket"));
        }
        self.writable()?;
        let name = user_name(name)?;
        let secret = entropy.derive("api key");
        let key = ApiKey {
            id: entropy.id("api key id", 8),
            hash: secret_hash(&*secret),
            name: name.clone(),
            role: AdminRole::Admin,
            created: now.wall,
            expires: now.wall.plus(API_KEY_LIFETIME),
            person: None,
        };
        let expires = key.expires;
        self.commit(Actor::Admin { name: name.clone() }, Change::SessionOpened { key }, now, effects)?;
        let role = AdminRole::Admin.as_str().to_owned();
        Ok(Reply::Session(Session { user: name, role, key: secret.to_vec(), expires }))
    }

    pub(crate) fn logout(
        &mut self,
        actor: Actor,
        credential: &Credential,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let id = match credential {
            Credential::ApiKey(secret) => self.api_key(secret, now).map(|key| key.id.clone()),
            Credential::LocalRoot { .. } | Credential::Anonymous => None,
        };
        let Some(id) = id else {
            return Err(Refusal::new(Class::BadRequest, "BH-C006", "there is no session to end here"));
        };
        self.commit(actor, Change::SessionClosed { id }, now, effects)?;
        Ok(Reply::Done)
    }

    pub(crate) fn who_am_i(&self, actor: &Actor) -> Reply {
        Reply::WhoAmI(WhoAmI {
            user: match actor {
                Actor::Admin { name } => name.clone(),
                Actor::Root { .. }
                | Actor::System
                | Actor::Node(_)
                | Actor::JoinToken { .. }
                | Actor::Person { .. } => actor.to_string(),
            },
            role: AdminRole::Admin.as_str().to_owned(),
            trust_domain: self.config.trust.document().trust_domain.to_string(),
        })
    }
}

/// A name that is safe in a log, a file and a terminal.
fn user_name(name: String) -> Result<String, Refusal> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    if (1..=MAX_USER_BYTES).contains(&name.len()) && name.bytes().all(inside) {
        return Ok(name);
    }
    Err(Refusal::new(Class::BadRequest, "BH-C007", "this is no name for an administrator")
        .help(format!("letters, digits, `.`, `_`, `@` and `-`, at most {MAX_USER_BYTES}")))
}
