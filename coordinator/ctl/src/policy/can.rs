//! May A reach B? One answer with its reason.

use super::basis::{self, Basis};
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::printable;
use bulkhead_acl::{Decision, RuleId, RuleSet, Service};
use bulkhead_identity::{NodeName, Timestamp};
use serde::Serialize;

#[derive(Serialize)]
struct Answer<'a> {
    from: &'a NodeName,
    to: &'a NodeName,
    service: Service,
    at: Timestamp,
    allowed: bool,
    decision: Decision,
}

/// `policy can`.
pub(super) fn run(asked: &command::Can, basis: &Basis, screen: Screen) -> Result<(), Failure> {
    let (from, to) = (basis.node(&asked.from)?, basis.node(&asked.to)?);
    let decision = basis.checked.rules.decide(from, to, asked.service, basis.at);
    let allowed = decision.is_allowed();
    let line = line(asked, basis, &decision);
    let (from, to, service) = (&asked.from, &asked.to, asked.service);
    screen.answer("can", &Answer { from, to, service, at: basis.at, allowed, decision }, |_| line)?;
    if allowed { Ok(()) } else { Err(Failure::Denied) }
}

fn line(asked: &command::Can, basis: &Basis, decision: &Decision) -> String {
    let command::Can { from, to, service, .. } = asked;
    let sentence = sentence(decision, &basis.checked.rules);
    // At another moment it might be allowed.
    let when = if decision.is_allowed() { String::new() } else { format!(" ({})", basis::at(basis.at)) };
    printable(&format!("{from} -> {to} {service}: {sentence}{when}{}", basis.under()))
}

/// `allowed by web-to-db (base.toml:12)`; a no names the rule that forbids, or the nearest one and what it lacks.
pub(super) fn sentence(decision: &Decision, rules: &RuleSet) -> String {
    match decision {
        Decision::Allowed { rule, all, file, line } => {
            let others: Vec<_> = all.iter().filter(|other| *other != rule).map(ToString::to_string).collect();
            let also =
                if others.is_empty() { String::new() } else { format!(", also by {}", others.join(", ")) };
            format!("allowed by {rule} ({file}:{line}){also}")
        }
        Decision::Forbidden { rule, file, line } => format!("denied by never rule {rule} ({file}:{line})"),
        Decision::NoRule { nearest: None, .. } => "denied, no rule allows it".to_owned(),
        Decision::NoRule { nearest: Some(nearest), missing } => {
            let place = place(rules, nearest);
            format!("denied, no rule allows it; nearest is {nearest}{place}, but {}", missing.join(", and "))
        }
    }
}

fn place(rules: &RuleSet, id: &RuleId) -> String {
    let rule = rules.allow.iter().find(|rule| rule.id == *id);
    rule.map(|rule| format!(" ({}:{})", rule.file, rule.line)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{basis, policy_verb};

    fn ask(words: &str) -> (String, Result<(), Failure>) {
        let command::Policy::Can(asked) = policy_verb(&format!("can {words}")) else { panic!("{words}") };
        let basis = basis();
        let decision = basis.checked.rules.decide(
            basis.node(&asked.from).unwrap(),
            basis.node(&asked.to).unwrap(),
            asked.service,
            basis.at,
        );
        (line(&asked, &basis, &decision), run(&asked, &basis, Screen::Json))
    }

    #[test]
    fn every_answer_names_its_reason() {
        insta::assert_snapshot!(ask("web-1 db tcp/5432").0, @"web-1 -> db tcp/5432: allowed by web-to-db (base.toml:16)  (policy 7)");
        insta::assert_snapshot!(ask("web-1 db tcp/22").0, @"web-1 -> db tcp/22: denied, no rule allows it; nearest is ping (base.toml:25), but tcp/22 is not among its ports: icmp (at 2026-12-01T12:00:00Z)  (policy 7)");
        insta::assert_snapshot!(ask("plc web-1 tcp/443").0, @"plc -> web-1 tcp/443: denied, no rule allows it; nearest is ping (base.toml:25), but source plc must match `env=prod`, has env=ot, and tcp/443 is not among its ports: icmp (at 2026-12-01T12:00:00Z)  (policy 7)");
        insta::assert_snapshot!(ask("web-1 plc tcp/502").0, @"web-1 -> plc tcp/502: denied by never rule plc-only-from-historian (base.toml:41) (at 2026-12-01T12:00:00Z)  (policy 7)");
    }

    #[test]
    fn a_no_is_no_success() {
        assert!(ask("web-1 db tcp/5432").1.is_ok());
        assert!(matches!(ask("web-1 db tcp/22").1, Err(Failure::Denied)));
        assert!(matches!(ask("web-1 plc tcp/502").1, Err(Failure::Denied)));
    }

    #[test]
    fn a_node_that_does_not_exist_is_no_answer() {
        let basis = basis();
        let failure = basis.node(&NodeName::parse("nobody").unwrap()).unwrap_err();
        assert!(failure.help().unwrap().contains("web-1"));
    }
}
