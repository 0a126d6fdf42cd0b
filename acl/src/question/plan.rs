//! What a new policy would change, by label class and then by node.

use std::collections::BTreeSet;

use bulkhead_identity::{LabelKey, Labels, NodeName, Timestamp};

use crate::{
    PortSet, RuleId, RuleSet, Subject, Term,
    question::{
        Kind,
        census::{Group, group},
        difference::{Age, Change, Comparison, is_kept, rule_ids},
        extent::{Extents, Touched, unused},
    },
};

/// Most pairs of classes in one plan, now and later each.
pub const MAX_CLASS_CHANGES: usize = 500_000;

/// The effect of replacing one rule set by another.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// The rules that differ.
    pub rules: RuleChanges,
    /// The classes that the changes speak of, by their number.
    pub views: Vec<ClassView>,
    /// What changes at the moment that was asked about, ordered by class.
    pub classes: Vec<ClassChange>,
    /// What changes at later moments only: `until`, `not_before` and `hours` hide nothing.
    pub timed: Vec<TimedChange>,
    /// Whether this is all: not of more than [`MAX_CLASS_CHANGES`], nor, of later moments, beyond
    /// [`MAX_MOMENTS`](super::MAX_MOMENTS) and [`MAX_JUDGEMENTS`](super::MAX_JUDGEMENTS).
    pub complete: bool,
    /// Rules of the new set that join no two nodes, ordered by id.
    pub unused: Vec<UnusedRule>,
}

/// Ids of rules by what happened to them; a rule that only moved in its file did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RuleChanges {
    /// In the new set only.
    pub added: Vec<RuleId>,
    /// In the old set only.
    pub removed: Vec<RuleId>,
    /// In both, with other content.
    pub changed: Vec<RuleId>,
}

/// Nodes that neither rule set tells apart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ClassView {
    /// The labels that all of them share, of those that the rules speak of.
    pub labels: Labels,
    /// Their names, in order; at least one.
    pub nodes: Vec<NodeName>,
}

/// What changes between the nodes of two classes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ClassChange {
    /// Who opens the flow: an index into [`Plan::views`].
    pub from: usize,
    /// Who answers: an index into [`Plan::views`].
    pub to: usize,
    /// What becomes possible.
    pub gained: PortSet,
    /// What ends.
    pub lost: PortSet,
    /// The changed rules that have a part in it, ordered by id.
    pub by: Vec<RuleId>,
}

/// What changes between the nodes of two classes at a later moment, beyond what changes now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TimedChange {
    /// Who opens the flow: an index into [`Plan::views`].
    pub from: usize,
    /// Who answers: an index into [`Plan::views`].
    pub to: usize,
    /// The first moment at which it shows.
    pub at: Timestamp,
    /// What becomes possible, then or at some moment after.
    pub gained: PortSet,
    /// What ends, then or at some moment after.
    pub lost: PortSet,
    /// The changed rules that have a part in it, ordered by id.
    pub by: Vec<RuleId>,
}

/// A rule that joins no two nodes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnusedRule {
    /// Its id.
    pub rule: RuleId,
    /// Whether it permits or forbids.
    pub kind: Kind,
    /// Where it was written.
    pub file: String,
    /// Where it was written, from 1.
    pub line: usize,
    /// Whether the old rule of this id joined any.
    pub was_used: bool,
}

/// What changes for one ordered pair of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PairChange<'a> {
    /// Who opens the flow.
    pub from: &'a NodeName,
    /// Who answers.
    pub to: &'a NodeName,
    /// What becomes possible.
    pub gained: &'a PortSet,
    /// What ends.
    pub lost: &'a PortSet,
}

/// A plan in numbers. A pair is two different nodes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Pairs that gain a service.
    pub pairs_gained: u64,
    /// Pairs that lose a service.
    pub pairs_lost: u64,
    /// Pairs for which something changes at a later moment only.
    pub pairs_timed: u64,
    /// Pairs of classes that change.
    pub classes: usize,
    /// Rules that join no two nodes.
    pub unused: usize,
}

