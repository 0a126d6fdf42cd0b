//! What the engine tells about itself: peers, flows, and why something is or is not permitted.

use bulkhead_acl::{Direction, RuleId, Service};
use bulkhead_identity::{Generation, NodeName, VerifiedIdentity};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One permitted peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who it is: name, labels, addresses, validity.
    pub identity: VerifiedIdentity,
    /// Where data goes: the last address an authenticated datagram came from.
    pub endpoint: Option<SocketAddr>,
    /// The largest inner packet that the path there is known to carry.
    pub mtu: u16,
    /// Where it might be, as the coordinator says.
    pub candidates: Vec<SocketAddr>,
    /// Whether there are session keys now.
    pub connected: bool,
    /// Time since the last handshake, while there are session keys.
    pub last_handshake: Option<Duration>,
    /// Time since something authentic came from it.
    pub last_received: Option<Duration>,
    /// Inner packets and bytes sent to it.
    pub sent: Traffic,
    /// Inner packets and bytes from it that were delivered.
    pub received: Traffic,
    /// Packets to or from it that were refused.
    pub denied: u64,
    /// Live flows with it.
    pub flows: usize,
    /// The policy generation its permit was computed under.
    pub generation: Generation,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Inner IP packets.
    pub packets: u64,
    /// Bytes of those packets, headers included.
    pub bytes: u64,
}

impl Traffic {
    /// One packet.
    pub(crate) fn one(bytes: usize) -> Self {
        Self { packets: 1, bytes: bytes as u64 }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// Nobody has answered yet.
    Opening,
    /// Both sides have spoken.
    Established,
    /// TCP: a reset, or a FIN from both.
    Closing,
}

impl FlowState {
    /// The state as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

/// One live flow.
#[derive(Clone, Debug)]
pub struct FlowStatus {
    /// The other end.
    pub peer: NodeName,
    /// Who opened it.
    pub direction: Direction,
    /// What the policy was asked.
    pub service: Service,
    /// Our address, and port (0 where the protocol has none; an echo identifier we chose).
    pub local: (IpAddr, u16),
    /// The peer's address, and port (0 where the protocol has none; an echo identifier it chose).
    pub remote: (IpAddr, u16),
    /// How far it has come.
    pub state: FlowState,
    /// The generation it was last judged under.
    pub generation: Generation,
    /// The rule that permits it.
    pub rule: RuleId,
    /// What we sent.
    pub sent: Traffic,
    /// What we delivered.
    pub received: Traffic,
    /// Time since its first packet.
    pub age: Duration,
    /// Time since its last packet.
    pub idle: Duration,
}

/// Whether a service is permitted with a peer, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// A rule permits it.
    Allowed {
        /// The smallest id of those that match.
        rule: RuleId,
        /// The policy generation.
        generation: Generation,
    },
    /// We may talk to this peer, but not like this.
    Denied {
        /// The policy generation.
        generation: Generation,
    },
    /// We know nobody of that name whom the policy lets us talk to in any way.
    NotAPeer,
    /// The peer's certificate is not valid now.
    PeerExpired,
    /// Our own certificate, the policy or the trust document is not valid now.
    SelfExpired,
}
