//! The signed policy bundle: rules, generation, validity.
//!
//! A node enforces nothing that the trust document's policy keys did not sign, and its generation only
//! grows: an older bundle, or another content for a generation that is held, is refused (C2, C9).

use std::sync::Arc;

use bulkhead_identity::{
    Generation, IdentityKey, Role, Signed, Timestamp, Trust, TrustDomain, VerifiedIdentity,
    signed::CONTEXT_POLICY,
};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::{Permit, RuleSet, Subject, class::Classes, decide::moment, grant::Window, wire::array_of};

/// Longest signed bundle, below the limit of a protocol frame.
pub const MAX_BUNDLE_BYTES: usize = 12 * 1024 * 1024;

/// Version of the compiled language. A reader refuses any other: skipping what it does not know could widen.
const LANGUAGE: u8 = 1;

/// What policy keys sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The deployment whose policy it is.
    pub trust_domain: TrustDomain,
    /// From 1; only grows.
    pub generation: Generation,
    /// It permits nothing before.
    pub not_before: Timestamp,
    /// It permits nothing from here on.
    pub expires: Timestamp,
    /// Who may talk to whom.
    pub rules: RuleSet,
}

impl Bundle {
    /// The signed bytes.
    ///
    /// `rules` must come from [`crate::check()`], which keeps them within the limits that readers enforce.
    pub fn sign(&self, keys: &[&IdentityKey]) -> Vec<u8> {
        let payload = minicbor::to_vec(self).expect("writing to a Vec does not fail");
        Signed::sign(CONTEXT_POLICY, payload, keys).encode()
    }
}

impl<C> Encode<C> for Bundle {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(6)?.u8(LANGUAGE)?.encode_with(&self.trust_domain, ctx)?;
        e.encode_with(self.generation, ctx)?;
        e.encode_with(self.not_before, ctx)?.encode_with(self.expires, ctx)?;
        e.encode_with(&self.rules, ctx)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Bundle {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        array_of(d, 6)?;
        if d.u8()? != LANGUAGE {
            return Err(decode::Error::message("written for another version of the policy language"));
        }
        Ok(Self {
            trust_domain: d.decode()?,
            generation: d.decode()?,
            not_before: d.decode()?,
            expires: d.decode()?,
            rules: RuleSet::decode(d, ctx)?,
        })
    }
}

/// A verified policy. `nobody()` is generation 0, permits nothing.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `None` only for `nobody()`.
    trust_domain: Option<TrustDomain>,
    generation: Generation,
    validity: Window,
    bytes: Vec<u8>,
    classes: Arc<Classes>,
}

impl Policy {
    /// The policy before any policy: permits nothing.
    pub fn nobody() -> Self {
        Self {
            trust_domain: None,
            generation: Generation(0),
            validity: Window { start: Timestamp(0), end: Timestamp(0) },
            bytes: Vec::new(),
            classes: Arc::default(),
        }
    }

