//! What is allowed in the language and still deserves a look. Warnings only; nothing here grants or forbids.

use bulkhead_identity::Timestamp;

use crate::{
    Code, Polarity, PortSet, Rule, Selector, Term,
    compile::Compiled,
    decide::moment,
    place::{Findings, Located, Place},
    region::Region,
    schema::Schema,
};

/// Pairs of rules that are compared with each other; a policy with more pairs gets no warnings about pairs.
pub(crate) const MAX_PAIRS: usize = 4_000_000;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Warns about each rule by itself, and about rules that make others pointless.
pub(crate) fn lint(
    allow: &[Compiled<'_>],
    never: &[Compiled<'_>],
    schema: &Schema,
    wall: Timestamp,
    findings: &mut Findings<'_>,
) {
    let (allow_extents, never_extents) =
        (extents(allow, Polarity::Allow, schema), extents(never, Polarity::Never, schema));
    for (compiled, (from, to)) in allow.iter().zip(&allow_extents) {
        lint_allow(compiled, findings);
        lint_any(compiled, [from, to], wall, findings);
    }
    for (compiled, (from, to)) in never.iter().zip(&never_extents) {
        lint_any(compiled, [from, to], wall, findings);
    }
    let wide = allow.len().saturating_mul(allow.len() + never.len()) > MAX_PAIRS;
    if !wide {
        let allow: Vec<_> = allow.iter().zip(&allow_extents).collect();
        let never: Vec<_> = never.iter().zip(&never_extents).collect();
        lint_pairs(&allow, &never, findings);
    }
}

/// The regions of both sides of each rule.
fn extents<'r>(
    compiled: &'r [Compiled<'_>],
    polarity: Polarity,
    schema: &Schema,
) -> Vec<(Region<'r>, Region<'r>)> {
    let region = |selector| Region::of(selector, polarity, schema);
    compiled.iter().map(|each| (region(&each.rule.from), region(&each.rule.to))).collect()
}

fn lint_any(compiled: &Compiled<'_>, sides: [&Region<'_>; 2], wall: Timestamp, findings: &mut Findings<'_>) {
    let Compiled { rule, statement } = compiled;
    for (region, text) in sides.into_iter().zip([&statement.from, &statement.to]) {
        if let Some(Located { value, place }) = text
            && region.is_empty()
        {
            let message = format!("{value:?} matches no identity");
            findings.warning(Code::MatchesNobody, place, message, None);
        }
    }
    if let Some(Located { value, place }) = &statement.until
        && *value <= wall
    {
        let message = format!("rule {} held until {}", rule.id, moment(*value));
        findings.warning(Code::Expired, place, message, Some("remove the rule".to_owned()));
    }
    if let Some(Located { value, place }) = &statement.review_by
        && wall.0 >= value.0.saturating_add(DAY_SECONDS)
    {
        let message = format!("the review of rule {} is overdue", rule.id);
        findings.warning(Code::ReviewOverdue, place, message, None);
    }
}

fn lint_allow(compiled: &Compiled<'_>, findings: &mut Findings<'_>) {
    let Compiled { rule, statement } = compiled;
    if rule.from.is_everyone() && rule.to.is_everyone() && rule.related.is_empty() {
        let message = format!("rule {} lets every identity reach every other", rule.id);
        findings.warning(Code::EveryoneToEveryone, &statement.place, message, None);
    }
    if rule.ports == PortSet::any() {
        let message = format!("rule {} allows every service", rule.id);
        findings.warning(Code::AnyPorts, &statement.place, message, None);
    }
    for (selector, text) in [(&rule.from, &statement.from), (&rule.to, &statement.to)] {
        let place = text.as_ref().map_or(&statement.place, |text| &text.place);
        lint_missing_label(selector, place, findings);
    }
}

/// Kubernetes lets `key!=value` match objects without the label; an `allow` here does not.
fn lint_missing_label(selector: &Selector, place: &Place, findings: &mut Findings<'_>) {
    for term in selector.terms() {
        let Term::NotIn(key, _) = term else { continue };
        let stated = selector.terms().iter().any(|other| match other {
            Term::In(other, _) | Term::Exists(other) => other == key,
            Term::NotIn(..) | Term::Absent(_) | Term::Node(_) | Term::User { .. } => false,
        });
        if !stated {
            let message = format!("unlike in Kubernetes, `{term}` does not match where {key} is missing");
            let help = Some(format!("write `{key}, {term}` to say so"));
            findings.warning(Code::MissingLabel, place, message, help);
        }
    }
}

type Extended<'a, 'c> = (&'a Compiled<'c>, &'a (Region<'a>, Region<'a>));

fn lint_pairs(allow: &[Extended<'_, '_>], never: &[Extended<'_, '_>], findings: &mut Findings<'_>) {
    for inner in allow {
        let (Compiled { rule, statement }, (from, to)) = inner;
        if from.is_empty() || to.is_empty() {
            continue;
        }
        let permanent =
            |outer: &&&Extended<'_, '_>| covers(&outer.0.rule, rule) && outer.0.rule.related.is_empty();
        if let Some((outer, _)) = never.iter().filter(|outer| inside(inner, outer)).find(|o| permanent(&o)) {
            let message = format!("rule {} permits nothing: {} forbids all of it", rule.id, outer.rule.id);
            findings.warning(Code::InsideNever, &statement.place, message, None);
        }
        let mut others = allow.iter().filter(|outer| outer.0.rule.id != rule.id && inside(inner, outer));
        let covering = others.find(|outer| {
            let wider =
                |a: &Rule, b: &Rule| covers(a, b) && a.related.iter().all(|key| b.related.contains(key));
            // Of two equal rules the one with the smaller id is named in decisions, so the other is idle.
            let equal = inside(outer, inner) && wider(rule, &outer.0.rule);
            wider(&outer.0.rule, rule) && (!equal || outer.0.rule.id < rule.id)
        });
        if let Some((outer, _)) = covering {
            let message = format!("rule {} adds nothing: {} allows all of it", rule.id, outer.rule.id);
            findings.warning(Code::Covered, &statement.place, message, None);
        }
    }
}

fn inside(inner: &Extended<'_, '_>, outer: &Extended<'_, '_>) -> bool {
    inner.1.0.is_within(&outer.1.0) && inner.1.1.is_within(&outer.1.1)
}

/// Whether `outer` holds whenever `inner` does, for every service of `inner`.
fn covers(outer: &Rule, inner: &Rule) -> bool {
    let starts = outer.not_before.unwrap_or_default() <= inner.not_before.unwrap_or_default();
    let ends = outer.until.is_none_or(|outer| inner.until.is_some_and(|inner| inner <= outer));
    starts && ends && inner.ports.difference(&outer.ports).is_empty()
}
