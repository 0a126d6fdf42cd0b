//! Putting a policy in force. It is checked here first, so that mistakes are shown without a coordinator, and sent
//! with the generation it replaces, so that nobody's change is undone by accident.

use super::{confirmation, count, directory, print_diagnostics, sign};
use crate::Place;
use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::moment;
use crate::receipts::{self, Acknowledgements};
use crate::screen::{Screen, remark};
use crate::table::printable;
use bulkhead_acl::{Code, Diagnostic, FailingTests, Options, Rule, RuleSet, Severity, Sources};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{
    AckStatus, Applied, Overrides, PolicyCurrent, PolicyText, ReceiptView, SignedPolicy,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The coordinator's code for an edit that another one has overtaken.
const STALE_BASE: &str = "BH-C150";

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
    /// `null` when the policy that was in force cannot be read here.
    changes: Option<&'a [String]>,
    /// Only with `--confirm-within`: when it goes back, by the clock here.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm_by: Option<Timestamp>,
    /// Only with `--wait`.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgements: Option<&'a AckStatus>,
}

/// `policy apply`.
pub(super) async fn run(place: &Place, arguments: command::Apply, screen: Screen) -> Result<(), Failure> {
    let request = request(&arguments)?;
    let new = checked(&request.sources, arguments.allow_failing_tests)?;

    let mut client = place.client()?;
    let current: PolicyCurrent = client.get("/api/v1/policy").await?;
    let changes = changes_since(&current.sources, &new);
    let request = PolicyText { base: arguments.base.or(Some(current.generation)), ..request };
    let applied: Applied = client.post("/api/v1/policy", &request).await.map_err(refused)?;
    let confirm_by = arguments.confirm_within.map(|within| moment::now().plus(within));

    print_diagnostics(&applied.warnings);
    match &changes {
        Some(changes) => changes.iter().try_for_each(|change| screen.line(change))?,
        None => screen.line(&unknown_changes(current.generation))?,
    }
    screen.line(&format!("policy {} is signed and replaces {}", applied.generation, current.generation))?;
    if let Some(by) = confirm_by {
        screen.line(&unconfirmed(applied.generation, current.generation, by))?;
    }
    let status = match arguments.wait {
        true => Some(wait(&mut client, applied.generation, arguments.timeout, screen).await?),
        false => None,
    };
    if screen == Screen::Json {
        let (replaced, changes) = (current.generation, changes.as_deref());
        let outcome =
            Outcome { applied: &applied, replaced, changes, confirm_by, acknowledgements: status.as_ref() };
        screen.answer("policy-applied", &outcome, |_| String::new())?;
    }
    status.map_or(Ok(()), |status| verdict(&status, screen))
}

fn unconfirmed(generation: u64, back_to: u64, by: Timestamp) -> String {
    let (back_to, by) = (confirmation::whose(back_to), moment::show(by));
    let keep = confirmation::command(generation);
    format!("it goes back to {back_to} at {by} (by the clock here) unless you run: {keep}")
}

/// A directory is text to be signed by the coordinator; a file is signed already.
fn request(arguments: &command::Apply) -> Result<PolicyText, Failure> {
    let request = PolicyText {
        message: arguments.message.clone(),
        confirm_within: arguments.confirm_within.map(|within| within.as_secs()),
        overrides: Overrides {
            failing_tests: arguments.allow_failing_tests,
            lockout: arguments.allow_lockout,
        },
        ..PolicyText::default()
    };
    if !arguments.path.is_file() {
        return Ok(PolicyText { sources: directory::read(&arguments.path)?, ..request });
    }
    let SignedPolicy { sources, bundle, fallback, .. } = sign::read(&arguments.path)?;
    Ok(PolicyText { sources, bundle: Some(bundle), fallback, ..request })
}

/// Checks here as the coordinator will, so that mistakes are shown where they were made.
fn checked(sources: &Sources, allow_failing_tests: bool) -> Result<RuleSet, Failure> {
    let failing_tests = if allow_failing_tests { FailingTests::Warn } else { FailingTests::Refuse };
    let options = Options { failing_tests, nodes: None };
    match bulkhead_acl::check_with(sources, moment::now(), options) {
        Ok(checked) => Ok(checked.rules),
        Err(diagnostics) => Err(not_applied(&diagnostics)),
    }
}

fn not_applied(diagnostics: &[Diagnostic]) -> Failure {
    let (errors, warnings) = print_diagnostics(diagnostics);
    let mut failing = diagnostics.iter().filter(|found| found.severity == Severity::Error);
    let override_ = if failing.all(|found| found.code == Code::TestFailed.as_str()) {
        "; to apply it although its tests fail: --allow-failing-tests"
    } else {
        ""
    };
    Failure::ChecksFailed(format!("{}; nothing was changed{override_}", count(errors, warnings)))
}

