//! The resolver for `NAME.<trust domain>`, on the node's own overlay service addresses.
//!
//! It speaks only of the node itself and of peers the policy lets it talk to: every other name of our zone
//! does not exist, and every name outside our zone is refused, so that the host's own resolver answers it.
//! It never forwards, never listens on TCP, and never sends to anyone but a process of this host: the socket
//! is bound to the mesh interface, which owns the service addresses, so the local network cannot ask; and the
//! engine lets no peer's packet through to an address other than the node's own, so no peer can.
//!
//! [`respond`] is pure: a datagram and a [`Zone`] go in, a datagram comes out, or nothing.

pub(crate) mod resolv;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_identity::{NodeName, OverlayAddrs, TrustDomain};
use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tracing::debug;

use crate::handle::DaemonHandle;

/// Queries longer than this are dropped; also what we announce by EDNS.
pub(crate) const MAX_QUERY_BYTES: usize = 1232;
/// Additional records in a query: EDNS, and one more for tolerance.
const MAX_QUERY_ADDITIONALS: u16 = 2;
/// How long others may keep a name: a removed peer's name should not linger.
const TTL_SECS: u32 = 15;
/// How long others may keep the absence of a name: a new permission should be usable at once.
const NEGATIVE_TTL_SECS: u32 = 2;
/// A zone is used for this long before the engine is asked again.
const FRESH: Duration = Duration::from_millis(100);
const DNS_PORT: u16 = 53;

/// The names one node may know, complete: what is not in here does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    origin: Name,
    by_name: BTreeMap<NodeName, OverlayAddrs>,
    by_address: BTreeMap<IpAddr, NodeName>,
    overlay_v4: (Ipv4Addr, u8),
    overlay_v6: (Ipv6Addr, u8),
}

impl Zone {
    /// The zone of `domain` with exactly these `nodes`; the overlay ranges bound what we answer in reverse.
    ///
    /// # Errors
    /// When the trust domain cannot be written as a DNS name.
    pub(crate) fn new(
        domain: &TrustDomain,
        overlay_v4: (Ipv4Addr, u8),
        overlay_v6: (Ipv6Addr, u8),
        nodes: impl IntoIterator<Item = (NodeName, OverlayAddrs)>,
    ) -> Result<Self, ProtoError> {
        let origin = Name::from_ascii(format!("{domain}."))?;
        let by_name: BTreeMap<_, _> = nodes.into_iter().collect();
        let by_address = by_name
            .iter()
            .flat_map(|(name, a)| [(IpAddr::V4(a.v4), name.clone()), (IpAddr::V6(a.v6), name.clone())])
            .collect();
        Ok(Self { origin, by_name, by_address, overlay_v4, overlay_v6 })
    }

    /// What there is to say about a name of class IN.
    fn find(&self, name: &Name, kind: RecordType) -> Found {
        if self.origin.zone_of(name) {
            return self.find_forward(name, kind);
        }
        match name.parse_arpa_name() {
            Ok(net) if net.prefix_len() == net.max_prefix_len() && self.in_overlay(net.addr()) => {
                self.find_reverse(name, net.addr(), kind)
            }
            Ok(_) | Err(_) => Found::Foreign,
        }
    }

    fn find_forward(&self, name: &Name, kind: RecordType) -> Found {
        let below = name.iter().count().saturating_sub(self.origin.iter().count());
        if below == 0 {
            return Found::Records(if wants(kind, RecordType::SOA) { vec![self.soa()] } else { Vec::new() });
        }
        let node = name.iter().next().filter(|_| below == 1).and_then(node_name);
        let Some(addresses) = node.and_then(|node| self.by_name.get(&node)) else { return Found::Nothing };
        let mut records = Vec::new();
        // The owner name is repeated as it was asked, for resolvers that mix case against forgery.
        if wants(kind, RecordType::AAAA) {
            records.push(Record::from_rdata(name.clone(), TTL_SECS, RData::AAAA(AAAA(addresses.v6))));
        }
        if wants(kind, RecordType::A) {
            records.push(Record::from_rdata(name.clone(), TTL_SECS, RData::A(A(addresses.v4))));
        }
        Found::Records(records)
    }

