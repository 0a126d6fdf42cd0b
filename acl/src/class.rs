//! Label classes: all that the rules can see of a subject.
//!
//! Two subjects of one class are treated alike by every rule, whatever else they carry, so questions about
//! thousands of nodes are exact questions about a few classes: no sampling, no solver. The classes of a rule
//! set agree with [`Rule::joins`] for every pair of subjects; a property test says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bulkhead_identity::{LabelValue, NodeName, Timestamp};

use crate::{
    Rule, RuleSet, Subject,
    grant::{Grants, Window},
    rule::relation_holds,
    selector::{Polarity, Selector, Term},
};

/// A rule set with the index that finds the rules of a subject without trying them all.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    rules: Arc<RuleSet>,
    sides: [Index; 4],
    /// The keys of all `same` and `differ`, sorted.
    related: Vec<String>,
    /// Of each rule, allow and never, where its own stand among them.
    relations: [Vec<Vec<usize>>; 2],
    /// The names that rules ask for.
    named: BTreeSet<String>,
}

/// A side of a rule: which of the four indexes speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    AllowFrom,
    AllowTo,
    NeverFrom,
    NeverTo,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::AllowFrom, Self::AllowTo, Self::NeverFrom, Self::NeverTo];

    /// Both sides of the rules of `polarity`.
    pub(crate) fn both(polarity: Polarity) -> (Self, Self) {
        match polarity {
            Polarity::Allow => (Self::AllowFrom, Self::AllowTo),
            Polarity::Never => (Self::NeverFrom, Self::NeverTo),
        }
    }

    fn polarity(self) -> Polarity {
        match self {
            Self::AllowFrom | Self::AllowTo => Polarity::Allow,
            Self::NeverFrom | Self::NeverTo => Polarity::Never,
        }
    }

    fn rules(self, rules: &RuleSet) -> &[Rule] {
        rules.of(self.polarity())
    }

    fn selector(self, rule: &Rule) -> &Selector {
        match self {
            Self::AllowFrom | Self::NeverFrom => &rule.from,
            Self::AllowTo | Self::NeverTo => &rule.to,
        }
    }
}

/// The rules whose selector on each side matches, and the values of related labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    matched: [Bits; 4],
    related: Vec<Option<LabelValue>>,
}

impl RuleSet {
    /// Compiles the set for many questions.
    #[must_use]
    pub fn classes(&self) -> Classes {
        Classes::new(Arc::new(self.clone()))
    }
}

impl Classes {
    pub(crate) fn new(rules: Arc<RuleSet>) -> Self {
        let all = || rules.allow.iter().chain(&rules.never);
        let mut related: Vec<_> = all().flat_map(|rule| rule.related.iter().cloned()).collect();
        related.sort_unstable();
        related.dedup();
        let relations = [Polarity::Allow, Polarity::Never].map(|polarity| {
            let own =
                |rule: &Rule| rule.related.iter().filter_map(|key| related.binary_search(key).ok()).collect();
            rules.of(polarity).iter().map(own).collect()
        });
        let terms = all().flat_map(|rule| rule.from.terms().iter().chain(rule.to.terms()));
        let named = terms.filter_map(|term| match term {
            Term::Node(name) => Some(name.as_str().to_owned()),
            Term::In(..) | Term::NotIn(..) | Term::Exists(_) | Term::Absent(_) | Term::User { .. } => None,
        });
        let named = named.collect();
        let sides = Side::ALL.map(|side| Index::new(side, &rules));
        Self { rules, sides, related, relations, named }
    }

    /// The rules, as they were given.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The class of `subject`.
    #[must_use]
    pub fn of(&self, subject: &Subject) -> Class {
        Class {
            matched: Side::ALL.map(|side| self.sides[side as usize].matched(side, &self.rules, subject)),
            related: self.related.iter().map(|key| subject.labels.get(key).cloned()).collect(),
        }
    }

    /// Whether any service may ever, at `wall` or later, flow from a subject of class `from` to one of `to`.
    #[must_use]
    pub fn may_ever(&self, from: &Class, to: &Class, wall: Timestamp) -> bool {
        self.grants(from, to, Window::ALWAYS).ever(wall)
    }

