//! The identity itself: `spiffe://<trust domain>/<role>/<name>`, and the DNS name that goes with it.
//!
//! The role is part of the identity, so that a node can never be named into being a coordinator.

use crate::{NodeName, Role, TrustDomain, name::NameError};
use std::fmt;

const SCHEME: &str = "spiffe://";

/// `spiffe://<trust domain>/<role>/<name>`, role being one of [`Role`] in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    /// The deployment that vouches for it.
    pub trust_domain: TrustDomain,
    /// What its holder may be.
    pub role: Role,
    /// Its name, unique in role and trust domain.
    pub name: NodeName,
}

impl SpiffeId {
    /// Parses the exact text: no user, port, query, fragment, escapes or empty parts (SPIFFE-ID, section 2).
    ///
    /// # Errors
    /// When it is anything but the one form above.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refused = |why| NameError::new("SPIFFE ID", text, why);
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| refused("does not start with spiffe://"))?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused("is not spiffe://<trust domain>/<role>/<name>"));
        };
        Ok(Self {
            trust_domain: TrustDomain::parse(domain)?,
            role: Role::parse(role).ok_or_else(|| refused("has an unknown role"))?,
            name: NodeName::parse(name)?,
        })
    }

    /// `<name>.<trust domain>`: the name that the overlay's resolver answers for.
    pub fn dns_name(&self) -> String {
        format!("{}.{}", self.name, self.trust_domain)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.trust_domain, self.role, self.name)
    }
}

impl std::str::FromStr for SpiffeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

impl<C> minicbor::Encode<C> for SpiffeId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.str(&self.to_string())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for SpiffeId {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(decoder.str()?).map_err(minicbor::decode::Error::custom)
    }
}
