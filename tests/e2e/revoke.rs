//! Revocation: receipts from every peer, and nothing after the last of them.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_tests::{Node, SOON, until};

use crate::mesh::Mesh;

/// Packets a second of the numbered stream.
const RATE: u32 = 5_000;
/// How many revocations; each victim is a fresh node.
const ROUNDS: u32 = 100;

/// Numbers datagrams from `sender` to `receiver`, noting for each when it was sent (unix milliseconds): the clock
/// of the receipts' arrival, as all run on one machine.
struct Stream {
    stop: Arc<AtomicBool>,
    sending: std::thread::JoinHandle<Vec<u128>>,
    last_heard: Arc<AtomicU64>,
    receiving: std::thread::JoinHandle<()>,
}

impl Stream {
    fn start(sender: &Node, receiver: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let last_heard = Arc::new(AtomicU64::new(0));
        let to = (receiver.v4(), 7000);
        let server = receiver.host.inside(|| UdpSocket::bind("0.0.0.0:7000").unwrap()).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let client = sender.host.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let receiving = {
            let (stop, last_heard) = (stop.clone(), last_heard.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 16];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((8, _)) = server.recv_from(&mut buffer) {
                        let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
                        last_heard.fetch_max(number, Ordering::Relaxed);
                    }
                }
            })
        };
        let sending = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut sent = vec![unix_ms()];
                let started = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    // Paced by the clock: as many as are due by now, then wait for the next.
                    let due = (started.elapsed().as_secs_f64() * f64::from(RATE)) as usize;
                    while sent.len() <= due {
                        sent.push(unix_ms());
                        // Once it is cut off, its own host refuses: the stream goes on all the same.
                        let _ = client.send_to(&(sent.len() as u64 - 1).to_be_bytes(), to);
                    }
                    std::thread::park_timeout(Duration::from_micros(200));
                }
                sent
            })
        };
        Self { stop, sending, last_heard, receiving }
    }

    /// The time at which the last datagram that arrived had been sent.
    fn finish(self) -> (u64, u128) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sending.join().unwrap();
        self.receiving.join().unwrap();
        let last = self.last_heard.load(Ordering::Relaxed);
        (last, sent[usize::try_from(last).unwrap()])
    }
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

#[test]
fn nothing_sent_after_the_last_receipt_arrives_in_100_revocations() {
    let mesh = Mesh::start();
    for round in 0..ROUNDS {
        let name = format!("victim-{round}");
        let mut victim = Node::enrol(&mesh.lab, &mesh.coordinator, &name, &["role=web"]).unwrap();
        until("the victim may talk to db", SOON, || {
            victim.peers().is_ok_and(|p| p.iter().any(|p| p == "db"))
                && mesh.db.peers().is_ok_and(|p| p.contains(&name))
        });
        let stream = Stream::start(&victim, &mesh.db);
        until("the stream flows", SOON, || stream.last_heard.load(Ordering::Relaxed) > 50);
        let status = mesh
            .coordinator
            .ctl_json(&["node", "revoke", &name, "--reason", "drill", "--wait", "--yes"])
            .unwrap();
        assert!(status["waiting"].as_array().unwrap().is_empty(), "{status}");
        let acknowledged: Vec<_> =
            status["receipts"].as_array().unwrap().iter().map(|r| r["node"].as_str().unwrap()).collect();
        for peer in ["db", "metrics"] {
            assert!(acknowledged.contains(&peer), "no receipt from {peer}: {status}");
        }
        let receipts = status["receipts"].as_array().unwrap();
        let last_receipt =
            receipts.iter().map(|r| u128::from(r["arrived_ms"].as_u64().unwrap())).max().unwrap();
        // Keep sending for a while after the receipt, then look at what got through.
        let after = Instant::now() + Duration::from_millis(200);
        until("packets were sent after the receipt", SOON, || Instant::now() > after);
        let (number, sent) = stream.finish();
        assert!(
            sent <= last_receipt,
            "round {round}: datagram {number} was sent after the last receipt and arrived"
        );
        victim.kill();
    }
}
