//! Everything the node holds that someone else signed, as one value, each part verified.
//!
//! Property: a `Held` is replaced as a whole, and what it lets into force ([`Held::world`]) is nobody whenever
//! its revocation list is older than one the node has seen before, or its own certificate is revoked. A part that
//! is received goes through the same verification as a part that is loaded from disk.

use bulkhead_acl::{Policy, PolicyError};
use bulkhead_identity::revocation::RevocationError;
use bulkhead_identity::trust::TrustError;
use bulkhead_identity::{
    Chain, Epoch, Generation, IdentityPublicKey, Revocations, Role, Timestamp, Trust, TunnelPublicKey,
    VerifiedIdentity, VerifyError, verify,
};
use bulkhead_node_engine::{PeerEntry, World};
use bulkhead_protocol::control::{MapPeer, PeerMap};
use bulkhead_protocol::offload::Offloads;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The highest versions this node ever saw, and the latest moment vouched for. They survive the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marks {
    /// Highest revocation epoch.
    pub(crate) epoch: Epoch,
    /// Highest policy generation.
    pub(crate) generation: Generation,
    /// Latest moment that this node's clock and the coordinator agree has passed.
    pub(crate) wall: Timestamp,
}

/// A person's session, on which a node's certificates rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerSession {
    /// When the person has to sign in again.
    pub(crate) until: Timestamp,
    /// Whether more than [`OwnerSession::LONG`] of it was left when it was told of first.
    pub(crate) is_long: bool,
}

impl OwnerSession {
    /// So long before its end people are told of it.
    pub(crate) const LONG: Duration = Duration::from_secs(24 * 3600);

    /// The session that a coordinator tells of, after the one it told of before.
    pub(crate) fn told(before: Option<Self>, until: Timestamp, now: Timestamp) -> Self {
        let known = before.filter(|session| session.until == until);
        known.unwrap_or(Self { until, is_long: now.until(until) > Self::LONG })
    }

    /// Whether the owner should be told now. A session that is shorter than a day as a whole is only worth a warning
    /// once it cuts certificates short, or is over: until then it may be extended without anybody's help.
    pub(crate) fn is_ending(&self, now: Timestamp, certificate_end: Timestamp) -> bool {
        let is_over = self.until <= now;
        is_over || now.until(self.until) <= Self::LONG && (self.is_long || certificate_end >= self.until)
    }
}

/// What the node holds now.
#[derive(Clone)]
pub(crate) struct Held {
    /// The trust document.
    pub(crate) trust: Arc<Trust>,
    /// The policy; [`Policy::nobody`] until one was received, or when the stored one did not verify.
    pub(crate) policy: Arc<Policy>,
    /// The revocation list.
    pub(crate) revocations: Arc<Revocations>,
    /// Our own certificate, valid when it was received. It may have ended, or been revoked, since.
    pub(crate) me: VerifiedIdentity,
    /// The peer map: hints and unverified chains.
    pub(crate) map: Arc<PeerMap>,
    /// High-water marks.
    pub(crate) marks: Marks,
    /// What the coordinator said last of offloads: not signed, because all it can do is to make this node slower. Kept,
    /// because a kernel that corrupts packets may keep this node from hearing it again.
    pub(crate) offloads_off: Offloads,
    /// The session of the node's owner, as the coordinator told it last; not signed either: a warning is all that comes
    /// of it.
    pub(crate) session: Option<OwnerSession>,
}

/// Why our own certificate was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// It does not verify.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It is someone else's.
    #[error("the certificate is not for this node: {0}")]
    NotMine(&'static str),
    /// It was issued before the one in force.
    #[error("the certificate is older than the one in force")]
    Older,
}

/// The public halves that a certificate must be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnKeys {
    /// Identity key.
    pub(crate) identity: IdentityPublicKey,
    /// Tunnel key.
    pub(crate) tunnel: TunnelPublicKey,
}

