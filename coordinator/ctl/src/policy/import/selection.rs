//! Kubernetes selectors as constraints over our labels, with Kubernetes' meaning.

use super::constraint::{Constraint, KubeTerm};
use super::encode;
use super::manifest::NAMESPACE_NAME_LABEL;
use super::objects::{LabelSelector, Operator, Peer};
use bulkhead_identity::LabelValue;
use std::collections::BTreeSet;

/// Labels that controllers add to pods, which a workload's template does not show.
const CONTROLLERS_LABELS: [&str; 10] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// What a selector asks, and which facts outside the policy its answer depends on.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) constraint: Constraint,
    /// A label of namespaces other than their name.
    pub(super) namespace_label: Option<String>,
    /// A label of pods that only their controllers know.
    pub(super) controllers_label: Option<String>,
}

impl Selection {
    /// Every pod of every namespace.
    pub(super) fn everything() -> Self {
        let mut constraint = Constraint::default();
        constraint.require(encode::own_key(encode::NAMESPACE_KEY), &KubeTerm::Exists);
        Self { constraint, namespace_label: None, controllers_label: None }
    }

    /// Every pod of one namespace.
    fn within(name: &str) -> Result<Self, String> {
        let mut within = Self::everything();
        within.constraint.require_value(encode::own_key(encode::NAMESPACE_KEY), encode::value(name)?);
        Ok(within)
    }

    /// The pods of `namespace` that `selector` selects; all of them when it is empty or absent.
    pub(super) fn pods(namespace: &str, selector: Option<&LabelSelector>) -> Result<Self, String> {
        let mut pods = Self::within(namespace)?;
        pods.require_pod_labels(selector)?;
        Ok(pods)
    }

    /// The pods that `peer` of a policy in `namespace` stands for.
    pub(super) fn peer(namespace: &str, peer: &Peer) -> Result<Self, String> {
        if peer.ip_block.is_some() {
            return Err("ipBlock: rules here speak of identities, not of addresses; networks are devices \
                        behind a gateway"
                .to_owned());
        }
        let mut pods = match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => return Err("a peer without any selector selects nothing".to_owned()),
            (None, Some(_)) => Self::within(namespace)?,
            (Some(selector), _) => {
                let mut pods = Self::everything();
                pods.require_namespace_labels(selector)?;
                pods
            }
        };
        pods.require_pod_labels(peer.pod_selector.as_ref())?;
        Ok(pods)
    }

    fn require_pod_labels(&mut self, selector: Option<&LabelSelector>) -> Result<(), String> {
        for (key, term) in selector.map_or_else(|| Ok(Vec::new()), terms)? {
            if CONTROLLERS_LABELS.contains(&key) {
                self.controllers_label = Some(key.to_owned());
            }
            self.constraint.require(encode::pod_key(key)?, &term);
        }
        Ok(())
    }

    fn require_namespace_labels(&mut self, selector: &LabelSelector) -> Result<(), String> {
        for (key, term) in terms(selector)? {
            if key == NAMESPACE_NAME_LABEL {
                self.constraint.require(encode::own_key(encode::NAMESPACE_KEY), &term);
            } else {
                self.namespace_label = Some(key.to_owned());
                self.constraint.require(encode::namespace_key(key)?, &term);
            }
        }
        Ok(())
    }
}

/// Every requirement of a selector, by label key.
fn terms(selector: &LabelSelector) -> Result<Vec<(&str, KubeTerm)>, String> {
    let mut terms = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        terms.push((key.as_str(), KubeTerm::In(BTreeSet::from([encode::value(value)?]))));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        let key = requirement.key.as_str();
        let values = requirement.values.as_deref().unwrap_or_default();
        let listed: BTreeSet<LabelValue> =
            values.iter().map(|value| encode::value(value)).collect::<Result<_, _>>()?;
        let term = match (requirement.operator, values.is_empty()) {
            (Operator::In, false) => KubeTerm::In(listed),
            (Operator::NotIn, false) => KubeTerm::NotIn(listed),
            (Operator::Exists, true) => KubeTerm::Exists,
            (Operator::DoesNotExist, true) => KubeTerm::Absent,
            (Operator::In | Operator::NotIn, true) => {
                return Err(format!("{:?} of {key:?} needs values", requirement.operator));
            }
            (Operator::Exists | Operator::DoesNotExist, false) => {
                return Err(format!("{:?} of {key:?} takes no values", requirement.operator));
            }
        };
        terms.push((key, term));
    }
    Ok(terms)
}
