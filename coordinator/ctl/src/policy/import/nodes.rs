//! Pods as nodes: names that a node can have, and the labels that the rules speak of.

use super::manifest::{Cluster, Origin, Problems};
use super::translate::PodLabels;
use bulkhead_identity::{Labels, NodeName};
use serde::Serialize;
use std::collections::BTreeSet;

/// Room for the number that tells two nodes of one name apart.
const MAX_STEM_BYTES: usize = 55;

/// What `--nodes` of the other verbs reads; `kubernetes` is passed over there.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) labels: Labels,
    pub(super) kubernetes: Object,
}

/// Which object a node stands for. A workload is one node: its pods are alike.
#[derive(Debug, Serialize)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A node for each pod and workload, in order of namespace, name and kind.
pub(super) fn nodes(cluster: &Cluster, pods: PodLabels<'_>, problems: &mut Problems) -> Vec<Node> {
    let mut taken = BTreeSet::new();
    let mut nodes = Vec::new();
    for (place, labels) in pods {
        let (namespace, name, kind) = place.clone();
        let origin = cluster.pods.get(place).map_or_else(Origin::default, |pod| pod.origin.clone());
        let node = Labels::new(labels)
            .map_err(|error| error.to_string())
            .and_then(|labels| Ok((labels, free_name(&namespace, &name, &mut taken)?)));
        match node {
            Ok((labels, node)) => {
                nodes.push(Node { name: node, labels, kubernetes: Object { kind, namespace, name } });
            }
            Err(reason) => problems.add(&origin, reason),
        }
    }
    nodes
}

/// `NAMESPACE-NAME` where that is a node's name and still free; otherwise as much of it as fits, and a number.
fn free_name(namespace: &str, name: &str, taken: &mut BTreeSet<NodeName>) -> Result<NodeName, String> {
    let wanted = format!("{namespace}-{name}");
    if let Ok(name) = NodeName::parse(&wanted)
        && taken.insert(name.clone())
    {
        return Ok(name);
    }
    let plain = wanted.replace('.', "-");
    let stem: String = plain.chars().take(MAX_STEM_BYTES).collect();
    // `xn--` and the like are reserved: without its dashes a stem is still told apart by its number.
    let stem = if stem.get(2..4) == Some("--") { stem.replace("--", "-") } else { stem };
    let stem = stem.trim_matches('-');
    for number in 2..=taken.len() + 2 {
        let name = NodeName::parse(&format!("{stem}-{number}")).map_err(|error| error.to_string())?;
        if taken.insert(name.clone()) {
            return Ok(name);
        }
    }
    Err(format!("no node name is free for {wanted:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_told_apart_whatever_they_look_like() {
        let mut taken = BTreeSet::new();
        let mut name =
            |namespace: &str, name: &str| free_name(namespace, name, &mut taken).unwrap().to_string();
        assert_eq!(name("a", "b-c"), "a-b-c");
        assert_eq!(name("a-b", "c"), "a-b-c-2");
        assert_eq!(name("a", "b.c"), "a-b-c-3");
        assert_eq!(name("xn", "-a"), "xn-a-2");
        assert_eq!(name("n", &"x".repeat(80)).len(), 57);
        assert!(free_name("N", "x", &mut taken).is_err());
    }
}
