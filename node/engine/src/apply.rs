//! From one world to the next: verify everyone, compute the permits, and change only what has to change.
//!
//! **Teardown law.** When [`Engine::apply`](crate::Engine::apply) has returned, no later output of the engine
//! carries a byte to or from a removed peer, and no packet that the new policy denies. It holds for threads
//! that still work with the former snapshot too, because the order is:
//!
//! 1. *removed*: each is marked dead under its own lock; whoever was inside has left, whoever comes later
//!    refuses;
//! 2. *changed*: each gets its new permit under its own lock, and every flow is judged again there and then;
//! 3. *added*: new peers exist only in the new snapshot, which is published last.
//!
//! What an earlier call had put into an [`Output`] before is the caller's: the engine has no way to call it
//! back. Who promises something to others after `apply` has to wait until those outputs are sent.

use crate::draw::Draw;
use crate::limits::{MAX_GREETINGS, MAX_PEERS};
use crate::path::Paths;
use crate::peer::{Pair, Peer, PeerState, Shared};
use crate::snapshot::{Me, Snapshot};
use crate::world::{Changes, PeerEntry, World};
use crate::{Output, Reason, address};
use bulkhead_acl::Permit;
use bulkhead_identity::{
    Chain, Claims, Generation, NodeName, Now, OverlayAddrs, Revocations, Role, TrustHash, TunnelPublicKey,
    VerifiedIdentity, VerifyError, verify,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// What only the control task needs: verified chains, and the numbers given to peers.
pub(crate) struct Control {
    cache: HashMap<Chain, VerifiedIdentity>,
    cached_under: Option<(TrustHash, Arc<Revocations>)>,
    indices: Draw,
}

/// A peer that shall be in the next snapshot.
struct Wanted {
    permit: Permit,
    paths: Paths,
}

impl Control {
    pub(crate) fn new(tunnel_secret: &[u8; 32], now: Now) -> Self {
        let indices = Draw::new(tunnel_secret, b"bulkhead peer indices v1", now);
        Self { cache: HashMap::new(), cached_under: None, indices }
    }

    /// The next snapshot. Peers of `old` that are not in it are ended, the others changed, before this
    /// returns.
    pub(crate) fn reconcile(
        &mut self,
        old: &Snapshot,
        world: &World,
        tunnel_key: &[u8; 32],
        shared: &Shared,
        out: &mut Output,
        now: Now,
    ) -> (Snapshot, Changes) {
        let mut changes = Changes {
            generation: world.policy.generation(),
            epoch: world.revocations.epoch(),
            ..Changes::default()
        };
        // Verification of a large map takes its time; whoever is revoked does not get that time.
        end_revoked(old, &world.revocations, &mut changes, out);
        let me = match self.verify_me(world, tunnel_key, now) {
            Ok(me) => Some(me),
            Err(why) => {
                changes.isolated = Some(why);
                None
            }
        };
        let mut wanted = match &me {
            Some(me) => self.wanted(me, world, &mut changes, now),
            None => BTreeMap::new(),
        };
        end_removed(old, me.as_ref(), &wanted, &mut changes, out);
        let mut peers = keep_changed(old, &mut wanted, &mut changes, out, now);
        if let Some(me) = &me {
            self.add(me.addresses, wanted, &mut peers, &mut changes, shared, now);
        }
        let snapshot = Snapshot::new(me, peers);
        (snapshot, changes)
    }

    fn verify_me(&mut self, world: &World, tunnel_key: &[u8; 32], now: Now) -> Result<Me, String> {
        // No policy at all permits nobody, but has no end that one would have to wait for.
        let has_policy = world.policy.generation() > Generation::default();
        let policy_end = if has_policy { world.policy.expires() } else { world.trust.document().expires };
        let until = policy_end.min(world.trust.document().expires);
        let identity = verify(world.me.chain(), &world.trust, &world.revocations, now.wall)
            .map_err(|error| format!("our own certificate does not verify: {error}"))?;
        let (key, addresses) = node_of(identity.claims()).ok_or("our own certificate is not a node's")?;
        if key.as_bytes() != tunnel_key {
            return Err("our own certificate is for another tunnel key".into());
        }
        if until <= now.wall {
            return Err("the policy or the trust document has expired".into());
        }
        let (overlay_v6, overlay_v4) = (world.trust.document().overlay_v6, world.trust.document().overlay_v4);
        Ok(Me { identity, addresses, until, overlay_v6, overlay_v4 })
    }

    /// Everyone whom the policy lets us talk to in any way.
    fn wanted(
        &mut self,
        me: &Me,
        world: &World,
        changes: &mut Changes,
        now: Now,
    ) -> BTreeMap<NodeName, Wanted> {
        let verified = self.verify_all(me, world, changes, now);
        let shared = duplicates(me, &verified);
        let overlay = |endpoint: SocketAddr| me.is_overlay(endpoint.ip());
        let mut permits = world.policy.permits(&me.identity, now.wall);
        let mut wanted = BTreeMap::new();
        for (entry, identity) in &verified {
            if shared.contains(&entry.name) {
                changes.refused.push((entry.name.clone(), Reason::RefusedDuplicate));
                continue;
            }
            match permits.with(identity) {
                Some(permit) => {
                    let paths = Paths::new(&entry.endpoints, overlay);
                    wanted.insert(entry.name.clone(), Wanted { permit, paths });
                }
                None => changes.unpermitted += 1,
            }
        }
        wanted
    }

    fn verify_all<'w>(
        &mut self,
        me: &Me,
        world: &'w World,
        changes: &mut Changes,
        now: Now,
    ) -> Vec<(&'w PeerEntry, VerifiedIdentity)> {
        let mut former = self.take_cache(world);
        let mut verified = Vec::new();
        for entry in world.peers.iter().skip(MAX_PEERS) {
            changes.refused.push((entry.name.clone(), Reason::RefusedEntry));
        }
        for entry in world.peers.iter().take(MAX_PEERS) {
            let identity = match self.verified(&mut former, entry, world, now) {
                Ok(identity) => identity,
                Err(error) => {
                    tracing::debug!(peer = %entry.name, %error, "a peer's certificate was refused");
                    changes.refused.push((entry.name.clone(), Reason::RefusedCertificate));
                    continue;
                }
            };
            let is_me = identity.claims().identity_key == me.identity.claims().identity_key;
            let is_named = *identity.name() == entry.name;
            if is_me || !is_named || node_of(identity.claims()).is_none() {
                changes.refused.push((entry.name.clone(), Reason::RefusedEntry));
            } else {
                verified.push((entry, identity));
            }
        }
        verified
    }

    /// The cached identities, if they were verified under the same trust and revocations.
    fn take_cache(&mut self, world: &World) -> HashMap<Chain, VerifiedIdentity> {
        let under = (world.trust.hash(), Arc::clone(&world.revocations));
        let former = std::mem::take(&mut self.cache);
        let same = self
            .cached_under
            .as_ref()
            .is_some_and(|(trust, revocations)| *trust == under.0 && revocations.bytes() == under.1.bytes());
        self.cached_under = Some(under);
        if same { former } else { HashMap::new() }
    }

    fn verified(
        &mut self,
        former: &mut HashMap<Chain, VerifiedIdentity>,
        entry: &PeerEntry,
        world: &World,
        now: Now,
    ) -> Result<VerifiedIdentity, VerifyError> {
        let identity = match former.remove(&entry.chain).filter(|identity| identity.valid_at(now.wall)) {
            Some(identity) => identity,
            None => verify(&entry.chain, &world.trust, &world.revocations, now.wall)?,
        };
        self.cache.insert(entry.chain.clone(), identity.clone());
        Ok(identity)
    }

    fn add(
        &mut self,
        mine: OverlayAddrs,
        wanted: BTreeMap<NodeName, Wanted>,
        peers: &mut BTreeMap<NodeName, Arc<Peer>>,
        changes: &mut Changes,
        shared: &Shared,
        now: Now,
    ) {
        let mut used: HashSet<u32> = peers.values().map(|peer| peer.index).collect();
        for (name, Wanted { permit, paths }) in wanted {
            let index = self.draw_index(&mut used);
            let Some(peer) = Peer::new(permit, mine, index, shared, now) else { continue };
            {
                let mut state = peer.lock();
                state.paths = paths;
                state.greet = changes.added.len() < MAX_GREETINGS;
            }
            peers.insert(name.clone(), Arc::new(peer));
            changes.added.push(name);
        }
    }

    /// 24 random bits that no other peer has. At most a sixteenth of them are in use, so this ends soon.
    fn draw_index(&self, used: &mut HashSet<u32>) -> u32 {
        loop {
            let index = (self.indices.next() >> 40) as u32;
            if used.insert(index) {
                return index;
            }
        }
    }
}

