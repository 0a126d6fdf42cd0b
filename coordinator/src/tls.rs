//! The coordinator's side of TLS: what it shows, and whom it lets in.
//!
//! TLS 1.3 only. The server shows the coordinator's own certificate, renewed in place. A control link is open
//! only to a client whose chain passes `identity::verify` against the trust document and the revocations *of
//! this moment*, with role node; one that ended a while ago opens a link that serves its renewal only, which the
//! engine sees to. There is no session resumption and no early data: either would skip that check.

use arc_swap::ArcSwap;
use bulkhead_coordinator_engine::Coordinator;
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{
    Chain, Claims, IdentityKey, Issuer, Labels, NodeName, Revocations, Role, SpiffeId, Timestamp, Trust,
    TrustHash, VerifiedIdentity, VerifyError, verify,
};
use rustls::DistinguishedName;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, ServerConfig, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// Clocks of clients may be this far behind ours.
const BACKDATE: u64 = 300;
/// Lifetime of the coordinator's own certificate, and how often it is renewed: early enough to try again.
const OWN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// See `OWN_LIFETIME`.
pub const RENEW_OWN_EVERY: Duration = Duration::from_secs(8 * 3600);

/// Against what links are verified; replaced by the engine's thread before it performs any effect that rests
/// on the newer one.
#[derive(Debug)]
pub struct LinkTrust {
    /// The trust document in force.
    pub trust: Trust,
    /// Keys that are refused.
    pub revocations: Arc<Revocations>,
    /// How long after its end a certificate still opens a link, to be renewed.
    pub renewal_grace: Duration,
    /// Every trust document up to this one, oldest first, for whoever holds an earlier one; each with its hash, so that
    /// strangers who ask for one cost no hashing.
    pub documents: Arc<[(TrustHash, Vec<u8>)]>,
}

/// What [`LinkTrust::documents`] holds.
#[must_use]
pub fn documents(coordinator: &Coordinator) -> Arc<[(TrustHash, Vec<u8>)]> {
    coordinator.trust_documents().map(|document| (TrustHash::of(document), document.to_vec())).collect()
}

impl LinkTrust {
    /// Verifies a client's chain: a node, valid at `wall` or within the grace after its end. The engine serves the
    /// latter nothing but a renewal, and only if the registry agrees.
    ///
    /// # Errors
    /// In words, for the log.
    pub fn admit(&self, chain: &[CertificateDer<'_>], wall: Timestamp) -> Result<VerifiedIdentity, String> {
        let chain = Chain::new(chain.iter().map(|c| c.to_vec())).map_err(|e| e.to_string())?;
        let identity = self.verify(&chain, wall).map_err(|e| e.to_string())?;
        match identity.role() {
            Role::Node => Ok(identity),
            Role::Gateway | Role::Coordinator | Role::Relay => {
                Err(format!("a certificate of a {:?} does not open a node's link", identity.role()))
            }
        }
    }

    /// By `identity::verify`, now; or, when the leaf has ended within the grace, as of its last second. Trust
    /// document and revocations are those of now either way.
    fn verify(&self, chain: &Chain, wall: Timestamp) -> Result<VerifiedIdentity, VerifyError> {
        match verify(chain, &self.trust, &self.revocations, wall) {
            Err(VerifyError::Expired(_, end)) if wall < end.plus(self.renewal_grace) => {
                verify(chain, &self.trust, &self.revocations, Timestamp(end.0.saturating_sub(1)))
            }
            judged => judged,
        }
    }
}

/// Shared with the engine's thread, which replaces it.
pub type SharedLinkTrust = Arc<ArcSwap<LinkTrust>>;

/// Issues and holds the certificate that the coordinator shows.
pub struct OwnCertificate {
    issuer: Issuer,
    key: IdentityKey,
    id: SpiffeId,
    current: ArcSwap<CertifiedKey>,
}

impl std::fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnCertificate").field("id", &self.id).finish_non_exhaustive()
    }
}

