//! Who may ever talk to whom, in either direction, by label class. Nodes of one class are alike to every rule, so
//! they form one group, and the question is asked once per pair of groups, not per pair of nodes.
//!
//! A node that comes, goes or gets other labels touches its own groups only. Other rules make another index, and
//! [`Reach::changes_since`] says whose peers differ between the two: nobody else is to be told anything.

use bulkhead_acl::{Class, Classes, Subject};
use bulkhead_identity::{NodeName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Number of a group.
type Number = usize;

/// The index. Holds active nodes only; `default()` joins nobody.
#[derive(Default)]
pub(crate) struct Reach {
    rules: Arc<Classes>,
    numbers: BTreeMap<Class, Number>,
    /// By number; those that `free` names are empty.
    groups: Vec<Group>,
    free: Vec<Number>,
    of: BTreeMap<NodeName, Number>,
    /// When a rule ends next, and the answers with it.
    changes_at: Option<Timestamp>,
}

/// The nodes of one class.
#[derive(Default)]
struct Group {
    class: Option<Class>,
    members: BTreeSet<NodeName>,
    /// Those it may talk to, either way. Symmetric.
    joined: BTreeSet<Number>,
}

/// Nodes that gained or lost the same peers.
pub(crate) struct Changed<'a> {
    pub(crate) nodes: Vec<&'a NodeName>,
    /// Perhaps with the nodes themselves; no node is its own peer.
    pub(crate) peers: Vec<&'a NodeName>,
}

impl Reach {
    pub(crate) fn new(rules: Arc<Classes>, wall: Timestamp) -> Self {
        let both = rules.rules().allow.iter().chain(&rules.rules().never);
        let changes_at = both.filter_map(|rule| rule.until).filter(|until| *until > wall).min();
        Self { rules, changes_at, ..Self::default() }
    }

    pub(crate) fn rules(&self) -> &Arc<Classes> {
        &self.rules
    }

    /// When to build this index anew.
    pub(crate) fn changes_at(&self) -> Option<Timestamp> {
        self.changes_at
    }

    /// Adds an active node, or moves it to the group of its new labels.
    pub(crate) fn insert(&mut self, subject: &Subject, wall: Timestamp) {
        let class = self.rules.of(subject);
        let there = self.numbers.get(&class).copied();
        if there.is_some() && self.of.get(&subject.name).copied() == there {
            return;
        }
        self.remove(&subject.name);
        let number = match self.numbers.get(&class) {
            Some(number) => *number,
            None => self.add_group(class, wall),
        };
        self.groups[number].members.insert(subject.name.clone());
        self.of.insert(subject.name.clone(), number);
    }

    pub(crate) fn remove(&mut self, name: &NodeName) {
        let Some(number) = self.of.remove(name) else { return };
        self.groups[number].members.remove(name);
        if self.groups[number].members.is_empty() {
            self.remove_group(number);
        }
    }

    /// What the rules can see of a node.
    pub(crate) fn class(&self, name: &NodeName) -> Option<&Class> {
        self.group(name)?.class.as_ref()
    }

    /// The nodes that `name` may talk to, either way, itself excepted.
    pub(crate) fn peers<'a>(&'a self, name: &'a NodeName) -> impl Iterator<Item = &'a NodeName> {
        let joined = self.group(name).into_iter().flat_map(|group| &group.joined);
        self.members(joined).filter(move |peer| *peer != name)
    }

    /// Whether these two may talk, either way.
    pub(crate) fn joins(&self, name: &NodeName, peer: &NodeName) -> bool {
        name != peer && self.joined(self.of.get(name), self.of.get(peer))
    }

    /// How many [`Self::peers`] there are.
    pub(crate) fn count(&self, name: &NodeName) -> usize {
        let Some(own) = self.of.get(name) else { return 0 };
        let joined = &self.groups[*own].joined;
        let members: usize = joined.iter().map(|number| self.groups[*number].members.len()).sum();
        members - usize::from(joined.contains(own))
    }

    /// The groups that `name` may talk to; for [`Self::peers_changed_since`].
    pub(crate) fn groups_joined(&self, name: &NodeName) -> BTreeSet<Number> {
        self.group(name).map(|group| group.joined.clone()).unwrap_or_default()
    }

