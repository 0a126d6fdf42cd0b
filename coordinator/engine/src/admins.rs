//! Administrators: who a credential speaks for and what its role permits, and the bootstrap secret that makes the
//! first one. Secrets are stored hashed and compared in constant time; every key expires; a wrong secret, a spent
//! one and none at all are one refusal (D2, D10, S4).

use crate::command::{AdminCall, Credential};
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::keys::{API_KEY_LIFETIME, ApiKey, key_name};
use crate::refusal::{Class, Refusal};
use bulkhead_identity::Now;
pub use bulkhead_protocol::admin::AdminRole;
use bulkhead_protocol::admin::{Login, Session, WhoAmI};
use bulkhead_protocol::token::secret_hash;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Who calls, and what he may do.
pub(crate) struct Administrator {
    pub(crate) actor: Actor,
    pub(crate) role: AdminRole,
}

impl AdminCall {
    /// The least role that may do this. The rim's table of routes says the same, and a test compares them.
    #[must_use]
    pub fn needs(&self) -> AdminRole {
        match self {
            // Whoever logs in has no role yet: the bootstrap secret is judged instead.
            Self::Login(_)
            | Self::Logout
            | Self::WhoAmI
            | Self::NodeList
            | Self::NodeShow(_)
            | Self::PendingList
            | Self::OffloadsShow
            | Self::RevokeStatus(_)
            | Self::TokenList
            | Self::KeyList
            | Self::PolicyShow
            | Self::PolicyHistory
            | Self::PolicyCan(_)
            | Self::PolicyAck(_)
            | Self::TrustShow
            | Self::Flows => AdminRole::Viewer,
            Self::NodeLabel(..)
            | Self::NodeRevoke(..)
            | Self::NodeApprove(_)
            | Self::NodeReject(..)
            | Self::OffloadsSwitch(..)
            | Self::TokenCreate(_)
            | Self::TokenRevoke(_)
            | Self::PolicyCheck(_) => AdminRole::Operator,
            Self::NodeSeal(..)
            | Self::NodeRemove(_)
            | Self::KeyCreate(_)
            | Self::KeyRevoke(_)
            | Self::PolicyApply(_)
            | Self::PolicyConfirm(_)
            | Self::PolicyRollback(_)
            | Self::TrustApply(_)
            // And the unix socket: see `accept_restore`.
            | Self::AcceptRestore => AdminRole::Admin,
        }
    }
}

impl Coordinator {
    /// Whether this credential may do what `role` may, and who it is.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn authorize(&self, credential: &Credential, role: AdminRole, now: Now) -> Result<Actor, Refusal> {
        self.administrator(credential, role, now).map(|administrator| administrator.actor)
    }

    /// Who a credential speaks for, whatever he may do; for the record of what he was refused.
    #[must_use]
    pub fn whose(&self, credential: &Credential, now: Now) -> Actor {
        self.authorize(credential, AdminRole::Viewer, now).unwrap_or(Actor::Stranger)
    }

    pub(crate) fn administrator(
        &self,
        credential: &Credential,
        needed: AdminRole,
        now: Now,
    ) -> Result<Administrator, Refusal> {
        let administrator = match credential {
            Credential::LocalRoot { uid } => {
                Administrator { actor: Actor::Root { uid: *uid }, role: AdminRole::Admin }
            }
            Credential::ApiKey(secret) => {
                let key = self.api_key(secret, now).ok_or_else(Refusal::unauthorized)?;
                Administrator { actor: Actor::Admin { name: key.name.clone() }, role: key.role }
            }
            Credential::Anonymous => return Err(Refusal::unauthorized()),
        };
        if !administrator.role.covers(needed) {
            return Err(Refusal::role(needed));
        }
        Ok(administrator)
    }

    /// Looks at every key, whether it matched or not.
    pub(crate) fn api_key(&self, secret: &[u8], now: Now) -> Option<&ApiKey> {
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
        let name = key_name(name)?;
        let secret = entropy.derive("api key");
        let actor = Actor::Admin { name: name.clone() };
        let key = ApiKey {
            id: entropy.id("api key id", 8),
            hash: secret_hash(&*secret),
            name: name.clone(),
            role: AdminRole::Admin,
            created: now.wall,
            expires: now.wall.plus(API_KEY_LIFETIME),
            created_by: actor.to_string(),
            last_used: None,
            person: None,
        };
        let expires = key.expires;
        self.commit(actor, Change::SessionOpened { key }, now, effects)?;
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

    pub(crate) fn who_am_i(&self, caller: &Administrator) -> Reply {
        Reply::WhoAmI(WhoAmI {
            user: match &caller.actor {
                Actor::Admin { name } => name.clone(),
                actor @ (Actor::Root { .. }
                | Actor::System
                | Actor::Node(_)
                | Actor::JoinToken { .. }
                | Actor::Person { .. }
                | Actor::Stranger) => actor.to_string(),
            },
            role: caller.role.as_str().to_owned(),
            trust_domain: self.config.trust.document().trust_domain.to_string(),
        })
    }
}
