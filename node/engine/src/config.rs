//! What a node may tune. Nothing here permits anything.

use crate::limits::{MAX_FLOWS, MAX_FLOWS_PER_PEER, MAX_MTU, MIN_MTU};
use std::time::Duration;

/// The engine's settings; the defaults suit every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The MTU of the TUN device, and the most that is sent on any path (1420 is what plain Ethernet carries);
    /// what a path really carries is found out for each. Held between [`MIN_MTU`] and [`MAX_MTU`].
    pub mtu: u16,
    /// How often an idle session is kept alive through NATs and firewalls; `None`: never.
    pub keepalive: Option<Duration>,
    /// For how long after the start the middle of a TCP flow that our host sends is taken up, because the
    /// flow may be older than this process. Inbound never.
    pub pickup: Duration,
    /// Flows of all peers; at most [`MAX_FLOWS`].
    pub max_flows: usize,
    /// Flows with one peer in one direction; at most [`MAX_FLOWS_PER_PEER`].
    pub max_flows_per_peer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: MIN_MTU,
            keepalive: None,
            pickup: Duration::from_secs(60),
            max_flows: MAX_FLOWS,
            max_flows_per_peer: MAX_FLOWS_PER_PEER,
        }
    }
}

impl Config {
    /// The same, with every number inside its limits.
    pub(crate) fn clamped(self) -> Self {
        Self {
            mtu: self.mtu.clamp(MIN_MTU, MAX_MTU),
            max_flows: self.max_flows.min(MAX_FLOWS),
            max_flows_per_peer: self.max_flows_per_peer.min(MAX_FLOWS_PER_PEER),
            ..self
        }
    }
}
