//! TLS 1.3 to a coordinator, without any public certificate authority.
//!
//! Who answers is decided by `identity::verify` under a pinned trust document, and by role: a node's certificate
//! never passes for a coordinator's. Host names play no part, so DNS cannot choose whom we talk to. The one
//! connection that verifies nothing fetches the trust document itself, sends nothing secret, and believes what it
//! got only when its hash is the pinned one.

use crate::moment;
use anyhow::{Context as _, anyhow};
use bulkhead_identity::{Chain, Revocations, Role, Trust, verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom to believe at the other end.
#[derive(Clone)]
pub(crate) enum Believe {
    /// A coordinator of this trust domain, and no one else.
    Coordinators(Arc<Trust>),
    /// Anyone: only for fetching the trust document, whose hash the caller then checks.
    AnyoneForTheTrustDocument,
}

/// Says the TLS handshake to `host` (a name or an address, without port) over `stream`.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    believe: Believe,
) -> anyhow::Result<TlsStream<S>> {
    let server = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
        .with_context(|| format!("{host:?} is not a host name or address"))?;
    let stream = TlsConnector::from(Arc::new(configuration(believe)?))
        .connect(server, stream)
        .await
        .map_err(|error| anyhow!(reason(&error)).context("TLS handshake"))?;
    Ok(stream)
}

// rustls shows the verdict of a verifier other than its own only as `Other(OtherError(…))`.
fn reason(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(verdict))) => verdict.0.to_string(),
        Some(_) | None => error.to_string(),
    }
}

fn configuration(believe: Believe) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(CoordinatorVerifier { believe, provider: Arc::clone(&provider) });
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("setting up TLS 1.3")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each connection proves the certificate anew; a resumed session would skip the check of its validity.
    configuration.resumption = rustls::client::Resumption::disabled();
    Ok(configuration)
}

struct CoordinatorVerifier {
    believe: Believe,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for CoordinatorVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoordinatorVerifier")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server proved to be {0}, which is not a coordinator")]
struct NotACoordinator(String);

