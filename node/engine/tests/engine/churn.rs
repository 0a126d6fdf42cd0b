//! L12: ten thousand signed policies, one after the other, under traffic both ways through two engines. Whatever
//! is delivered was admitted, at the sender and at the receiver, by a policy that was in force or being applied
//! while it passed; and afterwards only the last policy counts.
#![expect(
    clippy::disallowed_methods,
    reason = "the pace is printed, and threads that flood take their own time"
)]

use crate::craft::{ACK, RST, SYN, Segment, tcp, udp};
use crate::domain::{DAY, Domain, START};
use crate::net::{DB, Node, WEB, receive, send, three};
use bulkhead_identity::{Generation, Now, Timestamp};
use bulkhead_node_engine::*;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const POLICIES: usize = 10_000;
/// After so many everything that is kept has been allocated.
const WARM_UP: usize = 1_000;
/// One policy that is not let go of takes some kilobytes, ten thousand of them far more than this.
const MAX_GROWTH_BYTES: usize = 32 * 1024 * 1024;

/// Each may or may not be permitted: four UDP and four TCP ports of db for web, and the same the other way.
const SERVICES: usize = 16;
/// Always permitted, from web to db.
const STEADY: u16 = 53;
/// Source ports are above; what is below is a service.
const EPHEMERAL: u16 = 1000;
/// Of each service, so that flows are kept and come back.
const SOURCES: u16 = 4;

/// One bit for each service.
type Mask = u16;

fn port(service: usize) -> u16 {
    service as u16 + 1
}

fn is_udp(service: usize) -> bool {
    service % 8 < 4
}

fn is_from_web(service: usize) -> bool {
    service < SERVICES / 2
}

/// By allow rules alone, or by everything and a guard rail, so that both are compiled.
fn text(mask: Mask, by_never: bool) -> String {
    let rule = |kind: &str, id: &str, from: &str, to: &str, ports: &[String]| match ports {
        [] => String::new(),
        ports => format!(
            "[[{kind}]]\nid = \"{id}\"\nfrom = \"role={from}\"\nto = \"role={to}\"\nports = {ports:?}\n"
        ),
    };
    let items = |from_web: bool, admitted: bool| -> Vec<String> {
        let services = (0..SERVICES).filter(|&service| is_from_web(service) == from_web);
        let services = services.filter(|service| (mask >> service & 1 == 1) == admitted);
        services.map(|s| format!("{}/{}", if is_udp(s) { "udp" } else { "tcp" }, port(s))).collect()
    };
    let steady = format!("udp/{STEADY}");
    let all = ["udp/1-16".to_owned(), "tcp/1-16".to_owned()];
    let mut text = rule("allow", "steady", "web", "db", &[steady]);
    for (from_web, from, to) in [(true, "web", "db"), (false, "db", "web")] {
        if by_never {
            text += &rule("allow", &format!("all-{from}"), from, to, &all);
            text += &rule("never", &format!("not-{from}"), from, to, &items(from_web, false));
            // The other direction's ports are nobody's in this one.
            let foreign = if from_web { "9-16" } else { "1-8" };
            let foreign = ["udp/", "tcp/"].map(|protocol| format!("{protocol}{foreign}"));
            text += &rule("never", &format!("foreign-{from}"), from, to, &foreign);
        } else {
            text += &rule("allow", &format!("some-{from}"), from, to, &items(from_web, true));
        }
    }
    text
}

/// Xorshift (Marsaglia 2003): the same policies on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Narrowed, widened, and now and then another altogether.
fn masks() -> Vec<Mask> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut mask = Mask::MAX;
    let step = |_| {
        let bits = random.next() as Mask;
        mask = match random.next() % 4 {
            0 => mask & bits,
            1 => mask | bits,
            2 => bits,
            _ => mask ^ 1 << (bits % SERVICES as Mask),
        };
        mask
    };
    (0..POLICIES).map(step).collect()
}

/// How far one engine has come: policies before `settled` are gone, those from `begun` on not yet known.
#[derive(Default)]
struct Progress {
    settled: AtomicUsize,
    begun: AtomicUsize,
}

