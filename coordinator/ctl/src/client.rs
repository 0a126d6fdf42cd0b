//! One question and one answer at a time with a coordinator: JSON over HTTP/1.1, on the root-only unix socket or
//! over TLS 1.3.
//!
//! Nothing that changes anything is ever sent twice: a request whose answer was lost fails, and the caller looks
//! before asking again.

use crate::failure::Failure;
use crate::newest;
use crate::session::Session;
use crate::tls::{self, Believe};
use anyhow::{Context as _, anyhow, bail};
use bulkhead_identity::{Timestamp, Trust, TrustHash};
use bulkhead_protocol::enrol::ApiError;
use bulkhead_protocol::token::Token;
use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Largest answer that is read: a policy of 10 MB, its escapes, and room.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long one address may take to accept, TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the coordinator is, and whom to believe there.
enum Route {
    Socket(PathBuf),
    Tls {
        addresses: Vec<String>,
        believe: Believe,
    },
    /// Coordinators under the trust document that follows the one with this hash; fetched when first needed.
    Pinned {
        addresses: Vec<String>,
        pin: TrustHash,
    },
}

/// A conversation with a coordinator; connects when first needed, and again when the connection was lost.
pub(crate) struct Client {
    route: Route,
    authorization: Option<HeaderValue>,
    sender: Option<SendRequest<Full<Bytes>>>,
    ends: Option<Timestamp>,
}

impl Client {
    /// Over the coordinator's root-only unix socket: the socket's owner is who we are.
    pub(crate) fn socket(path: &Path) -> Self {
        Self { route: Route::Socket(path.to_owned()), authorization: None, sender: None, ends: None }
    }

    /// Over TLS to coordinators of `trust`, not (yet) as anybody.
    pub(crate) fn anonymous(addresses: &[String], trust: Arc<Trust>) -> Self {
        let route = Route::Tls { addresses: addresses.to_vec(), believe: Believe::Coordinators(trust) };
        Self { route, authorization: None, sender: None, ends: None }
    }

    /// Over TLS with the key of a session.
    pub(crate) fn session(session: &Session) -> Result<Self, Failure> {
        let mut client = Self::anonymous(&session.coordinators, Arc::new(session.verified_trust()?));
        client.authorization = Some(bearer(&session.key)?);
        client.ends = Some(session.expires);
        Ok(client)
    }

    /// Over TLS with an API key.
    pub(crate) fn key(token: Token) -> Result<Self, Failure> {
        let authorization = Some(bearer(token.secret.as_slice())?);
        let route = Route::Pinned { addresses: token.coordinators, pin: token.trust };
        Ok(Self { route, authorization, sender: None, ends: None })
    }

    /// When the session ends with which it speaks; `None` when there is no session.
    pub(crate) fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    /// Over TLS to whoever answers, to ask for trust documents and nothing else.
    pub(crate) fn unverified(addresses: &[String]) -> Self {
        let route = Route::Tls { addresses: addresses.to_vec(), believe: Believe::AnyoneForTheTrustDocument };
        Self { route, authorization: None, sender: None, ends: None }
    }

    /// `GET path`, as it is.
    pub(crate) async fn get_bytes(&mut self, path: &str) -> Result<Bytes, Failure> {
        self.exchange(Method::GET, path, None).await
    }

