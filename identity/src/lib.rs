//! Who someone is: keys, certificate profile, trust document, verification, revocation.
//!
//! Pure: bytes and a time go in, decisions come out. `verify()` is the one constructor of
//! [`VerifiedIdentity`]; everything that grants anything asks for one.
//!
//! - What is signed: [`certificate`], [`trust`] (on its way between operators a [`draft`]), [`revocation`],
//!   [`seal`], and [`signed`], the envelope of all but the first, and of policy.
//! - Who signs: [`keys`]; [`issue`] makes certificates, [`issuer_request`] asks for a CA's, [`request`] proves that one asks for one's own keys.
//! - Who judges: [`mod@verify`], with `profile` for the shape of a certificate and [`range`] for addresses.
//! - What all of it is made of: [`name`], [`mod@time`], and `cbor`, the one encoding.

mod cbor;
pub mod certificate;
pub mod draft;
pub mod issue;
pub mod issuer_request;
pub mod keys;
pub mod name;
mod profile;
pub mod range;
pub mod request;
pub mod revocation;
pub mod seal;
pub mod signed;
mod spiffe;
pub mod time;
pub mod trust;
pub mod verify;

pub use certificate::{Certificate, Chain, Claims, Issuers, OverlayAddrs, Role, Serial};
pub use draft::Draft;
pub use issue::{Authority, Issuer, IssuerLimits};
pub use issuer_request::IssuerRequest;
pub use keys::{Fingerprint, IdentityKey, IdentityPublicKey, TunnelKey, TunnelPublicKey};
pub use name::{LabelKey, LabelValue, Labels, NodeName, TrustDomain};
pub use request::{CertificateRequest, Challenge, ChallengeKey, KeyBinding};
pub use revocation::{RevocationList, Revocations};
pub use seal::{Seal, SealedLabels};
pub use signed::Signed;
pub use spiffe::SpiffeId;
pub use time::{Now, Timestamp};
pub use trust::{Trust, TrustDocument, TrustHash};
pub use verify::{VerifiedIdentity, VerifyError, verify};

/// Version counter of trust and revocation; only grows.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
    minicbor::CborLen,
)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Epoch(#[n(0)] pub u64);

/// Version counter of policy and peer maps; only grows.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
    minicbor::CborLen,
)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Generation(#[n(0)] pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
