//! The policies that everybody writes, with what they open, pair by pair; and what is refused.

use crate::import::import;

/// Two namespaces of a web server, a database and a monitor.
const CLUSTER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: Namespace
metadata: {name: ops, labels: {team: ops}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: monitor, namespace: ops, labels: {app: monitor}}
spec: {containers: [{name: monitor}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: ops}
spec: {containers: [{name: bare}]}
"#;

const EVERYBODY: [&str; 12] = [
    "ops/bare -> ops/monitor",
    "ops/bare -> shop/db",
    "ops/bare -> shop/web",
    "ops/monitor -> ops/bare",
    "ops/monitor -> shop/db",
    "ops/monitor -> shop/web",
    "shop/db -> ops/bare",
    "shop/db -> ops/monitor",
    "shop/db -> shop/web",
    "shop/web -> ops/bare",
    "shop/web -> ops/monitor",
    "shop/web -> shop/db",
];

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

/// What these policies of the namespace `shop` open.
fn check(specs: &[&str], expected: &[(&str, &[&str])]) {
    let policies: String =
        specs.iter().enumerate().map(|(number, spec)| policy(&format!("p{number}"), spec)).collect();
    let imported = import(&format!("{CLUSTER}{policies}")).unwrap();
    for (service, pairs) in expected {
        assert_eq!(imported.open(service), *pairs, "{service}");
    }
}

fn without(gone: impl Fn(&str) -> bool) -> Vec<&'static str> {
    EVERYBODY.into_iter().filter(|pair| !gone(pair)).collect()
}

#[test]
fn without_policies_everybody_reaches_everybody() {
    check(&[], &[("tcp/80", &EVERYBODY), ("udp/53", &EVERYBODY), ("icmp", &EVERYBODY)]);
}

#[test]
fn deny_all_ingress() {
    let left = without(|pair| pair.contains("-> shop/"));
    check(&["{podSelector: {}, policyTypes: [Ingress]}"], &[("tcp/80", &left), ("icmp", &left)]);
}

#[test]
fn deny_all_in_both_directions() {
    let left = ["ops/bare -> ops/monitor", "ops/monitor -> ops/bare"];
    check(&["{podSelector: {}, policyTypes: [Ingress, Egress]}"], &[("tcp/80", &left)]);
}

#[test]
fn one_application_from_another_by_the_name_of_a_port() {
    let spec = "{podSelector: {matchLabels: {app: db}}, ingress: \
                [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}]}";
    let others = without(|pair| pair.ends_with("shop/db"));
    let with_web = without(|pair| pair.ends_with("shop/db") && pair != "shop/web -> shop/db");
    check(&[spec], &[("tcp/5432", &with_web), ("tcp/5433", &others), ("udp/5432", &others)]);
}

#[test]
fn egress_to_dns_only() {
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: \
                [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}, \
                podSelector: {matchLabels: {app: monitor}}}], ports: [{protocol: UDP, port: 53}, {port: 53}]}]}";
    let ours = without(|pair| pair.starts_with("shop/"));
    let dns = without(|pair| pair.starts_with("shop/") && !pair.ends_with("-> ops/monitor"));
    check(&[spec], &[("udp/53", &dns), ("tcp/53", &dns), ("tcp/80", &ours)]);
}

#[test]
fn a_namespace_keeps_to_itself() {
    let left = without(|pair| pair.starts_with("ops/") && pair.contains("-> shop/"));
    check(&["{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"], &[("tcp/80", &left)]);
}

#[test]
fn from_the_namespaces_of_a_team() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]}";
    let left = without(|pair| pair.starts_with("shop/") && pair.contains("-> shop/"));
    check(&[spec], &[("tcp/80", &left)]);
}

/// In Kubernetes `NotIn` selects a pod without the label; in our language it does not.
#[test]
fn not_in_selects_who_lacks_the_label() {
    let spec = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {}, \
                podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [monitor, db]}]}}]}]}";
    let left = without(|pair| pair.ends_with("shop/web") && pair != "ops/bare -> shop/web");
    check(&[spec], &[("tcp/80", &left)]);
}

#[test]
fn a_range_of_ports() {
    let spec = "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 32000, endPort: 32768}]}]}";
    let closed = without(|pair| pair.ends_with("shop/db"));
    check(
        &[spec],
        &[
            ("tcp/31999", &closed),
            ("tcp/32000", &EVERYBODY),
            ("tcp/32768", &EVERYBODY),
            ("tcp/32769", &closed),
            ("udp/32000", &closed),
        ],
    );
}

/// "Policies do not conflict; they are additive."
#[test]
fn policies_add_up() {
    let deny = "{podSelector: {}, policyTypes: [Ingress]}";
    let allow = "{podSelector: {matchLabels: {app: web}}, ingress: [{}]}";
    let left = without(|pair| pair.ends_with("shop/db"));
    check(&[deny, allow], &[("tcp/80", &left), ("icmp", &left)]);
}

#[test]
fn both_ends_have_to_agree() {
    let out = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: \
               [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 5000, endPort: 5432}]}]}";
    let into = "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432, endPort: 6000}]}]}";
    let others = |pair: &str| pair.starts_with("shop/web") || pair.ends_with("shop/db");
    let closed = without(others);
    let open_to_db = without(|pair| pair.starts_with("shop/web"));
    let both = without(|pair| pair.starts_with("shop/web") && pair != "shop/web -> shop/db");
    check(&[out, into], &[("tcp/5431", &closed), ("tcp/5432", &both), ("tcp/5433", &open_to_db)]);
}

/// Every sentence names the object, and nothing is written.
fn check_refused(spec: &str, words: &[&str]) {
    let said = import(&format!("{CLUSTER}{}", policy("wrong", spec))).err().expect("it is refused");
    assert!(said.contains("NetworkPolicy shop/wrong"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_cannot_be_said_is_refused_with_its_reason() {
    check_refused(
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        &["ingress rule 1, peer 1", "ipBlock"],
    );
    check_refused(
        "{podSelector: {}, egress: [{to: [{namespaceSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        &["egress rule 1, peer 1", "ipBlock"],
    );
    check_refused("{podSelector: {}, ingress: [{ports: [{port: gopher}]}]}", &["ingress rule 1", "gopher"]);
    check_refused("{podSelector: {}, ingress: [{ports: [{port: sql, protocol: UDP}]}]}", &["sql", "udp"]);
    check_refused("{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}", &["ICMP"]);
    check_refused(
        "{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 7}]}]}",
        &["ingress rule 1, port 1"],
    );
    check_refused("{podSelector: {}, ingres: [{}]}", &["ingres"]);
    check_refused("{podSelector: {matchExpressions: [{key: app, operator: Gt, values: ['1']}]}}", &["Gt"]);
}