    fn find_reverse(&self, name: &Name, address: IpAddr, kind: RecordType) -> Found {
        let Some(node) = self.by_address.get(&address) else { return Found::Nothing };
        let Ok(target) = self.origin.prepend_label(node.as_str().as_bytes()) else { return Found::Nothing };
        let mut records = Vec::new();
        if wants(kind, RecordType::PTR) {
            records.push(Record::from_rdata(name.clone(), TTL_SECS, RData::PTR(PTR(target))));
        }
        Found::Records(records)
    }

    fn in_overlay(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let (base, bits) = self.overlay_v4;
                shifted(u128::from(v4.to_bits()), 32, bits) == shifted(u128::from(base.to_bits()), 32, bits)
            }
            IpAddr::V6(v6) => {
                let (base, bits) = self.overlay_v6;
                shifted(v6.to_bits(), 128, bits) == shifted(base.to_bits(), 128, bits)
            }
        }
    }

    /// The zone's start of authority: its minimum is how long absence may be remembered (RFC 2308).
    fn soa(&self) -> Record {
        let label = |label: &str| self.origin.prepend_label(label).unwrap_or_else(|_| self.origin.clone());
        let soa = SOA::new(label("ns"), label("hostmaster"), 1, 60, 60, 60, NEGATIVE_TTL_SECS);
        Record::from_rdata(self.origin.clone(), NEGATIVE_TTL_SECS, RData::SOA(soa))
    }
}

/// The top `bits` of an address that is `width` bits wide.
fn shifted(address: u128, width: u32, bits: u8) -> u128 {
    address.checked_shr(width.saturating_sub(u32::from(bits))).unwrap_or(0)
}

/// Whether a question of type `asked` is answered by a record of type `held`.
fn wants(asked: RecordType, held: RecordType) -> bool {
    asked == held || asked == RecordType::ANY
}

/// A label from outside as a node's name, whatever its case; `None` when no node can be called that.
fn node_name(label: &[u8]) -> Option<NodeName> {
    let text = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
    NodeName::parse(&text).ok()
}

/// What the zone says about one question.
enum Found {
    /// The name exists; empty when it has no record of that type.
    Records(Vec<Record>),
    /// The name would be ours, and does not exist for this node.
    Nothing,
    /// Not our name: another resolver has to be asked.
    Foreign,
}

/// The answer to one datagram; `None` when it deserves none (not a query, malformed, too long).
pub(crate) fn respond(datagram: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    if !plausible(datagram) {
        return None;
    }
    let query = Message::from_vec(datagram).ok()?;
    let [question] = query.queries.as_slice() else { return None };
    answer(&query, question, zone).to_vec().ok()
}

/// Looks at the bare header before anything is decoded, so that counts in it cannot make us allocate.
fn plausible(datagram: &[u8]) -> bool {
    let Some(header) = datagram.first_chunk::<12>() else { return false };
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let is_response = header[2] & 0x80 != 0;
    datagram.len() <= MAX_QUERY_BYTES
        && !is_response
        && (count(4), count(6), count(8)) == (1, 0, 0)
        && count(10) <= MAX_QUERY_ADDITIONALS
}

fn answer(query: &Message, question: &Query, zone: &Zone) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.add_query(question.clone());
    let mut version_known = true;
    if let Some(edns) = &query.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(u16::try_from(MAX_QUERY_BYTES).unwrap_or(512));
        reply.set_edns(ours);
        version_known = edns.version() == 0;
    }
    reply.metadata.response_code = if !version_known {
        ResponseCode::BADVERS
    } else if query.metadata.op_code != OpCode::Query {
        ResponseCode::NotImp
    } else if question.query_class() != DNSClass::IN {
        ResponseCode::Refused
    } else {
        fill(&mut reply, zone.find(question.name(), question.query_type()), zone)
    };
    reply
}

