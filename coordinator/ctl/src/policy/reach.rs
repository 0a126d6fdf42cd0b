//! Who can reach a node, and what a node can reach: one line for each other node.

use super::basis::{self, Basis, unknown_node};
use super::count_of;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::{Table, printable};
use bulkhead_acl::question::{Census, Reachable};
use bulkhead_identity::{NodeName, Timestamp};
use serde::Serialize;

/// Which end of the connection was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// `who-can NODE`: it answers.
    WhoCan,
    /// `from NODE`: it opens.
    From,
}

#[derive(Serialize)]
struct Answer<'a> {
    question: End,
    node: &'a NodeName,
    at: Timestamp,
    nodes: Vec<Reachable>,
}

/// `policy who-can` and `policy from`.
pub(super) fn run(asked: &command::Peers, end: End, basis: &Basis, screen: Screen) -> Result<(), Failure> {
    let nodes = reachable(asked, end, basis)?;
    let answer = Answer { question: end, node: &asked.node, at: basis.at, nodes };
    screen.answer("reachable", &answer, |answer| text(&asked.node, end, &answer.nodes, basis))
}

fn reachable(asked: &command::Peers, end: End, basis: &Basis) -> Result<Vec<Reachable>, Failure> {
    let ports = basis.ports(asked.ports.as_deref())?;
    let census = Census::new(&basis.checked.rules, &basis.nodes);
    let nodes = match end {
        End::WhoCan => census.who_can(&asked.node, ports.as_ref(), basis.at),
        End::From => census.from(&asked.node, ports.as_ref(), basis.at),
    };
    nodes.ok_or_else(|| unknown_node(&basis.nodes, &asked.node))
}

fn text(node: &NodeName, end: End, nodes: &[Reachable], basis: &Basis) -> String {
    let nobody = nodes.is_empty();
    let count = if nobody { "no node".to_owned() } else { count_of(nodes.len(), "node") };
    let line = match end {
        End::WhoCan => format!("# {count} may reach {node}"),
        End::From => format!("# {node} may reach {count}"),
    };
    // At another moment somebody might.
    let when = if nobody { format!(" {}", basis::at(basis.at)) } else { String::new() };
    let line = printable(&format!("{line}{when}{}", basis.under()));
    if nobody {
        return line;
    }
    let mut table = Table::new(&["node", "ports", "rules"]);
    for Reachable { node, ports, rules } in nodes {
        let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
        table.row([node.to_string(), ports.to_string(), rules.join(", ")]);
    }
    format!("{table}{line}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::fixture::{basis, policy_verb};

    fn ask(asked: &command::Peers, end: End) -> String {
        let basis = basis();
        text(&asked.node, end, &reachable(asked, end, &basis).unwrap(), &basis)
    }

    fn who_can(words: &str) -> String {
        let command::Policy::WhoCan(asked) = policy_verb(&format!("who-can {words}")) else {
            panic!("{words}")
        };
        ask(&asked, End::WhoCan)
    }

    fn from(words: &str) -> String {
        let command::Policy::From(asked) = policy_verb(&format!("from {words}")) else { panic!("{words}") };
        ask(&asked, End::From)
    }

    #[test]
    fn each_line_is_a_node_with_ports_and_rules() {
        insta::assert_snapshot!(who_can("db"), @r"
        NODE   PORTS           RULES
        web-1  tcp/5432, icmp  ping, web-to-db
        web-2  tcp/5432, icmp  ping, web-to-db
        # 2 nodes may reach db  (policy 7)
        ");
        insta::assert_snapshot!(from("web-1"), @r"
        NODE   PORTS           RULES
        db     tcp/5432, icmp  ping, web-to-db
        web-2  icmp            ping
        # web-1 may reach 2 nodes  (policy 7)
        ");
        insta::assert_snapshot!(who_can("db postgres"), @r"
        NODE   PORTS     RULES
        web-1  tcp/5432  web-to-db
        web-2  tcp/5432  web-to-db
        # 2 nodes may reach db  (policy 7)
        ");
    }

    #[test]
    fn nobody_is_said_in_words() {
        insta::assert_snapshot!(from("db tcp/22"), @"# db may reach no node at 2026-12-01T12:00:00Z  (policy 7)");
    }
}
