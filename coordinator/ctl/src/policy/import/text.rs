//! Translated rules as policy text: what a person would write, laid out as `policy fmt` does.

use super::encode::{EGRESS_KEY, INGRESS_KEY, ISOLATED, OPEN};
use super::join::ImportedRule;
use anyhow::{Context as _, anyhow};
use bulkhead_acl::{Selector, Sources};
use bulkhead_identity::LabelKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How a file that may be written over begins.
pub(super) const HEADER: &str =
    "# Made by `bulkheadctl policy import k8s`: import again instead of editing.\n";

/// One file with the schema of the labels and all rules.
pub(super) fn write(file: &str, rules: &[ImportedRule]) -> anyhow::Result<Sources> {
    let text = compose(rules).context("writing policy text")?;
    let text = bulkhead_acl::format::format(&text).map_err(|found| anyhow!("laying out: {found}"))?;
    Ok(Sources(BTreeMap::from([(file.to_owned(), text)])))
}

fn compose(rules: &[ImportedRule]) -> Result<String, std::fmt::Error> {
    let mut text = format!("{HEADER}version = 1\n");
    let keys: BTreeSet<&LabelKey> =
        rules.iter().flat_map(|rule| keys(&rule.from).chain(keys(&rule.to))).collect();
    for key in keys {
        writeln!(text, "\n[labels.{:?}]", key.as_str())?;
        if [INGRESS_KEY, EGRESS_KEY].contains(&key.as_str()) {
            writeln!(text, "values = [{ISOLATED:?}, {OPEN:?}]")?;
        }
    }
    for rule in rules {
        let ports: Vec<_> = rule.ports.to_string().split(", ").map(|port| format!("{port:?}")).collect();
        writeln!(text, "\n[[allow]]\nid = {:?}", rule.id)?;
        writeln!(text, "from = \"{}\"\nto = \"{}\"", rule.from, rule.to)?;
        writeln!(text, "ports = [{}]", ports.join(", "))?;
        writeln!(text, "why = {}", quoted(&rule.why))?;
    }
    Ok(text)
}

fn keys(selector: &Selector) -> impl Iterator<Item = &LabelKey> {
    selector.terms().iter().filter_map(|term| term.key())
}

/// A TOML basic string; names of NetworkPolicies come from outside.
fn quoted(text: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = text.chars().map(plain).collect();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
