//! `[web]`, `[[provider]]`, `[[enrol]]` and `[[administrator]]`, and what they say of somebody.
#![allow(clippy::unwrap_used)]

use super::{DEFAULT_FILE, Partial, People, parse};
use crate::check::explain;
use bulkhead_coordinator_engine::{AdminRole, Claims};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const WEB: &str = "[web]\nlisten = \"0.0.0.0:8444\"\nurl = \"https://b.acme.example:8444\"\ncertificate = \"/c.pem\"\nkey = \"/c.key\"\n";
const ACME: &str =
    "[[provider]]\nname = \"acme\"\nissuer = \"https://login.acme.example\"\nclient_id = \"bulkhead\"\n";
const CI: &str = "[[provider]]\nname = \"ci\"\nissuer = \"https://ci.example\"\naudience = \"bulkhead\"\n";

fn people(text: &str) -> People {
    parse(text).unwrap().people.unwrap()
}

/// The mistakes of a file that is right but for `more`.
fn mistakes(more: &str) -> Vec<String> {
    parse(&format!("{WEB}{ACME}{CI}{more}")).unwrap_err()
}

fn ada(groups: &[&str]) -> Claims {
    Claims {
        provider: "acme".to_owned(),
        issuer: "https://login.acme.example".to_owned(),
        subject: "u-1".to_owned(),
        name: "Ada".to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        other: BTreeMap::new(),
    }
}

#[test]
fn the_printed_examples_are_a_configuration_when_uncommented() {
    let example = |line: &str| {
        let line = line.strip_prefix("# ")?;
        let key = line.split_once(" = ").map(|(key, _)| key);
        let setting =
            key.is_some_and(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        (line.starts_with('[') || setting).then(|| line.to_owned())
    };
    let sections = DEFAULT_FILE.split("# Pages for people.").nth(1).unwrap();
    let text: Vec<_> = sections.lines().filter_map(example).collect();
    let people = people(&text.join("\n"));
    assert!(people.web.is_some());
    assert_eq!(people.providers.len(), 2);
    assert_eq!((people.rules.enrol.len(), people.rules.administrators.len()), (1, 1));
    assert_eq!(people.rules.enrol[0].labels.to_string(), "team=eng");
    assert_eq!(people.rules.administrators[0].role, AdminRole::Operator);
    assert_eq!(people.providers[0].refresh, Duration::from_secs(3600));
}

#[test]
fn without_a_word_nobody_signs_in() {
    assert_eq!(parse(DEFAULT_FILE).unwrap().people, None);
    let settled = Partial { addresses: Some(vec!["c:1".to_owned()]), ..Partial::default() }.settle().unwrap();
    assert_eq!(settled.people, People::default());
    assert!(settled.people.rules.enrolment(&ada(&["engineering"])).is_none());
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = format!(
        "{WEB}colour = 1\n{ACME}refresh = \"1s\"\n[[enrol]]\nprovider = \"acme\"\ngroups = []\nlabels = {{ Team = \"x\" }}\nlifetime = 5\n"
    );
    let mistakes = parse(&text).unwrap_err();
    let lines: Vec<_> = mistakes.iter().filter_map(|mistake| mistake.split(':').next()).collect();
    assert_eq!(lines, ["6", "11", "14", "15", "16"], "{mistakes:#?}");
}

#[test]
fn a_rule_that_matches_nobody_or_by_mistake_everybody_is_refused() {
    for rule in [
        "[[enrol]]\nprovider = \"acme\"\n",
        "[[enrol]]\nprovider = \"acme\"\neveryone = false\n",
        "[[enrol]]\nprovider = \"acme\"\neveryone = true\ngroups = [\"a\"]\n",
        "[[enrol]]\nprovider = \"acme\"\nclaims = { a = [] }\n",
        "[[enrol]]\ngroups = [\"a\"]\n",
        "[[enrol]]\nprovider = \"other\"\ngroups = [\"a\"]\n",
        "[[enrol]]\nprovider = \"ci\"\neveryone = true\napproval = true\n",
        "[[enrol]]\nprovider = \"ci\"\neveryone = true\nsession = \"1h\"\n",
        "[[administrator]]\nprovider = \"acme\"\neveryone = true\nrole = \"viewer\"\n",
        "[[administrator]]\nprovider = \"ci\"\nsubjects = [\"a\"]\nrole = \"viewer\"\n",
        "[[administrator]]\nprovider = \"acme\"\ngroups = [\"a\"]\n",
        "[[administrator]]\nprovider = \"acme\"\ngroups = [\"a\"]\nrole = \"root\"\n",
    ] {
        assert_eq!(mistakes(rule).len(), 1, "{rule}: {:?}", mistakes(rule));
    }
}

#[test]
fn a_provider_is_for_people_or_for_workloads_and_is_there_once() {
    for provider in [
        "[[provider]]\nname = \"acme\"\nissuer = \"https://other.example\"\nclient_id = \"b\"\n",
        "[[provider]]\nname = \"two\"\nissuer = \"https://login.acme.example\"\nclient_id = \"b\"\n",
        "[[provider]]\nname = \"two\"\nissuer = \"https://two.example\"\n",
        "[[provider]]\nname = \"two\"\nissuer = \"https://two.example\"\nclient_id = \"b\"\naudience = \"b\"\n",
        "[[provider]]\nname = \"two\"\nissuer = \"http://two.example\"\nclient_id = \"b\"\n",
        "[[provider]]\nname = \"Two\"\nissuer = \"https://two.example\"\nclient_id = \"b\"\n",
    ] {
        assert_eq!(mistakes(provider).len(), 1, "{provider}: {:?}", mistakes(provider));
    }
    let same_issuer =
        "[[provider]]\nname = \"acme-ci\"\nissuer = \"https://login.acme.example\"\naudience = \"b\"\n";
    assert_eq!(people(&format!("{WEB}{ACME}{same_issuer}")).providers.len(), 2);
    // The ID tokens of people have their client as audience.
    let confused = same_issuer.replace("audience = \"b\"", "audience = \"bulkhead\"");
    for order in [format!("{WEB}{ACME}{confused}"), format!("{WEB}{confused}{ACME}")] {
        let mistakes = parse(&order).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains("client_id"), "{mistakes:?}");
    }
    assert!(parse(ACME).unwrap_err()[0].contains("[web]"));
}

