//! Rules that make others pointless.
//!
//! Whether one rule contains another is decided exactly, side by side, port by port and hour by hour; that
//! several together contain one is not looked for. Which pairs are worth a comparison says an index, so that
//! thousands of rules are a matter of milliseconds.

use std::collections::BTreeMap;

use bulkhead_identity::{LabelKey, LabelValue, NodeName};

use super::Extended;
use crate::{Code, Rule, Selector, Term, place::Findings, region::Region};

/// Pairs of rules that are compared with each other; where there are more, a warning says so.
pub(crate) const MAX_PAIRS: usize = 2_000_000;

pub(super) fn lint(allow: &[Extended<'_>], never: &[Extended<'_>], findings: &mut Findings<'_>) {
    let (allow_index, never_index) = (Index::new(allow), Index::new(never));
    let mut left = MAX_PAIRS;
    for (number, inner) in allow.iter().enumerate() {
        if inner.is_empty() || inner.never_shared().is_some() {
            continue;
        }
        let (forbidding, work) = never_index.candidates(inner);
        let (allowing, more) = allow_index.candidates(inner);
        let Some(rest) = left.checked_sub(work + more) else {
            let message = format!(
                "{} of {} allow rules were not compared with the others: more than {MAX_PAIRS} pairs (MAX_PAIRS)",
                allow.len() - number,
                allow.len()
            );
            findings.warning_without_place(Code::PairsNotCompared, message);
            return;
        };
        left = rest;
        let forbidding = forbidding.into_iter().filter(|outer| inner.is_forbidden_by(outer));
        if let Some(outer) = forbidding.min_by_key(|outer| &outer.compiled.rule.id) {
            let (id, outer) = (&inner.compiled.rule.id, outer.named());
            let message = format!("rule {id} permits nothing: {outer} forbids all of it");
            findings.warning(Code::InsideNever, inner.place(), message, None);
        }
        let allowing = allowing.into_iter().filter(|outer| inner.is_idle_beside(outer));
        if let Some(outer) = allowing.min_by_key(|outer| &outer.compiled.rule.id) {
            report_idle(inner, outer, findings);
        }
    }
}

fn report_idle(inner: &Extended<'_>, outer: &Extended<'_>, findings: &mut Findings<'_>) {
    let (id, other) = (&inner.compiled.rule.id, &outer.compiled.rule.id);
    let conditions = inner.conditions_beyond(outer);
    if conditions.is_empty() {
        let message = format!("rule {id} adds nothing: {} allows all of it", outer.named());
        let help = Some(format!("remove {id}"));
        return findings.warning(Code::Covered, inner.place(), message, help);
    }
    let makes = if conditions.len() == 1 { "makes" } else { "make" };
    let conditions = conditions.join(" and ");
    let outer = outer.named();
    let message = format!("{conditions} of rule {id} {makes} no difference: {outer} allows all of it anyway");
    let help = Some(format!("narrow {other}, or remove {id}"));
    findings.warning(Code::ConditionPointless, inner.place(), message, help);
}

impl Extended<'_> {
    /// Whether `outer`, a never rule, forbids whatever this one allows.
    fn is_forbidden_by(&self, outer: &Self) -> bool {
        let differ = &outer.compiled.rule.related;
        let related = differ.is_empty() || differ.iter().any(|key| self.from.shares_nothing(&self.to, key));
        self.is_inside(outer) && related && self.is_outlasted_by(outer)
    }

    /// Whether decisions would be the same without this allow rule, for `outer`.
    fn is_idle_beside(&self, outer: &Self) -> bool {
        let (rule, other) = (&self.compiled.rule, &outer.compiled.rule);
        // Of two equal rules the one with the smaller id is named in decisions, so the other is idle.
        rule.id != other.id
            && self.is_contained_in(outer)
            && (other.id < rule.id || !outer.is_contained_in(self))
    }

    /// Whether `outer`, an allow rule too, allows all of this one.
    fn is_contained_in(&self, outer: &Self) -> bool {
        let shared =
            |key: &String| self.compiled.rule.related.contains(key) || self.from.shares_always(&self.to, key);
        self.is_inside(outer) && outer.compiled.rule.related.iter().all(shared) && self.is_outlasted_by(outer)
    }

    fn is_inside(&self, outer: &Self) -> bool {
        self.from.is_within(&outer.from) && self.to.is_within(&outer.to)
    }

    /// Whether `outer` holds whenever this rule does, for every service of it.
    fn is_outlasted_by(&self, outer: &Self) -> bool {
        let (inner, wider) = (&self.compiled.rule, &outer.compiled.rule);
        starts_by(wider, inner)
            && ends_after(wider, inner)
            && outer.schedule.covers(&self.schedule)
            && inner.ports.difference(&wider.ports).is_empty()
    }

    /// The conditions of this rule that `outer`, which contains it, does without.
    fn conditions_beyond(&self, outer: &Self) -> Vec<&'static str> {
        let (inner, wider) = (&self.compiled.rule, &outer.compiled.rule);
        let conditions = [
            ("`same`", inner.related.iter().any(|key| !wider.related.contains(key))),
            ("`not_before`", !starts_by(inner, wider)),
            ("`until`", !ends_after(inner, wider)),
            ("`hours`", !self.schedule.covers(&outer.schedule)),
        ];
        conditions.into_iter().filter(|(_, beyond)| *beyond).map(|(name, _)| name).collect()
    }
}

