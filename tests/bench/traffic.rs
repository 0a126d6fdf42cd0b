//! Mixed traffic that runs as long as it is let, and knows what should have come back: bulk TCP, questions and answers
//! over UDP from ever new ports, and an echo on one flow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_tests::Namespace;

/// A connection that moves nothing for so long is broken.
const STALLED: Duration = Duration::from_secs(20);
/// Bulk in each direction: a part of what the tunnel carries, so that what is lost is not lost to a full queue.
const BULK_BYTES_PER_S: f64 = 10e6;
const CHUNK: usize = 64 * 1024;
/// Between two questions, and between two echoes.
const QUESTION_EVERY: Duration = Duration::from_millis(50);
const ECHO_EVERY: Duration = Duration::from_millis(10);
/// After this an answer is not waited for any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Sizes of a question and of its answer, as a resolver sees them.
const QUESTION: usize = 48;

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) bulk_bytes: AtomicU64,
    pub(crate) asked: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) called: AtomicU64,
    pub(crate) echoed: AtomicU64,
    /// Connections that ended before they should, with the reason.
    pub(crate) broken: Mutex<Vec<String>>,
}

/// One host sends to the other, which is reached at `address`, until `stop`.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) name: &'a str,
    pub(crate) from: &'a Namespace,
    pub(crate) to: &'a Namespace,
    pub(crate) address: Ipv4Addr,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) tally: &'a Tally,
}

impl Way<'_> {
    fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn broke(&self, what: &str, why: &dyn std::fmt::Display) {
        if !self.over() {
            self.tally.broken.lock().unwrap().push(format!("{what} {}: {why}", self.name));
        }
    }

    /// Waits for `due`, or for the end.
    fn wait_until(&self, due: Instant) {
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.over() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    /// One connection for the whole time.
    pub(crate) fn bulk(&self, port: u16) {
        let listener = self.to.inside(|| TcpListener::bind((self.address, port)).unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(STALLED)).unwrap();
                let mut buffer = vec![0; CHUNK];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => return self.broke("TCP", &"closed"),
                        Ok(n) => _ = self.tally.bulk_bytes.fetch_add(n as u64, Ordering::Relaxed),
                        Err(error) => return self.broke("TCP received", &error),
                    }
                }
            });
            let connect = || std::net::TcpStream::connect((self.address, port)).unwrap();
            let mut stream = self.from.inside(connect).unwrap();
            stream.set_write_timeout(Some(STALLED)).unwrap();
            let (chunk, started, mut sent) = (vec![0x55; CHUNK], Instant::now(), 0_u64);
            while !self.over() {
                if let Err(error) = stream.write_all(&chunk) {
                    return self.broke("TCP sent", &error);
                }
                sent += CHUNK as u64;
                self.wait_until(started + Duration::from_secs_f64(sent as f64 / BULK_BYTES_PER_S));
            }
        });
    }

    /// A question from a new port each time, so a flow each time.
    pub(crate) fn questions(&self, port: u16) {
        let mut due = Instant::now();
        let mut buffer = [0; 512];
        while !self.over() {
            let socket = self.from.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
            socket.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
            self.tally.asked.fetch_add(1, Ordering::Relaxed);
            // What is refused at once is a question without an answer.
            let _ = socket.send_to(&[0x55; QUESTION], (self.address, port));
            let answered = socket.recv_from(&mut buffer).is_ok();
            self.tally.answered.fetch_add(u64::from(answered), Ordering::Relaxed);
            due += QUESTION_EVERY;
            self.wait_until(due);
        }
    }

    /// Datagrams on one flow; what comes back is counted as it comes.
    pub(crate) fn echoes(&self, port: u16) {
        let socket = self.from.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut due = Instant::now();
        let mut buffer = [0; 512];
        let mut hear = || {
            while socket.recv_from(&mut buffer).is_ok() {
                self.tally.echoed.fetch_add(1, Ordering::Relaxed);
            }
        };
        while !self.over() {
            self.tally.called.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&[0x55; QUESTION], (self.address, port));
            due += ECHO_EVERY;
            self.wait_until(due);
            hear();
        }
        let last = Instant::now();
        while last.elapsed() < ANSWER_WITHIN {
            std::thread::park_timeout(ECHO_EVERY);
            hear();
        }
    }
}
