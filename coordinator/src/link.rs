//! The sending side of one control link: a bounded queue, and the end of the node's certificate.
//!
//! A node that reads too slowly loses its link, not the coordinator its memory (G4): the queue is bounded in
//! messages and in bytes, a write that makes no progress ends the link, and so does the certificate's end,
//! unless a renewed one for the same key was sent over this link. One that was made with an ended certificate, to
//! renew it, lasts `RENEWAL_TIME`.

use bulkhead_identity::{Certificate, IdentityPublicKey, Timestamp};
use bulkhead_protocol::control::ToNode;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages that may wait for one node.
pub const MAX_QUEUED_MESSAGES: usize = 1024;
/// Bytes that may wait for one node: a few of the largest frames.
pub const MAX_QUEUED_BYTES: usize = 3 * bulkhead_protocol::frame::MAX_FRAME_BYTES;
/// A write that is not taken within this ends the link.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest sleep before the wall clock is asked again: it may be set.
const MAX_CLOCK_SLEEP: Duration = Duration::from_secs(15);
/// A link whose certificate has ended already may last this long, to have it renewed.
const RENEWAL_TIME: Duration = Duration::from_secs(60);
/// Time for the last messages to arrive before a link is closed.
const LINGER: Duration = Duration::from_secs(1);

/// Application error codes that the rim itself uses; the engine's are below 100.
pub mod code {
    /// The coordinator stops.
    pub const STOPPING: u32 = 100;
    /// The node reads too slowly.
    pub const SLOW: u32 = 101;
    /// The node's certificate ended.
    pub const EXPIRED: u32 = 102;
    /// The node sent what is no frame, or too large a one.
    pub const MALFORMED: u32 = 103;
    /// There are too many links.
    pub const BUSY: u32 = 104;
}

enum Outgoing {
    Frame { bytes: Bytes, certificate_end: Option<Timestamp> },
    Close { code: u32, reason: String },
}

/// The engine's end of a link's queue. Never blocks.
#[derive(Clone)]
pub struct LinkSender {
    queue: mpsc::Sender<Outgoing>,
    queued_bytes: Arc<AtomicUsize>,
    connection: quinn::Connection,
    key: IdentityPublicKey,
}

impl LinkSender {
    /// Queues one frame; ends the link when the queue is full. `message` is what the frame says.
    pub fn send(&self, frame: Bytes, message: &ToNode) {
        let length = frame.len();
        let certificate_end = self.renewed_until(message);
        let waiting = self.queued_bytes.fetch_add(length, Ordering::Relaxed) + length;
        let queued = waiting <= MAX_QUEUED_BYTES
            && self.queue.try_send(Outgoing::Frame { bytes: frame, certificate_end }).is_ok();
        if !queued {
            self.cut(code::SLOW, "this node reads too slowly");
        }
    }

    /// Closes the link after what was queued before.
    pub fn close(&self, code: u32, reason: &str) {
        if self.queue.try_send(Outgoing::Close { code, reason: reason.to_owned() }).is_err() {
            self.cut(code, reason);
        }
    }

    fn cut(&self, code: u32, reason: &str) {
        self.connection.close(code.into(), reason.as_bytes());
    }

    /// A fresh certificate for the key that this link's handshake proved keeps the link open for its lifetime.
    fn renewed_until(&self, message: &ToNode) -> Option<Timestamp> {
        match message {
            ToNode::Certificate { chain, .. } => {
                let claims = Certificate::parse(chain.leaf()).ok()?.claims;
                (claims.identity_key == self.key).then_some(claims.not_after)
            }
            ToNode::Welcome { .. }
            | ToNode::Trust { .. }
            | ToNode::Policy { .. }
            | ToNode::Revocations { .. }
            | ToNode::Map(_)
            | ToNode::RenewChallenge { .. }
            | ToNode::Refused { .. }
            | ToNode::WantFlows { .. }
            | ToNode::Offloads { .. } => None,
        }
    }
}

/// The writing half: takes from the queue until the link ends.
pub struct LinkWriter {
    queue: mpsc::Receiver<Outgoing>,
    queued_bytes: Arc<AtomicUsize>,
    connection: quinn::Connection,
    stream: quinn::SendStream,
    certificate_end: Timestamp,
}

/// Makes both halves for a link whose node proved `key`, with a certificate until `certificate_end`.
#[must_use]
pub fn link(
    connection: quinn::Connection,
    stream: quinn::SendStream,
    key: IdentityPublicKey,
    certificate_end: Timestamp,
) -> (LinkSender, LinkWriter) {
    let wall = crate::clock::wall();
    let certificate_end = if wall < certificate_end { certificate_end } else { wall.plus(RENEWAL_TIME) };
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_MESSAGES);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let sender = LinkSender {
        queue: sender,
        queued_bytes: Arc::clone(&queued_bytes),
        connection: connection.clone(),
        key,
    };
    (sender, LinkWriter { queue: receiver, queued_bytes, connection, stream, certificate_end })
}

impl LinkWriter {
    /// Writes until the link is over; the caller drops the connection then.
    pub async fn run(mut self) {
        loop {
            let left = crate::clock::wall().until(self.certificate_end);
            if left.is_zero() {
                self.connection.close(code::EXPIRED.into(), b"the certificate of this link ended");
                return;
            }
            let outgoing = match tokio::time::timeout(left.min(MAX_CLOCK_SLEEP), self.queue.recv()).await {
                Ok(Some(outgoing)) => outgoing,
                // The engine forgot the link.
                Ok(None) => return,
                Err(_) => continue,
            };
            match outgoing {
                Outgoing::Frame { bytes, certificate_end } => {
                    let length = bytes.len();
                    let written = tokio::time::timeout(WRITE_TIMEOUT, self.stream.write_chunk(bytes)).await;
                    self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
                    match written {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return,
                        Err(_) => {
                            self.connection.close(code::SLOW.into(), b"this node reads too slowly");
                            return;
                        }
                    }
                    self.certificate_end = certificate_end.unwrap_or(self.certificate_end);
                }
                Outgoing::Close { code, reason } => {
                    self.end(code, &reason).await;
                    return;
                }
            }
        }
    }

    /// Lets the last messages arrive, but does not wait for a node that does not read.
    async fn end(&mut self, code: u32, reason: &str) {
        if self.stream.finish().is_ok() {
            let _ = tokio::time::timeout(LINGER, self.stream.stopped()).await;
        }
        self.connection.close(code.into(), reason.as_bytes());
    }
}
