//! Performs what the engine decided: datagrams to the network, packets to the host.
//!
//! Property: an error while sending costs what was sent and moves a counter; it never stops the thread and is never logged
//! per packet (G9). Sent again is only what the kernel could not take in one piece, datagram by datagram, and, once for a
//! card that is behind, what it had no room for. And what was decided before a change of the world is sent
//! before [`Transmit::settle`] returns, so that whoever promises something after it promises the truth (P2).

use crate::device::queue::Queue;
use crate::packets::offload::Switches;
use crate::packets::socket::WireSocket;
use crate::sys;
use bulkhead_node_engine::offload::{self, VNET_HEADER_BYTES, WHOLE};
use bulkhead_node_engine::{Engine, Output, Train};
use bulkhead_protocol::offload::{Offload, Offloads};
use rustix::io::Errno;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Where output goes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transmit {
    pub(crate) socket: Arc<WireSocket>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) switches: Arc<Switches>,
    engine: Arc<Engine>,
    failures: Arc<Failures>,
    underway: Arc<Underway>,
}

/// What was decided and is not sent yet: each thread that works on a batch holds the lock as one of many readers,
/// and whoever waits for all of them takes it alone.
#[derive(Debug, Default)]
struct Underway(RwLock<()>);

/// Whether a card that is behind is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Waits,
    Over,
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
    /// One for each pair of a socket and a queue; what they count is one.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        sockets: Vec<WireSocket>,
        queues: &[Arc<Queue>],
        switches: &Arc<Switches>,
    ) -> Vec<Self> {
        let (failures, underway) = (Arc::<Failures>::default(), Arc::<Underway>::default());
        let pairs = sockets.into_iter().zip(queues);
        let transmit = |(socket, queue): (WireSocket, &Arc<Queue>)| Self {
            socket: Arc::new(socket),
            queue: Arc::clone(queue),
            switches: Arc::clone(switches),
            engine: Arc::clone(engine),
            failures: Arc::clone(&failures),
            underway: Arc::clone(&underway),
        };
        pairs.map(transmit).collect()
    }

    /// The same with another socket.
    pub(crate) fn through(&self, socket: WireSocket) -> Self {
        Self { socket: Arc::new(socket), ..self.clone() }
    }

    /// What this kernel was found to have, before anything is switched on.
    pub(crate) fn offloads_of_the_kernel(&self) -> Offloads {
        let tun = if self.queue.can_offload() { [Offload::TunTso, Offload::TunGro].as_slice() } else { &[] };
        let gso = self.socket.can_send_trains().then_some(Offload::UdpGso);
        let gro = sys::set_udp_gro(&*self.socket, true).is_ok().then_some(Offload::UdpGro);
        tun.iter().copied().chain(gso).chain(gro).collect()
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
        let gso = self.switches.effective().contains(Offload::UdpGso);
        let mut patience = Patience::Waits;
        for train in out.trains() {
            if gso || train.bytes.len() <= train.size {
                self.send_train(&train, &mut patience);
            } else {
                _ = self.send_each(&train, &mut patience);
            }
        }
        for frame in out.frames() {
            self.send_frame(frame);
        }
        out.clear();
    }

    /// Hands a train to the kernel. While the card is behind, waiting for it keeps what the host sends in the TUN
    /// device's queue, whose end the host's TCP notices, instead of losing whole trains here. A card that makes no
    /// progress is waited for only once, because whoever settles waits as well.
    fn hand_over(&self, train: &Train<'_>, patience: &mut Patience) -> io::Result<()> {
        match self.socket.send(train) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && *patience == Patience::Waits => {
                self.socket.wait_for_room()?;
                self.socket.send(train).inspect_err(|_| *patience = Patience::Over)
            }
            result => result,
        }
    }

    fn send_train(&self, train: &Train<'_>, patience: &mut Patience) {
        let Err(error) = self.hand_over(train, patience) else { return };
        match Errno::from_io_error(&error) {
            // Some interfaces cannot cut trains and say so only now. Kernels before 6.14 say the same when the
            // datagrams are too long for the interface.
            Some(Errno::IO | Errno::INVAL) if train.bytes.len() > train.size => {
                if self.send_each(train, patience) {
                    self.switches.failed(Offload::UdpGso, &error);
                }
            }
            // The last datagram may be short enough.
            Some(Errno::MSGSIZE) => _ = self.send_each(train, patience),
            _ => self.lose(&error, train.datagrams().count()),
        }
    }

    /// Sends datagrams one by one. Whether none was too long for the interface; one that was, its peer is told of.
    fn send_each(&self, train: &Train<'_>, patience: &mut Patience) -> bool {
        let mut fit = true;
        for datagram in train.datagrams() {
            let alone = Train { bytes: datagram, size: datagram.len(), ..*train };
            let Err(error) = self.hand_over(&alone, patience) else { continue };
            self.lose(&error, 1);
            if fit && Errno::from_io_error(&error) == Some(Errno::MSGSIZE) {
                fit = false;
                if let Some(peer) = train.peer {
                    self.engine.too_big(peer, datagram.len());
                }
            }
        }
        fit
    }

    fn lose(&self, error: &io::Error, datagrams: usize) {
        if counts(error) {
            self.failures.datagrams.fetch_add(datagrams as u64, Ordering::Relaxed);
        }
    }

    fn send_frame(&self, frame: &[u8]) {
        let Err(error) = self.queue.send(frame) else { return };
        let merged = frame[..VNET_HEADER_BYTES] != WHOLE;
        if merged && Errno::from_io_error(&error) == Some(Errno::INVAL) {
            self.switches.failed(Offload::TunGro, &error);
            self.send_apart(frame);
        } else {
            self.failures.packets.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends the packets of a merged frame one by one. Happens once, so it may allocate.
    fn send_apart(&self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        let Some((header, bytes)) = frame.split_first_chunk_mut::<VNET_HEADER_BYTES>() else { return };
        let lost = &self.failures.packets;
        let split = offload::split(bytes, header, usize::MAX, |packet| {
            if self.queue.send(&[&WHOLE, packet].concat()).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        });
        if split.is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
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
