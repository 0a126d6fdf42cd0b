//! What is said over the local API: versioned, one line each way, the same JSON that `--json` prints.
//!
//! Property: a request that is not understood completely is refused. Times are ages or remainders in seconds,
//! worked out by the daemon's own clock, so that a reader needs none.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bulkhead_identity::{Labels, OverlayAddrs};
use bulkhead_protocol::enrol::b64;
use bulkhead_protocol::offload::Offload;
use serde::{Deserialize, Serialize};

use super::authorise::Access;
use crate::packets::offload::Position;

/// The version of this conversation. 1 (2026-11-20): first.
pub(crate) const VERSION: u32 = 1;
/// The longest request: as many certificates as a chain may have, each as long as one may be, as text.
pub(crate) const MAX_REQUEST_BYTES: usize = 96 * 1024;
/// The longest reply: 10,000 peers at under 1 KiB each, with room.
pub(crate) const MAX_REPLY_BYTES: usize = 16 * 1024 * 1024;
/// The most flows in one reply: at under 512 bytes each, well within [`MAX_REPLY_BYTES`].
pub(crate) const MAX_FLOWS_SHOWN: usize = 10_000;

/// One line from the client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// What is asked.
    pub(crate) request: Request,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Everything about this node.
    Status {
        /// Ask every peer for a sign of life, too.
        check: bool,
    },
    /// Peers the policy permits.
    Peers {},
    /// Entries of the map that are no peers, and what the filter dropped.
    Denied {},
    /// Live flows.
    Flows {},
    /// One in-session echo to a peer.
    Ping {
        /// The peer's name.
        name: String,
    },
    /// The verdict on one service, ours and the peer's.
    Explain {
        /// The peer's name.
        name: String,
        /// `tcp/5432`, `udp/53`, `icmp`.
        service: String,
        /// Opened by the peer rather than by us.
        inbound: bool,
    },
    /// Whose overlay address is this?
    Whois {
        /// The address.
        address: IpAddr,
    },
    /// Which addresses has this peer?
    Resolve {
        /// The peer's name.
        name: String,
    },
    /// This node's certificate.
    Certificate {},
    /// Renew the certificate now.
    Renew {},
    /// Take up the certificate that a sign-in of the owner brought.
    TakeCertificate {
        /// Minicbor of a chain.
        #[serde(with = "b64")]
        chain: Vec<u8>,
    },
    /// End the daemon.
    Down {},
    /// Leave the mesh for good.
    Leave {
        /// Even when the coordinator cannot be told.
        force: bool,
    },
}

impl Request {
    /// Whether it shows or changes something.
    pub(crate) fn access(&self) -> Access {
        match self {
            Self::Status { .. }
            | Self::Peers {}
            | Self::Denied {}
            | Self::Flows {}
            | Self::Ping { .. }
            | Self::Explain { .. }
            | Self::Whois { .. }
            | Self::Resolve { .. }
            | Self::Certificate {} => Access::Read,
            Self::Renew {} | Self::TakeCertificate { .. } | Self::Down {} | Self::Leave { .. } => {
                Access::Change
            }
        }
    }
}

/// One line from the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The answer, or why there is none.
    pub(crate) outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// As asked.
    Answer(Answer),
    /// Not as asked.
    Refusal(Refusal),
}

impl From<Result<Answer, Refusal>> for Outcome {
    fn from(result: Result<Answer, Refusal>) -> Self {
        result.map_or_else(Self::Refusal, Self::Answer)
    }
}

/// The answers, by request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Peers`].
    Peers(Peers),
    /// To [`Request::Denied`].
    Denied(Denials),
    /// To [`Request::Flows`].
    Flows(Flows),
    /// To [`Request::Ping`].
    Ping(Ping),
    /// To [`Request::Explain`].
    Explain(Box<Explained>),
    /// To [`Request::Whois`] and [`Request::Resolve`].
    Whois(Whois),
    /// To [`Request::Certificate`].
    Certificate(CertificateView),
    /// To everything that changes something.
    Done {},
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// For programs.
    pub(crate) code: RefusalCode,
    /// For people: what is wrong and what to do.
    pub(crate) message: String,
}