fn fill(reply: &mut Message, found: Found, zone: &Zone) -> ResponseCode {
    match found {
        Found::Foreign => ResponseCode::Refused,
        Found::Nothing => {
            reply.metadata.authoritative = true;
            reply.add_authority(zone.soa());
            ResponseCode::NXDomain
        }
        Found::Records(records) => {
            reply.metadata.authoritative = true;
            if records.is_empty() {
                reply.add_authority(zone.soa());
            }
            reply.add_answers(records);
            ResponseCode::NoError
        }
    }
}

/// Answers on one service address, port 53, until this future is dropped.
///
/// # Errors
/// When the address is not on an interface, or its port 53 is taken, or the socket fails later.
pub(crate) async fn serve(daemon: DaemonHandle, address: IpAddr) -> anyhow::Result<()> {
    let socket = bind(SocketAddr::new(address, DNS_PORT), &daemon.config().interface)
        .with_context(|| format!("cannot listen on {address} port {DNS_PORT}"))?;
    let mut buffer = [0; MAX_QUERY_BYTES + 1];
    let mut zone = current(&daemon)?;
    let mut read_at = Instant::now();
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.context("cannot receive queries")?;
        if read_at.elapsed() >= FRESH {
            zone = current(&daemon)?;
            read_at = Instant::now();
        }
        let Some(reply) = respond(&buffer[..length], &zone) else { continue };
        if let Err(error) = socket.send_to(&reply, from).await {
            debug!(%error, "resolver reply not sent");
        }
    }
}

/// The names this node may know now: its own, and those of the peers that hold a permit.
fn current(daemon: &DaemonHandle) -> anyhow::Result<Zone> {
    let held = daemon.held();
    let document = held.trust.document();
    let peers = daemon.engine().peers(daemon.now()).into_iter().map(|peer| peer.identity);
    let identities = std::iter::once(held.me.clone()).chain(peers);
    let nodes = identities.filter_map(|who| Some((who.name().clone(), who.claims().addresses?)));
    Zone::new(&document.trust_domain, document.overlay_v4, document.overlay_v6, nodes)
        .with_context(|| format!("{} cannot be a DNS name", document.trust_domain))
}

