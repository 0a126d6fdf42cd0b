//! The evaluator against a naive one, written from the text of the language and sharing no code with it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_acl::{Decision, RuleSet, Service, Sources, Subject, check};
use bulkhead_identity::{Labels, NodeName, Timestamp};
use proptest::prelude::*;

/// One term, as a person would say it.
#[derive(Clone, Debug)]
enum Term {
    In(&'static str, BTreeSet<&'static str>),
    NotIn(&'static str, BTreeSet<&'static str>),
    Has(&'static str),
    Lacks(&'static str),
    Node(&'static str),
}

#[derive(Clone, Debug)]
struct Rule {
    never: bool,
    /// Empty: `*`.
    from: Vec<Term>,
    to: Vec<Term>,
    related: BTreeSet<&'static str>,
    ports: BTreeSet<&'static str>,
    window: (Option<u64>, Option<u64>),
}

#[derive(Clone, Debug)]
struct Node {
    name: &'static str,
    labels: BTreeMap<&'static str, &'static str>,
}

const SERVICES: [Service; 6] =
    [Service::Tcp(1), Service::Tcp(2), Service::Tcp(3), Service::Udp(1), Service::Echo, Service::Ip(47)];

fn naive_ports(item: &str, service: Service) -> bool {
    match item {
        "tcp/1" => service == Service::Tcp(1),
        "tcp/2-3" => service == Service::Tcp(2) || service == Service::Tcp(3),
        "udp/*" => service == Service::Udp(1),
        "icmp" => service == Service::Echo,
        "any" => true,
        other => panic!("{other}"),
    }
}

/// "A missing label never equals anything. A negative term about a missing label does not match in allow,
/// and does match in never."
fn naive_term(term: &Term, node: &Node, never: bool) -> bool {
    match term {
        Term::In(key, values) => node.labels.get(key).is_some_and(|value| values.contains(value)),
        Term::NotIn(key, values) => node.labels.get(key).map_or(never, |value| !values.contains(value)),
        Term::Has(key) => node.labels.contains_key(key),
        Term::Lacks(key) => !node.labels.contains_key(key),
        Term::Node(name) => node.name == *name,
    }
}

fn naive_matches(rule: &Rule, from: &Node, to: &Node, service: Service, wall: u64) -> bool {
    let same = |key: &&str| from.labels.contains_key(key) && from.labels.get(key) == to.labels.get(key);
    let related = match rule.never {
        false => rule.related.iter().all(same),
        true => rule.related.is_empty() || rule.related.iter().any(|key| !same(key)),
    };
    rule.from.iter().all(|term| naive_term(term, from, rule.never))
        && rule.to.iter().all(|term| naive_term(term, to, rule.never))
        && related
        && rule.ports.iter().any(|item| naive_ports(item, service))
        && rule.window.0.is_none_or(|start| start <= wall)
        && rule.window.1.is_none_or(|end| wall < end)
}

/// Ids of the never rules that match, and of the allow rules that do. An id is the rule's number.
fn naive(rules: &[Rule], from: &Node, to: &Node, service: Service, wall: u64) -> (Vec<String>, Vec<String>) {
    let ids = |never: bool| {
        let numbered = rules.iter().enumerate().filter(|(_, rule)| rule.never == never);
        let matching = numbered.filter(|(_, rule)| naive_matches(rule, from, to, service, wall));
        matching.map(|(number, _)| format!("r{number}")).collect()
    };
    (ids(true), ids(false))
}

fn selector_text(terms: &[Term]) -> String {
    let list = |values: &BTreeSet<&str>| values.iter().copied().collect::<Vec<_>>().join(", ");
    let texts: Vec<_> = terms
        .iter()
        .map(|term| match term {
            Term::In(key, values) if values.len() == 1 => format!("{key}={}", list(values)),
            Term::In(key, values) => format!("{key} in ({})", list(values)),
            Term::NotIn(key, values) if values.len() == 1 => format!("{key}!={}", list(values)),
            Term::NotIn(key, values) => format!("{key} notin ({})", list(values)),
            Term::Has(key) => (*key).to_owned(),
            Term::Lacks(key) => format!("!{key}"),
            Term::Node(name) => format!("node:{name}"),
        })
        .collect();
    if texts.is_empty() { "*".to_owned() } else { texts.join(", ") }
}

fn policy_text(rules: &[Rule]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (number, rule) in rules.iter().enumerate() {
        let (kind, related) = if rule.never { ("never", "differ") } else { ("allow", "same") };
        text += &format!("[[{kind}]]\nid = \"r{number}\"\n");
        text += &format!("from = \"{}\"\n", selector_text(&rule.from));
        text += &format!("to = \"{}\"\n", selector_text(&rule.to));
        text += &format!("ports = {:?}\n", rule.ports);
        if !rule.related.is_empty() {
            text += &format!("{related} = {:?}\n", rule.related);
        }
        for (key, moment) in [("not_before", rule.window.0), ("until", rule.window.1)] {
            text += &moment.map_or(String::new(), |at| format!("{key} = 1970-01-01T00:00:0{at}Z\n"));
        }
    }
    // Sets print as {…}; TOML lists are […].
    text.replace('{', "[").replace('}', "]")
}

fn compile(rules: &[Rule]) -> RuleSet {
    let sources = Sources(BTreeMap::from([("policy.toml".to_owned(), policy_text(rules))]));
    match check(&sources, Timestamp(0)) {
        Ok(checked) => checked.rules,
        Err(errors) => panic!("{}\n{}", policy_text(rules), errors[0]),
    }
}

fn subject(node: &Node) -> Subject {
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Subject { name: NodeName::parse(node.name).unwrap(), labels: Labels::parse(&labels.join(",")).unwrap() }
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("env"), Just("role")]
}

fn value() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("x"), Just("y"), Just("z")]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b")]
}

