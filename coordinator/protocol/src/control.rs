//! The control link: one bidirectional QUIC stream, opened by the node; frames of [`crate::frame`] both ways.
//! What permits anything travels signed and is judged by its own signature; the rest are hints.

use crate::bounded;
pub use crate::flow::{FlowReport, MAX_REPORTED_FLOWS};
pub use crate::map::{MAX_MAP_PEERS, MapError, MapPeer, MapSequence, MapUpdate, PeerMap};
use crate::offload::Offloads;
pub use crate::receipt::Receipt;
use bulkhead_identity::{CertificateRequest, Chain, Challenge, ChallengeKey, Epoch, Generation, Timestamp};
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most endpoints of one node.
pub const MAX_ENDPOINTS: usize = 16;
/// Longest line for people in a message.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Node to coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToCoordinator {
    /// First message on the stream: what the node holds already, so that nothing is sent twice.
    #[n(0)]
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the node.
        #[n(0)]
        protocol: u32,
        /// Trust document held.
        #[n(1)]
        trust_version: Epoch,
        /// Policy held.
        #[n(2)]
        generation: Generation,
        /// Revocation list held.
        #[n(3)]
        epoch: Epoch,
        /// Its UDP port for tunnels.
        #[n(4)]
        wireguard_port: u16,
        /// Addresses of its own interfaces, with that port.
        #[cbor(n(5), decode_with = "bounded::endpoints")]
        endpoints: Vec<Endpoint>,
        /// Name and version of its software.
        #[cbor(n(6), decode_with = "bounded::text")]
        software: String,
    },
    /// The node's interface addresses changed.
    #[n(1)]
    Endpoints {
        /// Its UDP port for tunnels.
        #[n(0)]
        wireguard_port: u16,
        /// All its addresses.
        #[cbor(n(1), decode_with = "bounded::endpoints")]
        endpoints: Vec<Endpoint>,
    },
    /// What is in force now; sent after every apply.
    #[n(2)]
    Acknowledge {
        /// Trust document in force.
        #[n(0)]
        trust_version: Epoch,
        /// Policy in force.
        #[n(1)]
        generation: Generation,
        /// Revocation list in force.
        #[n(2)]
        epoch: Epoch,
        /// Map in force.
        #[n(3)]
        map: MapSequence,
        /// The node's signed word for it.
        #[n(4)]
        receipt: Receipt,
    },
    /// A delta did not fit: send a snapshot.
    #[n(3)]
    WantSnapshot,
    /// Asks for a challenge to renew with.
    #[n(4)]
    RenewBegin,
    /// The answer to the challenge.
    #[n(5)]
    RenewFinish {
        /// Keys and proofs.
        #[n(0)]
        request: CertificateRequest,
    },
    /// The node did not accept something the coordinator sent.
    #[n(6)]
    Refused {
        /// For example `policy`.
        #[cbor(n(0), decode_with = "bounded::text")]
        what: String,
        /// In words.
        #[cbor(n(1), decode_with = "bounded::text")]
        why: String,
    },
    /// The node leaves for good: revoke its certificate and forget it.
    #[n(7)]
    Leave,
    /// Answer to `WantFlows`.
    #[n(8)]
    Flows {
        /// What was asked.
        #[n(0)]
        ask: u64,
        /// Live flows, each peer, direction and service once.
        #[cbor(n(1), decode_with = "bounded::flows")]
        flows: Vec<FlowReport>,
        /// Whether there are more than [`MAX_REPORTED_FLOWS`].
        #[n(2)]
        truncated: bool,
    },
}

/// Coordinator to node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToNode {
    /// Answer to `Hello`.
    #[n(0)]
    Welcome {
        /// [`crate::PROTOCOL_VERSION`] of the coordinator.
        #[n(0)]
        protocol: u32,
        /// The coordinator's clock.
        #[n(1)]
        wall: Timestamp,
        /// The source address the coordinator saw, for information.
        #[n(2)]
        observed: Endpoint,
        /// Offloads to leave off from now on; none, when an older coordinator does not say.
        #[cbor(n(3), default)]
        offloads_off: Offloads,
        /// When the session of the node's owner ends; none, when nobody has to sign in for it.
        #[n(4)]
        session_until: Option<Timestamp>,
    },
    /// A signed trust document.
    #[n(1)]
    Trust {
        /// Exact bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        document: Vec<u8>,
    },
    /// The node's slice of the signed policy.
    #[n(2)]
    Policy {
        /// Exact bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        slice: Vec<u8>,
    },
    /// A signed revocation list.
    #[n(3)]
    Revocations {
        /// Exact bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        list: Vec<u8>,
    },
    /// Peers.
    #[n(4)]
    Map(#[n(0)] MapUpdate),
    /// Answer to `RenewBegin`.
    #[n(5)]
    RenewChallenge {
        /// To be signed.
        #[n(0)]
        challenge: Challenge,
        /// To be agreed with.
        #[n(1)]
        key: ChallengeKey,
    },
    /// A new certificate for this node: renewed, or because its labels changed.
    #[n(6)]
    Certificate {
        /// Leaf first.
        #[n(0)]
        chain: Chain,
        /// As in the welcome.
        #[n(1)]
        session_until: Option<Timestamp>,
    },
    /// The coordinator did not do what the node asked.
    #[n(7)]
    Refused {
        /// For example `renew`.
        #[cbor(n(0), decode_with = "bounded::text")]
        what: String,
        /// In words.
        #[cbor(n(1), decode_with = "bounded::text")]
        why: String,
    },
    /// Which flows are live?
    #[n(8)]
    WantFlows {
        /// Names the question, for the answer.
        #[n(0)]
        ask: u64,
    },
    /// What the welcome said of offloads has changed.
    #[n(9)]
    Offloads {
        /// To leave off from now on.
        #[n(0)]
        off: Offloads,
    },
}