impl Plan {
    /// Whether nothing changes for any node, now or later.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty() && self.timed.is_empty()
    }

    /// The changes by node.
    pub fn pairs(&self) -> impl Iterator<Item = PairChange<'_>> {
        self.classes.iter().flat_map(|change| {
            self.between(change.from, change.to).map(|(from, to)| PairChange {
                from,
                to,
                gained: &change.gained,
                lost: &change.lost,
            })
        })
    }

    /// The ordered pairs of different nodes of two classes.
    fn between(&self, from: usize, to: usize) -> impl Iterator<Item = (&NodeName, &NodeName)> {
        let sources = self.views[from].nodes.iter();
        let destinations = &self.views[to].nodes;
        sources
            .flat_map(move |from| destinations.iter().filter(move |to| from != *to).map(move |to| (from, to)))
    }

    /// How much changes.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = |lost: bool| {
            let some =
                self.classes.iter().filter(|each| !if lost { &each.lost } else { &each.gained }.is_empty());
            some.map(|each| self.size(each.from, each.to)).sum()
        };
        Summary {
            pairs_gained: count(false),
            pairs_lost: count(true),
            pairs_timed: self.timed.iter().map(|each| self.size(each.from, each.to)).sum(),
            classes: self.classes.len(),
            unused: self.unused.len(),
        }
    }

    /// How many pairs of different nodes there are between two classes.
    fn size(&self, from: usize, to: usize) -> u64 {
        let nodes = |at: usize| self.views[at].nodes.len() as u64;
        nodes(from) * if from == to { nodes(to) - 1 } else { nodes(to) }
    }
}

/// What changes for `nodes` at `wall` and later when `new` replaces `old`.
#[must_use]
pub fn plan(old: &RuleSet, new: &RuleSet, nodes: &[Subject], wall: Timestamp) -> Plan {
    let (old_classes, new_classes) = (old.classes(), new.classes());
    let groups = group([&old_classes, &new_classes], nodes);
    let extents = [Extents::new(&groups, Age::Old), Extents::new(&groups, Age::New)];
    let mut comparison = Comparison::new(&old_classes, &new_classes, None, wall);
    let mut views = Views::new(&groups, [old, new]);
    let mut plan = Plan {
        rules: RuleChanges::between(old, new),
        views: Vec::new(),
        classes: Vec::new(),
        timed: Vec::new(),
        complete: true,
        unused: unused(&extents, &groups, [&old_classes, &new_classes]),
    };
    let touched = Touched::new(&comparison, &extents, [&old_classes, &new_classes], groups.len());
    'all: for (at, from) in groups.iter().enumerate() {
        for other in touched.by(at, &groups) {
            let to = &groups[other];
            if at == other && from.nodes.len() == 1 {
                continue;
            }
            let difference = comparison.between(&from.classes, &to.classes);
            plan.complete &= difference.complete;
            if plan.classes.len().max(plan.timed.len()) >= MAX_CLASS_CHANGES {
                plan.complete = false;
                break 'all;
            }
            if !difference.now.is_empty() {
                let (from, to) = (views.number(at), views.number(other));
                let Change { gained, lost, by } = difference.now.clone();
                plan.classes.push(ClassChange { from, to, gained, lost, by });
            }
            if let Some((moment, change)) = &difference.later {
                let (from, to) = (views.number(at), views.number(other));
                let Change { gained, lost, by } = change.clone();
                plan.timed.push(TimedChange { from, to, at: *moment, gained, lost, by });
            }
        }
    }
    plan.views = views.shown;
    plan
}

impl RuleChanges {
    fn between(old: &RuleSet, new: &RuleSet) -> Self {
        let (old, new) = (rule_ids(old), rule_ids(new));
        let mut changes = Self::default();
        for (id, now) in &new {
            match old.get(id) {
                None => changes.added.push((*id).clone()),
                Some(before) if !is_kept(*before, *now) => changes.changed.push((*id).clone()),
                Some(_) => {}
            }
        }
        changes.removed = old.keys().filter(|id| !new.contains_key(*id)).map(|id| (*id).clone()).collect();
        changes
    }
}

/// The groups that changes speak of, numbered as they come up.
struct Views<'g, 'n> {
    groups: &'g [Group<'n, 2>],
    numbers: Vec<Option<usize>>,
    shown: Vec<ClassView>,
    /// The labels that rules speak of.
    keys: BTreeSet<&'g str>,
}