/// Tunnel key and addresses of a certificate that may have a tunnel, with addresses that may travel in one.
fn node_of(claims: &Claims) -> Option<(TunnelPublicKey, OverlayAddrs)> {
    match claims.id.role {
        Role::Node | Role::Gateway => {}
        Role::Coordinator | Role::Relay => return None,
    }
    let addresses = claims.addresses.filter(|addresses| {
        !address::is_forbidden(addresses.v6.into()) && !address::is_forbidden(addresses.v4.into())
    })?;
    Some((claims.tunnel_key?, addresses))
}

/// Names of entries that share name, address or tunnel key with another, or with us. Nobody can say which of
/// them is honest, so all of them are refused.
fn duplicates(me: &Me, verified: &[(&PeerEntry, VerifiedIdentity)]) -> HashSet<NodeName> {
    let mut seen: HashMap<Mark<'_>, Option<&NodeName>> = HashMap::new();
    for mark in marks(me.identity.claims()) {
        seen.insert(mark, None);
    }
    let mut shared = HashSet::new();
    for (entry, identity) in verified {
        for mark in marks(identity.claims()) {
            if let Some(other) = seen.insert(mark, Some(&entry.name)) {
                shared.insert(entry.name.clone());
                shared.extend(other.cloned());
            }
        }
    }
    shared
}

