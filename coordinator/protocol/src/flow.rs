//! A node's live flows on the wire. A node tells of its own ends only: who the other end of a report is comes from
//! the link it arrived on, so that no node can speak for two others.

use bulkhead_acl::Service;
use bulkhead_identity::NodeName;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// Most flows in one report, each pair, direction and service once.
pub const MAX_REPORTED_FLOWS: usize = 16 * 1024;
/// Longest service in text: `sctp/65535`.
const MAX_SERVICE_BYTES: usize = 10;

/// At least one flow is open with this peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct FlowReport {
    /// The other end.
    #[n(0)]
    pub peer: NodeName,
    /// Whether the reporting node opened it.
    #[n(1)]
    pub outbound: bool,
    /// What for.
    #[cbor(n(2), encode_with = "encode_service", decode_with = "decode_service")]
    pub service: Service,
}

fn encode_service<C, W: Write>(
    service: &Service,
    e: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    e.str(&service.to_string())?.ok()
}

fn decode_service<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Service, decode::Error> {
    let text = d.str()?;
    if text.len() > MAX_SERVICE_BYTES {
        return Err(decode::Error::message("no service is that long"));
    }
    Service::parse(text).map_err(decode::Error::message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use minicbor::decode;

    #[test]
    fn every_kind_of_service_survives_the_wire() {
        for service in ["tcp/65535", "udp/53", "sctp/65535", "icmp", "ip/47"] {
            let service = Service::parse(service).unwrap();
            let report = FlowReport { peer: NodeName::parse("web-1").unwrap(), outbound: true, service };
            assert_eq!(decode::<FlowReport>(&minicbor::to_vec(&report).unwrap()).unwrap(), report);
        }
    }

    #[test]
    fn a_service_that_is_none_is_refused() {
        for service in ["tcp/1-2", "tcp/*", "", "any", "tcp/99999", &"x".repeat(MAX_SERVICE_BYTES + 1)] {
            let encoded = minicbor::to_vec(("web-1", true, service)).unwrap();
            assert!(decode::<FlowReport>(&encoded).is_err(), "{service}");
        }
    }
}