impl<'g, 'n> Views<'g, 'n> {
    fn new(groups: &'g [Group<'n, 2>], sets: [&'g RuleSet; 2]) -> Self {
        let rules = || sets.into_iter().flat_map(|rules| rules.allow.iter().chain(&rules.never));
        let terms = rules().flat_map(|rule| rule.from.terms().iter().chain(rule.to.terms()));
        let keys = terms.filter_map(Term::key).map(LabelKey::as_str);
        let keys = keys.chain(rules().flat_map(|rule| rule.related.iter().map(String::as_str)));
        Self { groups, numbers: vec![None; groups.len()], shown: Vec::new(), keys: keys.collect() }
    }

    fn number(&mut self, at: usize) -> usize {
        if let Some(number) = self.numbers[at] {
            return number;
        }
        let group = &self.groups[at];
        let (first, others) = group.labels.split_first().expect("a group has a node, and that has labels");
        let told = first.iter().filter(|(key, value)| {
            self.keys.contains(key.as_str())
                && others.iter().all(|labels| labels.get(key.as_str()) == Some(value))
        });
        let labels = Labels::new(told.map(|(key, value)| (key.clone(), value.clone()))).unwrap_or_default();
        let number = self.shown.len();
        self.shown.push(ClassView { labels, nodes: group.nodes.iter().map(|&name| name.clone()).collect() });
        self.numbers[at] = Some(number);
        number
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Hours, Polarity, Rule, Service,
        class::tests::{nodes, rules},
        rule::tests::{rule, subject},
    };

    const SERVICES: [Service; 5] =
        [Service::Tcp(1), Service::Tcp(9), Service::Udp(1), Service::Echo, Service::Ip(47)];

    /// Two rule sets of which the second keeps some rules of the first.
    fn change() -> impl Strategy<Value = (RuleSet, RuleSet)> {
        (rules(), rules(), proptest::collection::vec(any::<bool>(), 73)).prop_map(|(old, fresh, keep)| {
            let mix = |old: &[Rule], fresh: &[Rule]| -> Vec<Rule> {
                let all: BTreeMap<_, _> =
                    fresh.iter().chain(old).map(|rule| (rule.id.clone(), rule)).collect();
                let kept = all.keys().zip(&keep).filter(|(_, keep)| **keep).map(|(id, _)| id);
                let kept: BTreeSet<_> = kept.cloned().collect();
                let chosen = |rules: &[Rule], want: bool| -> Vec<_> {
                    rules.iter().filter(|rule| kept.contains(&rule.id) == want).cloned().collect()
                };
                [chosen(old, true), chosen(fresh, false)].concat()
            };
            let new = RuleSet::new(mix(&old.allow, &fresh.allow), mix(&old.never, &fresh.never));
            (old, new)
        })
    }

    fn differs(
        (old, new): (&RuleSet, &RuleSet),
        from: &Subject,
        to: &Subject,
        wall: u64,
    ) -> [Vec<Service>; 2] {
        let allows = |rules: &RuleSet, service| rules.decide(from, to, service, Timestamp(wall)).is_allowed();
        let only = |a, b| SERVICES.into_iter().filter(|&s| allows(a, s) && !allows(b, s)).collect();
        [only(new, old), only(old, new)]
    }

    fn of(ports: &PortSet) -> Vec<Service> {
        SERVICES.into_iter().filter(|&service| ports.contains(service)).collect()
    }

