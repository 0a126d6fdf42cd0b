//! The policy a node enforces: a slice whose every rule it has verified.
//!
//! A node enforces nothing that the trust document's policy keys did not sign, and its generation only
//! grows: an older one, or another content for a generation that is held, is refused (C2, C9).

use std::sync::Arc;

use bulkhead_identity::{Generation, Role, Timestamp, Trust, TrustDomain, VerifiedIdentity};

use crate::{
    Permit, PolicyError, RuleSet, Subject, bundle::Header, class::Classes, grant::Window, pairs::Pairs,
    slice::Slice,
};

/// A verified policy. `nobody()` is generation 0, permits nothing.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `None` only for `nobody()`.
    header: Option<Header>,
    bytes: Vec<u8>,
    classes: Arc<Classes>,
}

impl Policy {
    /// The policy before any policy: permits nothing.
    pub fn nobody() -> Self {
        Self { header: None, bytes: Vec::new(), classes: Arc::default() }
    }

    /// Verifies a slice: signatures, trust domain, validity at `wall`, that the generation is not below `floor`,
    /// the highest one seen, and that its rules belong to that generation. When a policy is held already, use
    /// [`Policy::replace`].
    ///
    /// # Errors
    /// When any of these does not hold, or the bytes are not a slice.
    pub fn verify(
        bytes: &[u8],
        trust: &Trust,
        floor: Generation,
        wall: Timestamp,
    ) -> Result<Self, PolicyError> {
        let slice = Slice::decode(bytes)?;
        let header = Header::verify(&slice.signed, trust, floor, wall)?;
        let rules = slice.rules_under(&header)?;
        let classes = Arc::new(Classes::new(Arc::new(rules)));
        Ok(Self { header: Some(header), bytes: bytes.to_vec(), classes })
    }

    /// Verifies `bytes` as successor of `self`: a newer generation, or a slice of the same content, which may be
    /// another slice (for other labels); two contents for one generation are refused (C2). `self` stays in force
    /// after an error.
    ///
    /// # Errors
    /// As [`Policy::verify`], and when the generation is held with another content.
    pub fn replace(&self, bytes: &[u8], trust: &Trust, wall: Timestamp) -> Result<Self, PolicyError> {
        let next = Self::verify(bytes, trust, self.generation(), wall)?;
        // Further signatures on one header do not make it another content.
        if next.generation() == self.generation() && next.header != self.header {
            return Err(PolicyError(format!("two contents for generation {}", self.generation().0)));
        }
        Ok(next)
    }

    /// Its generation; 0 for `nobody()`.
    pub fn generation(&self) -> Generation {
        self.header.as_ref().map_or(Generation(0), |header| header.generation)
    }

    /// The slice's bytes; empty for `nobody()`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rules of the slice.
    pub fn rules(&self) -> &RuleSet {
        self.classes.rules()
    }

    /// The rules compiled for many questions.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// From when on it permits nothing.
    pub fn expires(&self) -> Timestamp {
        self.header.as_ref().map_or(Timestamp(0), |header| header.expires)
    }

    /// `None` when nothing is or (before every `until`) will be permitted in either direction.
    ///
    /// Only nodes and gateways of the policy's own trust domain are permitted anything, and no identity
    /// needs a permit for itself. For many peers use [`Policy::permits`].
    #[must_use]
    pub fn permit(&self, me: &VerifiedIdentity, peer: &VerifiedIdentity, wall: Timestamp) -> Option<Permit> {
        self.permits(me, wall).with(peer)
    }

    /// What `me` is permitted, to be asked for one peer after the other.
    pub fn permits<'p>(&'p self, me: &'p VerifiedIdentity, wall: Timestamp) -> Permits<'p> {
        let concerned = self.header.as_ref().filter(|header| carries_traffic(me, &header.trust_domain));
        Permits {
            concerned: concerned.map(|header| {
                let validity = Window { start: header.not_before, end: header.expires };
                (header, Pairs::new(&self.classes, &Subject::from(me), validity, wall))
            }),
            me,
        }
    }
}

/// Permits of one identity with many peers. Peers that the same rules join share what these grant.
#[derive(Debug)]
pub struct Permits<'p> {
    /// `None` when `me` is permitted nothing, whoever the peer is.
    concerned: Option<(&'p Header, Pairs<'p>)>,
    me: &'p VerifiedIdentity,
}

impl<'p> Permits<'p> {
    /// As [`Policy::permit`].
    #[must_use]
    pub fn with(&mut self, peer: &'p VerifiedIdentity) -> Option<Permit> {
        let (header, pairs) = self.concerned.as_mut()?;
        if !carries_traffic(peer, &header.trust_domain) || self.me.name() == peer.name() {
            return None;
        }
        let grants = pairs.with(peer.name(), peer.labels())?;
        Some(Permit::new(peer.clone(), header.generation, grants))
    }
}

fn carries_traffic(identity: &VerifiedIdentity, trust_domain: &TrustDomain) -> bool {
    let by_role = match identity.role() {
        Role::Node | Role::Gateway => true,
        Role::Coordinator | Role::Relay => false,
    };
    by_role && identity.claims().id.trust_domain == *trust_domain
}
