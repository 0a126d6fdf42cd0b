//! What is left of the allow rules for one ordered pair of subjects once every never rule is subtracted.
//!
//! Rules that hold for a time stay separate, so that the node can enforce `until` with no coordinator and
//! no recompiling; nothing is decided here that [`crate::rule`] would decide otherwise.

use bulkhead_identity::Timestamp;

use crate::{PortSet, Rule, RuleId, Service};

/// One direction's grants, ordered by rule id. `default()` grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    allow: Vec<Grant>,
    /// Only what is bounded in time: the others are already subtracted.
    never: Vec<Grant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    rule: RuleId,
    ports: PortSet,
    window: Window,
}

/// From `start` on, until just before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Window {
    pub(crate) const ALWAYS: Self = Self { start: Timestamp(0), end: Timestamp(u64::MAX) };

    fn of(rule: &Rule) -> Self {
        Self {
            start: rule.not_before.unwrap_or(Self::ALWAYS.start),
            end: rule.until.unwrap_or(Self::ALWAYS.end),
        }
    }

    fn clipped(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    fn contains(self, wall: Timestamp) -> bool {
        self.start <= wall && wall < self.end
    }
}

impl Grants {
    /// `allow` and `never` are the rules that join the pair, ordered by id; grants hold within `validity` only.
    pub(crate) fn new<'a>(
        allow: impl Iterator<Item = &'a Rule>,
        never: impl Iterator<Item = &'a Rule>,
        validity: Window,
    ) -> Self {
        let mut forbidden = PortSet::default();
        let mut passing = Vec::new();
        for rule in never {
            let window = Window::of(rule);
            if window == Window::ALWAYS {
                forbidden = forbidden.union(&rule.ports);
            } else {
                passing.push(Grant { rule: rule.id.clone(), ports: rule.ports.clone(), window });
            }
        }
        let allow: Vec<_> = allow
            .map(|rule| Grant {
                rule: rule.id.clone(),
                ports: rule.ports.difference(&forbidden),
                window: Window::of(rule).clipped(validity),
            })
            .filter(|grant| !grant.ports.is_empty() && grant.window.start < grant.window.end)
            .collect();
        if allow.is_empty() {
            return Self::default();
        }
        Self { allow, never: passing }
    }

    /// The smallest id of the rules that allow `service` at `wall`, unless a never rule forbids it.
    pub(crate) fn allows(&self, service: Service, wall: Timestamp) -> Option<&RuleId> {
        let decides = |grant: &&Grant| grant.window.contains(wall) && grant.ports.contains(service);
        if self.never.iter().any(|grant| decides(&grant)) {
            return None;
        }
        self.allow.iter().find(decides).map(|grant| &grant.rule)
    }

    /// Whether any service is granted at `wall` or at any later moment.
    pub(crate) fn ever(&self, wall: Timestamp) -> bool {
        // Grants change at the ends of windows only, so these moments stand for all others.
        std::iter::once(wall).chain(self.changes_after(wall)).any(|moment| self.at(moment))
    }

    fn at(&self, wall: Timestamp) -> bool {
        let hold = |grant: &&Grant| grant.window.contains(wall);
        let forbidden =
            self.never.iter().filter(hold).fold(PortSet::default(), |set, grant| set.union(&grant.ports));
        self.allow.iter().filter(hold).any(|grant| !grant.ports.difference(&forbidden).is_empty())
    }

    /// The next moment after `wall` at which a window opens or closes.
    pub(crate) fn next_change(&self, wall: Timestamp) -> Option<Timestamp> {
        self.changes_after(wall).min()
    }

    fn changes_after(&self, wall: Timestamp) -> impl Iterator<Item = Timestamp> {
        let windows = self.allow.iter().chain(&self.never).map(|grant| grant.window);
        windows
            .flat_map(|window| [window.start, window.end])
            .filter(move |&moment| moment > wall && moment < Window::ALWAYS.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rule::tests::rule;

    fn timed(rule: Rule, start: u64, end: u64) -> Rule {
        Rule { not_before: Some(Timestamp(start)), until: Some(Timestamp(end)), ..rule }
    }

    fn grants(allow: &[Rule], never: &[Rule]) -> Grants {
        Grants::new(allow.iter(), never.iter(), Window::ALWAYS)
    }

    fn allowed(grants: &Grants, port: u16, wall: u64) -> Option<&str> {
        grants.allows(Service::Tcp(port), Timestamp(wall)).map(|id| &*id.0)
    }

    #[test]
    fn every_never_is_subtracted() {
        let left = grants(
            &[rule("a", "*", "*", "tcp/1-100")],
            &[rule("n", "*", "*", "tcp/20-30"), rule("o", "*", "*", "tcp/31")],
        );
        let ports: Vec<_> = (0..=101).filter(|&port| allowed(&left, port, 0).is_some()).collect();
        assert_eq!(ports, (1..=19).chain(32..=100).collect::<Vec<_>>());
    }

    #[test]
    fn the_smallest_id_of_those_that_hold_is_named() {
        let left = grants(&[timed(rule("a", "*", "*", "tcp/1"), 10, 20), rule("b", "*", "*", "tcp/1")], &[]);
        assert_eq!(allowed(&left, 1, 9), Some("b"));
        assert_eq!(allowed(&left, 1, 10), Some("a"));
        assert_eq!(allowed(&left, 1, 20), Some("b"));
    }

    #[test]
    fn a_never_for_a_time_forbids_for_that_time() {
        let left = grants(&[rule("a", "*", "*", "tcp/1-2")], &[timed(rule("n", "*", "*", "tcp/1"), 10, 20)]);
        assert_eq!(allowed(&left, 1, 9), Some("a"));
        assert_eq!(allowed(&left, 1, 10), None);
        assert_eq!(allowed(&left, 2, 10), Some("a"));
        assert_eq!(left.next_change(Timestamp(0)), Some(Timestamp(10)));
        assert_eq!(left.next_change(Timestamp(10)), Some(Timestamp(20)));
        assert_eq!(left.next_change(Timestamp(20)), None);
    }

    #[test]
    fn ever_sees_the_future_and_not_the_past() {
        let later = grants(&[timed(rule("a", "*", "*", "tcp/1"), 10, 20)], &[]);
        assert!(later.ever(Timestamp(0)));
        assert!(later.ever(Timestamp(19)));
        assert!(!later.ever(Timestamp(20)));
        let covered = grants(
            &[timed(rule("a", "*", "*", "tcp/1"), 10, 20)],
            &[timed(rule("n", "*", "*", "any"), 5, 20)],
        );
        assert!(!covered.ever(Timestamp(0)));
        let between = grants(&[rule("a", "*", "*", "tcp/1")], &[timed(rule("n", "*", "*", "any"), 0, 20)]);
        assert!(between.ever(Timestamp(0)));
    }

    #[test]
    fn nothing_holds_outside_the_validity_of_the_bundle() {
        let validity = Window { start: Timestamp(10), end: Timestamp(20) };
        let rules = [rule("a", "*", "*", "tcp/1")];
        let left = Grants::new(rules.iter(), [].iter(), validity);
        assert_eq!([9, 10, 19, 20].map(|wall| allowed(&left, 1, wall).is_some()), [false, true, true, false]);
        assert_eq!(left.next_change(Timestamp(10)), Some(Timestamp(20)));
    }
}
