//! Putting a policy in force. It is checked here first, so that mistakes are shown without a coordinator, and sent
//! with the generation it replaces, so that nobody's change is undone by accident.

use super::{count, directory, print_diagnostics};
use crate::Place;
use crate::command;
use crate::failure::Failure;
use crate::moment;
use crate::receipts::{self, Acknowledgements};
use crate::screen::{Screen, remark};
use crate::table::printable;
use bulkhead_acl::{Rule, RuleSet};
use bulkhead_protocol::admin::{AckStatus, Applied, PolicyCurrent, PolicyText, ReceiptView};
use hyper::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;

impl Acknowledgements for AckStatus {
    fn receipts(&self) -> &[ReceiptView] {
        &self.acknowledged
    }

    fn missing(&self) -> usize {
        self.waiting.len()
    }
}

/// What `--json` shows.
#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    applied: &'a Applied,
    replaced: u64,
    changes: &'a [String],
    /// Only with `--wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgements: Option<&'a AckStatus>,
}

/// `policy apply`.
pub(super) async fn run(place: &Place, arguments: command::Apply, screen: Screen) -> Result<(), Failure> {
    let sources = directory::read(&arguments.directory)?;
    let checked = bulkhead_acl::check(&sources, moment::now()).map_err(|diagnostics| {
        let (errors, warnings) = print_diagnostics(&diagnostics);
        Failure::ChecksFailed(format!("{}; nothing was changed", count(errors, warnings)))
    })?;

    let mut client = place.client()?;
    let current: PolicyCurrent = client.get("/api/v1/policy").await?;
    let old = bulkhead_acl::check(&current.sources, moment::now()).map(|checked| checked.rules);
    // A policy that this version cannot read any more can still be replaced; its changes cannot be told.
    let changes = changes(&old.unwrap_or_default(), &checked.rules);
    let base = arguments.base.unwrap_or(current.generation);

    let request = PolicyText { sources, base: Some(base), message: arguments.message };
    let applied: Applied = match client.post("/api/v1/policy", &request).await {
        Ok(applied) => applied,
        Err(failure) => return Err(refused(failure)),
    };
    print_diagnostics(&applied.warnings);
    for change in &changes {
        screen.line(change)?;
    }
    screen.line(&format!("policy {} is signed and replaces {}", applied.generation, current.generation))?;

    let mut status = None;
    if arguments.wait {
        let generation = applied.generation;
        let path = format!("/api/v1/policy/ack/{generation}");
        let known = AckStatus {
            generation,
            acknowledged: Vec::new(),
            waiting: vec![String::new()],
            offline: Vec::new(),
        };
        status = Some(receipts::watch(&mut client, &path, known, arguments.timeout, screen).await?);
    }
    if screen == Screen::Json {
        let replaced = current.generation;
        let outcome =
            Outcome { applied: &applied, replaced, changes: &changes, acknowledgements: status.as_ref() };
        screen.answer("policy-applied", &outcome, |_| String::new())?;
    }
    status.map_or(Ok(()), |status| verdict(&status, screen))
}

// The server's diagnostics are shown like our own; a stale base is drift and has an exit code of its own.
fn refused(failure: Failure) -> Failure {
    let Failure::Refused { status, mut error } = failure else { return failure };
    if status == StatusCode::CONFLICT {
        return Failure::Drift(error);
    }
    match error.diagnostics.take() {
        Some(diagnostics) => {
            let (errors, warnings) = print_diagnostics(&diagnostics);
            Failure::ChecksFailed(format!("{}; nothing was changed", count(errors, warnings)))
        }
        None => Failure::Refused { status, error },
    }
}

fn verdict(status: &AckStatus, screen: Screen) -> Result<(), Failure> {
    for node in &status.offline {
        remark(&printable(&format!("{node}  is not connected; it follows when it returns")));
    }
    if status.waiting.is_empty() {
        let count = status.acknowledged.len();
        return screen.line(&format!(
            "policy {} is in force on {}",
            status.generation,
            crate::node::peers(count)
        ));
    }
    for node in &status.waiting {
        remark(&printable(&format!("{node}  is connected but has not acknowledged")));
    }
    let all = status.waiting.len() + status.acknowledged.len();
    Err(Failure::Unacknowledged(format!(
        "policy {} is signed, but not yet acknowledged by {} of {}",
        status.generation,
        status.waiting.len(),
        crate::node::peers(all)
    )))
}

/// Rules that came, went or changed, one line each, by id.
fn changes(old: &RuleSet, new: &RuleSet) -> Vec<String> {
    let by_id = |rules: &RuleSet| -> BTreeMap<String, (&'static str, Rule)> {
        let kind = |kind, rules: &[Rule]| {
            rules.iter().map(|rule| (rule.id.0.to_string(), (kind, rule.clone()))).collect::<Vec<_>>()
        };
        kind("allow", &rules.allow).into_iter().chain(kind("never", &rules.never)).collect()
    };
    let (old, new) = (by_id(old), by_id(new));
    let mut lines = Vec::new();
    for (id, (kind, rule)) in &new {
        match old.get(id) {
            None => lines.push(format!("+ {kind} {id}")),
            Some((old_kind, old)) if old_kind != kind || !same_meaning(old, rule) => {
                lines.push(format!("~ {kind} {id}"));
            }
            Some(_) => {}
        }
    }
    lines.extend(
        old.iter().filter(|(id, _)| !new.contains_key(*id)).map(|(id, (kind, _))| format!("- {kind} {id}")),
    );
    lines
}

// Where a rule is written does not change what it does.
fn same_meaning(old: &Rule, new: &Rule) -> bool {
    let placed = Rule { file: new.file.clone(), line: new.line, ..old.clone() };
    placed == *new
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_acl::Sources;
    use bulkhead_protocol::enrol::ApiError;
    use std::process::ExitCode;

    fn rules(text: &str) -> RuleSet {
        let schema = "version = 1\n[labels.role]\nvalues = [\"web\", \"db\"]\n";
        let sources = Sources(BTreeMap::from([("a.toml".to_owned(), format!("{schema}{text}"))]));
        bulkhead_acl::check(&sources, moment::now()).unwrap().rules
    }

    fn allow(id: &str, port: u16) -> String {
        format!("[[allow]]\nid = \"{id}\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/{port}\"]\n")
    }

    #[test]
    fn changes_are_told_by_rule_and_moving_a_rule_is_none() {
        let old = rules(&format!("{}{}{}", allow("a", 1), allow("b", 2), allow("c", 3)));
        let new = rules(&format!("# moved\n{}{}{}", allow("b", 2), allow("c", 4), allow("d", 5)));
        assert_eq!(changes(&old, &new), ["~ allow c", "+ allow d", "- allow a"]);
        assert!(changes(&new, &new).is_empty());
    }

    #[test]
    fn a_stale_base_is_drift() {
        let error = ApiError {
            code: "BH-C150".into(),
            message: "this edit started from generation 4, but 5 is in force".into(),
            help: Some("look at `bulkheadctl policy show`".into()),
            diagnostics: None,
        };
        let failure = refused(Failure::Refused { status: StatusCode::CONFLICT, error: Box::new(error) });
        assert_eq!(failure.exit_code(), ExitCode::from(5));
        assert!(failure.help().unwrap().contains("policy show"));
    }
}
