//! Questions about whole policies: each answer is what one gets by asking about every pair and every service.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_acl::question::{
    Census, Kind as Spoken, LiveFlow, Loss, Reachable, cut_flows, explain, lost_ways, plan,
};
use bulkhead_acl::{PortSet, RuleSet, Subject};
use bulkhead_identity::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{self, LARGE, labels, moment, questions};
use crate::policy::{Answer, Kind, Node, Policy, Protocol, Service};
use crate::real;

const HOSTS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

/// One service for each stretch of ports that no generated rule tells apart.
pub fn all_services() -> Vec<Service> {
    const PORTS: [u16; 14] = [0, 1, 2, 3, 4, 21, 22, 23, 24, 442, 443, 444, 65534, 65535];
    let ports = |protocol| PORTS.iter().map(move |port| Service::Port(protocol, *port));
    let numbers = [0, 46, 47, 48, 49, 50, 51, 255].map(|number| Service::Port(Protocol::Ip, number));
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .flat_map(ports)
        .chain(numbers)
        .chain([Service::Icmp])
        .collect()
}

/// Which of all services are in the set.
fn spoken(set: &PortSet, services: &[Service]) -> Vec<String> {
    let within = services.iter().filter(|service| set.contains(real::service(**service)));
    within.map(|service| service.text()).collect()
}

/// Some hosts with labels, each name once.
fn hosts() -> impl Strategy<Value = Vec<Node>> {
    vec(labels(), 2..=HOSTS.len())
        .prop_map(|labels| HOSTS.iter().zip(labels).map(|(name, labels)| Node { name, labels }).collect())
}

struct Asked {
    policy: Policy,
    rules: RuleSet,
}

impl Asked {
    fn new(policy: Policy) -> Self {
        let rules = real::rules(&policy);
        Self { policy, rules }
    }

    /// Services that `from` may open to `to`, and the ids of the rules that allow any of them.
    fn open(
        &self,
        from: &Node,
        to: &Node,
        services: &[Service],
        wall: u64,
    ) -> (Vec<String>, BTreeSet<String>) {
        let (mut open, mut by) = (Vec::new(), BTreeSet::new());
        for &service in services {
            if let Answer::Allowed(ids) = self.policy.decide(from, to, service, wall) {
                open.push(service.text());
                by.extend(ids);
            }
        }
        (open, by)
    }
}

/// Who stands at the other end, on what, by what.
type Reach = BTreeMap<String, (Vec<String>, BTreeSet<String>)>;

fn reached(answer: &[Reachable], services: &[Service]) -> Reach {
    let one = |reachable: &Reachable| {
        let rules = reachable.rules.iter().map(|rule| rule.0.to_string()).collect();
        (reachable.node.to_string(), (spoken(&reachable.ports, services), rules))
    };
    answer.iter().map(one).collect()
}

fn subjects(hosts: &[Node]) -> Vec<Subject> {
    hosts.iter().map(real::subject).collect()
}

