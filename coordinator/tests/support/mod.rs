//! A whole coordinator in this process, on loopback and ephemeral ports, and clients for its doors: real TLS,
//! real QUIC, verified the way nodes and administrators verify.
#![allow(dead_code, unreachable_pub)]

use bulkhead_coordinator::config::{DEFAULT_CERTIFICATE_LIFETIME, DEFAULT_RENEWAL_GRACE, Settings};
use bulkhead_coordinator::serve::Server;
use bulkhead_identity::{
    CertificateRequest, Chain, Challenge, ChallengeKey, Epoch, Generation, IdentityKey, Revocations, Role,
    Timestamp, Trust, TrustDomain, TunnelKey, verify,
};
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use bulkhead_protocol::enrol::{BeginResponse, FinishResponse};
use bulkhead_protocol::offload::Offloads;
use bulkhead_protocol::token::Token;
use bulkhead_protocol::{ALPN_CONTROL, PROTOCOL_VERSION, frame};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

/// Deadline of every wait in these tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn wall() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

pub fn random() -> Zeroizing<[u8; 32]> {
    bulkhead_coordinator::clock::random().unwrap()
}

pub struct Deployment {
    pub directory: tempfile::TempDir,
    pub server: Option<Server>,
}

impl Deployment {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("acme.example").unwrap();
        let root = directory.path().join("state");
        bulkhead_coordinator::init::init(&root, &domain, &["127.0.0.1:8443".to_owned()]).unwrap();
        let mut deployment = Self { directory, server: None };
        deployment.serve().await;
        deployment
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/admin.sock")
    }

    pub async fn serve(&mut self) {
        self.serve_from(&self.root()).await;
    }

    pub async fn serve_from(&mut self, root: &Path) {
        let settings = Settings {
            addresses: vec!["127.0.0.1:8443".to_owned()],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            node: None,
            socket: self.socket(),
            certificate_lifetime: DEFAULT_CERTIFICATE_LIFETIME,
            offloads_off: Offloads::NONE,
            people: bulkhead_coordinator::config::People::default(),
            renewal_grace: DEFAULT_RENEWAL_GRACE,
        };
        self.server = Some(Server::start(root, settings).await.unwrap());
    }

    pub async fn stop(&mut self) {
        let mut server = self.server.take().unwrap();
        server.stop();
        server.ended().await.unwrap();
    }

    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    pub fn trust(&self) -> Trust {
        Trust::stored(&std::fs::read(self.root().join("trust.cbor")).unwrap(), wall()).unwrap()
    }

    /// As root, over the unix socket.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        request(stream, method, path, None, body).await
    }

    /// As root; must succeed.
    pub async fn done(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.admin(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Over TLS, after verifying that the server is the coordinator.
    pub async fn https(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut config = client_config(self.trust(), None);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("coordinator").unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        request(tls, method, path, key, body).await
    }

    pub async fn token(&self, body: Value) -> Zeroizing<[u8; 32]> {
        let created = self.done("POST", "/api/v1/tokens", Some(body)).await;
        Token::parse(created["token"].as_str().unwrap()).unwrap().secret
    }

    /// Joins with a token's secret.
    pub async fn enrol(&self, secret: &[u8; 32], name: Option<&str>) -> Result<Node, (u16, Value)> {
        let (status, begun) =
            self.https("POST", "/enrol/v1/begin", None, Some(json!({ "protocol": PROTOCOL_VERSION }))).await;
        assert_eq!(status, 200, "{begun}");
        let begun: BeginResponse = serde_json::from_value(begun).unwrap();
        let identity = IdentityKey::from_seed(random());
        let tunnel = TunnelKey::from_bytes(random());
        let challenge = Challenge(begun.challenge.try_into().unwrap());
        let challenge_key = ChallengeKey(begun.challenge_key.try_into().unwrap());
        let request = CertificateRequest::create(&identity, &tunnel, &challenge, &challenge_key);
        let body = json!({
            "enrolment": begun.enrolment,
            "request": BASE64URL_NOPAD.encode(&minicbor::to_vec(&request).unwrap()),
            "secret": BASE64URL_NOPAD.encode(secret),
            "name": name,
        });
        let (status, answer) = self.https("POST", "/enrol/v1/finish", None, Some(body)).await;
        if status != 200 {
            return Err((status, answer));
        }
        let finished: FinishResponse = serde_json::from_value(answer).unwrap();
        let chain: Chain = minicbor::decode(&finished.chain).unwrap();
        let verified = verify(&chain, &self.trust(), &Revocations::default(), wall()).unwrap();
        assert_eq!((verified.role(), verified.name().as_str()), (Role::Node, finished.name.as_str()));
        Ok(Node { name: finished.name, identity, chain })
    }

    /// Joins under `name` with `labels`.
    pub async fn node(&self, name: &str, labels: Value) -> Node {
        let secret = self.token(json!({ "labels": labels, "name": name })).await;
        self.enrol(&secret, None).await.unwrap()
    }
}

pub struct Node {
    pub name: String,
    pub identity: IdentityKey,
    pub chain: Chain,
}

/// An open control link.
pub struct ControlLink {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
}

impl Node {
    /// Opens the control link and says hello, holding nothing.
    pub async fn connect(&self, deployment: &Deployment) -> ControlLink {
        let (endpoint, connection) = connect(deployment, Some(self)).await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        let mut link = ControlLink { endpoint, connection, send, receive };
        link.tell(&ToCoordinator::Hello {
            protocol: PROTOCOL_VERSION,
            trust_version: Epoch(0),
            generation: Generation(0),
            epoch: Epoch(0),
            wireguard_port: 51820,
            endpoints: Vec::new(),
            software: "test".to_owned(),
        })
        .await;
        link
    }
}

/// A QUIC connection, with or without a node's certificate.
pub async fn connect(
    deployment: &Deployment,
    node: Option<&Node>,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let mut config = client_config(deployment.trust(), node);
    config.alpn_protocols = vec![ALPN_CONTROL.to_vec()];
    let crypto = QuicClientConfig::try_from(Arc::new(config)).unwrap();
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, deployment.address(), "coordinator").unwrap().await?;
    Ok((endpoint, connection))
}

