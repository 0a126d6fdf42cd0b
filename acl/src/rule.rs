//! Compiled rules: what nodes enforce.
//!
//! Whether a rule speaks of two subjects is decided in one place, [`Rule::joins`]; everything that grants,
//! forbids or explains asks it, or is tested against it. No rules means nobody.

use std::sync::Arc;

use bulkhead_identity::Timestamp;

use crate::{
    Hours, PortSet, Service, Subject,
    selector::{Polarity, Selector},
};

/// A rule's `id` in the policy text, unique over allow and never.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub Arc<str>);

impl std::fmt::Display for RuleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// One `allow` or `never`, its groups and services resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in every decision.
    pub id: RuleId,
    /// Who opens the flow.
    pub from: Selector,
    /// Who answers.
    pub to: Selector,
    /// `same` of an allow, `differ` of a never: label keys.
    pub related: Vec<String>,
    /// The services it speaks of.
    pub ports: PortSet,
    /// It holds from here on.
    pub not_before: Option<Timestamp>,
    /// It no longer holds from here on.
    pub until: Option<Timestamp>,
    /// It holds within the union of these only; none: at all times. At most [`crate::hours::MAX_HOURS`].
    pub hours: Vec<Hours>,
    /// Where it was written.
    pub file: String,
    /// Where it was written, from 1.
    pub line: usize,
}

impl Rule {
    /// Whether the rule, as one of `polarity`, speaks of flows that `from` opens to `to`, by identity and
    /// label alone.
    #[must_use]
    pub fn joins(&self, polarity: Polarity, from: &Subject, to: &Subject) -> bool {
        self.from.matches(from, polarity)
            && self.to.matches(to, polarity)
            && relation_holds(polarity, &self.related, |key| shares(from, to, key))
    }

    /// Whether the rule holds at `wall`: from `not_before` on, before `until`, within `hours`.
    #[must_use]
    pub fn holds_at(&self, wall: Timestamp) -> bool {
        self.not_before.is_none_or(|start| start <= wall)
            && self.until.is_none_or(|end| wall < end)
            && (self.hours.is_empty() || self.hours.iter().any(|hours| hours.contains(wall)))
    }

    /// Whether the rule decides about `service` from `from` to `to` at `wall`.
    #[must_use]
    pub fn decides(
        &self,
        polarity: Polarity,
        from: &Subject,
        to: &Subject,
        service: Service,
        wall: Timestamp,
    ) -> bool {
        self.ports.contains(service) && self.joins(polarity, from, to) && self.holds_at(wall)
    }
}

/// `same` holds when every key is shared; `differ` is its exact complement, so it holds when any is not.
pub(crate) fn relation_holds<K>(polarity: Polarity, keys: &[K], shared: impl Fn(&K) -> bool) -> bool {
    let all_shared = keys.iter().all(shared);
    match polarity {
        Polarity::Allow => all_shared,
        Polarity::Never => keys.is_empty() || !all_shared,
    }
}

/// Both carry the label, with one value. A missing label is shared with nobody, not even with another
/// missing one.
pub(crate) fn shares(from: &Subject, to: &Subject, key: &str) -> bool {
    from.labels.get(key).is_some_and(|value| to.labels.get(key) == Some(value))
}

/// All rules, ordered by id. `default()` permits nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// What may be.
    pub allow: Vec<Rule>,
    /// What may not be, whatever is allowed.
    pub never: Vec<Rule>,
}

impl RuleSet {
    /// The set of these rules; the order in which they come does not matter.
    #[must_use]
    pub fn new(mut allow: Vec<Rule>, mut never: Vec<Rule>) -> Self {
        allow.sort_by(|a, b| a.id.cmp(&b.id));
        never.sort_by(|a, b| a.id.cmp(&b.id));
        Self { allow, never }
    }

    /// The rules of one polarity.
    pub(crate) fn of(&self, polarity: Polarity) -> &[Rule] {
        match polarity {
            Polarity::Allow => &self.allow,
            Polarity::Never => &self.never,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use bulkhead_identity::{Labels, NodeName};

    use super::*;

    pub(crate) fn subject(name: &str, labels: &str) -> Subject {
        Subject { name: NodeName::parse(name).unwrap(), labels: Labels::parse(labels).unwrap() }
    }

    pub(crate) fn rule(id: &str, from: &str, to: &str, ports: &str) -> Rule {
        Rule {
            id: RuleId(id.into()),
            from: Selector::parse(from).unwrap(),
            to: Selector::parse(to).unwrap(),
            related: Vec::new(),
            ports: PortSet::parse(ports).unwrap(),
            not_before: None,
            until: None,
            hours: Vec::new(),
            file: "policy.toml".to_owned(),
            line: 1,
        }
    }

    /// Whether a rule about these keys joins the two, as `same` and as `differ`.
    fn check(keys: &[&str], from: &str, to: &str, same: bool, differ: bool) {
        let related = keys.iter().map(ToString::to_string).collect();
        let rule = Rule { related, ..rule("r", "*", "*", "any") };
        let (from, to) = (subject("a", from), subject("b", to));
        assert_eq!(rule.joins(Polarity::Allow, &from, &to), same);
        assert_eq!(rule.joins(Polarity::Never, &from, &to), differ);
    }

    #[test]
    fn same_needs_the_shared_value_and_differ_is_its_mirror() {
        check(&["env"], "env=prod", "env=prod", true, false);
        check(&["env"], "env=prod", "env=stage", false, true);
        check(&["env", "site"], "env=prod,site=a", "env=prod,site=a", true, false);
        check(&["env", "site"], "env=prod,site=a", "env=prod,site=b", false, true);
    }

    #[test]
    fn a_missing_label_never_satisfies_same_and_always_differs() {
        check(&["env"], "env=prod", "", false, true);
        check(&["env"], "", "env=prod", false, true);
        check(&["env"], "", "", false, true);
    }

    #[test]
    fn no_related_keys_ask_nothing() {
        check(&[], "", "env=prod", true, true);
    }

    #[test]
    fn a_window_holds_from_not_before_until_just_before_until() {
        let rule = Rule {
            not_before: Some(Timestamp(10)),
            until: Some(Timestamp(20)),
            ..rule("r", "*", "*", "any")
        };
        let held: Vec<_> = [9, 10, 19, 20].map(|at| rule.holds_at(Timestamp(at))).into();
        assert_eq!(held, [false, true, true, false]);
    }
}
