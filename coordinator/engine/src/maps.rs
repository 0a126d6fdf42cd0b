//! Peer maps. A map is made of entries, and one function says what of a peer is seen; what is sent is the whole
//! map, or the difference between it and the last one sent on the same link. When one node changes, only its
//! entry is looked at in each map. A revoked node is in no map.

use crate::command::ConnectionId;
use crate::coordinator::Coordinator;
use crate::effect::Effects;
use crate::links::Links;
use crate::reach::{Changed, Reach};
use crate::timing::MAP_INTERVAL;
use bulkhead_identity::{NodeName, Now, Timestamp};
use bulkhead_protocol::control::{MAX_MAP_PEERS, MapPeer, MapSequence, PeerMap, ToNode};
use bulkhead_protocol::frame::MAX_FRAME_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// An update with more bytes of peers than this is sent in several, so that each fits a frame.
pub(crate) const MAX_UPDATE_BYTES: usize = MAX_FRAME_BYTES / 2;
/// What a peer costs on the wire beside its certificates: name, endpoints, framing.
const PEER_OVERHEAD_BYTES: usize = 512;

type Peers = BTreeMap<NodeName, Arc<MapPeer>>;

/// More changes than this to one map are looked up as a whole.
const MAX_PATCH: usize = 1024;

/// What maps are made of, and which are out of date.
#[derive(Default)]
pub(crate) struct Maps {
    /// Every active node as its peers see it.
    entries: Peers,
    /// Nodes whose whole map may have changed.
    whole: BTreeSet<NodeName>,
    /// By node, the peers whose entry in its map may have changed.
    changed: BTreeMap<NodeName, BTreeSet<NodeName>>,
    sequence: u64,
    flushed: Option<Duration>,
    /// Certificates that had ended by then are off the maps.
    expired: Timestamp,
}

/// A life of the coordinator begins this much further on per second, so that no two lives number their maps alike: a
/// receipt names one map of one life.
const SEQUENCES_PER_SECOND: u64 = 1 << 20;

impl Maps {
    /// Without maps yet.
    pub(crate) fn starting(now: Now) -> Self {
        Self { sequence: now.wall.0.saturating_mul(SEQUENCES_PER_SECOND), ..Self::default() }
    }

    /// What those who may talk to `name` see of it is out of date. Nodes without a link get a whole map when
    /// they return.
    pub(crate) fn mark_peers(&mut self, reach: &Reach, links: &Links, name: &NodeName) {
        for viewer in reach.peers(name).filter(|viewer| links.is_connected(viewer)) {
            match self.changed.get_mut(viewer) {
                Some(changed) => drop(changed.insert(name.clone())),
                None => drop(self.changed.insert(viewer.clone(), BTreeSet::from([name.clone()]))),
            }
        }
    }

    /// Nodes gained or lost peers, and nothing else about their maps changed.
    pub(crate) fn mark_changed(&mut self, links: &Links, Changed { nodes, peers }: &Changed<'_>) {
        for viewer in nodes.iter().filter(|viewer| links.is_connected(viewer)) {
            if peers.len() > MAX_PATCH {
                self.mark(viewer);
            } else {
                let changed = self.changed.entry(NodeName::clone(viewer)).or_default();
                changed.extend(peers.iter().copied().cloned());
            }
        }
    }

    /// The whole map of `name` is out of date.
    pub(crate) fn mark(&mut self, name: &NodeName) {
        self.whole.insert(name.clone());
    }

    pub(crate) fn remove(&mut self, name: &NodeName) {
        self.entries.remove(name);
        self.whole.remove(name);
        self.changed.remove(name);
    }

    /// When the next flush is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        let idle = self.whole.is_empty() && self.changed.is_empty();
        (!idle).then(|| self.flushed.map_or(Duration::ZERO, |flushed| flushed + MAP_INTERVAL))
    }

    fn next_sequence(&mut self) -> MapSequence {
        self.sequence += 1;
        MapSequence(self.sequence)
    }
}

impl Coordinator {
    /// The complete map of one node.
    pub(crate) fn map_of(&self, name: &NodeName, now: Now) -> Peers {
        let peers = self.reach.peers(name).filter_map(|peer| Some((peer.clone(), self.entry_of(peer, now)?)));
        peers.take(MAX_MAP_PEERS).collect()
    }

    /// What a node that may talk to `peer` sees of it. Every map, whole or patched, is made of these.
    fn entry_of(&self, peer: &NodeName, now: Now) -> Option<Arc<MapPeer>> {
        let node = self.state.nodes.get(peer)?;
        let admitted = node.is_active() && node.certificate.not_after > now.wall;
        admitted.then(|| self.maps.entries.get(peer).cloned()).flatten()
    }

    /// Renews the entry of an active node and marks every map that it is in.
    pub(crate) fn refresh(&mut self, name: &NodeName) {
        self.refresh_entry(name);
        self.mark_peers(name);
    }

    /// What those who may talk to `name` see of it is out of date.
    pub(crate) fn mark_peers(&mut self, name: &NodeName) {
        self.maps.mark_peers(&self.reach, &self.links, name);
    }

    /// `name` moved to another group: its own map changed by the peers that it gained or lost.
    pub(crate) fn mark_moved(&mut self, name: &NodeName, before: &BTreeSet<usize>) {
        let peers = self.reach.peers_changed_since(before, name).collect();
        self.maps.mark_changed(&self.links, &Changed { nodes: vec![name], peers });
    }

    pub(crate) fn refresh_entry(&mut self, name: &NodeName) {
        let Some(node) = self.state.nodes.get(name).filter(|node| node.is_active()) else { return };
        let endpoints = self.links.seen(name).map(|seen| seen.endpoints.clone()).unwrap_or_default();
        let peer = MapPeer { name: name.clone(), chain: node.certificate.chain.clone(), endpoints };
        self.maps.entries.insert(name.clone(), Arc::new(peer));
    }

