//! The revocation list, by serial and by public key; epoch only grows.
//!
//! Never by a hash of signed bytes: there may be two encodings of one certificate, but it has one serial and
//! one key. A list is believed from an issuing CA under a root, whose certificate travels with it, or from
//! any one operator key; an issuer that is itself revoked cannot speak again.

use crate::certificate::Serial;
use crate::signed::{CONTEXT_REVOCATIONS, Signed, SignedError};
use crate::trust::TrustError;
use crate::{Claims, Epoch, IdentityKey, IdentityPublicKey, Timestamp, Trust, cbor};

/// At most this many serials on one list.
pub const MAX_REVOKED_SERIALS: usize = 200_000;
/// At most this many keys on one list.
pub const MAX_REVOKED_KEYS: usize = 100_000;
/// Largest list, signature and certificate included; room for both numbers above.
pub const MAX_REVOCATION_BYTES: usize = 8 * 1024 * 1024;

/// Format of the list. A reader refuses any other.
const FORMAT: u8 = 1;

/// What the issuer or any one operator signs. Lists are sorted and deduplicated by `sign`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RevocationList {
    /// Only grows.
    pub epoch: Epoch,
    /// When it was made.
    pub issued: Timestamp,
    /// Certificates that are void, at most [`MAX_REVOKED_SERIALS`].
    pub serials: Vec<Serial>,
    /// Identity keys whose certificates are all void, at most [`MAX_REVOKED_KEYS`].
    pub keys: Vec<IdentityPublicKey>,
}

/// [`RevocationList`] on the wire.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Wire {
    #[n(0)]
    format: u8,
    #[n(1)]
    epoch: Epoch,
    #[n(2)]
    issued: Timestamp,
    #[n(3)]
    serials: Vec<Serial>,
    #[n(4)]
    keys: Vec<IdentityPublicKey>,
}

/// The signed list, and the certificate of the issuer that signed it, unless an operator did.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Envelope {
    #[n(0)]
    signed: Signed,
    #[cbor(n(1), with = "minicbor::bytes")]
    issuer: Option<Vec<u8>>,
}

/// A verified list. `default()` is the empty list of epoch 0.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    list: RevocationList,
    bytes: Vec<u8>,
}

/// Why a revocation list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("revocation list refused: {0}")]
pub struct RevocationError(pub String);

impl RevocationList {
    /// Signed by an issuer: `issuer_certificate` travels with it so that holders can check it against the
    /// roots. An operator key passes `None`.
    pub fn sign(&self, key: &IdentityKey, issuer_certificate: Option<&[u8]>) -> Vec<u8> {
        let mut wire = Wire {
            format: FORMAT,
            epoch: self.epoch,
            issued: self.issued,
            serials: self.serials.clone(),
            keys: self.keys.clone(),
        };
        wire.serials.sort_unstable();
        wire.serials.dedup();
        wire.keys.sort_unstable();
        wire.keys.dedup();
        let signed = Signed::sign(CONTEXT_REVOCATIONS, cbor::encode(&wire), &[key]);
        cbor::encode(&Envelope { signed, issuer: issuer_certificate.map(<[u8]>::to_vec) })
    }

    /// The certificate of the issuer that claims to have signed this list; `None` when an operator did.
    pub fn issuer_of(bytes: &[u8]) -> Option<Vec<u8>> {
        cbor::decode::<Envelope>(bytes).ok()?.issuer
    }

    fn decode(payload: &[u8]) -> Result<Self, RevocationError> {
        let Wire { format, epoch, issued, serials, keys } = cbor::decode(payload).map_err(RevocationError)?;
        if format != FORMAT {
            return refuse("format is unknown");
        }
        if serials.len() > MAX_REVOKED_SERIALS || keys.len() > MAX_REVOKED_KEYS {
            return refuse("longer than MAX_REVOKED_SERIALS or MAX_REVOKED_KEYS");
        }
        // Look-ups are binary searches: an unsorted list would hide entries.
        if !serials.is_sorted_by(|a, b| a < b) || !keys.is_sorted_by(|a, b| a < b) {
            return refuse("entries are not in ascending order");
        }
        Ok(Self { epoch, issued, serials, keys })
    }
}

