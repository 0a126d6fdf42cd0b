//! Times, tests and what deserves a look.
#![allow(clippy::unwrap_used)]

use bulkhead_acl::{FailingTests, Options, Sources, check_with};

use super::{found, shown};

#[test]
fn an_empty_list_is_neither_nothing_nor_everything() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[services]
none = []
[[allow]]
id = "r"
from = "*"
to = "env"
same = []
ports = []
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:4:8: error[BH-P015]: a service is empty; leave the key out or fill the list
    4 | none = []
      |        ^^

    a.toml:9:8: error[BH-P015]: same is empty; leave the key out or fill the list
    9 | same = []
      |        ^^

    a.toml:10:9: error[BH-P015]: ports is empty; leave the key out or fill the list
    10 | ports = []
       |         ^^
    "#);
}

#[test]
fn times_need_a_zone_and_the_right_order() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[[allow]]
id = "r"
from = "env"
to = "env"
ports = ["tcp/1"]
not_before = 2026-12-31T18:00:00
until = 2026-12-31
review_by = 2026-12-31T18:00:00Z

[[allow]]
id = "s"
from = "env"
to = "env"
ports = ["tcp/1"]
not_before = 2026-12-31T18:00:00Z
until = 2026-12-31T19:00:00+01:00
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:8:14: error[BH-P016]: not_before needs date, time and zone, for example 2026-12-31T18:00:00Z
    8 | not_before = 2026-12-31T18:00:00
      |              ^^^^^^^^^^^^^^^^^^^

    a.toml:9:9: error[BH-P016]: until needs date, time and zone, for example 2026-12-31T18:00:00Z
    9 | until = 2026-12-31
      |         ^^^^^^^^^^

    a.toml:10:13: error[BH-P016]: review_by is a day, for example 2027-06-30
    10 | review_by = 2026-12-31T18:00:00Z
       |             ^^^^^^^^^^^^^^^^^^^^

    a.toml:18:9: error[BH-P016]: the rule ends before it starts
    18 | until = 2026-12-31T19:00:00+01:00
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn a_test_about_no_particular_identity() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod", "stage"]
[labels.host]

[[test]]
name = "everyone"
from = "*"
to = "env"
deny = ["icmp"]

[[test]]
name = "open"
from = "host"
to = "host!=a"
deny = ["icmp"]

[[test]]
name = "contradiction"
from = "env=prod, env!=prod"
to = "env=prod, !env"
deny = ["tcp/1-2"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:9:8: error[BH-P017]: `*` is every identity and so none in particular
    9 | from = "*"
      |        ^^^
    help: write { labels = { … } } with exact labels

    a.toml:15:8: error[BH-P017]: `host` leaves the value of host open, and [labels] does not list its values
    15 | from = "host"
       |        ^^^^^^
    help: write { labels = { … } } with exact labels

    a.toml:16:6: error[BH-P017]: `host!=a` leaves the value of host open, and [labels] does not list its values
    16 | to = "host!=a"
       |      ^^^^^^^^^
    help: write { labels = { … } } with exact labels

    a.toml:21:8: error[BH-P017]: `env=prod, env!=prod` matches nobody: no value of env is left
    21 | from = "env=prod, env!=prod"
       |        ^^^^^^^^^^^^^^^^^^^^^
    help: write { labels = { … } } with exact labels

    a.toml:22:6: error[BH-P017]: `env=prod, !env` matches nobody: `!env` matches only where env is missing
    22 | to = "env=prod, !env"
       |      ^^^^^^^^^^^^^^^^
    help: write { labels = { … } } with exact labels

    a.toml:23:9: error[BH-P012]: a test asks about single services; "tcp/1-2" is more than that
    23 | deny = ["tcp/1-2"]
       |         ^^^^^^^^^
    help: name single ports, for example "tcp/443"
    "#);
}

#[test]
fn a_test_that_does_not_hold_says_why() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod", "stage"]

[[allow]]
id = "web"
from = "env=prod"
to = "env"
ports = ["tcp/1-2"]

[[never]]
id = "guard"
from = "env"
to = "env=stage"
ports = ["tcp/2"]