    /// What the rules grant to flows from `from` to `to`.
    pub(crate) fn grants(&self, from: &Class, to: &Class, validity: Window) -> Grants {
        self.grants_of(&self.joining(from, to), validity)
    }

    /// The rules that join the two: all that decides what flows from `from` to `to` are granted.
    pub(crate) fn joining(&self, from: &Class, to: &Class) -> Joining {
        let allow: Bits = self.numbers(Polarity::Allow, from, to).collect();
        // Where nothing is allowed nothing is left to forbid.
        let never = if allow == Bits::default() {
            Bits::default()
        } else {
            self.numbers(Polarity::Never, from, to).collect()
        };
        Joining { allow, never }
    }

    /// What these rules grant.
    pub(crate) fn grants_of(&self, joining: &Joining, validity: Window) -> Grants {
        let allow = joining.allow.iter().map(|number| &self.rules.allow[number]);
        let never = joining.never.iter().map(|number| &self.rules.never[number]);
        Grants::new(allow, never, validity)
    }

    /// The rules of `polarity` that join the two, as positions in the rule set, ascending.
    pub(crate) fn numbers<'a>(
        &'a self,
        polarity: Polarity,
        from: &'a Class,
        to: &'a Class,
    ) -> impl Iterator<Item = usize> + 'a {
        let (from_side, to_side) = Side::both(polarity);
        let both = from.matched[from_side as usize].and(&to.matched[to_side as usize]);
        both.filter(move |&number| self.relates(polarity, number, from, to))
    }

    /// Whether the `same` or `differ` of the rule at this position holds.
    pub(crate) fn relates(&self, polarity: Polarity, number: usize, from: &Class, to: &Class) -> bool {
        let keys = &self.relations[polarity as usize][number];
        let shared = |&key: &usize| from.related[key].is_some() && from.related[key] == to.related[key];
        relation_holds(polarity, keys, shared)
    }

    /// Whether a rule asks for this name: what a node of this name may do does not follow from its labels alone, and
    /// whoever chooses the name chooses rights.
    #[must_use]
    pub fn is_named(&self, name: &NodeName) -> bool {
        self.named.contains(name.as_str())
    }
}

impl Class {
    /// The rules whose selector on `side` matches, as positions in the rule set, ascending.
    pub(crate) fn met(&self, side: Side) -> impl Iterator<Item = usize> {
        self.matched[side as usize].iter()
    }
}

/// The rules that speak of flows from one subject to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Joining {
    allow: Bits,
    never: Bits,
}

/// Rule numbers by one term that a subject must meet, so that only those few are tried.
#[derive(Clone, Debug, Default)]
struct Index {
    by_label: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    by_name: BTreeMap<String, Vec<usize>>,
    /// Selectors without such a term: `*`, and those of negative terms only.
    others: Vec<usize>,
}

impl Index {
    fn new(side: Side, rules: &RuleSet) -> Self {
        let mut index = Self::default();
        for (number, rule) in side.rules(rules).iter().enumerate() {
            index.insert(number, side.selector(rule));
        }
        index
    }

    fn insert(&mut self, number: usize, selector: &Selector) {
        for term in selector.terms() {
            match term {
                Term::Node(name) => {
                    return self.by_name.entry(name.as_str().to_owned()).or_default().push(number);
                }
                Term::In(key, values) => {
                    let by_value = self.by_label.entry(key.as_str().to_owned()).or_default();
                    for value in values {
                        by_value.entry(value.as_str().to_owned()).or_default().push(number);
                    }
                    return;
                }
                Term::NotIn(..) | Term::Exists(_) | Term::Absent(_) | Term::User { .. } => {}
            }
        }
        self.others.push(number);
    }

    fn matched(&self, side: Side, rules: &RuleSet, subject: &Subject) -> Bits {
        let by_label = subject.labels.iter().filter_map(|(key, value)| {
            self.by_label.get(key.as_str()).and_then(|by_value| by_value.get(value.as_str()))
        });
        let by_name = self.by_name.get(subject.name.as_str());
        let mut bits = Bits::default();
        for &number in by_label.chain(by_name).chain([&self.others]).flatten() {
            if side.selector(&side.rules(rules)[number]).matches(subject, side.polarity()) {
                bits.set(number);
            }
        }
        bits
    }
}

