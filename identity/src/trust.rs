//! The trust document: roots, operator keys, policy keys. Signed by k of n operator keys, version only grows.
//!
//! A [`Trust`] exists only for bytes whose own operators signed them in sufficient number, that were pinned
//! or follow, signed by the operators before, on one that was. So whoever steals a coordinator cannot change
//! whom its nodes trust. Label keys that the document seals are the operators' own to confer, by a [`Seal`].
//!
//! [`Seal`]: crate::Seal

use crate::certificate::MAX_CERTIFICATE_BYTES;
use crate::issue::IssuerCertificate;
use crate::keys::sha256;
use crate::profile::{self, Authenticity};
use crate::range::{self, Range4, Range6};
use crate::signed::{CONTEXT_TRUST, MAX_SIGNATURES, Signed, SignedError};
use crate::{
    Epoch, IdentityKey, IdentityPublicKey, LabelKey, Labels, Revocations, Timestamp, TrustDomain, cbor,
};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::fmt;

/// At most this many roots.
pub const MAX_ROOTS: usize = 8;
/// At most this many operator keys, so that all of them can sign.
pub const MAX_OPERATOR_KEYS: usize = MAX_SIGNATURES;
/// At most this many policy keys.
pub const MAX_POLICY_KEYS: usize = MAX_SIGNATURES;
/// At most this many sealed label keys; a seal over all of them fits into a certificate.
pub const MAX_SEALED_KEYS: usize = 16;
/// Largest trust document, signatures included.
pub const MAX_TRUST_BYTES: usize = 256 * 1024;

/// Format of the document. A reader refuses any other.
const FORMAT: u8 = 2;

/// What operators sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDocument {
    /// Only grows.
    pub version: Epoch,
    /// The deployment's name; never changes.
    pub trust_domain: TrustDomain,
    /// DER self-signed roots, 1 to [`MAX_ROOTS`].
    pub roots: Vec<Vec<u8>>,
    /// Who may sign the next version, 1 to [`MAX_OPERATOR_KEYS`], each once.
    pub operator_keys: Vec<IdentityPublicKey>,
    /// How many of them it takes, at least 1.
    pub operator_threshold: u8,
    /// Who may sign policy, 1 to [`MAX_POLICY_KEYS`], each once.
    pub policy_keys: Vec<IdentityPublicKey>,
    /// How many of them it takes, at least 1.
    pub policy_threshold: u8,
    /// Label keys that only operators confer, at most [`MAX_SEALED_KEYS`], each once.
    pub sealed: Vec<LabelKey>,
    /// The overlay's IPv6 range, within fc00::/7: network and prefix length.
    pub overlay_v6: Range6,
    /// The overlay's IPv4 range, within private or shared address space: network and prefix length.
    pub overlay_v4: Range4,
    /// When it was made.
    pub issued: Timestamp,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
}

/// [`TrustDocument`] on the wire.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Wire {
    #[n(0)]
    format: u8,
    #[n(1)]
    version: Epoch,
    #[n(2)]
    trust_domain: TrustDomain,
    #[cbor(n(3), with = "cbor::byte_strings")]
    roots: Vec<Vec<u8>>,
    #[n(4)]
    operator_keys: Vec<IdentityPublicKey>,
    #[n(5)]
    operator_threshold: u8,
    #[n(6)]
    policy_keys: Vec<IdentityPublicKey>,
    #[n(7)]
    policy_threshold: u8,
    #[n(8)]
    overlay_v6: Range6,
    #[n(9)]
    overlay_v4: Range4,
    #[n(10)]
    issued: Timestamp,
    #[n(11)]
    expires: Timestamp,
    #[n(12)]
    sealed: Vec<LabelKey>,
}

/// SHA-256 of the signed document's encoded bytes; pins it in a join token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustHash(pub [u8; 32]);

