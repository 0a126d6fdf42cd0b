//! Named selectors, and selectors that name them.
//!
//! Each group is resolved once; cycles and deep nesting are errors found before they cost anything.

use std::collections::BTreeMap;

use crate::{
    Code, Selector, Term,
    place::{Findings, Located, Place},
    schema::{Schema, advice},
    selector::MAX_TERMS,
    source::{MAX_GROUPS, MAX_NESTING},
    syntax::{self, Atom, is_name},
};

/// All groups of a policy, resolved.
pub(crate) struct Groups {
    resolved: BTreeMap<String, Option<Resolved>>,
}

/// The terms that a group stands for.
#[derive(Clone)]
struct Resolved {
    /// Empty: everyone.
    terms: Vec<Term>,
    /// How many groups deep, this one included.
    depth: usize,
}

/// A selector text taken apart, its groups not looked up.
struct Parsed {
    terms: Vec<Term>,
    groups: Vec<Located<String>>,
    place: Place,
}

impl Groups {
    pub(crate) fn new(
        statements: &[(Located<String>, Located<String>)],
        schema: &Schema,
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut parsed = BTreeMap::new();
        if let Some((name, _)) = statements.get(MAX_GROUPS) {
            let message = format!("more than {MAX_GROUPS} groups (MAX_GROUPS)");
            findings.error(Code::Limit, &name.place, message);
        }
        for (name, selector) in statements.iter().take(MAX_GROUPS) {
            if !is_name(&name.value) {
                let message = format!("{:?} cannot name a group: [A-Za-z0-9._-] only", name.value);
                findings.error(Code::BadName, &name.place, message);
            }
            let value = parse(selector, schema, findings);
            if parsed.insert(name.value.clone(), value).is_some() {
                let message = format!("group {:?} is defined twice", name.value);
                findings.error(Code::Duplicate, &name.place, message);
            }
        }
        let mut resolver = Resolver { parsed: &parsed, resolved: BTreeMap::new(), trail: Vec::new() };
        for name in parsed.keys() {
            resolver.resolve(name, findings);
        }
        Self { resolved: resolver.resolved }
    }

    /// The selector that `text` stands for; `None` when it was reported as an error.
    pub(crate) fn selector(
        &self,
        text: &Located<String>,
        schema: &Schema,
        findings: &mut Findings<'_>,
    ) -> Option<Selector> {
        let Parsed { mut terms, groups, place } = parse(text, schema, findings)?;
        for group in &groups {
            match self.resolved.get(&group.value) {
                Some(Some(resolved)) => terms.extend(resolved.terms.iter().cloned()),
                Some(None) => return None,
                None => {
                    let names = self.resolved.keys().map(String::as_str);
                    return unknown_group(group, names, findings);
                }
            }
        }
        if terms.is_empty() {
            return Some(Selector::everyone());
        }
        let selector = Selector::all_of(terms);
        if selector.is_none() {
            too_many_terms(&place, findings);
        }
        selector
    }
}

struct Resolver<'p> {
    parsed: &'p BTreeMap<String, Option<Parsed>>,
    resolved: BTreeMap<String, Option<Resolved>>,
    /// The groups that are being resolved, outermost first; never longer than [`MAX_NESTING`].
    trail: Vec<String>,
}

impl Resolver<'_> {
    fn resolve(&mut self, name: &str, findings: &mut Findings<'_>) -> Option<Resolved> {
        if let Some(resolved) = self.resolved.get(name) {
            return resolved.clone();
        }
        self.trail.push(name.to_owned());
        let resolved = self.expand(name, findings);
        self.trail.pop();
        self.resolved.insert(name.to_owned(), resolved.clone());
        resolved
    }

    fn expand(&mut self, name: &str, findings: &mut Findings<'_>) -> Option<Resolved> {
        let parsed = self.parsed.get(name)?.as_ref()?;
        let mut terms = parsed.terms.clone();
        let mut depth = 1;
        for group in &parsed.groups {
            let inner = self.inner(group, findings)?;
            terms.extend(inner.terms);
            depth = depth.max(inner.depth + 1);
            if depth > MAX_NESTING {
                return too_deep(group, findings);
            }
        }
        terms.sort_unstable();
        terms.dedup();
        if terms.len() > MAX_TERMS {
            too_many_terms(&parsed.place, findings);
            return None;
        }
        Some(Resolved { terms, depth })
    }

    fn inner(&mut self, group: &Located<String>, findings: &mut Findings<'_>) -> Option<Resolved> {
        if !self.parsed.contains_key(&group.value) {
            return unknown_group(group, self.parsed.keys().map(String::as_str), findings);
        }
        if let Some(start) = self.trail.iter().position(|name| *name == group.value) {
            let mut cycle: Vec<_> = self.trail[start..].iter().map(|name| format!("@{name}")).collect();
            cycle.push(format!("@{}", group.value));
            let message = format!("groups contain each other: {}", cycle.join(" -> "));
            findings.error(Code::GroupCycle, &group.place, message);
            return None;
        }
        if self.trail.len() == MAX_NESTING && !self.resolved.contains_key(&group.value) {
            return too_deep(group, findings);
        }
        self.resolve(&group.value, findings)
    }
}

fn parse(text: &Located<String>, schema: &Schema, findings: &mut Findings<'_>) -> Option<Parsed> {
    let parts = match syntax::parse(&text.value) {
        Ok(parts) => parts,
        Err(error) => {
            let place = findings.inside(&text.place, &text.value, &error.span);
            let help = text.value.get(error.span).and_then(advice);
            findings.error_with_help(Code::Selector, &place, error.message, help);
            return None;
        }
    };
    let mut parsed = Parsed { terms: Vec::new(), groups: Vec::new(), place: text.place.clone() };
    for part in parts {
        let place = findings.inside(&text.place, &text.value, &part.span);
        match part.atom {
            Atom::Everyone => {}
            Atom::Group(value) => parsed.groups.push(Located { value, place }),
            Atom::Term(term) => {
                schema.check(&term, &place, findings);
                parsed.terms.push(term);
            }
        }
    }
    Some(parsed)
}

fn unknown_group<'n, T>(
    group: &Located<String>,
    known: impl Iterator<Item = &'n str>,
    findings: &mut Findings<'_>,
) -> Option<T> {
    let help = findings.did_you_mean(&group.value, known);
    let message = format!("no group {:?} is defined", group.value);
    findings.error_with_help(Code::UnknownGroup, &group.place, message, help);
    None
}

fn too_deep<T>(group: &Located<String>, findings: &mut Findings<'_>) -> Option<T> {
    let message = format!("groups nest deeper than {MAX_NESTING} (MAX_NESTING)");
    findings.error(Code::Limit, &group.place, message);
    None
}

fn too_many_terms(place: &Place, findings: &mut Findings<'_>) {
    let message = format!("a selector has more than {MAX_TERMS} terms, its groups resolved (MAX_TERMS)");
    findings.error(Code::Limit, place, message);
}
