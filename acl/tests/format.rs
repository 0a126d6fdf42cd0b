//! The layout of policy files: stable, and never at the price of a comment or of what the file says.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bulkhead_acl::{RuleSet, Sources, check, format::format};
use bulkhead_identity::Timestamp;
use proptest::prelude::*;

/// 2026-11-01T00:00:00Z.
const WALL: Timestamp = Timestamp(1_793_491_200);

/// A file as people leave it.
const UNTIDY: &str = r#"
# Acme, payments.
# Ask sre before changing anything.

version=1   # of the language

[services]
ssh=['tcp/22']
  # for the database

  postgres = [ "tcp/5432", ]

# What follows is for the plant.
[[test]]
deny = ["icmp"]
name="z"
to= {labels={env="prod"}}
from = "@web"

[[never]]
to = "*"
from="*"
# as agreed
differ=[ 'env' ]
id="apart"


[[allow]] # second
id="b"
why='''
a reason
'''
hours=["Mon-Fri 06:00-22:00 Europe/Berlin",    "Sat 08:00-12:00 Europe/Berlin", "Sun 08:00-12:00 Europe/Berlin"]
ports=["ssh"
 , "postgres" # both
]
to="@web"
from="env=prod"
# the first of all rules
[[allow]]
ports = ["ssh"]
id="a"
to="@web"
from="@web"
[groups]
web="env=prod"


db="env=stage"
[labels]
site = {values=["a",'b']}
[labels.env]
sealed=true
values = ["prod","stage"]
[[test]]
name="a"
from="@web"
allow=["ssh"]
to.labels.env = "prod"

# the end

# of it
"#;

