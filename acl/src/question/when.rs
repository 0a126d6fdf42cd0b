//! Which moments an answer about everyone is for: one, or all that are still to come.

use bulkhead_identity::Timestamp;

use crate::{Polarity, Rule, RuleSet};

/// The moments that an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This one, exactly.
    At(Timestamp),
    /// This one and every later one. What an `allow` may still permit counts, however short or far away; of the
    /// `never` rules only those count that hold all the time. So nothing that can be is missing; something that cannot be
    /// may be there, when an `allow` and a `never` are bound to the same times.
    EverAfter(Timestamp),
}

impl From<Timestamp> for When {
    fn from(wall: Timestamp) -> Self {
        Self::At(wall)
    }
}

impl When {
    /// The rules that count, without the times at which they hold.
    pub(super) fn timeless(self, rules: &RuleSet) -> RuleSet {
        let counting = |polarity| {
            let rules = rules.of(polarity).iter().filter(move |rule| self.counts(rule, polarity));
            rules
                .map(|rule| Rule { not_before: None, until: None, hours: Vec::new(), ..rule.clone() })
                .collect()
        };
        RuleSet::new(counting(Polarity::Allow), counting(Polarity::Never))
    }

    fn counts(self, rule: &Rule, polarity: Polarity) -> bool {
        match (self, polarity) {
            (Self::At(wall), _) => rule.holds_at(wall),
            (Self::EverAfter(now), Polarity::Allow) => rule.until.is_none_or(|end| now < end),
            (Self::EverAfter(now), Polarity::Never) => {
                rule.until.is_none()
                    && rule.hours.is_empty()
                    && rule.not_before.is_none_or(|start| start <= now)
            }
        }
    }
}
