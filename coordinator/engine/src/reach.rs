//! Who may ever talk to whom, in either direction, by label class. Nodes of one class are alike to every rule,
//! so the question is asked once per pair of classes, not per pair of nodes.

use bulkhead_acl::{Class, Classes, Subject};
use bulkhead_identity::{NodeName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The index. Holds active nodes only; `default()` joins nobody.
#[derive(Default)]
pub(crate) struct Reach {
    rules: Classes,
    numbers: BTreeMap<Class, usize>,
    /// By number of class.
    members: Vec<BTreeSet<NodeName>>,
    /// By number of class: those it may talk to, either way. Symmetric.
    joined: Vec<BTreeSet<usize>>,
    of: BTreeMap<NodeName, usize>,
    /// When a rule ends next, and the answers with it.
    changes_at: Option<Timestamp>,
}

impl Reach {
    pub(crate) fn new(rules: Classes, wall: Timestamp) -> Self {
        let both = rules.rules().allow.iter().chain(&rules.rules().never);
        let changes_at = both.filter_map(|rule| rule.until).filter(|until| *until > wall).min();
        Self { rules, changes_at, ..Self::default() }
    }

    pub(crate) fn rules(&self) -> &Classes {
        &self.rules
    }

    /// When to build this index anew.
    pub(crate) fn changes_at(&self) -> Option<Timestamp> {
        self.changes_at
    }

    /// Adds an active node, or moves it to the class of its new labels.
    pub(crate) fn insert(&mut self, subject: &Subject, wall: Timestamp) {
        self.remove(&subject.name);
        let class = self.rules.of(subject);
        let number = match self.numbers.get(&class) {
            Some(number) => *number,
            None => self.add_class(class, wall),
        };
        self.members[number].insert(subject.name.clone());
        self.of.insert(subject.name.clone(), number);
    }

    pub(crate) fn remove(&mut self, name: &NodeName) {
        if let Some(number) = self.of.remove(name) {
            self.members[number].remove(name);
        }
    }

    /// The nodes that `name` may talk to, either way, itself excepted.
    pub(crate) fn peers<'a>(&'a self, name: &'a NodeName) -> impl Iterator<Item = &'a NodeName> {
        let joined = self.of.get(name).into_iter().flat_map(|number| &self.joined[*number]);
        joined.flat_map(|number| &self.members[*number]).filter(move |peer| *peer != name)
    }

    /// Whether these two may talk, either way.
    pub(crate) fn joins(&self, name: &NodeName, peer: &NodeName) -> bool {
        let joined = |own: usize, other: usize| self.joined[own].contains(&other);
        name != peer
            && self.of.get(name).zip(self.of.get(peer)).is_some_and(|(own, other)| joined(*own, *other))
    }

    /// How many [`Self::peers`] there are.
    pub(crate) fn count(&self, name: &NodeName) -> usize {
        let Some(own) = self.of.get(name) else { return 0 };
        let joined = &self.joined[*own];
        let members: usize = joined.iter().map(|number| self.members[*number].len()).sum();
        members - usize::from(joined.contains(own))
    }

    fn add_class(&mut self, class: Class, wall: Timestamp) -> usize {
        let number = self.members.len();
        self.members.push(BTreeSet::new());
        self.joined.push(BTreeSet::new());
        let may = |a: &Class, b: &Class| self.rules.may_ever(a, b, wall) || self.rules.may_ever(b, a, wall);
        let others = self.numbers.iter().filter(|(other, _)| may(&class, other));
        let mut joined: BTreeSet<usize> = others.map(|(_, number)| *number).collect();
        if may(&class, &class) {
            joined.insert(number);
        }
        for other in &joined {
            self.joined[*other].insert(number);
        }
        self.joined[number] = joined;
        self.numbers.insert(class, number);
        number
    }
}