    proptest! {
        #[test]
        fn a_plan_is_what_comparing_every_pair_of_nodes_finds(
            (old, new) in change(), nodes in nodes(), wall in 0u64..10
        ) {
            let plan = plan(&old, &new, &nodes, Timestamp(wall));
            prop_assert!(plan.complete);
            let planned: BTreeMap<_, _> = plan
                .pairs()
                .map(|pair| ((pair.from, pair.to), [of(pair.gained), of(pair.lost)]))
                .collect();
            let mut later: BTreeMap<_, _> = BTreeMap::new();
            for change in &plan.timed {
                for pair in plan.between(change.from, change.to) {
                    later.insert(pair, (change.at, [of(&change.gained), of(&change.lost)]));
                }
            }
            let mut summary = Summary { classes: plan.classes.len(), unused: plan.unused.len(), ..Summary::default() };
            for from in &nodes {
                for to in nodes.iter().filter(|to| to.name != from.name) {
                    let now = differs((&old, &new), from, to, wall);
                    let found = planned.get(&(&from.name, &to.name)).cloned().unwrap_or_default();
                    prop_assert_eq!(&found, &now);
                    // Windows of the generated rules end before second 10.
                    let then = (wall + 1..12).map(|at| (Timestamp(at), differs((&old, &new), from, to, at)));
                    let mut beyond = [BTreeSet::new(), BTreeSet::new()];
                    let mut first = None;
                    for (at, then) in then {
                        for (way, services) in then.iter().enumerate() {
                            let fresh: Vec<_> = services.iter().filter(|s| !now[way].contains(s)).copied().collect();
                            first = first.or((!fresh.is_empty()).then_some(at));
                            beyond[way].extend(fresh);
                        }
                    }
                    let beyond = beyond.map(|set| set.into_iter().collect::<Vec<_>>());
                    let expected = first.map(|at| (at, beyond));
                    prop_assert_eq!(later.get(&(&from.name, &to.name)).cloned(), expected);
                    summary.pairs_gained += u64::from(!now[0].is_empty());
                    summary.pairs_lost += u64::from(!now[1].is_empty());
                    summary.pairs_timed += u64::from(first.is_some());
                }
            }
            prop_assert_eq!(plan.summary(), summary);
        }

        #[test]
        fn every_change_names_a_changed_rule((old, new) in change(), nodes in nodes(), wall in 0u64..10) {
            let plan = plan(&old, &new, &nodes, Timestamp(wall));
            let RuleChanges { added, removed, changed } = &plan.rules;
            let changes: BTreeSet<_> = [added, removed, changed].into_iter().flatten().collect();
            let named = plan.classes.iter().map(|each| &each.by).chain(plan.timed.iter().map(|each| &each.by));
            for by in named {
                prop_assert!(!by.is_empty());
                prop_assert!(by.iter().all(|id| changes.contains(id)));
            }
        }

        #[test]
        fn unused_rules_are_those_that_join_no_two_nodes((old, new) in change(), nodes in nodes()) {
            let joins = |rule: &Rule, polarity| {
                let others = |from: &Subject| nodes.iter().filter(|to| to.name != from.name).cloned().collect::<Vec<_>>();
                nodes.iter().any(|from| others(from).iter().any(|to| rule.joins(polarity, from, to)))
            };
            let mut expected = Vec::new();
            for polarity in [Polarity::Allow, Polarity::Never] {
                for rule in new.of(polarity).iter().filter(|rule| !joins(rule, polarity)) {
                    let before = old.of(polarity).iter().find(|old| old.id == rule.id);
                    expected.push((rule.id.clone(), before.is_some_and(|before| joins(before, polarity))));
                }
            }
            expected.sort();
            let plan = plan(&old, &new, &nodes, Timestamp(0));
            let found: Vec<_> = plan.unused.into_iter().map(|each| (each.rule, each.was_used)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_widening_for_the_night_does_not_hide_from_a_plan_made_by_day() {
        // Monday, 2026-06-01T12:00:00Z.
        let wall = Timestamp(1_780_315_200);
        let day = rule("ssh", "role=ops", "role=plc", "tcp/22");
        let night = Rule { hours: vec![Hours::parse("Mon-Fri 01:00-02:00 Europe/Berlin").unwrap()], ..day };
        let new = RuleSet::new(vec![night], vec![]);
        let nodes = [subject("ann", "role=ops"), subject("plc", "role=plc")];
        let plan = plan(&RuleSet::default(), &new, &nodes, wall);
        assert!(plan.classes.is_empty() && !plan.is_empty());
        assert_eq!(plan.timed[0].at, Timestamp(wall.0 + 11 * 3600));
        assert_eq!(plan.timed[0].gained, PortSet::parse("tcp/22").unwrap());
        assert_eq!(plan.views[plan.timed[0].from].labels.to_string(), "role=ops");
    }

    #[test]
    fn moving_a_rule_within_its_file_changes_nothing() {
        let old = RuleSet::new(vec![rule("a", "*", "*", "any")], vec![]);
        let new = RuleSet::new(vec![Rule { line: 7, ..rule("a", "*", "*", "any") }], vec![]);
        let plan = plan(&old, &new, &[subject("a", ""), subject("b", "")], Timestamp(0));
        assert!(plan.is_empty());
        assert_eq!(plan.rules, RuleChanges::default());
    }
}
