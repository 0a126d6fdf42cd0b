//! An attacker outside the mesh with a host and a cable of its own, who sends from any address it likes.
//!
//! What it sends is made beforehand; while it runs it only hands buffers to the kernel. So it takes the same CPU
//! whoever is at the other end.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use bulkhead_tests::Namespace;
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketType, ipproto, sendmmsg,
    socket,
};

/// Sources that it claims: nobody answers there.
const SOURCES: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 0);
/// The prefix of [`SOURCES`]: the victim sends its answers here, and they are counted and dropped.
pub(crate) const SOURCE_NET: &str = "10.90.0.0/16";
/// How many addresses a flood from many has.
const MANY: usize = 10_000;
/// Handshake initiations made beforehand, each by a key of its own.
const INITIATIONS: usize = 2048;
/// Datagrams per system call.
const BURST: usize = 64;
/// Between two looks at what is due.
const PAUSE: Duration = Duration::from_micros(100);
/// Bytes of an IPv4 header without options (RFC 791) and of a UDP header (RFC 768).
const HEADERS: usize = 28;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Handshake initiations by strangers, with a valid first MAC, from one address.
    HandshakesFromOne,
    /// The same from 10,000.
    HandshakesFromMany,
    /// Bytes of any length; one in four begins as WireGuard data would.
    Random,
}

/// Datagrams ready to send.
pub(crate) struct Ammunition(Vec<Vec<u8>>);

impl Ammunition {
    /// Against the WireGuard of `victim`, or for the same load, a port where nothing listens.
    pub(crate) fn new(shape: Shape, victim: [u8; 32], to: SocketAddrV4) -> Self {
        let payloads = match shape {
            Shape::HandshakesFromOne | Shape::HandshakesFromMany => initiations(victim),
            Shape::Random => noise(),
        };
        let (count, sources) = match shape {
            Shape::HandshakesFromOne => (INITIATIONS, 1),
            Shape::HandshakesFromMany | Shape::Random => (MANY, MANY),
        };
        let datagram = |i: usize| {
            let source = Ipv4Addr::from_bits(SOURCES.to_bits() + 1 + (i % sources) as u32);
            headed(source, to, &payloads[i % payloads.len()])
        };
        Self((0..count).map(datagram).collect())
    }
}

fn initiations(victim: [u8; 32]) -> Vec<Vec<u8>> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut one = |_| {
        let mut secret = [0; 32];
        dice.fill(&mut secret);
        let mut stranger = Tunn::new(
            StaticSecret::from(secret),
            PublicKey::from(victim),
            None,
            None,
            dice.next() as u32 >> 8,
            None,
        );
        let mut buffer = [0; 256];
        let TunnResult::WriteToNetwork(packet) = stranger.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("a tunnel without a session writes an initiation");
        };
        packet.to_vec()
    };
    (0..INITIATIONS).map(&mut one).collect()
}

fn noise() -> Vec<Vec<u8>> {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    (0..INITIATIONS)
        .map(|i| {
            let mut payload = vec![0; 1 + dice.next() as usize % 1400];
            dice.fill(&mut payload);
            // The type of a data message (whitepaper, section 5.4.6); the index that follows is anyone's.
            if i % 4 == 0 && payload.len() >= 4 {
                payload[..4].copy_from_slice(&[4, 0, 0, 0]);
            }
            payload
        })
        .collect()
}

/// IPv4 and UDP headers in front; the kernel fills in length, id and checksum (raw(7)), UDP goes without one.
fn headed(source: Ipv4Addr, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = Vec::with_capacity(HEADERS + payload.len());
    datagram.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    datagram.extend_from_slice(&source.octets());
    datagram.extend_from_slice(&to.ip().octets());
    datagram.extend_from_slice(&40_000_u16.to_be_bytes());
    datagram.extend_from_slice(&to.port().to_be_bytes());
    datagram.extend_from_slice(&length.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    datagram
}

/// xorshift64*: the same flood in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next() >> 32) as u8);
    }
}

/// A flood that runs until it is dropped.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// `kpps` of `None`: as fast as it goes.
    pub(crate) fn start(
        attacker: &Namespace,
        to: Ipv4Addr,
        ammunition: Ammunition,
        kpps: Option<f64>,
    ) -> Self {
        let raw = attacker
            .inside(|| socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap())
            .unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, sent) = (stop.clone(), sent.clone());
            move || fire(&raw, to, &ammunition, kpps, &stop, &sent)
        });
        Self { stop, sent, thread: Some(thread) }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fire(
    raw: &OwnedFd,
    to: Ipv4Addr,
    ammunition: &Ammunition,
    kpps: Option<f64>,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let address = SocketAddrAny::from(SocketAddrV4::new(to, 0));
    let parts: Vec<[IoSlice<'_>; 1]> = ammunition.0.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
    let mut controls: Vec<_> = parts.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<_> = parts
        .iter()
        .zip(&mut controls)
        .map(|(part, control)| MMsgHdr::new_with_addr(&address, part, control))
        .collect();
    let (started, mut at) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = kpps.map_or(BURST as u64, |kpps| {
            let by_now = (started.elapsed().as_secs_f64() * kpps * 1e3) as u64;
            by_now.saturating_sub(sent.load(Ordering::Relaxed))
        });
        let end = messages.len().min(at + (due as usize).min(BURST));
        if at == end {
            std::thread::park_timeout(PAUSE);
            continue;
        }
        // A full queue takes fewer, or none: they are not counted.
        let taken = sendmmsg(raw, &mut messages[at..end], SendFlags::empty()).unwrap_or(0);
        sent.fetch_add(taken as u64, Ordering::Relaxed);
        at = if at + taken >= messages.len() { 0 } else { at + taken };
    }
}