impl OwnKeys {
    /// Verifies a chain as this node's own certificate.
    ///
    /// Whether it is revoked or has ended is judged by [`Held::standing`] instead: a node whose certificate was
    /// replaced, or ended, while it was offline must still be able to ask for the next one. One that has ended is
    /// verified as of its last second, under a trust document that is valid now.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub(crate) fn verify_mine(
        self,
        chain: &Chain,
        trust: &Trust,
        wall: Timestamp,
    ) -> Result<VerifiedIdentity, CertificateError> {
        let none = Revocations::default();
        let me = match verify(chain, trust, &none, wall) {
            Err(VerifyError::Expired(_, end)) => {
                verify(chain, trust, &none, Timestamp(end.0.saturating_sub(1)))?
            }
            judged => judged?,
        };
        let claims = me.claims();
        if claims.id.role != Role::Node {
            return Err(CertificateError::NotMine("its role is not node"));
        }
        if claims.identity_key != self.identity {
            return Err(CertificateError::NotMine("another identity key"));
        }
        if claims.tunnel_key != Some(self.tunnel) {
            return Err(CertificateError::NotMine("another tunnel key"));
        }
        if claims.addresses.is_none() {
            return Err(CertificateError::NotMine("it has no overlay addresses"));
        }
        Ok(me)
    }
}

/// Whether what is held may let anyone in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything is as new as it ever was.
    Good,
    /// Our own certificate is revoked.
    Revoked,
    /// Our own certificate has ended, or has not begun.
    NotValidNow,
    /// The revocation list is older than one seen before.
    RevocationsLost,
}

impl Held {
    /// A node that has just been enrolled: it knows whom to trust and who it is, and no one else.
    pub(crate) fn enrolled(trust: Trust, me: VerifiedIdentity) -> Self {
        Self {
            trust: Arc::new(trust),
            policy: Arc::new(Policy::nobody()),
            revocations: Arc::new(Revocations::default()),
            me,
            map: Arc::new(PeerMap::default()),
            marks: Marks::default(),
            offloads_off: Offloads::NONE,
            session: None,
        }
    }

    /// Takes in a trust document, and judges under it everything that the old one vouched for.
    ///
    /// # Errors
    /// Nothing changed.
    pub(crate) fn with_trust(&self, bytes: &[u8], wall: Timestamp) -> Result<Self, TrustError> {
        Ok(self.under(self.trust.update(bytes, wall)?, wall))
    }

    /// Everything that is held, judged under a trust document that follows on the one in force.
    pub(crate) fn under(&self, trust: Trust, wall: Timestamp) -> Self {
        let mut next = self.clone();
        // A policy key may be gone (C9): what it signed goes with it. Revocations stay, because dropping them
        // would admit someone.
        if Policy::verify(self.policy.bytes(), &trust, self.marks.generation, wall).is_err() {
            next.policy = Arc::new(Policy::nobody());
        }
        next.trust = Arc::new(trust);
        next
    }

    /// Takes in a policy.
    ///
    /// # Errors
    /// Nothing changed.
    pub(crate) fn with_policy(&self, bytes: &[u8], wall: Timestamp) -> Result<Self, PolicyError> {
        let policy = if self.policy.generation() == Generation::default() {
            // Nothing is held to compare with, but the mark still is the floor (C2).
            Policy::verify(bytes, &self.trust, self.marks.generation, wall)?
        } else {
            self.policy.replace(bytes, &self.trust, wall)?
        };
        let mut next = self.clone();
        next.marks.generation = next.marks.generation.max(policy.generation());
        next.policy = Arc::new(policy);
        Ok(next)
    }

