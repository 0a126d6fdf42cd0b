//! UDP at a steady rate, or as fast as it goes, and how much of it arrives.
//!
//! The sender writes 64 datagrams per system call and sleeps between its bursts, so that on few cores it takes no
//! more of them from the system under test than it has to.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_tests::until;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::system::System;

/// Datagrams per system call.
const BURST: usize = 64;
/// Between two looks at what is due, and at what has come: a receiver that waited in the kernel would cost a wake-up on
/// another CPU per datagram, which is dearer than the datagram.
const PAUSE: Duration = Duration::from_micros(100);
/// What the receiver may have waiting: a burst of either size, and what comes while the sink is not scheduled.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// A rate is carried if less than this is lost.
const TOLERATED_LOSS: f64 = 0.01;
/// Halvings of the search on a logarithmic scale: from 350 to 1 in eight of them leaves two in a hundred.
const STEPS: usize = 8;
/// Where the search begins: every system carries this.
const SURELY_CARRIED_KPPS: f64 = 2.0;

/// Thousands of datagrams a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) offered: f64,
    pub(crate) delivered: f64,
}

impl Rate {
    fn carried(self) -> bool {
        self.delivered >= self.offered * (1.0 - TOLERATED_LOSS)
    }
}

/// Sends datagrams of one size until `stop`; `kpps` of `None` is as fast as it goes. How many.
pub(crate) fn send(
    socket: &UdpSocket,
    size: usize,
    kpps: Option<f64>,
    stop: impl Fn(Instant) -> bool,
) -> u64 {
    let payload = vec![0x55; size];
    let parts: Vec<[IoSlice<'_>; 1]> = (0..BURST).map(|_| [IoSlice::new(&payload)]).collect();
    let mut controls: Vec<_> = (0..BURST).map(|_| SendAncillaryBuffer::default()).collect();
    let mut burst: Vec<_> =
        parts.iter().zip(&mut controls).map(|(part, control)| MMsgHdr::new(part, control)).collect();
    let (started, mut sent) = (Instant::now(), 0_u64);
    loop {
        let now = Instant::now();
        if stop(now) {
            return sent;
        }
        let due = kpps.map_or(BURST, |kpps| {
            let by_now = (now - started).as_secs_f64() * kpps * 1e3;
            (by_now as u64).saturating_sub(sent).min(BURST as u64) as usize
        });
        if due == 0 {
            std::thread::park_timeout(PAUSE);
            continue;
        }
        // An error is the answer of a full queue or of an ICMP message: what was not taken is offered again.
        sent += sendmmsg(socket, &mut burst[..due], SendFlags::empty()).unwrap_or(0) as u64;
    }
}

/// Counts what arrives at the right end.
pub(crate) struct Sink {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    pub(crate) fn open(system: &System, port: u16) -> Self {
        let socket = system.right().inside(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, heard) = (stop.clone(), heard.clone());
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    while socket.recv(&mut buffer).is_ok() {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(PAUSE);
                }
            }
        });
        Self { stop, heard, thread: Some(thread) }
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until nothing more is on its way.
    fn settle(&self) {
        let mut last = self.heard();
        let mut quiet = Instant::now();
        until("the queues are empty", Duration::from_secs(20), || {
            let now = self.heard();
            if now != last {
                (last, quiet) = (now, Instant::now());
            }
            quiet.elapsed() > Duration::from_millis(60)
        });
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket at the left end, towards `port` at the right one.
pub(crate) fn towards(system: &System, port: u16) -> UdpSocket {
    let socket = system.left().inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.connect((system.target, port)).unwrap();
    socket
}

/// The port of the sink.
const PORT: u16 = 7100;

/// Offers `kpps` (as much as goes, when `None`) for a while.
fn offer(system: &System, sink: &Sink, size: usize, kpps: Option<f64>, length: Duration) -> Rate {
    let source = towards(system, PORT);
    let (before, started) = (sink.heard(), Instant::now());
    let sent = send(&source, size, kpps, |now| now - started >= length);
    let elapsed = started.elapsed().as_secs_f64();
    sink.settle();
    let delivered = sink.heard() - before;
    Rate { offered: sent as f64 / elapsed / 1e3, delivered: delivered as f64 / elapsed / 1e3 }
}

/// Everything the sender can offer.
pub(crate) fn flood(system: &System, size: usize, length: Duration) -> Rate {
    offer(system, &Sink::open(system, PORT), size, None, length)
}

/// The highest rate that arrives but for one in a hundred, in thousands a second; `most` is what can be offered.
pub(crate) fn highest_carried(system: &System, size: usize, most: f64, step: Duration) -> f64 {
    let sink = Sink::open(system, PORT);
    let (mut low, mut high) = (SURELY_CARRIED_KPPS, most.max(2.0 * SURELY_CARRIED_KPPS));
    for _ in 0..STEPS {
        let middle = (low * high).sqrt();
        // A machine that others use may lose a burst: a rate is too high when it is so twice.
        let carried = (0..2).any(|_| {
            let rate = offer(system, &sink, size, Some(middle), step);
            rate.carried() && rate.offered > middle * 0.97
        });
        if carried {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// A steady stream beside another measurement, until it is dropped.
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _sink: Sink,
}

impl Steady {
    /// `mbit` a second of payload in datagrams of `size`.
    pub(crate) fn start(system: &System, size: usize, mbit: f64) -> Self {
        let sink = Sink::open(system, PORT);
        let source = towards(system, PORT);
        let stop = Arc::new(AtomicBool::new(false));
        let kpps = mbit * 1e3 / 8.0 / size as f64;
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                send(&source, size, Some(kpps), |_| stop.load(Ordering::Relaxed));
            }
        });
        Self { stop, thread: Some(thread), _sink: sink }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
