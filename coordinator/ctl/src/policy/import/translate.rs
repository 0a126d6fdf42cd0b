//! NetworkPolicies to rules. In Kubernetes a connection needs two permissions: of the source's egress and of the
//! destination's ingress; a pod that no policy selects for a direction is open in it.
//!
//! Both halves become one rule here, because ours are end to end. Whether a pod is isolated is a label, so the rules
//! are: open to open; each ingress grant for open sources; each egress grant for open destinations; and each pair of
//! an egress and an ingress grant, with the selectors and the ports that both ask for.

use super::constraint::Constraint;
use super::encode::{self, EGRESS_KEY, INGRESS_KEY, ISOLATED, NAMESPACE_KEY, OPEN};
use super::join::{Grant, ImportedRule, join};
use super::manifest::{Cluster, Origin, Policy, Problems};
use super::objects::Direction;
use super::ports::{self, Ports};
use super::selection::Selection;
use bulkhead_identity::{LabelKey, LabelValue};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a pod that rules speak of, by its place in [`Cluster::pods`].
pub(super) type PodLabels<'a> = BTreeMap<&'a (String, String, String), BTreeMap<LabelKey, LabelValue>>;

/// The rules, and the labels by which they know the pods.
pub(super) struct Translation<'a> {
    pub(super) rules: Vec<ImportedRule>,
    pub(super) pods: PodLabels<'a>,
}

/// Translates, or notes why not; the result is complete only when there are no problems.
pub(super) fn translate<'a>(cluster: &'a Cluster, problems: &mut Problems) -> Translation<'a> {
    let read = Translator::new(cluster, problems);
    let Translator { ingress, egress, pods, .. } = read;
    let rules = join(&ingress, &egress).unwrap_or_else(|reason| {
        problems.add(&Origin { file: "all files".to_owned(), ..Origin::default() }, reason);
        Vec::new()
    });
    Translation { rules, pods }
}

struct Translator<'a, 'p> {
    cluster: &'a Cluster,
    problems: &'p mut Problems,
    pods: PodLabels<'a>,
    ingress: Vec<Grant>,
    egress: Vec<Grant>,
}

impl<'a, 'p> Translator<'a, 'p> {
    fn new(cluster: &'a Cluster, problems: &'p mut Problems) -> Self {
        let mut translator = Self {
            cluster,
            problems,
            pods: cluster.pods.keys().map(|place| (place, BTreeMap::new())).collect(),
            ingress: Vec::new(),
            egress: Vec::new(),
        };
        let selections = translator.selections();
        translator.label_pods(&selections);
        translator.isolate(&selections);
        for ((place, policy), selections) in cluster.policies.iter().zip(&selections) {
            translator.grant(place, policy, selections);
        }
        translator
    }

    /// Reads every selector of every policy; those that cannot be read are problems, and missing here.
    fn selections(&mut self) -> Vec<PolicySelections> {
        let all = self.cluster.policies.iter();
        let all: Vec<_> =
            all.map(|((namespace, _), policy)| PolicySelections::read(namespace, policy)).collect();
        for (policy, selections) in self.cluster.policies.values().zip(&all) {
            for reason in &selections.wrong {
                self.problems.add(&policy.origin, reason);
            }
            for selection in selections.all() {
                self.depends_only_on_manifests(&policy.origin, selection);
            }
        }
        all
    }

    /// A label that the files do not show would be taken as missing, and the answer would be a guess.
    fn depends_only_on_manifests(&mut self, origin: &Origin, selection: &Selection) {
        if let Some(key) = &selection.namespace_label {
            let namespaces = self.cluster.pods.keys().map(|(namespace, ..)| namespace);
            let unknown: BTreeSet<_> =
                namespaces.filter(|name| !self.cluster.namespaces.contains_key(*name)).collect();
            for name in unknown {
                let reason = format!(
                    "selects namespaces by label {key:?}, but Namespace {name} is in none of the files"
                );
                self.problems.add(origin, reason);
            }
        }
        if let Some(key) = &selection.controllers_label
            && self.cluster.pods.keys().any(|(.., kind)| kind != "Pod")
        {
            let reason = format!(
                "selects pods by label {key:?}, which controllers add: give Pods instead of workloads"
            );
            self.problems.add(origin, reason);
        }
    }

