//! What comes out of manifests, word for word, and what is refused.

#![allow(clippy::unwrap_used)]
use super::*;

fn imported(text: &str) -> Imported {
    let mut problems = Problems::default();
    let mut cluster = Cluster::default();
    cluster.take_file("a.yaml", text, &mut problems);
    import(&cluster, problems).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let imported = imported(text);
    assert!(!imported.ok && imported.sources.0.is_empty() && imported.nodes.is_empty());
    imported.problems.iter().map(ToString::to_string).collect()
}

fn policy_text(text: &str) -> String {
    let imported = imported(text);
    assert!(imported.ok, "{:?}", imported.problems);
    imported.sources.0[FILE].clone()
}

fn node_lines(text: &str) -> String {
    let line = |node: &Node| format!("{}  {}", node.name, node.labels);
    imported(text).nodes.iter().map(line).collect::<Vec<_>>().join("\n")
}

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: Blue}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web, pod-template-hash: x1}}
    spec: {containers: [{name: web, image: web}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, ports: [{name: postgres, containerPort: 5432}]}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: postgres}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [Red]}]}}]
"#;

#[test]
fn both_halves_become_rules_from_end_to_end() {
    insta::assert_snapshot!(policy_text(SHOP), @r#"
    # Made by `bulkheadctl policy import k8s`: import again instead of editing.
    version = 1

    [labels."k8s.egress"]
    values = ["isolated", "open"]

    [labels."k8s.ingress"]
    values = ["isolated", "open"]

    [labels."k8s.ns"]

    [labels."k8s.nsl.team"]

    [labels."k8s.pod.app"]

    [labels."k8s.port.tcp.postgres"]

    [[allow]]
    id = "k8s.open"
    from = "k8s.egress=open, k8s.ns"
    to = "k8s.ingress=open, k8s.ns"
    ports = ["any"]
    why = "no NetworkPolicy selects either side"

    [[allow]]
    id = "shop.db.in1.1"
    from = "k8s.egress=open, k8s.ns=shop, k8s.pod.app=web"
    to = "k8s.ns=shop, k8s.pod.app=db, k8s.port.tcp.postgres=5432"
    ports = ["tcp/5432"]
    why = "NetworkPolicy shop/db, ingress rule 1, peer 1, port postgres"

    [[allow]]
    id = "shop.web.out1.1"
    from = "k8s.ns=shop, k8s.pod.app=web"
    to = "k8s.ingress=open, k8s.nsl.team!=0_-_red, k8s.ns"
    ports = ["any"]
    why = "NetworkPolicy shop/web, egress rule 1, peer 1"

    [[allow]]
    id = "shop.web.out1.1.2"
    from = "k8s.ns=shop, k8s.pod.app=web"
    to = "k8s.ingress=open, k8s.ns, !k8s.nsl.team"
    ports = ["any"]
    why = "NetworkPolicy shop/web, egress rule 1, peer 1"

    [[allow]]
    id = "shop.web.out1.1.shop.db.in1.1"
    from = "k8s.ns=shop, k8s.pod.app=web"
    to = "k8s.ns=shop, k8s.pod.app=db, k8s.port.tcp.postgres=5432, k8s.nsl.team!=0_-_red"
    ports = ["tcp/5432"]
    why = "NetworkPolicy shop/web, egress rule 1, peer 1; NetworkPolicy shop/db, ingress rule 1, peer 1, port postgres"

    [[allow]]
    id = "shop.web.out1.1.shop.db.in1.1.2"
    from = "k8s.ns=shop, k8s.pod.app=web"
    to = "k8s.ns=shop, k8s.pod.app=db, k8s.port.tcp.postgres=5432, !k8s.nsl.team"
    ports = ["tcp/5432"]
    why = "NetworkPolicy shop/web, egress rule 1, peer 1; NetworkPolicy shop/db, ingress rule 1, peer 1, port postgres"
    "#);
}

#[test]
fn pods_become_nodes_with_the_labels_that_rules_speak_of() {
    insta::assert_snapshot!(node_lines(SHOP), @r"
    shop-db  k8s.egress=open,k8s.ingress=isolated,k8s.ns=shop,k8s.nsl.team=0_-_blue,k8s.pod.app=db,k8s.port.tcp.postgres=5432
    shop-web  k8s.egress=isolated,k8s.ingress=open,k8s.ns=shop,k8s.nsl.team=0_-_blue,k8s.pod.app=web
    ");
    let passed: Vec<_> = imported(SHOP).passed_over.into_iter().collect();
    assert_eq!(passed, [("ConfigMap".to_owned(), 1)]);
}

const REFUSED: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8}}, {}]
    ports: [{port: web}, {protocol: ICMP}]
  egress:
  - ports: [{port: web}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: b}
