//! Control links: QUIC with mutual TLS, one bidirectional stream opened by the node, frames both ways.
//!
//! Nobody reaches the engine before `identity::verify` said who they are. Before that, a stranger costs one
//! bounded handshake: addresses are validated by a retry when many are under way, nothing is sent beyond three
//! times what came in (RFC 9000, section 8.1), handshakes and first words have deadlines, and what a node may
//! say at once is small (G4).

use crate::clock::{entropy, wall, wall_ms};
use crate::engine::Engine;
use crate::link::{self, code};
use crate::stop::Stop;
use crate::tls::SharedLinkTrust;
use bulkhead_coordinator_engine::{Command, ConnectionId};
use bulkhead_identity::VerifiedIdentity;
use bulkhead_protocol::control::ToCoordinator;
use bulkhead_protocol::frame;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream, ServerConfig, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::Instrument;

/// Links at once.
pub const MAX_LINKS: usize = 20_000;
/// Handshakes at once that are not finished; more are refused.
pub const MAX_HANDSHAKES: usize = 2_000;
/// Above this many unfinished handshakes, a client has to prove its address first.
pub const RETRY_ABOVE: usize = 100;
/// Largest frame that a node may send: a hello with all endpoints is a few hundred bytes.
pub const MAX_NODE_FRAME_BYTES: usize = 64 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the handshake to the stream with its first frame.
const FIRST_WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// From a frame's first byte to its last.
const FRAME_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_TIMEOUT_MS: u32 = 30_000;
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// Datagrams of one unaccepted handshake, and of all together.
const MAX_INCOMING_BYTES: u64 = 32 * 1024;
const MAX_ALL_INCOMING_BYTES: u64 = 16 * 1024 * 1024;
/// Sent but not acknowledged, per link.
const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves control links until [`Control::run`] is dropped or told to stop.
pub struct Control {
    endpoint: Endpoint,
    engine: Engine,
    trust: SharedLinkTrust,
    handshakes: Arc<AtomicUsize>,
}

impl Control {
    /// Listens on a bound socket.
    ///
    /// # Errors
    /// The socket or the TLS configuration is refused.
    pub fn bind(
        socket: UdpSocket,
        tls: Arc<rustls::ServerConfig>,
        trust: SharedLinkTrust,
        engine: Engine,
    ) -> anyhow::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport()))
            // A link that moved would keep its old observed address; a new link reports the new one.
            .migration(false)
            .max_incoming(MAX_HANDSHAKES)
            .incoming_buffer_size(MAX_INCOMING_BYTES)
            .incoming_buffer_size_total(MAX_ALL_INCOMING_BYTES);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime)?;
        Ok(Self { endpoint, engine, trust, handshakes: Arc::default() })
    }

    /// Accepts links until the stop, then closes them all.
    pub async fn run(self, mut stop: Stop) {
        let mut links = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.requested() => break,
                Some(ended) = links.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!("a control link's task panicked");
                    }
                }
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.admit(incoming, &mut links),
                    None => break,
                },
            }
        }
        self.endpoint.close(code::STOPPING.into(), b"the coordinator stops");
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.endpoint.wait_idle()).await;
    }

    fn admit(&self, incoming: Incoming, links: &mut JoinSet<()>) {
        let handshakes = self.handshakes.load(Ordering::Relaxed);
        if handshakes >= RETRY_ABOVE && !incoming.remote_address_validated() && incoming.may_retry() {
            // The reply is smaller than what it answers. Failing to send it costs the client one try.
            let _ = incoming.retry();
        } else if handshakes >= MAX_HANDSHAKES || links.len() >= MAX_LINKS {
            incoming.refuse();
        } else {
            let (engine, trust) = (self.engine.clone(), Arc::clone(&self.trust));
            let counted = Counted::new(&self.handshakes);
            let span = tracing::debug_span!("link", from = %incoming.remote_address());
            links.spawn(serve(incoming, engine, trust, counted).instrument(span));
        }
    }
}

