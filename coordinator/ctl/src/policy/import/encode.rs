//! Kubernetes names and labels in our grammar. The mapping is injective: two labels that differ there differ here,
//! so no selector ever takes one for the other. What does not fit is refused with the reason, never shortened.
//!
//! Lower-case letters, digits, dots and dashes stay. An upper-case letter is `_` and the letter, `/` is `_.`, `_` is
//! `__`. Our values begin with a letter or a digit: one that would not begins with `0_-`, which nothing else makes.

use bulkhead_identity::{LabelKey, LabelValue};

/// The namespace of a pod.
pub(super) const NAMESPACE_KEY: &str = "k8s.ns";
/// `isolated` or `open`: whether any policy selects the pod for ingress.
pub(super) const INGRESS_KEY: &str = "k8s.ingress";
/// `isolated` or `open`: whether any policy selects the pod for egress.
pub(super) const EGRESS_KEY: &str = "k8s.egress";
/// Of [`INGRESS_KEY`] and [`EGRESS_KEY`]: some policy selects the pod.
pub(super) const ISOLATED: &str = "isolated";
/// Of [`INGRESS_KEY`] and [`EGRESS_KEY`]: no policy selects the pod.
pub(super) const OPEN: &str = "open";
/// In front of a pod's own label keys.
const POD_PREFIX: &str = "k8s.pod.";
/// In front of the label keys of its namespace.
const NAMESPACE_PREFIX: &str = "k8s.nsl.";
/// In front of protocol and name of a named port; the value is its number.
const PORT_PREFIX: &str = "k8s.port.";
/// In front of values that would begin with `_` or be empty.
const BEGIN: &str = "0_-";

/// One of our own keys.
pub(super) fn own_key(key: &'static str) -> LabelKey {
    LabelKey::parse(key).expect("the constants above are label keys")
}

/// One of our own values.
pub(super) fn own_value(value: &'static str) -> LabelValue {
    LabelValue::parse(value).expect("the constants above are label values")
}

/// Of the pod's label `key`.
pub(super) fn pod_key(key: &str) -> Result<LabelKey, String> {
    prefixed(POD_PREFIX, key)
}

/// Of the label `key` of the pod's namespace.
pub(super) fn namespace_key(key: &str) -> Result<LabelKey, String> {
    prefixed(NAMESPACE_PREFIX, key)
}

/// Of the port `name` of `protocol` (`tcp`, `udp`, `sctp`).
pub(super) fn port_key(protocol: &str, name: &str) -> Result<LabelKey, String> {
    prefixed(PORT_PREFIX, &format!("{protocol}.{name}"))
}

fn prefixed(prefix: &str, key: &str) -> Result<LabelKey, String> {
    let written = format!("{prefix}{}", encoded(key));
    LabelKey::parse(&written).map_err(|error| format!("label key {key:?} becomes {error}"))
}

/// Of a label's value, an empty one included.
pub(super) fn value(text: &str) -> Result<LabelValue, String> {
    let written = encoded(text);
    let begins = written.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let written = if begins { written } else { format!("{BEGIN}{written}") };
    LabelValue::parse(&written).map_err(|error| format!("label value {text:?} becomes {error}"))
}

fn encoded(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '_' => written.push_str("__"),
            '/' => written.push_str("_."),
            'A'..='Z' => written.extend(['_', c.to_ascii_lowercase()]),
            // Anything else that Kubernetes does not allow either is refused by our own parsers.
            c => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn usual_labels_stay_readable() {
        assert_eq!(pod_key("app").unwrap().as_str(), "k8s.pod.app");
        assert_eq!(pod_key("app.kubernetes.io/name").unwrap().as_str(), "k8s.pod.app.kubernetes.io_.name");
        assert_eq!(namespace_key("team").unwrap().as_str(), "k8s.nsl.team");
        assert_eq!(port_key("tcp", "http").unwrap().as_str(), "k8s.port.tcp.http");
        assert_eq!(value("web-1.0").unwrap().as_str(), "web-1.0");
        assert_eq!(value("Prod").unwrap().as_str(), "0_-_prod");
        assert_eq!(value("").unwrap().as_str(), "0_-");
    }

    #[test]
    fn no_two_labels_become_one() {
        let letters = ["", "a", "A", "_", "/", ".", "-", "0", "B"];
        let mut seen = BTreeMap::new();
        for text in letters
            .iter()
            .flat_map(|a| letters.iter().map(move |b| format!("{a}{b}")))
            .flat_map(|start| letters.iter().map(move |c| format!("{start}{c}")).collect::<Vec<_>>())
        {
            if let Ok(written) = value(&text) {
                assert_eq!(*seen.entry(written).or_insert_with(|| text.clone()), text);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_shortened() {
        assert!(pod_key(&"a".repeat(56)).unwrap_err().contains("63"));
        assert!(value(&"A".repeat(40)).unwrap_err().contains("63"));
        assert!(value("a b").is_err());
    }
}