impl Refusal {
    /// A no of this kind.
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefusalCode {
    /// The request is not understood.
    BadRequest,
    /// The caller may not.
    Denied,
    /// Nobody by that name or address whom this node may know.
    Unknown,
    /// The policy does not let this node talk to that one.
    NotPermitted,
    /// Too many at once; try again.
    Busy,
    /// It was tried and failed.
    Failed,
}

/// Everything about this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// `bulkhead.status/1`.
    pub(crate) schema: String,
    /// This node.
    pub(crate) node: NodeView,
    /// The link to the coordinator.
    pub(crate) coordinator: CoordinatorView,
    /// Policy generation in force.
    pub(crate) generation: u64,
    /// Revocation epoch in force.
    pub(crate) epoch: u64,
    /// Version of the trust document.
    pub(crate) trust_version: u64,
    /// Seconds until this node's certificate ends; 0: it has ended.
    pub(crate) certificate_left_secs: u64,
    /// The whole lifetime of the certificate in seconds.
    pub(crate) certificate_lifetime_secs: u64,
    /// How strictly the node is held. This release always enforces.
    pub(crate) stage: String,
    /// Peers the policy permits, by name.
    pub(crate) peers: Vec<PeerView>,
    /// What is wrong, with its remedy.
    pub(crate) warnings: Vec<Warning>,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeView {
    /// `NAME.<trust domain>`.
    pub(crate) name: String,
    /// Overlay addresses; `None` for a certificate without.
    pub(crate) addresses: Option<OverlayAddrs>,
    /// Start of the overlay's IPv4 range.
    pub(crate) overlay_v4: Ipv4Addr,
    /// Labels in force.
    pub(crate) labels: Labels,
    /// TUN interface.
    pub(crate) interface: String,
    /// WireGuard's UDP port.
    pub(crate) port: u16,
    /// Queues of the interface, each with a data thread.
    #[serde(default)]
    pub(crate) queues: usize,
    /// Where the resolver answers.
    pub(crate) resolvers: Vec<IpAddr>,
    /// Whether resolv.conf is ours to point at the resolver.
    pub(crate) write_resolv_conf: bool,
    /// Every offload, and how it stands.
    #[serde(default)]
    pub(crate) offloads: Vec<OffloadView>,
    /// Seconds since the daemon started.
    pub(crate) up_secs: u64,
    /// Version of the daemon.
    pub(crate) software: String,
}

/// One offload of the data path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OffloadView {
    /// Which.
    pub(crate) name: Offload,
    /// `state`, and `why` where it failed.
    #[serde(flatten)]
    pub(crate) position: Position,
}

/// The link to the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoordinatorView {
    /// `host:port` in use or last tried.
    pub(crate) address: Option<String>,
    /// Whether it has welcomed us.
    pub(crate) connected: bool,
    /// Seconds since it is so.
    pub(crate) since_secs: u64,
    /// Why the last attempt ended.
    pub(crate) last_error: Option<String>,
    /// Our clock minus the coordinator's.
    pub(crate) skew_secs: Option<i64>,
    /// Our address as the coordinator sees it.
    pub(crate) observed: Option<SocketAddr>,
}

/// One permitted peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerView {
    /// Its name.
    pub(crate) name: String,
    /// Its overlay addresses.
    pub(crate) addresses: OverlayAddrs,
    /// Its labels.
    pub(crate) labels: Labels,
    /// Whether we may open anything to it.
    pub(crate) outbound: bool,
    /// Whether it may open anything to us.
    pub(crate) inbound: bool,
    /// Where its datagrams go.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The largest packet that the path there is known to carry.
    pub(crate) mtu: u16,
    /// Last measured round trip.
    pub(crate) round_trip_us: Option<u64>,
    /// Seconds since the last handshake.
    pub(crate) handshake_secs: Option<u64>,
    /// Whether it was asked for a sign of life just now, and gave none.
    pub(crate) unanswered: bool,
    /// Bytes sent to it.
    pub(crate) tx_bytes: u64,
    /// Bytes received from it.
    pub(crate) rx_bytes: u64,
    /// Seconds until its certificate ends.
    pub(crate) certificate_left_secs: u64,
}

/// Permitted peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peers {
    /// `bulkhead.peers/1`.
    pub(crate) schema: String,
    /// By name.
    pub(crate) peers: Vec<PeerView>,
}

/// Who is not a peer although the map names it, and what the filter dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Denials {
    /// `bulkhead.denied/1`.
    pub(crate) schema: String,
    /// Entries of the map that are no peers, by name.
    pub(crate) entries: Vec<Denial>,
    /// Packets to and from permitted peers that were refused; only where there were any.
    pub(crate) by_peer: BTreeMap<String, u64>,
    /// Packets dropped since the start, by reason; only reasons that occurred.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// One map entry that is no peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Denial {
    /// The name the map gives it; not verified.
    pub(crate) name: String,
    /// Why it is no peer.
    pub(crate) why: String,
}

/// Live flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flows {
    /// `bulkhead.flows/1`.
    pub(crate) schema: String,
    /// How many there are.
    pub(crate) total: usize,
    /// The first [`MAX_FLOWS_SHOWN`] of them, by peer, service and addresses.
    pub(crate) flows: Vec<FlowView>,
}

