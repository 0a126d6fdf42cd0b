//! API keys, for automation and for the sessions of people: made, listed, ended, and when each was last used.
//!
//! A key is stored hashed and its secret is said once (S4). Nobody makes a key that may do more than he may himself
//! (D10), and the last key that may do everything ends only by its own logout, its time, or the host's root, who
//! needs no key (S10). Its last use is written down once an hour, so that a busy key does not fill the journal (G9).

use crate::admins::{AdminRole, Administrator};
use crate::command::Credential;
use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::person::Person;
use crate::refusal::{Class, Refusal};
use crate::state::{ReplayError, State, contradiction};
use bulkhead_identity::{Now, Timestamp};
use bulkhead_protocol::admin::{CreateKey, CreatedKey, KeyList, KeyView};
use bulkhead_protocol::token::{Token, TokenKind, secret_hash};
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::time::Duration;

/// How long an API key lives unless its maker says.
pub const API_KEY_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest life of an API key.
pub const MAX_API_KEY_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Most keys that live at once.
pub const MAX_API_KEYS: usize = 1000;
/// How exactly a key's last use is known.
pub const KEY_USE_GRAIN: Duration = Duration::from_secs(3600);
/// Longest name of an administrator or a key.
const MAX_NAME_BYTES: usize = 64;

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
    /// Who made it; empty in journals from before this was written down.
    #[cbor(n(6), default)]
    pub created_by: String,
    /// When it was last used, give or take [`KEY_USE_GRAIN`].
    #[cbor(n(7), default)]
    pub last_used: Option<Timestamp>,
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

    fn view(&self) -> KeyView {
        KeyView {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            created: self.created,
            expires: self.expires,
            created_by: self.created_by.clone(),
            last_used: self.last_used,
        }
    }
}

impl Coordinator {
    pub(crate) fn key_create(
        &mut self,
        caller: &Administrator,
        create: CreateKey,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        if !caller.role.covers(create.role) {
            return Err(Refusal::role(create.role).help("nobody can make a key that may do more than he may"));
        }
        let secret = entropy.derive("api key");
        let key =
            self.new_key(&caller.actor, create, entropy.id("api key id", 8), secret_hash(&*secret), now)?;
        let token = Token {
            kind: TokenKind::ApiKey,
            trust: self.config.trust.hash(),
            coordinators: self.config.addresses.clone(),
            secret,
        };
        let created = CreatedKey {
            id: key.id.clone(),
            key: token.encode().as_str().to_owned(),
            role: key.role,
            expires: key.expires,
        };
        self.commit(caller.actor.clone(), Change::KeyCreated { key }, now, effects)?;
        Ok(Reply::KeyCreated(created))
    }

    fn new_key(
        &self,
        maker: &Actor,
        create: CreateKey,
        id: String,
        hash: [u8; 32],
        now: Now,
    ) -> Result<ApiKey, Refusal> {
        let name = key_name(create.name)?;
        let lifetime = create.ttl_secs.map_or(API_KEY_LIFETIME, Duration::from_secs);
        if lifetime.is_zero() || lifetime > MAX_API_KEY_LIFETIME {
            let message = format!("an API key lives 1 to {} seconds", MAX_API_KEY_LIFETIME.as_secs());
            return Err(Refusal::new(Class::BadRequest, "BH-C010", message));
        }
        let living: Vec<_> = self.living_keys(now).collect();
        if living.len() >= MAX_API_KEYS {
            let message = format!("there are {MAX_API_KEYS} API keys already (MAX_API_KEYS)");
            return Err(
                Refusal::new(Class::TooMany, "BH-C011", message).help("revoke those that nobody uses")
            );
        }
        // Otherwise the audit log could not tell them apart.
        if living.iter().any(|key| key.name == name) {
            let message = format!("there is a key {name:?} already");
            return Err(Refusal::new(Class::Conflict, "BH-C012", message)
                .help("choose another name, or revoke that key first: bulkheadctl apikey list"));
        }
        let (created, expires) = (now.wall, now.wall.plus(lifetime));
        let created_by = maker.to_string();
        Ok(ApiKey {
            id,
            hash,
            name,
            role: create.role,
            created,
            expires,
            created_by,
            last_used: None,
            person: None,
        })
    }