/// A verified trust document.
#[derive(Clone, Debug)]
pub struct Trust {
    document: TrustDocument,
    bytes: Vec<u8>,
    roots: Vec<Root>,
}

/// A root, ready to validate with.
#[derive(Clone, Debug)]
struct Root {
    subject: Authenticity,
    anchor: TrustAnchor<'static>,
}

/// Why a trust document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trust document refused: {0}")]
pub struct TrustError(pub String);

impl TrustDocument {
    /// Signs it with `operators`; whoever reads it decides whether they suffice.
    pub fn sign(&self, operators: &[&IdentityKey]) -> Vec<u8> {
        let document = self.clone();
        let wire = Wire {
            format: FORMAT,
            version: document.version,
            trust_domain: document.trust_domain,
            roots: document.roots,
            operator_keys: document.operator_keys,
            operator_threshold: document.operator_threshold,
            policy_keys: document.policy_keys,
            policy_threshold: document.policy_threshold,
            overlay_v6: document.overlay_v6,
            overlay_v4: document.overlay_v4,
            issued: document.issued,
            expires: document.expires,
            sealed: document.sealed,
        };
        Signed::sign(CONTEXT_TRUST, cbor::encode(&wire), operators).encode()
    }

    /// Those of `labels` that only operators confer.
    pub fn sealed_among(&self, labels: &Labels) -> Labels {
        labels.only(|key| self.sealed.contains(key))
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, TrustError> {
        let wire: Wire = cbor::decode(payload).map_err(TrustError)?;
        if wire.format != FORMAT {
            return refuse("format is unknown");
        }
        let document = Self {
            version: wire.version,
            trust_domain: wire.trust_domain,
            roots: wire.roots,
            operator_keys: wire.operator_keys,
            operator_threshold: wire.operator_threshold,
            policy_keys: wire.policy_keys,
            policy_threshold: wire.policy_threshold,
            overlay_v6: wire.overlay_v6,
            overlay_v4: wire.overlay_v4,
            issued: wire.issued,
            expires: wire.expires,
            sealed: wire.sealed,
        };
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), TrustError> {
        if self.roots.is_empty() || self.roots.len() > MAX_ROOTS {
            return refuse("number of roots is not within 1 to MAX_ROOTS");
        }
        if self.roots.iter().any(|root| root.len() > MAX_CERTIFICATE_BYTES) {
            return refuse("root is larger than MAX_CERTIFICATE_BYTES");
        }
        check_keys("operator", &self.operator_keys, MAX_OPERATOR_KEYS, self.operator_threshold)?;
        check_keys("policy", &self.policy_keys, MAX_POLICY_KEYS, self.policy_threshold)?;
        if self.sealed.len() > MAX_SEALED_KEYS {
            return refuse("more sealed label keys than MAX_SEALED_KEYS");
        }
        if self.sealed.iter().enumerate().any(|(at, key)| self.sealed[..at].contains(key)) {
            return refuse("a sealed label key appears twice");
        }
        if !range::are_private(self.overlay_v6, self.overlay_v4) {
            return refuse("overlay ranges are not private address space");
        }
        if self.issued >= self.expires {
            return refuse("it ends before it begins");
        }
        Ok(())
    }
}

fn check_keys(whose: &str, keys: &[IdentityPublicKey], most: usize, threshold: u8) -> Result<(), TrustError> {
    if keys.is_empty() || keys.len() > most {
        return Err(TrustError(format!("number of {whose} keys is not within 1 to {most}")));
    }
    // Twice the same key would be two of k.
    if keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key)) {
        return Err(TrustError(format!("a {whose} key appears twice")));
    }
    if threshold == 0 || usize::from(threshold) > keys.len() {
        return Err(TrustError(format!("{whose} threshold is not within 1 to {}", keys.len())));
    }
    Ok(())
}