impl ControlLink {
    pub async fn tell(&mut self, message: &ToCoordinator) {
        self.send.write_all(&frame::encode(message).unwrap()).await.unwrap();
    }

    /// The next message, or `None` when the link was closed.
    pub async fn next(&mut self) -> Option<ToNode> {
        let read = async {
            let mut header = [0; 4];
            self.receive.read_exact(&mut header).await.ok()?;
            let mut body = vec![0; frame::length(header).unwrap()];
            self.receive.read_exact(&mut body).await.ok()?;
            Some(frame::decode(&body).unwrap())
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the coordinator sends something in time")
    }

    /// Reads until a message is what `wanted` looks for.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&ToNode) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the link is open");
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    /// The code with which the coordinator closed the link.
    pub async fn close_code(&self) -> u64 {
        match tokio::time::timeout(PATIENCE, self.connection.closed())
            .await
            .expect("the link is closed in time")
        {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("closed without a code: {other}"),
        }
    }
}

async fn request<S>(
    stream: S,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<Value>,
) -> (u16, Value)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut builder = hyper::Request::builder().method(method).uri(path).header("host", "coordinator");
    if let Some(key) = key {
        builder = builder.header("authorization", format!("Bearer {key}"));
    }
    if body.is_some() {
        builder = builder.header("content-type", "application/json");
    }
    let body = body.map(|b| b.to_string()).unwrap_or_default();
    let request = builder.body(Full::new(Bytes::from(body))).unwrap();
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    let _ = connection.await;
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn client_config(trust: Trust, node: Option<&Node>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CoordinatorOnly { trust }));
    match node {
        None => builder.with_no_client_auth(),
        Some(node) => {
            let chain =
                node.chain.certificates().iter().map(|der| CertificateDer::from(der.to_vec())).collect();
            let key = PrivatePkcs8KeyDer::from(node.identity.to_pkcs8().to_vec());
            builder.with_client_auth_cert(chain, PrivateKeyDer::from(key)).unwrap()
        }
    }
}

#[derive(Debug)]
struct CoordinatorOnly {
    trust: Trust,
}

impl ServerCertVerifier for CoordinatorOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ders = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec());
        let chain = Chain::new(ders).unwrap();
        let identity =
            verify(&chain, &self.trust, &Revocations::default(), Timestamp(now.as_secs())).unwrap();
        assert_eq!(identity.role(), Role::Coordinator);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        panic!("TLS 1.2 was spoken")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &ring::default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
