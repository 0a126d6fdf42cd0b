//! Questions about whoever there may be: answered by going through all of them, one label combination after the
//! other, and reading the answers as a person would.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_acl::question::{Assertion, Example, Exposed, ExposureQuery, When, assert_never, exposure};
use bulkhead_acl::{PortSet, Selector};
use bulkhead_identity::Timestamp;
use proptest::option;
use proptest::prelude::*;

use crate::generate::{self, KEYS, VALUES, World};
use crate::policy::{Answer, Kind, Node, Policy, Protocol, Service, Term};
use crate::real;
use crate::text::selector_text;

/// Small enough to go through.
const SMALL: World = World { names: 1, keys: 2, values: 2, rules: 5 };
/// Where the schema leaves the value open there is one that no rule names.
const ELSEWHERE: &str = "elsewhere";

const PORTS: &str = "tcp/2-443, ip/47";

const SERVICES: [Service; 9] = [
    Service::Port(Protocol::Tcp, 1),
    Service::Port(Protocol::Tcp, 2),
    Service::Port(Protocol::Tcp, 22),
    Service::Port(Protocol::Tcp, 443),
    Service::Port(Protocol::Tcp, 65535),
    Service::Port(Protocol::Udp, 22),
    Service::Port(Protocol::Sctp, 3),
    Service::Port(Protocol::Ip, 47),
    Service::Icmp,
];

/// Every identity that the schema allows, by the name that rules speak of or by `other`.
fn everyone(policy: &Policy, other: &'static str) -> Vec<Node> {
    let mut choices: Vec<BTreeMap<&'static str, &'static str>> = vec![BTreeMap::new()];
    for key in &KEYS[..SMALL.keys] {
        let listed = policy.labels.get(key).is_some_and(Option::is_some);
        let values = VALUES[..SMALL.values].iter().chain((!listed).then_some(&ELSEWHERE));
        let with = |value: &'static str| {
            choices.iter().cloned().map(move |mut labels| {
                labels.insert(*key, value);
                labels
            })
        };
        let more: Vec<_> = values.flat_map(|value| with(value)).collect();
        choices.extend(more);
    }
    let names = [generate::NAMES[0], other];
    names
        .iter()
        .flat_map(|name| choices.iter().map(move |labels| Node { name, labels: labels.clone() }))
        .collect()
}

#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    wall: u64,
    from: Option<Vec<Term>>,
    to: Option<Vec<Term>>,
    narrow: bool,
}

fn case() -> impl Strategy<Value = Case> {
    generate::policy(SMALL).prop_flat_map(|(policy, weekend)| {
        let side = || option::of(generate::selector(SMALL, 3));
        (side(), side(), generate::moment(weekend), any::<bool>())
            .prop_map(move |(from, to, wall, narrow)| Case { policy: policy.clone(), wall, from, to, narrow })
    })
}

impl Case {
    /// Every flow there may be among those asked about, and the ids of the rules that allow it.
    fn flows(&self) -> Vec<(Node, Node, Service, BTreeSet<String>)> {
        let mut flows = Vec::new();
        for from in everyone(&self.policy, "left") {
            for to in everyone(&self.policy, "right") {
                if from.name == to.name || !self.asks(&self.from, &from) || !self.asks(&self.to, &to) {
                    continue;
                }
                for service in SERVICES.into_iter().filter(|service| !self.narrow || in_ports(*service)) {
                    let ids = match self.policy.decide(&from, &to, service, self.wall) {
                        Answer::Allowed(ids) => ids.into_iter().collect(),
                        Answer::Forbidden(_) | Answer::NoRule => BTreeSet::new(),
                    };
                    flows.push((from.clone(), to.clone(), service, ids));
                }
            }
        }
        flows
    }

    /// As in a guard rail: whoever lacks a label is asked about too.
    fn asks(&self, side: &Option<Vec<Term>>, node: &Node) -> bool {
        side.as_ref().is_none_or(|terms| self.policy.selects(terms, node, Kind::Never))
    }
}

