//! Traffic whose content is known at both ends: streams and datagrams of noise, every byte of which is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_tests::{Node, until};

/// A stream that stands still for so long is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an answer to a datagram is waited for before it is sent again.
const ECHO_PATIENCE: Duration = Duration::from_millis(500);
/// How often a datagram is sent: some are lost on a busy machine.
const ATTEMPTS: usize = 20;

/// Bytes that do not repeat, the same for the same seed (xorshift, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Datagram `number` of a flow: its number, and `len` bytes in all.
fn datagram(flow: u64, number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(4)];
    Noise::new(flow << 32 | u64::from(number)).fill(&mut bytes);
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of a datagram, whose every byte is checked.
fn checked(flow: u64, bytes: &[u8]) -> u32 {
    let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert!(bytes == datagram(flow, number, bytes.len()), "datagram {number} of flow {flow} was harmed");
    number
}

/// One connection that carries noise both ways at once, until it is told to end.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    /// Bytes read and checked, at both ends.
    read: Arc<[AtomicU64; 2]>,
    ends: Vec<JoinHandle<(u64, u64)>>,
}

impl Stream {
    /// Connects `from` to `to`, which listens on `port` of `address`.
    pub(crate) fn start(from: &Node, to: &Node, address: SocketAddr) -> Self {
        let listener = to.host.inside(|| TcpListener::bind(address).unwrap()).unwrap();
        let client = from.host.inside(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (stop, read) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 2]>::default());
        let ends: Vec<_> = [client, server]
            .into_iter()
            .enumerate()
            .map(|(end, stream)| {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                let (stop, read, writer) = (stop.clone(), read.clone(), stream.try_clone().unwrap());
                let writing = std::thread::spawn(move || write_noise(writer, end as u64, &stop));
                let reading = std::thread::spawn(move || read_noise(stream, 1 - end as u64, &read[end]));
                std::thread::spawn(move || (writing.join().unwrap(), reading.join().unwrap()))
            })
            .collect();
        Self { stop, read, ends }
    }

    /// Waits until `bytes` more have arrived at each end.
    pub(crate) fn carry(&self, bytes: u64) {
        for read in self.read.iter() {
            let wanted = read.load(Ordering::Relaxed) + bytes;
            let what = format!("a stream carries {bytes} bytes, both ways");
            until(&what, Duration::from_secs(120), || {
                let broken = self.ends.iter().any(JoinHandle::is_finished);
                assert!(!broken, "the connection broke");
                read.load(Ordering::Relaxed) >= wanted
            });
        }
    }

    /// Ends it in order; all that was written has to be read.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let ends: Vec<_> = self.ends.into_iter().map(|end| end.join().unwrap()).collect();
        assert_eq!((ends[0].0, ends[1].0), (ends[1].1, ends[0].1), "written at one end, read at the other");
    }
}

