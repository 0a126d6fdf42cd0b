//! From statements to rules: ids, selectors, services and windows looked up and checked.
//!
//! A statement with any error becomes no rule, and its error keeps the whole policy from being applied: a
//! policy never takes effect in part.

use std::collections::BTreeMap;

use bulkhead_identity::LabelKey;

use crate::{
    Code, PortSet, Rule, RuleId, Selector, Term,
    document::RuleStatement,
    group::Groups,
    place::{Findings, Located, Place},
    ports::MAX_RANGES,
    schema::Schema,
    selector::Polarity,
    source::{MAX_RULES, MAX_SERVICES},
    syntax::is_name,
};

/// What statements refer to.
pub(crate) struct Names {
    pub(crate) schema: Schema,
    pub(crate) groups: Groups,
    pub(crate) services: Services,
}

/// A compiled rule and the statement that it came from.
pub(crate) struct Compiled<'s> {
    pub(crate) rule: Rule,
    pub(crate) statement: &'s RuleStatement,
}

/// Named protocol and port sets.
#[derive(Default)]
pub(crate) struct Services(BTreeMap<String, PortSet>);

impl Services {
    pub(crate) fn new(
        statements: &[(Located<String>, Vec<Located<String>>)],
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut services = Self::default();
        if let Some((name, _)) = statements.get(MAX_SERVICES) {
            let message = format!("more than {MAX_SERVICES} services (MAX_SERVICES)");
            findings.error(Code::Limit, &name.place, message);
        }
        for (name, ports) in statements.iter().take(MAX_SERVICES) {
            if !is_name(&name.value) || ["any", "icmp"].contains(&name.value.as_str()) {
                let message = format!("{:?} cannot name a service", name.value);
                findings.error(Code::BadName, &name.place, message);
            }
            // Services are made of ports only, so that none depends on the order of others.
            let set = Self::default().set_of(ports, findings).unwrap_or_default();
            if services.0.insert(name.value.clone(), set).is_some() {
                let message = format!("service {:?} is defined twice", name.value);
                findings.error(Code::Duplicate, &name.place, message);
            }
        }
        services
    }

    /// The union of the items, each a service's name or ports; `None` when any was reported, or when a bundle
    /// could not carry it.
    pub(crate) fn set_of(&self, items: &[Located<String>], findings: &mut Findings<'_>) -> Option<PortSet> {
        let sets: Vec<_> = items.iter().map(|item| self.one(item, findings)).collect();
        let mut sets = sets.into_iter().collect::<Option<Vec<_>>>()?;
        // The union of some may be more ranges than that of all: not the order of the list decides.
        sets.sort_unstable();
        let mut all = PortSet::default();
        for set in &sets {
            all = all.union(set);
            if !all.fits_a_bundle() {
                let place = &items.first()?.place;
                let message = format!("more than {MAX_RANGES} ranges of ports of one protocol (MAX_RANGES)");
                findings.error(Code::Limit, place, message);
                return None;
            }
        }
        Some(all)
    }

    pub(crate) fn one(&self, item: &Located<String>, findings: &mut Findings<'_>) -> Option<PortSet> {
        if let Some(set) = self.0.get(&item.value) {
            return Some(set.clone());
        }
        match own_protocol(&item.value).map_or_else(|| PortSet::parse(&item.value), Err) {
            Ok(set) => Some(set),
            Err(message) => {
                let known = self.0.keys().map(String::as_str).chain(["any", "icmp"]);
                let help = findings.did_you_mean(&item.value, known);
                findings.error_with_help(Code::Ports, &item.place, message, help);
                None
            }
        }
    }
}

/// `ip/6` would read as "all TCP" and match none of it.
fn own_protocol(text: &str) -> Option<String> {
    let instead = match text {
        "ip/6" => "tcp/*",
        "ip/17" => "udp/*",
        "ip/132" => "sctp/*",
        "ip/1" | "ip/58" => "icmp",
        _ => return None,
    };
    Some(format!("{text} has a syntax of its own: write {instead}"))
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
    for statement in statements {
        if ids.len() >= MAX_RULES {
            let message = format!("more than {MAX_RULES} rules (MAX_RULES)");
            findings.error(Code::Limit, &statement.place, message);
            break;
        }
        let rule = compile_one(statement, polarity, names, ids, findings);
        compiled.extend(rule.map(|rule| Compiled { rule, statement }));
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
    Some(Rule {
        id: id?,
        from: from?,
        to: to?,
        related: related?,
        ports: ports?,
        not_before: statement.not_before.as_ref().map(|moment| moment.value),
        until: statement.until.as_ref().map(|moment| moment.value),
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
        let message = format!(
            "rule {value:?} is defined twice; first at {}:{}",
            findings.file_name(first),
            findings.line(first)
        );
        findings.error(Code::Duplicate, place, message);
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

fn check_window(statement: &RuleStatement, findings: &mut Findings<'_>) {
    if let (Some(start), Some(end)) = (&statement.not_before, &statement.until)
        && end.value <= start.value
    {
        findings.error(Code::Time, &end.place, "the rule ends before it starts");
    }
}
