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

/// A node that could reach the target and no longer can, or not for long.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LostWay {
    /// Which.
    pub node: NodeName,
    /// The services it loses.
    pub lost: PortSet,
    /// When.
    #[serde(flatten)]
    pub loss: Loss,
    /// The changed rules that take them, ordered by id.
    pub by: Vec<RuleId>,
}

/// When a way is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(tag = "loss", content = "from", rename_all = "snake_case")]
pub enum Loss {
    /// At once.
    Now,
    /// From this moment on, or at times of which this is the first: the old policy permits it then still.
    Later(Timestamp),
    /// It may be kept: there were more moments than are looked at.
    Unknown,
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

/// The nodes that may open any of `services` to `target` under `old` and may not open it under `new`, at `wall`
/// or at any moment after, ordered by name and then by when: a way that the new policy opens for a time only is
/// lost when that is over. None when `target` is not among `nodes`.
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
        let now = Some((Loss::Now, &difference.now.lost, difference.now.by.as_slice()));
        let later = difference.ends.zip(difference.later.as_ref());
        let later = later.map(|(at, (_, change))| (Loss::Later(at), &change.lost, change.by.as_slice()));
        // What was not looked at is not known to be kept.
        let unknown = (!difference.complete).then_some((Loss::Unknown, services, &[][..]));
        let losses = [now, later, unknown].into_iter().flatten().filter(|(_, lost, _)| !lost.is_empty());
        for (loss, lost, by) in losses {
            let others = from.nodes.iter().filter(|name| **name != target);
            ways.extend(others.map(|&name| LostWay {
                node: name.clone(),
                lost: lost.clone(),
                loss,
                by: by.to_vec(),
            }));
        }
    }
    ways.sort_unstable_by(|a, b| (&a.node, a.loss).cmp(&(&b.node, b.loss)));
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
    fn a_way_that_is_open_for_a_time_only_is_lost_when_that_is_over() {
        let (old, _, nodes) = scene();
        let target = NodeName::parse("coordinator").unwrap();
        let noon = Timestamp(12 * 3600);
        let losses = |rule: crate::Rule| -> Vec<Loss> {
            let new = RuleSet::new(vec![rule], vec![]);
            let ways = lost_ways(&old, &new, &nodes, &target, &PortSet::parse("tcp/8443").unwrap(), noon);
            ways.into_iter().filter(|way| way.node.as_str() == "ann").map(|way| way.loss).collect()
        };
        let admin = || old.allow.iter().find(|rule| &*rule.id.0 == "admin").unwrap().clone();
        let end = Timestamp(noon.0 + 5);
        assert!(losses(admin()).is_empty());
        assert_eq!(losses(crate::Rule { until: Some(end), ..admin() }), [Loss::Later(end)]);
        assert_eq!(losses(crate::Rule { not_before: Some(end), ..admin() }), [Loss::Now]);
        // Thursday, 1970-01-01.
        let hours = vec![crate::Hours::parse("Mon-Fri 06:00-22:00 UTC").unwrap()];
        assert_eq!(losses(crate::Rule { hours, ..admin() }), [Loss::Later(Timestamp(22 * 3600))]);
    }

    #[test]
    fn an_earlier_gain_does_not_date_a_loss() {
        let (old, _, nodes) = scene();
        let target = NodeName::parse("coordinator").unwrap();
        let (start, end) = (Timestamp(5), Timestamp(9));
        let admin = rule("admin", "role=ops", "node:coordinator", "tcp/8443");
        let other = crate::Rule { not_before: Some(start), ..rule("x", "*", "node:coordinator", "tcp/22") };
        let new = RuleSet::new(vec![crate::Rule { until: Some(end), ..admin }, other], vec![]);
        let ways = lost_ways(&old, &new, &nodes, &target, &PortSet::any(), Timestamp(0));
        assert!(ways.iter().all(|way| way.loss == Loss::Later(end)) && ways.len() == 2, "{ways:?}");
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