#[test]
fn statements_and_keys_have_one_order_and_comments_stay_with_what_they_precede() {
    insta::assert_snapshot!(format(UNTIDY).unwrap(), @r#"
    # Acme, payments.
    # Ask sre before changing anything.

    version = 1 # of the language

    [labels]
    site = { values = ["a", 'b'] }

    [labels.env]
    values = ["prod", "stage"]
    sealed = true

    [groups]
    web = "env=prod"

    db = "env=stage"

    [services]
    ssh = ['tcp/22']
    # for the database

    postgres = ["tcp/5432"]

    # the first of all rules
    [[allow]]
    id = "a"
    from = "@web"
    to = "@web"
    ports = ["ssh"]

    [[allow]] # second
    id = "b"
    from = "env=prod"
    to = "@web"
    ports = ["ssh"
     , "postgres" # both
    ]
    hours = [
        "Mon-Fri 06:00-22:00 Europe/Berlin",
        "Sat 08:00-12:00 Europe/Berlin",
        "Sun 08:00-12:00 Europe/Berlin",
    ]
    why = '''
    a reason
    '''

    [[never]]
    id = "apart"
    from = "*"
    to = "*"
    # as agreed
    differ = ['env']

    # What follows is for the plant.
    [[test]]
    name = "z"
    from = "@web"
    to = { labels = { env = "prod" } }
    deny = ["icmp"]

    [[test]]
    name = "a"
    from = "@web"
    to.labels.env = "prod"
    allow = ["ssh"]

    # the end

    # of it
    "#);
}

#[test]
fn what_is_not_toml_is_pointed_at() {
    let error = format("version = 1\n[groups\n").unwrap_err();
    insta::assert_snapshot!(error, @r#"
    2:8: error[BH-P001]: unclosed table, expected `]`
    2 | [groups
      |        ^
    "#);
    assert!(format(&"\n".repeat(5_000_000)).unwrap_err().message.contains("MAX_TOKENS"));
}

#[test]
fn nothing_and_comments_alone_are_left_alone() {
    assert_eq!(format("\n\n").unwrap(), "");
    assert_eq!(format("# a\n\n\n\n# b").unwrap(), "# a\n\n# b\n");
}

#[test]
fn inline_rules_keep_their_form() {
    let text = "version = 1\nallow = [{ id = \"a\", from = \"*\", to = \"b\", ports = [\"any\"] }]\n";
    assert_eq!(format(text).unwrap(), text);
}

fn rules(text: &str) -> (RuleSet, usize) {
    let sources = Sources(BTreeMap::from([("policy.toml".to_owned(), text.to_owned())]));
    let mut checked = check(&sources, WALL).unwrap_or_else(|errors| panic!("{}\n{text}", errors[0]));
    for rule in checked.rules.allow.iter_mut().chain(&mut checked.rules.never) {
        rule.line = 0;
    }
    (checked.rules, checked.tests_passed)
}

fn comments(text: &str) -> Vec<String> {
    let after_mark = |line: &str| line.split_once("#c").map(|(_, rest)| rest.trim().to_owned());
    let mut all: Vec<_> = text.lines().filter_map(after_mark).collect();
    all.sort();
    all
}

/// Lines of a file, each with the places where a comment or blank lines may be put.
fn lines() -> impl Strategy<Value = String> {
    let gap = || prop_oneof![4 => Just(""), 1 => Just("\n"), 1 => Just("\n\n  #c gap\n"), 1 => Just("#c gap\n\n\n"), 1 => Just("\t#c x\n")];
    let end = || prop_oneof![3 => Just("\n"), 1 => Just("   #c end\n"), 1 => Just("\r\n")];
    let list = |items: &[&str]| {
        let (first, last) = (items[0].to_owned(), items[items.len() - 1].to_owned());
        prop_oneof![
            Just(format!("[\"{first}\", \"{last}\"]")),
            Just(format!("[ '{first}','{last}' , ]")),
            Just(format!("[\n  \"{first}\", #c within\n  \"{last}\"\n]")),
        ]
    };
    let pair = move |key: &'static str, values: BoxedStrategy<String>| {
        (gap(), values, end()).prop_map(move |(gap, value, end)| format!("{gap}{key}={value}{end}")).boxed()
    };
    let rule = move |number: usize, kind: &'static str| {
        let mut pairs = vec![
            pair("id", Just(format!("\"{kind}{number}\"")).boxed()),
            pair("from", prop_oneof![Just("'@web'".to_owned()), Just("\"*\"".to_owned())].boxed()),
            pair("to", Just("\"\"\"env=prod\"\"\"".to_owned()).boxed()),
            pair("ports", list(&["ssh", "tcp/80-90"]).boxed()),
            pair("until", Just("2027-01-01 00:00:00Z".to_owned()).boxed()),
            pair("why", Just("\"# no comment\"".to_owned()).boxed()),
            pair(
                "hours",
                list(&["Mon-Fri 06:00-22:00 Europe/Berlin", "Sat 08:00-12:00 Europe/Berlin"]).boxed(),
            ),
        ];
        if kind == "allow" {
            pairs.push(pair("same", Just("['env']".to_owned()).boxed()));
        }
        let pairs = Just(pairs).prop_flat_map(|pairs| pairs).prop_shuffle();
        (gap(), end(), pairs)
            .prop_map(move |(gap, end, pairs)| format!("{gap}[[{kind}]]{end}{}", pairs.concat()))
    };
    let test = move |number: usize| {
        let pairs = vec![
            pair("name", Just(format!("\"t{number}\"")).boxed()),
            pair(
                "from",
                prop_oneof![Just("{labels={env='prod'}}".to_owned()), Just("\"@web\"".to_owned())].boxed(),
            ),
            pair("to.labels.env", Just("\"prod\"".to_owned()).boxed()),
            pair("deny", list(&["icmp", "udp/1"]).boxed()),
        ];
        let pairs = Just(pairs).prop_flat_map(|pairs| pairs).prop_shuffle();
        (gap(), end(), pairs)
            .prop_map(move |(gap, end, pairs)| format!("{gap}[[test]]{end}{}", pairs.concat()))
    };
    let section = move |header: &'static str, pairs: Vec<BoxedStrategy<String>>| {
        (gap(), end(), pairs)
            .prop_map(move |(gap, end, pairs)| format!("{gap}{header}{end}{}", pairs.concat()))
            .boxed()
    };
    let text = |text: &'static str| Just(text.to_owned()).boxed();
    let blocks = vec![
        rule(3, "allow").boxed(),
        rule(1, "allow").boxed(),
        rule(2, "never").boxed(),
        rule(0, "never").boxed(),
        test(2).boxed(),
        test(1).boxed(),
        section("[groups]", vec![pair("web", text("\"env=prod\"")), pair("db", text("'env'"))]),
        section("[services]", vec![pair("ssh", list(&["tcp/22", "tcp/23"]).boxed())]),
        section(
            "[labels.env]",
            vec![pair("values", list(&["prod", "stage"]).boxed()), pair("sealed", text("true"))],
        ),
    ];
    let blocks = Just(blocks).prop_flat_map(|blocks| blocks).prop_shuffle();
    (pair("version", text("1")), blocks, gap())
        .prop_map(|(version, blocks, gap)| version + &blocks.concat() + gap)
}

proptest! {
    #[test]
    fn layout_changes_no_meaning_loses_no_comment_and_is_stable(text in lines()) {
        let laid_out = format(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        prop_assert_eq!(rules(&laid_out), rules(&text));
        prop_assert_eq!(comments(&laid_out), comments(&text), "{}", laid_out);
        let again = format(&laid_out).unwrap();
        prop_assert_eq!(&again, &laid_out);
    }

    #[test]
    fn any_toml_is_laid_out_once_and_for_all(text in "([a-c]|\\[\\[?|\\]|\\.|=|\"x\"|1|\\{|\\}|,|#|\n| ){0,40}") {
        if let Ok(laid_out) = format(&text) {
            prop_assert_eq!(format(&laid_out).unwrap(), laid_out);
        }
    }
}