fn write_noise(mut stream: TcpStream, seed: u64, stop: &AtomicBool) -> u64 {
    let (mut noise, mut buffer, mut written) = (Noise::new(seed), vec![0; 256 * 1024], 0);
    while !stop.load(Ordering::Relaxed) {
        noise.fill(&mut buffer);
        stream.write_all(&buffer).unwrap();
        written += buffer.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    written
}

fn read_noise(mut stream: TcpStream, seed: u64, total: &AtomicU64) -> u64 {
    let (mut noise, mut buffer) = (Noise::new(seed), vec![0; 64 * 1024]);
    let (mut expected, mut read) = (buffer.clone(), 0);
    loop {
        // Whole buffers, so that the noise goes on where it stopped.
        let mut filled = 0;
        while filled < buffer.len() {
            match stream.read(&mut buffer[filled..]).unwrap() {
                0 => break,
                n => filled += n,
            }
        }
        noise.fill(&mut expected);
        assert!(buffer[..filled] == expected[..filled], "the stream was harmed after {read} bytes");
        read += filled as u64;
        total.store(read, Ordering::Relaxed);
        if filled < buffer.len() {
            return read;
        }
    }
}

/// Sends datagrams of every one of `sizes` from one node to another, which sends them back; several at once, as one
/// superpacket where the kernel has that.
pub(crate) fn datagrams_of_sizes(from: &Node, to: &Node, address: SocketAddr, sizes: &[usize]) {
    const AT_ONCE: u32 = 8;
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let server = to.host.inside(|| UdpSocket::bind(address).unwrap()).unwrap();
    let client = from.host.inside(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let stop = Arc::<AtomicBool>::default();
    let echoing = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                // A timeout, or the echo of an earlier error.
                let Ok((len, peer)) = server.recv_from(&mut buffer) else { continue };
                checked(0, &buffer[..len]);
                let _ = server.send_to(&buffer[..len], peer);
            }
        }
    });
    let superpackets = Superpackets::new();
    for (numbers, &size) in (0..).step_by(AT_ONCE as usize).zip(sizes) {
        let mut missing: Vec<u32> = (numbers..numbers + AT_ONCE).collect();
        let mut attempts = 0;
        while !missing.is_empty() {
            assert!(attempts < ATTEMPTS, "of {size} bytes, {} datagrams never came back", missing.len());
            attempts += 1;
            let datagrams: Vec<_> = missing.iter().map(|&number| datagram(0, number, size)).collect();
            superpackets.send(&client, address, &datagrams);
            client.set_read_timeout(Some(ECHO_PATIENCE)).unwrap();
            let mut buffer = vec![0; 65_536];
            while !missing.is_empty() {
                match client.recv(&mut buffer) {
                    Ok(len) => {
                        let number = checked(0, &buffer[..len]);
                        missing.retain(|one| *one != number);
                    }
                    Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                        break;
                    }
                    // An ICMP error about one that was too large for the path as it was then known.
                    Err(_) => {}
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    echoing.join().unwrap();
}

/// An application that sends several datagrams by one system call (`UDP_SEGMENT`).
struct Superpackets(quinn_udp::UdpSocketState);

impl Superpackets {
    fn new() -> Self {
        // Of a socket like any other: it is set up to receive several at once, too, and the application's is not.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self(quinn_udp::UdpSocketState::new((&socket).into()).unwrap())
    }

    fn send(&self, socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let size = datagrams[0].len();
        let contents = datagrams.concat();
        let one_by_one = size > 1372 || contents.len() > 60_000;
        let transmit = quinn_udp::Transmit {
            destination: to,
            ecn: None,
            contents: &contents,
            segment_size: Some(size),
            src_ip: None,
        };
        // Too long for the path as it is known now: by the kernel's own means.
        if one_by_one || self.0.try_send(socket.into(), &transmit).is_err() {
            for datagram in datagrams {
                let _ = socket.send_to(datagram, to);
            }
        }
    }
}

/// Numbered datagrams one way: how many came of how many, and in which order.
pub(crate) struct Numbered {
    sending: JoinHandle<u32>,
    receiving: JoinHandle<Vec<u32>>,
    done: Arc<AtomicBool>,
}

impl Numbered {
    /// `count` datagrams of `len` bytes, four each millisecond, from a port of its own to `to`.
    pub(crate) fn start(
        flow: u64,
        from: &Node,
        to: &Node,
        address: SocketAddr,
        count: u32,
        len: usize,
    ) -> Self {
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let server = to.host.inside(|| UdpSocket::bind(address).unwrap()).unwrap();
        let client = from.host.inside(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let done = Arc::<AtomicBool>::default();
        let receiving = std::thread::spawn({
            let done = done.clone();
            move || {
                let (mut buffer, mut numbers) = (vec![0; 2048], Vec::new());
                loop {
                    match server.recv(&mut buffer) {
                        Ok(len) => numbers.push(checked(flow, &buffer[..len])),
                        Err(_) if done.load(Ordering::Relaxed) => return numbers,
                        Err(_) => {}
                    }
                }
            }
        });
        let sending = std::thread::spawn(move || {
            for number in 0..count {
                // A full buffer loses it.
                let _ = client.send_to(&datagram(flow, number, len), address);
                if number % 4 == 3 {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
            count
        });
        Self { sending, receiving, done }
    }

    /// Waits for the end: how many were sent, and the numbers in the order they came.
    pub(crate) fn finish(self) -> (u32, Vec<u32>) {
        let sent = self.sending.join().unwrap();
        self.done.store(true, Ordering::Relaxed);
        (sent, self.receiving.join().unwrap())
    }
}
