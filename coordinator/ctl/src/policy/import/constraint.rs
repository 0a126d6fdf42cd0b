//! What a Kubernetes selector says of one label, as a set over its values and its absence.
//!
//! Conjunction is intersection, so contradictions show themselves, and what remains is written in our selectors
//! exactly: a missing label meets `NotIn` in Kubernetes and never meets `notin` in an allow rule of ours, which takes
//! two rules.

use bulkhead_acl::Term;
use bulkhead_identity::{LabelKey, LabelValue};
use std::collections::{BTreeMap, BTreeSet};

/// Most rules that one selector is split into.
pub(super) const MAX_SPLITS: usize = 256;

/// The values of one label that meet a condition, and whether its absence does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    absent: bool,
    values: Values,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    Only(BTreeSet<LabelValue>),
    AllBut(BTreeSet<LabelValue>),
}

impl Allowed {
    fn of(term: &KubeTerm) -> Self {
        let (absent, values) = match term {
            KubeTerm::In(values) => (false, Values::Only(values.clone())),
            KubeTerm::NotIn(values) => (true, Values::AllBut(values.clone())),
            KubeTerm::Exists => (false, Values::AllBut(BTreeSet::new())),
            KubeTerm::Absent => (true, Values::Only(BTreeSet::new())),
        };
        Self { absent, values }
    }

    fn and(&self, other: &Self) -> Self {
        use Values::{AllBut, Only};
        let values = match (&self.values, &other.values) {
            (Only(a), Only(b)) => Only(a & b),
            (Only(only), AllBut(but)) | (AllBut(but), Only(only)) => Only(only - but),
            (AllBut(a), AllBut(b)) => AllBut(a | b),
        };
        Self { absent: self.absent && other.absent, values }
    }

    fn is_impossible(&self) -> bool {
        !self.absent && self.values == Values::Only(BTreeSet::new())
    }

    /// The terms of ours of which any one holds; `None` where nothing is asked.
    fn terms(&self, key: &LabelKey) -> Option<Vec<Term>> {
        let present = match &self.values {
            Values::Only(values) if values.is_empty() => None,
            Values::Only(values) => Some(Term::In(key.clone(), values.clone())),
            Values::AllBut(values) if values.is_empty() && self.absent => return None,
            Values::AllBut(values) if values.is_empty() => Some(Term::Exists(key.clone())),
            Values::AllBut(values) => Some(Term::NotIn(key.clone(), values.clone())),
        };
        let absent = self.absent.then(|| Term::Absent(key.clone()));
        Some(present.into_iter().chain(absent).collect())
    }
}

/// One requirement of a Kubernetes label selector, with its meaning there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KubeTerm {
    /// The label is there and has one of these values.
    In(BTreeSet<LabelValue>),
    /// The label has none of these values, or is not there.
    NotIn(BTreeSet<LabelValue>),
    /// The label is there.
    Exists,
    /// The label is not there.
    Absent,
}

/// A conjunction of requirements, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Constraint(BTreeMap<LabelKey, Allowed>);

impl Constraint {
    /// Adds a requirement.
    pub(super) fn require(&mut self, key: LabelKey, term: &KubeTerm) {
        let new = Allowed::of(term);
        let met = self.0.get(&key).map_or_else(|| new.clone(), |known| known.and(&new));
        self.0.insert(key, met);
    }

    /// Adds `key=value`.
    pub(super) fn require_value(&mut self, key: LabelKey, value: LabelValue) {
        self.require(key, &KubeTerm::In(BTreeSet::from([value])));
    }

    /// What meets both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (key, allowed) in &other.0 {
            let met = both.0.get(key).map_or_else(|| allowed.clone(), |known| known.and(allowed));
            both.0.insert(key.clone(), met);
        }
        both
    }

    /// Whether no labels at all meet it.
    pub(super) fn is_impossible(&self) -> bool {
        self.0.values().any(Allowed::is_impossible)
    }

    /// Whether these labels meet it, as Kubernetes reads it.
    pub(super) fn meets(&self, labels: &BTreeMap<LabelKey, LabelValue>) -> bool {
        self.0.iter().all(|(key, allowed)| match (labels.get(key), &allowed.values) {
            (None, _) => allowed.absent,
            (Some(value), Values::Only(values)) => values.contains(value),
            (Some(value), Values::AllBut(values)) => !values.contains(value),
        })
    }

    /// The labels it speaks of.
    pub(super) fn keys(&self) -> impl Iterator<Item = &LabelKey> {
        self.0.keys()
    }

    /// Selectors of allow rules that together match exactly what meets it; `None` when they are more than
    /// [`MAX_SPLITS`]. An empty list of terms never comes out: callers always ask for a namespace.
    pub(super) fn split(&self) -> Option<Vec<Vec<Term>>> {
        let mut selectors = vec![Vec::new()];
        for (key, allowed) in &self.0 {
            let Some(terms) = allowed.terms(key) else { continue };
            if selectors.len() * terms.len() > MAX_SPLITS {
                return None;
            }
            selectors = selectors
                .iter()
                .flat_map(|selector: &Vec<Term>| {
                    terms.iter().map(|term| selector.iter().cloned().chain([term.clone()]).collect())
                })
                .collect();
        }
        Some(selectors)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_acl::{Polarity, Selector, Subject};
    use bulkhead_identity::{Labels, NodeName};

    fn key(text: &str) -> LabelKey {
        LabelKey::parse(text).unwrap()
    }

    fn values(text: &str) -> BTreeSet<LabelValue> {
        text.split_whitespace().map(|value| LabelValue::parse(value).unwrap()).collect()
    }

    /// Every conjunction of up to two requirements about one label matches, over every labelling, as Kubernetes says.
    #[test]
    fn splits_match_exactly_what_kubernetes_matches() {
        let terms = [
            KubeTerm::In(values("a b")),
            KubeTerm::In(values("b c")),
            KubeTerm::NotIn(values("a")),
            KubeTerm::NotIn(values("b c")),
            KubeTerm::Exists,
            KubeTerm::Absent,
        ];
        let naive = |term: &KubeTerm, value: Option<&LabelValue>| match (term, value) {
            (KubeTerm::In(values), value) => value.is_some_and(|value| values.contains(value)),
            (KubeTerm::NotIn(values), value) => !value.is_some_and(|value| values.contains(value)),
            (KubeTerm::Exists, value) => value.is_some(),
            (KubeTerm::Absent, value) => value.is_none(),
        };
        for (one, two) in terms.iter().flat_map(|one| terms.iter().map(move |two| (one, two))) {
            let mut constraint = Constraint::default();
            constraint.require(key("k"), one);
            constraint.require(key("k"), two);
            for text in ["", "k=a", "k=b", "k=c", "k=d"] {
                let labels = Labels::parse(text).unwrap();
                let value = labels.get("k");
                let expected = naive(one, value) && naive(two, value);
                let subject = Subject { name: NodeName::parse("n").unwrap(), labels: labels.clone() };
                let ours = constraint.split().unwrap().into_iter().any(|terms| {
                    Selector::all_of(terms).is_none_or(|selector| selector.matches(&subject, Polarity::Allow))
                });
                assert_eq!(ours, expected, "{one:?} and {two:?} about {text:?}");
                let map = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                assert_eq!(constraint.meets(&map), expected);
            }
            assert_eq!(constraint.is_impossible(), constraint.split().unwrap().is_empty());
        }
    }
}