fn starts_by(rule: &Rule, other: &Rule) -> bool {
    rule.not_before.unwrap_or_default() <= other.not_before.unwrap_or_default()
}

fn ends_after(rule: &Rule, other: &Rule) -> bool {
    rule.until.is_none_or(|end| other.until.is_some_and(|other| other <= end))
}

/// Rules by what they must find on either side in whatever they contain: one term of each, the rarest.
struct Index<'e> {
    rules: &'e [Extended<'e>],
    from: Anchors<'e>,
    to: Anchors<'e>,
    by_anchors: BTreeMap<(Option<usize>, Option<usize>), Vec<usize>>,
}

/// One value of a positive term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Anchor<'e> {
    Label(&'e LabelKey, &'e LabelValue),
    Node(&'e NodeName),
}

/// The anchors of one side of all rules, numbered, and how many rules have each.
#[derive(Default)]
struct Anchors<'e> {
    numbers: BTreeMap<Anchor<'e>, usize>,
    frequencies: Vec<usize>,
}

/// A rule with more combinations of anchors is found by those of one side alone.
const MAX_COMBINATIONS: usize = 64;

impl<'e> Index<'e> {
    fn new(rules: &'e [Extended<'e>]) -> Self {
        let from = Anchors::new(rules.iter().map(|rule| &rule.compiled.rule.from));
        let to = Anchors::new(rules.iter().map(|rule| &rule.compiled.rule.to));
        let mut by_anchors: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            let mut froms = from.rarest(&rule.compiled.rule.from);
            let mut tos = to.rarest(&rule.compiled.rule.to);
            if froms.len() * tos.len() > MAX_COMBINATIONS {
                if froms.len() > tos.len() { froms = vec![None] } else { tos = vec![None] }
            }
            for &from in &froms {
                for &to in &tos {
                    by_anchors.entry((from, to)).or_default().push(number);
                }
            }
        }
        Self { rules, from, to, by_anchors }
    }

    /// All rules that may contain `inner`, each once, and how much it took to find them.
    fn candidates(&self, inner: &Extended<'_>) -> (Vec<&'e Extended<'e>>, usize) {
        let (froms, tos) = (self.from.of(&inner.from), self.to.of(&inner.to));
        let pairs = froms.iter().flat_map(|&from| tos.iter().map(move |&to| (from, to)));
        let found = pairs.filter_map(|pair| self.by_anchors.get(&pair)).flatten();
        let found: Vec<_> = found.map(|&number| &self.rules[number]).collect();
        let work = found.len() + froms.len() * tos.len();
        (found, work)
    }
}

impl<'e> Anchors<'e> {
    fn new(selectors: impl Iterator<Item = &'e Selector>) -> Self {
        let mut anchors = Self::default();
        for anchor in selectors.flat_map(Selector::terms).flat_map(anchors_of) {
            let next = anchors.frequencies.len();
            let number = *anchors.numbers.entry(anchor).or_insert(next);
            if number == next {
                anchors.frequencies.push(0);
            }
            anchors.frequencies[number] += 1;
        }
        anchors
    }

    /// The values of the rarest term of `selector`; `None` alone where it has only negative ones.
    fn rarest(&self, selector: &Selector) -> Vec<Option<usize>> {
        let numbers = |term| anchors_of(term).filter_map(|anchor| self.numbers.get(&anchor).copied());
        let terms = selector.terms().iter().map(|term| numbers(term).collect::<Vec<_>>());
        let frequency =
            |term: &Vec<usize>| term.iter().map(|&number| self.frequencies[number]).sum::<usize>();
        let rarest = terms.filter(|term| !term.is_empty()).min_by_key(frequency);
        rarest.map_or_else(|| vec![None], |term| term.into_iter().map(Some).collect())
    }

