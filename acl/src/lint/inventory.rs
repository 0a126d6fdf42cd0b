//! Rules that speak of none of the nodes that there are.

use std::collections::BTreeMap;

use super::Reading;
use crate::{
    Code, Polarity, Selector, Subject, Term,
    compile::Compiled,
    place::{Findings, Located},
};

pub(super) fn lint(reading: &Reading<'_>, findings: &mut Findings<'_>) {
    // Where there are no nodes yet, no rule is to blame.
    let Some(nodes) = reading.nodes.filter(|nodes| !nodes.is_empty()) else { return };
    let mut inventory = Inventory::new(nodes);
    for (rules, polarity) in [(reading.allow, Polarity::Allow), (reading.never, Polarity::Never)] {
        for Compiled { rule, statement } in rules {
            let sides = [("from", &rule.from, &statement.from), ("to", &rule.to, &statement.to)];
            for (side, selector, text) in sides {
                if let (false, Some(Located { place, .. })) = (inventory.has(selector, polarity), text) {
                    let count = nodes.len();
                    let message = format!("`{side}` of rule {} matches none of the {count} nodes", rule.id);
                    let help = inventory.similar(selector, findings);
                    findings.warning(Code::MatchesNoNode, place, message, help);
                }
            }
        }
    }
}

/// The nodes by label and by name, and what was found out about selectors.
struct Inventory<'a> {
    nodes: &'a [Subject],
    by_label: BTreeMap<(&'a str, &'a str), Vec<&'a Subject>>,
    by_name: BTreeMap<&'a str, &'a Subject>,
    known: BTreeMap<(&'a Selector, bool), bool>,
}

impl<'a> Inventory<'a> {
    fn new(nodes: &'a [Subject]) -> Self {
        let mut by_label: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in nodes {
            for (key, value) in node.labels.iter() {
                by_label.entry((key.as_str(), value.as_str())).or_default().push(node);
            }
        }
        let by_name = nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        Self { nodes, by_label, by_name, known: BTreeMap::new() }
    }

    fn has(&mut self, selector: &'a Selector, polarity: Polarity) -> bool {
        let key = (selector, polarity == Polarity::Never);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let found = self.finds(selector, polarity);
        self.known.insert(key, found);
        found
    }

    /// A node whose name is nearly the one that was asked for.
    fn similar(&self, selector: &Selector, findings: &Findings<'_>) -> Option<String> {
        let name = selector.terms().iter().find_map(|term| match term {
            Term::Node(name) if !self.by_name.contains_key(name.as_str()) => Some(name),
            Term::Node(_) | Term::In(..) | Term::NotIn(..) => None,
            Term::Exists(_) | Term::Absent(_) | Term::User { .. } => None,
        })?;
        findings.did_you_mean(name.as_str(), self.by_name.keys().copied())
    }

    /// Only the nodes that one term lets through are tried.
    fn finds(&self, selector: &Selector, polarity: Polarity) -> bool {
        let matches = |node: &&Subject| selector.matches(node, polarity);
        for term in selector.terms() {
            match term {
                Term::Node(name) => return self.by_name.get(name.as_str()).is_some_and(matches),
                Term::In(key, values) => {
                    let labels = values.iter().map(|value| (key.as_str(), value.as_str()));
                    return labels.filter_map(|label| self.by_label.get(&label)).flatten().any(matches);
                }
                Term::NotIn(..) | Term::Exists(_) | Term::Absent(_) | Term::User { .. } => {}
            }
        }
        self.nodes.iter().any(|node| matches(&node))
    }
}