fn refuse(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trust = match &self.believe {
            Believe::Coordinators(trust) => trust,
            Believe::AnyoneForTheTrustDocument => return Ok(ServerCertVerified::assertion()),
        };
        let ders = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec());
        let chain = Chain::new(ders).map_err(refuse)?;
        // An administrator's machine holds no revocation list: a coordinator's certificate ends within a day.
        let identity = verify(&chain, trust, &Revocations::default(), moment::now()).map_err(refuse)?;
        match identity.role() {
            Role::Coordinator => Ok(ServerCertVerified::assertion()),
            Role::Node | Role::Gateway | Role::Relay => {
                Err(refuse(NotACoordinator(identity.claims().id.to_string())))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::certificate::Serial;
    use bulkhead_identity::issue::{Authority, Issuer, IssuerLimits, default_ranges};
    use bulkhead_identity::{
        Claims, Epoch, IdentityKey, Labels, OverlayAddrs, SpiffeId, Timestamp, TrustDocument, TrustDomain,
        TunnelKey,
    };
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::ServerConfig;
    use std::time::Duration;
    use tokio_rustls::TlsAcceptor;
    use zeroize::Zeroizing;

    fn key(seed: u8) -> IdentityKey {
        IdentityKey::from_seed(Zeroizing::new([seed; 32]))
    }

    fn serial(number: u8) -> Serial {
        Serial([number; 16])
    }

    /// A whole deployment: its trust document, and an issuer under it. All keys come from `seed`.
    struct Deployment {
        trust: Arc<Trust>,
        issuer: Issuer,
        domain: TrustDomain,
    }

    impl Deployment {
        fn new(seed: u8) -> Self {
            let domain = TrustDomain::parse("acme.example").unwrap();
            let (start, end) =
                (Timestamp(moment::now().0 - 10), moment::now().plus(Duration::from_secs(3600)));
            let (overlay_v6, overlay_v4) = default_ranges(&domain);
            let root = Authority::create(key(seed), &domain, serial(seed), start, end).unwrap();
            let limits = IssuerLimits {
                trust_domain: domain.clone(),
                label_keys: None,
                v6: overlay_v6,
                v4: overlay_v4,
            };
            let issuer_key = key(seed + 1);
            let certificate =
                root.sign_issuer(issuer_key.public(), &limits, serial(seed + 1), start, end).unwrap();
            let operator = key(seed + 2);
            let document = TrustDocument {
                version: Epoch(1),
                trust_domain: domain.clone(),
                roots: vec![root.root_der().to_vec()],
                operator_keys: vec![operator.public()],
                operator_threshold: 1,
                policy_keys: vec![operator.public()],
                policy_threshold: 1,
                sealed: Vec::new(),
                overlay_v6,
                overlay_v4,
                issued: start,
                expires: end,
            };
            let trust = Trust::stored(&document.sign(&[&operator]), moment::now()).unwrap();
            let issuer = Issuer::load(issuer_key, certificate).unwrap();
            Self { trust: Arc::new(trust), issuer, domain }
        }

        fn certify(&self, role: Role, key: &IdentityKey, lifetime: (i64, i64)) -> Chain {
            let at = |offset: i64| Timestamp(moment::now().0.checked_add_signed(offset).unwrap());
            let in_overlay = role == Role::Node;
            let tunnel_key = TunnelKey::from_bytes(Zeroizing::new([7; 32])).public();
            let address = |(v6, _): (std::net::Ipv6Addr, u8)| std::net::Ipv6Addr::from(u128::from(v6) + 10);
            let document = self.trust.document();
            let addresses = OverlayAddrs {
                v6: address(document.overlay_v6),
                v4: std::net::Ipv4Addr::new(100, 64, 0, 10),
            };
            let claims = Claims {
                id: SpiffeId { trust_domain: self.domain.clone(), role, name: "one".parse().unwrap() },
                identity_key: key.public(),
                tunnel_key: in_overlay.then_some(tunnel_key),
                addresses: in_overlay.then_some(addresses),
                labels: Labels::default(),
                serial: serial(0x33),
                not_before: at(lifetime.0),
                not_after: at(lifetime.1),
                seal: None,
                binding: None,
            };
            self.issuer.issue(&claims).unwrap()
        }
    }

    const VALID: (i64, i64) = (-5, 600);

    /// Whether a client that believes `believe` finishes a handshake with a server that shows `chain`.
    async fn check(believe: Believe, chain: Chain, server_key: &IdentityKey) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates =
            chain.certificates().iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let private = PrivateKeyDer::try_from(server_key.to_pkcs8().to_vec()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, private)
            .map_err(|error| error.to_string())?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let accepted = tokio::spawn(TlsAcceptor::from(Arc::new(server)).accept(far));
        let outcome = handshake(near, "10.66.0.1", believe).await;
        let outcome = outcome.map(drop).map_err(|error| format!("{error:#}"));
        accepted.abort();
        outcome
    }

    #[tokio::test]
    async fn a_coordinator_of_the_pinned_deployment_is_believed() {
        let (ours, server) = (Deployment::new(10), key(99));
        let chain = ours.certify(Role::Coordinator, &server, VALID);
        check(Believe::Coordinators(Arc::clone(&ours.trust)), chain, &server).await.unwrap();
    }

    #[tokio::test]
    async fn a_nodes_certificate_never_serves_as_a_coordinators() {
        let (ours, server) = (Deployment::new(10), key(99));
        let chain = ours.certify(Role::Node, &server, VALID);
        let error = check(Believe::Coordinators(Arc::clone(&ours.trust)), chain, &server).await.unwrap_err();
        assert!(error.contains("not a coordinator"), "{error}");
    }

    #[tokio::test]
    async fn another_deployments_coordinator_of_the_same_name_is_refused() {
        let (ours, theirs, server) = (Deployment::new(10), Deployment::new(50), key(99));
        let chain = theirs.certify(Role::Coordinator, &server, VALID);
        assert!(check(Believe::Coordinators(Arc::clone(&ours.trust)), chain, &server).await.is_err());
    }

    #[tokio::test]
    async fn an_ended_certificate_is_refused() {
        let (ours, server) = (Deployment::new(10), key(99));
        let chain = ours.certify(Role::Coordinator, &server, (-9, -1));
        assert!(check(Believe::Coordinators(Arc::clone(&ours.trust)), chain, &server).await.is_err());
    }

    #[tokio::test]
    async fn a_certificate_without_its_key_is_refused_even_when_anyone_would_do() {
        let (ours, server) = (Deployment::new(10), key(99));
        let chain = ours.certify(Role::Coordinator, &server, VALID);
        for believe in [Believe::AnyoneForTheTrustDocument, Believe::Coordinators(Arc::clone(&ours.trust))] {
            assert!(check(believe, chain.clone(), &key(98)).await.is_err());
        }
    }
}
