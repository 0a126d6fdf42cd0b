//! Peer maps and their differences. A delta is the difference of two whole maps, made by one function, and
//! applies to exactly the map it was made from; anything else is an error that asks for a snapshot.

use crate::bounded;
use crate::control::Endpoint;
use bulkhead_identity::{Chain, Issuers, NodeName};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Largest map a node accepts.
pub const MAX_MAP_PEERS: usize = 50_000;

/// Number of a node's map; only grows within one control link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct MapSequence(#[n(0)] pub u64);

/// One peer: name, certificate chain, endpoint hints. Only the chain is evidence.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MapPeer {
    /// The coordinator's name for it; the receiver takes the one in the certificate.
    #[n(0)]
    pub name: NodeName,
    /// Its certificate.
    #[n(1)]
    pub chain: Chain,
    /// Where it may be, most likely first.
    #[cbor(n(2), decode_with = "bounded::endpoints")]
    pub endpoints: Vec<Endpoint>,
}

/// A whole map, or the difference of two whole maps.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MapUpdate {
    /// The whole map.
    #[n(0)]
    Snapshot {
        /// Its number.
        #[n(0)]
        sequence: MapSequence,
        /// Every peer.
        #[cbor(n(1), decode_with = "bounded::peers")]
        peers: Vec<MapPeer>,
    },
    /// What leads from one map to the next.
    #[n(1)]
    Delta {
        /// The map it applies to.
        #[n(0)]
        base: MapSequence,
        /// The map it makes.
        #[n(1)]
        next: MapSequence,
        /// Peers that are gone.
        #[cbor(n(2), decode_with = "bounded::names")]
        removed: Vec<NodeName>,
        /// Peers that are new or differ, each complete.
        #[cbor(n(3), decode_with = "bounded::peers")]
        upserted: Vec<MapPeer>,
    },
}

/// A whole peer map by name. Peers are shared, so that maps of many nodes cost one copy of each peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerMap {
    /// Its number.
    pub sequence: MapSequence,
    /// Every peer.
    pub peers: BTreeMap<NodeName, Arc<MapPeer>>,
}

/// Why an update was not applied; the held map stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Something was missed: ask for a snapshot.
    #[error("delta is based on map {}, but map {} is held", .base.0, .held.0)]
    Gap {
        /// What the delta needs.
        base: MapSequence,
        /// What is held.
        held: MapSequence,
    },
    /// More than a node accepts.
    #[error("map of {0} peers exceeds MAX_MAP_PEERS")]
    TooMany(usize),
    /// An update that contradicts itself.
    #[error("peer {0} appears twice")]
    Twice(NodeName),
    /// A delta that contradicts its base.
    #[error("peer {0} is removed but not held")]
    Absent(NodeName),
}

impl PeerMap {
    /// The whole map as an update.
    #[must_use]
    pub fn snapshot(&self) -> MapUpdate {
        MapUpdate::Snapshot {
            sequence: self.sequence,
            peers: self.peers.values().map(|peer| MapPeer::clone(peer)).collect(),
        }
    }

    /// What leads from this map to `next`. The one function that makes deltas.
    #[must_use]
    pub fn diff(&self, next: &Self) -> MapUpdate {
        let removed = self.peers.keys().filter(|name| !next.peers.contains_key(*name)).cloned().collect();
        // `Arc` equality looks at the pointers first, so an unchanged peer costs nothing.
        let differs = |(name, peer): &(&NodeName, &Arc<MapPeer>)| self.peers.get(*name) != Some(*peer);
        let upserted = next.peers.iter().filter(differs).map(|(_, peer)| MapPeer::clone(peer)).collect();
        MapUpdate::Delta { base: self.sequence, next: next.sequence, removed, upserted }
    }

    /// Changes this map in place: each peer is put or, as `None`, taken away. Returns what [`Self::diff`] would
    /// say of before and after, at the cost of the changes alone, or `None` when nothing differs.
    pub fn patch(
        &mut self,
        sequence: MapSequence,
        changes: impl IntoIterator<Item = (NodeName, Option<Arc<MapPeer>>)>,
    ) -> Option<MapUpdate> {
        let (mut removed, mut upserted) = (Vec::new(), Vec::new());
        for (name, change) in changes {
            match change {
                None if self.peers.remove(&name).is_some() => removed.push(name),
                Some(peer) if self.peers.get(&name) != Some(&peer) => {
                    upserted.push(MapPeer::clone(&peer));
                    self.peers.insert(name, peer);
                }
                None | Some(_) => {}
            }
        }
        if removed.is_empty() && upserted.is_empty() {
            return None;
        }
        let base = std::mem::replace(&mut self.sequence, sequence);
        Some(MapUpdate::Delta { base, next: sequence, removed, upserted })
    }

