//! Join tokens. What is stored is a hash, compared in constant time over every token; uses only go down; the
//! secret is shown once (D2, S4).

use crate::coordinator::Coordinator;
use crate::effect::{Effects, Reply};
use crate::entropy::Entropy;
use crate::event::{Actor, Change};
use crate::refusal::{Class, Refusal};
use crate::seal::refuse_sealed;
use crate::state::State;
use crate::timing::{MAX_TOKEN_LIFETIME, TOKEN_LIFETIME};
use bulkhead_identity::{Labels, NodeName, Now, Timestamp};
use bulkhead_protocol::admin::{CreateToken, CreatedToken, TokenList, TokenView};
use bulkhead_protocol::token::{Token, TokenKind, secret_hash};
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Most tokens that are kept, ended ones of the last month included.
pub(crate) const MAX_TOKENS: usize = 10_000;
/// Most nodes that one token can make.
pub(crate) const MAX_TOKEN_USES: u32 = 10_000;

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TokenRecord {
    /// Public name of the token.
    #[n(0)]
    pub id: String,
    /// SHA-256 of its secret.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// What nodes that join by it are.
    #[n(2)]
    pub labels: Labels,
    /// The one name a node may join under, when fixed.
    #[n(3)]
    pub name: Option<NodeName>,
    /// How many nodes may join by it in all.
    #[n(4)]
    pub uses: u32,
    /// How many still may.
    #[n(5)]
    pub uses_left: u32,
    /// Since when.
    #[n(6)]
    pub created: Timestamp,
    /// Until when.
    #[n(7)]
    pub expires: Timestamp,
    /// By whom.
    #[n(8)]
    pub created_by: String,
    /// Ended before its time.
    #[n(9)]
    pub revoked: bool,
}

impl TokenRecord {
    fn is_usable(&self, wall: Timestamp) -> bool {
        !self.revoked && self.uses_left > 0 && wall < self.expires
    }

    pub(crate) fn audit(&self) -> Value {
        json!({ "id": self.id, "labels": self.labels, "name": self.name, "uses": self.uses, "expires": self.expires })
    }

    fn view(&self) -> TokenView {
        TokenView {
            id: self.id.clone(),
            labels: self.labels.clone(),
            uses_left: self.uses_left,
            uses: self.uses,
            created: self.created,
            expires: self.expires,
            created_by: self.created_by.clone(),
            revoked: self.revoked,
        }
    }
}

impl State {
    /// The token of this secret, if it can still make a node. Looks at every token, whether it matched or not.
    pub(crate) fn usable_token(&self, secret: &[u8], now: Now) -> Option<&TokenRecord> {
        let hash = secret_hash(secret);
        let mut found = None;
        for token in self.tokens.values() {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        found.filter(|token| token.is_usable(now.wall))
    }
}

impl Coordinator {
    pub(crate) fn token_create(
        &mut self,
        actor: Actor,
        create: CreateToken,
        entropy: &Entropy,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        if self.state.tokens.len() >= MAX_TOKENS {
            let message = format!("there are {MAX_TOKENS} tokens already (MAX_TOKENS)");
            return Err(Refusal::new(Class::TooMany, "BH-C120", message)
                .help("ended tokens go away a month after their end"));
        }
        let secret = entropy.derive("token secret");
        let record = self.new_token(&actor, create, entropy.id("token", 8), secret_hash(&*secret), now)?;
        let token = Token {
            kind: TokenKind::Join,
            trust: self.config.trust.hash(),
            coordinators: self.config.addresses.clone(),
            secret,
        };
        let created = CreatedToken {
            id: record.id.clone(),
            token: token.encode().as_str().to_owned(),
            expires: record.expires,
            uses: record.uses,
        };
        self.commit(actor, Change::TokenCreated { token: record }, now, effects)?;
        Ok(Reply::TokenCreated(created))
    }

    fn new_token(
        &self,
        actor: &Actor,
        create: CreateToken,
        id: String,
        hash: [u8; 32],
        now: Now,
    ) -> Result<TokenRecord, Refusal> {
        let bad = |message: String| Refusal::new(Class::BadRequest, "BH-C121", message);
        let uses = create.uses.unwrap_or(1);
        if !(1..=MAX_TOKEN_USES).contains(&uses) {
            return Err(bad(format!("uses are 1 to {MAX_TOKEN_USES} (MAX_TOKEN_USES)")));
        }
        let lifetime = create.ttl_secs.map_or(TOKEN_LIFETIME, Duration::from_secs);
        if lifetime.is_zero() || lifetime > MAX_TOKEN_LIFETIME {
            return Err(bad(format!("a token lives 1 to {} seconds", MAX_TOKEN_LIFETIME.as_secs())));
        }
        let name = create.name.as_deref().map(NodeName::parse).transpose();
        let name = name.map_err(|error| bad(error.to_string()))?;
        if name.is_some() && uses > 1 {
            return Err(bad("a token with a fixed name makes one node".to_owned())
                .help("leave out the name or the uses"));
        }
        if let Some(allowed) = &self.config.issuer.limits().label_keys
            && let Some((key, _)) = create.labels.iter().find(|(key, _)| !allowed.contains(key))
        {
            return Err(bad(format!("the issuing CA may not vouch for label {key}")));
        }
        refuse_sealed(create.labels.iter().map(|(key, _)| key.as_str()), self.config.trust.document())?;
        Ok(TokenRecord {
            id,
            hash,
            labels: create.labels,
            name,
            uses,
            uses_left: uses,
            created: now.wall,
            expires: now.wall.plus(lifetime),
            created_by: actor.to_string(),
            revoked: false,
        })
    }

    pub(crate) fn token_list(&self) -> Reply {
        let mut tokens: Vec<_> = self.state.tokens.values().map(TokenRecord::view).collect();
        tokens.sort_by(|a, b| (b.created, &a.id).cmp(&(a.created, &b.id)));
        Reply::Tokens(TokenList { tokens })
    }

    pub(crate) fn token_revoke(
        &mut self,
        actor: Actor,
        id: String,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        self.writable()?;
        let Some(token) = self.state.tokens.get(&id) else { return Err(Refusal::no_such("token", &id)) };
        if !token.revoked {
            self.commit(actor, Change::TokenRevoked { id }, now, effects)?;
        }
        Ok(Reply::Done)
    }
}