/// One live flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlowView {
    /// Who opened it.
    pub(crate) from: String,
    /// To whom.
    pub(crate) to: String,
    /// The service that the policy was asked for.
    pub(crate) service: String,
    /// Our end.
    pub(crate) local: SocketAddr,
    /// The peer's end.
    pub(crate) remote: SocketAddr,
    /// `opening`, `established` or `closing`.
    pub(crate) state: String,
    /// The rule that permits it.
    pub(crate) rule: String,
    /// The generation it was last judged under.
    pub(crate) generation: u64,
    /// Bytes we sent.
    pub(crate) tx_bytes: u64,
    /// Bytes we delivered.
    pub(crate) rx_bytes: u64,
    /// Seconds since its first packet.
    pub(crate) age_secs: u64,
    /// Seconds since its last packet.
    pub(crate) idle_secs: u64,
}

/// The outcome of one echo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// The peer's name.
    pub(crate) name: String,
    /// Its overlay addresses.
    pub(crate) addresses: OverlayAddrs,
    /// Where it was sent.
    pub(crate) endpoint: Option<SocketAddr>,
    /// `None`: no answer in time.
    pub(crate) round_trip_us: Option<u64>,
}

/// The verdicts on one service between this node and a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// `bulkhead.explanation/1`.
    pub(crate) schema: String,
    /// Who opens.
    pub(crate) from: String,
    /// To whom.
    pub(crate) to: String,
    /// Which service.
    pub(crate) service: String,
    /// The generation we judged by.
    pub(crate) generation: u64,
    /// Our own verdict.
    pub(crate) ours: VerdictView,
    /// The peer's.
    pub(crate) theirs: PeerVerdict,
}

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VerdictView {
    /// Yes or no.
    pub(crate) allowed: bool,
    /// The rule that decided.
    pub(crate) rule: Option<String>,
    /// Its place, `file:line`.
    pub(crate) place: Option<String>,
    /// Every reason, a sentence each.
    pub(crate) reasons: Vec<String>,
}

/// What the peer said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum PeerVerdict {
    /// It answered.
    Answered {
        /// Yes or no.
        allowed: bool,
        /// The generation it judged by.
        generation: u64,
    },
    /// It did not answer in time.
    Silent {},
    /// It was not asked.
    NotAsked {
        /// Why not.
        why: String,
    },
}

/// Whose address it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Whois {
    /// `bulkhead.whois/1`.
    pub(crate) schema: String,
    /// The address asked about.
    pub(crate) address: IpAddr,
    /// `NAME.<trust domain>`.
    pub(crate) name: String,
    /// The SPIFFE ID.
    pub(crate) id: String,
    /// Its labels.
    pub(crate) labels: Labels,
    /// Whether it is this node.
    pub(crate) me: bool,
    /// Its overlay addresses.
    pub(crate) addresses: Option<OverlayAddrs>,
}

/// This node's certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CertificateView {
    /// `bulkhead.certificate/1`.
    pub(crate) schema: String,
    /// The SPIFFE ID.
    pub(crate) id: String,
    /// Serial number in hex.
    pub(crate) serial: String,
    /// Labels it certifies.
    pub(crate) labels: Labels,
    /// Overlay addresses it certifies.
    pub(crate) addresses: Option<OverlayAddrs>,
    /// Unix seconds.
    pub(crate) not_before: u64,
    /// Unix seconds.
    pub(crate) not_after: u64,
    /// Seconds left; 0: ended.
    pub(crate) left_secs: u64,
    /// Whether it is valid now under what the node holds.
    pub(crate) valid: bool,
    /// Fingerprint of the identity key, as `bulkheadctl node show` prints it.
    pub(crate) identity_fingerprint: String,
}

/// Something that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warning {
    /// For programs, stable.
    pub(crate) code: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Envelope, serde_json::Error> {
        serde_json::from_str(line)
    }

    #[test]
    fn a_request_survives_its_line() {
        let request = Request::Explain { name: "db".into(), service: "tcp/5432".into(), inbound: false };
        let line = serde_json::to_string(&Envelope { version: VERSION, request: request.clone() }).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(parse(&line).unwrap().request, request);
    }

    #[test]
    fn unknown_fields_and_verbs_are_refused() {
        parse(r#"{"version":1,"request":{"verb":"peers"}}"#).unwrap();
        for line in [
            r#"{"version":1,"request":{"verb":"peers","as":"root"}}"#,
            r#"{"version":1,"request":{"verb":"obey"}}"#,
            r#"{"version":1,"uid":0,"request":{"verb":"status"}}"#,
            r#"{"version":1}"#,
        ] {
            parse(line).unwrap_err();
        }
    }
}