    /// Takes nodes off the maps whose certificates have ended.
    pub(crate) fn expire_maps(&mut self, now: Now) {
        let since = std::mem::replace(&mut self.maps.expired, now.wall);
        let ended = |end: Timestamp| since < end && end <= now.wall;
        for node in self.state.nodes.values().filter(|node| ended(node.certificate.not_after)) {
            self.maps.mark_peers(&self.reach, &self.links, &node.name);
        }
    }

    /// Sends what is due; the rest waits for the next tick.
    pub(crate) fn flush_due_maps(&mut self, now: Now, effects: &mut Effects) {
        if self.maps.due().is_some_and(|due| now.mono >= due) {
            self.flush_maps(now, effects);
        }
    }

    /// Brings every marked link up to date.
    pub(crate) fn flush_maps(&mut self, now: Now, effects: &mut Effects) {
        let whole = std::mem::take(&mut self.maps.whole);
        let mut changed = std::mem::take(&mut self.maps.changed);
        self.maps.flushed = Some(now.mono);
        changed.retain(|name, _| !whole.contains(name));
        for (name, peers) in changed {
            match self.links.followed_by(&name) {
                Some(link) if peers.len() <= MAX_PATCH => self.patch_map(link, &name, &peers, now, effects),
                Some(link) => self.send_map(link, &name, now, effects),
                None => {}
            }
        }
        for name in whole {
            if let Some(link) = self.links.followed_by(&name) {
                self.send_map(link, &name, now, effects);
            }
        }
    }

    /// Brings one link up to date, looking at its whole map.
    pub(crate) fn send_map(
        &mut self,
        connection: ConnectionId,
        name: &NodeName,
        now: Now,
        effects: &mut Effects,
    ) {
        let peers = self.map_of(name, now);
        let Some(link) = self.links.link_mut(connection) else { return };
        if link.sent.as_ref().is_some_and(|sent| sent.peers == peers) {
            return;
        }
        for peers in steps(link.sent.as_ref(), &peers) {
            let next = PeerMap { sequence: self.maps.next_sequence(), peers };
            let update = link.sent.as_ref().map_or_else(|| next.snapshot(), |sent| sent.diff(&next));
            effects.send(connection, ToNode::Map(update));
            link.sent = Some(next);
        }
    }

    /// Brings one link up to date, looking at these peers only.
    fn patch_map(
        &mut self,
        connection: ConnectionId,
        name: &NodeName,
        peers: &BTreeSet<NodeName>,
        now: Now,
        effects: &mut Effects,
    ) {
        let seen = |peer: &NodeName| self.reach.joins(name, peer).then(|| self.entry_of(peer, now)).flatten();
        let changes: Vec<_> = peers.iter().map(|peer| (peer.clone(), seen(peer))).collect();
        let room = |sent: &PeerMap| sent.peers.len() + changes.len() <= MAX_MAP_PEERS;
        let link = self.links.link_mut(connection);
        let Some(sent) = link.and_then(|link| link.sent.as_mut()).filter(|sent| room(sent)) else {
            return self.send_map(connection, name, now, effects);
        };
        if let Some(update) = sent.patch(self.maps.next_sequence(), changes) {
            effects.send(connection, ToNode::Map(update));
        }
    }
}

/// The maps on the way from `from` to `to`, `to` being the last, such that no two differ by more than
/// [`MAX_UPDATE_BYTES`]. What goes, goes at the first step.
fn steps(from: Option<&PeerMap>, to: &Peers) -> Vec<Peers> {
    let mut current = from.map(|map| map.peers.clone()).unwrap_or_default();
    current.retain(|name, _| to.contains_key(name));
    let (mut steps, mut bytes) = (Vec::new(), 0);
    for (name, peer) in to {
        if current.get(name) == Some(peer) {
            continue;
        }
        let size = PEER_OVERHEAD_BYTES + peer.chain.certificates().iter().map(|der| der.len()).sum::<usize>();
        if bytes > 0 && bytes + size > MAX_UPDATE_BYTES {
            steps.push(current.clone());
            bytes = 0;
        }
        current.insert(name.clone(), peer.clone());
        bytes += size;
    }
    steps.push(current);
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_identity::Chain;

    fn peers(count: usize, bytes: usize) -> Peers {
        let peer = |number| {
            let name = NodeName::parse(&format!("n{number}")).unwrap();
            let chain = Chain::new(vec![vec![1; bytes]]).unwrap();
            (name.clone(), Arc::new(MapPeer { name, chain, endpoints: Vec::new() }))
        };
        (0..count).map(peer).collect()
    }

    #[test]
    fn a_large_map_is_sent_in_steps_that_fit_and_lead_to_it() {
        let target = peers(1500, 12_000);
        let all = steps(None, &target);
        assert_eq!(all.len(), 3);
        let mut held = PeerMap::default();
        for (sequence, peers) in (1..).zip(all) {
            let next = PeerMap { sequence: MapSequence(sequence), peers };
            let update = if sequence == 1 { next.snapshot() } else { held.diff(&next) };
            assert!(bulkhead_protocol::frame::encode(&ToNode::Map(update.clone())).is_ok());
            held = held.apply(update).unwrap();
        }
        assert_eq!(held.peers, target);
    }

    #[test]
    fn a_small_map_is_one_step_even_when_empty() {
        assert_eq!(steps(None, &Peers::new()), [Peers::new()]);
        assert_eq!(steps(None, &peers(3, 100)), [peers(3, 100)]);
    }
}
