//! Which groups of nodes each rule can speak of: what a changed rule touches, and what no rule uses.

use std::collections::BTreeSet;

use crate::{
    Classes, Polarity, RuleId,
    class::Side,
    question::{
        Kind, UnusedRule,
        census::Group,
        difference::{Age, Comparison, POLARITIES},
    },
};

/// For each side of each rule of one set, the groups that its selector matches, ascending.
pub(super) struct Extents([Vec<Vec<usize>>; 4]);

impl Extents {
    pub(super) fn new(groups: &[Group<'_, 2>], age: Age) -> Self {
        let mut sides: [Vec<Vec<usize>>; 4] = Default::default();
        for (at, group) in groups.iter().enumerate() {
            for side in Side::ALL {
                let rules = &mut sides[side as usize];
                for number in group.classes[age as usize].met(side) {
                    if rules.len() <= number {
                        rules.resize(number + 1, Vec::new());
                    }
                    rules[number].push(at);
                }
            }
        }
        Self(sides)
    }

    /// The groups on both sides of the rule at this position.
    fn of(&self, polarity: Polarity, number: usize) -> (&[usize], &[usize]) {
        let side = |side: Side| self.0[side as usize].get(number).map_or(&[][..], Vec::as_slice);
        let (from, to) = Side::both(polarity);
        (side(from), side(to))
    }

    /// Whether the rule joins two different nodes.
    fn joins(&self, rule: (Polarity, usize), classes: &Classes, groups: &[Group<'_, 2>], age: Age) -> bool {
        let (polarity, number) = rule;
        let (from, to) = self.of(polarity, number);
        from.iter().any(|&a| {
            let (source, own) = (&groups[a], &groups[a].classes[age as usize]);
            to.iter().any(|&b| {
                (a != b || source.nodes.len() > 1)
                    && classes.relates(polarity, number, own, &groups[b].classes[age as usize])
            })
        })
    }
}

/// The pairs of groups that a changed rule joins.
pub(super) struct Touched<'a> {
    sets: [&'a Classes; 2],
    extents: &'a [Extents; 2],
    /// For each group, the changed rules that match it as the source.
    sources: Vec<Vec<(Age, Polarity, usize)>>,
}

impl<'a> Touched<'a> {
    pub(super) fn new(
        comparison: &Comparison<'_>,
        extents: &'a [Extents; 2],
        sets: [&'a Classes; 2],
        groups: usize,
    ) -> Self {
        let mut sources = vec![Vec::new(); groups];
        for age in [Age::Old, Age::New] {
            for polarity in POLARITIES {
                for number in comparison.changed(age, polarity) {
                    for &from in extents[age as usize].of(polarity, number).0 {
                        sources[from].push((age, polarity, number));
                    }
                }
            }
        }
        Self { sets, extents, sources }
    }

    /// The groups to which changed rules join the group at `from`, ascending.
    pub(super) fn by(&self, from: usize, groups: &[Group<'_, 2>]) -> Vec<usize> {
        if self.sources[from].is_empty() {
            return Vec::new();
        }
        let mut touched = vec![false; groups.len()];
        for &(age, polarity, number) in &self.sources[from] {
            let (classes, own) = (self.sets[age as usize], &groups[from].classes[age as usize]);
            for &to in self.extents[age as usize].of(polarity, number).1 {
                touched[to] =
                    touched[to] || classes.relates(polarity, number, own, &groups[to].classes[age as usize]);
            }
        }
        touched.iter().enumerate().filter(|(_, touched)| **touched).map(|(to, _)| to).collect()
    }
}

/// The rules of the new set that join no two nodes, ordered by id.
pub(super) fn unused(
    extents: &[Extents; 2],
    groups: &[Group<'_, 2>],
    sets: [&Classes; 2],
) -> Vec<UnusedRule> {
    let idle = |age: Age, polarity| {
        let (classes, extents) = (sets[age as usize], &extents[age as usize]);
        let rules = classes.rules().of(polarity).iter().enumerate();
        rules.filter(move |(number, _)| !extents.joins((polarity, *number), classes, groups, age))
    };
    let mut unused = Vec::new();
    for (polarity, kind) in [(Polarity::Allow, Kind::Allow), (Polarity::Never, Kind::Never)] {
        let before: BTreeSet<&RuleId> = idle(Age::Old, polarity).map(|(_, rule)| &rule.id).collect();
        let known: BTreeSet<&RuleId> = sets[0].rules().of(polarity).iter().map(|rule| &rule.id).collect();
        unused.extend(idle(Age::New, polarity).map(|(_, rule)| UnusedRule {
            rule: rule.id.clone(),
            kind,
            file: rule.file.clone(),
            line: rule.line,
            was_used: known.contains(&rule.id) && !before.contains(&rule.id),
        }));
    }
    unused.sort_unstable_by(|a, b| a.rule.cmp(&b.rule));
    unused
}
