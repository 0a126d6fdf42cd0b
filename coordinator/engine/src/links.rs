//! The control links that are up, and what was last seen of each node. Nothing here outlives the process, and
//! nothing here grants anything: the registry decides, links only carry.

use crate::ConnectionId;
use crate::challenge::Open;
use crate::timing::{RENEWAL_BURST, RENEWAL_INTERVAL};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::{Epoch, Generation, NodeName, Now, Timestamp};
use bulkhead_protocol::control::{Endpoint, MapSequence, PeerMap, Receipt};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Generations for which a link remembers the map that goes with them; a node that is further behind proves the
/// later ones only.
const MAX_PROOFS: usize = 16;

/// What a node says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) trust_version: Epoch,
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
}

impl Held {
    /// Whether a coordinator with `ours` must have forgotten something.
    pub(crate) fn is_ahead_of(self, ours: Self) -> bool {
        self.trust_version > ours.trust_version
            || self.generation > ours.generation
            || self.epoch > ours.epoch
    }
}

/// One control link.
pub(crate) struct Link {
    pub(crate) name: NodeName,
    pub(crate) observed: SocketAddr,
    /// Of the certificate the link was made with.
    pub(crate) serial: Serial,
    /// `None` before `Hello`.
    pub(crate) held: Option<Held>,
    /// It holds newer documents than we have.
    pub(crate) ahead: bool,
    /// Nothing may be pushed to it: it is ahead, or we were restored and nobody has accepted that.
    pub(crate) set_aside: bool,
    /// Its certificate had ended when the link was made, and is not renewed yet: nothing but a renewal is served.
    pub(crate) expired: bool,
    /// The last map sent; `None` asks for a snapshot.
    pub(crate) sent: Option<PeerMap>,
    /// The map that went with each generation, oldest first.
    pub(crate) proofs: Vec<(Generation, MapSequence)>,
    /// A renewal under way.
    pub(crate) challenge: Option<Open>,
}

impl Link {
    /// Whether documents and maps are for it.
    pub(crate) fn is_served(&self) -> bool {
        self.held.is_some() && !self.set_aside && !self.expired
    }

    /// Whoever enforces `generation` on this link also holds the map sent last.
    pub(crate) fn prove_by_map(&mut self, generation: Generation) {
        let Some(sent) = &self.sent else { return };
        self.proofs.retain(|(earlier, _)| *earlier < generation);
        self.proofs.push((generation, sent.sequence));
        if self.proofs.len() > MAX_PROOFS {
            self.proofs.remove(0);
        }
    }

    /// The generation that a receipt proves: policy and map, both sent on this link. A policy alone lets nobody
    /// new in as long as the map before it is in force.
    pub(crate) fn proved(&self, receipt: &Receipt) -> Option<Generation> {
        let sent = self.sent.as_ref()?;
        let covers = |(generation, map): &&(Generation, MapSequence)| {
            *generation <= receipt.generation && (*map..=sent.sequence).contains(&receipt.map)
        };
        self.proofs.iter().rev().find(covers).map(|(generation, _)| *generation)
    }
}

/// What was last seen of a node, also after its link ended.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) last: Timestamp,
    pub(crate) observed: SocketAddr,
    pub(crate) endpoints: Vec<Endpoint>,
    budget: Budget,
}

/// Renewals a node may still make: a bucket that fills by one each [`RENEWAL_INTERVAL`].
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: u32,
    since: Duration,
}

