//! The real `bulkheadctl policy import k8s`, and what its output permits.

use std::collections::BTreeMap;
use std::process::Command;

use bulkhead_acl::{RuleSet, Service, Sources, Subject, check};
use bulkhead_identity::{Labels, NodeName, Timestamp};
use bulkhead_tests::program;
use serde_json::Value;

const WALL: Timestamp = Timestamp(1_796_126_400);

/// What came out of the manifests.
pub struct Imported {
    rules: RuleSet,
    /// By namespace and name.
    nodes: BTreeMap<(String, String), Subject>,
}

/// Imports the manifests; what was said instead when they were refused.
pub fn import(manifests: &str) -> Result<Imported, String> {
    let folder = tempfile::tempdir().unwrap();
    let (file, out, nodes) = (
        folder.path().join("cluster.yaml"),
        folder.path().join("policy.d"),
        folder.path().join("nodes.json"),
    );
    std::fs::write(&file, manifests).unwrap();
    let output = Command::new(program("bulkheadctl"))
        .args(["policy", "import", "k8s"])
        .arg(&file)
        .arg("--out")
        .arg(&out)
        .arg("--nodes-out")
        .arg(&nodes)
        .output()
        .unwrap();
    if !output.status.success() {
        assert!(!nodes.exists() && !out.exists(), "refused, and written all the same");
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, std::fs::read_to_string(file.path()).unwrap())
    };
    let sources = Sources(out.read_dir().unwrap().map(|file| text(file.unwrap())).collect());
    let checked = check(&sources, WALL).unwrap_or_else(|found| panic!("{}", found[0]));
    let nodes: Value = serde_json::from_slice(&std::fs::read(nodes).unwrap()).unwrap();
    let nodes = nodes["nodes"].as_array().unwrap().iter().map(node).collect();
    Ok(Imported { rules: checked.rules, nodes })
}

fn node(node: &Value) -> ((String, String), Subject) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let labels = node["labels"].as_object().unwrap().iter();
    let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={}", text(value))).collect();
    let subject = Subject {
        name: NodeName::parse(&text(&node["name"])).unwrap(),
        labels: Labels::parse(&labels.join(",")).unwrap(),
    };
    ((text(&node["kubernetes"]["namespace"]), text(&node["kubernetes"]["name"])), subject)
}

impl Imported {
    /// Whether the pod `from` (namespace and name) may reach `to`, for example on `tcp/80`.
    pub fn connects(&self, from: (&str, &str), to: (&str, &str), service: &str) -> bool {
        let subject = |(namespace, name): (&str, &str)| &self.nodes[&(namespace.to_owned(), name.to_owned())];
        let service = Service::parse(service).unwrap();
        self.rules.decide(subject(from), subject(to), service, WALL).is_allowed()
    }

    /// Every `namespace/name -> namespace/name` that is open on `service`.
    pub fn open(&self, service: &str) -> Vec<String> {
        let pods: Vec<_> = self.nodes.keys().map(|(namespace, name)| (&**namespace, &**name)).collect();
        let pairs = pods.iter().flat_map(|from| pods.iter().map(move |to| (*from, *to)));
        pairs
            .filter(|(from, to)| from != to && self.connects(*from, *to, service))
            .map(|(from, to)| format!("{}/{} -> {}/{}", from.0, from.1, to.0, to.1))
            .collect()
    }
}