impl Trust {
    /// First contact: the bytes must have this hash, and be signed by their own operators' threshold.
    ///
    /// # Errors
    /// When they do not, or as [`Trust::stored`].
    pub fn pinned(bytes: &[u8], pin: TrustHash, wall: Timestamp) -> Result<Self, TrustError> {
        if bytes.len() > MAX_TRUST_BYTES {
            return refuse("larger than MAX_TRUST_BYTES");
        }
        if TrustHash::of(bytes) != pin {
            return refuse("its hash is not the one that was pinned");
        }
        Self::stored(bytes, wall)
    }

    /// From the holder's own disk (already trusted once); checks self-consistency and expiry again.
    ///
    /// # Errors
    /// When it is malformed, too large, not signed by its own operators' threshold, or has expired at `wall`.
    pub fn stored(bytes: &[u8], wall: Timestamp) -> Result<Self, TrustError> {
        let (signed, document) = open(bytes)?;
        signed
            .verify(CONTEXT_TRUST, &document.operator_keys, usize::from(document.operator_threshold))
            .map_err(TrustError::from)?;
        if wall >= document.expires {
            return Err(TrustError(format!("it expired at {}", document.expires)));
        }
        let roots = document.roots.iter().map(|der| Root::read(der)).collect::<Result<_, _>>()?;
        Ok(Self { document, bytes: bytes.to_vec(), roots })
    }

    /// A later version, signed by *this* document's operators, and by its own. Same version with same bytes is
    /// `Ok`; older, or other bytes for this version, refused.
    ///
    /// # Errors
    /// When refused so, or as [`Trust::stored`]; `self` remains what is trusted.
    pub fn update(&self, bytes: &[u8], wall: Timestamp) -> Result<Self, TrustError> {
        let (signed, next) = open(bytes)?;
        if next.version < self.document.version {
            return Err(TrustError(format!(
                "version {} is older than {}",
                next.version, self.document.version
            )));
        }
        if next.version == self.document.version && bytes != self.bytes {
            return Err(TrustError(format!("there are two of version {}", next.version)));
        }
        if next.trust_domain != self.document.trust_domain {
            return Err(TrustError(format!("it is for trust domain {}", next.trust_domain)));
        }
        let threshold = usize::from(self.document.operator_threshold);
        signed.verify(CONTEXT_TRUST, &self.document.operator_keys, threshold).map_err(TrustError::from)?;
        Self::stored(bytes, wall)
    }