impl Budget {
    fn spend(&mut self, now: Now) -> bool {
        let intervals = now.mono.saturating_sub(self.since).as_secs() / RENEWAL_INTERVAL.as_secs();
        if let Ok(gained @ 1..) = u32::try_from(intervals) {
            self.left = self.left.saturating_add(gained).min(RENEWAL_BURST);
            self.since = now.mono;
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}

/// All links, by connection and by node. A node has at most one.
#[derive(Default)]
pub(crate) struct Links {
    by_connection: BTreeMap<ConnectionId, Link>,
    by_name: BTreeMap<NodeName, ConnectionId>,
    seen: BTreeMap<NodeName, Seen>,
}

impl Links {
    /// Takes up a new link; returns the one of the same node that it replaces.
    pub(crate) fn connect(&mut self, connection: ConnectionId, link: Link, now: Now) -> Option<ConnectionId> {
        let replaced = self.by_name.insert(link.name.clone(), connection);
        if let Some(replaced) = replaced {
            self.by_connection.remove(&replaced);
        }
        let fresh = Seen {
            last: now.wall,
            observed: link.observed,
            endpoints: Vec::new(),
            budget: Budget { left: RENEWAL_BURST, since: now.mono },
        };
        let seen = self.seen.entry(link.name.clone()).or_insert(fresh);
        (seen.last, seen.observed) = (now.wall, link.observed);
        self.by_connection.insert(connection, link);
        replaced
    }

    /// Drops a link, if it is still the one of its node.
    pub(crate) fn disconnect(&mut self, connection: ConnectionId) {
        let Some(link) = self.by_connection.remove(&connection) else { return };
        if self.by_name.get(&link.name) == Some(&connection) {
            self.by_name.remove(&link.name);
        }
    }

    /// The node is gone from the registry.
    pub(crate) fn forget(&mut self, name: &NodeName) {
        self.seen.remove(name);
        if let Some(connection) = self.by_name.remove(name) {
            self.by_connection.remove(&connection);
        }
    }

    pub(crate) fn link(&self, connection: ConnectionId) -> Option<&Link> {
        self.by_connection.get(&connection)
    }

    pub(crate) fn link_mut(&mut self, connection: ConnectionId) -> Option<&mut Link> {
        self.by_connection.get_mut(&connection)
    }

    /// See [`Link::prove_by_map`], for every link that follows us.
    pub(crate) fn prove_by_maps(&mut self, generation: Generation) {
        for link in self.by_connection.values_mut().filter(|link| link.is_served()) {
            link.prove_by_map(generation);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Link)> {
        self.by_connection.iter_mut().map(|(connection, link)| (*connection, link))
    }

    /// The links that said `Hello`, follow us, and have a certificate that counts.
    pub(crate) fn following(&self) -> impl Iterator<Item = (ConnectionId, &NodeName)> {
        let following = self.by_connection.iter().filter(|(_, link)| link.is_served());
        following.map(|(connection, link)| (*connection, &link.name))
    }

    /// The links that said `Hello`, whatever else may be sent over them.
    pub(crate) fn greeted(&self) -> impl Iterator<Item = (ConnectionId, &NodeName)> {
        let greeted = self.by_connection.iter().filter(|(_, link)| link.held.is_some());
        greeted.map(|(connection, link)| (*connection, &link.name))
    }

    /// The link of `name`, if it is one of [`Self::following`].
    pub(crate) fn followed_by(&self, name: &NodeName) -> Option<ConnectionId> {
        let connection = self.by_name.get(name)?;
        self.by_connection.get(connection).is_some_and(Link::is_served).then_some(*connection)
    }

    /// How many links hold newer documents than ours, and how many said what they hold.
    pub(crate) fn ahead(&self) -> (usize, usize) {
        let greeted = self.by_connection.values().filter(|link| link.held.is_some());
        let (mut ahead, mut all) = (0, 0);
        for link in greeted {
            all += 1;
            ahead += usize::from(link.ahead);
        }
        (ahead, all)
    }

    /// How many nodes hold an older trust document than this version.
    pub(crate) fn behind(&self, version: Epoch) -> usize {
        let held = self.by_connection.values().filter_map(|link| link.held);
        held.filter(|held| held.trust_version < version).count()
    }

    pub(crate) fn connection(&self, name: &NodeName) -> Option<ConnectionId> {
        self.by_name.get(name).copied()
    }

    /// The nodes that have a link, whatever may be sent over it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.by_name.keys()
    }

    pub(crate) fn is_connected(&self, name: &NodeName) -> bool {
        self.by_name.contains_key(name)
    }

    pub(crate) fn seen(&self, name: &NodeName) -> Option<&Seen> {
        self.seen.get(name)
    }

    pub(crate) fn touch(&mut self, name: &NodeName, now: Now) {
        if let Some(seen) = self.seen.get_mut(name) {
            seen.last = now.wall;
        }
    }

    /// Returns whether anything changed.
    pub(crate) fn set_endpoints(&mut self, name: &NodeName, endpoints: Vec<Endpoint>) -> bool {
        let Some(seen) = self.seen.get_mut(name) else { return false };
        let changed = seen.endpoints != endpoints;
        seen.endpoints = endpoints;
        changed
    }

    /// Whether `name` may renew once more now.
    pub(crate) fn spend_renewal(&mut self, name: &NodeName, now: Now) -> bool {
        self.seen.get_mut(name).is_some_and(|seen| seen.budget.spend(now))
    }
}