/// One unfinished handshake; counts itself off.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(2 * MAX_NODE_FRAME_BYTES as u32))
        .receive_window(VarInt::from_u32(2 * MAX_NODE_FRAME_BYTES as u32))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

/// One link from its first datagram to its end.
async fn serve(incoming: Incoming, engine: Engine, trust: SharedLinkTrust, counted: Counted) {
    let Some((connection, identity)) = handshake(incoming, &trust).await else { return };
    let opened = tokio::time::timeout(FIRST_WORD_TIMEOUT, connection.accept_bi()).await;
    drop(counted);
    let Ok(Ok((send, receive))) = opened else {
        connection.close(code::MALFORMED.into(), b"no stream was opened");
        return;
    };
    let name = identity.name().clone();
    let observed = connection.remote_address();
    let claims = identity.claims();
    let (sender, writer) = link::link(connection.clone(), send, claims.identity_key, claims.not_after);
    let id = engine.connection();
    let connected = Command::Connected { connection: id, identity, observed };
    if engine.open_link(id, sender, connected).await.is_err() {
        connection.close(code::STOPPING.into(), b"the coordinator stops");
        return;
    }
    tracing::info!(node = %name, %observed, "node connected");
    let read = async {
        let why = read_frames(receive, id, &engine).await;
        if why == Ended::Malformed {
            connection.close(code::MALFORMED.into(), b"that is not a frame");
        }
    };
    // Whichever half ends, the link is over; `closed` covers closes from the engine's side.
    tokio::select! {
        () = read => {}
        () = writer.run() => {}
        _ = connection.closed() => {}
    }
    connection.close(code::STOPPING.into(), b"");
    let _ = engine.tell(Command::Disconnected { connection: id }).await;
    tracing::info!(node = %name, reason = %connection.close_reason().map_or(String::new(), |r| r.to_string()), "node disconnected");
}

async fn handshake(
    incoming: Incoming,
    trust: &SharedLinkTrust,
) -> Option<(quinn::Connection, VerifiedIdentity)> {
    let connecting = incoming.accept().ok()?;
    let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(reason = %error, "handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    // Again, against what is in force now: a revocation may have come during the handshake.
    match trust.load().admit(&chain, wall()) {
        Ok(identity) => Some((connection, identity)),
        Err(why) => {
            tracing::debug!(reason = %why, "client certificate refused");
            connection.close(code::EXPIRED.into(), b"the certificate is not accepted");
            None
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By the node or by us.
    Closed,
    /// What came is not of this protocol.
    Malformed,
}

async fn read_frames(mut stream: RecvStream, connection: ConnectionId, engine: &Engine) -> Ended {
    loop {
        let message = match read_frame(&mut stream).await {
            Ok(message) => message,
            Err(ended) => return ended,
        };
        if let ToCoordinator::Refused { what, why } = &message {
            // Quoted: a node's words must not break the log's lines (E6).
            tracing::warn!(?what, ?why, "a node refused what it was sent");
        }
        let Ok(entropy) = entropy() else { return Ended::Closed };
        let message = Box::new(message);
        // Waiting here holds up only this node: its window fills and it stops sending.
        let told = engine.tell(Command::Message { connection, message, arrived_ms: wall_ms(), entropy });
        if told.await.is_err() {
            return Ended::Closed;
        }
    }
}

async fn read_frame(stream: &mut RecvStream) -> Result<ToCoordinator, Ended> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.map_err(|_| Ended::Closed)?;
    let length = frame::length(header).map_err(|_| Ended::Malformed)?;
    if length > MAX_NODE_FRAME_BYTES {
        return Err(Ended::Malformed);
    }
    let mut body = vec![0; length];
    match tokio::time::timeout(FRAME_TIMEOUT, stream.read_exact(&mut body)).await {
        Ok(Ok(())) => frame::decode(&body).map_err(|_| Ended::Malformed),
        Ok(Err(_)) => Err(Ended::Closed),
        Err(_) => Err(Ended::Malformed),
    }
}
