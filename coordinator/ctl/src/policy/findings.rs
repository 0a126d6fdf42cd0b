//! `check`, `lint` and `test`: what is wrong with a policy, or deserves a look, all at once.

use super::{basis, count, count_of, directory, inventory, print_diagnostics, sarif};
use crate::Place;
use crate::command::{self, Presentation};
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use bulkhead_acl::{Code, Diagnostic, FailingTests, Options, Sources, Subject};
use bulkhead_identity::Timestamp;
use bulkhead_protocol::admin::{CheckReport, PolicyCurrent};
use serde::Serialize;
use std::path::Path;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// `check`: errors.
    Errors,
    /// `lint`: any finding.
    Findings,
}

/// A policy to look at, and nodes where they are known.
struct Text {
    sources: Sources,
    nodes: Option<Vec<Subject>>,
    /// As people name it.
    name: String,
}

impl Text {
    fn directory(path: &Path, nodes: Option<&Path>) -> Result<Self, Failure> {
        let nodes = nodes.map(inventory::read).transpose()?;
        Ok(Self { sources: directory::read(path)?, nodes, name: path.display().to_string() })
    }

    async fn in_force(place: &Place) -> Result<Self, Failure> {
        let mut client = place.client()?;
        let current: PolicyCurrent = client.get("/api/v1/policy").await?;
        let nodes = basis::nodes(&mut client).await?;
        Ok(Self {
            sources: current.sources,
            nodes: Some(nodes),
            name: format!("policy {}", current.generation),
        })
    }
}

/// `policy check` and `policy lint`.
pub(super) async fn check(
    place: &Place,
    asked: command::Check,
    strictness: Strictness,
    screen: Screen,
) -> Result<(), Failure> {
    let text = match &asked.directory {
        Some(directory) => Text::directory(directory, asked.nodes.as_deref())?,
        None => Text::in_force(place).await?,
    };
    let report = report(&text, asked.at.unwrap_or_else(moment::now));
    if asked.format == Presentation::Sarif {
        let log = sarif::log(&report.diagnostics, asked.directory.as_deref());
        screen.text(&serde_json::to_string_pretty(&log).map_err(anyhow::Error::new)?)?;
    } else {
        print_diagnostics(&report.diagnostics);
    }
    let failed = verdict(&report, strictness, &text.name);
    match (asked.format, screen) {
        (Presentation::Sarif, _) => {}
        (Presentation::Text, Screen::Text) if failed.is_some() => {}
        (Presentation::Text, _) => screen.answer("policy-check", &report, summary)?,
    }
    failed.map_or(Ok(()), |reason| Err(Failure::ChecksFailed(reason)))
}

fn report(text: &Text, at: Timestamp) -> CheckReport {
    let options = Options { failing_tests: FailingTests::Refuse, nodes: text.nodes.as_deref() };
    match bulkhead_acl::check_with(&text.sources, at, options) {
        Ok(checked) => CheckReport {
            ok: true,
            diagnostics: checked.warnings,
            tests_passed: checked.tests_passed,
            allow_rules: checked.rules.allow.len(),
            never_rules: checked.rules.never.len(),
        },
        Err(diagnostics) => {
            CheckReport { ok: false, diagnostics, tests_passed: 0, allow_rules: 0, never_rules: 0 }
        }
    }
}

/// Why it fails, if it does.
fn verdict(report: &CheckReport, strictness: Strictness, name: &str) -> Option<String> {
    let (errors, warnings) = super::tally(&report.diagnostics);
    match strictness {
        Strictness::Errors if report.ok => None,
        Strictness::Findings if report.diagnostics.is_empty() => None,
        Strictness::Errors | Strictness::Findings if errors > 0 => {
            Some(format!("{} in {name}", count(errors, warnings)))
        }
        Strictness::Errors | Strictness::Findings => {
            Some(format!("{} in {name}", count_of(warnings, "warning")))
        }
    }
}

