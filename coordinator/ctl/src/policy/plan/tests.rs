//! A plan as people read it, on a small policy.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::policy::fixture::{NOON, POLICY, nodes, policy_verb, sources};

fn checked(text: &str) -> Checked {
    basis::understood(&sources(text), NOON, "base").unwrap()
}

fn comparison(new: &str, live: Option<Live>) -> Comparison {
    Comparison {
        old: checked(POLICY),
        new: checked(new),
        sides: [
            Side { name: "policy 7".to_owned(), generation: Some(7) },
            Side { name: "new.d".to_owned(), generation: None },
        ],
        nodes: nodes(),
        coordinator: Some(NodeName::parse("db").unwrap()),
        live,
        at: NOON,
    }
}

fn ask(comparison: &Comparison, words: &str) -> (String, serde_json::Value) {
    let command::Policy::Plan(asked) = policy_verb(&format!("plan new.d {words}")) else { panic!("{words}") };
    let found = Found::new(comparison, &asked).unwrap();
    let answer = found.answer(comparison, asked.by_node);
    (text::text(&answer, found.changes_nothing()), serde_json::to_value(&answer).unwrap())
}

fn live() -> Live {
    let flow = |from, service| LiveFlow {
        from: NodeName::parse(from).unwrap(),
        to: NodeName::parse("db").unwrap(),
        service: Service::parse(service).unwrap(),
    };
    let flows = vec![flow("web-1", "tcp/5432"), flow("web-2", "icmp")];
    Live { flows, silent: vec!["plc".to_owned()], unasked: vec!["historian".to_owned()], truncated: false }
}

/// The database moves to another port, and somebody may log in there until the evening.
fn changed() -> String {
    POLICY.replace("tcp/5432", "tcp/5433")
        + "\n[[allow]]\nid = \"ssh\"\nfrom = \"role=historian\"\nto = \"role=db\"\nports = [\"tcp/22\"]\n\
           not_before = 2026-12-01T18:00:00Z\nwhy = \"migration\"\n\n\
           [[allow]]\nid = \"mail\"\nfrom = \"role=web\"\nto = \"env=ot, role=db\"\nports = [\"tcp/25\"]\n"
}

#[test]
fn a_plan_tells_gains_losses_and_what_ends() {
    let comparison = comparison(&changed(), Some(live()));
    insta::assert_snapshot!(ask(&comparison, "--coordinator-ports tcp/5432").0, @r"
    CHANGE  FROM                                 TO                        PORTS     BY
    gained  env=prod,role=web (2: web-1, web-2)  env=prod,role=db (1: db)  tcp/5433  web-to-db
    lost    env=prod,role=web (2: web-1, web-2)  env=prod,role=db (1: db)  tcp/5432  web-to-db

    # at other times
    FIRST AT              CHANGE  FROM                                  TO                        PORTS   BY
    2026-12-01T18:00:00Z  gained  env=ot,role=historian (1: historian)  env=prod,role=db (1: db)  tcp/22  ssh

    # rules that join no two nodes
    RULE  KIND   AT            SINCE
    mail  allow  base.toml:54  new

    # live connections that end
    FROM   TO  SERVICE   ALLOWED SO FAR BY
    web-1  db  tcp/5432  web-to-db

    # nodes that lose their way to the coordinator
    NODE   PORTS     WHEN     BY
    web-1  tcp/5432  at once  web-to-db
    web-2  tcp/5432  at once  web-to-db

    # policy 7 -> new.d: 2 rules added, 0 removed, 1 changed
    # 2 pairs gain, 2 pairs lose; at other times only, 1 pair changes
    # 1 live connection would end
    # did not say which connections they have: plc
    # not connected, so not asked for connections: historian
    # 2 nodes lose its way to the coordinator
    ");
}

#[test]
fn a_way_that_is_open_for_a_time_only_is_told_with_its_end() {
    let new = POLICY.replacen("why =", "until = 2026-12-01T18:00:00Z\nwhy =", 1);
    let comparison = comparison(&new, Some(Live::default()));
    let (text, json) = ask(&comparison, "--coordinator-ports tcp/5432");
    insta::assert_snapshot!(text, @r"
    # at other times
    FIRST AT              CHANGE  FROM                                 TO                        PORTS     BY
    2026-12-01T18:00:00Z  lost    env=prod,role=web (2: web-1, web-2)  env=prod,role=db (1: db)  tcp/5432  web-to-db

    # nodes that lose their way to the coordinator
    NODE   PORTS     WHEN                       BY
    web-1  tcp/5432  from 2026-12-01T18:00:00Z  web-to-db
    web-2  tcp/5432  from 2026-12-01T18:00:00Z  web-to-db

    # policy 7 -> new.d: 0 rules added, 0 removed, 1 changed
    # 0 pairs gain, 0 pairs lose; at other times only, 2 pairs change
    # 0 live connections would end
    # 2 nodes lose its way to the coordinator
    ");
    assert_eq!(
        (&json["lost_ways"][0]["loss"], json["lost_ways"][0]["from"].as_u64()),
        (&"later".into(), Some(NOON.0 + 6 * 3600))
    );
}

#[test]
fn by_node_every_pair_has_its_line() {
    let comparison = comparison(&changed(), None);
    let (text, json) = ask(&comparison, "--by-node");
    insta::assert_snapshot!(text.lines().take(5).collect::<Vec<_>>().join("\n"), @r"
    CHANGE  FROM   TO  PORTS
    gained  web-1  db  tcp/5433
    gained  web-2  db  tcp/5433
    lost    web-1  db  tcp/5432
    lost    web-2  db  tcp/5432
    ");
    assert_eq!(json["pairs"].as_array().unwrap().len(), 2);
    assert_eq!(json["cut"], serde_json::Value::Null);
}

#[test]
fn nothing_changes_when_a_rule_only_moves() {
    let comparison = comparison(&format!("# moved\n{POLICY}"), Some(Live::default()));
    insta::assert_snapshot!(ask(&comparison, "").0, @r"
    # policy 7 -> new.d: 0 rules added, 0 removed, 0 changed
    # no connection between these nodes changes, at any time
    # 0 live connections would end
    # no node loses its way to the coordinator
    ");
}

#[test]
fn a_coordinator_that_is_no_node_is_an_error() {
    let mut comparison = comparison(POLICY, None);
    comparison.coordinator = Some(NodeName::parse("nobody").unwrap());
    let command::Policy::Plan(asked) = policy_verb("plan new.d") else { panic!() };
    assert!(Found::new(&comparison, &asked).is_err());
}
