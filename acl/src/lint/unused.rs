//! Groups, services and labels that are defined and that nothing refers to: often a rule that was meant to.

use std::collections::BTreeSet;

use super::Reading;
use crate::{
    Code,
    document::TestSide,
    place::{Findings, Located},
    syntax::{self, Atom},
};

/// The names that selectors, lists of ports and tests mention.
#[derive(Default)]
struct Mentioned {
    groups: BTreeSet<String>,
    labels: BTreeSet<String>,
    services: BTreeSet<String>,
}

pub(super) fn lint(reading: &Reading<'_>, findings: &mut Findings<'_>) {
    let document = reading.document;
    if document.groups.is_empty() && document.services.is_empty() && document.labels.is_empty() {
        return;
    }
    let mentioned = Mentioned::by(reading);
    for (name, _) in document.groups.iter().filter(|(name, _)| !mentioned.groups.contains(&name.value)) {
        report("group", name, findings);
    }
    for (name, _) in document.services.iter().filter(|(name, _)| !mentioned.services.contains(&name.value)) {
        report("service", name, findings);
    }
    for label in &document.labels {
        // A seal says something about nodes, whatever the rules say.
        if !label.sealed && !mentioned.labels.contains(&label.key.value) {
            report("label", &label.key, findings);
        }
    }
}

fn report(what: &str, name: &Located<String>, findings: &mut Findings<'_>) {
    let message = format!("no rule and no test speaks of {what} {}", name.value);
    findings.warning(Code::Unused, &name.place, message, Some("remove it, or use it".to_owned()));
}

impl Mentioned {
    fn by(reading: &Reading<'_>) -> Self {
        let mut mentioned = Self::default();
        let document = reading.document;
        for (_, selector) in &document.groups {
            mentioned.selector(&selector.value);
        }
        for rule in document.allow.iter().chain(&document.never) {
            for side in [&rule.from, &rule.to].into_iter().flatten() {
                mentioned.selector(&side.value);
            }
            mentioned.labels.extend(rule.related.iter().map(|key| key.value.clone()));
            mentioned.services(rule.ports.iter().flatten());
        }
        for test in &document.tests {
            for side in [&test.from, &test.to].into_iter().flatten() {
                match side {
                    TestSide::Selector(selector) => mentioned.selector(&selector.value),
                    TestSide::Labels(pairs) => {
                        mentioned.labels.extend(pairs.iter().map(|(key, _)| key.value.clone()));
                    }
                }
            }
            mentioned.services(test.allow.iter().chain(&test.deny));
        }
        mentioned
    }

    fn selector(&mut self, text: &str) {
        for part in syntax::parse(text).unwrap_or_default() {
            match part.atom {
                Atom::Everyone => {}
                Atom::Group(name) => _ = self.groups.insert(name),
                Atom::Term(term) => self.labels.extend(term.key().map(|key| key.as_str().to_owned())),
            }
        }
    }

    fn services<'i>(&mut self, items: impl Iterator<Item = &'i Located<String>>) {
        self.services.extend(items.map(|item| item.value.clone()));
    }
}
