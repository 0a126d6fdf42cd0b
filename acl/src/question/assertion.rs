//! "This can never be": shown for all label combinations that the schema allows, or refuted by an example.

use std::{collections::BTreeMap, ops::ControlFlow};

use bulkhead_identity::{Labels, NodeName, Timestamp};

use crate::{
    Class, Names, Polarity, PortSet, RuleId, RuleSet, Schema, Selector, Service, Subject,
    question::{
        TooMany, When,
        block::{Block, Remainder},
        reach::{allowing, open_between},
        who::Who,
    },
};

/// Whether something can never be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "assertion", rename_all = "snake_case")]
pub enum Assertion {
    /// No two identities that the schema allows can do it.
    Holds,
    /// These two can.
    Counterexample {
        /// Who opens the flow.
        from: Example,
        /// Who answers.
        to: Example,
        /// A service that they may.
        service: Service,
        /// The rule that allows it.
        rule: RuleId,
        /// Where it was written.
        file: String,
        /// Where it was written, from 1.
        line: usize,
    },
}

/// An identity that might be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Example {
    /// Its name, where a rule asks for that name; otherwise any other.
    pub node: Option<NodeName>,
    /// Its labels.
    pub labels: Labels,
}

/// Whether no identity in `from` may open any of `ports` to one in `to`. At one moment a counterexample can be seen
/// there; for all that are to come, what [`Assertion::Holds`] is never to be seen.
///
/// As in a `never` rule, a negative term of `from` and `to` includes identities without the label.
///
/// # Errors
/// When the rules are too many and too entangled to be decided within a limit.
pub fn assert_never(
    names: &Names,
    rules: &RuleSet,
    from: &Selector,
    to: &Selector,
    ports: &PortSet,
    when: impl Into<When>,
) -> Result<Assertion, TooMany> {
    let schema = names.schema();
    let Some(asserted) = asserted(schema, Some(from), Some(to), Some(ports)) else {
        return Ok(Assertion::Holds);
    };
    let rules = when.into().timeless(rules);
    let mut remainder = Remainder::new(rules.never.iter(), &asserted, schema);
    for rule in &rules.allow {
        let blocks = Block::of(rule, Polarity::Allow, schema).into_iter();
        for block in blocks.filter_map(|block| block.and(&asserted, schema)) {
            let mut left = None;
            remainder.each(block, |block| {
                left = Some(block);
                ControlFlow::Break(())
            })?;
            let service = left.as_ref().and_then(|block| block.ports.first());
            if let (Some(block), Some(service)) = (left, service) {
                let (from, to) = block.example(schema);
                let (rule, file, line) = (rule.id.clone(), rule.file.clone(), rule.line);
                return Ok(Assertion::Counterexample { from, to, service, rule, file, line });
            }
        }
    }
    Ok(Assertion::Holds)
}

/// As [`assert_never`], of all label combinations that the schema allows and of `nodes` too: a node may carry labels
/// that the schema does not know, conferred before the schema was as it is now, and no combination stands for it.
///
/// # Errors
/// As [`assert_never`].
pub fn assert_never_among(
    names: &Names,
    rules: &RuleSet,
    nodes: &[Subject],
    from: &Selector,
    to: &Selector,
    ports: &PortSet,
    when: impl Into<When>,
) -> Result<Assertion, TooMany> {
    let when = when.into();
    match assert_never(names, rules, from, to, ports, when)? {
        Assertion::Holds => {}
        found @ Assertion::Counterexample { .. } => return Ok(found),
    }
    let strange = |node: &Subject| node.labels.iter().any(|(key, value)| !names.schema().knows(key, value));
    if !nodes.iter().any(strange) {
        return Ok(Assertion::Holds);
    }
    let classes = when.timeless(rules).classes();
    // Nodes of one class are judged alike; two of them are enough to make a pair.
    let side = |selector: &Selector| {
        let mut alike: BTreeMap<(Class, bool), Vec<&Subject>> = BTreeMap::new();
        for node in nodes.iter().filter(|node| selector.matches(node, Polarity::Never)) {
            let members = alike.entry((classes.of(node), strange(node))).or_default();
            if members.len() < 2 {
                members.push(node);
            }
        }
        alike
    };
    let (sources, destinations) = (side(from), side(to));
    for ((source, from_strange), openers) in &sources {
        for ((destination, to_strange), others) in &destinations {
            // Of the others it has been shown.
            if !from_strange && !to_strange {
                continue;
            }
            let pair = openers
                .iter()
                .find_map(|from| others.iter().find(|to| to.name != from.name).map(|to| (*from, *to)));
            let Some((from, to)) = pair else { continue };
            // Without their times, the rules that count are the same at every moment.
            let wall = Timestamp(0);
            let open = open_between(&classes, source, destination, Some(ports), wall);
            let service = open.and_then(|(ports, _)| ports.first());
            let rule = service.and_then(|service| allowing(&classes, source, destination, service, wall));
            if let (Some(service), Some(rule)) = (service, rule) {
                let (rule, file, line) = (rule.id.clone(), rule.file.clone(), rule.line);
                let (from, to) = (Example::of(from), Example::of(to));
                return Ok(Assertion::Counterexample { from, to, service, rule, file, line });
            }
        }
    }
    Ok(Assertion::Holds)
}