/// What has to be unique about a node.
#[derive(PartialEq, Eq, Hash)]
enum Mark<'c> {
    Name(&'c NodeName),
    Key([u8; 32]),
    V6(Ipv6Addr),
    V4(Ipv4Addr),
}

fn marks(claims: &Claims) -> impl Iterator<Item = Mark<'_>> {
    let key = claims.tunnel_key.map(|key| Mark::Key(*key.as_bytes()));
    let addresses = claims.addresses.map(|addresses| [Mark::V6(addresses.v6), Mark::V4(addresses.v4)]);
    [Mark::Name(&claims.id.name)].into_iter().chain(key).chain(addresses.into_iter().flatten())
}

fn end_revoked(old: &Snapshot, revocations: &Revocations, changes: &mut Changes, out: &mut Output) {
    for peer in old.peers.values() {
        let mut state = peer.lock();
        if revocations.revokes(state.identity().claims()) {
            changes.ended_flows += state.end(&peer.pair, out);
        }
    }
}

fn end_removed(
    old: &Snapshot,
    me: Option<&Me>,
    wanted: &BTreeMap<NodeName, Wanted>,
    changes: &mut Changes,
    out: &mut Output,
) {
    for (name, peer) in &old.peers {
        let mut state = peer.lock();
        let stays = state.is_alive()
            && me.is_some_and(|me| {
                wanted.get(name).is_some_and(|wanted| is_same(peer, &state, me.addresses, wanted))
            });
        if !stays {
            changes.ended_flows += state.end(&peer.pair, out);
            if !wanted.contains_key(name) {
                changes.removed.push(name.clone());
            }
        }
    }
}

/// Whether the tunnel stays: same name, same tunnel key, same addresses at both ends. A renewed certificate
/// is no reason to make new session keys.
fn is_same(peer: &Peer, state: &PeerState, mine: OverlayAddrs, wanted: &Wanted) -> bool {
    let claims = wanted.permit.peer().claims();
    let pair = claims.addresses.map(|theirs| Pair { mine, theirs });
    claims.tunnel_key == state.tunnel_key() && pair == Some(peer.pair)
}

/// Gives the peers that stay their new permits, and takes them out of `wanted`.
fn keep_changed(
    old: &Snapshot,
    wanted: &mut BTreeMap<NodeName, Wanted>,
    changes: &mut Changes,
    out: &mut Output,
    now: Now,
) -> BTreeMap<NodeName, Arc<Peer>> {
    let mut kept = BTreeMap::new();
    for (name, peer) in &old.peers {
        let mut state = peer.lock();
        if !state.is_alive() {
            continue;
        }
        let Some(Wanted { permit, paths }) = wanted.remove(name) else { continue };
        let same = state.means_the_same(&permit);
        let moved = state.paths.update(paths);
        changes.ended_flows += state.set_permit(permit, &peer.pair, out, now);
        if moved || !same {
            changes.changed.push(name.clone());
        }
        kept.insert(name.clone(), Arc::clone(peer));
    }
    kept
}
