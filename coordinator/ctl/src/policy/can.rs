//! May A reach B? One answer with its reason, from the policy in force or from files.

use super::{count, directory, inventory, print_diagnostics};
use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::moment;
use crate::screen::Screen;
use crate::table::printable;
use anyhow::Context as _;
use bulkhead_acl::{Decision, Subject};
use bulkhead_identity::NodeName;
use bulkhead_protocol::admin::{Can, CanAnswer};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `bulkhead_acl::Decision` as it travels. An unknown verdict is an error, never a yes.
#[derive(Debug, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum Reason {
    Allowed {
        rule: String,
        #[serde(default)]
        all: Vec<String>,
        file: String,
        line: usize,
    },
    Forbidden {
        rule: String,
        file: String,
        line: usize,
    },
    NoRule {
        nearest: Option<String>,
        #[serde(default)]
        missing: Vec<String>,
    },
}

#[derive(Serialize)]
struct Answer<'a> {
    from: &'a NodeName,
    to: &'a NodeName,
    service: String,
    allowed: bool,
    /// Absent when files were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    decision: serde_json::Value,
}

/// Asks the coordinator, of its nodes and the policy in force.
pub(super) async fn online(client: &mut Client, asked: &command::Can, screen: Screen) -> Result<(), Failure> {
    let request = Can {
        from: asked.from.to_string(),
        to: asked.to.to_string(),
        service: asked.service.to_string(),
        at: asked.at,
    };
    let answer: CanAnswer = client.post("/api/v1/policy/can", &request).await?;
    report(asked, answer.allowed, Some(answer.generation), answer.decision, screen)
}

/// Asks files alone.
pub(super) fn offline(
    asked: &command::Can,
    policy: &Path,
    nodes: &Path,
    screen: Screen,
) -> Result<(), Failure> {
    let now = moment::now();
    let sources = directory::read(policy)?;
    let checked = bulkhead_acl::check(&sources, now).map_err(|diagnostics| {
        let (errors, warnings) = print_diagnostics(&diagnostics);
        Failure::ChecksFailed(format!("{} in {}", count(errors, warnings), policy.display()))
    })?;
    let nodes = inventory::read(nodes)?;
    let (from, to) = (find(&nodes, &asked.from)?, find(&nodes, &asked.to)?);
    let decision = checked.rules.decide(from, to, asked.service, asked.at.unwrap_or(now));
    let allowed = match decision {
        Decision::Allowed { .. } => true,
        Decision::Forbidden { .. } | Decision::NoRule { .. } => false,
    };
    report(asked, allowed, None, serde_json::to_value(&decision).context("writing JSON")?, screen)
}

fn find<'a>(nodes: &'a [Subject], name: &NodeName) -> Result<&'a Subject, Failure> {
    nodes.iter().find(|node| node.name == *name).ok_or_else(|| {
        let known: Vec<_> = nodes.iter().map(|node| node.name.as_str()).take(20).collect();
        Failure::usage(format!("no node {name} in the file"), format!("it has: {}", known.join(", ")))
    })
}

fn report(
    asked: &command::Can,
    allowed: bool,
    generation: Option<u64>,
    decision: serde_json::Value,
    screen: Screen,
) -> Result<(), Failure> {
    let reason: Reason = Deserialize::deserialize(&decision).context("the decision is of an unknown kind")?;
    if allowed != matches!(reason, Reason::Allowed { .. }) {
        return Err(
            anyhow::anyhow!("the coordinator contradicts itself: allowed={allowed}, {reason:?}").into()
        );
    }
    let (from, to, service) = (&asked.from, &asked.to, asked.service.to_string());
    let line = format!("{from} -> {to} {service}: {}", sentence(&reason));
    let answer = Answer { from, to, service, allowed, generation, decision };
    screen.answer("can", &answer, |answer| {
        let under =
            answer.generation.map(|generation| format!("  (policy {generation})")).unwrap_or_default();
        printable(&format!("{line}{under}"))
    })?;
    if allowed { Ok(()) } else { Err(Failure::Denied) }
}

fn sentence(reason: &Reason) -> String {
    match reason {
        Reason::Allowed { rule, all, file, line } => {
            let others: Vec<_> = all.iter().filter(|other| *other != rule).map(String::as_str).collect();
            let also =
                if others.is_empty() { String::new() } else { format!(", also by {}", others.join(", ")) };
            format!("allowed by {rule} ({file}:{line}){also}")
        }
        Reason::Forbidden { rule, file, line } => format!("denied by never rule {rule} ({file}:{line})"),
        Reason::NoRule { nearest: None, .. } => "denied, no rule allows it".to_owned(),
        Reason::NoRule { nearest: Some(nearest), missing } => {
            format!("denied, no rule allows it; nearest is {nearest}, but {}", missing.join(", and "))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bulkhead_acl::RuleId;
    use clap::Parser as _;

    fn asked() -> command::Can {
        let line = ["bulkheadctl", "policy", "can", "web", "db", "tcp/5432"];
        let verb = command::CommandLine::parse_from(line).verb;
        let command::Verb::Policy(command::Policy::Can(asked)) = verb else { panic!("{verb:?}") };
        asked
    }

    #[test]
    fn every_decision_of_the_acl_crate_is_understood() {
        let rule = RuleId("web-to-db".into());
        let allowed =
            Decision::Allowed { rule: rule.clone(), all: vec![rule.clone()], file: "a.toml".into(), line: 3 };
        let forbidden = Decision::Forbidden { rule: rule.clone(), file: "a.toml".into(), line: 3 };
        let none = Decision::NoRule { nearest: Some(rule), missing: vec!["`from` wants role=web".into()] };
        let read = |decision: &Decision| -> String {
            sentence(&serde_json::from_value(serde_json::to_value(decision).unwrap()).unwrap())
        };
        assert_eq!(read(&allowed), "allowed by web-to-db (a.toml:3)");
        assert_eq!(read(&forbidden), "denied by never rule web-to-db (a.toml:3)");
        assert_eq!(read(&none), "denied, no rule allows it; nearest is web-to-db, but `from` wants role=web");
    }

    #[test]
    fn an_unknown_or_contradictory_verdict_is_never_a_yes() {
        let unknown = serde_json::json!({"verdict": "maybe"});
        assert!(report(&asked(), true, Some(1), unknown, Screen::Json).is_err());
        let no = serde_json::json!({"verdict": "no_rule", "nearest": null, "missing": []});
        assert!(matches!(report(&asked(), true, Some(1), no.clone(), Screen::Json), Err(Failure::Other(_))));
        assert!(matches!(report(&asked(), false, Some(1), no, Screen::Json), Err(Failure::Denied)));
    }
}
