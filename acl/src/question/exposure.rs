//! What the policy permits, whoever there may be: over all label combinations that the schema allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use bulkhead_identity::LabelKey;

use crate::{
    Names, Polarity, PortSet, RuleId, RuleSet, Schema, Selector, Service, Subject,
    question::{
        When, Who,
        assertion::asserted,
        block::{Block, Relation, Remainder},
    },
    rule::shares,
};

/// Most entries of one answer.
pub const MAX_EXPOSED: usize = 20_000;

/// What to look at; `None`: everything.
#[derive(Clone, Debug, Default)]
pub struct ExposureQuery {
    /// Who opens flows. As in a `never` rule, a negative term includes identities without the label.
    pub from: Option<Selector>,
    /// Who answers.
    pub to: Option<Selector>,
    /// On which services.
    pub ports: Option<PortSet>,
}

/// Flows that may be: every identity in `from` may open `ports` to every other one in `to`, where
/// `same` and `differ` hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exposed {
    /// Who opens.
    pub from: Who,
    /// Who answers.
    pub to: Who,
    /// Labels of which both carry one value.
    pub same: Vec<LabelKey>,
    /// Labels of which they carry different values, or one of them none.
    pub differ: Vec<LabelKey>,
    /// On these services.
    pub ports: PortSet,
    /// By these allow rules, ordered by id.
    pub rules: Vec<RuleId>,
}

/// The exact answer is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rules combine in more than {limit} ways ({name}): narrow the question by from, to or ports")]
pub struct TooMany {
    /// The limit.
    pub limit: usize,
    /// The limit's name.
    pub name: &'static str,
}