/// Which service a delivered packet belongs to; `None` for what an engine tells its own host.
fn service_of(packet: &[u8]) -> Option<u16> {
    let (protocol, ports) = (packet[9], &packet[20..]);
    let told = protocol == 1 || protocol == 6 && ports[13] & RST != 0;
    if told {
        return None;
    }
    let (from, to) = (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
    Some(from.min(to))
}

struct Traffic<'a> {
    nodes: &'a [Node],
    masks: &'a [Mask],
    progress: [Progress; 2],
    start: Instant,
    done: AtomicBool,
}

impl Traffic<'_> {
    fn now(&self) -> Now {
        let elapsed = Duration::from_secs(100) + self.start.elapsed();
        Now { mono: Duration::from_secs(1000) + elapsed, wall: Timestamp(START.0 + elapsed.as_secs()) }
    }

    /// Does something with one engine; the policies that may have judged it.
    fn judged<T>(&self, node: usize, act: impl FnOnce() -> T) -> (T, std::ops::RangeInclusive<usize>) {
        let first = self.progress[node].settled.load(Ordering::SeqCst);
        let done = act();
        (done, first..=self.progress[node].begun.load(Ordering::SeqCst))
    }

    fn assert_admitted(&self, packet: &[u8], policies: std::ops::RangeInclusive<usize>, at: &str) {
        let port = service_of(packet).expect("a packet of the other host");
        let bit = usize::from(port - 1);
        let admitted = port == STEADY || policies.clone().any(|policy| self.masks[policy] >> bit & 1 == 1);
        assert!(admitted, "port {port} passed {at} under policies {policies:?}, none of which admits it");
    }

    /// One packet of `from`'s host; whether it arrived at the other.
    fn push(&self, from: usize, packet: &[u8], outs: &mut [Output; 2]) -> bool {
        let to = 1 - from;
        let [out, back] = outs;
        out.clear();
        let send = || send(&self.nodes[from].engine.batch(self.now()), packet, out);
        let ((), sent_under) = self.judged(from, send);
        let mut arrived = false;
        for (_, datagram) in out.datagrams() {
            back.clear();
            let source = self.nodes[from].endpoint;
            let receive = || receive(&self.nodes[to].engine, self.now(), source, datagram, back);
            let (_, received_under) = self.judged(to, receive);
            for delivered in back.packets().filter(|packet| service_of(packet).is_some()) {
                assert_eq!(delivered, packet);
                self.assert_admitted(delivered, sent_under.clone(), "the sender");
                self.assert_admitted(delivered, received_under.clone(), "the receiver");
                arrived = true;
            }
            assert_eq!(back.datagrams().count(), 0, "the session stands");
        }
        arrived
    }

    /// All that one host sends until the last policy is in force; how much of the steady flow was sent, and came.
    fn flood(&self, from: usize) -> (u64, u64) {
        let packets = packets(self.nodes, from);
        let steady = udp((self.nodes[WEB].v4(), 2000), (self.nodes[DB].v4(), STEADY), b"steady");
        let mut outs = [Output::new(), Output::new()];
        let (mut sent, mut came) = (0, 0);
        for packet in packets.iter().cycle() {
            if self.done.load(Ordering::SeqCst) {
                break;
            }
            self.push(from, packet, &mut outs);
            if from == WEB {
                sent += 1;
                came += u64::from(self.push(from, &steady, &mut outs));
            }
        }
        (sent, came)
    }
}

/// Everything that the host of `from` sends: its openings, its data, its answers.
fn packets(nodes: &[Node], from: usize) -> Vec<Vec<u8>> {
    let (me, other) = (nodes[from].v4(), nodes[1 - from].v4());
    let mut packets = Vec::new();
    for (service, source) in (0..SERVICES).flat_map(|s| (0..SOURCES).map(move |n| (s, EPHEMERAL + n))) {
        let client = is_from_web(service) == (from == WEB);
        let (mine, theirs) = if client { (source, port(service)) } else { (port(service), source) };
        let (near, far): ((IpAddr, u16), (IpAddr, u16)) = ((me, mine), (other, theirs));
        if is_udp(service) {
            packets.push(udp(near, far, b"data"));
            continue;
        }
        let segment = |flags, sequence, data| Segment {
            from: near,
            to: far,
            flags,
            sequence,
            acknowledgement: 7001,
            data,
        };
        let opening = if client { SYN } else { SYN | ACK };
        packets.push(tcp(segment(opening, 7000, b"")));
        packets.push(tcp(segment(ACK, 7001, b"data")));
    }
    packets
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}