[[test]]
name = "t"
from = "env"
to = "env!=prod"
allow = ["tcp/1", "tcp/2"]
deny = ["tcp/1", "udp/1"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:22:10: error[BH-P018]: test "t" does not hold: tcp/1 from {env=stage} to {env=stage} is denied; nearest is web: source must match `env=prod`, has env=stage
    22 | allow = ["tcp/1", "tcp/2"]
       |          ^^^^^^^

    a.toml:22:19: error[BH-P018]: test "t" does not hold: tcp/2 from {env=prod} to {env=stage} is forbidden by guard (a.toml:12)
    22 | allow = ["tcp/1", "tcp/2"]
       |                   ^^^^^^^

    a.toml:23:9: error[BH-P018]: test "t" does not hold: tcp/1 from {env=prod} to {env=stage} is allowed by web (a.toml:6)
    23 | deny = ["tcp/1", "udp/1"]
       |         ^^^^^^^
    "#);
}

#[test]
fn warnings_about_single_rules() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod", "stage"]
sealed = true

[[allow]]
id = "wide"
from = "*"
to = "*"
ports = ["any"]

[[allow]]
id = "old"
from = "env!=prod"
to = "env=prod, env=stage"
ports = ["tcp/1"]
until = 2020-01-01T00:00:00Z
review_by = 2019-12-31

[[never]]
id = "person"
from = "user:https://idp.acme.example#00u1"
to = "env"
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:8:6: warning[BH-P101]: rule wide lets every identity reach every other
    8 | id = "wide"
      |      ^^^^^^

    a.toml:11:10: warning[BH-P102]: rule wide allows every service
    11 | ports = ["any"]
       |          ^^^^^

    a.toml:15:8: warning[BH-P106]: unlike in Kubernetes, `env!=prod` does not match where env is missing
    15 | from = "env!=prod"
       |        ^^^^^^^^^^^
    help: write `env, env!=prod` to say so

    a.toml:16:6: warning[BH-P105]: "env=prod, env=stage" matches no identity: a node has one env
    16 | to = "env=prod, env=stage"
       |      ^^^^^^^^^^^^^^^^^^^^^
    help: for either write `env in (prod, stage)`

    a.toml:18:9: warning[BH-P103]: rule old held until 2020-01-01T00:00:00Z
    18 | until = 2020-01-01T00:00:00Z
       |         ^^^^^^^^^^^^^^^^^^^^
    help: remove the rule

    a.toml:19:13: warning[BH-P104]: the review of rule old is overdue
    19 | review_by = 2019-12-31
       |             ^^^^^^^^^^
    help: ask its owner whether it is still needed, then move the day

    a.toml:23:8: warning[BH-P109]: identities carry no user yet, so user: matches nobody
    23 | from = "user:https://idp.acme.example#00u1"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn warnings_about_pairs_of_rules() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[[allow]]
id = "broad"
from = "env=prod"
to = "env"
ports = ["tcp/1-100"]

[[allow]]
id = "conditional"
from = "env=prod, role=web"
to = "env=prod"
same = ["env"]
ports = ["tcp/22"]
until = 2030-01-01T00:00:00Z

[[allow]]
id = "dead"
from = "role=plc, site=a"
to = "role=plc"
ports = ["tcp/1"]

[[never]]
id = "plc"
from = "role=plc"
to = "*"
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:10:6: warning[BH-P111]: `same` and `until` of rule conditional make no difference: broad (a.toml:3) allows all of it anyway
    10 | id = "conditional"
       |      ^^^^^^^^^^^^^
    help: narrow broad, or remove conditional

    a.toml:18:6: warning[BH-P107]: rule dead permits nothing: plc (a.toml:23) forbids all of it
    18 | id = "dead"
       |      ^^^^^^
    "#);
}

#[test]
fn hours_that_cannot_be_read() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[[allow]]
id = "r"
from = "env"
to = "env"
ports = ["tcp/1"]
hours = "Mon-Fri 06:00-22:00 Europe/Berln"

[[never]]
id = "n"
from = "env"
to = "env"
hours = ["Monday 06:00-22:00 UTC", "Mon 6-22 UTC", "Mon 06:00-22:00", "always"]