    /// Takes in a revocation list.
    ///
    /// # Errors
    /// Nothing changed.
    pub(crate) fn with_revocations(&self, bytes: &[u8], wall: Timestamp) -> Result<Self, RevocationError> {
        let next_list = if self.revocations.bytes().is_empty() {
            // Nothing is held to compare with, but the mark still is the floor (C2).
            Revocations::verify(bytes, &self.trust, self.marks.epoch, wall)?
        } else {
            self.revocations.update(bytes, &self.trust, wall)?
        };
        let mut next = self.clone();
        next.marks.epoch = next.marks.epoch.max(next_list.epoch());
        next.revocations = Arc::new(next_list);
        Ok(next)
    }

    /// Takes in a fresh certificate of our own.
    ///
    /// # Errors
    /// Nothing changed.
    pub(crate) fn with_certificate(&self, chain: &Chain, wall: Timestamp) -> Result<Self, CertificateError> {
        let mine = self.me.claims();
        let tunnel = mine.tunnel_key.ok_or(CertificateError::NotMine("no tunnel key is held"))?;
        let keys = OwnKeys { identity: mine.identity_key, tunnel };
        let me = keys.verify_mine(chain, &self.trust, wall)?;
        if !me.valid_at(wall) {
            return Err(VerifyError::Expired(me.claims().id.to_string(), me.not_after()).into());
        }
        if me.claims().id != mine.id {
            return Err(CertificateError::NotMine("another name"));
        }
        if me.claims().addresses != mine.addresses {
            return Err(CertificateError::NotMine("another overlay address; leave and enrol again"));
        }
        if me.claims().not_before < mine.not_before {
            return Err(CertificateError::Older);
        }
        let mut next = self.clone();
        next.me = me;
        Ok(next)
    }

    /// Takes in the certificate that a sign-in of the owner brought past the link. `None` when the one in force is that, or
    /// was issued after it: a renewal may have been faster, and says already what came of the sign-in.
    ///
    /// # Errors
    /// Nothing changed.
    pub(crate) fn with_signed_in(
        &self,
        chain: &Chain,
        wall: Timestamp,
    ) -> Result<Option<Self>, CertificateError> {
        if self.me.chain() == chain {
            return Ok(None);
        }
        match self.with_certificate(chain, wall) {
            Err(CertificateError::Older) if self.me.valid_at(wall) => Ok(None),
            taken => taken.map(Some),
        }
    }

    /// Takes in a peer map. Maps are hints: nothing in them is believed before `verify`.
    pub(crate) fn with_map(&self, map: PeerMap) -> Self {
        let mut next = self.clone();
        next.map = Arc::new(map);
        next
    }

    /// Whether what is held may let anyone in now.
    pub(crate) fn standing(&self, wall: Timestamp) -> Standing {
        if self.revocations.revokes(self.me.claims()) {
            Standing::Revoked
        } else if !self.me.valid_at(wall) {
            Standing::NotValidNow
        } else if self.revocations.epoch() < self.marks.epoch {
            Standing::RevocationsLost
        } else {
            Standing::Good
        }
    }

    /// What the engine is to enforce: complete, and without peers unless [`Standing::Good`].
    pub(crate) fn world(&self, wall: Timestamp) -> World {
        let peers = match self.standing(wall) {
            Standing::Good => self.map.peers.values().map(|peer| self.entry(peer)).collect(),
            Standing::Revoked | Standing::NotValidNow | Standing::RevocationsLost => Vec::new(),
        };
        World {
            trust: Arc::clone(&self.trust),
            policy: Arc::clone(&self.policy),
            revocations: Arc::clone(&self.revocations),
            me: self.me.clone(),
            peers,
        }
    }

    fn entry(&self, peer: &MapPeer) -> PeerEntry {
        let endpoints = peer.endpoints.iter().map(|endpoint| endpoint.0);
        PeerEntry {
            name: peer.name.clone(),
            chain: peer.chain.clone(),
            endpoints: endpoints.filter(|endpoint| self.is_outer(*endpoint)).collect(),
        }
    }

