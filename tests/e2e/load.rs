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
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(BTreeSet::new()));
        let delivered = Arc::new(AtomicU64::new(0));
        let server = to.host.inside(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        let client = from.host.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        for socket in [&server, &client] {
            // Ends the thread that reads it, when the test stops.
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        }
        let to = SocketAddr::from((to.v4(), port));
        let answering = listen(server, &stop, {
            let delivered = delivered.clone();
            move |server, number, peer| {
                delivered.fetch_add(1, Ordering::Relaxed);
                // A refused answer is a lost echo, and counted as one.
                let _ = server.send_to(&number.to_be_bytes(), peer);
            }
        });
        let sender = client.try_clone().unwrap();
        let hearing = listen(client, &stop, {
            let heard = heard.clone();
            move |_, number, _| {
                heard.lock().unwrap().insert(number);
            }
        });
        let sending = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (started, mut sent) = (Instant::now(), 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    let due = started + Duration::from_secs(1) * u32::try_from(sent).unwrap() / rate;
                    std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                    if Instant::now() >= due {
                        // A refusal may come back as an error of the next send: that one is lost, too.
                        let _ = sender.send_to(&sent.to_be_bytes(), to);
                        sent += 1;
                    }
                }
                sent
            })
        };
        Self { stop, heard, delivered, sending, others: vec![answering, hearing] }
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
        for thread in self.others {
            thread.join().unwrap();
        }
        let heard = self.heard.lock().unwrap();
        Tally { sent, lost: (0..sent).filter(|number| !heard.contains(number)).collect() }
    }
}

/// Hands every numbered datagram to `take`, until `stop` and then as long as more come.
fn listen(
    socket: UdpSocket,
    stop: &Arc<AtomicBool>,
    mut take: impl FnMut(&UdpSocket, u64, SocketAddr) + Send + 'static,
) -> JoinHandle<()> {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        let mut deadline = None;
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((8, peer)) => take(&socket, u64::from_be_bytes(buffer[..8].try_into().unwrap()), peer),
                // Another length, a timeout, or an ICMP error of an earlier datagram.
                Ok(_) => {}
                Err(_) if stop.load(Ordering::Relaxed) => break,
                Err(_) => {}
            }
            if stop.load(Ordering::Relaxed) {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + LAST_ECHO);
                if Instant::now() > deadline {
                    break;
                }
            }
        }
    })
}
