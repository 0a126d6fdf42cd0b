//! The control link's transport: one QUIC connection, one stream, frames both ways.
//!
//! Property: both ends are verified by their certificates before a frame is read; a frame is never longer than the
//! protocol's limit; at most [`MAX_WAITING_FRAMES`] frames wait, and then the sender waits. A coordinator that does
//! not read ends the link rather than stalling the node.

use crate::tls::TlsError;
use bulkhead_protocol::control::{ToCoordinator, ToNode};
use bulkhead_protocol::frame::{self, FrameError};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    Connection, ConnectionError, Endpoint, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt,
};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Frames that were received and not yet handled.
const MAX_WAITING_FRAMES: usize = 4;
/// Resolving a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The handshake with one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Handing one frame to QUIC.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long we wait for a farewell to arrive.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which the link is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often silence is broken.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Addresses tried of one name.
const MAX_RESOLVED: usize = 8;
/// Sent when we close on purpose.
const CLOSE_NORMAL: VarInt = VarInt::from_u32(0);

/// An open link.
pub(crate) struct Link {
    connection: Connection,
    send: SendStream,
    frames: mpsc::Receiver<Result<ToNode, LinkError>>,
    reader: JoinHandle<()>,
}

/// Why there is no link, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No address for the name.
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, String),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Not reached.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, String),
    /// Reached, but one of the two sides did not verify the other.
    #[error("{0} and this node do not believe each other: {1}")]
    Unverified(SocketAddr, String),
    /// The connection ended.
    #[error("{0}")]
    Broken(String),
    /// The coordinator does not read, or does not answer.
    #[error("the coordinator is too slow: {0}")]
    Slow(&'static str),
    /// A frame that does not fit the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The node has another certificate than the link was made with.
    #[error("this node has a new certificate, and connects again with it")]
    Superseded,
    /// It spoke out of turn.
    #[error("the coordinator broke the protocol: {0}")]
    Protocol(&'static str),
}

impl LinkError {
    /// Of two failures the one to act upon. That somebody there and this node do not believe each other is not
    /// forgotten over another address that nobody answers at: a newer trust document may be had (`trust.rs`).
    pub(crate) fn or(self, later: Self) -> Self {
        let unverified = |error: &Self| matches!(error, Self::Unverified(..));
        if unverified(&self) && !unverified(&later) { self } else { later }
    }
}

/// A UDP socket for links, dual-stack where the host has IPv6.
///
/// # Errors
/// When neither family can be bound.
pub(crate) fn endpoint() -> io::Result<Endpoint> {
    Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())
        .or_else(|_| Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()))
}

impl Link {
    /// Connects to the first address of `host_port` that answers and is verified.
    ///
    /// # Errors
    /// See [`LinkError`]; that of the last address tried.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        host_port: &str,
        tls: rustls::ClientConfig,
        server_name: &str,
    ) -> Result<Self, LinkError> {
        let config = client_config(tls)?;
        let mut last = LinkError::Resolve(host_port.into(), "it has no address".into());
        for address in resolve(host_port).await? {
            match Self::connect_to(endpoint, address, config.clone(), server_name).await {
                Ok(link) => return Ok(link),
                Err(error) => last = last.or(error),
            }
        }
        Err(last)
    }

    async fn connect_to(
        endpoint: &Endpoint,
        address: SocketAddr,
        config: quinn::ClientConfig,
        server_name: &str,
    ) -> Result<Self, LinkError> {
        let failed = |why: String| LinkError::Connect(address, why);
        let connecting =
            endpoint.connect_with(config, address, server_name).map_err(|error| failed(error.to_string()))?;
        let connection = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) if is_about_tls(&error) => {
                return Err(LinkError::Unverified(address, error.to_string()));
            }
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs()))),
        };
        let (send, receive) = connection.open_bi().await.map_err(|error| failed(error.to_string()))?;
        let (frames_in, frames) = mpsc::channel(MAX_WAITING_FRAMES);
        let reader = tokio::spawn(read_frames(receive, frames_in));
        Ok(Self { connection, send, frames, reader })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// See [`LinkError`]; the link is of no use afterwards.
    pub(crate) async fn send(&mut self, message: &ToCoordinator) -> Result<(), LinkError> {
        let bytes = frame::encode(message)?;
        match timeout(SEND_TIMEOUT, self.send.write_all(&bytes)).await {
            Ok(sent) => sent.map_err(|error| LinkError::Broken(self.why(&error.to_string()))),
            Err(_) => Err(LinkError::Slow("it does not read")),
        }
    }

    /// The next message. May be dropped while it waits; nothing is lost then.
    ///
    /// # Errors
    /// See [`LinkError`]; the link is of no use afterwards.
    pub(crate) async fn receive(&mut self) -> Result<ToNode, LinkError> {
        match self.frames.recv().await {
            Some(Err(LinkError::Broken(why))) => Err(LinkError::Broken(self.why(&why))),
            Some(frame) => frame,
            None => Err(LinkError::Broken(self.why("the stream ended"))),
        }
    }

    /// Ends the stream and waits, within limits, until the coordinator has all of it.
    pub(crate) async fn farewell(mut self) {
        if self.send.finish().is_ok() {
            // Either outcome ends the wait; a coordinator that closes at once has read it as well.
            let _ = timeout(FAREWELL_TIMEOUT, self.send.stopped()).await;
        }
        self.connection.close(CLOSE_NORMAL, b"leaving");
    }

    /// Closes the connection.
    pub(crate) fn close(&self) {
        self.connection.close(CLOSE_NORMAL, b"");
    }

    /// The connection's own reason says more than the stream's.
    fn why(&self, otherwise: &str) -> String {
        match self.connection.close_reason() {
            Some(reason) => reason.to_string(),
            None => otherwise.into(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads whole frames until the stream ends or the link is dropped; a task of its own, because reading half a frame
/// cannot be taken back.
async fn read_frames(mut receive: RecvStream, frames: mpsc::Sender<Result<ToNode, LinkError>>) {
    loop {
        let frame = read_frame(&mut receive).await;
        let last = frame.is_err();
        if frames.send(frame).await.is_err() || last {
            return;
        }
    }
}

async fn read_frame(receive: &mut RecvStream) -> Result<ToNode, LinkError> {
    let broken = |error: quinn::ReadExactError| LinkError::Broken(error.to_string());
    let mut header = [0; 4];
    receive.read_exact(&mut header).await.map_err(broken)?;
    let mut body = vec![0; frame::length(header)?];
    receive.read_exact(&mut body).await.map_err(broken)?;
    Ok(frame::decode(&body)?)
}

/// Whether the handshake failed by a TLS alert (RFC 9001, section 4.8: 0x0100 and the alert).
fn is_about_tls(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return false,
    };
    (0x100..0x200).contains(&code)
}

async fn resolve(host_port: &str) -> Result<Vec<SocketAddr>, LinkError> {
    let failed = |why: String| LinkError::Resolve(host_port.into(), why);
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(host_port)).await {
        Ok(Ok(addresses)) => Ok(addresses.take(MAX_RESOLVED).collect()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("the resolver does not answer".into())),
    }
}

fn client_config(tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, LinkError> {
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| TlsError::from(rustls::Error::General(error.to_string())))?;
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("fifteen seconds fit into a QUIC integer");
    transport.max_idle_timeout(Some(idle)).keep_alive_interval(Some(KEEPALIVE));
    // The node opens the only stream; the coordinator opens none.
    transport.max_concurrent_bidi_streams(0_u32.into()).max_concurrent_uni_streams(0_u32.into());
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