/// Every policy as its nodes are sent it: signed.
fn signed(domain: &mut Domain, masks: &[Mask]) -> Vec<Vec<u8>> {
    let numbered = masks.iter().enumerate();
    numbered.map(|(number, &mask)| domain.policy(&text(mask, number % 3 == 0)).bytes().to_vec()).collect()
}

/// Both nodes verify and apply every policy; what memory grew by after the warm-up.
fn apply_all(traffic: &Traffic<'_>, policies: &[Vec<u8>], worlds: &mut [World; 2]) -> usize {
    let mut before = 0;
    let mut out = Output::new();
    for (number, bytes) in policies.iter().enumerate() {
        for node in [WEB, DB] {
            let (world, now) = (&mut worlds[node], traffic.now());
            world.policy = Arc::new(world.policy.replace(bytes, &world.trust, now.wall).unwrap());
            traffic.progress[node].begun.store(number, Ordering::SeqCst);
            let changes = traffic.nodes[node].engine.apply(world.clone(), &mut out, now);
            traffic.progress[node].settled.store(number, Ordering::SeqCst);
            assert_eq!((changes.removed.len(), changes.added.len()), (0, 0));
            assert_eq!(changes.generation, world.policy.generation());
            out.clear();
        }
        if number == WARM_UP {
            before = resident_bytes();
        }
    }
    resident_bytes().saturating_sub(before)
}

#[test]
fn l12_ten_thousand_policies_under_traffic_deliver_nothing_that_none_of_them_admits() {
    let mut net = three();
    net.nodes.truncate(2);
    net.set_policy(&text(masks()[0], false));
    assert!(net.udp_arrives(WEB, DB, 2000, STEADY));
    let masks = masks();
    let policies = signed(&mut net.domain, &masks);
    let mut worlds = [net.world(WEB), net.world(DB)];
    let traffic = Traffic {
        nodes: &net.nodes,
        masks: &masks,
        progress: Default::default(),
        start: Instant::now(),
        done: AtomicBool::new(false),
    };
    let (grown, [from_web, from_db]) = std::thread::scope(|threads| {
        let floods = [WEB, DB].map(|from| {
            let traffic = &traffic;
            threads.spawn(move || traffic.flood(from))
        });
        let grown = apply_all(&traffic, &policies, &mut worlds);
        traffic.done.store(true, Ordering::SeqCst);
        (grown, floods.map(|flood| flood.join().unwrap()))
    });
    let seconds = traffic.start.elapsed().as_secs_f64();
    let pace = POLICIES as f64 / seconds;
    println!("{pace:.0} policies a second, on each of two engines; memory grew by {grown} bytes");
    assert_eq!(from_web.0, from_web.1, "a flow that every policy admits lost packets");
    assert!(from_web.0 > POLICIES as u64 / 10 && from_db == (0, 0), "{from_web:?}: hardly any traffic");
    assert!(grown < MAX_GROWTH_BYTES, "memory grew by {grown} bytes");
    assert_only_the_last_counts(&traffic);
}

fn assert_only_the_last_counts(traffic: &Traffic<'_>) {
    let last = *traffic.masks.last().unwrap();
    let admits = |port: u16| port == STEADY || last >> (port - 1) & 1 == 1;
    for (at, node) in traffic.nodes.iter().enumerate() {
        for flow in node.engine.flows(traffic.now()) {
            let port = flow.local.1.min(flow.remote.1);
            assert!(admits(port), "a flow on {port} outlived its policy");
            assert_eq!(flow.generation, Generation(POLICIES as u64 + 2));
        }
        let mut outs = [Output::new(), Output::new()];
        for service in (0..SERVICES).filter(|&service| is_from_web(service) == (at == WEB)) {
            let (me, other) = (node.v4(), traffic.nodes[1 - at].v4());
            // A source port that was not in use: nothing but the policy lets it pass.
            let (near, far) = ((me, 3000), (other, port(service)));
            let opening =
                Segment { from: near, to: far, flags: SYN, sequence: 1, acknowledgement: 0, data: b"" };
            let packet = if is_udp(service) { udp(near, far, b"new") } else { tcp(opening) };
            assert_eq!(traffic.push(at, &packet, &mut outs), admits(port(service)), "port {}", port(service));
        }
    }
    assert!(traffic.start.elapsed() < Duration::from_secs(DAY), "certificates are still valid");
}