    /// `GET path`.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let answer = self.exchange(Method::GET, path, None).await?;
        parse(&answer)
    }

    /// `POST path` with a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let answer = self.exchange(Method::POST, path, Some(json(body)?)).await?;
        parse(&answer)
    }

    /// `PUT path` with a JSON body.
    pub(crate) async fn put<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let answer = self.exchange(Method::PUT, path, Some(json(body)?)).await?;
        parse(&answer)
    }

    /// `DELETE path`; what the answer says beyond success is of no interest.
    pub(crate) async fn delete(&mut self, path: &str) -> Result<(), Failure> {
        self.exchange(Method::DELETE, path, None).await.map(drop)
    }

    async fn exchange(&mut self, method: Method, path: &str, body: Option<Bytes>) -> Result<Bytes, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "bulkhead-coordinator");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).context("composing the request")?;

        let (status, answer) = match timeout(ANSWER_TIMEOUT, self.converse(request)).await {
            Ok(answered) => answered?,
            Err(_) => return Err(self.lost(anyhow!("no answer within {ANSWER_TIMEOUT:?}"))),
        };
        if status.is_success() { Ok(answer) } else { Err(refused(status, &answer)) }
    }

    async fn converse(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let mut tried = self.connected().await?.try_send_request(request).await;
        // The coordinator hangs up on idle connections, for example while a person thinks about a question. Only a
        // request of which nothing was sent comes back here, so this cannot do anything twice.
        if let Err(error) = &mut tried
            && let Some(unsent) = error.take_message()
        {
            self.sender = None;
            tried = self.connected().await?.try_send_request(unsent).await;
        }
        let (head, body) = match tried {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Err(self.lost(anyhow!(error.into_error()).context("sending the request"))),
        };
        match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => Ok((head.status, body.to_bytes())),
            Err(error) => Err(self.lost(anyhow!(error).context("reading the answer"))),
        }
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        let usable = match &mut self.sender {
            Some(sender) => !sender.is_closed() && sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.sender = Some(self.connect_or_follow().await?);
        }
        Ok(self.sender.as_mut().expect("just connected, or found usable"))
    }

    /// When operators changed the root since the trust document that we hold was made, the coordinator cannot be
    /// verified under it, and the newest one is looked for first.
    async fn connect_or_follow(&mut self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        if let Route::Pinned { addresses, pin } = &self.route {
            // Boxed: fetching it is a connection too.
            let trust = Arc::new(Box::pin(newest::pinned(addresses, *pin)).await?);
            let believe = Believe::Coordinators(trust);
            self.route = Route::Tls { addresses: addresses.clone(), believe };
        }
        let failure = match self.connect().await {
            Ok(sender) => return Ok(sender),
            Err(failure) => failure,
        };
        let Route::Tls { addresses, believe: Believe::Coordinators(held) } = &mut self.route else {
            return Err(failure);
        };
        // Boxed: looking for it is a connection too.
        match Box::pin(newest::newest(addresses, held)).await {
            Ok(newer) if newer.document().version > held.document().version => *held = Arc::new(newer),
            Ok(_) | Err(_) => return Err(failure),
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        match &self.route {
            Route::Socket(path) => {
                let reach = async { handshake(UnixStream::connect(path).await?).await };
                within_connect_timeout(reach).await.map_err(|error| self.unreachable(error))
            }
            Route::Tls { addresses, believe } => {
                let mut last = anyhow!("no coordinator address is known");
                for address in addresses {
                    let reach = async {
                        let (host, _port) = address.rsplit_once(':').context("an address is host:port")?;
                        let tcp = TcpStream::connect(address).await?;
                        handshake(tls::handshake(tcp, host, believe.clone()).await?).await
                    };
                    match within_connect_timeout(reach).await {
                        Ok(sender) => return Ok(sender),
                        Err(error) => last = error.context(address.clone()),
                    }
                }
                Err(self.unreachable(last))
            }
            Route::Pinned { .. } => Err(self.unreachable(anyhow!("whom to believe there is not known yet"))),
        }
    }

    fn lost(&mut self, cause: anyhow::Error) -> Failure {
        self.sender = None;
        self.unreachable(cause)
    }

    fn unreachable(&self, cause: anyhow::Error) -> Failure {
        let denied = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        match &self.route {
            Route::Socket(path) => Failure::Unreachable {
                place: path.display().to_string(),
                help: if denied {
                    "the socket is root's: use sudo, or `bulkheadctl login --token-file FILE`".to_owned()
                } else {
                    "is `bulkhead-coordinator serve` running on this host? name its socket with --socket".to_owned()
                },
                cause,
            },
            Route::Tls { addresses, .. } | Route::Pinned { addresses, .. } => Failure::Unreachable {
                place: addresses.join(", "),
                help: "check that the coordinator runs and that TCP to it is open; traffic between nodes goes on \
                       without it"
                    .to_owned(),
                cause,
            },
        }
    }
}