    /// The peers that `name` gained or lost by moving to another group. `before` is what [`Self::groups_joined`]
    /// said then; nothing else moved since.
    pub(crate) fn peers_changed_since<'a>(
        &'a self,
        before: &'a BTreeSet<Number>,
        name: &NodeName,
    ) -> impl Iterator<Item = &'a NodeName> {
        const NONE: &BTreeSet<Number> = &BTreeSet::new();
        let now = self.group(name).map_or(NONE, |group| &group.joined);
        self.members(before.symmetric_difference(now))
    }

    /// Every node whose peers differ from those it had under `before`, an index of the same nodes.
    pub(crate) fn changes_since<'a>(&'a self, before: &Self) -> Vec<Changed<'a>> {
        // Nodes that were alike, and are: all that was and is asked about two of these is asked once.
        let mut alike: BTreeMap<(Option<Number>, Number), Vec<&NodeName>> = BTreeMap::new();
        for (name, number) in &self.of {
            alike.entry((before.of.get(name).copied(), *number)).or_default().push(name);
        }
        let differ = |(old, new): &(Option<Number>, Number),
                      (old_peer, new_peer): &(Option<Number>, Number)| {
            let then = before.joined(old.as_ref(), old_peer.as_ref());
            then != self.joined(Some(new), Some(new_peer))
        };
        let changed = alike.iter().map(|(own, nodes)| {
            let others = alike.iter().filter(|(other, _)| differ(own, other));
            Changed { nodes: nodes.clone(), peers: others.flat_map(|(_, peers)| peers).copied().collect() }
        });
        changed.filter(|changed| !changed.peers.is_empty()).collect()
    }

    fn group(&self, name: &NodeName) -> Option<&Group> {
        self.of.get(name).map(|number| &self.groups[*number])
    }

    fn joined(&self, own: Option<&Number>, other: Option<&Number>) -> bool {
        own.zip(other).is_some_and(|(own, other)| self.groups[*own].joined.contains(other))
    }

    fn members<'a>(
        &'a self,
        numbers: impl Iterator<Item = &'a Number> + 'a,
    ) -> impl Iterator<Item = &'a NodeName> {
        numbers.flat_map(|number| &self.groups[*number].members)
    }

    fn add_group(&mut self, class: Class, wall: Timestamp) -> Number {
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        let may = |a: &Class, b: &Class| self.rules.may_ever(a, b, wall) || self.rules.may_ever(b, a, wall);
        let others = self.numbers.iter().filter(|(other, _)| may(&class, other));
        let mut joined: BTreeSet<Number> = others.map(|(_, number)| *number).collect();
        if may(&class, &class) {
            joined.insert(number);
        }
        for other in joined.iter().filter(|other| **other != number) {
            self.groups[*other].joined.insert(number);
        }
        self.groups[number] = Group { class: Some(class.clone()), members: BTreeSet::new(), joined };
        self.numbers.insert(class, number);
        number
    }

    /// A group that lost its last member goes, so that labels that come and go leave nothing behind.
    fn remove_group(&mut self, number: Number) {
        let Group { class, joined, .. } = std::mem::take(&mut self.groups[number]);
        for other in joined.iter().filter(|other| **other != number) {
            self.groups[*other].joined.remove(&number);
        }
        if let Some(class) = class {
            self.numbers.remove(&class);
        }
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_acl::{PortSet, Rule, RuleId, RuleSet, Selector};
    use bulkhead_identity::Labels;
    use proptest::prelude::*;

    const SELECTORS: [&str; 9] = [
        "*",
        "role=web",
        "role=db",
        "role!=web",
        "env",
        "!env",
        "env=prod",
        "env in (prod, stage), role=web",
        "node:n3",
    ];
    const LABELS: [&str; 6] =
        ["", "role=web", "role=db", "env=prod", "env=prod,role=web", "env=stage,role=db"];

    fn subject(node: usize, labels: usize) -> Subject {
        let name = NodeName::parse(&format!("n{node}")).unwrap();
        Subject { name, labels: Labels::parse(LABELS[labels]).unwrap() }
    }

    prop_compose! {
        fn rule()(
            number in 0..1000,
            from in prop::sample::select(&SELECTORS[..]),
            to in prop::sample::select(&SELECTORS[..]),
            related in prop::option::of(Just("env")),
            ports in prop::sample::select(vec!["tcp/1", "any"]),
            until in prop::option::of(0u64..20),
        ) -> Rule {
            Rule {
                id: RuleId(format!("r{number}").as_str().into()),
                from: Selector::parse(from).unwrap(),
                to: Selector::parse(to).unwrap(),
                related: related.map(str::to_owned).into_iter().collect(),
                ports: PortSet::parse(ports).unwrap(),
                not_before: None,
                until: until.map(Timestamp),
                hours: Vec::new(),
                file: "main.toml".to_owned(),
                line: 1,
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize, usize),
        Remove(usize),
        Rules(Vec<Rule>, Vec<Rule>),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let rules = |most| proptest::collection::vec(rule(), 0..most);
        prop_oneof![
            6 => (0usize..8, 0..LABELS.len()).prop_map(|(node, labels)| Step::Insert(node, labels)),
            1 => (0usize..8).prop_map(Step::Remove),
            2 => (rules(4), rules(2)).prop_map(|(allow, never)| Step::Rules(allow, never)),
            1 => (1u64..8).prop_map(Step::Wait),
        ]
    }

    /// Everything that the index says, from the rules alone.
    fn check(reach: &Reach, nodes: &BTreeMap<NodeName, Subject>, wall: Timestamp) {
        let rules = reach.rules().rules();
        for (name, node) in nodes {
            let may = |peer: &&Subject| {
                let either = rules.may_ever(node, peer, wall) || rules.may_ever(peer, node, wall);
                peer.name != node.name && either
            };
            let expected: BTreeSet<_> = nodes.values().filter(may).map(|peer| &peer.name).collect();
            assert_eq!(reach.peers(name).collect::<BTreeSet<_>>(), expected, "peers of {name}");
            assert_eq!(reach.count(name), expected.len());
            assert!(nodes.keys().all(|peer| reach.joins(name, peer) == expected.contains(peer)));
        }
        let classes: BTreeSet<_> = nodes.values().map(|node| reach.rules().of(node)).collect();
        assert_eq!(
            reach.numbers.keys().collect::<BTreeSet<_>>(),
            classes.iter().collect(),
            "a class left behind"
        );
        assert!(reach.groups.len() <= 9, "a group is used again");
    }

    fn peers(reach: &Reach, name: &NodeName) -> BTreeSet<NodeName> {
        reach.peers(name).cloned().collect()
    }

    proptest! {
        #[test]
        fn after_any_changes_the_index_is_the_one_built_from_scratch(
            steps in proptest::collection::vec(step(), 1..40)
        ) {
            let (mut reach, mut nodes, mut wall) = (Reach::default(), BTreeMap::new(), Timestamp(0));
            for step in steps {
                match step {
                    Step::Insert(node, labels) => {
                        let subject = subject(node, labels);
                        let before = (reach.groups_joined(&subject.name), peers(&reach, &subject.name));
                        reach.insert(&subject, wall);
                        let after = peers(&reach, &subject.name);
                        let changed: BTreeSet<_> = reach
                            .peers_changed_since(&before.0, &subject.name)
                            .filter(|peer| **peer != subject.name)
                            .cloned()
                            .collect();
                        prop_assert_eq!(changed, before.1.symmetric_difference(&after).cloned().collect());
                        nodes.insert(subject.name.clone(), subject);
                    }
                    Step::Remove(node) => {
                        let name = subject(node, 0).name;
                        reach.remove(&name);
                        nodes.remove(&name);
                    }
                    Step::Rules(allow, never) => {
                        let rules = RuleSet::new(allow, never).classes();
                        reach = rebuilt(&reach, Arc::new(rules), &nodes, wall);
                    }
                    Step::Wait(seconds) => {
                        wall = Timestamp(wall.0 + seconds);
                        if reach.changes_at().is_some_and(|at| wall >= at) {
                            reach = rebuilt(&reach, reach.rules().clone(), &nodes, wall);
                        }
                    }
                }
                check(&reach, &nodes, wall);
            }
        }
    }

    /// An index under other rules, of which `changes_since` says exactly whose peers differ.
    fn rebuilt(
        before: &Reach,
        rules: Arc<Classes>,
        nodes: &BTreeMap<NodeName, Subject>,
        wall: Timestamp,
    ) -> Reach {
        let mut reach = Reach::new(rules, wall);
        nodes.values().for_each(|node| reach.insert(node, wall));
        let mut told: BTreeMap<NodeName, BTreeSet<NodeName>> = BTreeMap::new();
        for Changed { nodes, peers } in reach.changes_since(before) {
            for name in nodes {
                let others = peers.iter().copied().filter(|peer| *peer != name).cloned();
                assert!(told.insert(name.clone(), others.collect()).is_none(), "{name} is told twice");
            }
        }
        for name in nodes.keys() {
            let (then, now) = (peers(before, name), peers(&reach, name));
            let differ: BTreeSet<_> = then.symmetric_difference(&now).cloned().collect();
            assert_eq!(told.remove(name).unwrap_or_default(), differ, "what {name} is told");
        }
        reach
    }
}
