//! What a change takes from those who have it: live flows, and the way to a node.

use bulkhead_identity::{NodeName, Timestamp};

use crate::{
    PortSet, RuleId, RuleSet, Service, Subject,
    question::{Census, census::group, difference::Comparison, reach::allowing},
};

/// A flow that is open now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct LiveFlow {
    /// The node that opened it.
    pub from: NodeName,
    /// The node that answers.
    pub to: NodeName,
    /// What it is for.
    pub service: Service,
}

/// A live flow that the new policy ends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CutFlow {
    /// Which.
    pub flow: LiveFlow,
    /// The rule that allows it still.
    pub was: RuleId,
}

/// A node that could reach the target and no longer can.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LostWay {
    /// Which.
    pub node: NodeName,
    /// The services it loses.
    pub lost: PortSet,
    /// The changed rules that take them, ordered by id.
    pub by: Vec<RuleId>,
}

/// Those of `flows` that `old` allows and `new` does not at `wall`, in the order given. A flow of a node that
/// is not among `nodes` is not judged.
#[must_use]
pub fn cut_flows(
    old: &RuleSet,
    new: &RuleSet,
    nodes: &[Subject],
    flows: &[LiveFlow],
    wall: Timestamp,
) -> Vec<CutFlow> {
    let (old, new) = (Census::new(old, nodes), Census::new(new, nodes));
    let cut = flows.iter().filter_map(|flow| {
        let allowing = |census: &Census| {
            let (from, to) = (census.class(&flow.from)?, census.class(&flow.to)?);
            allowing(&census.classes, from, to, flow.service, wall).map(|rule| rule.id.clone())
        };
        let was = allowing(&old)?;
        allowing(&new).is_none().then(|| CutFlow { flow: flow.clone(), was })
    });
    cut.collect()
}

/// The nodes that may open any of `services` to `target` under `old` and may not open it under `new`, at
/// `wall`, ordered by name. None when `target` is not among `nodes`.
#[must_use]
pub fn lost_ways(
    old: &RuleSet,
    new: &RuleSet,
    nodes: &[Subject],
    target: &NodeName,
    services: &PortSet,
    wall: Timestamp,
) -> Vec<LostWay> {
    let (old, new) = (old.classes(), new.classes());
    let groups = group([&old, &new], nodes);
    let Some(to) = groups.iter().find(|group| group.nodes.binary_search(&target).is_ok()) else {
        return Vec::new();
    };
    let mut comparison = Comparison::new(&old, &new, Some(services), wall);
    let mut ways = Vec::new();
    for from in &groups {
        let difference = comparison.between(&from.classes, &to.classes);
        if difference.now.lost.is_empty() {
            continue;
        }
        let others = from.nodes.iter().filter(|name| **name != target);
        ways.extend(others.map(|&name| LostWay {
            node: name.clone(),
            lost: difference.now.lost.clone(),
            by: difference.now.by.clone(),
        }));
    }
    ways.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    ways
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rule::tests::{rule, subject};

    fn scene() -> (RuleSet, RuleSet, Vec<Subject>) {
        let old = RuleSet::new(
            vec![
                rule("admin", "role=ops", "node:coordinator", "tcp/8443"),
                rule("db", "*", "role=db", "tcp/1-9"),
            ],
            vec![],
        );
        let new = RuleSet::new(
            vec![
                rule("admin", "role=boss", "node:coordinator", "tcp/8443"),
                rule("db", "*", "role=db", "tcp/1-4"),
            ],
            vec![],
        );
        let nodes = [("coordinator", ""), ("ann", "role=ops"), ("bob", "role=ops"), ("db", "role=db")];
        (old, new, nodes.map(|(name, labels)| subject(name, labels)).into())
    }

    #[test]
    fn whoever_loses_the_way_to_the_coordinator_is_named() {
        let (old, new, nodes) = scene();
        let target = NodeName::parse("coordinator").unwrap();
        let lost = |services: &str| -> Vec<_> {
            let services = PortSet::parse(services).unwrap();
            let ways = lost_ways(&old, &new, &nodes, &target, &services, Timestamp(0));
            ways.into_iter().map(|way| format!("{} {} {}", way.node, way.lost, way.by[0])).collect()
        };
        assert_eq!(lost("any"), ["ann tcp/8443 admin", "bob tcp/8443 admin"]);
        assert_eq!(lost("tcp/8443"), lost("any"));
        assert!(lost("tcp/22").is_empty());
    }

    #[test]
    fn a_live_flow_is_cut_when_only_the_old_policy_allows_it() {
        let (old, new, nodes) = scene();
        let flow = |from: &str, to: &str, port| LiveFlow {
            from: NodeName::parse(from).unwrap(),
            to: NodeName::parse(to).unwrap(),
            service: Service::Tcp(port),
        };
        let flows = [
            flow("ann", "db", 3),
            flow("ann", "db", 5),
            flow("bob", "coordinator", 8443),
            flow("db", "ann", 5),
            flow("ghost", "db", 5),
        ];
        let cut: Vec<_> = cut_flows(&old, &new, &nodes, &flows, Timestamp(0))
            .into_iter()
            .map(|cut| (cut.flow, cut.was.0.to_string()))
            .collect();
        assert_eq!(cut, [(flows[1].clone(), "db".to_owned()), (flows[2].clone(), "admin".to_owned())]);
    }
}
