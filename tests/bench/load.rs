//! Load between two hosts: iperf3 for TCP, our own sender and echo for UDP.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_tests::{Namespace, Process, process, until};

/// Two hosts, and the address at which the right one is reached.
pub(crate) struct Ends<'a> {
    left: &'a Namespace,
    right: &'a Namespace,
    address: Ipv4Addr,
}

/// Thousands of packets a second.
pub(crate) struct Rate {
    pub(crate) offered: f64,
    pub(crate) delivered: f64,
}

impl<'a> Ends<'a> {
    pub(crate) fn new(left: &'a Namespace, right: &'a Namespace, address: Ipv4Addr) -> Self {
        Self { left, right, address }
    }

    /// One TCP stream, cubic, left to right.
    pub(crate) fn tcp_gbit(&self, seconds: u64) -> f64 {
        let log = std::env::temp_dir().join(format!("bh-iperf-{}.log", std::process::id()));
        let mut server = Process::start(self.right.command("iperf3").args(["-s", "-1"]), &log).unwrap();
        until("iperf3 listens", Duration::from_secs(10), || {
            self.right.run("ss", &["-Hltn", "sport = :5201"]).is_ok_and(|o| o.stdout.contains("5201"))
        });
        let mut client = self.left.command("iperf3");
        client.args(["-c", &self.address.to_string(), "-J", "-C", "cubic", "-t", &seconds.to_string()]);
        let report = process::run(&mut client, Duration::from_secs(seconds + 30)).unwrap().json().unwrap();
        until("the server ends", Duration::from_secs(10), || !server.running());
        std::fs::remove_file(log).unwrap();
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9
    }

    /// As many 64-byte inner packets (36 bytes of UDP payload) as the sender can offer.
    pub(crate) fn udp_kpps(&self, seconds: u64) -> Rate {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(AtomicU64::new(0));
        let sink = self.right.inside(|| UdpSocket::bind("0.0.0.0:7100").unwrap()).unwrap();
        sink.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let receiving = {
            let (stop, heard) = (stop.clone(), heard.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while !stop.load(Ordering::Relaxed) {
                    if sink.recv(&mut buffer).is_ok() {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let source = self.left.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        source.connect((self.address, 7100)).unwrap();
        let (started, length) = (Instant::now(), Duration::from_secs(seconds));
        let mut offered = 0_u64;
        while started.elapsed() < length {
            for _ in 0..64 {
                offered += u64::from(source.send(&[0x55; 36]).is_ok());
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        let delivered = heard.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        receiving.join().unwrap();
        Rate { offered: offered as f64 / elapsed / 1e3, delivered: delivered as f64 / elapsed / 1e3 }
    }

    /// Back-to-back UDP round trips, microseconds.
    pub(crate) fn round_trips_us(&self, length: Duration) -> Vec<f64> {
        let echo = self.right.inside(|| UdpSocket::bind("0.0.0.0:7101").unwrap()).unwrap();
        echo.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let answering = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((n, from)) = echo.recv_from(&mut buffer) {
                        let _ = echo.send_to(&buffer[..n], from);
                    }
                }
            })
        };
        let client = self.left.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        client.connect((IpAddr::from(self.address), 7101)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let (started, mut trips, mut buffer) = (Instant::now(), Vec::new(), [0; 64]);
        while started.elapsed() < length || trips.is_empty() {
            let sent = Instant::now();
            if client.send(&[0; 36]).is_ok() && client.recv(&mut buffer).is_ok() {
                trips.push(sent.elapsed().as_secs_f64() * 1e6);
            }
        }
        stop.store(true, Ordering::Relaxed);
        answering.join().unwrap();
        trips
    }
}
