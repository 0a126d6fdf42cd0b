//! What two rule sets make of one pair of classes, now and later, and which of the changed rules did it.
//!
//! Only the rules that join the pair matter, and few combinations of rules join any pair: each combination is
//! worked out once.

use std::{collections::BTreeMap, rc::Rc};

use bulkhead_identity::Timestamp;

use crate::{
    Class, Classes, Polarity, PortSet, Rule, RuleId, RuleSet,
    question::{moments::Moments, reach::union},
};

/// Both polarities, in the order of the tables here.
pub(super) const POLARITIES: [Polarity; 2] = [Polarity::Allow, Polarity::Never];

/// Most rules that one question judges at later moments, counted once for each moment.
pub const MAX_JUDGEMENTS: usize = 50_000_000;

/// Which of the two rule sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Old,
    New,
}

/// What becomes possible and what ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) gained: PortSet,
    pub(super) lost: PortSet,
    /// The changed rules that have a part in it, ordered by id.
    pub(super) by: Vec<RuleId>,
}

/// All that changes between two classes.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) now: Change,
    /// What changes beyond that at later moments, and the first of them.
    pub(super) later: Option<(Timestamp, Change)>,
    /// The first later moment at which more ends than ends now.
    pub(super) ends: Option<Timestamp>,
    /// Whether every later moment was looked at.
    pub(super) complete: bool,
}

/// Two rule sets, compared.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    old: &'a Classes,
    new: &'a Classes,
    /// Of each rule of each set and polarity, whether the other set has it with the same content.
    changed: [[Vec<bool>; 2]; 2],
    /// Only these services count.
    within: Option<&'a PortSet>,
    wall: Timestamp,
    moments: Moments,
    known: BTreeMap<Vec<usize>, Rc<Difference>>,
    /// Room for the next combination.
    joining: Vec<usize>,
    judged: usize,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        old: &'a Classes,
        new: &'a Classes,
        within: Option<&'a PortSet>,
        wall: Timestamp,
    ) -> Self {
        let changed = [
            POLARITIES.map(|polarity| changed(old.rules().of(polarity), new.rules().of(polarity))),
            POLARITIES.map(|polarity| changed(new.rules().of(polarity), old.rules().of(polarity))),
        ];
        let moments = Moments::after(wall);
        Self {
            old,
            new,
            changed,
            within,
            wall,
            moments,
            known: BTreeMap::new(),
            joining: Vec::new(),
            judged: 0,
        }
    }

    /// The positions of the rules of one set and polarity that the other set lacks, or has otherwise.
    pub(super) fn changed(&self, age: Age, polarity: Polarity) -> impl Iterator<Item = usize> {
        let flags = &self.changed[age as usize][polarity as usize];
        flags.iter().enumerate().filter(|(_, changed)| **changed).map(|(number, _)| number)
    }

    /// What changes for flows between two classes, each given as the old and the new set see it.
    pub(super) fn between(&mut self, from: &[Class; 2], to: &[Class; 2]) -> Rc<Difference> {
        let mut joining = std::mem::take(&mut self.joining);
        joining.clear();
        let mut ends = [[0; 2]; 2];
        for (age, polarity) in Self::tables() {
            let numbers = self.classes(age).numbers(polarity, &from[age as usize], &to[age as usize]);
            joining.extend(numbers);
            ends[age as usize][polarity as usize] = joining.len();
        }
        // The rules and where each table of them ends: together they tell one combination from all others.
        joining.extend(ends.as_flattened());
        let known = self.known.get(&joining).map(Rc::clone);
        let difference = known.unwrap_or_else(|| {
            let difference = Rc::new(self.compare(&joining, ends));
            self.known.insert(joining.clone(), Rc::clone(&difference));
            difference
        });
        self.joining = joining;
        difference
    }

    fn tables() -> impl Iterator<Item = (Age, Polarity)> {
        [Age::Old, Age::New].into_iter().flat_map(|age| POLARITIES.map(|polarity| (age, polarity)))
    }

    fn classes(&self, age: Age) -> &'a Classes {
        match age {
            Age::Old => self.old,
            Age::New => self.new,
        }
    }

    fn compare(&mut self, joining: &[usize], ends: [[usize; 2]; 2]) -> Difference {
        let mut start = 0;
        let mut joined = Vec::new();
        for (age, polarity) in Self::tables() {
            let end = ends[age as usize][polarity as usize];
            for &number in &joining[start..end] {
                let rule = &self.classes(age).rules().of(polarity)[number];
                let changed = self.changed[age as usize][polarity as usize][number];
                joined.push(Joined { rule, age, polarity, changed });
            }
            start = end;
        }
        if !joined.iter().any(|each| each.changed) {
            return Difference { complete: true, ..Difference::default() };
        }
        let now = change(&joined, self.within, self.wall);
        let moments = self.moments.of(joined.iter().map(|each| each.rule));
        let mut later: Option<(Timestamp, Change)> = None;
        let mut ends = None;
        let mut complete = moments.complete;
        for &at in &moments.moments {
            self.judged += joined.len();
            if self.judged > MAX_JUDGEMENTS {
                complete = false;
                break;
            }
            let then = change(&joined, self.within, at).beyond(&now, &joined, at);
            if then.is_empty() {
                continue;
            }
            if !then.lost.is_empty() {
                ends = ends.or(Some(at));
            }
            later = Some(match later {
                Some((first, before)) => (first, before.and(then)),
                None => (at, then),
            });
        }
        Difference { now, later, ends, complete }
    }
}

