//! Nodes from a file, so that policy can be checked where there is no coordinator: a pull request, a laptop.

use anyhow::{Context as _, bail};
use bulkhead_acl::selector::Polarity;
use bulkhead_acl::{Diagnostic, Rule, RuleSet, Severity, Sources, Subject};
use bulkhead_identity::{Labels, NodeName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Ten thousand nodes with every label come to less.
pub(crate) const MAX_NODES_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Stable code of a rule that matches none of the nodes at hand.
const MATCHES_NOBODY_HERE: &str = "BH-N001";

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
}

/// Reads `{ "nodes": [ { "name": …, "labels": { … } } ] }`; other fields are passed over.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Subject>> {
    let parse = || -> anyhow::Result<Vec<Subject>> {
        let mut text = String::new();
        File::open(path)?.take(MAX_NODES_FILE_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_NODES_FILE_BYTES {
            bail!("larger than {MAX_NODES_FILE_BYTES} bytes (MAX_NODES_FILE_BYTES)");
        }
        subjects(serde_json::from_str(&text)?)
    };
    parse().with_context(|| format!("reading nodes from {}", path.display()))
}

fn subjects(file: NodesFile) -> anyhow::Result<Vec<Subject>> {
    let mut by_name = BTreeMap::new();
    for NodeEntry { name, labels } in file.nodes {
        if by_name.insert(name.clone(), Subject { name: name.clone(), labels }).is_some() {
            bail!("node {name} is there twice");
        }
    }
    Ok(by_name.into_values().collect())
}

/// A warning for each rule of which one side matches none of `nodes`.
pub(super) fn rules_for_nobody(rules: &RuleSet, sources: &Sources, nodes: &[Subject]) -> Vec<Diagnostic> {
    let of = |rule: &Rule, polarity| {
        let nobody =
            |side: &bulkhead_acl::selector::Selector| !nodes.iter().any(|node| side.matches(node, polarity));
        [("from", &rule.from), ("to", &rule.to)]
            .into_iter()
            .filter(|(_, side)| nobody(side))
            .map(|(side, _)| nobody_here(rule, side, sources, nodes.len()))
            .collect::<Vec<_>>()
    };
    let allow = rules.allow.iter().flat_map(|rule| of(rule, Polarity::Allow));
    allow.chain(rules.never.iter().flat_map(|rule| of(rule, Polarity::Never))).collect()
}

fn nobody_here(rule: &Rule, side: &str, sources: &Sources, nodes: usize) -> Diagnostic {
    let source = sources.0.get(&rule.file).map_or("", String::as_str);
    let excerpt = source.lines().nth(rule.line.saturating_sub(1)).unwrap_or_default();
    Diagnostic {
        severity: Severity::Warning,
        code: MATCHES_NOBODY_HERE.to_owned(),
        file: rule.file.clone(),
        line: rule.line,
        column: 1,
        message: format!("`{side}` of rule {} matches none of the {nodes} nodes", rule.id.0),
        suggestion: None,
        excerpt: excerpt.to_owned(),
        length: excerpt.chars().count(),
    }
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
                {"name": "web", "labels": {"role": "web"}, "ipv4": "100.64.0.10"}, {"name": "bare"}]}"#,
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

    #[test]
    fn a_rule_that_matches_no_node_is_pointed_at() {
        let text = "version = 1\n[labels.role]\nvalues = [\"web\", \"db\"]\n\n[[allow]]\nid = \"web-to-db\"\n\
                    from = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/5432\"]\n";
        let sources = Sources(BTreeMap::from([("a.toml".to_owned(), text.to_owned())]));
        let checked = bulkhead_acl::check(&sources, crate::moment::now()).unwrap();
        let web = nodes(r#"{"nodes": [{"name": "web", "labels": {"role": "web"}}]}"#).unwrap();
        let found = rules_for_nobody(&checked.rules, &sources, &web);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("`to` of rule web-to-db"), "{}", found[0]);
        assert_eq!(found[0].file, "a.toml");
    }
}
