//! The data threads: plain threads between the TUN device and the UDP socket, and one for the timers.
//!
//! Property: nothing stands between reading and writing but the engine: no queue, no await, and, once the buffers
//! are warm, no allocation for a packet of a known flow. A batch is at most [`BATCH`] packets, so that the engine's
//! snapshot is loaded often enough and neither direction starves.
//!
//! How to use it: [`DataThreads::start`]; to end, [`DataThreads::announce_stop`], remove the interface, [`DataThreads::stop`].

use crate::clock::Clock;
use crate::device::Device;
use crate::packets::socket::WireSocket;
use crate::packets::transmit::Transmit;
use bulkhead_node_engine::{Engine, Output};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;
use tokio::sync::Notify;

/// Packets handled under one snapshot of the engine.
const BATCH: usize = 64;
/// The largest IP packet, and the largest datagram.
const BUFFER_BYTES: usize = 65_535;
/// How long a thread sleeps at most before it looks whether it is to stop. Stopping normally wakes it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the timers sleep at most: data threads start new ones without telling.
const TIMER_PATIENCE: Duration = Duration::from_millis(250);
/// A pause after an error that is not the end, so that one that persists does not take the CPU.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What every data thread needs.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    device: Arc<Device>,
    socket: Arc<WireSocket>,
    transmit: Transmit,
    clock: Clock,
    stopping: Arc<AtomicBool>,
    failed: Arc<Notify>,
}

/// The running threads.
pub(crate) struct DataThreads {
    shared: Shared,
    threads: Vec<JoinHandle<()>>,
    timers: Thread,
}

impl DataThreads {
    /// Starts one thread per direction and one for the timers.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        engine: Arc<Engine>,
        device: Arc<Device>,
        socket: Arc<WireSocket>,
        transmit: Transmit,
        clock: Clock,
    ) -> io::Result<Self> {
        let (stopping, failed) = (Arc::default(), Arc::default());
        let shared = Shared { engine, device, socket, transmit, clock, stopping, failed };
        let outside = spawn("bulkhead-out", &shared, outbound)?;
        let inside = spawn("bulkhead-in", &shared, inbound)?;
        let timing = spawn("bulkhead-timers", &shared, timers)?;
        let timers = timing.thread().clone();
        Ok(Self { shared, threads: vec![outside, inside, timing], timers })
    }

    /// Notified when a thread ended without being told to. Half a data plane looks like a fault of the network; none
    /// at all is noticed, and the service manager starts it again.
    pub(crate) fn failed(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.failed)
    }

    /// Errors from now on are the end that was asked for. Call it before the interface is removed.
    pub(crate) fn announce_stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Ends the threads and waits for them. The interface must be gone, so that the thread that reads from it wakes.
    pub(crate) fn stop(self) {
        self.announce_stop();
        self.shared.socket.wake();
        self.timers.unpark();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data thread had panicked");
            }
        }
    }
}

fn spawn(name: &str, shared: &Shared, body: fn(&Shared)) -> io::Result<JoinHandle<()>> {
    let alarm = Alarm(shared.clone());
    thread::Builder::new().name(name.into()).spawn(move || body(&alarm.0))
}

/// Sounds when its thread ends for whatever reason, a panic included, but that of being told to.
struct Alarm(Shared);

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.0.stopping() {
            self.0.failed.notify_one();
        }
    }
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// TUN to network.
fn outbound(shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut out = Output::new();
    while !shared.stopping() {
        let trouble = match shared.device.wait(&mut buffer, PATIENCE) {
            Ok(length) => {
                shared.transmit.carry(&mut out, |out| outbound_batch(shared, &mut buffer, length, out))
            }
            Err(error) => Some(error),
        };
        match trouble.as_ref().map(io::Error::kind) {
            None | Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {
            }
            // The interface is gone: `down` removed it, or someone else did.
            Some(_) if shared.stopping() => {}
            Some(kind) => {
                tracing::error!(%kind, "the interface cannot be read");
                return;
            }
        }
    }
}

/// The packet of `first` bytes that is in the buffer, and what else waits.
fn outbound_batch(shared: &Shared, buffer: &mut [u8], first: usize, out: &mut Output) -> Option<io::Error> {
    let mut batch = shared.engine.batch(shared.clock.now());
    batch.outbound(&buffer[..first], out);
    for _ in 1..BATCH {
        match shared.device.receive(buffer) {
            Ok(length) => batch.outbound(&buffer[..length], out),
            Err(error) => return Some(error),
        }
    }
    None
}

/// Network to TUN.
fn inbound(shared: &Shared) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut out = Output::new();
    while !shared.stopping() {
        if let Err(error) = shared.socket.wait(PATIENCE) {
            tracing::error!(%error, "cannot wait for datagrams");
            return;
        }
        let trouble = shared.transmit.carry(&mut out, |out| inbound_batch(shared, &mut buffer, out));
        match trouble.as_ref().map(io::Error::kind) {
            None | Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // ICMP errors about what was sent earlier, unauthenticated: they tell nothing (A9).
            Some(
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::ConnectionReset,
            ) => {}
            Some(kind) => {
                tracing::warn!(%kind, "cannot receive datagrams");
                thread::park_timeout(ERROR_PAUSE);
            }
        }
    }
}

fn inbound_batch(shared: &Shared, buffer: &mut [u8], out: &mut Output) -> Option<io::Error> {
    let mut batch = shared.engine.batch(shared.clock.now());
    for _ in 0..BATCH {
        match shared.socket.receive(buffer) {
            Ok((length, from)) => batch.inbound(from, &buffer[..length], out),
            Err(error) => return Some(error),
        }
    }
    None
}

/// Handshakes, keepalives and expiry.
fn timers(shared: &Shared) {
    let mut out = Output::new();
    while !shared.stopping() {
        let now = shared.clock.now();
        shared.transmit.carry(&mut out, |out| shared.engine.handle_timeout(now, out));
        let next = shared.engine.next_timeout(now).unwrap_or(TIMER_PATIENCE);
        thread::park_timeout(next.clamp(Duration::from_millis(1), TIMER_PATIENCE));
    }
}