fn bearer(secret: &[u8]) -> Result<HeaderValue, Failure> {
    let bearer = Zeroizing::new(format!("Bearer {}", BASE64URL_NOPAD.encode(secret)));
    let mut value = HeaderValue::from_str(&bearer).context("the key")?;
    value.set_sensitive(true);
    Ok(value)
}

async fn within_connect_timeout<T>(reach: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match timeout(CONNECT_TIMEOUT, reach).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("no connection within {CONNECT_TIMEOUT:?}"),
    }
}

async fn handshake<S>(stream: S) -> anyhow::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends when `sender` is dropped or the coordinator hangs up; how it ended shows at the next request.
    tokio::spawn(connection);
    Ok(sender)
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    Ok(serde_json::to_vec(body).context("composing the request")?.into())
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(answer)
        .map_err(|error| anyhow!("line {} column {}", error.line(), error.column()))
        .context("the coordinator's answer is not what this version of bulkheadctl understands")?)
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let error = serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
        code: "unknown".to_owned(),
        message: format!("the coordinator answered {status}"),
        help: None,
        diagnostics: None,
    });
    Failure::Refused { status, error: Box::new(error) }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    /// A server on a unix socket that answers each connection's first request with these bytes.
    pub(crate) struct Scripted {
        place: tempfile::TempDir,
    }

    impl Scripted {
        pub(crate) fn start(answers: Vec<String>) -> Self {
            let place = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(place.path().join("admin.sock")).unwrap();
            tokio::spawn(async move {
                for answer in answers {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut request = vec![0; 4096];
                    let read = stream.read(&mut request).await.unwrap();
                    assert!(read > 0);
                    // The client may hang up before it has read everything: that is what one test is about.
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            Self { place }
        }

        pub(crate) fn socket(&self) -> PathBuf {
            self.place.path().join("admin.sock")
        }

        fn client(&self) -> Client {
            Client::socket(&self.socket())
        }
    }

    pub(crate) fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_lost_connection_is_made_anew_for_the_next_question() {
        let server = Scripted::start(vec![http("200 OK", "1"), http("200 OK", "2")]);
        let mut client = server.client();
        assert_eq!(client.get::<u32>("/a").await.unwrap(), 1);
        // The script closes each connection after one answer, as a coordinator does with an idle one.
        assert_eq!(client.get::<u32>("/b").await.unwrap(), 2);
    }

    #[tokio::test]
    async fn an_error_body_becomes_message_and_help() {
        let body = r#"{"code": "unknown_node", "message": "no node x", "help": "bulkheadctl node list"}"#;
        let server = Scripted::start(vec![http("404 Not Found", body)]);
        let failure = server.client().get::<u32>("/a").await.unwrap_err();
        assert_eq!(failure.sentence(), "no node x");
        assert_eq!(failure.help().unwrap(), "bulkheadctl node list");
    }

    #[tokio::test]
    async fn an_error_without_a_body_we_know_still_says_its_status() {
        let server = Scripted::start(vec![http("503 Service Unavailable", "<html>")]);
        let failure = server.client().get::<u32>("/a").await.unwrap_err();
        assert!(failure.sentence().contains("503"), "{failure}");
    }

    #[tokio::test]
    async fn an_answer_beyond_the_limit_is_refused() {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_ANSWER_BYTES + 1);
        let server = Scripted::start(vec![head + &"x".repeat(MAX_ANSWER_BYTES + 1)]);
        let failure = server.client().get::<u32>("/a").await.unwrap_err();
        assert!(failure.sentence().contains("length limit"), "{}", failure.sentence());
    }

    #[tokio::test]
    async fn an_answer_that_is_not_understood_is_not_quoted() {
        let server = Scripted::start(vec![http("200 OK", r#"{"token": "canary"#)]);
        let failure = server.client().get::<u32>("/a").await.unwrap_err();
        assert!(!failure.sentence().contains("canary"), "{}", failure.sentence());
    }

    #[tokio::test]
    async fn nobody_there_says_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let failure = Client::socket(&place.path().join("none")).get::<u32>("/a").await.unwrap_err();
        assert!(failure.help().unwrap().contains("serve"), "{failure:?}");
    }
}
