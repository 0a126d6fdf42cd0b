//! The one way out to a provider. It speaks https only, follows no redirect, reads a bounded answer within a
//! deadline, and connects to an address that it has checked itself, so that neither a provider's documents nor its
//! DNS can point this coordinator at the inside (D12).

use super::address::{Place, place};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes of an answer's body.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Bytes of an answer's head.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header lines of an answer.
pub const MAX_HEADERS: usize = 100;
/// Addresses of one name that are looked at.
pub const MAX_ADDRESSES: usize = 16;
/// From resolving the name to the last byte of the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// For one of several addresses, so that the next has its turn.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
const HTTPS_PORT: u16 = 443;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an https address, or one with a password in it.
    #[error("{0} is not an https address")]
    Url(String),
    /// The name has no address.
    #[error("the name {0} cannot be resolved")]
    Resolve(String, #[source] std::io::Error),
    /// All addresses of the name are inside.
    #[error("{0} is at {1}, which is not on the internet; `private_addresses = true` allows that")]
    Inside(String, IpAddr),
    /// No address can be reached.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    /// The connection is not to whom it should be.
    #[error("the TLS handshake with {0} failed")]
    Tls(String, #[source] std::io::Error),
    /// What was sent or came back is no HTTP.
    #[error("the conversation with {0} broke off")]
    Http(String, #[source] hyper::Error),
    /// The answer sends us elsewhere.
    #[error("{0} answered with a redirect, and none is followed")]
    Redirect(String),
    /// The server, or one before it, failed.
    #[error("{0} answered with status {1}")]
    Failed(String, StatusCode),
    /// The body is too large.
    #[error("the answer of {0} is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge(String),
    /// It took too long.
    #[error("{0} did not answer within {n} seconds", n = DEADLINE.as_secs())]
    Late(String),
}

/// Fetches from one provider.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
    private_addresses: bool,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("private_addresses", &self.private_addresses).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Fetches from servers under `roots`.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn new(roots: RootCertStore, private_addresses: bool) -> Result<Self, rustls::Error> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(tls).into(), private_addresses })
    }

    /// Sends `request`, whose URI is absolute, and reads the whole answer.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        let server = Server::of(request.uri())?;
        let late = || FetchError::Late(server.host.clone());
        tokio::time::timeout(DEADLINE, self.converse(&server, request)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn converse(
        &self,
        server: &Server,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, FetchError> {
        let addresses = server.resolve(self.private_addresses).await?;
        let stream = server.connect(&addresses).await?;
        let tls_error = |error| FetchError::Tls(server.host.clone(), error);
        let name = ServerName::try_from(server.name().to_owned())
            .map_err(|error| tls_error(std::io::Error::other(error)))?;
        let stream = self.tls.connect(name, stream).await.map_err(tls_error)?;
        let http_error = |error| FetchError::Http(server.host.clone(), error);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http_error)?;
        let request = server.local(request)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(http_error)?;
            if answer.status().is_redirection() {
                return Err(FetchError::Redirect(server.host.clone()));
            }
            server.whole(answer).await
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The server closed. What came before that is still to be read; if it is not all, `answer` says so.
            _ = connection => answer.await,
        }
    }
}

/// Who is asked.
struct Server {
    /// As in the URI: an IPv6 address has its brackets.
    host: String,
    port: u16,
}

impl Server {
    fn of(uri: &Uri) -> Result<Self, FetchError> {
        let refused = || FetchError::Url(super::printable(&uri.to_string(), 200));
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(refused)?;
        if uri.scheme_str() != Some("https") || authority.host().is_empty() {
            return Err(refused());
        }
        let port = authority.port_u16();
        // A port that is written but is no port must not become 443.
        if port.is_none() && authority.as_str() != authority.host() {
            return Err(refused());
        }
        Ok(Self { host: authority.host().to_owned(), port: port.unwrap_or(HTTPS_PORT) })
    }

    /// The host without the brackets of an IPv6 address.
    fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Resolved once: the addresses that are checked here are the ones that are connected to.
    async fn resolve(&self, private_addresses: bool) -> Result<Vec<SocketAddr>, FetchError> {
        let found = tokio::net::lookup_host((self.name(), self.port)).await;
        let found: Vec<_> = found
            .map_err(|error| FetchError::Resolve(self.host.clone(), error))?
            .take(MAX_ADDRESSES)
            .collect();
        let may = |address: &SocketAddr| match place(address.ip()) {
            Place::Outside => true,
            Place::Inside => private_addresses,
            Place::Nowhere => false,
        };
        let allowed: Vec<_> = found.iter().copied().filter(may).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(first)) => Err(FetchError::Inside(self.host.clone(), first.ip())),
            (true, None) => Err(FetchError::Resolve(self.host.clone(), std::io::ErrorKind::NotFound.into())),
        }
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in addresses {
            match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(FetchError::Connect(self.host.clone(), last))
    }

    /// The request as this server is to see it: its own path, one connection for one answer.
    fn local(&self, request: Request<Vec<u8>>) -> Result<Request<Full<Bytes>>, FetchError> {
        let refused = || FetchError::Url(self.host.clone());
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().ok_or_else(refused)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| refused())?;
        head.uri =
            head.uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|_| refused())?;
        head.headers.insert(HOST, host);
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        head.headers.insert(USER_AGENT, HeaderValue::from_static("bulkhead-coordinator"));
        Ok(Request::from_parts(head, Full::new(body.into())))
    }

    async fn whole(&self, answer: Response<hyper::body::Incoming>) -> Result<Response<Vec<u8>>, FetchError> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| match error
            .downcast::<hyper::Error>(
        ) {
            Ok(error) => FetchError::Http(self.host.clone(), *error),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                FetchError::TooLarge(self.host.clone())
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_https_without_a_password_is_fetched() {
        let server = |uri: &str| Server::of(&uri.parse().unwrap()).map(|server| (server.host, server.port));
        assert_eq!(server("https://idp.example/x?y").unwrap(), ("idp.example".into(), 443));
        assert_eq!(server("https://[2606:4700::1]:8443/").unwrap(), ("[2606:4700::1]".into(), 8443));
        for refused in
            ["http://idp.example/", "/x", "https://a@idp.example/", "ftp://idp.example/", "idp.example"]
        {
            assert!(server(refused).is_err(), "{refused}");
        }
    }
}
