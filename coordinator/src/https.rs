//! Serving HTTP/1.1, over TLS 1.3 to the network and over the unix socket to root. Strangers can hold little:
//! connections are counted, in all and per address, and everything they have to do has a deadline (G4, G5).

use crate::api::{Problem, Transport};
use crate::stop::Stop;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Connections at once.
pub const MAX_CONNECTIONS: usize = 4096;
/// Connections at once from one address; generous, because a site may be behind one.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 1024;
/// Bytes of a request's head.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Header lines of a request.
pub const MAX_HEADERS: usize = 64;
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// To send a head; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// To send a body and get an answer made.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
/// A connection is not kept longer, so that whoever reads nothing is let go.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors, say), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counts connections per address.
#[derive(Debug, Default)]
struct Addresses(Mutex<BTreeMap<IpAddr, usize>>);

impl Addresses {
    /// A place for one more connection from `address`, until the guard is dropped.
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= MAX_CONNECTIONS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), address })
    }
}

struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Serves the router over TLS until the stop.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, router: Router, mut stop: Stop) {
    let acceptor = TlsAcceptor::from(tls);
    let addresses = Arc::new(Addresses::default());
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.requested() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(reason = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if connections.len() >= MAX_CONNECTIONS {
            continue;
        }
        let Some(place) = addresses.admit(from.ip()) else { continue };
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => converse(stream, router, Transport::Network(from), stop).await,
                Ok(Err(error)) => tracing::debug!(%from, reason = %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%from, "TLS handshake took too long"),
            }
        });
    }
    // Answers that are under way may finish.
    let _ =
        tokio::time::timeout(CLOSE_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// Serves one connection to its end.
pub async fn converse<S>(stream: S, router: Router, transport: Transport, mut stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(Body::new), transport).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = over(&mut stop) => {
            // An answer that is under way may finish.
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(reason = %error, "HTTP connection ended early");
    }
}

/// When a connection takes no further requests: at a stop, or when it is old.
async fn over(stop: &mut Stop) {
    let _ = tokio::time::timeout(MAX_CONNECTION_AGE, stop.requested()).await;
}

async fn answer(router: Router, mut request: axum::extract::Request, transport: Transport) -> Response {
    request.extensions_mut().insert(transport);
    match tokio::time::timeout(REQUEST_TIMEOUT, router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Problem::timeout().into_response(),
    }
}
