//! NetworkPolicies as <https://kubernetes.io/docs/concepts/services-networking/network-policies/> describes them:
//! pods, namespaces, policies, and whether one pod may connect to another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub type Labels = BTreeMap<&'static str, &'static str>;

#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub namespaces: BTreeMap<&'static str, Labels>,
    pub pods: Vec<Pod>,
    pub policies: Vec<Policy>,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: &'static str,
    pub name: String,
    pub labels: Labels,
    /// Named ports.
    pub ports: BTreeMap<&'static str, (Protocol, u16)>,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub namespace: &'static str,
    pub name: String,
    pub selector: Selector,
    pub types: Option<Vec<Direction>>,
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub peers: Option<Vec<Peer>>,
    pub ports: Option<Vec<Port>>,
}

/// At least one of the two.
#[derive(Clone, Debug)]
pub struct Peer {
    pub pods: Option<Selector>,
    pub namespaces: Option<Selector>,
}

#[derive(Clone, Debug)]
pub struct Port {
    pub protocol: Option<Protocol>,
    pub port: Option<Target>,
    pub end: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
pub enum Target {
    Number(u16),
    Name(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Debug, Default)]
pub struct Selector {
    pub labels: Labels,
    pub expressions: Vec<(&'static str, Operator)>,
}

#[derive(Clone, Debug)]
pub enum Operator {
    In(Vec<&'static str>),
    NotIn(Vec<&'static str>),
    Exists,
    DoesNotExist,
}

impl Cluster {
    /// "For a connection from a source pod to a destination pod to be allowed, both the egress policy on the
    /// source pod and the ingress policy on the destination pod need to allow the connection."
    pub fn connects(&self, from: &Pod, to: &Pod, protocol: Protocol, port: u16) -> bool {
        self.allows(Direction::Egress, from, to, to, protocol, port)
            && self.allows(Direction::Ingress, to, from, to, protocol, port)
    }

    /// One half: `pod` is the one that policies select, `other` is the peer in their rules.
    fn allows(
        &self,
        way: Direction,
        pod: &Pod,
        other: &Pod,
        to: &Pod,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let applying: Vec<_> = self.policies.iter().filter(|policy| policy.applies(way, pod)).collect();
        // "By default, a pod is non-isolated; all connections are allowed."
        applying.is_empty()
            || applying.iter().any(|policy| {
                policy.rules(way).iter().any(|rule| {
                    // "If this field is empty or missing, this rule matches all …"
                    let peers = rule.peers.as_deref().unwrap_or_default();
                    let ports = rule.ports.as_deref().unwrap_or_default();
                    (peers.is_empty() || peers.iter().any(|peer| self.is(peer, policy, other)))
                        && (ports.is_empty() || ports.iter().any(|item| item.is(to, protocol, port)))
                })
            })
    }

    /// A `podSelector` alone speaks of the policy's own namespace, a `namespaceSelector` alone of all pods in the
    /// namespaces, both of the pods in the namespaces.
    fn is(&self, peer: &Peer, policy: &Policy, other: &Pod) -> bool {
        let pods = peer.pods.as_ref().is_none_or(|pods| pods.selects(&other.labels));
        let namespace = match &peer.namespaces {
            Some(namespaces) => namespaces.selects(&self.namespace_labels(other.namespace)),
            None => other.namespace == policy.namespace,
        };
        pods && namespace
    }

    /// "The control plane sets an immutable label kubernetes.io/metadata.name on all namespaces."
    fn namespace_labels(&self, name: &'static str) -> Labels {
        let mut labels = self.namespaces[name].clone();
        labels.insert("kubernetes.io/metadata.name", name);
        labels
    }
}

impl Policy {
    /// "If no policyTypes are specified on a NetworkPolicy then by default Ingress will always be set and Egress
    /// will be set if the NetworkPolicy has any egress rules."
    fn applies(&self, way: Direction, pod: &Pod) -> bool {
        let about = match (&self.types, way) {
            (Some(types), way) => types.contains(&way),
            (None, Direction::Ingress) => true,
            (None, Direction::Egress) => self.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        };
        about && pod.namespace == self.namespace && self.selector.selects(&pod.labels)
    }

    fn rules(&self, way: Direction) -> &[Rule] {
        match way {
            Direction::Ingress => self.ingress.as_deref().unwrap_or_default(),
            Direction::Egress => self.egress.as_deref().unwrap_or_default(),
        }
    }
}

impl Selector {
    /// An empty selector selects everything; `NotIn` selects what lacks the label, unlike in our language.
    fn selects(&self, labels: &Labels) -> bool {
        let has = |(key, value): (&&'static str, &&'static str)| labels.get(key) == Some(value);
        self.labels.iter().all(has)
            && self.expressions.iter().all(|(key, operator)| match operator {
                Operator::In(values) => labels.get(key).is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => labels.get(key).is_none_or(|value| !values.contains(value)),
                Operator::Exists => labels.contains_key(key),
                Operator::DoesNotExist => !labels.contains_key(key),
            })
    }
}

impl Port {
    /// A named port is that of the pod which answers.
    fn is(&self, to: &Pod, protocol: Protocol, port: u16) -> bool {
        let number = match (self.port, self.end) {
            (None, _) => true,
            (Some(Target::Number(first)), Some(last)) => (first..=last).contains(&port),
            (Some(Target::Number(number)), None) => number == port,
            (Some(Target::Name(name)), _) => to.ports.get(name) == Some(&(protocol, port)),
        };
        number && self.protocol.unwrap_or(Protocol::Tcp) == protocol
    }
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// Manifests. JSON is YAML.
impl Cluster {
    pub fn manifests(&self) -> String {
        let namespaces = self.namespaces.iter().map(|(name, labels)| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        });
        let objects = namespaces.chain(self.pods.iter().map(Pod::manifest));
        let objects = objects.chain(self.policies.iter().map(Policy::manifest));
        objects.map(|object| format!("---\n{object:#}\n")).collect()
    }
}

impl Pod {
    fn manifest(&self) -> Value {
        let ports = self.ports.iter().map(|(name, (protocol, number))| {
            json!({"name": name, "containerPort": number, "protocol": protocol.name()})
        });
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels},
            "spec": {"containers": [{"name": "main", "image": "x", "ports": ports.collect::<Vec<_>>()}]},
        })
    }
}

impl Policy {
    fn manifest(&self) -> Value {
        let mut spec = json!({"podSelector": self.selector.manifest()});
        let types = |types: &Vec<Direction>| types.iter().map(|way| format!("{way:?}")).collect::<Vec<_>>();
        if let Some(given) = &self.types {
            spec["policyTypes"] = json!(types(given));
        }
        for (key, peers, rules) in [("ingress", "from", &self.ingress), ("egress", "to", &self.egress)] {
            if let Some(rules) = rules {
                spec[key] = rules.iter().map(|rule| rule.manifest(peers)).collect();
            }
        }
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        })
    }
}

