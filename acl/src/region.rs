//! Selectors as sets of label values: empty or not, one within another, exactly.
//!
//! A conjunction bounds each label by itself, so a region is one set of values per label, and containment is
//! containment label by label.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_identity::{LabelKey, LabelValue, NodeName};

use crate::{Polarity, Selector, Term, schema::Schema};

/// The identities that a selector matches, for a rule of one polarity.
#[derive(Debug)]
pub(crate) struct Region<'a> {
    pub(crate) labels: BTreeMap<&'a LabelKey, Values>,
    pub(crate) node: Option<&'a NodeName>,
    nobody: bool,
}

/// What one label may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Values {
    pub(crate) missing: bool,
    pub(crate) present: Present,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Present {
    Only(BTreeSet<LabelValue>),
    Except(BTreeSet<LabelValue>),
}

impl<'a> Region<'a> {
    pub(crate) fn of(selector: &'a Selector, polarity: Polarity, schema: &Schema) -> Self {
        let mut region = Self { labels: BTreeMap::new(), node: None, nobody: false };
        for term in selector.terms() {
            match term {
                Term::In(key, values) => region.bound(key, false, Present::Only(values.clone())),
                Term::NotIn(key, values) => {
                    region.bound(key, polarity == Polarity::Never, Present::Except(values.clone()));
                }
                Term::Exists(key) => region.bound(key, false, Present::Except(BTreeSet::new())),
                Term::Absent(key) => region.bound(key, true, Present::Only(BTreeSet::new())),
                Term::Node(node) => {
                    region.nobody |= region.node.is_some_and(|other| other != node);
                    region.node = Some(node);
                }
                // Until identities carry a user.
                Term::User { .. } => region.nobody = true,
            }
        }
        for (key, values) in &mut region.labels {
            values.close(schema.values(key));
            region.nobody |= values.is_empty();
        }
        region
    }

    fn bound(&mut self, key: &'a LabelKey, missing: bool, present: Present) {
        let bound = Values { missing, present };
        let values = self.labels.entry(key).or_insert_with(Values::any);
        *values = values.and(&bound);
    }

    /// Whether it matches no identity that the schema allows.
    pub(crate) fn is_empty(&self) -> bool {
        self.nobody
    }

    /// The node that it is bound to by name.
    pub(crate) fn node(&self) -> Option<&NodeName> {
        self.node
    }

    /// The labels that cannot be missing and the values that they may have, where those are listed.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (&'a LabelKey, &BTreeSet<LabelValue>)> {
        self.labels.iter().filter_map(|(key, values)| match values {
            Values { missing: false, present: Present::Only(only) } => Some((*key, only)),
            Values { missing: true, .. } | Values { present: Present::Except(_), .. } => None,
        })
    }

    /// Whether nobody here carries `key` with a value that somebody in `other` has.
    pub(crate) fn shares_nothing(&self, other: &Self, key: &str) -> bool {
        self.values(key).and(&other.values(key)).present == Present::Only(BTreeSet::new())
    }

    /// Whether everybody here and in `other` carries `key` with one and the same value.
    pub(crate) fn shares_always(&self, other: &Self, key: &str) -> bool {
        let values = self.values(key);
        let one = matches!(&values.present, Present::Only(only) if only.len() == 1);
        one && !values.missing && values == other.values(key)
    }

    fn values(&self, key: &str) -> Values {
        let bound = self.labels.iter().find(|(own, _)| own.as_str() == key);
        bound.map_or_else(Values::any, |(_, values)| values.clone())
    }

    /// Whether `other` matches everyone that this one matches.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        if self.nobody || other.nobody {
            return self.nobody;
        }
        let node = other.node.is_none_or(|node| self.node == Some(node));
        node && other.labels.iter().all(|(key, theirs)| {
            self.labels.get(key).map_or(*theirs == Values::any(), |ours| ours.is_within(theirs))
        })
    }
}

impl Values {
    pub(crate) fn any() -> Self {
        Self { missing: true, present: Present::Except(BTreeSet::new()) }
    }

    /// Whatever the schema allows of one label.
    pub(crate) fn all(key: &LabelKey, schema: &Schema) -> Self {
        let mut values = Self::any();
        values.close(schema.values(key));
        values
    }

    /// What is in this set and not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let present = match (&self.present, &other.present) {
            (Present::Only(a), Present::Only(b)) => Present::Only(a - b),
            (Present::Only(a), Present::Except(b)) => Present::Only(a & b),
            (Present::Except(a), Present::Only(b)) => Present::Except(a | b),
            (Present::Except(a), Present::Except(b)) => Present::Only(b - a),
        };
        Self { missing: self.missing && !other.missing, present }
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        let present = match (&self.present, &other.present) {
            (Present::Only(a), Present::Only(b)) => Present::Only(a & b),
            (Present::Only(only), Present::Except(not)) | (Present::Except(not), Present::Only(only)) => {
                Present::Only(only - not)
            }
            (Present::Except(a), Present::Except(b)) => Present::Except(a | b),
        };
        Self { missing: self.missing && other.missing, present }
    }

    /// Spells out the values where the schema lists them.
    fn close(&mut self, known: Option<&BTreeSet<LabelValue>>) {
        if let (Present::Except(not), Some(known)) = (&self.present, known) {
            self.present = Present::Only(known - not);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.missing && self.present == Present::Only(BTreeSet::new())
    }

    fn is_within(&self, other: &Self) -> bool {
        let present = match (&self.present, &other.present) {
            (Present::Only(a), Present::Only(b)) => a.is_subset(b),
            (Present::Only(a), Present::Except(b)) => a.is_disjoint(b),
            (Present::Except(_), Present::Only(_)) => false,
            (Present::Except(a), Present::Except(b)) => a.is_superset(b),
        };
        present && (!self.missing || other.missing)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(inner: &str, polarity: Polarity, outer: &str, outer_polarity: Polarity, within: bool) {
        let (a, b) = (Selector::parse(inner).unwrap(), Selector::parse(outer).unwrap());
        let schema = Schema::default();
        let (a, b) = (Region::of(&a, polarity, &schema), Region::of(&b, outer_polarity, &schema));
        assert_eq!(a.is_within(&b), within, "{inner} within {outer}");
    }

    #[test]
    fn containment_is_label_by_label() {
        use Polarity::{Allow, Never};
        check("env=prod, role=web", Allow, "env=prod", Allow, true);
        check("env=prod", Allow, "env=prod, role=web", Allow, false);
        check("env=prod", Allow, "env in (prod, stage)", Allow, true);
        check("env=prod", Allow, "env!=stage", Allow, true);
        check("env!=prod", Allow, "env", Allow, true);
        check("env!=prod", Never, "env", Never, false);
        check("env", Allow, "*", Never, true);
        check("*", Allow, "env!=prod", Never, false);
        check("!env", Allow, "env!=prod", Never, true);
        check("node:web", Allow, "*", Allow, true);
        check("*", Allow, "node:web", Allow, false);
        check("node:web", Allow, "node:db", Allow, false);
    }

    #[test]
    fn contradictions_match_nobody() {
        for (text, nobody) in [
            ("env=prod, env=stage", true),
            ("env=prod, !env", true),
            ("env=prod, env!=prod", true),
            ("node:a, node:b", true),
            ("env, env!=prod", false),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(
                Region::of(&selector, Polarity::Allow, &Schema::default()).is_empty(),
                nobody,
                "{text}"
            );
        }
    }
}
