//! Kubernetes objects, as far as they decide about connections. A NetworkPolicy is read to the last field: one that is
//! not known might permit or forbid something, and is refused. Of pods, only labels and named ports matter.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// What every object has.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// Whatever carries only its name and labels here.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) metadata: Metadata,
}

/// `networking.k8s.io/v1` NetworkPolicy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetworkPolicy {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    pub(super) metadata: Metadata,
    pub(super) spec: PolicySpec,
    /// What a controller reported; it decides nothing.
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

/// Whom a policy selects, and what it permits them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicySpec {
    /// Absent is empty: all pods of the namespace.
    pub(super) pod_selector: Option<LabelSelector>,
    pub(super) policy_types: Option<Vec<Direction>>,
    pub(super) ingress: Option<Vec<IngressRule>>,
    pub(super) egress: Option<Vec<EgressRule>>,
}

/// A direction that a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl PolicySpec {
    /// Whether pods that it selects are isolated in `direction`.
    ///
    /// Kubernetes, `SetDefaults_NetworkPolicy`: without `policyTypes` every policy is about ingress, and about egress
    /// when it has an egress rule.
    pub(super) fn isolates(&self, direction: Direction) -> bool {
        match self.policy_types.as_deref() {
            Some(types) if !types.is_empty() => types.contains(&direction),
            Some(_) | None => match direction {
                Direction::Ingress => true,
                Direction::Egress => self.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
            },
        }
    }

    /// The rules of `direction`, whichever it is.
    pub(super) fn rules(&self, direction: Direction) -> Vec<RuleView<'_>> {
        match direction {
            Direction::Ingress => {
                let rules = self.ingress.as_deref().unwrap_or_default();
                rules.iter().map(|rule| RuleView::new(&rule.from, &rule.ports)).collect()
            }
            Direction::Egress => {
                let rules = self.egress.as_deref().unwrap_or_default();
                rules.iter().map(|rule| RuleView::new(&rule.to, &rule.ports)).collect()
            }
        }
    }
}

/// One rule of either direction. No peers are all peers, no ports are all ports.
pub(super) struct RuleView<'a> {
    pub(super) peers: &'a [Peer],
    pub(super) ports: &'a [Port],
}

impl<'a> RuleView<'a> {
    fn new(peers: &'a Option<Vec<Peer>>, ports: &'a Option<Vec<Port>>) -> Self {
        Self { peers: peers.as_deref().unwrap_or_default(), ports: ports.as_deref().unwrap_or_default() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IngressRule {
    from: Option<Vec<Peer>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EgressRule {
    to: Option<Vec<Peer>>,
    ports: Option<Vec<Port>>,
}

/// The other end of a rule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) pod_selector: Option<LabelSelector>,
    pub(super) namespace_selector: Option<LabelSelector>,
    pub(super) ip_block: Option<IgnoredAny>,
}

/// A port, a range, or a name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Port {
    pub(super) protocol: Option<String>,
    pub(super) port: Option<NumberOrName>,
    pub(super) end_port: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum NumberOrName {
    Number(i64),
    Name(String),
}

/// All of `matchLabels` and of `matchExpressions`; empty selects everything.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LabelSelector {
    pub(super) match_labels: Option<BTreeMap<String, String>>,
    pub(super) match_expressions: Option<Vec<Requirement>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) values: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A pod, or what a workload makes its pods from.
#[derive(Debug, Deserialize)]
pub(super) struct PodTemplate {
    /// Of the pods.
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<PodSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) containers: Option<Vec<Container>>,
    pub(super) init_containers: Option<Vec<Container>>,
    pub(super) host_network: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) ports: Option<Vec<ContainerPort>>,
    pub(super) restart_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
    pub(super) protocol: Option<String>,
}

/// Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job.
#[derive(Debug, Deserialize)]
pub(super) struct Workload {
    pub(super) metadata: Metadata,
    pub(super) spec: WorkloadSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct WorkloadSpec {
    pub(super) template: PodTemplate,
}

/// CronJob.
#[derive(Debug, Deserialize)]
pub(super) struct CronJob {
    pub(super) metadata: Metadata,
    pub(super) spec: CronJobSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CronJobSpec {
    pub(super) job_template: JobTemplate,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobTemplate {
    pub(super) spec: WorkloadSpec,
}
