//! Performs what the engine decided: datagrams to the network, packets to the host.
//!
//! Property: an error while sending costs that packet and moves a counter; it never stops the thread, is never
//! retried in place, and is never logged per packet (G9). And what was decided before a change of the world is sent
//! before [`Transmit::settle`] returns, so that whoever promises something after it promises the truth (P2).

use crate::device::Device;
use crate::packets::socket::WireSocket;
use bulkhead_node_engine::Output;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Where output goes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transmit {
    socket: Arc<WireSocket>,
    device: Arc<Device>,
    failures: Arc<Failures>,
    underway: Arc<Underway>,
}

/// What was decided and is not sent yet: each thread that works on a batch holds the lock as one of many readers,
/// and whoever waits for all of them takes it alone.
#[derive(Debug, Default)]
struct Underway(RwLock<()>);

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
        Self { socket, device, failures: Arc::default(), underway: Arc::default() }
    }

    /// Lets `act` decide, sends what it put into `out`, and clears `out` for the next batch. `act` must not wait.
    pub(crate) fn carry<R>(&self, out: &mut Output, act: impl FnOnce(&mut Output) -> R) -> R {
        let _batch = self.underway.begin();
        let result = act(out);
        self.flush(out);
        result
    }

    /// Waits until everything is sent that was decided before this call. Takes as long as the longest batch.
    pub(crate) fn settle(&self) {
        self.underway.settle();
    }

    fn flush(&self, out: &mut Output) {
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

impl Underway {
    fn begin(&self) -> RwLockReadGuard<'_, ()> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self) {
        drop(self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A refused connection is the echo of an earlier datagram to a port that nobody listens on, not this one's loss.
fn counts(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::ConnectionRefused
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn whoever_settles_waits_for_the_batches_that_began_before_p2() {
        let underway = Arc::new(Underway::default());
        let batches = [underway.begin(), underway.begin()];
        let (settled, done) = mpsc::channel();
        let promise = Arc::clone(&underway);
        let waiting = thread::spawn(move || {
            promise.settle();
            settled.send(()).unwrap();
        });
        for batch in batches {
            assert!(done.recv_timeout(Duration::from_millis(20)).is_err(), "a batch is not sent yet");
            drop(batch);
        }
        done.recv_timeout(Duration::from_secs(10)).unwrap();
        waiting.join().unwrap();
        drop(underway.begin());
    }
}
