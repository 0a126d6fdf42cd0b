//! The inventory, grouped by label class: thousands of nodes are few questions.

use std::collections::BTreeMap;

use bulkhead_identity::{Labels, NodeName};

use crate::{Class, Classes, RuleSet, Subject};

/// A rule set and the nodes, those together that the rules treat alike.
#[derive(Clone, Debug)]
pub struct Census {
    pub(super) classes: Classes,
    /// Ordered by the first name in each.
    pub(super) members: Vec<Members>,
    /// Of each node, where it stands in `members`.
    pub(super) places: BTreeMap<NodeName, usize>,
}

/// The nodes of one class.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) class: Class,
    /// Sorted, at least one.
    pub(super) nodes: Vec<NodeName>,
}

impl Census {
    /// Groups `nodes` by what `rules` can see of them.
    #[must_use]
    pub fn new(rules: &RuleSet, nodes: &[Subject]) -> Self {
        let classes = rules.classes();
        let groups = group([&classes], nodes).into_iter();
        let members: Vec<_> = groups
            .map(|Group { classes: [class], nodes, .. }| Members {
                class,
                nodes: nodes.into_iter().cloned().collect(),
            })
            .collect();
        let places = members.iter().enumerate();
        let places = places.flat_map(|(at, each)| each.nodes.iter().map(move |name| (name.clone(), at)));
        let places = places.collect();
        Self { classes, members, places }
    }

    pub(super) fn class(&self, node: &NodeName) -> Option<&Class> {
        self.places.get(node).map(|&at| &self.members[at].class)
    }
}

/// Nodes that each of `N` rule sets treats alike.
#[derive(Debug)]
pub(super) struct Group<'n, const N: usize> {
    pub(super) classes: [Class; N],
    /// Sorted, at least one.
    pub(super) nodes: Vec<&'n NodeName>,
    /// The different labels that they carry.
    pub(super) labels: Vec<&'n Labels>,
}

/// The groups of `nodes`, ordered by the first name in each. A name that appears twice counts once for each
/// class it is in.
pub(super) fn group<'n, const N: usize>(sets: [&Classes; N], nodes: &'n [Subject]) -> Vec<Group<'n, N>> {
    // Labels tell the class, except of nodes whose names a rule asks for: few subjects are looked at.
    let mut alike: BTreeMap<(&Labels, Option<&NodeName>), Vec<&Subject>> = BTreeMap::new();
    for node in nodes {
        let named = sets.iter().any(|set| set.is_named(&node.name)).then_some(&node.name);
        alike.entry((&node.labels, named)).or_default().push(node);
    }
    let mut groups: BTreeMap<[Class; N], Vec<&Subject>> = BTreeMap::new();
    for members in alike.into_values() {
        let classes = sets.map(|set| set.of(members[0]));
        groups.entry(classes).or_default().extend(members);
    }
    let mut groups: Vec<_> =
        groups.into_iter().map(|(classes, members)| Group::of(classes, &members)).collect();
    groups.sort_unstable_by(|a, b| a.nodes.cmp(&b.nodes));
    groups
}

impl<'n, const N: usize> Group<'n, N> {
    fn of(classes: [Class; N], members: &[&'n Subject]) -> Self {
        let mut nodes: Vec<_> = members.iter().map(|subject| &subject.name).collect();
        nodes.sort_unstable();
        nodes.dedup();
        // Nodes of equal labels stand next to each other, so most repetition goes before the sort.
        let mut labels: Vec<_> = members.iter().map(|subject| &subject.labels).collect();
        labels.dedup();
        labels.sort_unstable();
        labels.dedup();
        Self { classes, nodes, labels }
    }
}