    /// The map that `update` leads to.
    ///
    /// # Errors
    /// When the update does not fit this map or contradicts itself. `self` is untouched.
    pub fn apply(&self, update: MapUpdate) -> Result<Self, MapError> {
        match update {
            MapUpdate::Snapshot { sequence, peers } => {
                Self { sequence, peers: BTreeMap::new() }.with(peers, &self.peers)
            }
            MapUpdate::Delta { base, next, removed, upserted } => {
                if base != self.sequence {
                    return Err(MapError::Gap { base, held: self.sequence });
                }
                let mut map = Self { sequence: next, peers: self.peers.clone() };
                for name in removed {
                    if map.peers.remove(&name).is_none() {
                        return Err(MapError::Absent(name));
                    }
                }
                map.with(upserted, &self.peers)
            }
        }
    }

    /// Certificates that are held already are not kept twice.
    fn with(
        mut self,
        peers: Vec<MapPeer>,
        held: &BTreeMap<NodeName, Arc<MapPeer>>,
    ) -> Result<Self, MapError> {
        let mut seen = BTreeSet::new();
        let mut issuers = Issuers::default();
        held.values().for_each(|peer| issuers.note(&peer.chain));
        for mut peer in peers {
            if !seen.insert(peer.name.clone()) {
                return Err(MapError::Twice(peer.name));
            }
            peer.chain = match held.get(&peer.name) {
                Some(same) if same.chain == peer.chain => same.chain.clone(),
                Some(_) | None => issuers.share(peer.chain),
            };
            self.peers.insert(peer.name.clone(), Arc::new(peer));
        }
        if self.peers.len() > MAX_MAP_PEERS {
            return Err(MapError::TooMany(self.peers.len()));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn peer(name: &str, version: u8) -> MapPeer {
        MapPeer {
            name: NodeName::parse(name).unwrap(),
            chain: Chain::new(vec![vec![version; 8]]).unwrap(),
            endpoints: vec![Endpoint(([192, 0, 2, version], 51820).into())],
        }
    }

    /// A peer's leaf and its issuer's certificate.
    fn issued(name: usize, version: u8, issuer: u8) -> MapPeer {
        let name = NodeName::parse(&format!("n{name}")).unwrap();
        let chain = Chain::new(vec![vec![version; 8], vec![issuer; 8]]).unwrap();
        MapPeer { name, chain, endpoints: Vec::new() }
    }

    /// Copies of issuers' certificates in memory.
    fn copies(map: &PeerMap) -> usize {
        let issuers = map.peers.values().map(|peer| Arc::as_ptr(&peer.chain.certificates()[1]).addr());
        issuers.collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn issuers_are_kept_once_also_after_a_rotation_that_comes_peer_by_peer() {
        let peers = (0..50).map(|n| issued(n, 1, (n % 2) as u8)).collect();
        let sent = MapUpdate::Snapshot { sequence: MapSequence(1), peers };
        let received = update(&crate::frame::encode(&sent).unwrap()[crate::frame::HEADER_BYTES..]).unwrap();
        let mut map = PeerMap::default().apply(received).unwrap();
        assert_eq!(copies(&map), 2);
        for n in 0..50 {
            let (base, next) = (MapSequence(n as u64 + 1), MapSequence(n as u64 + 2));
            let upserted = vec![issued(n, 2, 2 + (n % 2) as u8)];
            map = map.apply(MapUpdate::Delta { base, next, removed: Vec::new(), upserted }).unwrap();
        }
        assert_eq!(copies(&map), 2);
    }

    fn map(sequence: u64, peers: &BTreeMap<u8, u8>) -> PeerMap {
        let peers = peers.iter().map(|(name, version)| peer(&format!("n{name}"), *version));
        PeerMap {
            sequence: MapSequence(sequence),
            peers: peers.map(|peer| (peer.name.clone(), Arc::new(peer))).collect(),
        }
    }

    fn update(body: &[u8]) -> Option<MapUpdate> {
        crate::frame::decode(body).ok()
    }

    proptest! {
        #[test]
        fn applying_a_difference_gives_the_next_map(
            old in proptest::collection::btree_map(0u8..40, 0u8..3, 0..30),
            new in proptest::collection::btree_map(0u8..40, 0u8..3, 0..30),
        ) {
            let (old, new) = (map(4, &old), map(5, &new));
            prop_assert_eq!(old.apply(old.diff(&new)).unwrap(), new.clone());
            prop_assert_eq!(old.apply(new.snapshot()).unwrap(), new);
        }

        #[test]
        fn a_patch_says_and_does_what_the_difference_says(
            old in proptest::collection::btree_map(0u8..20, 0u8..3, 0..15),
            changes in proptest::collection::btree_map(0u8..20, proptest::option::of(0u8..3), 0..15),
        ) {
            let mut new = old.clone();
            for (name, change) in &changes {
                match change {
                    Some(version) => drop(new.insert(*name, *version)),
                    None => drop(new.remove(name)),
                }
            }
            let (old, new) = (map(4, &old), map(5, &new));
            let named = |(name, version): (u8, Option<u8>)| {
                let name = format!("n{name}");
                (NodeName::parse(&name).unwrap(), version.map(|version| Arc::new(peer(&name, version))))
            };
            // In order of names, as a difference lists them.
            let changes: BTreeMap<_, _> = changes.into_iter().map(named).collect();
            let mut patched = old.clone();
            match patched.patch(MapSequence(5), changes) {
                Some(update) => {
                    prop_assert_eq!(update, old.diff(&new));
                    prop_assert_eq!(patched, new);
                }
                None => prop_assert_eq!(old.peers, new.peers),
            }
        }

        #[test]
        fn an_update_survives_the_wire(
            old in proptest::collection::btree_map(0u8..40, 0u8..3, 0..30),
            new in proptest::collection::btree_map(0u8..40, 0u8..3, 0..30),
        ) {
            for sent in [map(4, &old).diff(&map(5, &new)), map(5, &new).snapshot()] {
                prop_assert_eq!(update(&minicbor::to_vec(&sent).unwrap()), Some(sent));
            }
        }
    }

    #[test]
    fn a_difference_to_itself_is_empty() {
        let held = map(1, &BTreeMap::from([(1, 1), (2, 1)]));
        let MapUpdate::Delta { removed, upserted, .. } = held.diff(&held) else {
            panic!("diff makes deltas")
        };
        assert!(removed.is_empty() && upserted.is_empty());
    }

    #[test]
    fn a_delta_on_another_base_is_a_gap() {
        let (one, two) = (map(1, &BTreeMap::new()), map(2, &BTreeMap::from([(1, 1)])));
        let delta = one.diff(&two);
        assert!(matches!(two.apply(delta), Err(MapError::Gap { .. })));
    }

    #[test]
    fn an_update_that_contradicts_itself_is_refused() {
        let held = map(1, &BTreeMap::new());
        let twice = MapUpdate::Snapshot { sequence: MapSequence(2), peers: vec![peer("a", 1), peer("a", 2)] };
        assert!(matches!(held.apply(twice), Err(MapError::Twice(_))));
        let absent = MapUpdate::Delta {
            base: MapSequence(1),
            next: MapSequence(2),
            removed: vec![NodeName::parse("a").unwrap()],
            upserted: Vec::new(),
        };
        assert!(matches!(held.apply(absent), Err(MapError::Absent(_))));
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        // Snapshot whose peers claim to be an array of 2^60 elements.
        let body = [0x82, 0x00, 0x82, 0x01, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(update(&body), None);
    }

    #[test]
    fn more_names_than_the_limit_are_refused_while_decoding() {
        let name = NodeName::parse("a").unwrap();
        let removed = vec![name; MAX_MAP_PEERS + 1];
        let (base, next) = (MapSequence(1), MapSequence(2));
        let sent = MapUpdate::Delta { base, next, removed, upserted: Vec::new() };
        assert_eq!(update(&minicbor::to_vec(&sent).unwrap()), None);
    }
}
