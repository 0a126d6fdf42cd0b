//! The value that proves that a verified peer is allowed; a tunnel can only be built from one.
//!
//! Only [`crate::Policy::permit`] makes a [`Permit`], from two verified identities and a verified policy.

use bulkhead_identity::{Generation, Timestamp, VerifiedIdentity};

use crate::{RuleId, Service, pairs::Both};

/// Who opens the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The peer opens to us.
    Inbound,
    /// We open to the peer.
    Outbound,
}

/// A peer and, per direction, the grants left after every `never`. These are shared with all that have the same.
#[derive(Clone, Debug)]
pub struct Permit {
    peer: VerifiedIdentity,
    generation: Generation,
    grants: Both,
}

/// What becomes of a flow. The answer to anything that no rule names is `Deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Allowed; by the smallest id of the rules that allow it.
    Allow(RuleId),
    /// Not allowed.
    Deny,
}

impl Permit {
    pub(crate) fn new(peer: VerifiedIdentity, generation: Generation, grants: Both) -> Self {
        Self { peer, generation, grants }
    }

    /// Whom it permits.
    pub fn peer(&self) -> &VerifiedIdentity {
        &self.peer
    }

    /// The policy generation that it was computed from.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether a flow for `service` may be opened in `direction` at `wall`.
    pub fn verdict(&self, direction: Direction, service: Service, wall: Timestamp) -> Verdict {
        let grants = match direction {
            Direction::Inbound => &self.grants.inbound,
            Direction::Outbound => &self.grants.outbound,
        };
        grants.allows(service, wall).map_or(Verdict::Deny, |rule| Verdict::Allow(rule.clone()))
    }

    /// Same grants (peer and generation aside): nothing about existing flows can change.
    #[must_use]
    pub fn same_grants(&self, other: &Self) -> bool {
        self.grants == other.grants
    }

    /// When a grant starts or ends next after `wall`, so that the engine can judge its flows again then.
    pub fn next_change(&self, wall: Timestamp) -> Option<Timestamp> {
        let directions = [&self.grants.inbound, &self.grants.outbound];
        directions.into_iter().filter_map(|grants| grants.next_change(wall)).min()
    }
}
