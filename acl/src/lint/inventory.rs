//! Rules that speak of none of the nodes that there are, and nodes that the schema does not speak of.

use std::collections::BTreeMap;

use bulkhead_identity::{LabelKey, LabelValue};

use super::Reading;
use crate::{
    Code, Polarity, Selector, Subject, Term,
    compile::Compiled,
    place::{Findings, Located},
};

/// Most nodes that one finding names.
const EXAMPLES: usize = 3;

pub(super) fn lint(reading: &Reading<'_>, findings: &mut Findings<'_>) {
    // Where there are no nodes yet, no rule is to blame.
    let Some(nodes) = reading.nodes.filter(|nodes| !nodes.is_empty()) else { return };
    strangers(reading, nodes, findings);
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

/// Labels of nodes that the schema does not know, each once: no proof over all that the schema allows holds
/// for those nodes.
fn strangers(reading: &Reading<'_>, nodes: &[Subject], findings: &mut Findings<'_>) {
    let (schema, declared) = (&reading.names.schema, &reading.document.labels);
    let mut carriers: BTreeMap<(&LabelKey, Option<&LabelValue>), Vec<&str>> = BTreeMap::new();
    for node in nodes {
        for (key, value) in node.labels.iter().filter(|(key, value)| !schema.knows(key, value)) {
            // Of a key that is not declared, one value is like the other.
            let value = schema.values(key).map(|_| value);
            carriers.entry((key, value)).or_default().push(node.name.as_str());
        }
    }
    for ((key, value), names) in carriers {
        let statement = declared.iter().find(|label| label.key.value == key.as_str()).or(declared.first());
        let Some(statement) = statement else { continue };
        let (what, help) = match value {
            Some(value) => {
                let known = schema.values(key).into_iter().flatten().map(LabelValue::as_str);
                let what = format!("{key}={value}, a value that the schema does not list");
                (what, findings.did_you_mean(value.as_str(), known))
            }
            None => {
                let what = format!("label {key}, which the schema does not declare");
                (what, findings.did_you_mean(key.as_str(), schema.keys().map(LabelKey::as_str)))
            }
        };
        let message = format!("{} {what}", carry(&names));
        findings.warning(Code::NodeOutsideSchema, &statement.key.place, message, help);
    }
}

/// `nodes a, b, c and 4 more carry`
fn carry(names: &[&str]) -> String {
    let shown = names.iter().take(EXAMPLES).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        1 => format!("node {shown} carries"),
        count if count > EXAMPLES => format!("nodes {shown} and {} more carry", count - EXAMPLES),
        _ => format!("nodes {shown} carry"),
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
