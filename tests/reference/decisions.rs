//! One million questions, each answered twice.

use bulkhead_acl::Decision;
use bulkhead_acl::format::format;
use bulkhead_identity::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use crate::generate::{Question, questions};
use crate::policy::{Answer, Kind, Policy};
use crate::real;
use crate::text::Text;

/// Policies in each of the ten parts, so that a test runner has something to spread.
const POLICIES: u32 = 2_500;
const QUESTIONS: usize = 40;

macro_rules! parts {
    ($($part:ident)*) => {
        $(#[test]
        fn $part() {
            a_hundred_thousand(stringify!($part));
        })*

        #[test]
        fn the_parts_are_a_million_questions() {
            assert_eq!([$(stringify!($part)),*].len() * POLICIES as usize * QUESTIONS, 1_000_000);
        }
    };
}

parts! {
    agrees_with_the_text_1 agrees_with_the_text_2 agrees_with_the_text_3 agrees_with_the_text_4
    agrees_with_the_text_5 agrees_with_the_text_6 agrees_with_the_text_7 agrees_with_the_text_8
    agrees_with_the_text_9 agrees_with_the_text_10
}

fn a_hundred_thousand(part: &str) {
    let config = Config { cases: POLICIES, failure_persistence: None, ..Config::default() };
    let (mut asked, mut allowed, mut forbidden) = (0_usize, 0_usize, 0_usize);
    let count = std::cell::RefCell::new((&mut asked, &mut allowed, &mut forbidden));
    let outcome = TestRunner::new(config).run(&questions(QUESTIONS), |(policy, questions)| {
        let text = policy.text();
        let rules = real::checked(&text).rules;
        let classes = rules.classes();
        for question in &questions {
            let expected = policy.decide(&question.from, &question.to, question.service, question.wall);
            let (from, to) = (real::subject(&question.from), real::subject(&question.to));
            let service = real::service(question.service);
            let found = rules.decide(&from, &to, service, Timestamp(question.wall));
            check_decision(&policy, &text, &found, &expected)?;
            let ever = classes.may_ever(&classes.of(&from), &classes.of(&to), Timestamp(question.wall));
            prop_assert!(ever || !expected.is_allowed(), "allowed now, and never: {question:?}");
            let mut count = count.borrow_mut();
            *count.0 += 1;
            *count.1 += usize::from(expected.is_allowed());
            *count.2 += usize::from(matches!(expected, Answer::Forbidden(_)));
        }
        Ok(())
    });
    if let Err(found) = outcome {
        panic!("{found}");
    }
    println!("{part}: {asked} questions, {allowed} allowed, {forbidden} forbidden");
    assert_eq!(asked, POLICIES as usize * QUESTIONS);
    // Of questions that are all answered alike nothing is learnt.
    assert!(asked / 20 < allowed && asked / 20 < forbidden && allowed + forbidden < asked * 19 / 20);
}

fn check_decision(policy: &Policy, text: &Text, found: &Decision, expected: &Answer) -> TestCaseResult {
    let place = |id: &str| text.places.get(id).cloned();
    match (found, expected) {
        (Decision::Allowed { rule, all, file, line }, Answer::Allowed(ids)) => {
            prop_assert_eq!(all.iter().map(|id| id.0.to_string()).collect::<Vec<_>>(), ids.clone());
            prop_assert_eq!(&*rule.0, &*ids[0]);
            prop_assert_eq!(Some((file.clone(), *line)), place(&ids[0]));
        }
        (Decision::Forbidden { rule, file, line }, Answer::Forbidden(ids)) => {
            prop_assert_eq!(&*rule.0, &*ids[0]);
            prop_assert_eq!(Some((file.clone(), *line)), place(&ids[0]));
        }
        (Decision::NoRule { nearest, missing }, Answer::NoRule) => {
            let allow = |id: &str| policy.rules.iter().any(|rule| rule.kind == Kind::Allow && rule.id == id);
            let any = policy.rules.iter().any(|rule| rule.kind == Kind::Allow);
            prop_assert!(nearest.as_ref().map_or(!any, |id| allow(&id.0)));
            prop_assert_eq!(missing.is_empty(), !any, "nothing missing, and still no");
        }
        (found, expected) => prop_assert!(false, "found {:?}, expected {:?}", found, expected),
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn formatting_changes_no_answer((policy, questions) in questions(20)) {
        let mut text = policy.text();
        for file in text.files.values_mut() {
            let formatted = format(file).unwrap();
            prop_assert_eq!(&format(&formatted).unwrap(), &formatted);
            *file = formatted;
        }
        let rules = real::checked(&text).rules;
        for question in &questions {
            let (from, to) = (real::subject(&question.from), real::subject(&question.to));
            let found = rules.decide(&from, &to, real::service(question.service), Timestamp(question.wall));
            let expected = policy.decide(&question.from, &question.to, question.service, question.wall);
            let found = match found {
                Decision::Allowed { all, .. } => Answer::Allowed(all.iter().map(|id| id.0.to_string()).collect()),
                Decision::Forbidden { rule, .. } => {
                    let Answer::Forbidden(ids) = &expected else { return Err(TestCaseError::fail("forbidden")) };
                    prop_assert_eq!(&*rule.0, &*ids[0]);
                    continue;
                }
                Decision::NoRule { .. } => Answer::NoRule,
            };
            prop_assert_eq!(found, expected, "{}", question);
        }
    }
}

/// Shown where a case fails.
impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} -> {:?} {} at {}", self.from, self.to, self.service.text(), self.wall)
    }
}
