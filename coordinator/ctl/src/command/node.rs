//! `node …`: what is said about nodes.

use super::parse_label;
use crate::moment::parse_duration;
use bulkhead_identity::{LabelKey, LabelValue, NodeName};
use bulkhead_protocol::offload::Offloads;
use clap::{Args, Subcommand};
use std::time::Duration;

/// `node …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Node {
    /// List all nodes.
    List {
        /// Those that wait for an administrator instead.
        #[arg(long)]
        pending: bool,
    },
    /// Make a node of one that waits. Compare its fingerprint with the machine's, and its owner with who asked you.
    Approve {
        /// The name it waits under.
        name: NodeName,
    },
    /// Refuse a node that waits.
    Reject {
        /// The name it waits under.
        name: NodeName,
        /// Why, for the journal and for the machine that waits.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
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
    /// Switch offloads off and on, on every node or on one, and show what is off.
    ///
    /// Some kernels corrupt what they segment or merge. The offloads are tun-tso, tun-gro, udp-gso and udp-gro; nodes
    /// that are connected follow at once, the others as they connect. A node's own configuration can leave more off.
    Offloads(SwitchOffloads),
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

/// `node offloads`.
#[derive(Args, Debug)]
pub(crate) struct SwitchOffloads {
    /// To leave off from now on.
    #[arg(long, value_name = "NAME,NAME", group = "switch")]
    pub(crate) off: Option<Offloads>,
    /// To leave off no longer.
    #[arg(long, value_name = "NAME,NAME", group = "switch")]
    pub(crate) on: Option<Offloads>,
    /// On this node alone.
    #[arg(long, value_name = "NODE", requires = "switch")]
    pub(crate) node: Option<NodeName>,
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
    fn offloads_are_switched_one_way_at_a_time() {
        use crate::command::CommandLine;
        use clap::Parser as _;
        let parses = |words: &str| {
            let words = ["bulkheadctl", "node", "offloads"].into_iter().chain(words.split_whitespace());
            CommandLine::try_parse_from(words).is_ok()
        };
        for good in ["", "--off udp-gso,tun-gro", "--on udp-gso --node web-1"] {
            assert!(parses(good), "{good:?}");
        }
        for wrong in ["--off gso", "--off udp-gso --on tun-gro", "--node web-1"] {
            assert!(!parses(wrong), "{wrong:?}");
        }
    }

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
