//! A small policy and its nodes, which the tests of several verbs ask about.

#![allow(clippy::unwrap_used)]
use super::basis::{self, Basis};
use crate::command::{CommandLine, Policy, Verb};
use bulkhead_acl::{Sources, Subject};
use bulkhead_identity::{Labels, NodeName, Timestamp};
use clap::Parser as _;
use std::collections::BTreeMap;

/// 2026-12-01T12:00:00Z, a Tuesday.
pub(super) const NOON: Timestamp = Timestamp(1_796_126_400);

pub(super) const POLICY: &str = r#"version = 1

[labels.env]
values = ["prod", "ot"]

[labels.role]
values = ["web", "db", "historian", "plc"]

[groups]
web = "env=prod, role=web"
db = "env=prod, role=db"

[services]
postgres = ["tcp/5432"]

[[allow]]
id = "web-to-db"
from = "@web"
to = "@db"
ports = ["postgres"]
owner = "payments@acme.example"
why = "orders live in db"
review_by = 2027-06-30

[[allow]]
id = "ping"
from = "env=prod"
to = "env=prod"
ports = ["icmp"]
why = "see who is there"
review_by = 2027-06-30

[[allow]]
id = "modbus"
from = "role in (web, historian)"
to = "role=plc"
ports = ["tcp/502"]
why = "the line"
review_by = 2027-06-30

[[never]]
id = "plc-only-from-historian"
from = "role!=historian"
to = "role=plc"
"#;

pub(super) fn sources(text: &str) -> Sources {
    Sources(BTreeMap::from([("base.toml".to_owned(), text.to_owned())]))
}

pub(super) fn nodes() -> Vec<Subject> {
    [
        ("db", "env=prod,role=db"),
        ("historian", "env=ot,role=historian"),
        ("plc", "env=ot,role=plc"),
        ("web-1", "env=prod,role=web"),
        ("web-2", "env=prod,role=web"),
    ]
    .map(|(name, labels)| Subject {
        name: NodeName::parse(name).unwrap(),
        labels: Labels::parse(labels).unwrap(),
    })
    .into()
}

/// [`POLICY`] in force as generation 7.
pub(super) fn basis() -> Basis {
    let checked = basis::understood(&sources(POLICY), NOON, "base").unwrap();
    Basis { checked, nodes: nodes(), generation: Some(7), at: NOON, is_now: true }
}

/// What these words after `policy` ask for; none of them holds a blank.
pub(super) fn policy_verb(words: &str) -> Policy {
    let line = ["bulkheadctl", "policy"].into_iter().chain(words.split_whitespace());
    let verb = CommandLine::parse_from(line).verb;
    let Verb::Policy(verb) = verb else { panic!("{verb:?}") };
    verb
}
