//! Performs what the engine decided: datagrams to the network, packets to the host.
//!
//! Property: an error while sending costs that packet and moves a counter; it never stops the thread, is never
//! retried in place, and is never logged per packet (G9).

use crate::device::Device;
use crate::socket::WireSocket;
use bulkhead_node_engine::Output;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where output goes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transmit {
    socket: Arc<WireSocket>,
    device: Arc<Device>,
    failures: Arc<Failures>,
}

/// What could not be sent, since the start.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    datagrams: AtomicU64,
    packets: AtomicU64,
}

/// A reading of [`Failures`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Datagrams that the network refused: no route, full buffer, forbidden.
    pub(crate) datagrams: u64,
    /// Packets that the host's interface refused.
    pub(crate) packets: u64,
}

impl Transmit {
    /// Sends through these.
    pub(crate) fn new(socket: Arc<WireSocket>, device: Arc<Device>) -> Self {
        Self { socket, device, failures: Arc::default() }
    }

    /// Sends everything and clears `out` for the next batch.
    pub(crate) fn flush(&self, out: &mut Output) {
        for (to, datagram) in out.datagrams() {
            if self.socket.send(to, datagram).is_err_and(|error| counts(&error)) {
                self.failures.datagrams.fetch_add(1, Ordering::Relaxed);
            }
        }
        for packet in out.packets() {
            if self.device.send(packet).is_err_and(|error| counts(&error)) {
                self.failures.packets.fetch_add(1, Ordering::Relaxed);
            }
        }
        out.clear();
    }

    /// What could not be sent so far.
    pub(crate) fn lost(&self) -> Lost {
        Lost {
            datagrams: self.failures.datagrams.load(Ordering::Relaxed),
            packets: self.failures.packets.load(Ordering::Relaxed),
        }
    }
}

/// A refused connection is the echo of an earlier datagram to a port that nobody listens on, not this one's loss.
fn counts(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::ConnectionRefused
}
