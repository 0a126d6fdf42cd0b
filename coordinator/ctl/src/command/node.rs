//! `node …`: what is said about nodes.

use super::parse_label;
use crate::moment::parse_duration;
use bulkhead_identity::{LabelKey, LabelValue, NodeName};
use clap::{Args, Subcommand};
use std::time::Duration;

/// `node …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Node {
    /// List all nodes.
    List,
    /// Show one node.
    Show {
        /// The node's name.
        name: NodeName,
    },
    /// Set and remove labels; the node gets a new certificate at once, its old one is revoked.
    Label {
        /// The node's name.
        name: NodeName,
        /// `key=value` sets, `key-` removes.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = parse_label_change)]
        changes: Vec<LabelChange>,
    },
    /// Cut a node off, everywhere and for good. It comes back only by enrolling anew.
    Revoke(Revoke),
    /// Forget a revoked node, so that its name can be used again.
    Remove {
        /// The node's name.
        name: NodeName,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `node revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The node's name.
    pub(crate) name: NodeName,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Wait for the signed receipts of all nodes that could talk to it, and print each as it arrives.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// One change of `node label`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelChange {
    /// Which label.
    pub(crate) key: LabelKey,
    /// Its new value; `None` removes it.
    pub(crate) value: Option<LabelValue>,
}

fn parse_label_change(text: &str) -> Result<LabelChange, String> {
    if text.contains('=') {
        let (key, value) = parse_label(text)?;
        return Ok(LabelChange { key, value: Some(value) });
    }
    let key = text.strip_suffix('-').ok_or_else(|| format!("{text:?} is neither KEY=VALUE nor KEY-"))?;
    Ok(LabelChange { key: LabelKey::parse(key).map_err(|error| error.to_string())?, value: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let change = parse_label_change("role=db").unwrap();
        assert_eq!(
            (change.key.as_str(), change.value.as_ref().map(LabelValue::as_str)),
            ("role", Some("db"))
        );
        let change = parse_label_change("role-").unwrap();
        assert_eq!((change.key.as_str(), change.value), ("role", None));
        for wrong in ["", "role", "=db", "role=", "ROLE=db", "role=a/b", "-"] {
            assert!(parse_label_change(wrong).is_err(), "{wrong:?}");
        }
    }
}