    /// The last of `documents`, oldest first, each taken as [`Trust::update`] takes it.
    ///
    /// # Errors
    /// As there, for the first that is refused; `self` remains what is trusted.
    pub fn follow<'a>(
        &self,
        documents: impl IntoIterator<Item = &'a [u8]>,
        wall: Timestamp,
    ) -> Result<Self, TrustError> {
        documents.into_iter().try_fold(self.clone(), |trust, next| trust.update(next, wall))
    }

    /// What a join token pins.
    pub fn hash(&self) -> TrustHash {
        TrustHash::of(&self.bytes)
    }

    /// The signed bytes, for disk and wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the operators signed.
    pub fn document(&self) -> &TrustDocument {
        &self.document
    }

    /// That an issuing CA may speak at `wall`: valid, for this trust domain, and under a root; neither is revoked.
    ///
    /// # Errors
    /// The first of these that it is not.
    pub fn check_issuer(
        &self,
        der: &[u8],
        revocations: &Revocations,
        wall: Timestamp,
    ) -> Result<(), TrustError> {
        self.issuer(der, revocations, wall).map(drop)
    }

    pub(crate) fn issuer(
        &self,
        der: &[u8],
        revocations: &Revocations,
        wall: Timestamp,
    ) -> Result<Authenticity, TrustError> {
        let issuer = IssuerCertificate::parse(der).map_err(|error| TrustError(format!("issuer: {error}")))?;
        if !issuer.subject.valid_at(wall) {
            return refuse("issuer's certificate is not valid now");
        }
        if self.root_of(der, revocations, wall).is_none() {
            return refuse("issuer is not under a trusted root");
        }
        if issuer.limits.trust_domain != self.document.trust_domain {
            return refuse("issuer is of another trust domain");
        }
        if revocations.revokes_any(issuer.subject.serial, &issuer.subject.key) {
            return refuse("issuer is revoked");
        }
        Ok(issuer.subject)
    }

    /// The root that signed this issuing CA's certificate and may vouch at `wall`, by its place in the document.
    pub fn root_of(&self, issuer: &[u8], revocations: &Revocations, wall: Timestamp) -> Option<usize> {
        let vouching = self.roots.iter().enumerate().find(|(_, root)| {
            root.may_vouch(revocations, wall) && profile::is_signed_by(issuer, &root.subject.key)
        });
        vouching.map(|(at, _)| at)
    }

    /// Keys and ends of the roots, in the order of the document.
    pub fn roots(&self) -> impl Iterator<Item = (IdentityPublicKey, Timestamp)> {
        self.roots.iter().map(|root| (root.subject.key, root.subject.not_after))
    }

    /// Whether the document itself is still worth something.
    #[must_use]
    pub fn valid_at(&self, wall: Timestamp) -> bool {
        wall < self.document.expires
    }

    /// The roots that may vouch at `wall`. Chain validation takes an anchor's word for ever, so validity and
    /// revocation are applied here.
    pub(crate) fn anchors(&self, revocations: &Revocations, wall: Timestamp) -> Vec<TrustAnchor<'_>> {
        self.valid_roots(revocations, wall).map(|root| root.anchor.clone()).collect()
    }

    fn valid_roots(&self, revocations: &Revocations, wall: Timestamp) -> impl Iterator<Item = &Root> {
        self.roots.iter().filter(move |root| root.may_vouch(revocations, wall))
    }
}

/// Keys and ends of these roots, in their order: for whoever is asked to sign for them.
///
/// # Errors
/// When one is no root.
pub fn root_ends(roots: &[Vec<u8>]) -> Result<Vec<(IdentityPublicKey, Timestamp)>, TrustError> {
    roots.iter().map(|der| Root::read(der).map(|root| (root.subject.key, root.subject.not_after))).collect()
}

impl Root {
    fn read(der: &[u8]) -> Result<Self, TrustError> {
        let subject = profile::read_root(der).map_err(|error| TrustError(format!("root: {error}")))?;
        if !profile::is_signed_by(der, &subject.key) {
            return refuse("root did not sign itself");
        }
        let certificate = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|error| TrustError(format!("root: {error:?}")))?
            .to_owned();
        Ok(Self { subject, anchor })
    }

    fn may_vouch(&self, revocations: &Revocations, wall: Timestamp) -> bool {
        self.subject.valid_at(wall) && !revocations.revokes_any(self.subject.serial, &self.subject.key)
    }
}

pub(crate) fn open(bytes: &[u8]) -> Result<(Signed, TrustDocument), TrustError> {
    if bytes.len() > MAX_TRUST_BYTES {
        return refuse("larger than MAX_TRUST_BYTES");
    }
    let signed = Signed::decode(bytes)?;
    let document = TrustDocument::decode(&signed.payload)?;
    Ok((signed, document))
}

impl From<SignedError> for TrustError {
    fn from(error: SignedError) -> Self {
        Self(error.0)
    }
}

fn refuse<T>(why: &str) -> Result<T, TrustError> {
    Err(TrustError(why.to_owned()))
}

impl TrustHash {
    /// The hash of a signed document.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha256(bytes))
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        bytes.try_into().map(Self).map_err(|_| "trust hash is not 32 bytes")
    }
}

/// 64 hexadecimal digits.
impl std::str::FromStr for TrustHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a trust hash is 64 hexadecimal digits")
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for TrustHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

cbor::fixed_bytes!(TrustHash, TrustHash::parse);
