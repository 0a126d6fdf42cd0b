//! `assert never FROM -> TO`: holds, or here is who could, over all label combinations that the schema allows.

use super::basis::Basis;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::printable;
use bulkhead_acl::question::{Assertion, Example, assert_never};
use bulkhead_acl::{Polarity, PortSet, Selector, Subject};
use bulkhead_identity::NodeName;
use serde::Serialize;

/// Nodes of today that are named beside a counterexample.
const EXAMPLES: usize = 3;

/// What is claimed, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Claim<'a> {
    from: &'a str,
    to: &'a str,
    ports: Option<&'a str>,
}

#[derive(Serialize)]
struct Answer<'a> {
    claim: Claim<'a>,
    #[serde(flatten)]
    assertion: &'a Assertion,
    /// Nodes that the claim is about today.
    nodes: Members<'a>,
}

#[derive(Serialize)]
struct Members<'a> {
    from: Vec<&'a NodeName>,
    to: Vec<&'a NodeName>,
}

/// `policy assert never`.
pub(super) fn run(asked: &command::Assertion, basis: &Basis, screen: Screen) -> Result<(), Failure> {
    let claim = Claim::read(asked)?;
    let (from, to) = (basis.selector(claim.from)?, basis.selector(claim.to)?);
    let ports = basis.ports(claim.ports)?.unwrap_or_else(PortSet::any);
    let rules = &basis.checked.rules;
    let assertion = assert_never(&basis.checked.names, rules, &from, &to, &ports, basis.at)
        .map_err(anyhow::Error::new)?;
    let nodes = Members { from: members(&basis.nodes, &from), to: members(&basis.nodes, &to) };
    let answer = Answer { claim, assertion: &assertion, nodes };
    screen.answer("policy-assertion", &answer, |answer| text(answer, basis))?;
    match &assertion {
        Assertion::Holds => Ok(()),
        Assertion::Counterexample { .. } => {
            Err(Failure::ChecksFailed("the assertion does not hold".to_owned()))
        }
    }
}

impl<'a> Claim<'a> {
    fn read(asked: &'a command::Assertion) -> Result<Self, Failure> {
        let words =
            (asked.from.as_str(), asked.arrow.as_deref(), asked.to.as_deref(), asked.ports.as_deref());
        let claim = match words {
            (from, Some("->"), Some(to), ports) => Some(Self { from, to, ports }),
            (whole, ports, None, None) => {
                whole.split_once("->").map(|(from, to)| Self { from: from.trim(), to: to.trim(), ports })
            }
            (_, _, _, _) => None,
        };
        claim.ok_or_else(|| {
            Failure::usage(
                "an assertion is FROM '->' TO [PORTS]",
                "for example: bulkheadctl policy assert never 'env=stage -> env=prod' tcp/22",
            )
        })
    }
}

// As in a never rule: who lacks a label does not escape a claim about other values.
fn members<'a>(nodes: &'a [Subject], selector: &Selector) -> Vec<&'a NodeName> {
    nodes.iter().filter(|node| selector.matches(node, Polarity::Never)).map(|node| &node.name).collect()
}

fn text(answer: &Answer<'_>, basis: &Basis) -> String {
    let Claim { from, to, ports } = answer.claim;
    let ports = ports.unwrap_or("any");
    let claim = format!("never {from} -> {to} {ports}");
    let (verdict, rest) = match answer.assertion {
        Assertion::Holds => ("holds".to_owned(), String::new()),
        Assertion::Counterexample { from, to, service, rule, file, line } => (
            format!("does not hold: {rule} ({file}:{line}) allows {service}"),
            format!("from  {}\nto    {}\n", one(from, &answer.nodes.from), one(to, &answer.nodes.to)),
        ),
    };
    format!("{}\n{rest}", printable(&format!("{claim}: {verdict}{}", basis.under())))
}

fn one(example: &Example, members: &[&NodeName]) -> String {
    let name = example.node.as_ref().map(|name| format!("node:{name} ")).unwrap_or_default();
    let labels = if example.labels.is_empty() { "no labels".to_owned() } else { example.labels.to_string() };
    let names: Vec<_> = members.iter().take(EXAMPLES).map(|name| name.as_str()).collect();
    let more = if members.len() > names.len() { ", …" } else { "" };
    let today = if names.is_empty() {
        String::new()
    } else {
        format!("  (selected today: {}{more})", names.join(", "))
    };
    printable(&format!("{name}{labels}{today}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::{Assert, CommandLine, Policy, Verb};
    use crate::policy::fixture::basis;
    use clap::Parser as _;

    fn asked(words: &[&str]) -> command::Assertion {
        let line = ["bulkheadctl", "policy", "assert", "never"].iter().chain(words);
        let verb = CommandLine::parse_from(line).verb;
        let Verb::Policy(Policy::Assert(Assert::Never(asked))) = verb else { panic!("{verb:?}") };
        asked
    }

    #[test]
    fn a_claim_is_one_argument_or_three() {
        let expected = Claim { from: "role in (web, db)", to: "role=plc", ports: Some("tcp/22") };
        for words in [
            &["role in (web, db) -> role=plc", "tcp/22"] as &[&str],
            &["role in (web, db)", "->", "role=plc", "tcp/22"],
        ] {
            assert_eq!(Claim::read(&asked(words)).unwrap(), expected);
        }
        for wrong in [&["role=web"] as &[&str], &["a", "b", "c"], &["a", "to", "c", "d"]] {
            assert!(Claim::read(&asked(wrong)).is_err(), "{wrong:?}");
        }
    }

    fn told(words: &[&str]) -> (String, Result<(), Failure>) {
        let (asked, basis) = (asked(words), basis());
        let claim = Claim::read(&asked).unwrap();
        let (from, to) = (basis.selector(claim.from).unwrap(), basis.selector(claim.to).unwrap());
        let ports = basis.ports(claim.ports).unwrap().unwrap_or_else(PortSet::any);
        let (names, rules) = (&basis.checked.names, &basis.checked.rules);
        let assertion = assert_never(names, rules, &from, &to, &ports, basis.at).unwrap();
        let nodes = Members { from: members(&basis.nodes, &from), to: members(&basis.nodes, &to) };
        let answer = Answer { claim, assertion: &assertion, nodes };
        (text(&answer, &basis), run(&asked, &basis, Screen::Json))
    }

    #[test]
    fn a_claim_holds_or_shows_who_could() {
        let (text, outcome) = told(&["role!=historian -> role=plc"]);
        insta::assert_snapshot!(text, @"never role!=historian -> role=plc any: holds  (policy 7)");
        assert!(outcome.is_ok());
        let (text, outcome) = told(&["role=web -> @db", "tcp/5000-6000"]);
        insta::assert_snapshot!(text, @r"
        never role=web -> @db tcp/5000-6000: does not hold: web-to-db (base.toml:16) allows tcp/5432  (policy 7)
        from  env=prod,role=web  (selected today: web-1, web-2)
        to    env=prod,role=db  (selected today: db)
        ");
        assert!(matches!(outcome, Err(Failure::ChecksFailed(_))));
    }
}