impl OwnCertificate {
    /// Issues the first certificate.
    ///
    /// # Errors
    /// The issuer may not, or there is no randomness.
    pub fn issue(issuer: Issuer, key: IdentityKey, trust: &Trust, wall: Timestamp) -> anyhow::Result<Self> {
        let name = NodeName::parse("main")?;
        let id =
            SpiffeId { trust_domain: trust.document().trust_domain.clone(), role: Role::Coordinator, name };
        let first = certify(&issuer, &key, &id, wall)?;
        Ok(Self { issuer, key, id, current: ArcSwap::from_pointee(first) })
    }

    /// Replaces the certificate by a fresh one; handshakes from now on show it.
    ///
    /// # Errors
    /// The old one stays in use.
    pub fn renew(&self, wall: Timestamp) -> anyhow::Result<()> {
        let next = certify(&self.issuer, &self.key, &self.id, wall)?;
        self.current.store(Arc::new(next));
        Ok(())
    }
}

fn certify(
    issuer: &Issuer,
    key: &IdentityKey,
    id: &SpiffeId,
    wall: Timestamp,
) -> anyhow::Result<CertifiedKey> {
    let random = crate::clock::random()?;
    let mut serial = [0; 16];
    serial.copy_from_slice(&random[..16]);
    // RFC 5280, section 4.1.2.2: positive. A set second bit keeps it from being zero or shorter.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let claims = Claims {
        id: id.clone(),
        identity_key: key.public(),
        tunnel_key: None,
        addresses: None,
        labels: Labels::default(),
        serial: Serial(serial),
        not_before: Timestamp(wall.0.saturating_sub(BACKDATE)),
        not_after: wall.plus(OWN_LIFETIME),
        seal: None,
        binding: None,
    };
    let chain = issuer.issue(&claims)?;
    let certificates = chain.certificates().iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let pkcs8 = key.to_pkcs8();
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
    Ok(CertifiedKey::new(certificates, signer))
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Lets in nodes, by `identity::verify`.
#[derive(Debug)]
struct NodeVerifier {
    trust: SharedLinkTrust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for NodeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        match self.trust.load().admit(&chain, Timestamp(now.as_secs())) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(why) => {
                tracing::debug!(reason = %why, "client certificate refused");
                Err(CertificateError::Other(OtherError(Arc::new(std::io::Error::other(why)))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// TLS for enrolment and the admin API: the client shows no certificate.
///
/// # Errors
/// rustls refuses the configuration.
pub fn https_config(own: Arc<OwnCertificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(own);
    Ok(Arc::new(restricted(config, b"http/1.1")))
}

/// TLS for the control link: mutual.
///
/// # Errors
/// rustls refuses the configuration.
pub fn control_config(
    own: Arc<OwnCertificate>,
    trust: SharedLinkTrust,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = provider();
    let verifier = Arc::new(NodeVerifier { trust, algorithms: provider.signature_verification_algorithms });
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    Ok(Arc::new(restricted(config, bulkhead_protocol::ALPN_CONTROL)))
}

fn restricted(mut config: ServerConfig, alpn: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::issue::{IssuerLimits, default_ranges};
    use bulkhead_identity::{
        Authority, Epoch, OverlayAddrs, RevocationList, TrustDocument, TrustDomain, TunnelKey,
    };
    use zeroize::Zeroizing;

    const START: Timestamp = Timestamp(1_800_000_000);
    const END: Timestamp = Timestamp(START.0 + 60);
    const TRUST_END: Timestamp = Timestamp(START.0 + 1_000_000);
    const GRACE: Duration = Duration::from_secs(3600);

    fn key(seed: u8) -> IdentityKey {
        IdentityKey::from_seed(Zeroizing::new([seed; 32]))
    }

    /// What links are verified against, and a certificate with this role that ends at [`END`].
    fn scene(grace: Duration, revoked: &[u8], role: Role) -> (LinkTrust, Vec<CertificateDer<'static>>) {
        let domain = TrustDomain::parse("acme.example").unwrap();
        let (v6, v4) = default_ranges(&domain);
        let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
        let from = Timestamp(START.0 - 600);
        let authority = Authority::create(key(1), &domain, Serial([1; 16]), from, TRUST_END).unwrap();
        let signed = authority.sign_issuer(key(2).public(), &limits, Serial([2; 16]), from, TRUST_END);
        let issuer = Issuer::load(key(2), signed.unwrap()).unwrap();
        let document = TrustDocument {
            version: Epoch(1),
            trust_domain: domain.clone(),
            roots: vec![authority.root_der().to_vec()],
            operator_keys: vec![key(3).public()],
            operator_threshold: 1,
            policy_keys: vec![key(4).public()],
            policy_threshold: 1,
            sealed: Vec::new(),
            overlay_v6: v6,
            overlay_v4: v4,
            issued: from,
            expires: TRUST_END,
        };
        let trust = Trust::stored(&document.sign(&[&key(3)]), START).unwrap();
        let node = role == Role::Node;
        let addresses =
            OverlayAddrs { v6: (u128::from(v6.0) + 10).into(), v4: (u32::from(v4.0) + 10).into() };
        let claims = Claims {
            id: SpiffeId { trust_domain: domain, role, name: NodeName::parse("web").unwrap() },
            identity_key: key(9).public(),
            tunnel_key: node.then(|| TunnelKey::from_bytes(Zeroizing::new([9; 32])).public()),
            addresses: node.then_some(addresses),
            labels: Labels::default(),
            serial: Serial([9; 16]),
            not_before: START,
            not_after: END,
            seal: None,
            binding: None,
        };
        let chain = issuer.issue(&claims).unwrap();
        let keys = revoked.iter().map(|seed| key(*seed).public()).collect();
        let list = RevocationList { epoch: Epoch(1), issued: START, serials: Vec::new(), keys };
        let list = list.sign(&key(3), None);
        let revocations = Arc::new(Revocations::verify(&list, &trust, Epoch(0), START).unwrap());
        let ders = chain.certificates().iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        (LinkTrust { trust, revocations, renewal_grace: grace, documents: Arc::default() }, ders)
    }

    #[test]
    fn an_ended_certificate_opens_a_link_within_the_grace_only() {
        let (link_trust, chain) = scene(GRACE, &[], Role::Node);
        for (wall, admitted) in [
            (Timestamp(START.0 - 1), false),
            (START, true),
            (END, true),
            (Timestamp(END.plus(GRACE).0 - 1), true),
            (END.plus(GRACE), false),
        ] {
            assert_eq!(link_trust.admit(&chain, wall).is_ok(), admitted, "{wall}");
        }
        let late = link_trust.admit(&chain, END).unwrap();
        assert!(!late.valid_at(END), "whoever is let in late is seen to be late");
        let (no_grace, chain) = scene(Duration::ZERO, &[], Role::Node);
        assert!(no_grace.admit(&chain, Timestamp(END.0 - 1)).is_ok());
        assert!(no_grace.admit(&chain, END).is_err());
    }

    #[test]
    fn the_grace_is_for_the_end_of_the_leaf_alone() {
        for revoked in [9, 2] {
            let (link_trust, chain) = scene(GRACE, &[revoked], Role::Node);
            assert!(link_trust.admit(&chain, END).is_err(), "key {revoked} is revoked");
        }
        let (link_trust, chain) = scene(GRACE, &[], Role::Coordinator);
        assert!(link_trust.admit(&chain, END).is_err(), "another role");
        let (link_trust, mut chain) = scene(GRACE, &[], Role::Node);
        let mut leaf = chain[0].to_vec();
        let last = leaf.len() - 1;
        leaf[last] ^= 1;
        chain[0] = CertificateDer::from(leaf);
        assert!(link_trust.admit(&chain, END).is_err(), "a bad signature");
        let (link_trust, chain) = scene(Duration::from_secs(10_000_000), &[], Role::Node);
        assert!(link_trust.admit(&chain, Timestamp(TRUST_END.0 - 1)).is_ok());
        assert!(link_trust.admit(&chain, TRUST_END).is_err(), "the trust document has ended");
    }
}
