//! Round trips of a UDP datagram to an echo server and back, microseconds.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_tests::Namespace;

use crate::system::System;
use crate::udp::towards;

const PORT: u16 = 7101;
const SIZE: usize = 64;
/// An echo that takes longer is lost.
const LOST: Duration = Duration::from_millis(500);

/// Answers every datagram at a host, until it is dropped.
pub(crate) struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn open(host: &Namespace, port: u16) -> Self {
        let socket = host.inside(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                        // A refused answer is a lost echo, and counted as one.
                        let _ = socket.send_to(&buffer[..n], from);
                    }
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Round trips, sorted.
#[derive(Debug)]
pub(crate) struct Trips(Vec<f64>);

impl Trips {
    pub(crate) fn new(mut micros: Vec<f64>) -> Self {
        micros.sort_by(f64::total_cmp);
        Self(micros)
    }

    /// The smallest that `share` of them do not exceed; a lost echo counts as [`LOST`]. NaN when there are none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let place = (self.0.len() as f64 * share) as usize;
        self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// How the next one follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as the last is back.
    BackToBack,
    /// One per millisecond.
    PerMillisecond,
}

/// Sends datagrams to an echo server at the right end for a while, one at a time.
pub(crate) fn round_trips(system: &System, pace: Pace, length: Duration) -> Trips {
    let _echo = Echo::open(system.right(), PORT);
    let client = towards(system, PORT);
    client.set_read_timeout(Some(LOST)).unwrap();
    let (started, mut trips, mut number) = (Instant::now(), Vec::new(), 0_u64);
    let (mut datagram, mut buffer) = ([0; SIZE], [0; SIZE]);
    while started.elapsed() < length || trips.is_empty() {
        number += 1;
        if let Pace::PerMillisecond = pace {
            let due = started + Duration::from_millis(number);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
        }
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        let sent = Instant::now();
        let mut back = client.send(&datagram).is_ok();
        // An echo that was given up may still come home: it is not this one.
        while back && client.recv(&mut buffer).map_err(|_| back = false).is_ok() {
            if buffer[..8] == datagram[..8] {
                break;
            }
        }
        trips.push(if back { sent.elapsed() } else { LOST }.as_secs_f64() * 1e6);
    }
    Trips::new(trips)
}
