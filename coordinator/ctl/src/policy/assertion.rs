//! `assert never FROM -> TO`: holds, or here is who could, over all label combinations that the schema allows and over
//! the nodes that there are. Without `--at` it is about every moment from now on.

use super::basis::Basis;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::printable;
use bulkhead_acl::question::{Assertion, Example, assert_never_among};
use bulkhead_acl::{Polarity, PortSet, Selector, Subject};
use bulkhead_identity::{NodeName, Timestamp};
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
    /// The moment that it was asked about; `null`: any from now on.
    at: Option<Timestamp>,
    #[serde(flatten)]
    assertion: Assertion,
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
    let answer = answer(asked, basis)?;
    screen.answer("policy-assertion", &answer, |answer| text(answer, basis))?;
    match &answer.assertion {
        Assertion::Holds => Ok(()),
        Assertion::Counterexample { .. } => {
            Err(Failure::ChecksFailed("the assertion does not hold".to_owned()))
        }
    }
}

fn answer<'a>(asked: &'a command::Assertion, basis: &'a Basis) -> Result<Answer<'a>, Failure> {
    let claim = Claim::read(asked)?;
    let (from, to) = (basis.selector(claim.from)?, basis.selector(claim.to)?);
    let ports = basis.ports(claim.ports)?.unwrap_or_else(PortSet::any);
    let (names, rules, nodes) = (&basis.checked.names, &basis.checked.rules, &basis.nodes);
    let assertion = assert_never_among(names, rules, nodes, &from, &to, &ports, basis.when())
        .map_err(anyhow::Error::new)?;
    let nodes = Members { from: members(nodes, &from), to: members(nodes, &to) };
    Ok(Answer { claim, at: basis.named_moment(), assertion, nodes })
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
    let claim = format!("never {from} -> {to} {ports} {}", basis.at_some_time());
    let (verdict, rest) = match &answer.assertion {
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
    use crate::policy::{basis, fixture};
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
        (text(&answer(&asked, &basis).unwrap(), &basis), run(&asked, &basis, Screen::Json))
    }

    #[test]
    fn without_a_moment_every_moment_counts_and_nodes_outside_the_schema_too() {
        let words = ["role=web -> role=db", "tcp/22"];
        let night = "[[allow]]\nid = \"night\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/22\"]\n\
                     hours = \"Mon-Sun 01:00-02:00 UTC\"\n";
        let sources = fixture::sources(&format!("{}\n{night}", fixture::POLICY));
        let mut basis = basis();
        basis.checked = basis::understood(&sources, fixture::NOON, "base").unwrap();
        let words = asked(&words);
        insta::assert_snapshot!(text(&answer(&words, &basis).unwrap(), &basis).lines().next().unwrap(), @"never role=web -> role=db tcp/22 at any time: does not hold: night (base.toml:46) allows tcp/22  (policy 7)");
        assert_eq!(
            serde_json::to_value(answer(&words, &basis).unwrap()).unwrap()["at"],
            serde_json::Value::Null
        );
        basis.is_now = false;
        insta::assert_snapshot!(text(&answer(&words, &basis).unwrap(), &basis), @"never role=web -> role=db tcp/22 at 2026-12-01T12:00:00Z: holds  (policy 7)");
        assert_eq!(serde_json::to_value(answer(&words, &basis).unwrap()).unwrap()["at"], fixture::NOON.0);

        let mut basis = self::basis();
        let words = asked(&["env=prod, role notin (web, db, historian, plc), role -> role=web", "icmp"]);
        assert_eq!(answer(&words, &basis).unwrap().assertion, Assertion::Holds);
        basis.nodes[0].labels = bulkhead_identity::Labels::parse("env=prod,role=mainframe").unwrap();
        insta::assert_snapshot!(text(&answer(&words, &basis).unwrap(), &basis), @r"
        never env=prod, role notin (web, db, historian, plc), role -> role=web icmp at any time: does not hold: ping (base.toml:25) allows icmp  (policy 7)
        from  node:db env=prod,role=mainframe  (selected today: db)
        to    node:web-1 env=prod,role=web  (selected today: web-1, web-2)
        ");
    }

    #[test]
    fn a_claim_holds_or_shows_who_could() {
        let (text, outcome) = told(&["role!=historian -> role=plc"]);
        insta::assert_snapshot!(text, @"never role!=historian -> role=plc any at any time: holds  (policy 7)");
        assert!(outcome.is_ok());
        let (text, outcome) = told(&["role=web -> @db", "tcp/5000-6000"]);
        insta::assert_snapshot!(text, @r"
        never role=web -> @db tcp/5000-6000 at any time: does not hold: web-to-db (base.toml:16) allows tcp/5432  (policy 7)
        from  env=prod,role=web  (selected today: web-1, web-2)
        to    env=prod,role=db  (selected today: db)
        ");
        assert!(matches!(outcome, Err(Failure::ChecksFailed(_))));
    }
}
