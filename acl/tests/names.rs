//! A policy's names on a command line: the same words mean the same as in its files.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bulkhead_acl::{Names, PortSet, Selector, Sources, check};
use bulkhead_identity::{LabelKey, Timestamp};

fn names() -> Names {
    let text = r#"
version = 1
[labels.env]
values = ["prod", "stage"]
[labels.role]
[labels.clearance]
sealed = true
[groups]
prod = "env=prod"
web = "@prod, role=web"
[services]
ssh = ["tcp/22"]
"#;
    let sources = Sources(BTreeMap::from([("policy.toml".to_owned(), text.to_owned())]));
    check(&sources, Timestamp(1_793_491_200)).unwrap().names
}

#[test]
fn groups_and_services_stand_for_what_they_do_in_the_files() {
    let names = names();
    assert_eq!(names.selector("@web, !clearance").unwrap().to_string(), "env=prod, role=web, !clearance");
    assert_eq!(names.selector("*").unwrap(), Selector::everyone());
    assert_eq!(names.ports("ssh, udp/53").unwrap(), PortSet::parse("tcp/22, udp/53").unwrap());
    assert_eq!(names.ports("any").unwrap(), PortSet::any());
}

#[test]
fn what_the_policy_does_not_know_is_refused_with_a_suggestion() {
    let names = names();
    for (text, reason) in [
        ("@wbe", "no group \"wbe\" is defined; did you mean \"web\"?"),
        ("env=prdo", "did you mean \"prod\"?"),
        ("evn=prod", "did you mean \"env\"?"),
        ("", "the selector ends here"),
        ("\u{1b}[2J", "\\u{1b}"),
    ] {
        let error = names.selector(text).unwrap_err();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    assert!(names.ports("shs").unwrap_err().contains("did you mean \"ssh\"?"));
    assert!(names.ports("").is_err());
    assert!(names.ports("tcp/22,").is_err());
}

#[test]
fn the_schema_says_which_labels_there_are_and_which_are_sealed() {
    let names = names();
    let schema = names.schema();
    assert_eq!(schema.keys().map(LabelKey::as_str).collect::<Vec<_>>(), ["clearance", "env", "role"]);
    assert_eq!(schema.sealed().map(LabelKey::as_str).collect::<Vec<_>>(), ["clearance"]);
    assert_eq!(schema.values(&LabelKey::parse("env").unwrap()).unwrap().len(), 2);
    assert!(schema.values(&LabelKey::parse("role").unwrap()).is_none());
}