fn in_ports(service: Service) -> bool {
    match service {
        Service::Port(Protocol::Tcp, port) => (2..=443).contains(&port),
        Service::Port(Protocol::Ip, number) => number == 47,
        Service::Port(Protocol::Udp | Protocol::Sctp, _) | Service::Icmp => false,
    }
}

/// `env=x, (role!=y or !role), not node:one`, as printed.
fn reads(words: &str, node: &Node) -> bool {
    words == "*" || apart(words).iter().all(|word| reads_one(word, node))
}

/// At commas outside of parentheses.
fn apart(words: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in words.chars() {
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                parts.last_mut().unwrap().push(letter);
            }
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

fn reads_one(word: &str, node: &Node) -> bool {
    if let Some(inner) = word.strip_prefix('(').and_then(|word| word.strip_suffix(')')) {
        return inner.split(" or ").any(|word| reads_one(word, node));
    }
    if let Some(name) = word.strip_prefix("not node:") {
        return node.name != name;
    }
    if let Some(name) = word.strip_prefix("node:") {
        return node.name == name;
    }
    if let Some(key) = word.strip_prefix('!') {
        return !node.labels.contains_key(key);
    }
    let among =
        |list: &str, value: &str| list.trim_matches(['(', ')']).split(',').any(|one| one.trim() == value);
    for (sign, wanted) in [(" notin ", false), (" in ", true), ("!=", false), ("=", true)] {
        if let Some((key, list)) = word.split_once(sign) {
            return node.labels.get(key).is_some_and(|value| among(list, value) == wanted);
        }
    }
    node.labels.contains_key(word)
}

fn covers(exposed: &Exposed, from: &Node, to: &Node, service: Service) -> bool {
    let shared = |key: &str| from.labels.contains_key(key) && from.labels.get(key) == to.labels.get(key);
    exposed.ports.contains(real::service(service))
        && reads(&exposed.from.to_string(), from)
        && reads(&exposed.to.to_string(), to)
        && exposed.same.iter().all(|key| shared(key.as_str()))
        && exposed.differ.iter().all(|key| !shared(key.as_str()))
}

/// The identity of a counterexample. Names and values that no rule speaks of are its own.
fn node(example: &Example, other: &'static str) -> Node {
    let leak = |text: &str| -> &'static str { text.to_owned().leak() };
    let labels = example.labels.iter().map(|(key, value)| (leak(key.as_str()), leak(value.as_str())));
    Node { name: example.node.as_ref().map_or(other, |name| leak(name.as_str())), labels: labels.collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exposure_is_what_going_through_all_combinations_finds(case in case()) {
        let checked = real::checked(&case.policy.text());
        let selector = |side: &Option<Vec<Term>>| -> Option<Selector> {
            side.as_ref().map(|terms| checked.names.selector(&selector_text(terms)).unwrap())
        };
        let ports = case.narrow.then(|| PortSet::parse(PORTS).unwrap());
        let query = ExposureQuery { from: selector(&case.from), to: selector(&case.to), ports };
        let found = exposure(&checked.names, &checked.rules, &query, Timestamp(case.wall)).unwrap();
        for (from, to, service, ids) in case.flows() {
            let covering = found.iter().filter(|exposed| covers(exposed, &from, &to, service));
            let by: BTreeSet<_> =
                covering.flat_map(|exposed| exposed.rules.iter().map(|rule| rule.0.to_string())).collect();
            prop_assert_eq!(&by, &ids, "{:?} -> {:?} {}", from, to, service.text());
        }
    }

    #[test]
    fn an_assertion_holds_unless_going_through_all_combinations_refutes_it(case in case()) {
        let checked = real::checked(&case.policy.text());
        let selector = |side: &Option<Vec<Term>>| {
            let terms = side.as_deref().unwrap_or_default();
            checked.names.selector(&selector_text(terms)).unwrap()
        };
        let ports = PortSet::parse(if case.narrow { PORTS } else { "any" }).unwrap();
        let (from, to, wall) = (selector(&case.from), selector(&case.to), Timestamp(case.wall));
        let refuted = case.flows().iter().any(|(.., ids)| !ids.is_empty());
        match assert_never(&checked.names, &checked.rules, &from, &to, &ports, wall).unwrap() {
            Assertion::Holds => prop_assert!(!refuted),
            Assertion::Counterexample { from, to, service, rule, file, line } => {
                let (from, to) = (node(&from, "left"), node(&to, "right"));
                prop_assert!(from.name != to.name && ports.contains(service));
                prop_assert!(case.asks(&case.from, &from) && case.asks(&case.to, &to));
                let service = read_service(&service.to_string());
                let answer = case.policy.decide(&from, &to, service, case.wall);
                let by = matches!(&answer, Answer::Allowed(ids) if ids.contains(&rule.0.to_string()));
                prop_assert!(by, "{:?} -> {:?} {} by {}: {:?}", from, to, service.text(), rule, answer);
                let place = case.policy.text().places.remove(&*rule.0);
                prop_assert_eq!(place, Some((file, line)));
                // What the schema does not know is no example.
                for (key, value) in from.labels.iter().chain(&to.labels) {
                    let listed = case.policy.labels.get(key).cloned().flatten();
                    prop_assert!(listed.is_none_or(|values| values.contains(value)), "{key}={value}");
                }
            }
        }
    }

    /// What is said of every moment to come is true of each of them.
    #[test]
    fn at_any_time_nothing_is_missing_that_may_be_at_some_time(case in case(), by in 0..300_u64) {
        let checked = real::checked(&case.policy.text());
        let selector = |side: &Option<Vec<Term>>| {
            let terms = side.as_deref().unwrap_or_default();
            checked.names.selector(&selector_text(terms)).unwrap()
        };
        let (from, to) = (selector(&case.from), selector(&case.to));
        let ports = PortSet::parse(if case.narrow { PORTS } else { "any" }).unwrap();
        let ever = When::EverAfter(Timestamp(case.wall.saturating_sub(by * 1800)));
        let held = assert_never(&checked.names, &checked.rules, &from, &to, &ports, ever).unwrap();
        let query = ExposureQuery { from: Some(from), to: Some(to), ports: Some(ports) };
        let found = exposure(&checked.names, &checked.rules, &query, ever).unwrap();
        for (from, to, service, ids) in case.flows() {
            prop_assert!(ids.is_empty() || held != Assertion::Holds);
            let covering = found.iter().filter(|exposed| covers(exposed, &from, &to, service));
            let by: BTreeSet<_> =
                covering.flat_map(|exposed| exposed.rules.iter().map(|rule| rule.0.to_string())).collect();
            prop_assert!(ids.is_subset(&by), "{:?} -> {:?} {}", from, to, service.text());
        }
    }
}

fn read_service(text: &str) -> Service {
    let Some((protocol, number)) = text.split_once('/') else { return Service::Icmp };
    let number = number.parse().unwrap();
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Ip,
    };
    Service::Port(protocol, number)
}

#[test]
fn printed_words_are_read_as_a_person_reads_them() {
    let node = |labels: &[(&'static str, &'static str)]| Node {
        name: "one",
        labels: labels.iter().copied().collect(),
    };
    for (words, labels, expected) in [
        ("*", &[][..], true),
        ("env=x, !role", &[("env", "x")], true),
        ("env in (x, y), role", &[("env", "y"), ("role", "z")], true),
        ("(env notin (x, y) or !env), not node:two", &[], true),
        ("(env!=x or !env)", &[("env", "x")], false),
        ("env!=x", &[], false),
        ("not node:one", &[], false),
    ] {
        assert_eq!(reads(words, &node(labels)), expected, "{words}");
    }
}