/// A policy, the day of its times, and another one of the same day: some rules kept, some changed, some new.
fn two_policies() -> impl Strategy<Value = (Policy, Policy, u64)> {
    let pair = generate::weekend().prop_flat_map(|weekend| {
        (generate::policy_of(LARGE, weekend), generate::policy_of(LARGE, weekend), Just(weekend))
    });
    (pair, vec(any::<bool>(), 16)).prop_map(|((old, other, weekend), kept)| {
        let mut new = old.clone();
        for (rule, kept) in new.rules.iter_mut().zip(&kept) {
            if let (false, Some(changed)) = (*kept, other.rules.iter().find(|other| other.id == rule.id)) {
                *rule = changed.clone();
            }
        }
        new.rules.retain(|rule| rule.id != "r3");
        (old, new, weekend)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_can_and_from_are_what_asking_every_node_finds(
        (policy, weekend) in generate::policy(LARGE), hosts in hosts(), by in 0..200_u64, narrow in any::<bool>()
    ) {
        let wall = weekend + by * 1800;
        let asked = Asked::new(policy);
        let census = Census::new(&asked.rules, &subjects(&hosts));
        let filter = PortSet::parse("tcp/2-443, icmp").unwrap();
        let filter = narrow.then_some(&filter);
        let mut services = all_services();
        services.retain(|service| filter.is_none_or(|set| set.contains(real::service(*service))));
        for host in &hosts {
            let name = real::subject(host).name;
            let expected = |incoming: bool| -> Reach {
                let others = hosts.iter().filter(|other| *other != host);
                let reach = others.map(|other| {
                    let (from, to) = if incoming { (other, host) } else { (host, other) };
                    (other.name.to_owned(), asked.open(from, to, &services, wall))
                });
                reach.filter(|(_, (open, _))| !open.is_empty()).collect()
            };
            let who = census.who_can(&name, filter, Timestamp(wall)).unwrap();
            prop_assert_eq!(reached(&who, &all_services()), expected(true));
            prop_assert!(who.is_sorted_by_key(|reachable| reachable.node.clone()));
            let from = census.from(&name, filter, Timestamp(wall)).unwrap();
            prop_assert_eq!(reached(&from, &all_services()), expected(false));
        }
        let stranger = bulkhead_identity::NodeName::parse("stranger").unwrap();
        prop_assert!(census.who_can(&stranger, None, Timestamp(wall)).is_none());
    }

    #[test]
    fn an_explanation_speaks_of_every_rule((policy, questions) in questions(8)) {
        let rules = real::rules(&policy);
        for question in &questions {
            let (from, to) = (real::subject(&question.from), real::subject(&question.to));
            let (service, wall) = (real::service(question.service), Timestamp(question.wall));
            let found = explain(&rules, &from, &to, service, wall);
            prop_assert_eq!(&found.decision, &rules.decide(&from, &to, service, wall));
            prop_assert_eq!(found.considered.len(), policy.rules.len());
            for rule in &policy.rules {
                let of = |spoken: &&bulkhead_acl::question::Considered| *spoken.rule.0 == *rule.id;
                let spoken = found.considered.iter().find(of).unwrap();
                let matched =
                    policy.matches(rule, &question.from, &question.to, question.service, question.wall);
                prop_assert_eq!(spoken.matched, matched, "{} {}", question, rule.id);
                prop_assert_eq!(spoken.missing.is_empty(), matched);
                prop_assert_eq!(spoken.kind == Spoken::Allow, rule.kind == Kind::Allow);
            }
            // Those that matched come first, a never before an allow.
            let order = |spoken: &bulkhead_acl::question::Considered| (!spoken.matched, spoken.missing.len());
            prop_assert!(found.considered.is_sorted_by_key(order));
            let matched: Vec<_> = found.considered.iter().filter(|spoken| spoken.matched).collect();
            prop_assert!(matched.is_sorted_by_key(|spoken| spoken.kind));
        }
    }

    #[test]
    fn a_plan_is_what_comparing_pair_by_pair_finds(
        (old, new, weekend) in two_policies(), hosts in hosts(), by in 0..150_u64, later in vec(moment(1), 24)
    ) {
        let wall = weekend + by * 1800;
        let (old, new) = (Asked::new(old), Asked::new(new));
        let found = plan(&old.rules, &new.rules, &subjects(&hosts), Timestamp(wall));
        let services = all_services();
        let mut now = BTreeMap::new();
        for pair in found.pairs() {
            let changes = (spoken(pair.gained, &services), spoken(pair.lost, &services));
            prop_assert!(!changes.0.is_empty() || !changes.1.is_empty());
            let twice = now.insert((pair.from.to_string(), pair.to.to_string()), changes);
            prop_assert!(twice.is_none());
        }
        let change = |from: &Node, to: &Node, wall| {
            let (before, after) = (old.open(from, to, &services, wall).0, new.open(from, to, &services, wall).0);
            let less = |a: &[String], b: &[String]| -> Vec<String> {
                a.iter().filter(|service| !b.contains(service)).cloned().collect()
            };
            (less(&after, &before), less(&before, &after))
        };
        let pairs = || hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to)));
        let mut gaining = 0;
        for (from, to) in pairs().filter(|(from, to)| from.name != to.name) {
            let (gained, lost) = change(from, to, wall);
            gaining += u64::from(!gained.is_empty());
            let key = (from.name.to_owned(), to.name.to_owned());
            let found = now.get(&key).cloned().unwrap_or_default();
            prop_assert_eq!(&found, &(gained, lost), "{:?} -> {:?}", from, to);
        }
        prop_assert_eq!(found.summary().pairs_gained, gaining);
        // What the plan says of later hides nothing.
        let position = |node: &Node| {
            found.views.iter().position(|view| view.nodes.iter().any(|name| name.as_str() == node.name))
        };
        for (from, to) in pairs().filter(|(from, to)| from.name != to.name) {
            for &at in later.iter().map(|by| weekend + by).filter(|at| *at > wall).collect::<BTreeSet<_>>().iter() {
                let (gained, lost) = change(from, to, at);
                let key = (from.name.to_owned(), to.name.to_owned());
                let (now_gained, now_lost) = now.get(&key).cloned().unwrap_or_default();
                let timed = found.timed.iter().filter(|timed| {
                    Some(timed.from) == position(from) && Some(timed.to) == position(to) && timed.at.0 <= at
                });
                let (mut told_gained, mut told_lost) = (now_gained, now_lost);
                for timed in timed {
                    told_gained.extend(spoken(&timed.gained, &services));
                    told_lost.extend(spoken(&timed.lost, &services));
                }
                prop_assert!(gained.iter().all(|service| told_gained.contains(service)), "{:?} at {}", gained, at);
                prop_assert!(lost.iter().all(|service| told_lost.contains(service)), "{:?} at {}", lost, at);
            }
        }
        for timed in &found.timed {
            prop_assert!(timed.at.0 > wall);
        }
    }

    #[test]
    fn cut_flows_and_lost_ways_are_what_comparing_decisions_finds(
        (old, new, weekend) in two_policies(), hosts in hosts(), by in 0..150_u64
    ) {
        let wall = weekend + by * 1800;
        let (old, new) = (Asked::new(old), Asked::new(new));
        let services = all_services();
        let name = |node: &Node| real::subject(node).name;
        let (mut flows, mut expected) = (Vec::new(), Vec::new());
        for (from, to) in hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to))) {
            if from.name == to.name {
                continue;
            }
            for &service in &services {
                let flow = LiveFlow { from: name(from), to: name(to), service: real::service(service) };
                let before = old.policy.decide(from, to, service, wall);
                if before.is_allowed() && !new.policy.decide(from, to, service, wall).is_allowed() {
                    expected.push((flow.clone(), before.named().map(str::to_owned)));
                }
                flows.push(flow);
            }
        }
        let cut = cut_flows(&old.rules, &new.rules, &subjects(&hosts), &flows, Timestamp(wall));
        let cut: Vec<_> = cut.into_iter().map(|cut| (cut.flow, Some(cut.was.0.to_string()))).collect();
        prop_assert_eq!(cut, expected);

        let target = &hosts[0];
        let way = PortSet::parse("tcp/22, tcp/443").unwrap();
        let ways = [22, 443].map(|port| Service::Port(Protocol::Tcp, port));
        let lost = lost_ways(&old.rules, &new.rules, &subjects(&hosts), &name(target), &way, Timestamp(wall));
        let mut expected = BTreeMap::new();
        for from in hosts.iter().filter(|from| *from != target) {
            let (before, after) = (old.open(from, target, &ways, wall).0, new.open(from, target, &ways, wall).0);
            let gone: Vec<_> = before.iter().filter(|service| !after.contains(service)).cloned().collect();
            if !gone.is_empty() {
                expected.insert(from.name.to_owned(), gone);
            }
        }
        let at_once = lost.iter().filter(|way| way.loss == Loss::Now);
        let at_once: BTreeMap<_, _> =
            at_once.map(|way| (way.node.to_string(), spoken(&way.lost, &services))).collect();
        prop_assert_eq!(at_once, expected);

        // A way that is lost at a later moment is told, too, and not as later than that.
        for at in (1..=350).map(|half_hours| wall + half_hours * 1800) {
            for from in hosts.iter().filter(|from| *from != target) {
                let (before, after) = (old.open(from, target, &ways, at).0, new.open(from, target, &ways, at).0);
                for service in before.iter().filter(|service| !after.contains(service)) {
                    let told = lost.iter().any(|way| {
                        let by_then = match way.loss {
                            Loss::Now | Loss::Unknown => true,
                            Loss::Later(first) => first.0 <= at,
                        };
                        way.node.as_str() == from.name && by_then && spoken(&way.lost, &services).contains(service)
                    });
                    prop_assert!(told, "{} {} at {}", from.name, service, at);
                }
            }
        }
    }
}
