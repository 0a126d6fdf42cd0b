//! Who can reach a node, and what a node can reach: exactly, at one moment.

use bulkhead_identity::{NodeName, Timestamp};

use crate::{Class, Classes, Polarity, PortSet, Rule, RuleId, Service, question::Census};

/// One node that can reach, or be reached.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reachable {
    /// The other node.
    pub node: NodeName,
    /// On these services, all `never` rules subtracted.
    pub ports: PortSet,
    /// By these allow rules, ordered by id.
    pub rules: Vec<RuleId>,
}

impl Census {
    /// Every other node that may open a flow to `node` at `wall`, ordered by name; on one of `ports` where
    /// given. `None`: no such node.
    #[must_use]
    pub fn who_can(
        &self,
        node: &NodeName,
        ports: Option<&PortSet>,
        wall: Timestamp,
    ) -> Option<Vec<Reachable>> {
        let class = self.class(node)?;
        Some(self.others(node, |other| open_between(&self.classes, other, class, ports, wall)))
    }

    /// Every other node to which `node` may open a flow at `wall`, as [`Census::who_can`].
    #[must_use]
    pub fn from(&self, node: &NodeName, ports: Option<&PortSet>, wall: Timestamp) -> Option<Vec<Reachable>> {
        let class = self.class(node)?;
        Some(self.others(node, |other| open_between(&self.classes, class, other, ports, wall)))
    }

    fn others(
        &self,
        node: &NodeName,
        open: impl Fn(&Class) -> Option<(PortSet, Vec<RuleId>)>,
    ) -> Vec<Reachable> {
        let mut reachable = Vec::new();
        for members in &self.members {
            let Some((ports, rules)) = open(&members.class) else { continue };
            let others = members.nodes.iter().filter(|other| *other != node);
            reachable.extend(others.map(|other| Reachable {
                node: other.clone(),
                ports: ports.clone(),
                rules: rules.clone(),
            }));
        }
        reachable.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        reachable
    }
}

/// What `from` may open to `to` at `wall`, and the rules that allow it; `None` when nothing.
pub(super) fn open_between(
    classes: &Classes,
    from: &Class,
    to: &Class,
    within: Option<&PortSet>,
    wall: Timestamp,
) -> Option<(PortSet, Vec<RuleId>)> {
    let allow: Vec<_> = holding(classes, Polarity::Allow, from, to, wall).collect();
    if allow.is_empty() {
        return None;
    }
    let forbidden = union(holding(classes, Polarity::Never, from, to, wall));
    let left = |ports: &PortSet| {
        let left = ports.difference(&forbidden);
        within.map_or(left.clone(), |within| left.intersection(within))
    };
    let rules = allow.iter().filter(|rule| !left(&rule.ports).is_empty()).map(|rule| rule.id.clone());
    let rules: Vec<_> = rules.collect();
    (!rules.is_empty()).then(|| (left(&union(allow.into_iter())), rules))
}

/// The rule of the smallest id that allows `service`, unless a `never` forbids it.
pub(super) fn allowing<'a>(
    classes: &'a Classes,
    from: &'a Class,
    to: &'a Class,
    service: Service,
    wall: Timestamp,
) -> Option<&'a Rule> {
    let speaks = |rule: &&Rule| rule.ports.contains(service);
    let forbidden = holding(classes, Polarity::Never, from, to, wall).any(|rule| speaks(&rule));
    if forbidden { None } else { holding(classes, Polarity::Allow, from, to, wall).find(speaks) }
}

/// The rules that join the two and hold at `wall`, ordered by id.
fn holding<'a>(
    classes: &'a Classes,
    polarity: Polarity,
    from: &'a Class,
    to: &'a Class,
    wall: Timestamp,
) -> impl Iterator<Item = &'a Rule> {
    let rules = classes.rules().of(polarity);
    classes.numbers(polarity, from, to).map(|number| &rules[number]).filter(move |rule| rule.holds_at(wall))
}

/// The services of all `rules` together.
pub(super) fn union<'a>(mut rules: impl Iterator<Item = &'a Rule>) -> PortSet {
    let first = rules.next().map(|rule| rule.ports.clone()).unwrap_or_default();
    rules.fold(first, |set, rule| set.union(&rule.ports))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Subject,
        class::tests::{nodes, rules},
    };

    const SERVICES: [Service; 5] =
        [Service::Tcp(1), Service::Tcp(9), Service::Udp(1), Service::Echo, Service::Ip(47)];

    proptest! {
        #[test]
        fn who_can_and_from_are_what_each_pair_of_nodes_decides(
            rules in rules(), nodes in nodes(), wall in (0u64..10).prop_map(Timestamp)
        ) {
            let census = Census::new(&rules, &nodes);
            let allowed = |from: &Subject, to: &Subject| -> Vec<_> {
                let decide = |service: &Service| rules.decide(from, to, *service, wall).is_allowed();
                SERVICES.into_iter().filter(|service| from.name != to.name && decide(service)).collect()
            };
            let found = |answer: &[Reachable], node: &NodeName| -> Vec<_> {
                let ports = answer.iter().find(|each| each.node == *node).map(|each| &each.ports);
                SERVICES.into_iter().filter(|&service| ports.is_some_and(|ports| ports.contains(service))).collect()
            };
            for node in &nodes {
                let who = census.who_can(&node.name, None, wall).unwrap();
                let reach = census.from(&node.name, None, wall).unwrap();
                for other in &nodes {
                    prop_assert_eq!(found(&who, &other.name), allowed(other, node));
                    prop_assert_eq!(found(&reach, &other.name), allowed(node, other));
                }
                let ssh = PortSet::parse("tcp/9").unwrap();
                for each in census.from(&node.name, Some(&ssh), wall).unwrap() {
                    prop_assert_eq!(&each.ports, &ssh);
                    for rule in &each.rules {
                        let rule = rules.allow.iter().find(|known| known.id == *rule).unwrap();
                        prop_assert!(rule.ports.contains(Service::Tcp(9)) && rule.holds_at(wall));
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_is_asked_about_a_node_that_is_not_there() {
        let census = Census::new(&crate::RuleSet::default(), &[]);
        assert_eq!(census.who_can(&NodeName::parse("ghost").unwrap(), None, Timestamp(0)), None);
    }
}
