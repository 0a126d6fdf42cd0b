//! The flows with one peer. Only a flow that the policy let somebody open lets packets through the other way.
//!
//! The property: every flow remembers the direction in which it was opened, and the generation under which it
//! was judged; nobody's flow is ever pushed out by another's. Each peer has a share of its own in each
//! direction, so neither a flood from a peer nor one to it stands in the way of what goes the other way.
//!
//! There is no window tracking: both addresses of a flow are certified, so only its own two ends could forge
//! a segment.

use crate::Reason;
use crate::limits::{
    ECHO, RESERVED_FLOWS_PER_PEER, SWEEP_AT_MOST, TCP_CLOSING, TCP_ESTABLISHED, TCP_OPENING, UDP_ANSWERED,
    UDP_UNANSWERED,
};
use crate::status::{FlowState, Traffic};
use crate::tcp::Segments;
use bulkhead_acl::{Direction, RuleId, Service};
use bulkhead_identity::Generation;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Which way a packet goes; who opened its flow is a [`Direction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From our host to the peer.
    Out,
    /// From the peer to our host.
    In,
}

impl Way {
    /// The direction of a flow that this packet opens.
    pub(crate) fn opens(self) -> Direction {
        match self {
            Self::Out => Direction::Outbound,
            Self::In => Direction::Inbound,
        }
    }
}

/// What tells the flows with one peer apart. The addresses do not: we and the peer have one of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FlowKey {
    pub(crate) v6: bool,
    pub(crate) protocol: u8,
    /// Echo only: who asks. Both sides choose identifiers, and may choose the same.
    pub(crate) asker: Option<Direction>,
    /// Our port, or the identifier of an echo we sent.
    pub(crate) local: u16,
    /// The peer's port, or the identifier of an echo it sent.
    pub(crate) remote: u16,
}

/// One flow.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) direction: Direction,
    pub(crate) service: Service,
    pub(crate) state: FlowState,
    pub(crate) generation: Generation,
    pub(crate) rule: RuleId,
    pub(crate) segments: Segments,
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Flow {
    pub(crate) fn is_expired(&self, mono: Duration) -> bool {
        mono.saturating_sub(self.last) > self.timeout()
    }

    /// Counts packets and keeps the flow alive.
    pub(crate) fn saw(&mut self, way: Way, traffic: Traffic, mono: Duration) {
        match way {
            Way::Out => self.sent.add(traffic),
            Way::In => self.received.add(traffic),
        }
        self.last = mono;
    }

    fn timeout(&self) -> Duration {
        match (self.service, self.state) {
            (Service::Tcp(_), FlowState::Opening) => TCP_OPENING,
            (Service::Tcp(_), FlowState::Established) => TCP_ESTABLISHED,
            (Service::Tcp(_), FlowState::Closing) => TCP_CLOSING,
            (Service::Echo, _) => ECHO,
            (Service::Udp(_) | Service::Sctp(_) | Service::Ip(_), FlowState::Opening) => UDP_UNANSWERED,
            (
                Service::Udp(_) | Service::Sctp(_) | Service::Ip(_),
                FlowState::Established | FlowState::Closing,
            ) => UDP_ANSWERED,
        }
    }
}

/// The number of flows with all peers, and the bounds.
#[derive(Debug)]
pub(crate) struct FlowBudget {
    used: AtomicUsize,
    max: usize,
    max_per_peer: usize,
}

impl FlowBudget {
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Self {
        Self { used: AtomicUsize::new(0), max, max_per_peer }
    }
}

/// The flows with one peer.
#[derive(Debug)]
pub(crate) struct FlowTable {
    flows: HashMap<FlowKey, Flow>,
    inbound: usize,
    outbound: usize,
    swept: Duration,
    budget: Arc<FlowBudget>,
}

impl FlowTable {
    pub(crate) fn new(budget: Arc<FlowBudget>) -> Self {
        Self { flows: HashMap::new(), inbound: 0, outbound: 0, swept: Duration::ZERO, budget }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FlowKey, &Flow)> {
        self.flows.iter()
    }

    pub(crate) fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.flows.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.flows.get_mut(key)
    }

    /// Adds a flow, in the place of one with the same key.
    pub(crate) fn insert(&mut self, key: FlowKey, flow: Flow) -> Result<(), Reason> {
        self.remove(&key);
        if self.is_full(flow.direction) {
            self.sweep_each(SWEEP_AT_MOST, flow.last);
        }
        if self.is_full(flow.direction) {
            return Err(Reason::FlowLimit);
        }
        *self.count_of(flow.direction) += 1;
        self.budget.used.fetch_add(1, Ordering::Relaxed);
        self.flows.insert(key, flow);
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: &FlowKey) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        *self.count_of(flow.direction) -= 1;
        self.budget.used.fetch_sub(1, Ordering::Relaxed);
        Some(flow)
    }

    /// Keeps the flows that `keep` says; for those it does not, it was the last to see them.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&FlowKey, &mut Flow) -> bool) {
        let (mut inbound, mut outbound) = (0, 0);
        self.flows.retain(|key, flow| {
            let kept = keep(key, flow);
            match flow.direction {
                Direction::Inbound => inbound += usize::from(kept),
                Direction::Outbound => outbound += usize::from(kept),
            }
            kept
        });
        let gone = self.inbound + self.outbound - inbound - outbound;
        self.budget.used.fetch_sub(gone, Ordering::Relaxed);
        (self.inbound, self.outbound) = (inbound, outbound);
    }

    /// Forgets flows whose time is over, and the memory when there are none left.
    fn sweep(&mut self, mono: Duration) {
        self.swept = mono;
        self.retain(|_, flow| !flow.is_expired(mono));
        if self.flows.is_empty() && self.flows.capacity() > 0 {
            self.flows = HashMap::new();
        }
    }

    /// The same, if the last time is `interval` ago.
    pub(crate) fn sweep_each(&mut self, interval: Duration, mono: Duration) {
        if mono.saturating_sub(self.swept) >= interval {
            self.sweep(mono);
        }
    }

    fn is_full(&mut self, direction: Direction) -> bool {
        let used = self.budget.used.load(Ordering::Relaxed);
        let (max, max_per_peer) = (self.budget.max, self.budget.max_per_peer);
        let count = *self.count_of(direction);
        count >= max_per_peer || (used >= max && count >= RESERVED_FLOWS_PER_PEER)
    }

    fn count_of(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        }
    }
}

impl Drop for FlowTable {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.flows.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(local: u16) -> FlowKey {
        FlowKey { v6: false, protocol: 17, asker: None, local, remote: 53 }
    }

    fn flow(direction: Direction, last: Duration) -> Flow {
        Flow {
            direction,
            service: Service::Udp(53),
            state: FlowState::Opening,
            generation: Generation(1),
            rule: RuleId("test".into()),
            segments: Segments::default(),
            sent: Traffic::default(),
            received: Traffic::default(),
            first: last,
            last,
        }
    }

    #[test]
    fn a_flood_one_way_fills_its_own_share_and_no_other() {
        let budget = Arc::new(FlowBudget::new(1000, 100));
        let mut table = FlowTable::new(Arc::clone(&budget));
        let at = Duration::from_secs(10);
        let refused =
            (0..500).filter(|&port| table.insert(key(port), flow(Direction::Inbound, at)).is_err()).count();
        assert_eq!((refused, table.len()), (400, 100));
        table.insert(key(1000), flow(Direction::Outbound, at)).unwrap();
        assert!(table.get(&key(0)).is_some(), "nothing was pushed out");
        // Expired ones make room.
        table.insert(key(600), flow(Direction::Inbound, at + UDP_UNANSWERED * 2)).unwrap();
        assert_eq!(table.len(), 1);
        drop(table);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn when_all_are_full_every_peer_still_has_its_reserve() {
        let budget = Arc::new(FlowBudget::new(100, 100));
        let at = Duration::from_secs(10);
        let mut hog = FlowTable::new(Arc::clone(&budget));
        (0..100).for_each(|port| hog.insert(key(port), flow(Direction::Inbound, at)).unwrap());
        let mut other = FlowTable::new(budget);
        let admitted =
            (0..200).filter(|&port| other.insert(key(port), flow(Direction::Inbound, at)).is_ok()).count();
        assert_eq!(admitted, RESERVED_FLOWS_PER_PEER);
    }
}
