//! Named selectors, and selectors that name them.
//!
//! Each group is resolved once, its terms are shared and never copied, and what a selector is when its groups
//! are written out is bounded: cycles, deep nesting and groups that multiply are errors found before they
//! cost anything.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Code, Selector, Term,
    place::{Findings, Located, Place},
    schema::Schema,
    selector::MAX_TERMS,
    slips,
    source::{MAX_GROUPS, MAX_NESTING, MAX_WRITTEN_OUT},
    syntax::{self, Atom, is_name},
};

/// All groups of a policy, resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    resolved: BTreeMap<String, Option<Resolved>>,
}

/// The terms that a group stands for.
#[derive(Clone, Debug)]
struct Resolved {
    /// In order, without repetition. Empty: everyone.
    terms: Vec<Arc<Term>>,
    /// How many groups deep, this one included.
    depth: usize,
}

/// A selector text taken apart, its groups not looked up.
struct Parsed {
    terms: Vec<Arc<Term>>,
    groups: Vec<Located<String>>,
    place: Place,
}

impl Groups {
    pub(crate) fn new(
        statements: &[(Located<String>, Located<String>)],
        schema: &Schema,
        findings: &mut Findings<'_>,
    ) -> Self {
        let (mut parsed, mut places) = (BTreeMap::new(), BTreeMap::new());
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
            parsed.insert(name.value.clone(), value);
            if let Some(first) = places.insert(name.value.as_str(), &name.place) {
                findings.twice("group", name, first);
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
        let parsed = parse(text, schema, findings)?;
        let mut written = Written::new(&parsed, findings)?;
        for group in &parsed.groups {
            match self.resolved.get(&group.value) {
                Some(Some(resolved)) => written.add(&resolved.terms, findings)?,
                Some(None) => return None,
                None => {
                    let names = self.resolved.keys().map(String::as_str);
                    return unknown_group(group, names, findings);
                }
            }
        }
        let terms = written.finish(findings)?;
        if terms.is_empty() {
            return Some(Selector::everyone());
        }
        Selector::all_of_sorted(terms.iter().map(|term| Term::clone(term)).collect())
    }
}

/// A selector's terms while its groups are written out, one after the other.
struct Written<'p> {
    place: &'p Place,
    terms: Vec<Arc<Term>>,
    size: usize,
}

impl<'p> Written<'p> {
    fn new(parsed: &'p Parsed, findings: &mut Findings<'_>) -> Option<Self> {
        let mut written = Self { place: &parsed.place, terms: Vec::new(), size: 0 };
        written.add(&parsed.terms, findings)?;
        Some(written)
    }

    fn add(&mut self, terms: &[Arc<Term>], findings: &mut Findings<'_>) -> Option<()> {
        let size: usize = terms.iter().map(|term| term.size()).sum();
        self.size += size.max(1);
        if self.size > MAX_WRITTEN_OUT {
            let message = format!(
                "a selector has more than {MAX_WRITTEN_OUT} terms and values, its groups written out \
                 (MAX_WRITTEN_OUT)"
            );
            findings.error(Code::Limit, self.place, message);
            return None;
        }
        self.terms.extend(terms.iter().cloned());
        Some(())
    }

    /// The terms in order, without repetition.
    fn finish(mut self, findings: &mut Findings<'_>) -> Option<Vec<Arc<Term>>> {
        // What groups contribute is in order, and a stable sort makes use of that.
        self.terms.sort();
        self.terms.dedup();
        if self.terms.len() > MAX_TERMS {
            let message =
                format!("a selector has more than {MAX_TERMS} terms, its groups resolved (MAX_TERMS)");
            findings.error(Code::Limit, self.place, message);
            return None;
        }
        Some(self.terms)
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
        let mut written = Written::new(parsed, findings)?;
        let mut depth = 1;
        for group in &parsed.groups {
            let inner = self.inner(group, findings)?;
            written.add(&inner.terms, findings)?;
            depth = depth.max(inner.depth + 1);
            if depth > MAX_NESTING {
                return too_deep(group, findings);
            }
        }
        Some(Resolved { terms: written.finish(findings)?, depth })
    }

    fn inner(&mut self, group: &Located<String>, findings: &mut Findings<'_>) -> Option<Resolved> {
        if !self.parsed.contains_key(&group.value) {
            return unknown_group(group, self.parsed.keys().map(String::as_str), findings);
        }
        if let Some(start) = self.trail.iter().position(|name| *name == group.value) {
            let mut cycle: Vec<_> = self.trail[start..].iter().map(|name| format!("@{name}")).collect();
            cycle.push(format!("@{}", group.value));
            let message = format!("groups contain each other: {}", cycle.join(" -> "));
            let last = self.trail.last().unwrap_or(&group.value);
            let help = Some(format!("remove @{} from {last}", group.value));
            findings.error_with_help(Code::GroupCycle, &group.place, message, help);
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
            let help = slips::selector(&text.value, &error.span);
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
                parsed.terms.push(Arc::new(term));
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
    if findings.is_excused(&group.value) {
        return None;
    }
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
