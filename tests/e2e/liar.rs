//! A coordinator that lies. It owns what lay on the real one's disk, speaks the real protocol, and says what a test
//! tells it to say; the node must keep what it has.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_acl::{Bundle, RuleSet};
use bulkhead_identity::{
    Challenge, ChallengeKey, Claims, Generation, IdentityKey, Issuer, Labels, OverlayAddrs, Role, SpiffeId,
    Timestamp, Trust, TrustDomain, TunnelKey, certificate::Serial,
};
use bulkhead_protocol::control::{Endpoint, MapUpdate, ToCoordinator, ToNode};
use bulkhead_protocol::offload::Offloads;
use bulkhead_protocol::{ALPN_CONTROL, PROTOCOL_VERSION, frame};
use bulkhead_tests::{Namespace, Node};
use zeroize::Zeroizing;

/// Now.
pub(crate) fn wall() -> Timestamp {
    Timestamp(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

/// A key of the attacker's own.
pub(crate) fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

/// What the attacker found on the coordinator's disk.
pub(crate) struct Loot {
    pub(crate) identity: IdentityKey,
    pub(crate) issuer: Issuer,
    pub(crate) policy: IdentityKey,
    pub(crate) trust: Trust,
}

impl Loot {
    /// Everything of use in a coordinator's state directory, or in a copy of it.
    pub(crate) fn take(state: &Path) -> Self {
        let read = |file: &str| std::fs::read(state.join(file)).unwrap();
        let load = |file: &str| IdentityKey::from_pkcs8(&read(file)).unwrap();
        Self {
            identity: load("identity.key"),
            issuer: Issuer::load(load("issuer.key"), read("issuer.der")).unwrap(),
            policy: load("policy.key"),
            trust: Trust::stored(&read("trust.cbor"), wall()).unwrap(),
        }
    }

    pub(crate) fn domain(&self) -> TrustDomain {
        self.trust.document().trust_domain.clone()
    }

    /// Overlay addresses that no node has.
    fn addresses(&self) -> OverlayAddrs {
        let document = self.trust.document();
        OverlayAddrs {
            v6: (u128::from(document.overlay_v6.0) + 999).into(),
            v4: (u32::from(document.overlay_v4.0) + 999).into(),
        }
    }

    /// A certificate from the real issuing key.
    pub(crate) fn claims(
        &self,
        role: Role,
        name: &str,
        key: &IdentityKey,
        tunnel: Option<&TunnelKey>,
    ) -> Claims {
        Claims {
            id: SpiffeId { trust_domain: self.domain(), role, name: name.parse().unwrap() },
            identity_key: key.public(),
            tunnel_key: tunnel.map(TunnelKey::public),
            addresses: tunnel.map(|_| self.addresses()),
            labels: Labels::default(),
            serial: Serial([1; 16]),
            not_before: Timestamp(wall().0 - 60),
            not_after: Timestamp(wall().0 + 3600),
            seal: None,
            binding: None,
        }
    }

    /// Rules for everybody who believes whoever signs them.
    pub(crate) fn bundle(&self, generation: u64, rules: RuleSet) -> Bundle {
        Bundle {
            trust_domain: self.domain(),
            generation: Generation(generation),
            not_before: Timestamp(wall().0 - 60),
            expires: Timestamp(wall().0 + 86_400),
            rules,
            seed: [7; 32],
        }
    }
}

/// Accepts any client: a lying coordinator does not mind who calls.
#[derive(Debug)]
struct AnyClient;

impl rustls::server::danger::ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}

/// What the real coordinator serves control links with, for anybody who calls.
pub(crate) fn server_config(chain: &[Arc<[u8]>], identity: &IdentityKey) -> quinn::ServerConfig {
    let certificates =
        chain.iter().map(|der| rustls::pki_types::CertificateDer::from(der.to_vec())).collect();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.to_pkcs8().to_vec());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_single_cert(certificates, private.into())
        .unwrap();
    tls.alpn_protocols = vec![ALPN_CONTROL.to_vec()];
    let quic = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(quic))
}

async fn receive(stream: &mut quinn::RecvStream) -> Option<ToCoordinator> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; frame::length(header).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(frame::decode(&body).unwrap())
}

/// Waits on `host`, where the real coordinator was, for the node `caller`, tells the lies in order and demands that each
/// is refused.
pub(crate) fn play(
    host: &Namespace,
    config: quinn::ServerConfig,
    caller: &Node,
    lies: Vec<(&'static str, ToNode)>,
) {
    let port = SocketAddr::from(([0, 0, 0, 0], 8443));
    let socket = host.inside(|| std::net::UdpSocket::bind(port).unwrap()).unwrap();
    let from = caller.host.v4;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scene = async move {
        let runtime = quinn::default_runtime().unwrap();
        let endpoint =
            quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).unwrap();
        let connection = loop {
            let incoming = endpoint.accept().await.unwrap();
            // The other nodes of the mesh call too: they are not part of this scene.
            if incoming.remote_address().ip().to_canonical() == std::net::IpAddr::from(from) {
                break incoming.await.unwrap();
            }
            incoming.refuse();
        };
        let (mut send, mut receiving) = connection.accept_bi().await.unwrap();
        let hello = receive(&mut receiving).await;
        let Some(ToCoordinator::Hello { trust_version, generation, epoch, .. }) = hello else {
            panic!("a node says hello first: {hello:?}");
        };
        let held = (trust_version, generation, epoch);
        let observed = Endpoint(connection.remote_address());
        let (protocol, offloads_off) = (PROTOCOL_VERSION, Offloads::NONE);
        let welcome = ToNode::Welcome { protocol, wall: wall(), observed, offloads_off, session_until: None };
        send.write_all(&frame::encode(&welcome).unwrap()).await.unwrap();
        // Whoever answers this proves to have the keys, to somebody of whom nothing was asked.
        let (challenge, key) = (Challenge([3; 32]), ChallengeKey([9; 32]));
        let unasked = ToNode::RenewChallenge { challenge, key };
        send.write_all(&frame::encode(&unasked).unwrap()).await.unwrap();
        for (what, lie) in lies {
            let lying_map = if let ToNode::Map(MapUpdate::Snapshot { sequence, .. }) = &lie {
                Some(*sequence)
            } else {
                None
            };
            send.write_all(&frame::encode(&lie).unwrap()).await.unwrap();
            loop {
                match receive(&mut receiving).await {
                    Some(ToCoordinator::Refused { .. }) => break,
                    // A node may say at any time what it holds: it must be what it held before.
                    Some(ToCoordinator::Acknowledge { trust_version, generation, epoch, map, .. }) => {
                        assert_eq!((trust_version, generation, epoch), held, "{what} was taken");
                        // A map is a hint: it is taken, and its certificates are not believed.
                        if Some(map) == lying_map {
                            break;
                        }
                    }
                    Some(ToCoordinator::RenewFinish { .. }) => panic!("it answers a challenge unasked"),
                    Some(_) => {}
                    None => panic!("the node hung up at: {what}"),
                }
            }
        }
    };
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(120), scene).await })
        .expect("the scene ends");
}
