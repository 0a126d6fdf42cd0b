//! Nodes from a file, so that policy can be checked where there is no coordinator: a pull request, a laptop.

use crate::public_file;
use anyhow::{Context as _, bail};
use bulkhead_acl::Subject;
use bulkhead_identity::{Labels, NodeName};
use bulkhead_protocol::admin::NodeState;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Ten thousand nodes with every label come to less.
pub(crate) const MAX_NODES_FILE_BYTES: usize = 64 * 1024 * 1024;

// What `bulkheadctl --json node list` prints, as far as rules can speak of it: the rest may change.
#[derive(Deserialize)]
struct NodesFile {
    nodes: Vec<NodeEntry>,
}

#[derive(Deserialize)]
struct NodeEntry {
    name: NodeName,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    state: Option<NodeState>,
}

/// Reads `{ "nodes": [ { "name": …, "labels": { … } } ] }`; other fields are passed over, as are revoked nodes.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Subject>> {
    let parse = || -> anyhow::Result<Vec<Subject>> {
        let text = public_file::read(path, ("MAX_NODES_FILE_BYTES", MAX_NODES_FILE_BYTES))?;
        subjects(serde_json::from_slice(&text)?)
    };
    parse().with_context(|| format!("reading nodes from {}", path.display()))
}

fn subjects(file: NodesFile) -> anyhow::Result<Vec<Subject>> {
    let mut by_name = BTreeMap::new();
    for NodeEntry { name, labels, state } in file.nodes {
        if state == Some(NodeState::Revoked) {
            continue;
        }
        if by_name.insert(name.clone(), Subject { name: name.clone(), labels }).is_some() {
            bail!("node {name} is there twice");
        }
    }
    Ok(by_name.into_values().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nodes(json: &str) -> anyhow::Result<Vec<Subject>> {
        subjects(serde_json::from_str(json)?)
    }

    #[test]
    fn the_output_of_node_list_is_an_inventory() {
        let nodes = nodes(
            r#"{"schema": "bulkhead.nodes/1", "nodes": [
                {"name": "web", "labels": {"role": "web"}, "ipv4": "100.64.0.10", "state": "active"},
                {"name": "bare"}, {"name": "gone", "state": "revoked"}]}"#,
        )
        .unwrap();
        assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["bare", "web"]);
        assert_eq!(nodes[1].labels.get("role").unwrap().as_str(), "web");
    }

    #[test]
    fn hostile_or_ambiguous_inventories_are_refused() {
        for wrong in [
            "[]",
            r#"{"nodes": [{"name": "Web"}]}"#,
            r#"{"nodes": [{"name": "../x"}]}"#,
            r#"{"nodes": [{"name": "a"}, {"name": "a"}]}"#,
            r#"{"nodes": [{"name": "a", "labels": {"role": "we\nb"}}]}"#,
        ] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
    }
}
