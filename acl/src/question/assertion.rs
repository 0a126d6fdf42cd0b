//! "This can never be": shown for all label combinations that the schema allows, or refuted by an example.

use std::{collections::BTreeMap, ops::ControlFlow};

use bulkhead_identity::{Labels, NodeName, Timestamp};

use crate::{
    Names, Polarity, PortSet, Rule, RuleId, RuleSet, Schema, Selector, Service,
    question::{
        TooMany,
        block::{Block, Remainder},
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

/// Whether no identity in `from` may open any of `ports` to one in `to` at `wall`.
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
    wall: Timestamp,
) -> Result<Assertion, TooMany> {
    let schema = names.schema();
    let Some(asserted) = asserted(schema, Some(from), Some(to), Some(ports)) else {
        return Ok(Assertion::Holds);
    };
    let holding = |rule: &&Rule| rule.holds_at(wall);
    let mut remainder = Remainder::new(rules.never.iter().filter(holding), &asserted, schema);
    for rule in rules.allow.iter().filter(holding) {
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
        Decision, Subject,
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
