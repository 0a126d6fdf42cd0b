//! A coordinator that lies. It owns the real one's disk but for the keys it is said to lack, speaks the real
//! protocol, and tries every forgery; the node must keep what it has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_acl::{Bundle, RuleSet};
use bulkhead_identity::{
    Claims, Generation, IdentityKey, Issuer, LabelKey, Labels, OverlayAddrs, RevocationList, Role, SpiffeId,
    Timestamp, Trust, TrustDomain, TunnelKey, certificate::Serial,
};
use bulkhead_protocol::control::{Endpoint, MapPeer, MapSequence, MapUpdate, ToCoordinator, ToNode};
use bulkhead_protocol::{ALPN_CONTROL, PROTOCOL_VERSION, frame};
use bulkhead_tests::{Node, until};
use zeroize::Zeroizing;

use crate::mesh::{Mesh, POLICY, map_of};

fn wall() -> Timestamp {
    Timestamp(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

/// What the attacker found on the coordinator's disk.
struct Loot {
    identity: IdentityKey,
    issuer: Issuer,
    policy: IdentityKey,
    trust: Trust,
}

impl Loot {
    fn take(mesh: &Mesh) -> Self {
        let state = mesh.coordinator.state();
        let read = |file: &str| std::fs::read(state.join(file)).unwrap();
        let load = |file: &str| IdentityKey::from_pkcs8(&read(file)).unwrap();
        Self {
            identity: load("identity.key"),
            issuer: Issuer::load(load("issuer.key"), read("issuer.der")).unwrap(),
            policy: load("policy.key"),
            trust: Trust::stored(&read("trust.cbor"), wall()).unwrap(),
        }
    }

    fn domain(&self) -> TrustDomain {
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
    fn claims(&self, role: Role, name: &str, key: &IdentityKey, tunnel: Option<&TunnelKey>) -> Claims {
        Claims {
            id: SpiffeId { trust_domain: self.domain(), role, name: name.parse().unwrap() },
            identity_key: key.public(),
            tunnel_key: tunnel.map(TunnelKey::public),
            addresses: tunnel.map(|_| self.addresses()),
            labels: Labels::default(),
            serial: Serial([1; 16]),
            not_before: Timestamp(wall().0 - 60),
            not_after: Timestamp(wall().0 + 3600),
        }
    }

    fn bundle(&self, generation: u64, rules: RuleSet) -> Bundle {
        Bundle {
            trust_domain: self.domain(),
            generation: Generation(generation),
            not_before: Timestamp(wall().0 - 60),
            expires: Timestamp(wall().0 + 86_400),
            rules,
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

fn server_config(chain: &[Vec<u8>], identity: &IdentityKey) -> quinn::ServerConfig {
    let certificates = chain.iter().map(|der| rustls::pki_types::CertificateDer::from(der.clone())).collect();
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

/// Waits for the node `caller`, plays the lies in order and demands that each is refused.
fn play(mesh: &Mesh, config: quinn::ServerConfig, caller: &Node, lies: Vec<(&'static str, ToNode)>) {
    let port = SocketAddr::from(([0, 0, 0, 0], 8443));
    let socket = mesh.coordinator.host.inside(|| std::net::UdpSocket::bind(port).unwrap()).unwrap();
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
        let welcome = ToNode::Welcome { protocol: PROTOCOL_VERSION, wall: wall(), observed };
        send.write_all(&frame::encode(&welcome).unwrap()).await.unwrap();
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

#[test]
fn c1_c2_c8_c9_forgeries_are_refused_and_nothing_changes() {
    let mut mesh = Mesh::start();
    let first_policy = std::fs::read(mesh.web.state().join("policy.cbor")).unwrap();
    mesh.coordinator.apply(&format!("{POLICY}\n[groups]\nnobody = \"role=web, role=db\"\n")).unwrap();
    mesh.coordinator
        .ctl(&["node", "revoke", "metrics", "--reason", "drill", "--wait", "--yes"])
        .unwrap()
        .success()
        .unwrap();
    until("the revoked node is gone", Duration::from_secs(10), || {
        mesh.web.peers().is_ok_and(|p| p == ["db"])
    });
    let loot = Loot::take(&mesh);
    mesh.coordinator.kill();

    let everyone = bulkhead_acl::check(
        &bulkhead_acl::Sources(
            [(
                "open.toml".to_owned(),
                "version = 1\n[[allow]]\nid = \"open\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n"
                    .to_owned(),
            )]
            .into(),
        ),
        wall(),
    )
    .unwrap()
    .rules;
    let held = std::fs::read(mesh.web.state().join("policy.cbor")).unwrap();
    let mallory = key(66);
    let tunnel = TunnelKey::from_bytes(Zeroizing::new([67; 32]));
    // An authority of the attacker's own, for the same trust domain.
    let root = bulkhead_identity::Authority::create(
        key(68),
        &loot.domain(),
        Serial([2; 16]),
        Timestamp(wall().0 - 60),
        Timestamp(wall().0 + 9999),
    )
    .unwrap();
    let foreign = {
        let der = root
            .sign_issuer(
                key(69).public(),
                loot.issuer.limits(),
                Serial([3; 16]),
                Timestamp(wall().0 - 60),
                Timestamp(wall().0 + 9999),
            )
            .unwrap();
        Issuer::load(key(69), der).unwrap()
    };
    let current =
        bulkhead_acl::Policy::verify(&held, &loot.trust, Generation(0), wall()).unwrap().generation().0;

    let policy = |bundle: Vec<u8>| ToNode::Policy { bundle };
    let epoch = bulkhead_identity::Epoch;
    let mut stale_document = loot.trust.document().clone();
    stale_document.version = epoch(stale_document.version.0 + 1);
    let lies = vec![
        (
            "a policy signed by a foreign key",
            policy(loot.bundle(current + 1, everyone.clone()).sign(&[&mallory])),
        ),
        (
            "a policy signed by the issuing key",
            policy(loot.bundle(current + 1, everyone.clone()).sign(&[loot.issuer.key()])),
        ),
        ("an older policy", policy(first_policy)),
        (
            "a second policy for the held generation",
            policy(loot.bundle(current, everyone.clone()).sign(&[&loot.policy])),
        ),
        ("an expired policy", {
            let mut bundle = loot.bundle(current + 1, everyone);
            bundle.expires = Timestamp(wall().0 - 1);
            policy(bundle.sign(&[&loot.policy]))
        }),
        ("a garbled policy", policy(held[..held.len() / 2].to_vec())),
        (
            "a trust document signed by a foreign operator",
            ToNode::Trust { document: stale_document.sign(&[&mallory]) },
        ),
        (
            "a revocation list that forgets",
            ToNode::Revocations {
                list: RevocationList { epoch: epoch(0), issued: wall(), serials: vec![], keys: vec![] }
                    .sign(loot.issuer.key(), Some(loot.issuer.certificate())),
            },
        ),
        (
            "a revocation list of a foreign issuer",
            ToNode::Revocations {
                list: RevocationList { epoch: epoch(1000), issued: wall(), serials: vec![], keys: vec![] }
                    .sign(foreign.key(), Some(foreign.certificate())),
            },
        ),
        (
            "a certificate for another key",
            ToNode::Certificate {
                chain: loot.issuer.issue(&loot.claims(Role::Node, "web", &mallory, Some(&tunnel))).unwrap(),
            },
        ),
    ];
    let chain = loot.issuer.issue(&loot.claims(Role::Coordinator, "hub", &loot.identity, None)).unwrap();
    play(&mesh, server_config(chain.certificates(), &loot.identity), &mesh.web, lies);
    assert_eq!(std::fs::read(mesh.web.state().join("policy.cbor")).unwrap(), held);
    assert_eq!(mesh.web.peers().unwrap(), ["db"]);

    // Peers: the attacker's key under a name that policy permits, from wrong issuers and with wrong contents.
    // Later than any sequence number that the real coordinator has used.
    let mut sequence = 1 << 62;
    let mut forged = |what: &'static str, chain: bulkhead_identity::Chain| {
        sequence += 1;
        let peer = MapPeer { name: "metrics".parse().unwrap(), chain, endpoints: vec![] };
        (what, ToNode::Map(MapUpdate::Snapshot { sequence: MapSequence(sequence), peers: vec![peer] }))
    };
    let label = |mut claims: Claims| {
        let role: LabelKey = "role".parse().unwrap();
        claims.labels = Labels::new([(role, "metrics".parse().unwrap())]).unwrap();
        claims
    };
    let mut expired = label(loot.claims(Role::Node, "metrics", &mallory, Some(&tunnel)));
    expired.not_before = loot.issuer.not_before();
    expired.not_after = Timestamp(wall().0 - 1);
    let valid = label(loot.claims(Role::Node, "metrics", &mallory, Some(&tunnel)));
    let other_name = label(loot.claims(Role::Node, "elsewhere", &mallory, Some(&tunnel)));
    assert!(
        map_of(&mesh.db).peers.keys().all(|n| n.as_str() != "metrics"),
        "db's map no longer names the revoked node"
    );
    let lies = vec![
        forged("a map with a rogue leaf of a foreign issuer", foreign.issue(&valid).unwrap()),
        forged("a map with an expired certificate", loot.issuer.issue(&expired).unwrap()),
        forged("a map with another node's certificate", loot.issuer.issue(&other_name).unwrap()),
        forged("a map with a coordinator's certificate", chain.clone()),
    ];
    play(&mesh, server_config(chain.certificates(), &loot.identity), &mesh.web, lies);
    assert!(!mesh.web.peers().unwrap().contains(&"metrics".to_owned()));
}

#[test]
fn a_coordinator_with_a_foreign_certificate_is_not_spoken_to() {
    let mut mesh = Mesh::start();
    let loot = Loot::take(&mesh);
    mesh.coordinator.kill();
    let port = SocketAddr::from(([0, 0, 0, 0], 8443));
    // A node's certificate, valid in every other way, does not make a coordinator.
    let imposter = key(70);
    let tunnel = TunnelKey::from_bytes(Zeroizing::new([71; 32]));
    let claims = loot.claims(Role::Node, "imposter", &imposter, Some(&tunnel));
    let chain = loot.issuer.issue(&claims).unwrap();
    let config = server_config(chain.certificates(), &imposter);
    let socket = mesh.coordinator.host.inside(|| std::net::UdpSocket::bind(port).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let runtime = quinn::default_runtime().unwrap();
        let endpoint =
            quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).unwrap();
        let mut refusals = 0;
        while refusals < 3 {
            let incoming =
                tokio::time::timeout(Duration::from_secs(90), endpoint.accept()).await.unwrap().unwrap();
            // The server side may finish first; the client then closes before it opens a stream.
            if let Ok(connection) = incoming.await {
                assert!(connection.accept_bi().await.is_err(), "a node spoke to an imposter");
            }
            refusals += 1;
        }
    });
    assert_eq!(mesh.web.json(&["status"]).unwrap()["coordinator"]["connected"], false);
}