[[never]]
id = "o"
from = "env"
to = "env"
hours = 8
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:8:30: error[BH-P016]: "Europe/Berln" is no time zone
    8 | hours = "Mon-Fri 06:00-22:00 Europe/Berln"
      |                              ^^^^^^^^^^^^
    help: did you mean "Europe/Berlin"?

    a.toml:14:11: error[BH-P016]: "Monday" is no day
    14 | hours = ["Monday 06:00-22:00 UTC", "Mon 6-22 UTC", "Mon 06:00-22:00", "always"]
       |           ^^^^^^
    help: did you mean "Mon"?

    a.toml:14:41: error[BH-P016]: "6-22" are no times of day
    14 | hours = ["Monday 06:00-22:00 UTC", "Mon 6-22 UTC", "Mon 06:00-22:00", "always"]
       |                                         ^^^^
    help: times of day are two numbers each, for example 06:00-22:00

    a.toml:14:68: error[BH-P016]: hours need the time zone whose clock is read
    14 | hours = ["Monday 06:00-22:00 UTC", "Mon 6-22 UTC", "Mon 06:00-22:00", "always"]
       |                                                                    ^
    help: write days, times of day and a time zone, for example "Mon-Fri 06:00-22:00 Europe/Berlin"

    a.toml:14:72: error[BH-P016]: hours are days, times of day and a time zone, for example "Mon-Fri 06:00-22:00 Europe/Berlin"
    14 | hours = ["Monday 06:00-22:00 UTC", "Mon 6-22 UTC", "Mon 06:00-22:00", "always"]
       |                                                                        ^^^^^^

    a.toml:20:9: error[BH-P004]: hours must be text in quotes or a list of texts, found integer
    20 | hours = 8
       |         ^
    "#);
}

#[test]
fn rules_that_can_never_apply() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod", "stage"]

[[allow]]
id = "apart"
from = "env=prod"
to = "env=stage"
same = ["env"]
ports = ["tcp/1"]

[[allow]]
id = "across"
from = "env=stage"
to = "env=prod"
ports = ["tcp/1"]

[[never]]
id = "alike"
from = "env=prod"
to = "env=prod"
differ = ["env"]

[[never]]
id = "environments-apart"
from = "*"
to = "*"
differ = ["env"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:10:9: warning[BH-P105]: rule apart permits nothing: its two sides never share env
    10 | same = ["env"]
       |         ^^^^^

    a.toml:14:6: warning[BH-P107]: rule across permits nothing: environments-apart (a.toml:25) forbids all of it
    14 | id = "across"
       |      ^^^^^^^^

    a.toml:23:11: warning[BH-P105]: rule alike forbids nothing: its two sides never differ
    23 | differ = ["env"]
       |           ^^^^^
    "#);
}

#[test]
fn conditions_that_make_no_difference() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[[allow]]
id = "day"
from = "env=prod"
to = "env=prod"
ports = ["tcp/1-100"]
hours = "Mon-Fri 06:00-22:00 Europe/Berlin"

[[allow]]
id = "morning"
from = "env=prod"
to = "env=prod"
ports = ["tcp/22"]
hours = "Mon-Fri 06:00-12:00 Europe/Berlin"

[[allow]]
id = "night"
from = "env=prod"
to = "env=prod"
ports = ["tcp/22"]
hours = "Mon-Fri 20:00-06:00 Europe/Berlin"

[[allow]]
id = "same-day"
from = "env=prod"
to = "env=prod"
same = ["env"]
ports = ["tcp/80"]
hours = "Mon-Fri 06:00-22:00 Europe/Berlin"

[[never]]
id = "maintenance"
from = "*"
to = "*"
hours = ["Sat-Sun 00:00-24:00 UTC"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:11:6: warning[BH-P111]: `hours` of rule morning makes no difference: day (a.toml:3) allows all of it anyway
    11 | id = "morning"
       |      ^^^^^^^^^
    help: narrow day, or remove morning

    a.toml:25:6: warning[BH-P111]: `same` of rule same-day makes no difference: day (a.toml:3) allows all of it anyway
    25 | id = "same-day"
       |      ^^^^^^^^^^
    help: narrow day, or remove same-day
    "#);
}