async fn wait(
    client: &mut Client,
    generation: u64,
    patience: Duration,
    screen: Screen,
) -> Result<AckStatus, Failure> {
    let path = format!("/api/v1/policy/ack/{generation}");
    // Until the first answer, somebody is waited for.
    let known =
        AckStatus { generation, acknowledged: Vec::new(), waiting: vec![String::new()], offline: Vec::new() };
    receipts::watch(client, &path, known, patience, screen).await
}

// The server's diagnostics are shown like our own; a stale base is drift and has an exit code of its own.
fn refused(failure: Failure) -> Failure {
    let Failure::Refused { status, mut error } = failure else { return failure };
    if error.code == STALE_BASE {
        return Failure::Drift(error);
    }
    match error.diagnostics.take() {
        Some(diagnostics) => not_applied(&diagnostics),
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

/// A policy that this version cannot read any more can still be replaced; what that changes cannot be told. Its own
/// tests have no part in it: they may fail, or fail by now.
fn changes_since(sources: &Sources, new: &RuleSet) -> Option<Vec<String>> {
    let options = Options { failing_tests: FailingTests::Warn, nodes: None };
    let old = bulkhead_acl::check_with(sources, moment::now(), options).ok()?;
    Some(changes(&old.rules, new))
}

fn unknown_changes(generation: u64) -> String {
    format!("? which rules change is not known: policy {generation} cannot be read by this version")
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
pub(super) fn same_meaning(old: &Rule, new: &Rule) -> bool {
    let placed = Rule { file: new.file.clone(), line: new.line, ..old.clone() };
    placed == *new
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{self, NOON, POLICY, policy_verb};
    use bulkhead_protocol::admin::SIGNED_POLICY_SCHEMA;
    use bulkhead_protocol::enrol::ApiError;
    use hyper::StatusCode;
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
    fn changes_are_told_of_a_policy_whose_tests_fail_and_not_of_one_that_cannot_be_read() {
        let test = "\n[[test]]\nname = \"x\"\nfrom = \"@web\"\nto = \"@db\"\ndeny = [\"tcp/5432\"]\n";
        let new = checked(&fixture::sources(POLICY), false).unwrap();
        let since = |text: &str| changes_since(&fixture::sources(text), &new);
        assert_eq!(since(&format!("{POLICY}{test}")), Some(Vec::new()));
        assert_eq!(since("version = 2\n"), None);
        assert_eq!(since("version = 1\n").unwrap().len(), 4);
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

    fn arguments(words: &str) -> command::Apply {
        let command::Policy::Apply(arguments) = policy_verb(&format!("apply {words}")) else {
            panic!("{words}")
        };
        arguments
    }

    #[test]
    fn failing_tests_name_what_applies_the_policy_all_the_same() {
        let test = "\n[[test]]\nname = \"x\"\nfrom = \"@web\"\nto = \"@db\"\ndeny = [\"tcp/5432\"]\n";
        let sources = fixture::sources(&format!("{POLICY}{test}"));
        let failure = checked(&sources, false).unwrap_err();
        assert_eq!(failure.exit_code(), ExitCode::from(4));
        assert!(failure.sentence().contains("--allow-failing-tests"), "{failure}");
        assert!(checked(&sources, true).is_ok());
        let failure = checked(&fixture::sources("version = 2\n"), true).unwrap_err();
        assert!(!failure.sentence().contains("--allow-failing-tests"), "{failure}");
    }

    #[test]
    fn a_signed_policy_is_sent_as_it_was_signed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("signed.json");
        let signed = SignedPolicy {
            schema: SIGNED_POLICY_SCHEMA.to_owned(),
            sources: fixture::sources(POLICY),
            bundle: "YnVuZGxl".to_owned(),
            fallback: Some("YmFjaw==".to_owned()),
            fallback_sources: Some(fixture::sources(POLICY)),
        };
        std::fs::write(&path, serde_json::to_string(&signed).unwrap()).unwrap();
        let words = format!("{} --confirm-within 5m --allow-lockout", path.display());
        let sent = request(&arguments(&words)).unwrap();
        assert_eq!((sent.bundle, sent.fallback), (Some(signed.bundle.clone()), signed.fallback.clone()));
        assert_eq!((sent.sources, sent.confirm_within), (signed.sources.clone(), Some(300)));
        assert!(sent.overrides.lockout && !sent.overrides.failing_tests);

        let other = SignedPolicy { schema: "bulkhead.signed-policy/2".to_owned(), ..signed };
        std::fs::write(&path, serde_json::to_string(&other).unwrap()).unwrap();
        assert!(request(&arguments(&path.display().to_string())).is_err());
        std::fs::write(&path, POLICY).unwrap();
        let failure = request(&arguments(&path.display().to_string())).unwrap_err();
        assert!(failure.sentence().contains("policy text is a directory"), "{}", failure.sentence());
    }

    #[test]
    fn an_unconfirmed_policy_says_until_when_and_what_keeps_it() {
        insta::assert_snapshot!(unconfirmed(8, 7, NOON), @"it goes back to policy 7 at 2026-12-01T12:00:00Z (by the clock here) unless you run: bulkheadctl policy confirm 8");
    }
}