    /// Gives every pod the labels that selectors speak of. Others are left out: nothing here depends on them.
    fn label_pods(&mut self, selections: &[PolicySelections]) {
        let keys: BTreeSet<&LabelKey> = selections
            .iter()
            .flat_map(PolicySelections::all)
            .flat_map(|selection| selection.constraint.keys())
            .collect();
        let names: BTreeSet<_> = selections.iter().flat_map(|policy| policy.named_ports()).collect();
        for (place, labels) in &mut self.pods {
            let pod = &self.cluster.pods[*place];
            match pod_labels(&place.0, pod, self.cluster, &keys, &names) {
                Ok(found) => *labels = found,
                Err(reason) => self.problems.add(&pod.origin, reason),
            }
        }
    }

    fn isolate(&mut self, selections: &[PolicySelections]) {
        for (direction, key) in [(Direction::Ingress, INGRESS_KEY), (Direction::Egress, EGRESS_KEY)] {
            let policies = self.cluster.policies.values().zip(selections);
            let isolating: Vec<&Constraint> = policies
                .filter(|(policy, _)| policy.spec.isolates(direction))
                .filter_map(|(_, selections)| selections.selected.as_ref())
                .map(|selection| &selection.constraint)
                .collect();
            for labels in self.pods.values_mut() {
                let isolated = isolating.iter().any(|selected| selected.meets(labels));
                let value = if isolated { ISOLATED } else { OPEN };
                labels.insert(encode::own_key(key), encode::own_value(value));
            }
        }
    }

    fn grant(&mut self, place: &(String, String), policy: &Policy, selections: &PolicySelections) {
        let Some(selected) = &selections.selected else { return };
        for rule in &selections.rules {
            for (peer_number, peer) in rule.peers.iter().enumerate() {
                let (short, long) = match rule.direction {
                    Direction::Ingress => ("in", "ingress"),
                    Direction::Egress => ("out", "egress"),
                };
                let (from, to) = match rule.direction {
                    Direction::Ingress => (&peer.constraint, &selected.constraint),
                    Direction::Egress => (&selected.constraint, &peer.constraint),
                };
                let (number, peer) = (rule.number, peer_number + 1);
                let grant = Grant {
                    from: from.clone(),
                    to: to.clone(),
                    ports: rule.ports.numbers.clone(),
                    id: format!("{}.{}.{short}{number}.{peer}", place.0, place.1),
                    why: format!("NetworkPolicy {}/{}, {long} rule {number}, peer {peer}", place.0, place.1),
                };
                let mut grants = Vec::new();
                for name in &rule.ports.names {
                    match self.by_name(&grant, name) {
                        Ok(named) => grants.extend(named),
                        Err(reason) => {
                            self.problems.add(&policy.origin, format!("{long} rule {number}: {reason}"))
                        }
                    }
                }
                grants.push(grant);
                grants.retain(|grant| !grant.ports.is_empty());
                match rule.direction {
                    Direction::Ingress => self.ingress.append(&mut grants),
                    Direction::Egress => self.egress.append(&mut grants),
                }
            }
        }
    }

    /// One grant for each number that the name stands for on pods which `grant` reaches.
    fn by_name(&self, grant: &Grant, (protocol, name): &(String, String)) -> Result<Vec<Grant>, String> {
        let key = encode::port_key(protocol, name)?;
        let reached = self.pods.values().filter(|labels| grant.to.meets(labels));
        let numbers: BTreeSet<&LabelValue> = reached.filter_map(|labels| labels.get(&key)).collect();
        if numbers.is_empty() {
            return Err(format!(
                "no pod of the manifests that it reaches defines a {protocol} port named {name:?}"
            ));
        }
        let named = |number: &LabelValue| -> Result<Grant, String> {
            let mut to = grant.to.clone();
            to.require_value(key.clone(), number.clone());
            let number = number.as_str().parse().map_err(|_| format!("{number} is not a port"))?;
            let ports = ports::one(protocol, number)?;
            let (id, why) = (grant.id.clone(), format!("{}, port {name}", grant.why));
            Ok(Grant { from: grant.from.clone(), to, ports, id, why })
        };
        numbers.into_iter().map(named).collect()
    }
}