#[test]
fn what_is_defined_and_not_used() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod"]
[labels.site]
[labels.clearance]
sealed = true
[groups]
web = "env=prod"
db = "env=prod"
[services]
ssh = ["tcp/22"]
postgres = ["tcp/5432"]

[[allow]]
id = "r"
from = "@web"
to = "@web"
ports = ["ssh"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:5:9: warning[BH-P113]: no rule and no test speaks of label site
    5 | [labels.site]
      |         ^^^^
    help: remove it, or use it

    a.toml:10:1: warning[BH-P113]: no rule and no test speaks of group db
    10 | db = "env=prod"
       | ^^
    help: remove it, or use it

    a.toml:13:1: warning[BH-P113]: no rule and no test speaks of service postgres
    13 | postgres = ["tcp/5432"]
       | ^^^^^^^^
    help: remove it, or use it
    "#);
}

#[test]
fn reviews_are_asked_for_where_most_rules_have_them() {
    let rule = |id: &str, more: &str| {
        format!("[[allow]]\nid = \"{id}\"\nfrom = \"a={id}\"\nto = \"b\"\nports = [\"tcp/1\"]\n{more}\n")
    };
    let reviewed = "review_by = 2027-06-30";
    let half = ["version = 1\n".to_owned(), rule("a", reviewed), rule("b", "")].concat();
    assert_eq!(found(&[("a.toml", &half)]), "");
    let most = [half, rule("c", reviewed), rule("d", "until = 2027-01-01T00:00:00Z")].concat();
    assert_eq!(found(&[("a.toml", &most)]), "");
    let most = most + &rule("e", reviewed);
    insta::assert_snapshot!(found(&[("a.toml", &most)]), @r#"
    a.toml:9:6: warning[BH-P112]: rule b has no review_by; most allow rules here do
    9 | id = "b"
      |      ^^^
    help: add `review_by`, or `until` where the rule is to end by itself
    "#);
}

#[test]
fn a_rule_that_speaks_of_none_of_the_nodes() {
    let node = |name: &str, labels: &str| bulkhead_acl::Subject {
        name: bulkhead_identity::NodeName::parse(name).unwrap(),
        labels: bulkhead_identity::Labels::parse(labels).unwrap(),
    };
    let nodes = [node("web", "role=web,env=prod"), node("bare", "")];
    let text = r#"
version = 1
[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432"]

[[allow]]
id = "named"
from = "node:web"
to = "node:wbe"
ports = ["tcp/1"]

[[never]]
id = "unlabelled"
from = "env!=prod"
to = "!env"
"#;
    let sources = Sources([("a.toml".to_owned(), text.to_owned())].into());
    let warnings = |nodes| {
        let options = Options { nodes: Some(nodes), ..Options::default() };
        shown(&check_with(&sources, super::WALL, options).unwrap().warnings)
    };
    assert_eq!(warnings(&[]), "");
    insta::assert_snapshot!(warnings(&nodes), @r#"
    a.toml:6:6: warning[BH-P110]: `to` of rule web-to-db matches none of the 2 nodes
    6 | to = "role=db"
      |      ^^^^^^^^^

    a.toml:12:6: warning[BH-P110]: `to` of rule named matches none of the 2 nodes
    12 | to = "node:wbe"
       |      ^^^^^^^^^^
    help: did you mean "web"?
    "#);
}

#[test]
fn failing_tests_may_be_warnings() {
    let text = "version = 1\n[[test]]\nname = \"t\"\nfrom = \"node:a\"\nto = \"node:b\"\nallow = [\"tcp/1\"]\ndeny = [\"tcp/2\"]\n";
    let sources = Sources([("a.toml".to_owned(), text.to_owned())].into());
    let options = Options { failing_tests: FailingTests::Warn, ..Options::default() };
    let checked = check_with(&sources, super::WALL, options).unwrap();
    assert_eq!(checked.tests_passed, 1);
    insta::assert_snapshot!(shown(&checked.warnings), @r#"
    a.toml:6:10: warning[BH-P018]: test "t" does not hold: tcp/1 from node:a to node:b is denied: there are no allow rules
    6 | allow = ["tcp/1"]
      |          ^^^^^^^
    "#);
}
