//! A map that suddenly lacks most peers waits a little before it is believed (C10).
//!
//! Property: a coordinator whose store fails and reads as empty does not cut the mesh at once. Security does not
//! depend on it: who may talk is decided by certificate, policy and revocation list, and those act immediately. So a
//! loss that one of them explains is not held, and what is held is bounded by [`HOLD_OFF`].

use crate::state::held::Held;
use bulkhead_identity::{Epoch, Generation, verify};
use bulkhead_identity::{Now, Timestamp};
use bulkhead_protocol::control::PeerMap;
use std::time::Duration;

/// How long a suspicious map waits.
pub(crate) const HOLD_OFF: Duration = Duration::from_secs(60);
/// A map of fewer peers than this may shrink at will.
pub(crate) const SUSPECT_FROM_PEERS: usize = 10;

/// The map that waits, if any, and what the map in force was judged by.
#[derive(Debug, Default)]
pub(crate) struct MapHold {
    waiting: Option<(PeerMap, Duration)>,
    basis: Option<(Generation, Epoch)>,
}

/// What to do with a new map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum MapVerdict {
    /// Apply it now.
    Apply,
    /// It was put aside; `lost` peers are missing.
    Hold {
        /// How many.
        lost: usize,
    },
}

impl MapHold {
    /// The map that deltas continue: the one that waits, or the one in force.
    pub(crate) fn base<'a>(&'a self, held: &'a Held) -> &'a PeerMap {
        self.waiting.as_ref().map_or(&held.map, |(map, _)| map)
    }

    /// Judges `next`, and keeps a copy if it has to wait.
    pub(crate) fn judge(&mut self, held: &Held, next: &PeerMap, now: Now) -> MapVerdict {
        let basis = (held.policy.generation(), held.revocations.epoch());
        let explained = self.basis.is_some_and(|before| before != basis);
        let lost = unexplained_losses(held, next, now.wall);
        if explained || held.map.peers.len() < SUSPECT_FROM_PEERS || lost * 2 <= held.map.peers.len() {
            self.applied(held);
            return MapVerdict::Apply;
        }
        // A further suspicious map does not put the moment off.
        let since = self.waiting.as_ref().map_or(now.mono, |(_, since)| *since);
        self.waiting = Some((next.clone(), since));
        MapVerdict::Hold { lost }
    }

    /// The waiting map, once its time has come, or once policy or revocations have changed since.
    pub(crate) fn due(&mut self, held: &Held, now: Now) -> Option<PeerMap> {
        let (_, since) = self.waiting.as_ref()?;
        let basis = (held.policy.generation(), held.revocations.epoch());
        let explained = self.basis.is_some_and(|before| before != basis);
        if explained || now.mono.saturating_sub(*since) >= HOLD_OFF {
            let (map, _) = self.waiting.take()?;
            self.applied(held);
            return Some(map);
        }
        None
    }

    /// The link is gone: the next one begins with a snapshot, which is judged anew.
    pub(crate) fn forget(&mut self) {
        self.waiting = None;
    }

    fn applied(&mut self, held: &Held) {
        self.waiting = None;
        self.basis = Some((held.policy.generation(), held.revocations.epoch()));
    }
}

/// Peers that were there, are not in `next`, and are neither revoked nor expired.
fn unexplained_losses(held: &Held, next: &PeerMap, wall: Timestamp) -> usize {
    let gone = held.map.peers.values().filter(|peer| !next.peers.contains_key(&peer.name));
    gone.filter(|peer| verify(&peer.chain, &held.trust, &held.revocations, wall).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Domain, NOW, Person};

    fn at(secs: u64) -> Now {
        Now { mono: Duration::from_secs(secs), wall: NOW }
    }

    fn held(domain: &Domain, peers: u8) -> Held {
        let me = Person::new("web", 1);
        Held::enrolled(domain.trust(1), domain.verified(&me)).with_map(map(domain, 1, peers))
    }

    fn map(domain: &Domain, sequence: u64, peers: u8) -> PeerMap {
        let people: Vec<_> =
            (0..peers).map(|number| Person::new(&format!("n{number}"), 10 + number)).collect();
        domain.map(sequence, &people.iter().collect::<Vec<_>>())
    }

    #[test]
    fn an_empty_map_is_not_applied_at_once_c10() {
        let domain = Domain::new();
        let held = held(&domain, 10);
        let mut hold = MapHold::default();
        let empty = map(&domain, 2, 0);
        assert_eq!(hold.judge(&held, &empty, at(0)), MapVerdict::Hold { lost: 10 });
        assert_eq!(hold.judge(&held, &empty, at(50)), MapVerdict::Hold { lost: 10 });
        assert_eq!(hold.due(&held, at(59)), None);
        assert_eq!(hold.due(&held, at(60)), Some(empty));
    }

    #[test]
    fn a_map_that_recovers_ends_the_hold() {
        let domain = Domain::new();
        let held = held(&domain, 10);
        let mut hold = MapHold::default();
        assert_eq!(hold.judge(&held, &map(&domain, 2, 1), at(0)), MapVerdict::Hold { lost: 9 });
        assert_eq!(hold.base(&held).sequence.0, 2, "deltas continue what was sent");
        assert_eq!(hold.judge(&held, &map(&domain, 3, 9), at(1)), MapVerdict::Apply);
        assert_eq!(hold.due(&held, at(100)), None);
    }

    #[test]
    fn a_small_map_and_a_small_loss_are_applied_at_once() {
        let domain = Domain::new();
        let mut hold = MapHold::default();
        assert_eq!(hold.judge(&held(&domain, 9), &map(&domain, 2, 0), at(0)), MapVerdict::Apply);
        assert_eq!(hold.judge(&held(&domain, 12), &map(&domain, 3, 6), at(0)), MapVerdict::Apply);
    }

    #[test]
    fn a_loss_that_the_policy_explains_is_applied_at_once() {
        let domain = Domain::new();
        let before = held(&domain, 10);
        let mut hold = MapHold::default();
        assert_eq!(hold.judge(&before, &map(&domain, 2, 10), at(0)), MapVerdict::Apply);
        let after = before.with_policy(&domain.policy(1, 0), NOW).expect("signed by the policy key");
        assert_eq!(hold.judge(&after, &map(&domain, 3, 0), at(1)), MapVerdict::Apply);
    }
}
