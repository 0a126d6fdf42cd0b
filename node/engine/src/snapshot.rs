//! Who is who, as the data threads see it: immutable, replaced whole by
//! [`Engine::apply`](crate::Engine::apply).
//!
//! A snapshot only leads to a peer. Whether the peer may still exchange packets is decided behind its lock,
//! so an old snapshot can lead to a removed peer but to no packet.

use crate::address::{in_v4, in_v6};
use crate::peer::Peer;
use bulkhead_identity::{NodeName, Now, OverlayAddrs, Timestamp, VerifiedIdentity};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// All permitted peers, and ourselves.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) me: Option<Me>,
    pub(crate) peers: BTreeMap<NodeName, Arc<Peer>>,
    // Below, for lookup only: their order reaches nothing.
    by_address: HashMap<IpAddr, Arc<Peer>>,
    by_key: HashMap<[u8; 32], Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
}

/// Ourselves, while we may talk to anyone.
pub(crate) struct Me {
    pub(crate) identity: VerifiedIdentity,
    pub(crate) addresses: OverlayAddrs,
    /// When the trust document or the policy ends, whichever is first; the certificate says its own end.
    pub(crate) until: Timestamp,
    /// The ranges of the mesh.
    pub(crate) overlay_v6: (Ipv6Addr, u8),
    pub(crate) overlay_v4: (Ipv4Addr, u8),
}

impl Me {
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        address == IpAddr::V6(self.addresses.v6) || address == IpAddr::V4(self.addresses.v4)
    }

    /// Whether a datagram sent there would come back into our own tunnel.
    pub(crate) fn is_overlay(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => in_v4(v4, self.overlay_v4),
            IpAddr::V6(v6) => in_v6(v6, self.overlay_v6),
        }
    }
}

impl Snapshot {
    pub(crate) fn new(me: Option<Me>, peers: BTreeMap<NodeName, Arc<Peer>>) -> Self {
        let mut snapshot = Self {
            me,
            peers: BTreeMap::new(),
            by_address: HashMap::with_capacity(2 * peers.len()),
            by_key: HashMap::with_capacity(peers.len()),
            by_index: HashMap::with_capacity(peers.len()),
        };
        for peer in peers.values() {
            let theirs = peer.pair.theirs;
            snapshot.by_address.insert(theirs.v6.into(), Arc::clone(peer));
            snapshot.by_address.insert(theirs.v4.into(), Arc::clone(peer));
            if let Some(key) = peer.lock().tunnel_key() {
                snapshot.by_key.insert(*key.as_bytes(), Arc::clone(peer));
            }
            snapshot.by_index.insert(peer.index, Arc::clone(peer));
        }
        snapshot.peers = peers;
        snapshot
    }

    /// Ourselves, if our certificate, the policy and the trust document are all valid now.
    pub(crate) fn me_at(&self, now: Now) -> Option<&Me> {
        self.me.as_ref().filter(|me| me.identity.valid_at(now.wall) && now.wall < me.until)
    }

    /// When our certificate, the policy or the trust document ends; never, if that is over.
    pub(crate) fn end_of_me(&self, now: Now) -> Timestamp {
        self.me_at(now).map_or(Timestamp(u64::MAX), |me| me.until.min(me.identity.not_after()))
    }

    pub(crate) fn by_address(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_address.get(&address)
    }

    pub(crate) fn by_key(&self, key: &[u8; 32]) -> Option<&Arc<Peer>> {
        self.by_key.get(key)
    }

    pub(crate) fn by_index(&self, index: u32) -> Option<&Arc<Peer>> {
        self.by_index.get(&index)
    }
}