impl Example {
    fn of(node: &Subject) -> Self {
        Self { node: Some(node.name.clone()), labels: node.labels.clone() }
    }
}

/// The flows that a question is about, `None` when there can be none. It includes, as a guard rail does,
/// identities of which a label is not known.
pub(super) fn asserted(
    schema: &Schema,
    from: Option<&Selector>,
    to: Option<&Selector>,
    ports: Option<&PortSet>,
) -> Option<Block> {
    let side = |selector: Option<&Selector>| match selector {
        Some(selector) => Who::of(selector, Polarity::Never, schema),
        None => Some(Who::anyone()),
    };
    let ports = ports.cloned().unwrap_or_else(PortSet::any);
    Some(Block { from: side(from)?, to: side(to)?, relations: BTreeMap::new(), ports })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Decision,
        question::exposure::tests::{SERVICES, everyone, few_rules, names, selector},
        rule::tests::rule,
    };

    fn subject(example: Example, stranger: &str) -> Subject {
        let name = example.node.unwrap_or_else(|| NodeName::parse(stranger).unwrap());
        Subject { name, labels: example.labels }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn an_assertion_holds_when_no_combination_of_labels_refutes_it(
            rules in few_rules(), from in selector(), to in selector(), wall in (0u64..10).prop_map(Timestamp)
        ) {
            let ports = PortSet::parse("tcp/1-5, ip/47").unwrap();
            let asked = |a: &Subject, b: &Subject| from.matches(a, Polarity::Never) && to.matches(b, Polarity::Never);
            match assert_never(&names(), &rules, &from, &to, &ports, wall).unwrap() {
                Assertion::Holds => {
                    let destinations = everyone("s2");
                    for source in everyone("s1") {
                        let others = destinations.iter().filter(|other| other.name != source.name);
                        for destination in others.filter(|other| asked(&source, other)) {
                            for service in SERVICES.into_iter().filter(|&service| ports.contains(service)) {
                                prop_assert!(!rules.decide(&source, destination, service, wall).is_allowed());
                            }
                        }
                    }
                }
                Assertion::Counterexample { from, to, service, rule, .. } => {
                    let (source, destination) = (subject(from, "s1"), subject(to, "s2"));
                    prop_assert!(asked(&source, &destination) && ports.contains(service));
                    prop_assert!(source.name != destination.name);
                    match rules.decide(&source, &destination, service, wall) {
                        Decision::Allowed { rule: by, .. } => prop_assert_eq!(by, rule),
                        other @ (Decision::Forbidden { .. } | Decision::NoRule { .. }) => {
                            prop_assert!(false, "{other:?}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_holds_at_any_time_is_at_no_moment_to_come(
            rules in few_rules(), from in selector(), to in selector(), now in 0u64..10
        ) {
            let ports = PortSet::any();
            let ever = When::EverAfter(Timestamp(now));
            let holds = assert_never(&names(), &rules, &from, &to, &ports, ever).unwrap() == Assertion::Holds;
            // Windows of the generated rules end before second 10.
            for wall in (now..12).map(Timestamp).filter(|_| holds) {
                let then = assert_never(&names(), &rules, &from, &to, &ports, wall).unwrap();
                prop_assert_eq!(then, Assertion::Holds);
            }
        }

        #[test]
        fn no_pair_of_nodes_contradicts_what_holds_among_them(
            rules in few_rules(), nodes in crate::class::tests::nodes(), from in selector(), to in selector(),
            now in 0u64..10
        ) {
            let (ports, ever) = (PortSet::any(), When::EverAfter(Timestamp(now)));
            let found = assert_never_among(&names(), &rules, &nodes, &from, &to, &ports, ever).unwrap();
            let openers = nodes.iter().filter(|_| found == Assertion::Holds);
            for source in openers.filter(|node| from.matches(node, Polarity::Never)) {
                let others = nodes.iter().filter(|other| other.name != source.name);
                for destination in others.filter(|node| to.matches(node, Polarity::Never)) {
                    for (service, wall) in SERVICES.into_iter().flat_map(|s| (now..12).map(move |at| (s, at))) {
                        let answer = rules.decide(source, destination, service, Timestamp(wall));
                        prop_assert!(!answer.is_allowed(), "{:?} {:?} {}", source, destination, service);
                    }
                }
            }
        }
    }

    #[test]
    fn a_node_that_the_schema_does_not_know_is_judged_as_it_is() {
        let rules =
            RuleSet::new(vec![rule("all", "a!=x", "*", "tcp/22")], vec![rule("guard", "a=y", "*", "any")]);
        let node = |name: &str, labels: &str| Subject {
            name: NodeName::parse(name).unwrap(),
            labels: Labels::parse(labels).unwrap(),
        };
        let (everyone, any) = (Selector::everyone(), PortSet::any());
        let asked = |nodes: &[Subject]| {
            assert_never_among(&names(), &rules, nodes, &everyone, &everyone, &any, Timestamp(0)).unwrap()
        };
        let known = [node("db", "b=x"), node("web", "a=x")];
        assert_eq!(asked(&known), Assertion::Holds);
        let found = asked(&[known.as_slice(), &[node("old", "a=old")]].concat());
        let Assertion::Counterexample { from, service, .. } = found else { panic!("{found:?}") };
        assert_eq!((from.node.unwrap().as_str(), service), ("old", Service::Tcp(22)));
    }

    #[test]
    fn a_permission_for_the_night_refutes_what_holds_at_noon() {
        let hours = vec![crate::Hours::parse("Mon-Fri 01:00-02:00 UTC").unwrap()];
        let night = crate::Rule { hours: hours.clone(), ..rule("night", "*", "*", "tcp/22") };
        let over = crate::Rule { until: Some(Timestamp(5)), ..rule("over", "*", "*", "tcp/22") };
        let asked = |allow: crate::Rule, never: Vec<crate::Rule>, when: When| {
            let (rules, everyone) = (RuleSet::new(vec![allow], never), Selector::everyone());
            assert_never(&names(), &rules, &everyone, &everyone, &PortSet::any(), when).unwrap()
                == Assertion::Holds
        };
        // Thursday, 1970-01-01T12:00:00Z.
        let noon = Timestamp(12 * 3600);
        assert!(asked(night.clone(), vec![], When::At(noon)));
        assert!(!asked(night.clone(), vec![], When::EverAfter(noon)));
        assert!(asked(over, vec![], When::EverAfter(noon)));
        let guard = rule("guard", "*", "*", "any");
        assert!(asked(night.clone(), vec![guard.clone()], When::EverAfter(noon)));
        let later = crate::Rule { not_before: Some(Timestamp(noon.0 + 1)), ..guard.clone() };
        assert!(!asked(night.clone(), vec![later], When::EverAfter(noon)));
        assert!(!asked(night, vec![crate::Rule { hours, ..guard }], When::EverAfter(noon)));
    }

    #[test]
    fn nobody_has_a_value_that_the_schema_does_not_list() {
        let rules = RuleSet::new(vec![rule("all", "*", "*", "any")], vec![rule("guard", "c", "*", "any")]);
        let asked = |text: &str| {
            let (from, to) = (Selector::parse(text).unwrap(), Selector::everyone());
            assert_never(&names(), &rules, &from, &to, &PortSet::any(), Timestamp(0)).unwrap()
        };
        assert_eq!((asked("c=y"), asked("c=x")), (Assertion::Holds, Assertion::Holds));
        assert!(asked("!c") != Assertion::Holds);
    }

    #[test]
    fn the_counterexample_carries_no_more_labels_than_it_needs() {
        let rules = RuleSet::new(
            vec![rule("web", "a=x", "b!=y, c", "tcp/80-90")],
            vec![rule("guard", "*", "c=x, b=z", "any"), rule("low", "*", "*", "tcp/80")],
        );
        let everyone = Selector::everyone();
        let ports = PortSet::any();
        let found = assert_never(&names(), &rules, &everyone, &everyone, &ports, Timestamp(0)).unwrap();
        let Assertion::Counterexample { from, to, service, .. } = found else { panic!("{found:?}") };
        assert_eq!(
            (from.labels.to_string(), to.labels.to_string(), service.to_string()),
            ("a=x".to_owned(), "b=other,c=x".to_owned(), "tcp/81".to_owned())
        );
    }
}