/// A rule that joins the pair.
struct Joined<'a> {
    rule: &'a Rule,
    age: Age,
    polarity: Polarity,
    changed: bool,
}

fn change(joined: &[Joined<'_>], within: Option<&PortSet>, at: Timestamp) -> Change {
    let open = |age: Age| {
        let ports = |polarity| {
            let of = joined.iter().filter(move |each| each.age == age && each.polarity == polarity);
            union(of.map(|each| each.rule).filter(|rule| rule.holds_at(at)))
        };
        let allowed = ports(Polarity::Allow);
        if allowed.is_empty() { allowed } else { allowed.difference(&ports(Polarity::Never)) }
    };
    let (old, new) = (open(Age::Old), open(Age::New));
    let (mut gained, mut lost) = (new.difference(&old), old.difference(&new));
    if let Some(within) = within {
        (gained, lost) = (gained.intersection(within), lost.intersection(within));
    }
    let by = responsible(joined, &gained, &lost, at);
    Change { gained, lost, by }
}

/// The changed rules behind a change at one moment: what permits it now or forbade it before, and the reverse.
fn responsible(joined: &[Joined<'_>], gained: &PortSet, lost: &PortSet, at: Timestamp) -> Vec<RuleId> {
    let mut by: Vec<_> = joined
        .iter()
        .filter(|each| each.changed && each.rule.holds_at(at))
        .filter(|each| {
            let moved = match (each.age, each.polarity) {
                (Age::New, Polarity::Allow) | (Age::Old, Polarity::Never) => gained,
                (Age::Old, Polarity::Allow) | (Age::New, Polarity::Never) => lost,
            };
            !moved.is_empty() && !each.rule.ports.intersection(moved).is_empty()
        })
        .map(|each| each.rule.id.clone())
        .collect();
    by.sort_unstable();
    by.dedup();
    by
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }

    /// What of this is not in `other`.
    fn beyond(self, other: &Self, joined: &[Joined<'_>], at: Timestamp) -> Self {
        let (gained, lost) = (self.gained.difference(&other.gained), self.lost.difference(&other.lost));
        let by = responsible(joined, &gained, &lost, at);
        Self { gained, lost, by }
    }

    fn and(mut self, other: Self) -> Self {
        self.by.extend(other.by);
        self.by.sort_unstable();
        self.by.dedup();
        Self { gained: self.gained.union(&other.gained), lost: self.lost.union(&other.lost), by: self.by }
    }
}

/// Of each of `rules`, whether `others` lack it, or have it with other content.
fn changed(rules: &[Rule], others: &[Rule]) -> Vec<bool> {
    let others: BTreeMap<_, _> = others.iter().map(|rule| (&rule.id, rule)).collect();
    rules.iter().map(|rule| !others.get(&rule.id).is_some_and(|other| is_same(rule, other))).collect()
}

/// Whether the two say the same, wherever they were written.
fn is_same(a: &Rule, b: &Rule) -> bool {
    let Rule { id, from, to, related, ports, not_before, until, hours, file: _, line: _ } = a;
    (id, from, to, related, ports) == (&b.id, &b.from, &b.to, &b.related, &b.ports)
        && (not_before, until, hours) == (&b.not_before, &b.until, &b.hours)
}

/// The rules that differ, by id over both polarities: a rule that was an `allow` and is a `never` changed.
pub(super) fn rule_ids(rules: &RuleSet) -> BTreeMap<&RuleId, (Polarity, &Rule)> {
    let tables = POLARITIES.into_iter();
    let all = tables.flat_map(|polarity| rules.of(polarity).iter().map(move |rule| (polarity, rule)));
    all.map(|(polarity, rule)| (&rule.id, (polarity, rule))).collect()
}

/// Whether a rule means the same in both sets.
pub(super) fn is_kept(old: (Polarity, &Rule), new: (Polarity, &Rule)) -> bool {
    old.0 == new.0 && is_same(old.1, new.1)
}