    /// What a rule that contains `region` may be found by. Whatever contains the values of a label contains
    /// the first of them.
    fn of(&self, region: &Region<'_>) -> Vec<Option<usize>> {
        let labels = region.listed().filter_map(|(key, values)| Some(Anchor::Label(key, values.first()?)));
        let anchors = labels.chain(region.node().map(Anchor::Node));
        let numbers = anchors.filter_map(|anchor| self.numbers.get(&anchor).copied());
        numbers.map(Some).chain([None]).collect()
    }
}

fn anchors_of(term: &Term) -> impl Iterator<Item = Anchor<'_>> {
    let (label, node) = match term {
        Term::In(key, values) => (Some((key, values)), None),
        Term::Node(name) => (None, Some(name)),
        Term::NotIn(..) | Term::Exists(_) | Term::Absent(_) | Term::User { .. } => (None, None),
    };
    let labels =
        label.into_iter().flat_map(|(key, values)| values.iter().map(move |value| Anchor::Label(key, value)));
    labels.chain(node.map(Anchor::Node))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Polarity, RuleSet,
        class::tests::{rules, subject},
        compile::Compiled,
        document::RuleStatement,
        hours::Schedule,
        place::Place,
        region::Region,
        schema::Schema,
    };

    fn compiled<'s>(rules: &[Rule], statement: &'s RuleStatement) -> Vec<Compiled<'s>> {
        rules.iter().map(|rule| Compiled { rule: rule.clone(), statement }).collect()
    }

    fn extended<'a>(compiled: &'a [Compiled<'a>], polarity: Polarity, schema: &Schema) -> Vec<Extended<'a>> {
        let region = |selector| Region::of(selector, polarity, schema);
        let extend = |compiled: &'a Compiled<'a>| Extended {
            compiled,
            from: region(&compiled.rule.from),
            to: region(&compiled.rule.to),
            schedule: Schedule::of(&compiled.rule.hours),
        };
        compiled.iter().map(extend).collect()
    }

    fn statement() -> RuleStatement {
        RuleStatement {
            place: Place { file: 0, span: 0..0 },
            id: None,
            from: None,
            to: None,
            related: Vec::new(),
            ports: None,
            not_before: None,
            until: None,
            hours: Vec::new(),
            review_by: None,
        }
    }

    proptest! {
        #[test]
        fn the_index_misses_no_rule_that_contains_another(rules in rules()) {
            let (statement, schema) = (statement(), Schema::default());
            let (allow, never) = (compiled(&rules.allow, &statement), compiled(&rules.never, &statement));
            let allow = extended(&allow, Polarity::Allow, &schema);
            let never = extended(&never, Polarity::Never, &schema);
            for outers in [&allow, &never] {
                let index = Index::new(outers);
                for inner in allow.iter().filter(|inner| !inner.is_empty()) {
                    let (mut found, _) = index.candidates(inner);
                    found.retain(|outer| inner.is_inside(outer));
                    let ids = |rules: &[&Extended<'_>]| {
                        let mut ids: Vec<_> = rules.iter().map(|rule| rule.compiled.rule.id.clone()).collect();
                        ids.sort_unstable();
                        ids
                    };
                    let all: Vec<_> = outers.iter().filter(|outer| inner.is_inside(outer)).collect();
                    prop_assert_eq!(ids(&found), ids(&all));
                }
            }
        }

        /// What the warnings promise: without the rule nothing is decided otherwise.
        #[test]
        fn a_rule_that_is_called_idle_decides_nothing(
            rules in rules(), from in subject(), to in subject(), wall in 0u64..10
        ) {
            let (statement, schema) = (statement(), Schema::default());
            let (allow, never) = (compiled(&rules.allow, &statement), compiled(&rules.never, &statement));
            let allow = extended(&allow, Polarity::Allow, &schema);
            let never = extended(&never, Polarity::Never, &schema);
            let idle = |inner: &Extended<'_>| {
                inner.is_empty()
                    || never.iter().any(|outer| inner.is_forbidden_by(outer))
                    || allow.iter().any(|outer| inner.is_idle_beside(outer))
            };
            let left = allow.iter().filter(|rule| !idle(rule)).map(|rule| rule.compiled.rule.clone());
            let left = RuleSet::new(left.collect(), rules.never.clone());
            for service in [crate::Service::Tcp(1), crate::Service::Tcp(9), crate::Service::Udp(1)] {
                let wall = bulkhead_identity::Timestamp(wall);
                let decide = |rules: &RuleSet| rules.decide(&from, &to, service, wall).is_allowed();
                prop_assert_eq!(decide(&left), decide(&rules));
            }
        }
    }
}
