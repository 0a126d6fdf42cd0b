//! Rules that deserve a look by themselves.

use bulkhead_identity::Timestamp;

use super::Extended;
use crate::{
    Code, PortSet, Selector, Term,
    compile::Compiled,
    decide::moment,
    place::{Findings, Located, Place},
    slips,
};

const DAY_SECONDS: u64 = 24 * 60 * 60;

pub(super) fn lint(
    allow: &[Extended<'_>],
    never: &[Extended<'_>],
    wall: Timestamp,
    findings: &mut Findings<'_>,
) {
    let expected = reviews_are_expected(allow);
    for rule in allow {
        lint_allow(rule, findings);
        lint_sides(rule, findings);
        lint_times(rule, wall, findings);
        let statement = rule.compiled.statement;
        if expected && statement.review_by.is_none() && statement.until.is_none() {
            let message =
                format!("rule {} has no review_by; most allow rules here do", rule.compiled.rule.id);
            let help = Some("add `review_by`, or `until` where the rule is to end by itself".to_owned());
            findings.warning(Code::ReviewMissing, rule.place(), message, help);
        }
    }
    for rule in never {
        lint_never(rule, findings);
        lint_sides(rule, findings);
        lint_times(rule, wall, findings);
    }
}

/// Whether more than half of the allow rules say when they are to be reviewed: a policy that does not review
/// its rules, or has just begun to, is left in peace.
fn reviews_are_expected(allow: &[Extended<'_>]) -> bool {
    let reviewed = allow.iter().filter(|rule| rule.compiled.statement.review_by.is_some()).count();
    2 * reviewed > allow.len()
}

fn lint_allow(extended: &Extended<'_>, findings: &mut Findings<'_>) {
    let Compiled { rule, statement } = extended.compiled;
    if rule.from.is_everyone() && rule.to.is_everyone() && rule.related.is_empty() {
        let message = format!("rule {} lets every identity reach every other", rule.id);
        findings.warning(Code::EveryoneToEveryone, extended.place(), message, None);
    }
    if rule.ports == PortSet::any() {
        let message = format!("rule {} allows every service", rule.id);
        let place = statement.ports.as_ref().and_then(|items| items.first()).map(|item| &item.place);
        findings.warning(Code::AnyPorts, place.unwrap_or(extended.place()), message, None);
    }
    for (selector, text) in [(&rule.from, &statement.from), (&rule.to, &statement.to)] {
        let place = text.as_ref().map_or(&statement.place, |text| &text.place);
        lint_missing_label(selector, place, findings);
    }
    if let (false, Some(key)) = (extended.is_empty(), extended.never_shared()) {
        let message = format!("rule {} permits nothing: its two sides never share {}", rule.id, key.value);
        findings.warning(Code::MatchesNobody, &key.place, message, None);
    }
}

fn lint_never(extended: &Extended<'_>, findings: &mut Findings<'_>) {
    let Compiled { rule, statement } = extended.compiled;
    let Some(first) = statement.related.first() else { return };
    let idle = rule.related.iter().all(|key| extended.from.shares_always(&extended.to, key));
    if idle && !extended.is_empty() {
        let message = format!("rule {} forbids nothing: its two sides never differ", rule.id);
        findings.warning(Code::MatchesNobody, &first.place, message, None);
    }
}

fn lint_sides(extended: &Extended<'_>, findings: &mut Findings<'_>) {
    let Compiled { rule, statement } = extended.compiled;
    let sides = [(&rule.from, &extended.from, &statement.from), (&rule.to, &extended.to, &statement.to)];
    for (selector, region, text) in sides {
        // That user: matches nobody yet has been said.
        let person = selector.terms().iter().any(|term| matches!(term, Term::User { .. }));
        if let (true, false, Some(Located { value, place })) = (region.is_empty(), person, text) {
            let terms = if findings.gives_advice() { selector.terms() } else { &[] };
            let (why, help) = slips::contradiction(terms).unzip();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let message = format!("{value:?} matches no identity{why}");
            findings.warning(Code::MatchesNobody, place, message, help.flatten());
        }
    }
}

fn lint_times(extended: &Extended<'_>, wall: Timestamp, findings: &mut Findings<'_>) {
    let Compiled { rule, statement } = extended.compiled;
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
        let help = Some("ask its owner whether it is still needed, then move the day".to_owned());
        findings.warning(Code::ReviewOverdue, place, message, help);
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
