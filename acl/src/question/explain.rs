//! Why: every rule that was considered, the closest first.

use bulkhead_identity::Timestamp;

use crate::{Decision, Polarity, Rule, RuleId, RuleSet, Service, Subject, decide::Question};

/// A decision with all rules that had a part in it, or nearly had.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// The answer.
    pub decision: Decision,
    /// Every rule: those that matched, `never` before `allow`, then those that lack least.
    pub considered: Vec<Considered>,
}

/// Which of the two a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It forbids.
    Never,
    /// It permits.
    Allow,
}

/// One rule and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Considered {
    /// Its id.
    pub rule: RuleId,
    /// Whether it permits or forbids.
    pub kind: Kind,
    /// Where it was written.
    pub file: String,
    /// Where it was written, from 1.
    pub line: usize,
    /// Whether it speaks of this flow at this moment.
    pub matched: bool,
    /// The conditions that do not hold, one sentence each; none when it matched.
    pub missing: Vec<String>,
}

/// Why `from` may or may not open `service` to `to` at `wall`.
#[must_use]
pub fn explain(
    rules: &RuleSet,
    from: &Subject,
    to: &Subject,
    service: Service,
    wall: Timestamp,
) -> Explanation {
    let question = Question { from, to, service, wall };
    let mut considered: Vec<_> = [(Kind::Never, Polarity::Never), (Kind::Allow, Polarity::Allow)]
        .into_iter()
        .flat_map(|(kind, polarity)| rules.of(polarity).iter().map(move |rule| (kind, polarity, rule)))
        .map(|(kind, polarity, rule)| {
            (!rule.ports.contains(service), consider(&question, kind, polarity, rule))
        })
        .collect();
    // As in `Decision::NoRule`: of rules that lack as much, one that speaks of the service says more.
    let distance = |(foreign, each): &(bool, Considered)| (each.missing.len(), *foreign, each.kind);
    considered.sort_by(|a, b| distance(a).cmp(&distance(b)).then_with(|| a.1.rule.cmp(&b.1.rule)));
    Explanation {
        decision: rules.decide(from, to, service, wall),
        considered: considered.into_iter().map(|(_, each)| each).collect(),
    }
}

fn consider(question: &Question<'_>, kind: Kind, polarity: Polarity, rule: &Rule) -> Considered {
    let missing = question.missing(polarity, rule);
    Considered {
        rule: rule.id.clone(),
        kind,
        file: rule.file.clone(),
        line: rule.line,
        matched: missing.is_empty(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{
        class::tests::{rules, subject},
        rule::tests::{rule, subject as named},
    };

    #[test]
    fn the_closest_rule_comes_first_and_a_guard_rail_before_all() {
        let rules = RuleSet::new(
            vec![
                rule("far", "role=plc", "role=plc", "udp/1"),
                rule("near", "role=web", "role=db", "tcp/5432"),
                rule("met", "*", "role=db", "tcp/22"),
            ],
            vec![rule("guard", "*", "role=db", "tcp/22"), rule("aside", "role=plc", "*", "any")],
        );
        let (from, to) = (named("a", "role=web"), named("b", "role=db"));
        let answer = explain(&rules, &from, &to, Service::Tcp(22), Timestamp(0));
        let order: Vec<_> =
            answer.considered.iter().map(|each| (&*each.rule.0, each.missing.len())).collect();
        assert_eq!(order, [("guard", 0), ("met", 0), ("aside", 1), ("near", 1), ("far", 3)]);
        assert!(!answer.decision.is_allowed());
    }

    #[test]
    fn a_guard_rail_that_does_not_bite_says_why() {
        let apart = Rule { related: vec!["env".to_owned()], ..rule("apart", "*", "*", "any") };
        let rules = RuleSet::new(vec![], vec![apart]);
        let (from, to) = (named("a", "env=prod"), named("b", "env=prod"));
        let answer = explain(&rules, &from, &to, Service::Tcp(22), Timestamp(0));
        let why = "they must differ in env: source a and destination b both have env=prod";
        assert_eq!(answer.considered[0].missing, [why]);
    }

    proptest! {
        #[test]
        fn a_rule_matches_exactly_when_it_decides(
            rules in rules(), from in subject(), to in subject(), wall in (0u64..10).prop_map(Timestamp)
        ) {
            let service = Service::Tcp(1);
            let answer = explain(&rules, &from, &to, service, wall);
            prop_assert_eq!(answer.considered.len(), rules.allow.len() + rules.never.len());
            for each in answer.considered {
                let polarity = match each.kind { Kind::Allow => Polarity::Allow, Kind::Never => Polarity::Never };
                let rule = rules.of(polarity).iter().find(|rule| rule.id == each.rule).unwrap();
                prop_assert_eq!(each.matched, rule.decides(polarity, &from, &to, service, wall));
            }
        }
    }
}
