//! TLS as Bulkhead uses it: version 1.3, ring, Ed25519, and identity instead of host names.
//!
//! Property: a server is the coordinator when [`bulkhead_identity::verify()`] says so of the very leaf whose key the
//! handshake proved, with role coordinator, in our trust domain, now. There is no fallback to web PKI. Sessions are
//! not resumed, because a resumed session is not verified again.

use bulkhead_identity::{Chain, IdentityKey, Revocations, Role, Timestamp, Trust, verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS")]
pub(crate) struct TlsError(#[from] Error);

/// What judges the server.
enum Judge {
    /// Accepts whoever answers: only to fetch the trust document, whose hash is pinned, sending nothing secret.
    Anyone,
    /// Accepts a coordinator under this trust and these revocations, at this time.
    Coordinator { trust: Arc<Trust>, revocations: Arc<Revocations>, wall: Timestamp },
}

struct Verifier {
    judge: Judge,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// For the first contact, which fetches what is pinned by hash: nobody is verified, nothing secret may be sent.
///
/// # Errors
/// When the TLS library refuses its parts.
pub(crate) fn unverified() -> Result<ClientConfig, TlsError> {
    Ok(builder(Judge::Anyone)?.with_no_client_auth())
}

/// For enrolment: the server is verified, we are not known yet.
///
/// # Errors
/// When the TLS library refuses its parts.
pub(crate) fn anonymous(trust: Arc<Trust>, wall: Timestamp) -> Result<ClientConfig, TlsError> {
    let judge = Judge::Coordinator { trust, revocations: Arc::default(), wall };
    Ok(builder(judge)?.with_no_client_auth())
}

/// For the control link: both sides are verified.
///
/// # Errors
/// When the TLS library refuses its parts.
pub(crate) fn mutual(
    trust: Arc<Trust>,
    revocations: Arc<Revocations>,
    wall: Timestamp,
    chain: &Chain,
    key: &IdentityKey,
    alpn: &[u8],
) -> Result<ClientConfig, TlsError> {
    let certificates = chain.certificates().iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    // rustls keeps its own copy of the key for as long as the configuration lives; there is no way to lend it one.
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()));
    let judge = Judge::Coordinator { trust, revocations, wall };
    let mut config = builder(judge)?.with_client_auth_cert(certificates, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The name that stands in the handshake; the identity is in the certificate.
pub(crate) fn server_name(trust: &Trust) -> String {
    format!("coordinator.{}", trust.document().trust_domain)
}

fn builder(
    judge: Judge,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier { judge, algorithms: provider.signature_verification_algorithms });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Judge::Coordinator { trust, revocations, wall } = &self.judge else {
            return Ok(ServerCertVerified::assertion());
        };
        let ders = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec());
        let chain = Chain::new(ders).map_err(|error| Error::General(error.to_string()))?;
        let server =
            verify(&chain, trust, revocations, *wall).map_err(|error| Error::General(error.to_string()))?;
        match server.role() {
            Role::Coordinator => Ok(ServerCertVerified::assertion()),
            Role::Node | Role::Gateway | Role::Relay => {
                Err(Error::General(format!("{} is not a coordinator", server.claims().id)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