    /// A hint that points into the mesh would send the tunnel through itself; one at this host's loopback or at
    /// many hosts at once is never a peer (C6).
    pub(crate) fn is_outer(&self, endpoint: SocketAddr) -> bool {
        let document = self.trust.document();
        let ip = endpoint.ip().to_canonical();
        let inside = match ip {
            IpAddr::V4(v4) => within(u32::from(v4), u32::from(document.overlay_v4.0), document.overlay_v4.1),
            IpAddr::V6(v6) => {
                within(u128::from(v6), u128::from(document.overlay_v6.0), document.overlay_v6.1)
            }
        };
        let broadcast = ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        !(inside
            || broadcast
            || ip.is_loopback()
            || ip.is_unspecified()
            || ip.is_multicast()
            || endpoint.port() == 0)
    }
}

/// Whether two addresses agree in their first `bits`.
fn within<T>(address: T, prefix: T, bits: u8) -> bool
where
    T: std::ops::BitXor<Output = T> + std::ops::Shr<u32, Output = T> + PartialEq + Default,
{
    let width = u32::try_from(size_of::<T>() * 8).unwrap_or(0);
    let bits = u32::from(bits).min(width);
    bits == 0 || (address ^ prefix) >> (width - bits) == T::default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixture::{Domain, NOW, Person};
    use bulkhead_acl::Subject;
    use bulkhead_identity::Labels;

    const HOUR: u64 = 3600;

    fn held(domain: &Domain, me: &Person) -> Held {
        Held::enrolled(domain.trust(1), domain.verified(me))
    }

    #[test]
    fn an_older_or_second_policy_is_refused_c2() {
        let domain = Domain::new();
        let first = held(&domain, &Person::new("web", 1));
        let second = first.with_policy(&domain.policy(2, 0), NOW).unwrap();
        assert_eq!(second.marks.generation, Generation(2));
        assert!(second.with_policy(&domain.policy(1, 0), NOW).is_err(), "older");
        assert!(second.with_policy(&domain.policy(2, 7), NOW).is_err(), "other content");
        assert!(second.with_policy(&domain.policy(2, 0), NOW).is_ok(), "the same again");
        assert!(second.with_policy(&domain.policy(3, 0), NOW).is_ok(), "newer");
    }

    #[test]
    fn new_labels_bring_another_slice_of_the_generation_that_is_held() {
        let (domain, me) = (Domain::new(), Person::new("web", 1));
        let slice = |generation, roles: &[&str], role: &str| {
            let labels = Labels::parse(&format!("role={role}")).unwrap();
            let name = domain.verified(&me).name().clone();
            domain.slice(generation, roles, &Subject { name, labels })
        };
        let ids = |held: &Held| {
            held.policy.rules().allow.iter().map(|rule| rule.id.to_string()).collect::<Vec<_>>()
        };
        let roles = ["db", "web"];
        let first = held(&domain, &me).with_policy(&slice(2, &roles, "web"), NOW).unwrap();
        assert_eq!(ids(&first), ["web"]);
        let second = first.with_policy(&slice(2, &roles, "db"), NOW).unwrap();
        assert_eq!((ids(&second), second.marks.generation), (vec!["db".to_owned()], Generation(2)));
        assert!(first.with_policy(&slice(2, &["db"], "db"), NOW).is_err(), "of another content");
        assert!(first.with_policy(&slice(1, &roles, "db"), NOW).is_err(), "of an older generation");
    }

    #[test]
    fn a_policy_below_the_mark_is_refused_even_when_none_is_held_c2() {
        let domain = Domain::new();
        let mut held = held(&domain, &Person::new("web", 1));
        held.marks.generation = Generation(5);
        assert!(held.with_policy(&domain.policy(4, 0), NOW).is_err());
        assert!(held.with_policy(&domain.policy(5, 0), NOW).is_ok());
    }

    #[test]
    fn a_policy_signed_by_a_key_that_trust_no_longer_names_is_dropped_c9() {
        let domain = Domain::new();
        let held = held(&domain, &Person::new("web", 1)).with_policy(&domain.policy(1, 0), NOW).unwrap();
        let next = held.with_trust(&domain.trust_without_policy_key(2), NOW).unwrap();
        assert_eq!(next.policy.generation(), Generation(0));
        assert!(next.with_policy(&domain.policy(2, 0), NOW).is_err());
    }

    #[test]
    fn an_older_revocation_list_is_refused_and_a_lost_one_admits_nobody_s5() {
        let domain = Domain::new();
        let (me, peer) = (Person::new("web", 1), Person::new("db", 2));
        let mut held = held(&domain, &me).with_map(domain.map(1, &[&peer]));
        assert_eq!(held.world(NOW).peers.len(), 1);
        held = held.with_revocations(&domain.revocations(4, &[]), NOW).unwrap();
        assert!(held.with_revocations(&domain.revocations(3, &[]), NOW).is_err());

        held.revocations = Arc::default();
        assert_eq!(held.standing(NOW), Standing::RevocationsLost);
        assert!(held.world(NOW).peers.is_empty());
        assert!(held.with_revocations(&domain.revocations(3, &[]), NOW).is_err(), "below the mark");
    }

    #[test]
    fn a_revoked_node_admits_nobody_until_it_has_a_new_certificate() {
        let domain = Domain::new();
        let (me, peer) = (Person::new("web", 1), Person::new("db", 2));
        let held = held(&domain, &me).with_map(domain.map(1, &[&peer]));
        let cut = held.with_revocations(&domain.revocations(1, &[me.serial(1)]), NOW).unwrap();
        assert_eq!(cut.standing(NOW), Standing::Revoked);
        assert!(cut.world(NOW).peers.is_empty());

        let renewed = cut.with_certificate(&domain.chain(&me, 2), NOW).unwrap();
        assert_eq!(renewed.standing(NOW), Standing::Good);
        assert_eq!(renewed.world(NOW).peers.len(), 1);
    }

    #[test]
    fn only_our_own_certificate_is_taken_c1() {
        let domain = Domain::new();
        let (me, other) = (Person::new("web", 1), Person::new("db", 2));
        let held = held(&domain, &me);
        assert!(matches!(
            held.with_certificate(&domain.chain(&other, 1), NOW),
            Err(CertificateError::NotMine(_))
        ));
        let stranger = Domain::new_with(77);
        assert!(matches!(
            held.with_certificate(&stranger.chain(&me, 1), NOW),
            Err(CertificateError::Verify(_))
        ));
    }

    #[test]
    fn a_sign_in_that_a_renewal_has_overtaken_is_taken_in_already() {
        let domain = Domain::new();
        let me = Person::new("web", 1);
        let serial = |held: &Held| held.me.claims().serial;
        let held = held(&domain, &me);
        let (signed_in, renewed) = (domain.chain(&me, 2), domain.chain(&me, 3));
        assert_eq!(serial(&held.with_signed_in(&signed_in, NOW).unwrap().unwrap()), me.serial(2));
        let overtaken = held.with_certificate(&renewed, NOW).unwrap();
        for chain in [&signed_in, &renewed] {
            assert!(overtaken.with_signed_in(chain, NOW).unwrap().is_none());
        }
        // What is newer and has ended is no reason to do without.
        let ended = held
            .with_certificate(&domain.chain_until(&me, 3, NOW.plus(Duration::from_secs(3600))), NOW)
            .unwrap();
        let refused = ended.with_signed_in(&signed_in, NOW.plus(Duration::from_secs(3600))).err();
        assert_eq!(refused, Some(CertificateError::Older));
        let stranger = Domain::new_with(77).chain(&me, 2);
        assert!(matches!(overtaken.with_signed_in(&stranger, NOW), Err(CertificateError::Verify(_))));
    }

    #[test]
    fn a_node_outside_its_certificate_admits_nobody() {
        let domain = Domain::new();
        let (me, peer) = (Person::new("web", 1), Person::new("db", 2));
        let held = held(&domain, &me).with_map(domain.map(1, &[&peer]));
        let late = held.me.not_after();
        assert_eq!(held.standing(late), Standing::NotValidNow);
        assert!(held.world(late).peers.is_empty());
    }

    #[test]
    fn an_ended_certificate_is_loaded_to_be_renewed_but_not_received() {
        let domain = Domain::new();
        let me = Person::new("web", 1);
        let held = held(&domain, &me);
        let claims = held.me.claims();
        let keys = OwnKeys { identity: claims.identity_key, tunnel: claims.tunnel_key.unwrap() };
        let late = held.me.not_after();
        let loaded = keys.verify_mine(&domain.chain(&me, 1), &held.trust, late).unwrap();
        assert!(!loaded.valid_at(late));
        assert!(matches!(
            held.with_certificate(&domain.chain(&me, 1), late),
            Err(CertificateError::Verify(VerifyError::Expired(..)))
        ));
        let trust_ended = held.trust.document().expires;
        assert!(keys.verify_mine(&domain.chain(&me, 1), &held.trust, trust_ended).is_err());
        let stranger = Domain::new_with(77);
        assert!(keys.verify_mine(&stranger.chain(&me, 1), &held.trust, late).is_err());
    }

    #[test]
    fn hints_into_the_mesh_or_at_loopback_are_dropped_c6() {
        let domain = Domain::new();
        let held = held(&domain, &Person::new("web", 1));
        for (endpoint, outer) in [
            ("192.0.2.1:51820", true),
            ("[2001:db8::1]:51820", true),
            ("192.0.2.1:0", false),
            ("127.0.0.1:51820", false),
            ("[::ffff:127.0.0.1]:51820", false),
            ("0.0.0.0:51820", false),
            ("255.255.255.255:51820", false),
            ("224.0.0.1:51820", false),
            ("[ff02::1]:51820", false),
            ("100.64.0.11:51820", false),
            ("[::ffff:100.64.0.11]:51820", false),
        ] {
            assert_eq!(held.is_outer(endpoint.parse().unwrap()), outer, "{endpoint}");
        }
    }

    #[test]
    fn an_address_is_within_its_prefix_only() {
        let ip = |text: &str| u32::from(text.parse::<std::net::Ipv4Addr>().unwrap());
        assert!(within(ip("100.127.255.53"), ip("100.64.0.0"), 10));
        assert!(!within(ip("100.128.0.1"), ip("100.64.0.0"), 10));
        assert!(within(ip("1.2.3.4"), ip("0.0.0.0"), 0));
        assert!(!within(ip("1.2.3.4"), ip("1.2.3.5"), 32));
    }

    #[test]
    fn the_owner_of_a_long_session_is_told_a_day_ahead() {
        let session = OwnerSession::told(None, Timestamp(100 * HOUR), Timestamp(50 * HOUR));
        let session = OwnerSession::told(Some(session), session.until, Timestamp(99 * HOUR));
        let told = |hour: u64| session.is_ending(Timestamp(hour * HOUR), Timestamp((hour + 8) * HOUR));
        assert_eq!([50, 75, 76, 99, 101].map(told), [false, false, true, true, true]);
    }

    #[test]
    fn a_session_that_is_extended_by_itself_is_worth_no_warning_until_it_cuts_certificates_short() {
        let long = OwnerSession { until: Timestamp(100 * HOUR), is_long: true };
        let session = OwnerSession::told(Some(long), Timestamp(12 * HOUR), Timestamp(0));
        assert!(!session.is_ending(Timestamp(HOUR), Timestamp(8 * HOUR)));
        assert!(session.is_ending(Timestamp(5 * HOUR), Timestamp(12 * HOUR)));
        // Asleep over the end of both.
        assert!(!session.is_ending(Timestamp(11 * HOUR), Timestamp(8 * HOUR)));
        assert!(session.is_ending(Timestamp(12 * HOUR), Timestamp(8 * HOUR)));
    }
}