#[test]
fn the_url_of_the_pages_is_an_origin() {
    let with = |url: &str| parse(&WEB.replace("https://b.acme.example:8444", url));
    for good in
        ["https://b.example", "https://b.example:8444", "https://192.0.2.1:8444", "https://[2001:db8::1]"]
    {
        assert!(with(good).is_ok(), "{good}");
    }
    for wrong in [
        "http://b.example",
        "https://b.example/",
        "https://b.example/x",
        "https://u@b.example",
        "https://B.example",
        "https://",
    ] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn check_config_says_what_would_happen_and_why_not() {
    let rules = "[[enrol]]\nprovider = \"acme\"\ngroups = [\"engineering\"]\nlabels = { team = \"eng\" }\n\
                 [[enrol]]\nprovider = \"acme\"\neveryone = true\nlabels = { site = \"hq\" }\nlifetime = \"1h\"\napproval = true\n\
                 [[administrator]]\nprovider = \"acme\"\nsubjects = [\"u-9\"]\nrole = \"admin\"\n";
    let people = people(&format!("{WEB}{ACME}{CI}{rules}"));
    let said = explain(&people, &ada(&["engineering"]), Duration::from_secs(3600));
    for part in [
        "acme/u-1 (Ada)",
        "number 1, 2",
        "site=hq,team=eng",
        "certificate  1 h",
        "session      12 h",
        "approves first",
        "administrator no",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let stranger = Claims { provider: "ci".to_owned(), groups: BTreeSet::new(), ..ada(&[]) };
    let said = explain(&people, &stranger, Duration::from_secs(3600));
    assert!(said.contains("enrolment refused: no rule speaks of provider ci"), "{said}");
}