    /// Verifies signatures, trust domain, validity at `wall` and that the generation is not below `floor`,
    /// the highest one seen. When a policy is held already, use [`Policy::replace`].
    ///
    /// # Errors
    /// When any of these does not hold, or the bytes are not a bundle.
    pub fn verify(
        bytes: &[u8],
        trust: &Trust,
        floor: Generation,
        wall: Timestamp,
    ) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(PolicyError(format!("longer than {MAX_BUNDLE_BYTES} bytes (MAX_BUNDLE_BYTES)")));
        }
        let document = trust.document();
        let signed = Signed::decode(bytes).map_err(|error| PolicyError(error.to_string()))?;
        let payload = signed
            .verify(CONTEXT_POLICY, &document.policy_keys, usize::from(document.policy_threshold))
            .map_err(|error| PolicyError(error.to_string()))?;
        let bundle = decode_payload(payload)?;
        admit(&bundle, &document.trust_domain, floor, wall)?;
        Ok(Self {
            trust_domain: Some(bundle.trust_domain),
            generation: bundle.generation,
            validity: Window { start: bundle.not_before, end: bundle.expires },
            bytes: bytes.to_vec(),
            classes: Arc::new(Classes::new(Arc::new(bundle.rules))),
        })
    }

    /// Verifies `bytes` as successor of `self`: a newer generation, or the same content; two contents for
    /// one generation are refused (C2). `self` stays in force after an error.
    ///
    /// # Errors
    /// As [`Policy::verify`], and when the generation is held with another content.
    pub fn replace(&self, bytes: &[u8], trust: &Trust, wall: Timestamp) -> Result<Self, PolicyError> {
        let next = Self::verify(bytes, trust, self.generation, wall)?;
        if next.generation == self.generation && !self.same_content(&next) {
            return Err(PolicyError(format!("two contents for generation {}", self.generation.0)));
        }
        Ok(next)
    }

    /// Further signatures on one payload do not make it another content.
    fn same_content(&self, other: &Self) -> bool {
        let payload = |policy: &Self| Signed::decode(&policy.bytes).map(|signed| signed.payload).ok();
        payload(self).is_some_and(|ours| payload(other) == Some(ours))
    }

    /// Its generation; 0 for `nobody()`.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The signed bytes; empty for `nobody()`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        self.classes.rules()
    }

    /// The rules compiled for many questions.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// From when on it permits nothing.
    pub fn expires(&self) -> Timestamp {
        self.validity.end
    }

    /// `None` when nothing is or (before every `until`) will be permitted in either direction.
    ///
    /// Only nodes and gateways of the policy's own trust domain are permitted anything, and no identity
    /// needs a permit for itself.
    #[must_use]
    pub fn permit(&self, me: &VerifiedIdentity, peer: &VerifiedIdentity, wall: Timestamp) -> Option<Permit> {
        if !self.concerns(me) || !self.concerns(peer) || me.name() == peer.name() {
            return None;
        }
        let mine = self.classes.of(&Subject::from(me));
        let theirs = self.classes.of(&Subject::from(peer));
        let inbound = self.classes.grants(&theirs, &mine, self.validity);
        let outbound = self.classes.grants(&mine, &theirs, self.validity);
        Permit::new(peer.clone(), self.generation, inbound, outbound, wall)
    }

    fn concerns(&self, identity: &VerifiedIdentity) -> bool {
        let carries_traffic = match identity.role() {
            Role::Node | Role::Gateway => true,
            Role::Coordinator | Role::Relay => false,
        };
        carries_traffic && self.trust_domain.as_ref() == Some(&identity.claims().id.trust_domain)
    }
}

fn decode_payload(payload: &[u8]) -> Result<Bundle, PolicyError> {
    let mut decoder = Decoder::new(payload);
    let bundle: Bundle =
        decoder.decode().map_err(|error| PolicyError(format!("malformed bundle: {error}")))?;
    if decoder.position() != payload.len() {
        return Err(PolicyError("malformed bundle: bytes after its end".to_owned()));
    }
    Ok(bundle)
}

fn admit(
    bundle: &Bundle,
    trust_domain: &TrustDomain,
    floor: Generation,
    wall: Timestamp,
) -> Result<(), PolicyError> {
    let refused = |why: String| Err(PolicyError(why));
    let Bundle { generation, not_before, expires, .. } = bundle;
    if bundle.trust_domain != *trust_domain {
        return refused(format!("it is for trust domain {}, ours is {trust_domain}", bundle.trust_domain));
    }
    if *generation == Generation(0) {
        return refused("generation 0 is the absence of a policy".to_owned());
    }
    if *generation < floor {
        return refused(format!("generation {} is older than {}, already seen", generation.0, floor.0));
    }
    if wall < *not_before {
        return refused(format!("it is not valid before {}", moment(*not_before)));
    }
    if wall >= *expires {
        return refused(format!("it expired at {}", moment(*expires)));
    }
    Ok(())
}

/// Why a bundle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy bundle refused: {0}")]
pub struct PolicyError(pub String);
