//! What the rules grant between one subject and each of many others, worked out once and kept once for all whom
//! the same rules join.
//!
//! The property: nobody is granted anything else than [`Classes::grants`] says of the two. It holds because grants
//! are made of the rules that join a pair and of nothing else, and which those are depends on labels alone unless a
//! rule asks for a name; a property test says so.

use std::{collections::BTreeMap, sync::Arc};

use bulkhead_identity::{Labels, NodeName, Timestamp};

use crate::{
    Class, Classes, Subject,
    class::Joining,
    grant::{Grants, Window},
};

/// The grants of both directions. Shared ones are compared by address first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Both {
    pub(crate) inbound: Arc<Grants>,
    pub(crate) outbound: Arc<Grants>,
}

/// One subject, and what was found of it and others.
#[derive(Debug)]
pub(crate) struct Pairs<'p> {
    classes: &'p Classes,
    mine: Class,
    validity: Window,
    wall: Timestamp,
    by_labels: BTreeMap<&'p Labels, Option<Both>>,
    by_rules: BTreeMap<Joining, Shared>,
}

/// Grants, and whether they ever grant anything.
#[derive(Clone, Debug)]
struct Shared {
    grants: Arc<Grants>,
    ever: bool,
}

impl<'p> Pairs<'p> {
    pub(crate) fn new(classes: &'p Classes, me: &Subject, validity: Window, wall: Timestamp) -> Self {
        let (by_labels, by_rules) = (BTreeMap::new(), BTreeMap::new());
        Self { classes, mine: classes.of(me), validity, wall, by_labels, by_rules }
    }

    /// `None` when nothing is granted in either direction, now or later.
    pub(crate) fn with(&mut self, name: &NodeName, labels: &'p Labels) -> Option<Both> {
        if self.classes.is_named(name) {
            return self.find(name, labels);
        }
        if let Some(found) = self.by_labels.get(labels) {
            return found.clone();
        }
        let found = self.find(name, labels);
        self.by_labels.insert(labels, found.clone());
        found
    }

    fn find(&mut self, name: &NodeName, labels: &Labels) -> Option<Both> {
        let theirs = self.classes.of(&Subject { name: name.clone(), labels: labels.clone() });
        let inbound = self.of_rules(self.classes.joining(&theirs, &self.mine));
        let outbound = self.of_rules(self.classes.joining(&self.mine, &theirs));
        let any = inbound.ever || outbound.ever;
        any.then_some(Both { inbound: inbound.grants, outbound: outbound.grants })
    }

    fn of_rules(&mut self, joining: Joining) -> Shared {
        if let Some(found) = self.by_rules.get(&joining) {
            return found.clone();
        }
        let grants = Arc::new(self.classes.grants_of(&joining, self.validity));
        let shared = Shared { ever: grants.ever(self.wall), grants };
        self.by_rules.insert(joining, shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        RuleSet,
        class::tests::{nodes, rules, subject},
        rule::tests::rule,
        selector::Polarity,
    };

    /// As the language says it, rule by rule and for this pair alone.
    fn alone(rules: &RuleSet, from: &Subject, to: &Subject, validity: Window) -> Grants {
        let allow = rules.allow.iter().filter(|rule| rule.joins(Polarity::Allow, from, to));
        let never = rules.never.iter().filter(|rule| rule.joins(Polarity::Never, from, to));
        Grants::new(allow, never, validity)
    }

    proptest! {
        /// Names repeat on purpose: rules ask for some of them.
        #[test]
        fn what_is_shared_is_what_each_pair_has_alone(
            rules in rules(), me in subject(),
            peers in (nodes(), proptest::collection::vec(subject(), 0..8)).prop_map(|(a, b)| [a, b].concat()),
            wall in (0u64..10).prop_map(Timestamp), end in (0u64..12).prop_map(Timestamp),
        ) {
            let (classes, validity) = (rules.classes(), Window { start: Timestamp(1), end });
            let mut pairs = Pairs::new(&classes, &me, validity, wall);
            for peer in &peers {
                let inbound = Arc::new(alone(&rules, peer, &me, validity));
                let outbound = Arc::new(alone(&rules, &me, peer, validity));
                let any = inbound.ever(wall) || outbound.ever(wall);
                prop_assert_eq!(pairs.with(&peer.name, &peer.labels), any.then_some(Both { inbound, outbound }));
            }
        }
    }

    fn node(number: usize, labels: &str) -> Subject {
        crate::rule::tests::subject(&format!("n{number}"), labels)
    }

    #[test]
    fn ten_thousand_peers_of_one_class_hold_one_set_of_grants() {
        let allow = (0..50).map(|n| rule(&format!("r{n}"), "app=web", "*", "tcp/1")).collect();
        let classes = RuleSet::new(allow, Vec::new()).classes();
        let peers: Vec<_> = (0..10_000).map(|number| node(number, "app=web")).collect();
        let mut pairs = Pairs::new(&classes, &node(0, "app=web"), Window::ALWAYS, Timestamp(0));
        let held: Vec<_> = peers.iter().map(|peer| pairs.with(&peer.name, &peer.labels).unwrap()).collect();
        assert!(held.iter().all(|both| Arc::ptr_eq(&both.inbound, &held[0].inbound)));
        // Both directions are the same here.
        assert_eq!(Arc::strong_count(&held[0].inbound), 2 * (10_000 + 1) + 1);
    }

    #[test]
    fn other_labels_that_no_rule_asks_for_and_names_that_one_asks_for_make_no_second_set() {
        let allow = vec![rule("a", "app=web", "*", "tcp/1"), rule("b", "*", "node:n7", "tcp/2")];
        let classes = RuleSet::new(allow, Vec::new()).classes();
        let peers: Vec<_> = (1..10).map(|number| node(number, &format!("app=web,rack=r{number}"))).collect();
        let mut pairs = Pairs::new(&classes, &node(0, ""), Window::ALWAYS, Timestamp(0));
        let held: Vec<_> = peers.iter().map(|peer| pairs.with(&peer.name, &peer.labels).unwrap()).collect();
        assert!(held.iter().all(|both| Arc::ptr_eq(&both.inbound, &held[0].inbound)));
        let named: Vec<_> = held
            .iter()
            .map(|both| both.outbound.allows(crate::Service::Tcp(2), Timestamp(0)).is_some())
            .collect();
        assert_eq!(named, (1..10).map(|number| number == 7).collect::<Vec<_>>());
    }
}
