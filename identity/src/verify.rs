//! The one road to a [`VerifiedIdentity`].
//!
//! Identity comes only from the leaf: the chain is validated for that same leaf, and for nothing else in the
//! list. Whatever the road a certificate came by (TLS, map, cache, disk), it is judged here, by the same
//! rules, at the time the caller names. That the holder has the leaf's key is for the handshake to show, and
//! that its role fits, for the caller to ask.

use crate::certificate::{Certificate, Chain, Claims, ProfileError, Role};
use crate::issue::IssuerCertificate;
use crate::seal::SealError;
use crate::{Labels, NodeName, Revocations, Timestamp, Trust, range};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// Proof that a certificate chain was valid under a trust document and revocation list at a moment.
/// Only [`verify`] makes one. Cheap to clone (`Arc` inside).
///
/// ```compile_fail
/// use bulkhead_identity::VerifiedIdentity;
/// let forged = VerifiedIdentity(todo!());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedIdentity(Arc<(Claims, Chain)>);

impl VerifiedIdentity {
    /// What the leaf states.
    pub fn claims(&self) -> &Claims {
        &self.0.0
    }

    /// The evidence, for handing on.
    pub fn chain(&self) -> &Chain {
        &self.0.1
    }

    /// Its name.
    pub fn name(&self) -> &NodeName {
        &self.claims().id.name
    }

    /// Its certified labels.
    pub fn labels(&self) -> &Labels {
        &self.claims().labels
    }

    /// What it may be.
    pub fn role(&self) -> Role {
        self.claims().id.role
    }

    /// From when on it is not valid any more.
    pub fn not_after(&self) -> Timestamp {
        self.claims().not_after
    }

    /// Whether its certificate's time has come and not passed. Revocation needs [`verify`] again.
    #[must_use]
    pub fn valid_at(&self, wall: Timestamp) -> bool {
        wall >= self.claims().not_before && wall < self.claims().not_after
    }
}

/// Why a chain proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No signatures up to a root, a CA that is none or not valid now, or certificates that do not belong.
    #[error("chain does not lead to a trusted root: {0}")]
    Chain(String),
    /// The leaf is not of our shape.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The leaf's time has passed.
    #[error("certificate of {0} expired at {1}, by the clock here")]
    Expired(String, Timestamp),
    /// The leaf's time has not come: it was made for later, or the clock here is wrong.
    #[error("certificate of {0} is not valid before {1}, by the clock here")]
    NotYetValid(String, Timestamp),
    /// The leaf, or the issuer that vouches for it, is on the revocation list.
    #[error("certificate of {0} is revoked")]
    Revoked(String),
    /// The issuing CA signed what it may not.
    #[error("issuer exceeded its limits: {0}")]
    Issuer(String),
    /// Another deployment's certificate.
    #[error("trust domain {0} is not ours")]
    TrustDomain(String),
    /// A label that only operators confer, without their word for it. The certificate is refused whole: without the
    /// label its holder might escape a rule that forbids.
    #[error("certificate of {0}: {1}")]
    Seal(String, SealError),
    /// Nothing can be verified any more; the operators have to sign a new one.
    #[error("the trust document expired at {0}")]
    TrustExpired(Timestamp),
}

/// Verifies the chain to a root of `trust`, its issuer's limits, its profile, its validity at `wall`, the seal over
/// labels that need one, and that it is not revoked.
///
/// A chain is a leaf and its issuing CA, nothing more and nothing less, in this order.
///
/// # Errors
/// The first rule that the chain breaks.
pub fn verify(
    chain: &Chain,
    trust: &Trust,
    revocations: &Revocations,
    wall: Timestamp,
) -> Result<VerifiedIdentity, VerifyError> {
    if !trust.valid_at(wall) {
        return Err(VerifyError::TrustExpired(trust.document().expires));
    }
    let [leaf, issuer] = chain.certificates() else {
        return Err(VerifyError::Chain("it is not a leaf and its issuing CA".to_owned()));
    };
    // Until the signatures are checked, claims serve for nothing but to say why they are refused.
    let Certificate { mut claims } = Certificate::parse(leaf)?;
    require_our_domain(&claims, trust)?;
    // Equal, and in one memory for all whom this document vouches for.
    claims.id.trust_domain = trust.document().trust_domain.clone();
    require_valid(&claims, wall)?;
    require_path(leaf, issuer, trust, revocations, wall)?;
    let issuer = IssuerCertificate::parse(issuer)
        .map_err(|ProfileError(why)| VerifyError::Chain(format!("issuer: {why}")))?;
    require_within_limits(&claims, &issuer, trust)?;
    claims.check_seal(trust.document()).map_err(|error| VerifyError::Seal(claims.id.to_string(), error))?;
    let issuer_revoked = revocations.revokes_any(issuer.subject.serial, &issuer.subject.key);
    if issuer_revoked || revocations.revokes(&claims) {
        return Err(VerifyError::Revoked(claims.id.to_string()));
    }
    Ok(VerifiedIdentity(Arc::new((claims, chain.clone()))))
}

fn require_our_domain(claims: &Claims, trust: &Trust) -> Result<(), VerifyError> {
    if claims.id.trust_domain == trust.document().trust_domain {
        Ok(())
    } else {
        Err(VerifyError::TrustDomain(claims.id.trust_domain.to_string()))
    }
}

fn require_valid(claims: &Claims, wall: Timestamp) -> Result<(), VerifyError> {
    if wall < claims.not_before {
        return Err(VerifyError::NotYetValid(claims.id.to_string(), claims.not_before));
    }
    if wall >= claims.not_after {
        return Err(VerifyError::Expired(claims.id.to_string(), claims.not_after));
    }
    Ok(())
}

/// Signatures and X.509 rules (RFC 5280, section 6) for this leaf, over this issuer, to a root.
fn require_path(
    leaf: &[u8],
    issuer: &[u8],
    trust: &Trust,
    revocations: &Revocations,
    wall: Timestamp,
) -> Result<(), VerifyError> {
    let refused = |error: webpki::Error| VerifyError::Chain(format!("{error:?}"));
    let leaf = CertificateDer::from(leaf);
    let intermediates = [CertificateDer::from(issuer)];
    let anchors = trust.anchors(revocations, wall);
    let end_entity = EndEntityCert::try_from(&leaf).map_err(refused)?;
    let path = end_entity
        .verify_for_usage(
            &[webpki::ring::ED25519],
            &anchors,
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(wall.0)),
            // The profile has required both TLS usages of the leaf already.
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(refused)?;
    // A leaf that a root signed directly has no issuer with limits: the honest one beside it is filler.
    if path.intermediate_certificates().count() != intermediates.len() {
        return Err(VerifyError::Chain("its issuing CA is not the one that signed the leaf".to_owned()));
    }
    Ok(())
}

fn require_within_limits(
    claims: &Claims,
    issuer: &IssuerCertificate,
    trust: &Trust,
) -> Result<(), VerifyError> {
    issuer.limits.check(claims).map_err(VerifyError::Issuer)?;
    if claims.not_before < issuer.subject.not_before || claims.not_after > issuer.subject.not_after {
        return Err(VerifyError::Issuer("the certificate outlasts its issuer's".to_owned()));
    }
    let document = trust.document();
    if claims
        .addresses
        .is_some_and(|addresses| !range::contains(document.overlay_v6, document.overlay_v4, addresses))
    {
        return Err(VerifyError::Issuer("addresses are outside the overlay".to_owned()));
    }
    Ok(())
}