/// A set of rule numbers. No trailing zero word, so that equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// The numbers, ascending.
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.and(self)
    }

    /// The numbers in both sets, ascending.
    fn and<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.0.iter().zip(&other.0).enumerate().flat_map(|(position, (ours, theirs))| {
            let mut word = ours & theirs;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(position * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut bits = Self::default();
        numbers.into_iter().for_each(|number| bits.set(number));
        bits
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use bulkhead_identity::{Labels, NodeName};
    use proptest::prelude::*;

    use super::*;
    use crate::{Decision, PortSet, RuleId, Service, selector::tests::term};

    pub(crate) fn rule(id: String) -> impl Strategy<Value = Rule> {
        let selector = || {
            proptest::collection::vec(term(), 0..3)
                .prop_map(|terms| Selector::all_of(terms).unwrap_or_else(Selector::everyone))
        };
        let ports = prop_oneof![Just("tcp/1"), Just("tcp/1-9"), Just("any"), Just("udp/1")];
        let related = proptest::collection::vec("[ab]", 0..2);
        let moment = || proptest::option::of((0u64..9).prop_map(Timestamp));
        (selector(), selector(), ports, related, moment(), moment()).prop_map(
            move |(from, to, ports, related, not_before, until)| Rule {
                id: RuleId(id.as_str().into()),
                from,
                to,
                related,
                ports: PortSet::parse(ports).unwrap(),
                not_before,
                until,
                hours: Vec::new(),
                file: "policy.toml".to_owned(),
                line: 1,
            },
        )
    }

    pub(crate) fn rules() -> impl Strategy<Value = RuleSet> {
        let named = |prefix: &'static str, count: usize| {
            (0..count).map(|n| rule(format!("{prefix}{n:03}"))).collect::<Vec<_>>()
        };
        // More than 64, so that classes span words.
        (prop_oneof![Just(3usize), Just(70)], 0usize..3)
            .prop_flat_map(move |(allow, never)| (named("a", allow), named("n", never)))
            .prop_map(|(allow, never)| RuleSet::new(allow, never))
    }

    pub(crate) fn subject() -> impl Strategy<Value = Subject> {
        let labels = proptest::collection::btree_map("[abc]", "[wxyz]", 0..4);
        ("n[123]", labels).prop_map(|(name, labels)| {
            let text: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            Subject { name: NodeName::parse(&name).unwrap(), labels: Labels::parse(&text.join(",")).unwrap() }
        })
    }

    /// Nodes of different names.
    pub(crate) fn nodes() -> impl Strategy<Value = Vec<Subject>> {
        proptest::collection::vec(subject(), 0..8).prop_map(|subjects| {
            let numbered = subjects.into_iter().enumerate().map(|(number, subject)| Subject {
                name: NodeName::parse(&format!("n{number}")).unwrap(),
                ..subject
            });
            numbered.collect()
        })
    }

    proptest! {
        #[test]
        fn classes_decide_as_the_rules_do(
            rules in rules(), from in subject(), to in subject(), wall in (0u64..10).prop_map(Timestamp)
        ) {
            let classes = rules.classes();
            let grants = classes.grants(&classes.of(&from), &classes.of(&to), Window::ALWAYS);
            for service in [Service::Tcp(1), Service::Tcp(9), Service::Udp(1), Service::Ip(47)] {
                let allowed = match rules.decide(&from, &to, service, wall) {
                    Decision::Allowed { rule, .. } => Some(rule),
                    Decision::Forbidden { .. } | Decision::NoRule { .. } => None,
                };
                prop_assert_eq!(grants.allows(service, wall), allowed.as_ref());
            }
            let ever = classes.may_ever(&classes.of(&from), &classes.of(&to), wall);
            prop_assert_eq!(ever, rules.may_ever(&from, &to, wall));
        }
    }
}