fn terms() -> impl Strategy<Value = Vec<Term>> {
    let values = || proptest::collection::btree_set(value(), 1..3);
    let term = prop_oneof![
        4 => (key(), values()).prop_map(|(key, values)| Term::In(key, values)),
        3 => (key(), values()).prop_map(|(key, values)| Term::NotIn(key, values)),
        1 => key().prop_map(Term::Has),
        1 => key().prop_map(Term::Lacks),
        1 => name().prop_map(Term::Node),
    ];
    proptest::collection::vec(term, 0..3)
}

fn rule() -> impl Strategy<Value = Rule> {
    let item = prop_oneof![Just("tcp/1"), Just("tcp/2-3"), Just("udp/*"), Just("icmp"), Just("any")];
    let window = (proptest::option::weighted(0.3, 1u64..3), proptest::option::weighted(0.3, 3u64..6));
    (
        proptest::bool::weighted(0.3),
        terms(),
        terms(),
        proptest::collection::btree_set(key(), 0..2),
        proptest::collection::btree_set(item, 1..3),
        window,
    )
        .prop_map(|(never, from, to, related, ports, window)| Rule {
            never,
            from,
            to,
            related,
            ports,
            window,
        })
}

fn node() -> impl Strategy<Value = Node> {
    let labels = proptest::collection::btree_map(key(), value(), 0..3);
    (prop_oneof![name(), Just("c")], labels).prop_map(|(name, labels)| Node { name, labels })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decisions_agree_with_the_text(
        rules in proptest::collection::vec(rule(), 0..8), from in node(), to in node(), wall in 0u64..7
    ) {
        let compiled = compile(&rules);
        for service in SERVICES {
            let (never, allow) = naive(&rules, &from, &to, service, wall);
            let found = compiled.decide(&subject(&from), &subject(&to), service, Timestamp(wall));
            match found {
                Decision::Forbidden { rule, .. } => prop_assert_eq!(Some(&*rule.0), never.first().map(|id| &**id)),
                Decision::Allowed { rule, all, .. } => {
                    prop_assert!(never.is_empty());
                    prop_assert_eq!(&*rule.0, allow[0].as_str());
                    prop_assert_eq!(all.iter().map(|id| id.0.to_string()).collect::<Vec<_>>(), allow);
                }
                Decision::NoRule { nearest, missing } => {
                    prop_assert!(never.is_empty() && allow.is_empty());
                    prop_assert_eq!(nearest.is_some(), rules.iter().any(|rule| !rule.never));
                    prop_assert_eq!(nearest.is_some(), !missing.is_empty());
                }
            }
        }
    }

    #[test]
    fn may_ever_is_exact_with_and_without_classes(
        rules in proptest::collection::vec(rule(), 0..8), from in node(), to in node(), wall in 0u64..7
    ) {
        let allowed = |wall| SERVICES.into_iter().any(|service| {
            let (never, allow) = naive(&rules, &from, &to, service, wall);
            never.is_empty() && !allow.is_empty()
        });
        // Windows end before 7. A port that SERVICES does not list is in no rule but `any` and `udp/*`,
        // of which Ip(47) and Udp(1) are examples.
        let ever = (wall..=7).any(allowed);
        let compiled = compile(&rules);
        let (from, to, wall) = (subject(&from), subject(&to), Timestamp(wall));
        prop_assert_eq!(compiled.may_ever(&from, &to, wall), ever);
        let classes = compiled.classes();
        prop_assert_eq!(classes.may_ever(&classes.of(&from), &classes.of(&to), wall), ever);
    }

    #[test]
    fn the_order_of_files_and_rules_does_not_matter(
        rules in proptest::collection::vec(rule(), 1..8).prop_shuffle()
    ) {
        let mut sources = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            let text = policy_text(std::slice::from_ref(rule)).replace("\"r0\"", &format!("\"r{number}\""));
            sources.insert(format!("{}.toml", rules.len() - number), text);
        }
        let mut apart = check(&Sources(sources), Timestamp(0)).unwrap().rules;
        let mut together = compile(&rules);
        for rule in [&mut apart, &mut together].into_iter().flat_map(|set| set.allow.iter_mut().chain(&mut set.never)) {
            rule.file.clear();
            rule.line = 0;
        }
        prop_assert_eq!(apart, together);
    }
}
