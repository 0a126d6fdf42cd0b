//! Traffic that counts itself, running beside a test: numbered datagrams, and connections asked for one after the other.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_tests::Node;

use crate::policy::exchange;

/// Whoever waits for less than this on a busy machine calls slow what is only late.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the last echoes may take to come home.
const LAST_ECHO: Duration = Duration::from_secs(5);

/// Whether `from` gets an answer from the echo server at `to`, with little patience: for asking again and again.
pub(crate) fn reaches(from: &Node, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    let connected = from.host.inside(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    connected.is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut stream).is_ok()
    })
}

/// Numbered datagrams from one node to another, at a steady rate, and their echoes.
pub(crate) struct Echoes {
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    heard: Arc<Mutex<BTreeSet<u64>>>,
    delivered: Arc<AtomicU64>,
    sending: JoinHandle<u64>,
    others: Vec<JoinHandle<()>>,
}

/// What became of them.
#[derive(Debug)]
pub(crate) struct Tally {
    /// How many were sent, numbered from 0.
    pub(crate) sent: u64,
    /// Those whose echo never came home.
    pub(crate) lost: Vec<u64>,
}

impl Echoes {
    /// Starts a server on `port` of `to` and sends it `rate` datagrams a second.
    pub(crate) fn start(from: &Node, to: &Node, port: u16, rate: u32) -> Self {
        let [stop, over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let heard = Arc::new(Mutex::new(BTreeSet::new()));
        let delivered = Arc::new(AtomicU64::new(0));
        let server = to.host.inside(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        let client = from.host.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        for socket in [&server, &client] {
            // Ends the thread that reads it, when the test stops.
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        }
        let to = SocketAddr::from((to.v4(), port));
        let answering = listen(server, &over, {
            let delivered = delivered.clone();
            move |server, number, peer| {
                delivered.fetch_add(1, Ordering::Relaxed);
                // A refused answer is a lost echo, and counted as one.
                let _ = server.send_to(&number.to_be_bytes(), peer);
            }
        });
        let sender = client.try_clone().unwrap();
        let hearing = listen(client, &over, {
            let heard = heard.clone();
            move |_, number, _| {
                heard.lock().unwrap().insert(number);
            }
        });
        let sending = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut due, mut sent) = (Instant::now(), 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                    let now = Instant::now();
                    if now >= due {
                        // A refusal may come back as an error of the next send: that one is lost, too.
                        let _ = sender.send_to(&sent.to_be_bytes(), to);
                        sent += 1;
                        // Whoever was held up sends no burst instead, which a queue might have no room for.
                        due = now.max(due + Duration::from_secs(1) / rate);
                    }
                }
                sent
            })
        };
        Self { stop, over, heard, delivered, sending, others: vec![answering, hearing] }
    }

    /// How many came back so far.
    pub(crate) fn heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// How many reached the server so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Stops sending and waits for the last echo.
    pub(crate) fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.join().unwrap();
        let deadline = Instant::now() + LAST_ECHO;
        while (self.heard.lock().unwrap().len() as u64) < sent && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.over.store(true, Ordering::Relaxed);
        for thread in self.others {
            thread.join().unwrap();
        }
        let heard = self.heard.lock().unwrap();
        Tally { sent, lost: (0..sent).filter(|number| !heard.contains(number)).collect() }
    }
}

/// Hands every numbered datagram to `take`, until it is over.
fn listen(
    socket: UdpSocket,
    over: &Arc<AtomicBool>,
    mut take: impl FnMut(&UdpSocket, u64, SocketAddr) + Send + 'static,
) -> JoinHandle<()> {
    let over = over.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while !over.load(Ordering::Relaxed) {
            // Anything else is of another length, a timeout, or an ICMP error of an earlier datagram.
            if let Ok((8, peer)) = socket.recv_from(&mut buffer) {
                take(&socket, u64::from_be_bytes(buffer[..8].try_into().unwrap()), peer);
            }
        }
    })
}