/// What one policy selects.
struct PolicySelections {
    /// `None` when it cannot be read.
    selected: Option<Selection>,
    rules: Vec<RuleSelections>,
    wrong: Vec<String>,
}

struct RuleSelections {
    direction: Direction,
    /// From 1.
    number: usize,
    peers: Vec<Selection>,
    ports: Ports,
}

impl PolicySelections {
    fn read(namespace: &str, policy: &Policy) -> Self {
        let mut read = Self { selected: None, rules: Vec::new(), wrong: Vec::new() };
        match Selection::pods(namespace, policy.spec.pod_selector.as_ref()) {
            Ok(selected) => read.selected = Some(selected),
            Err(reason) => read.wrong.push(format!("podSelector: {reason}")),
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            // Rules of a direction that the policy is not about permit nothing and forbid nothing.
            if policy.spec.isolates(direction) {
                read.read_rules(namespace, policy, direction);
            }
        }
        read
    }

    fn read_rules(&mut self, namespace: &str, policy: &Policy, direction: Direction) {
        for (at, rule) in policy.spec.rules(direction).iter().enumerate() {
            let number = at + 1;
            let place = match direction {
                Direction::Ingress => format!("ingress rule {number}"),
                Direction::Egress => format!("egress rule {number}"),
            };
            let mut peers = Vec::new();
            let mut take = |peer: Result<Selection, String>, at: &str| match peer {
                Ok(peer) => peers.push(peer),
                Err(reason) => self.wrong.push(format!("{place}{at}: {reason}")),
            };
            if rule.peers.is_empty() {
                take(Ok(Selection::everything()), "");
            }
            for (at, peer) in rule.peers.iter().enumerate() {
                take(Selection::peer(namespace, peer), &format!(", peer {}", at + 1));
            }
            match Ports::read(rule.ports) {
                Ok(ports) => self.rules.push(RuleSelections { direction, number, peers, ports }),
                Err(reasons) => {
                    self.wrong.extend(reasons.into_iter().map(|reason| format!("{place}, {reason}")));
                }
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Selection> {
        self.selected.iter().chain(self.rules.iter().flat_map(|rule| &rule.peers))
    }

    fn named_ports(&self) -> impl Iterator<Item = &(String, String)> {
        self.rules.iter().flat_map(|rule| &rule.ports.names)
    }
}

/// The labels of one pod that `keys` and `names` ask for.
fn pod_labels(
    namespace: &str,
    pod: &super::manifest::Pod,
    cluster: &Cluster,
    keys: &BTreeSet<&LabelKey>,
    names: &BTreeSet<&(String, String)>,
) -> Result<BTreeMap<LabelKey, LabelValue>, String> {
    let mut labels = BTreeMap::from([(encode::own_key(NAMESPACE_KEY), encode::value(namespace)?)]);
    let mut take = |key: Result<LabelKey, String>, value: &str| -> Result<(), String> {
        // A key that cannot be written is in no selector either, or that selector was refused.
        if let Ok(key) = key
            && keys.contains(&key)
        {
            labels.insert(key, encode::value(value)?);
        }
        Ok(())
    };
    for (key, value) in &pod.labels {
        take(encode::pod_key(key), value)?;
    }
    for (key, value) in cluster.namespaces.get(namespace).into_iter().flatten() {
        take(encode::namespace_key(key), value)?;
    }
    for name in names {
        if let (Some(number), Ok(key)) = (pod.ports.get(*name), encode::port_key(&name.0, &name.1)) {
            labels.insert(key, encode::value(&number.to_string())?);
        }
    }
    Ok(labels)
}