    pub(crate) fn living_keys(&self, now: Now) -> impl Iterator<Item = &ApiKey> {
        self.state.api_keys.values().filter(move |key| now.wall < key.expires)
    }

    pub(crate) fn key_list(&self) -> Reply {
        let mut keys: Vec<_> = self.state.api_keys.values().map(ApiKey::view).collect();
        keys.sort_by(|a, b| (b.created, &a.id).cmp(&(a.created, &b.id)));
        Reply::Keys(KeyList { keys })
    }

    pub(crate) fn key_revoke(
        &mut self,
        caller: &Administrator,
        id: String,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let Some(key) = self.state.api_keys.get(&id) else { return Err(Refusal::no_such("API key", &id)) };
        let is_root = matches!(caller.actor, Actor::Root { .. });
        if !is_root && self.is_last_admin(key, now) {
            return Err(Refusal::new(Class::Conflict, "BH-C013", "this is the last key of an admin").help(
                "make another admin first, or revoke it as root over the unix socket on the coordinator's host",
            ));
        }
        self.commit(caller.actor.clone(), Change::KeyRevoked { id }, now, effects)?;
        Ok(Reply::Done)
    }

    /// S10.
    fn is_last_admin(&self, key: &ApiKey, now: Now) -> bool {
        let is_admin = |key: &ApiKey| key.role == AdminRole::Admin && now.wall < key.expires;
        is_admin(key) && !self.living_keys(now).any(|other| other.id != key.id && is_admin(other))
    }

    /// The key of this credential, if its use now is to be written down: see
    /// [`Command::KeyUsed`](crate::Command::KeyUsed).
    #[must_use]
    pub fn unrecorded_use(&self, credential: &Credential, now: Now) -> Option<String> {
        let Credential::ApiKey(secret) = credential else { return None };
        let key = self.api_key(secret, now)?;
        let recent = key.last_used.is_some_and(|used| now.wall < used.plus(KEY_USE_GRAIN));
        (!recent && !self.state.restored).then(|| key.id.clone())
    }

    pub(crate) fn key_used(&mut self, id: String, now: Now, effects: &mut Effects) {
        let Some(key) = self.state.api_keys.get(&id) else { return };
        let actor = Actor::Admin { name: key.name.clone() };
        // A key that was there a moment ago contradicts nothing; and nobody waits for an answer.
        let _ = self.commit(actor, Change::KeyUsed { id }, now, effects);
    }
}

impl State {
    /// Keys that have ended make room.
    pub(crate) fn create_key(&mut self, key: &ApiKey, time: Timestamp) -> Result<(), ReplayError> {
        if self.api_keys.contains_key(&key.id) {
            return contradiction(format!("two API keys {}", key.id));
        }
        self.api_keys.retain(|_, old| old.expires > time);
        self.api_keys.insert(key.id.clone(), key.clone());
        Ok(())
    }

    pub(crate) fn end_key(&mut self, id: &str) -> Result<(), ReplayError> {
        match self.api_keys.remove(id) {
            Some(_) => Ok(()),
            None => contradiction(format!("no API key {id}")),
        }
    }

    pub(crate) fn use_key(&mut self, id: &str, time: Timestamp) -> Result<(), ReplayError> {
        let Some(key) = self.api_keys.get_mut(id) else { return contradiction(format!("no API key {id}")) };
        key.last_used = Some(time);
        Ok(())
    }
}

/// A name that is safe in a log, a file and a terminal.
pub(crate) fn key_name(name: String) -> Result<String, Refusal> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(inside) {
        return Ok(name);
    }
    Err(Refusal::new(Class::BadRequest, "BH-C007", "this is no name for an administrator")
        .help(format!("letters, digits, `.`, `_`, `@` and `-`, at most {MAX_NAME_BYTES}")))
}