/// A socket that only this host's own processes reach.
fn bind(address: SocketAddr, interface: &str) -> std::io::Result<UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Before `bind`, so that there is no moment in which the network could reach it. What this host sends to an
    // address of its own counts as arriving on the interface that has the address.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn zone() -> Zone {
        let name = |text: &str| NodeName::parse(text).unwrap();
        let at = |last: u8| OverlayAddrs {
            v4: Ipv4Addr::new(100, 64, 0, last),
            v6: Ipv6Addr::new(0xfd5a, 1, 2, 0, 0, 0, 0, last.into()),
        };
        Zone::new(
            &TrustDomain::parse("acme.example").unwrap(),
            (Ipv4Addr::new(100, 64, 0, 0), 10),
            (Ipv6Addr::new(0xfd5a, 1, 2, 0, 0, 0, 0, 0), 48),
            [(name("web"), at(10)), (name("db"), at(11))],
        )
        .unwrap()
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        query
    }

    fn check(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let reply = respond(&query(name, kind).to_vec().unwrap(), &zone()).unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!((reply.metadata.id, reply.metadata.message_type), (7, MessageType::Response));
        assert_eq!(reply.queries, query(name, kind).queries);
        let answers = reply.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>();
        let negative = answers.is_empty() && reply.metadata.response_code != ResponseCode::Refused;
        assert_eq!(reply.authorities.len(), usize::from(negative), "an SOA says how long absence holds");
        (reply.metadata.response_code, answers)
    }

    #[test]
    fn permitted_names_resolve_in_any_case() {
        assert_eq!(
            check("db.acme.example.", RecordType::A),
            (ResponseCode::NoError, vec!["100.64.0.11".into()])
        );
        assert_eq!(
            check("dB.aCme.eXample.", RecordType::AAAA),
            (ResponseCode::NoError, vec!["fd5a:1:2::b".into()])
        );
        assert_eq!(check("web.acme.example.", RecordType::ANY).1.len(), 2);
        assert_eq!(check("db.acme.example.", RecordType::MX), (ResponseCode::NoError, vec![]));
        assert_eq!(check("acme.example.", RecordType::A), (ResponseCode::NoError, vec![]));
        assert_eq!(check("acme.example.", RecordType::SOA).1.len(), 1);
    }

    #[test]
    fn names_of_nobody_we_may_talk_to_do_not_exist() {
        for name in ["intruder.acme.example.", "a.db.acme.example.", "*.acme.example.", "_x.acme.example."] {
            assert_eq!(check(name, RecordType::A), (ResponseCode::NXDomain, vec![]), "{name}");
        }
    }

    #[test]
    fn names_outside_our_zone_are_refused() {
        for name in ["example.", "example.org.", "notacme.example.", "db.", ".", "1.0.0.127.in-addr.arpa."] {
            assert_eq!(check(name, RecordType::A), (ResponseCode::Refused, vec![]), "{name}");
        }
    }

    #[test]
    fn overlay_addresses_resolve_back() {
        let of = |address: &str| {
            let name = Name::from(address.parse::<IpAddr>().unwrap()).to_ascii();
            check(&name, RecordType::PTR)
        };
        assert_eq!(of("100.64.0.11"), (ResponseCode::NoError, vec!["db.acme.example.".into()]));
        assert_eq!(of("fd5a:1:2::b"), (ResponseCode::NoError, vec!["db.acme.example.".into()]));
        assert_eq!(of("100.127.0.1").0, ResponseCode::NXDomain);
        assert_eq!(of("fd5a:1:2:3::1").0, ResponseCode::NXDomain);
        assert_eq!(of("100.128.0.1").0, ResponseCode::Refused);
        assert_eq!(of("fd5b::1").0, ResponseCode::Refused);
    }

    #[test]
    fn edns_is_answered_with_edns_and_its_unknown_version_refused() {
        let mut query = query("db.acme.example.", RecordType::A);
        query.set_edns(Edns::new());
        let reply = Message::from_vec(&respond(&query.to_vec().unwrap(), &zone()).unwrap()).unwrap();
        assert_eq!(reply.edns.unwrap().max_payload(), 1232);
        query.edns.as_mut().unwrap().set_version(1);
        let reply = Message::from_vec(&respond(&query.to_vec().unwrap(), &zone()).unwrap()).unwrap();
        assert_eq!(u16::from(reply.metadata.response_code), 16);
        assert!(reply.answers.is_empty());
    }

    #[test]
    fn other_operations_and_classes_get_nothing() {
        let mut update = query("db.acme.example.", RecordType::A);
        update.metadata.op_code = OpCode::Notify;
        let reply = Message::from_vec(&respond(&update.to_vec().unwrap(), &zone()).unwrap()).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
        let mut chaos = query("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        let reply = Message::from_vec(&respond(&chaos.to_vec().unwrap(), &zone()).unwrap()).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn what_is_no_single_question_gets_no_answer() {
        let good = query("db.acme.example.", RecordType::A).to_vec().unwrap();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            respond(&bytes, &zone())
        };
        assert!(respond(&good, &zone()).is_some());
        assert!(changed(2, 0x80).is_none(), "a response");
        assert!(changed(4, 0xff).is_none(), "65,281 questions");
        assert!(changed(5, 0).is_none(), "none");
        assert!(changed(7, 1).is_none(), "an answer section");
        assert!(respond(&good[..good.len() - 1], &zone()).is_none(), "cut short");
        let mut long = good.clone();
        long.resize(MAX_QUERY_BYTES + 1, 0);
        assert!(respond(&long, &zone()).is_none(), "too long");
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic_or_answer_at_length(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300), as_query in any::<bool>()
        ) {
            if as_query && bytes.len() > 12 {
                bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
            }
            if let Some(reply) = respond(&bytes, &zone()) {
                prop_assert!(reply.len() <= MAX_QUERY_BYTES);
            }
        }
    }
}