impl Rule {
    fn manifest(&self, key: &str) -> Value {
        let mut rule = json!({});
        if let Some(peers) = &self.peers {
            rule[key] = peers.iter().map(Peer::manifest).collect();
        }
        if let Some(ports) = &self.ports {
            rule["ports"] = ports.iter().map(Port::manifest).collect();
        }
        rule
    }
}

impl Peer {
    fn manifest(&self) -> Value {
        let mut peer = json!({});
        for (key, selector) in [("podSelector", &self.pods), ("namespaceSelector", &self.namespaces)] {
            if let Some(selector) = selector {
                peer[key] = selector.manifest();
            }
        }
        peer
    }
}

impl Port {
    fn manifest(&self) -> Value {
        let mut port = json!({});
        if let Some(protocol) = self.protocol {
            port["protocol"] = protocol.name().into();
        }
        match self.port {
            Some(Target::Number(number)) => port["port"] = number.into(),
            Some(Target::Name(name)) => port["port"] = name.into(),
            None => {}
        }
        if let Some(end) = self.end {
            port["endPort"] = end.into();
        }
        port
    }
}

impl Selector {
    fn manifest(&self) -> Value {
        let mut selector = json!({});
        if !self.labels.is_empty() {
            selector["matchLabels"] = json!(self.labels);
        }
        let expressions = self.expressions.iter().map(|(key, operator)| match operator {
            Operator::In(values) => json!({"key": key, "operator": "In", "values": values}),
            Operator::NotIn(values) => json!({"key": key, "operator": "NotIn", "values": values}),
            Operator::Exists => json!({"key": key, "operator": "Exists"}),
            Operator::DoesNotExist => json!({"key": key, "operator": "DoesNotExist"}),
        });
        let expressions: Vec<_> = expressions.collect();
        if !expressions.is_empty() {
            selector["matchExpressions"] = expressions.into();
        }
        selector
    }
}
