//! Sealed labels: what operators confer on one node, and nobody else can.
//!
//! Where the trust document seals a label key, a certificate may carry that label only together with a [`Seal`]:
//! the signatures of the operators' threshold over this trust domain, this node's name and identity key, exactly
//! these labels, and an end; and with that identity key's own signature over the tunnel key. So whoever steals the
//! issuing CA can make certificates, but none that says `env=prod` for a tunnel of the thief's.

use crate::signed::{CONTEXT_SEAL, Signed, SignedError};
use crate::trust::MAX_SEALED_KEYS;
use crate::{
    Claims, IdentityKey, IdentityPublicKey, Labels, NodeName, Timestamp, TrustDocument, TrustDomain, cbor,
};
use data_encoding::BASE64URL_NOPAD;

/// Largest seal, signatures included; a certificate has room for one.
pub const MAX_SEAL_BYTES: usize = 6 * 1024;

/// Format of the statement. A reader refuses any other.
const FORMAT: u8 = 1;

/// What operators sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedLabels {
    /// The only deployment it counts in.
    pub trust_domain: TrustDomain,
    /// The only node it counts for.
    pub name: NodeName,
    /// Whoever takes this name later has another key.
    pub identity_key: IdentityPublicKey,
    /// All of the node's sealed labels, at most [`MAX_SEALED_KEYS`]. None at all says that it has none.
    pub labels: Labels,
    /// No certificate with these labels lasts longer.
    pub not_after: Timestamp,
}

/// [`SealedLabels`] on the wire.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Wire {
    #[n(0)]
    format: u8,
    #[n(1)]
    trust_domain: TrustDomain,
    #[n(2)]
    name: NodeName,
    #[n(3)]
    identity_key: IdentityPublicKey,
    #[n(4)]
    labels: Labels,
    #[n(5)]
    not_after: Timestamp,
}

/// Labels with the signatures that were collected so far. What they are worth says [`Seal::verify`].
/// One word in the claims of the many that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal(Box<Collected>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Collected {
    statement: SealedLabels,
    signed: Signed,
}

/// Why a seal does not count, or is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SealError(pub String);

impl Seal {
    /// Signs `statement` with `operators`; whoever reads it decides whether they suffice.
    ///
    /// # Errors
    /// When there are more labels than [`MAX_SEALED_KEYS`], or more keys than can sign.
    pub fn sign(statement: &SealedLabels, operators: &[&IdentityKey]) -> Result<Self, SealError> {
        let SealedLabels { trust_domain, name, identity_key, labels, not_after } = statement.clone();
        let wire = Wire { format: FORMAT, trust_domain, name, identity_key, labels, not_after };
        Self::read(Signed::sign(CONTEXT_SEAL, cbor::encode(&wire), operators))
    }

    /// Adds the signature of one more operator.
    ///
    /// # Errors
    /// When it has too many already.
    pub fn countersign(&mut self, operator: &IdentityKey) -> Result<(), SealError> {
        Ok(self.0.signed.countersign(CONTEXT_SEAL, operator)?)
    }

    /// Adds the signatures of another copy.
    ///
    /// # Errors
    /// When that one says something else, or there are too many.
    pub fn merge(&mut self, other: &Self) -> Result<(), SealError> {
        Ok(self.0.signed.merge(&other.0.signed)?)
    }

    /// What is sealed.
    pub fn statement(&self) -> &SealedLabels {
        &self.0.statement
    }

    /// Whose signatures are right. Whether they are operators is for [`Self::verify`].
    pub fn signers(&self) -> Vec<IdentityPublicKey> {
        self.0.signed.signers(CONTEXT_SEAL)
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        self.0.signed.encode()
    }

    /// Reads what [`Self::encode`] wrote; no signature is checked yet.
    ///
    /// # Errors
    /// When it is malformed or beyond a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        if bytes.len() > MAX_SEAL_BYTES {
            return Err(SealError("seal is larger than MAX_SEAL_BYTES".to_owned()));
        }
        Self::read(Signed::decode(bytes)?)
    }

    fn read(signed: Signed) -> Result<Self, SealError> {
        let wire: Wire = cbor::decode(&signed.payload).map_err(SealError)?;
        let Wire { format, trust_domain, name, identity_key, labels, not_after } = wire;
        if format != FORMAT {
            return refuse("format of the seal is unknown");
        }
        if labels.len() > MAX_SEALED_KEYS {
            return refuse("seal over more labels than MAX_SEALED_KEYS");
        }
        let statement = SealedLabels { trust_domain, name, identity_key, labels, not_after };
        Ok(Self(Box::new(Collected { statement, signed })))
    }

    /// That enough operators of `trust` signed it, for this deployment.
    ///
    /// # Errors
    /// When they did not.
    pub fn verify(&self, trust: &TrustDocument) -> Result<(), SealError> {
        if self.0.statement.trust_domain != trust.trust_domain {
            return refuse("the seal is for another trust domain");
        }
        let threshold = usize::from(trust.operator_threshold);
        match self.0.signed.verify(CONTEXT_SEAL, &trust.operator_keys, threshold) {
            Ok(_) => Ok(()),
            Err(SignedError(why)) => Err(SealError(format!("the seal is not the operators': {why}"))),
        }
    }
}

impl Claims {
    /// That every label whose key is sealed in `trust` is conferred by operators: on this node, with exactly the
    /// labels that are sealed, and for at least as long. Where none of the labels is sealed a seal says nothing.
    ///
    /// # Errors
    /// When a sealed label is not, or the seal says something else.
    pub fn check_seal(&self, trust: &TrustDocument) -> Result<(), SealError> {
        let sealed = trust.sealed_among(&self.labels);
        let Some((first, _)) = sealed.iter().next() else { return Ok(()) };
        let Some(seal) = &self.seal else {
            return Err(SealError(format!("label {first} is sealed, and there is no seal over it")));
        };
        let statement = seal.statement();
        if statement.name != self.id.name || statement.identity_key != self.identity_key {
            return refuse("the seal is over another node's labels");
        }
        // Both ways: a label too many would be conferred by nobody, and one left out might be what a rule forbids.
        if let Some((key, _)) =
            sealed.iter().find(|(key, value)| statement.labels.get(key.as_str()) != Some(value))
        {
            return Err(SealError(format!("label {key} is sealed, and the seal says another value or none")));
        }
        if let Some((key, _)) =
            statement.labels.iter().find(|(key, value)| self.labels.get(key.as_str()) != Some(value))
        {
            return Err(SealError(format!("the seal is over label {key} too, which is missing or differs")));
        }
        let bound = |tunnel| self.binding.is_some_and(|binding| binding.binds(&self.identity_key, &tunnel));
        if !self.tunnel_key.is_some_and(bound) {
            return refuse("the node whose labels are sealed did not sign that this tunnel key is its own");
        }
        if self.not_after > statement.not_after {
            return Err(SealError(format!(
                "the certificate outlasts its seal, which ends at {}",
                statement.not_after
            )));
        }
        seal.verify(trust)
    }
}

impl From<SignedError> for SealError {
    fn from(error: SignedError) -> Self {
        Self(error.0)
    }
}

fn refuse<T>(why: &str) -> Result<T, SealError> {
    Err(SealError(why.to_owned()))
}

impl<C> minicbor::Encode<C> for Seal {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.bytes(&self.encode())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Seal {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::decode(decoder.bytes()?).map_err(minicbor::decode::Error::custom)
    }
}

/// base64url without padding.
impl serde::Serialize for Seal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.encode()))
    }
}

impl<'de> serde::Deserialize<'de> for Seal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}