spec: {podSelector: {}, ingres: []}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: c}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In}]}
  ingress: [null]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: d}
spec:
  podSelector: {matchLabels: {pod-template-hash: x}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {team: red}}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: e}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec: {hostNetwork: true}
---
apiVersion: extensions/v1beta1
kind: NetworkPolicy
metadata: {name: old}
spec: {}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec: {template: {metadata: {labels: {app: "yes"}}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec: {template: {metadata: {labels: {app: yes}}}}
"#;

#[test]
fn whatever_cannot_be_said_is_refused_all_at_once() {
    insta::assert_snapshot!(problems(REFUSED).join("\n"), @r#"
    a.yaml: NetworkPolicy default/b: unknown field `ingres`, expected one of `podSelector`, `policyTypes`, `ingress`, `egress`
    a.yaml: NetworkPolicy default/c: invalid type: null, expected struct IngressRule
    a.yaml: CiliumNetworkPolicy default/e: cilium.io/v2 CiliumNetworkPolicy also decides about connections and is not understood
    a.yaml: Pod default/host: hostNetwork: Kubernetes does not define what a NetworkPolicy means for it
    a.yaml: NetworkPolicy default/old: apiVersion "extensions/v1beta1" is not networking.k8s.io/v1
    a.yaml: DaemonSet default/agent: invalid type: boolean `true`, expected a string
    a.yaml: NetworkPolicy default/d: selects pods by label "pod-template-hash", which controllers add: give Pods instead of workloads
    a.yaml: NetworkPolicy default/d: selects namespaces by label "team", but Namespace default is in none of the files
    a.yaml: NetworkPolicy shop/a: ingress rule 1, peer 1: ipBlock: rules here speak of identities, not of addresses; networks are devices behind a gateway
    a.yaml: NetworkPolicy shop/a: ingress rule 1, peer 2: a peer without any selector selects nothing
    a.yaml: NetworkPolicy shop/a: ingress rule 1, port 2: protocol "ICMP" is not TCP, UDP or SCTP
    a.yaml: NetworkPolicy shop/a: egress rule 1: no pod of the manifests that it reaches defines a tcp port named "web"
    "#);
}

#[test]
fn a_list_as_kubectl_prints_it_is_its_items() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "namespace": "n"}, "spec": {}}]}"#;
    insta::assert_snapshot!(node_lines(list), @r"
    default-a  k8s.egress=open,k8s.ingress=open,k8s.ns=default
    n-b  k8s.egress=open,k8s.ingress=open,k8s.ns=n
    ");
    let typed =
        r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a"}, "spec": {}}]}"#;
    assert_eq!(imported(typed).nodes.len(), 1);
}

#[test]
fn hostile_yaml_is_refused_before_it_grows() {
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 8].join(", "))))
        .collect();
    assert!(problems(&bomb)[0].contains("not YAML"));
    assert!(problems(&"[".repeat(100_000))[0].contains("not YAML"));
    assert!(problems("kind: Pod\nkind: Namespace\n")[0].contains("not YAML"));
}

#[test]
fn no_file_that_a_person_made_is_written_over_and_then_none_is_written() {
    let place = tempfile::tempdir().unwrap();
    let (out, nodes) = (place.path().join("policy.d"), place.path().join("nodes.json"));
    let asked = ImportK8s { files: Vec::new(), out: Some(out.clone()), nodes_out: Some(nodes.clone()) };
    let imported = imported(SHOP);
    write(&asked, &imported).unwrap();
    let (policy, list) = (fs::read(out.join(FILE)).unwrap(), fs::read(&nodes).unwrap());
    fs::write(out.join(FILE), format!("{}# older\n", text::HEADER)).unwrap();
    write(&asked, &imported).unwrap();
    assert_eq!((fs::read(out.join(FILE)).unwrap(), fs::read(&nodes).unwrap()), (policy, list));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no temporary file stays");

    let older = format!("{}# older\n", text::HEADER);
    fs::write(out.join(FILE), &older).unwrap();
    fs::write(&nodes, "{\"nodes\": []}").unwrap();
    assert!(write(&asked, &imported).unwrap_err().sentence().contains("other nodes"));
    assert_eq!(fs::read_to_string(&nodes).unwrap(), "{\"nodes\": []}");
    assert_eq!(fs::read_to_string(out.join(FILE)).unwrap(), older, "nothing at all was written");

    fs::remove_file(&nodes).unwrap();
    fs::write(out.join(FILE), "version = 1\n").unwrap();
    assert!(write(&asked, &imported).unwrap_err().sentence().contains("not from an import"));
    assert!(!nodes.exists());
}