fn summary(report: &CheckReport) -> String {
    let (_, warnings) = super::tally(&report.diagnostics);
    let warned = if warnings == 0 { String::new() } else { format!(", {}", count_of(warnings, "warning")) };
    let never = report.never_rules;
    format!(
        "ok: {} allow, {never} never, {} expectations hold{warned}",
        report.allow_rules, report.tests_passed
    )
}

/// What `test --json` shows.
#[derive(Serialize)]
struct Tested {
    ok: bool,
    /// Expectations that hold.
    passed: usize,
    /// One for each expectation that does not.
    failed: Vec<Diagnostic>,
}

/// `policy test`.
pub(super) async fn test(place: &Place, asked: command::Test, screen: Screen) -> Result<(), Failure> {
    let text = match &asked.directory {
        Some(directory) => Text::directory(directory, None)?,
        None => Text::in_force(place).await?,
    };
    let tested = tested(&text, asked.at.unwrap_or_else(moment::now))?;
    print_diagnostics(&tested.failed);
    if tested.ok || screen == Screen::Json {
        screen.answer("policy-test", &tested, |tested| format!("ok: {}", holds(tested.passed)))?;
    }
    if tested.ok {
        return Ok(());
    }
    let failed = tested.failed.len();
    let fail = if failed == 1 { "1 fails".to_owned() } else { format!("{failed} fail") };
    Err(Failure::ChecksFailed(format!("{} and {fail} in {}", holds(tested.passed), text.name)))
}

fn tested(text: &Text, at: Timestamp) -> Result<Tested, Failure> {
    let checked = basis::understood(&text.sources, at, &text.name)?;
    let failed = checked.warnings.into_iter().filter(|found| found.code == Code::TestFailed.as_str());
    let failed: Vec<_> = failed.collect();
    Ok(Tested { ok: failed.is_empty(), passed: checked.tests_passed, failed })
}

fn holds(passed: usize) -> String {
    format!("{} {}", count_of(passed, "expectation"), if passed == 1 { "holds" } else { "hold" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{NOON, POLICY, nodes, sources};

    fn text(policy: &str) -> Text {
        Text { sources: sources(policy), nodes: None, name: "base.d".to_owned() }
    }

    fn said(policy: &str, strictness: Strictness) -> String {
        let report = report(&text(policy), NOON);
        verdict(&report, strictness, "base.d").unwrap_or_else(|| summary(&report))
    }

    const TEST: &str = "\n[[test]]\nname = \"web\"\nfrom = \"@web\"\nto = \"@db\"\nallow = [\"tcp/5432\"]\n";

    #[test]
    fn warnings_pass_a_check_and_fail_a_lint() {
        let loose = POLICY
            .replace("why = \"orders live in db\"\nreview_by = 2027-06-30\n", "")
            .replace("\"icmp\"", "\"any\"");
        insta::assert_snapshot!(said(POLICY, Strictness::Errors), @"ok: 3 allow, 1 never, 0 expectations hold");
        insta::assert_snapshot!(said(&loose, Strictness::Errors), @"ok: 3 allow, 1 never, 0 expectations hold, 3 warnings");
        insta::assert_snapshot!(said(&loose, Strictness::Findings), @"3 warnings in base.d");
        insta::assert_snapshot!(said("version = 1\n[[allow]]\n", Strictness::Errors), @"4 errors in base.d");
    }

    #[test]
    fn nodes_show_rules_that_speak_of_none_of_them() {
        let web: Vec<_> = nodes().into_iter().filter(|node| node.name.as_str().starts_with("web")).collect();
        let report = report(&Text { nodes: Some(web), ..text(POLICY) }, NOON);
        assert!(report.ok);
        assert!(report.diagnostics.iter().any(|found| found.message.contains("web-to-db")), "{report:?}");
    }

    #[test]
    fn tests_are_counted_and_a_policy_with_failing_ones_is_still_read() {
        let passing = tested(&text(&format!("{POLICY}{TEST}")), NOON).unwrap();
        assert!(passing.ok && passing.passed == 1);
        let failing = TEST.replace("allow", "deny");
        let failing = tested(&text(&format!("{POLICY}{failing}")), NOON).unwrap();
        assert!(!failing.ok && failing.failed.len() == 1, "{:?}", failing.failed);
    }
}
