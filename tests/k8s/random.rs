//! Random clusters: few labels and few ports, so that policies meet.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cluster::{
    Cluster, Direction, Labels, Operator, Peer, Pod, Policy, Port, Protocol, Rule, Selector, Target,
};
use crate::import::import;

const NAMESPACES: [&str; 3] = ["shop", "billing", "kube-system"];
/// As people write them, with what our labels cannot hold as it is.
const KEYS: [&str; 3] = ["app", "app.kubernetes.io/Name", "tier"];
const VALUES: [&str; 4] = ["web", "Web", "a_b.c", ""];
const PORTS: [u16; 5] = [1, 53, 80, 8080, 65535];
const PORT_NAMES: [&str; 2] = ["http", "metrics"];

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(&KEYS[..]), select(&VALUES[..]), 0..3)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || vec(select(&VALUES[..]), 1..3);
    let operator = prop_oneof![
        2 => values().prop_map(Operator::In),
        2 => values().prop_map(Operator::NotIn),
        1 => Just(Operator::Exists),
        1 => Just(Operator::DoesNotExist),
    ];
    let expressions = vec((select(&KEYS[..]), operator), 0..3);
    let plain = btree_map(select(&KEYS[..]), select(&VALUES[..]), 0..2);
    prop_oneof![
        1 => Just(Selector::default()),
        3 => (plain, expressions).prop_map(|(labels, expressions)| Selector { labels, expressions }),
    ]
}

fn namespace_selector() -> impl Strategy<Value = Selector> {
    let name = select(&NAMESPACES[..]).prop_map(|name| Selector {
        labels: [("kubernetes.io/metadata.name", name)].into(),
        expressions: Vec::new(),
    });
    prop_oneof![2 => selector(), 1 => name]
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        selector().prop_map(|pods| Peer { pods: Some(pods), namespaces: None }),
        namespace_selector().prop_map(|namespaces| Peer { pods: None, namespaces: Some(namespaces) }),
        (selector(), namespace_selector())
            .prop_map(|(pods, namespaces)| Peer { pods: Some(pods), namespaces: Some(namespaces) }),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    let number = || select(&PORTS[..]);
    let target = prop_oneof![
        4 => number().prop_map(|number| (Some(Target::Number(number)), None)),
        2 => (number(), number())
            .prop_map(|(a, b)| (Some(Target::Number(a.min(b))), Some(a.max(b)))),
        1 => select(&PORT_NAMES[..]).prop_map(|name| (Some(Target::Name(name)), None)),
        1 => Just((None, None)),
    ];
    (option::of(protocol()), target).prop_map(|(protocol, (port, end))| Port { protocol, port, end })
}

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let rule = (option::weighted(0.8, vec(peer(), 0..3)), option::weighted(0.7, vec(port(), 0..3)))
        .prop_map(|(peers, ports)| Rule { peers, ports });
    option::weighted(0.7, vec(rule, 0..3))
}

fn policy() -> impl Strategy<Value = Policy> {
    let types = select(vec![
        None,
        Some(vec![Direction::Ingress]),
        Some(vec![Direction::Egress]),
        Some(vec![Direction::Ingress, Direction::Egress]),
    ]);
    (select(&NAMESPACES[..]), selector(), types, rules(), rules()).prop_map(
        |(namespace, selector, types, ingress, egress)| Policy {
            namespace,
            name: String::new(),
            selector,
            types,
            ingress,
            egress,
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let ports = btree_map(select(&PORT_NAMES[..]), (protocol(), select(&PORTS[..])), 0..3);
    (select(&NAMESPACES[..]), labels(), ports).prop_map(|(namespace, labels, ports)| Pod {
        namespace,
        name: String::new(),
        labels,
        ports,
    })
}

fn cluster() -> impl Strategy<Value = Cluster> {
    (vec(labels(), NAMESPACES.len()), vec(pod(), 2..7), vec(policy(), 0..4)).prop_map(
        |(namespaces, mut pods, mut policies)| {
            for (number, pod) in pods.iter_mut().enumerate() {
                pod.name = format!("pod-{number}");
            }
            for (number, policy) in policies.iter_mut().enumerate() {
                policy.name = format!("policy-{number}");
            }
            let namespaces: BTreeMap<_, _> = NAMESPACES.into_iter().zip(namespaces).collect();
            Cluster { namespaces, pods, policies }
        },
    )
}

/// The only reason there is to refuse a generated cluster: a name that stands for no number.
fn names_a_port(cluster: &Cluster) -> bool {
    let rules =
        |policy: &Policy| [policy.ingress.clone(), policy.egress.clone()].into_iter().flatten().flatten();
    let ports = cluster.policies.iter().flat_map(rules).filter_map(|rule| rule.ports).flatten();
    ports.into_iter().any(|port| matches!(port.port, Some(Target::Name(_))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_imported_cluster_connects_as_kubernetes_would_connect_it(cluster in cluster()) {
        let imported = match import(&cluster.manifests()) {
            Ok(imported) => imported,
            Err(said) => {
                prop_assert!(said.contains("port named") && names_a_port(&cluster), "{}", said);
                return Err(TestCaseError::reject("a named port that no pod defines"));
            }
        };
        for (from, to) in cluster.pods.iter().flat_map(|from| cluster.pods.iter().map(move |to| (from, to))) {
            // A pod's traffic with itself leaves no host, here as there.
            if from.name == to.name {
                continue;
            }
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                for port in PORTS.iter().flat_map(|port| [port.saturating_sub(1).max(1), *port]) {
                    let service = format!("{}/{port}", protocol.name().to_lowercase());
                    let found =
                        imported.connects((from.namespace, &from.name), (to.namespace, &to.name), &service);
                    let expected = cluster.connects(from, to, protocol, port);
                    prop_assert_eq!(found, expected, "{} -> {} {}", from.name, to.name, service);
                }
            }
        }
    }
}
