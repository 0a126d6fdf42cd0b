//! A small HTTPS client for enrolment: one connection, a few requests, everything bounded.
//!
//! Property: an answer is never longer than [`MAX_ANSWER_BYTES`], and no step takes longer than [`STEP_TIMEOUT`],
//! whatever the other end does. There are no redirects and no proxies.

use crate::tls;
use bulkhead_identity::Trust;
use bulkhead_protocol::enrol::ApiError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A trust document with its roots, or a certificate chain, with room to spare.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Resolving and connecting, the handshake, and each request.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// Stands in the first handshake, in which nobody is verified.
const ANY_NAME: &str = "coordinator.invalid";

/// One connection to one coordinator.
pub(crate) struct Https {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpsError {
    /// Not reached, or too slow.
    #[error("cannot reach {address}: {why}")]
    Connect {
        /// Whom.
        address: String,
        /// Why.
        why: String,
    },
    /// Reached, but not the coordinator, or not speaking TLS 1.3.
    #[error("{address} did not prove to be the coordinator: {why}")]
    Handshake {
        /// Whom.
        address: String,
        /// Why.
        why: String,
    },
    /// The connection broke off, or was too slow.
    #[error("{address} broke off: {why}")]
    Broken {
        /// Whom.
        address: String,
        /// Why.
        why: String,
    },
    /// Not what the protocol says.
    #[error("{address} answered {status} with a body that does not fit the protocol")]
    Malformed {
        /// Who.
        address: String,
        /// The HTTP status.
        status: StatusCode,
    },
}

impl Https {
    /// Connects and verifies with `config`.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub(crate) async fn connect(
        address: &str,
        config: ClientConfig,
        trust: &Trust,
    ) -> Result<Self, HttpsError> {
        Self::open(address, config, &tls::server_name(trust)).await
    }

    /// Connects to whoever answers.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub(crate) async fn connect_unverified(address: &str, config: ClientConfig) -> Result<Self, HttpsError> {
        Self::open(address, config, ANY_NAME).await
    }

    async fn open(address: &str, config: ClientConfig, name: &str) -> Result<Self, HttpsError> {
        let handshake = |why: String| HttpsError::Handshake { address: address.into(), why };
        let name = ServerName::try_from(name.to_owned()).map_err(|error| handshake(error.to_string()))?;
        let tcp = match timeout(STEP_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                return Err(HttpsError::Connect { address: address.into(), why: error.to_string() });
            }
            Err(_) => return Err(HttpsError::Connect { address: address.into(), why: slow() }),
        };
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let stream = match timeout(STEP_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(handshake(error.to_string())),
            Err(_) => return Err(handshake(slow())),
        };
        Self::over(address, stream).await.map_err(|error| handshake(error.to_string()))
    }

    /// Over a connection that is there.
    ///
    /// # Errors
    /// When it is of no use.
    pub(super) async fn over(
        address: &str,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped; its errors also reach whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Self { address: address.into(), sender })
    }

    /// GET of raw bytes.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub(crate) async fn fetch(&mut self, path: &str) -> Result<Bytes, HttpsError> {
        let (status, body) = self.exchange(Method::GET, path, Bytes::new()).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(self.malformed(status)) }
    }

    /// POST of JSON; the inner error is the coordinator's own refusal, with its status.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub(crate) async fn post<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &mut self,
        path: &'static str,
        body: &Q,
    ) -> Result<Result<A, (StatusCode, ApiError)>, HttpsError> {
        let body = serde_json::to_vec(body).expect("plain structs always serialize");
        let (status, answer) = self.exchange(Method::POST, path, body.into()).await?;
        let malformed = |_| self.malformed(status);
        if status.is_success() {
            serde_json::from_slice(&answer).map(Ok).map_err(malformed)
        } else {
            serde_json::from_slice(&answer).map(|error| Err((status, error))).map_err(malformed)
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), HttpsError> {
        let broken = |why: String| HttpsError::Broken { address: self.address.clone(), why };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| broken(error.to_string()))?;
        let sender = &mut self.sender;
        let exchange = async {
            let response: Response<Incoming> =
                sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        match timeout(STEP_TIMEOUT, exchange).await {
            Ok(answer) => answer.map_err(broken),
            Err(_) => Err(broken(slow())),
        }
    }

    fn malformed(&self, status: StatusCode) -> HttpsError {
        HttpsError::Malformed { address: self.address.clone(), status }
    }
}

fn slow() -> String {
    format!("no answer within {} seconds", STEP_TIMEOUT.as_secs())
}
