//! From statements to rules: ids, selectors, services and windows looked up and checked.
//!
//! A statement with any error becomes no rule, and its error keeps the whole policy from being applied: a
//! policy never takes effect in part.

use std::collections::BTreeMap;

use bulkhead_identity::LabelKey;

use crate::{
    Code, Hours, PortSet, Rule, RuleId, Selector, Term,
    bundle::MAX_BUNDLE_BYTES,
    document::RuleStatement,
    names::Names,
    place::{Findings, Located, Place},
    schema::Schema,
    selector::Polarity,
    syntax::is_name,
};

/// A compiled rule and the statement that it came from.
pub(crate) struct Compiled<'s> {
    pub(crate) rule: Rule,
    pub(crate) statement: &'s RuleStatement,
}

/// Compiles the statements of one kind. `ids` holds every id so far, with its place.
pub(crate) fn compile<'s>(
    statements: &'s [RuleStatement],
    polarity: Polarity,
    names: &Names,
    ids: &mut BTreeMap<String, Place>,
    findings: &mut Findings<'_>,
) -> Vec<Compiled<'s>> {
    let mut compiled = Vec::new();
    let mut bytes = 0;
    for statement in statements {
        let Some(rule) = compile_one(statement, polarity, names, ids, findings) else { continue };
        // A few lines can name large groups: what they are written out is bounded as it grows.
        bytes += minicbor::to_vec(&rule).map_or(MAX_BUNDLE_BYTES, |encoded| encoded.len());
        if bytes > MAX_BUNDLE_BYTES {
            let message =
                format!("the compiled rules take more than {MAX_BUNDLE_BYTES} bytes (MAX_BUNDLE_BYTES)");
            findings.error(Code::Limit, &statement.place, message);
            break;
        }
        compiled.push(Compiled { rule, statement });
    }
    compiled
}

fn compile_one(
    statement: &RuleStatement,
    polarity: Polarity,
    names: &Names,
    ids: &mut BTreeMap<String, Place>,
    findings: &mut Findings<'_>,
) -> Option<Rule> {
    // Each part is looked at before any is missed, so that one run reports all that is wrong.
    let id = statement.id.as_ref().and_then(|id| unique_id(id, ids, findings));
    let mut selector = |side: &Option<Located<String>>| -> Option<Selector> {
        side.as_ref().and_then(|text| selector(text, names, findings))
    };
    let (from, to) = (selector(&statement.from), selector(&statement.to));
    let related = related_keys(&statement.related, &names.schema, findings);
    let ports = match (&statement.ports, polarity) {
        (Some(items), _) => names.services.set_of(items, findings),
        (None, Polarity::Never) => Some(PortSet::any()),
        (None, Polarity::Allow) => None,
    };
    check_window(statement, findings);
    let hours = hours(&statement.hours, findings);
    Some(Rule {
        id: id?,
        from: from?,
        to: to?,
        related: related?,
        ports: ports?,
        not_before: statement.not_before.as_ref().map(|moment| moment.value),
        until: statement.until.as_ref().map(|moment| moment.value),
        hours: hours?,
        file: findings.file_name(&statement.place).to_owned(),
        line: findings.line(&statement.place),
    })
}

/// The selector that a rule or test names; says so where it matches nobody for want of an identity.
pub(crate) fn selector(
    text: &Located<String>,
    names: &Names,
    findings: &mut Findings<'_>,
) -> Option<Selector> {
    let selector = names.groups.selector(text, &names.schema, findings)?;
    if selector.terms().iter().any(|term| matches!(term, Term::User { .. })) {
        let message = "identities carry no user yet, so user: matches nobody";
        findings.warning(Code::NotEnforced, &text.place, message, None);
    }
    Some(selector)
}

fn unique_id(
    id: &Located<String>,
    ids: &mut BTreeMap<String, Place>,
    findings: &mut Findings<'_>,
) -> Option<RuleId> {
    let Located { value, place } = id;
    if !is_name(value) {
        let message = format!("{value:?} cannot be a rule's id: 1 to 128 of [A-Za-z0-9._-]");
        findings.error(Code::BadName, place, message);
        return None;
    }
    if let Some(first) = ids.get(value) {
        findings.twice("rule", id, first);
        return None;
    }
    ids.insert(value.clone(), place.clone());
    Some(RuleId(value.as_str().into()))
}

fn related_keys(
    keys: &[Located<String>],
    schema: &Schema,
    findings: &mut Findings<'_>,
) -> Option<Vec<String>> {
    let mut parsed = Vec::new();
    for Located { value, place } in keys {
        match LabelKey::parse(value) {
            Ok(key) => {
                schema.check_key(&key, place, findings);
                parsed.push(key.as_str().to_owned());
            }
            Err(error) => findings.error(Code::BadName, place, error.to_string()),
        }
    }
    (parsed.len() == keys.len()).then_some(parsed)
}

fn hours(spans: &[Located<String>], findings: &mut Findings<'_>) -> Option<Vec<Hours>> {
    let mut parsed = Vec::new();
    for Located { value, place } in spans {
        match Hours::read(value) {
            Ok(hours) => parsed.push(hours),
            Err(error) => {
                let place = findings.inside(place, value, &error.span);
                findings.error_with_help(Code::Time, &place, error.message, error.help);
            }
        }
    }
    (parsed.len() == spans.len()).then_some(parsed)
}

fn check_window(statement: &RuleStatement, findings: &mut Findings<'_>) {
    if let (Some(start), Some(end)) = (&statement.not_before, &statement.until)
        && end.value <= start.value
    {
        findings.error(Code::Time, &end.place, "the rule ends before it starts");
    }
}