impl Revocations {
    /// Verifies a list from disk, or the first one. `floor`: the highest epoch seen; anything below is refused
    /// (same epoch allowed). Where a list is held already, [`Self::update`] is stricter.
    ///
    /// # Errors
    /// When it is malformed, beyond a limit, too old, or not signed by one who may, at `wall`.
    pub fn verify(
        bytes: &[u8],
        trust: &Trust,
        floor: Epoch,
        wall: Timestamp,
    ) -> Result<Self, RevocationError> {
        Self::default().accept(bytes, trust, floor, wall)
    }

    /// The list that follows on this one. Same epoch with same bytes is `Ok`; older, other bytes for this
    /// epoch, or signed by an issuer that this list revokes, refused.
    ///
    /// # Errors
    /// When refused so, or as [`Self::verify`]; `self` remains in force.
    pub fn update(&self, bytes: &[u8], trust: &Trust, wall: Timestamp) -> Result<Self, RevocationError> {
        let next = self.accept(bytes, trust, self.epoch(), wall)?;
        // The empty list of epoch 0 has no bytes: any list of epoch 0 may follow on it.
        if next.epoch() == self.epoch() && !self.bytes.is_empty() && next.bytes != self.bytes {
            return Err(RevocationError(format!("there are two of epoch {}", next.epoch())));
        }
        Ok(next)
    }

    /// Which list this is.
    pub fn epoch(&self) -> Epoch {
        self.list.epoch
    }

    /// When it was made.
    pub fn issued(&self) -> Timestamp {
        self.list.issued
    }

    /// The signed bytes, for disk and wire; empty for `default()`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the certificate of these claims is void.
    #[must_use]
    pub fn revokes(&self, claims: &Claims) -> bool {
        self.revokes_any(claims.serial, &claims.identity_key)
    }

    pub(crate) fn revokes_any(&self, serial: Serial, key: &IdentityPublicKey) -> bool {
        self.list.serials.binary_search(&serial).is_ok() || self.list.keys.binary_search(key).is_ok()
    }

    fn accept(
        &self,
        bytes: &[u8],
        trust: &Trust,
        floor: Epoch,
        wall: Timestamp,
    ) -> Result<Self, RevocationError> {
        if bytes.len() > MAX_REVOCATION_BYTES {
            return refuse("larger than MAX_REVOCATION_BYTES");
        }
        if !trust.valid_at(wall) {
            return refuse("the trust document has expired");
        }
        let envelope: Envelope = cbor::decode(bytes).map_err(RevocationError)?;
        let next = Self { list: RevocationList::decode(&envelope.signed.payload)?, bytes: bytes.to_vec() };
        if next.epoch() < floor {
            return Err(RevocationError(format!("epoch {} is older than {}", next.epoch(), floor)));
        }
        match &envelope.issuer {
            None => envelope.signed.verify(CONTEXT_REVOCATIONS, &trust.document().operator_keys, 1)?,
            Some(der) => {
                let issuer = self.admit_issuer(der, &next, trust, wall)?;
                envelope.signed.verify(CONTEXT_REVOCATIONS, &[issuer], 1)?
            }
        };
        Ok(next)
    }

    /// The key of an issuer that may speak: under a root, for this trust domain, and revoked neither by the
    /// list in force nor by its own.
    fn admit_issuer(
        &self,
        der: &[u8],
        next: &Self,
        trust: &Trust,
        wall: Timestamp,
    ) -> Result<IdentityPublicKey, RevocationError> {
        let issuer = trust.issuer(der, self, wall).map_err(|TrustError(why)| RevocationError(why))?;
        if next.revokes_any(issuer.serial, &issuer.key) {
            return refuse("issuer is revoked");
        }
        Ok(issuer.key)
    }
}

impl From<SignedError> for RevocationError {
    fn from(error: SignedError) -> Self {
        Self(error.0)
    }
}

fn refuse<T>(why: &str) -> Result<T, RevocationError> {
    Err(RevocationError(why.to_owned()))
}