/// Address and port of a UDP endpoint. On the wire 6 bytes (IPv4) or 18 (IPv6), port last and big-endian;
/// each address has one form, so an IPv4-mapped IPv6 address is written as IPv4 and refused when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub SocketAddr);

const V4_BYTES: usize = 6;
const V6_BYTES: usize = 18;

impl<C> Encode<C> for Endpoint {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let port = self.0.port().to_be_bytes();
        match self.0.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let mut bytes = [0; V4_BYTES];
                bytes[..4].copy_from_slice(&ip.octets());
                bytes[4..].copy_from_slice(&port);
                e.bytes(&bytes)?.ok()
            }
            IpAddr::V6(ip) => {
                let mut bytes = [0; V6_BYTES];
                bytes[..16].copy_from_slice(&ip.octets());
                bytes[16..].copy_from_slice(&port);
                e.bytes(&bytes)?.ok()
            }
        }
    }
}

impl<'b, C> Decode<'b, C> for Endpoint {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let bytes = d.bytes()?;
        if let Ok([a, b, c, d, port @ ..]) = <[u8; V4_BYTES]>::try_from(bytes) {
            return Ok(Self((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes(port)).into()));
        }
        let Ok(bytes) = <[u8; V6_BYTES]>::try_from(bytes) else {
            return Err(decode::Error::message("endpoint is neither 6 nor 18 bytes"));
        };
        let [port_high, port_low] = [bytes[16], bytes[17]];
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[..16]);
        let ip = Ipv6Addr::from(octets);
        if ip.to_ipv4_mapped().is_some() {
            return Err(decode::Error::message("endpoint is an IPv4-mapped address"));
        }
        Ok(Self((ip, u16::from_be_bytes([port_high, port_low])).into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn reencode(endpoint: Endpoint) -> Endpoint {
        decode(&minicbor::to_vec(endpoint).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn an_endpoint_survives_the_wire(ip: IpAddr, port: u16) {
            let canonical = Endpoint(SocketAddr::new(ip.to_canonical(), port));
            prop_assert_eq!(reencode(Endpoint(SocketAddr::new(ip, port))), canonical);
        }

        #[test]
        fn an_endpoint_of_any_bytes_is_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut encoded = Vec::new();
            Encoder::new(&mut encoded).bytes(&bytes).unwrap();
            let decoded = decode::<Endpoint>(&encoded);
            prop_assert!(decoded.is_err() || [V4_BYTES, V6_BYTES].contains(&bytes.len()));
        }
    }

    #[test]
    fn a_mapped_address_is_refused() {
        let mut bytes = vec![0x52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        bytes.extend([10, 0, 0, 1, 0xca, 0x6c]);
        assert!(decode::<Endpoint>(&bytes).is_err());
    }

    #[test]
    fn more_endpoints_than_the_limit_are_refused() {
        let endpoint = Endpoint(([192, 0, 2, 1], 51820).into());
        let message =
            |count| ToCoordinator::Endpoints { wireguard_port: 1, endpoints: vec![endpoint; count] };
        let decodes = |count| decode::<ToCoordinator>(&minicbor::to_vec(message(count)).unwrap()).is_ok();
        assert!(decodes(MAX_ENDPOINTS));
        assert!(!decodes(MAX_ENDPOINTS + 1));
    }

    #[test]
    fn more_flows_than_the_limit_are_refused() {
        let peer = bulkhead_identity::NodeName::parse("web-1").unwrap();
        let flow = FlowReport { peer, outbound: false, service: bulkhead_acl::Service::Echo };
        let message =
            |count| ToCoordinator::Flows { ask: 1, flows: vec![flow.clone(); count], truncated: true };
        let decodes = |count| decode::<ToCoordinator>(&minicbor::to_vec(message(count)).unwrap()).is_ok();
        assert!(decodes(MAX_REPORTED_FLOWS));
        assert!(!decodes(MAX_REPORTED_FLOWS + 1));
    }

    #[test]
    fn a_welcome_of_an_older_coordinator_leaves_no_offload_off_and_ends_no_session() {
        let observed = Endpoint(([192, 0, 2, 1], 51820).into());
        // Variant 0 with the three fields that there were.
        let older = minicbor::to_vec((0_u8, (2_u32, Timestamp(5), observed))).unwrap();
        let welcome = ToNode::Welcome {
            protocol: 2,
            wall: Timestamp(5),
            observed,
            offloads_off: Offloads::NONE,
            session_until: None,
        };
        assert_eq!(decode::<ToNode>(&older).unwrap(), welcome);
    }

    #[test]
    fn text_that_could_break_a_terminal_is_refused() {
        for hostile in ["a\nb", "\u{1b}[2J", &"x".repeat(MAX_TEXT_BYTES + 1)] {
            let message = ToCoordinator::Refused { what: "policy".to_owned(), why: hostile.to_owned() };
            assert!(decode::<ToCoordinator>(&minicbor::to_vec(message).unwrap()).is_err());
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_variants_refused() {
        // WantSnapshot (variant 3) with a field 9 that we do not know; and a variant 99.
        let known = [0x82, 0x03, 0x8a, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0xf6, 0x01];
        assert_eq!(decode::<ToCoordinator>(&known).unwrap(), ToCoordinator::WantSnapshot);
        assert!(decode::<ToCoordinator>(&[0x82, 0x18, 99, 0x80]).is_err());
    }
}