/// All that `rules` permit: a flow may be when one of these covers it. Exact at one moment, and never too little
/// for all that are to come.
///
/// # Errors
/// When the answer is larger than a limit.
pub fn exposure(
    names: &Names,
    rules: &RuleSet,
    query: &ExposureQuery,
    when: impl Into<When>,
) -> Result<Vec<Exposed>, TooMany> {
    let schema = names.schema();
    let (from, to) = (query.from.as_ref(), query.to.as_ref());
    let Some(asked) = asserted(schema, from, to, query.ports.as_ref()) else { return Ok(Vec::new()) };
    let rules = when.into().timeless(rules);
    let mut remainder = Remainder::new(rules.never.iter(), &asked, schema);
    let mut exposed: BTreeMap<Block, BTreeSet<&RuleId>> = BTreeMap::new();
    for rule in &rules.allow {
        let blocks = Block::of(rule, Polarity::Allow, schema).into_iter();
        for block in blocks.filter_map(|block| block.and(&asked, schema)) {
            remainder.each(block, |block| {
                exposed.entry(block).or_default().insert(&rule.id);
                if exposed.len() > MAX_EXPOSED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if exposed.len() > MAX_EXPOSED {
                return Err(TooMany { limit: MAX_EXPOSED, name: "MAX_EXPOSED" });
            }
        }
    }
    Ok(exposed.into_iter().map(|(block, rules)| Exposed::new(block, rules, schema)).collect())
}

impl Exposed {
    fn new(block: Block, rules: BTreeSet<&RuleId>, schema: &Schema) -> Self {
        let block = block.aligned(schema);
        let keys = |wanted: Relation| {
            let some = block.relations.iter().filter(|(_, relation)| **relation == wanted);
            some.map(|(key, _)| key.clone()).collect()
        };
        Self {
            same: keys(Relation::Shared),
            differ: keys(Relation::Unshared),
            from: block.from.shortened(schema),
            to: block.to.shortened(schema),
            ports: block.ports,
            rules: rules.into_iter().cloned().collect(),
        }
    }

    /// Whether `from` may open `service` to `to` by this.
    #[must_use]
    pub fn covers(&self, from: &Subject, to: &Subject, service: Service) -> bool {
        self.ports.contains(service)
            && self.from.admits(from)
            && self.to.admits(to)
            && self.same.iter().all(|key| shares(from, to, key.as_str()))
            && self.differ.iter().all(|key| !shares(from, to, key.as_str()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use bulkhead_identity::{Labels, NodeName, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::{Sources, Term, check, class::tests::rule, selector::tests::term};

    pub(in crate::question) const SERVICES: [Service; 5] =
        [Service::Tcp(1), Service::Tcp(9), Service::Udp(1), Service::Echo, Service::Ip(47)];

    /// Values that the schema allows: `a` and `c` as listed, `b` any, of which no rule names `u` and `v`.
    const VALUES: [(&str, &[&str]); 3] =
        [("a", &["x", "y"]), ("b", &["x", "y", "z", "u", "v"]), ("c", &["x"])];

    pub(in crate::question) fn names() -> Names {
        let text =
            "version = 1\n[labels.a]\nvalues = [\"x\", \"y\"]\n[labels.b]\n[labels.c]\nvalues = [\"x\"]\n";
        let sources = Sources([("policy.toml".to_owned(), text.to_owned())].into());
        check(&sources, Timestamp(0)).unwrap().names
    }

    pub(in crate::question) fn few_rules() -> impl Strategy<Value = RuleSet> {
        let named =
            |prefix: &str, count: usize| (0..count).map(|n| rule(format!("{prefix}{n}"))).collect::<Vec<_>>();
        (1usize..4, 0usize..5)
            .prop_flat_map(move |(allow, never)| (named("a", allow), named("n", never)))
            .prop_map(|(allow, never)| RuleSet::new(allow, never))
    }

    pub(in crate::question) fn selector() -> impl Strategy<Value = Selector> {
        proptest::collection::vec(term(), 0..2)
            .prop_map(|terms: Vec<Term>| Selector::all_of(terms).unwrap_or_else(Selector::everyone))
    }

    /// Every identity that the schema allows, as far as rules can tell, under three names.
    pub(in crate::question) fn everyone(stranger: &str) -> Vec<Subject> {
        let mut choices = vec![Vec::new()];
        for (key, values) in VALUES {
            let texts: Vec<_> = values.iter().map(|value| format!("{key}={value}")).collect();
            let with = |choice: &Vec<String>, text: &String| {
                [choice.as_slice(), std::slice::from_ref(text)].concat()
            };
            let more: Vec<_> =
                choices.iter().flat_map(|choice| texts.iter().map(move |text| with(choice, text))).collect();
            choices.extend(more);
        }
        let names = ["n1", "n2", stranger];
        let subjects =
            names.iter().flat_map(|name| choices.iter().map(move |choice| (name, choice.join(","))));
        let subject = |(name, labels): (&&str, String)| Subject {
            name: NodeName::parse(name).unwrap(),
            labels: Labels::parse(&labels).unwrap(),
        };
        subjects.map(subject).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn exposure_is_what_asking_every_combination_of_labels_finds(
            rules in few_rules(), from in selector(), to in selector(), wall in (0u64..10).prop_map(Timestamp)
        ) {
            let ports = PortSet::parse("tcp/1-5, ip/47").unwrap();
            let query = ExposureQuery { from: Some(from.clone()), to: Some(to.clone()), ports: Some(ports.clone()) };
            let exposed = exposure(&names(), &rules, &query, wall).unwrap();
            for source in everyone("s1") {
                for destination in everyone("s2").iter().filter(|to| to.name != source.name) {
                    let asked = from.matches(&source, Polarity::Never) && to.matches(destination, Polarity::Never);
                    for service in SERVICES {
                        let allowed = asked
                            && ports.contains(service)
                            && rules.decide(&source, destination, service, wall).is_allowed();
                        let covered = exposed.iter().any(|each| each.covers(&source, destination, service));
                        prop_assert_eq!(covered, allowed, "{:?} {:?} {}", source, destination, service);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn exposure_at_any_time_lacks_nothing_of_any_moment_to_come(rules in few_rules(), now in 0u64..10) {
            let query = ExposureQuery::default();
            let ever = exposure(&names(), &rules, &query, When::EverAfter(Timestamp(now))).unwrap();
            // Windows of the generated rules end before second 10.
            for wall in (now..12).map(Timestamp) {
                for source in everyone("s1") {
                    for destination in everyone("s2").iter().filter(|to| to.name != source.name).step_by(7) {
                        for service in SERVICES {
                            let allowed = rules.decide(&source, destination, service, wall).is_allowed();
                            let covered = || ever.iter().any(|each| each.covers(&source, destination, service));
                            prop_assert!(!allowed || covered(), "{:?} {:?} {}", source, destination, service);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_answer_reads_as_the_policy_does() {
        let text = r#"
            version = 1
            [labels.env]
            values = ["prod", "stage", "ot"]
            [labels.role]
            values = ["web", "db", "historian", "plc"]
            [[allow]]
            id = "web"
            from = "*"
            to = "role in (db, plc)"
            ports = ["tcp/1-10"]
            [[never]]
            id = "plc-only-from-historian"
            from = "role!=historian"
            to = "role=plc"
            [[never]]
            id = "environments-apart"
            from = "*"
            to = "*"
            differ = ["env"]
            [[never]]
            id = "no-ssh"
            from = "*"
            to = "env=prod"
            ports = ["tcp/5"]
        "#;
        let sources = Sources([("policy.toml".to_owned(), text.to_owned())].into());
        let checked = check(&sources, Timestamp(0)).unwrap();
        let exposed =
            exposure(&checked.names, &checked.rules, &ExposureQuery::default(), Timestamp(0)).unwrap();
        let lines: Vec<_> = exposed
            .iter()
            .map(|each| {
                format!("{} -> {} same {:?} on {}", each.from, each.to, each.same[0].as_str(), each.ports)
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        env=prod, role=historian -> env=prod, role in (db, plc) same "env" on tcp/1-4, tcp/6-10
        env!=prod, role=historian -> env!=prod, role in (db, plc) same "env" on tcp/1-10
        env=prod, (role!=historian or !role) -> env=prod, role=db same "env" on tcp/1-4, tcp/6-10
        env!=prod, (role!=historian or !role) -> env!=prod, role=db same "env" on tcp/1-10
        "#);
    }

    #[test]
    fn guard_rails_that_multiply_are_refused_by_the_limit_s_name() {
        // Each never leaves of every piece as many as it has terms.
        let guard = |n: usize| {
            let terms: Vec<_> = (0..10).map(|key| format!("k{n}.{key}=v")).collect();
            crate::rule::tests::rule(&format!("n{n:03}"), &terms.join(", "), "*", "any")
        };
        let allow = crate::rule::tests::rule("all", "*", "*", "any");
        let rules = RuleSet::new(vec![allow], (0..20).map(guard).collect());
        let refused = exposure(&names(), &rules, &ExposureQuery::default(), Timestamp(0)).unwrap_err();
        assert!(refused.to_string().contains("MAX_EXPOSED"), "{refused}");
        let last = crate::rule::tests::rule("zzz", "*", "*", "any");
        let closed = RuleSet::new(rules.allow, [rules.never, vec![last]].concat());
        let refused = exposure(&names(), &closed, &ExposureQuery::default(), Timestamp(0)).unwrap_err();
        assert!(refused.to_string().contains("MAX_COMBINATIONS"), "{refused}");
    }
}
