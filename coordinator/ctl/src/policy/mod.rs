//! The policy verbs. What can be answered from files alone is answered without a coordinator, by the same `acl`
//! code that the coordinator and the nodes run.

mod apply;
mod can;
mod directory;
mod inventory;

use crate::Place;
use crate::client::Client;
use crate::command;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::moment;
use crate::screen::{Screen, remark};
use crate::table::{Table, printable, printable_lines};
use bulkhead_acl::{Diagnostic, Severity};
use bulkhead_protocol::admin::{Applied, CheckReport, PolicyCurrent, PolicyHistory, Rollback};
use std::path::Path;

/// `policy …`.
pub(crate) async fn run(place: &Place, verb: command::Policy, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Policy::Check { directory, nodes } => check(&directory, nodes.as_deref(), screen),
        command::Policy::Can(arguments) => match (&arguments.policy, &arguments.nodes) {
            (Some(policy), Some(nodes)) => can::offline(&arguments, policy, nodes, screen),
            // The command line refuses one without the other.
            (None, None) | (Some(_), None) | (None, Some(_)) => {
                can::online(&mut place.client()?, &arguments, screen).await
            }
        },
        command::Policy::Apply(arguments) => apply::run(place, arguments, screen).await,
        command::Policy::History => history(&mut place.client()?, screen).await,
        command::Policy::Rollback { generation, yes } => {
            rollback(&mut place.client()?, generation, yes, screen).await
        }
        command::Policy::Show => show(&mut place.client()?, screen).await,
    }
}

/// Prints diagnostics for people on standard error; counts errors and warnings.
pub(super) fn print_diagnostics(diagnostics: &[Diagnostic]) -> (usize, usize) {
    for diagnostic in diagnostics {
        remark(&format!("{diagnostic}\n"));
    }
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    (errors, diagnostics.len() - errors)
}

/// `2 errors and 1 warning`, ready for a failure.
pub(super) fn count(errors: usize, warnings: usize) -> String {
    let of = |count: usize, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    if warnings == 0 {
        of(errors, "error")
    } else {
        format!("{} and {}", of(errors, "error"), of(warnings, "warning"))
    }
}

fn check(directory: &Path, nodes: Option<&Path>, screen: Screen) -> Result<(), Failure> {
    let sources = directory::read(directory)?;
    let inventory = nodes.map(inventory::read).transpose()?;
    let report = match bulkhead_acl::check(&sources, moment::now()) {
        Ok(checked) => {
            let mut diagnostics = checked.warnings;
            if let Some(nodes) = &inventory {
                diagnostics.extend(inventory::rules_for_nobody(&checked.rules, &sources, nodes));
            }
            CheckReport {
                ok: true,
                diagnostics,
                tests_passed: checked.tests_passed,
                allow_rules: checked.rules.allow.len(),
                never_rules: checked.rules.never.len(),
            }
        }
        Err(diagnostics) => {
            CheckReport { ok: false, diagnostics, tests_passed: 0, allow_rules: 0, never_rules: 0 }
        }
    };
    let (errors, warnings) = print_diagnostics(&report.diagnostics);
    if report.ok {
        screen.answer("policy-check", &report, |report| summary(report, warnings))
    } else {
        if screen == Screen::Json {
            screen.answer("policy-check", &report, |_| String::new())?;
        }
        Err(Failure::ChecksFailed(format!("{} in {}", count(errors, warnings), directory.display())))
    }
}

fn summary(report: &CheckReport, warnings: usize) -> String {
    let warned = match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        many => format!(", {many} warnings"),
    };
    let never = report.never_rules;
    format!(
        "ok: {} allow, {never} never, {} expectations hold{warned}",
        report.allow_rules, report.tests_passed
    )
}

async fn history(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let history: PolicyHistory = client.get("/api/v1/policy/history").await?;
    screen.answer("policy-history", &history, |history| {
        let mut table = Table::new(&["generation", "time", "author", "allow", "never", "message"]);
        for entry in &history.entries {
            table.row([
                entry.generation.to_string(),
                moment::show(entry.time),
                entry.author.clone(),
                entry.allow_rules.to_string(),
                entry.never_rules.to_string(),
                entry.message.clone(),
            ]);
        }
        table.to_string()
    })
}

async fn rollback(client: &mut Client, generation: u64, yes: bool, screen: Screen) -> Result<(), Failure> {
    let effect = format!(
        "The rules of generation {generation} will be in force everywhere, as a new generation. Connections that \
         they do not permit end at once."
    );
    confirm(yes.into(), &effect, "Roll back?")?;
    let applied: Applied = client.post("/api/v1/policy/rollback", &Rollback { generation }).await?;
    print_diagnostics(&applied.warnings);
    screen.answer("policy-applied", &applied, |applied| {
        format!("policy {} is in force, with the rules of {generation}", applied.generation)
    })
}

async fn show(client: &mut Client, screen: Screen) -> Result<(), Failure> {
    let current: PolicyCurrent = client.get("/api/v1/policy").await?;
    screen.answer("policy", &current, |current| {
        let mut text = format!("# generation {}\n", current.generation);
        for (name, source) in &current.sources.0 {
            text.push_str(&format!("\n# {}\n{}\n", printable(name), printable_lines(source)));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_english() {
        assert_eq!(count(1, 0), "1 error");
        assert_eq!(count(2, 1), "2 errors and 1 warning");
    }
}
