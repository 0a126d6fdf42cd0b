//! Times, tests and what deserves a look.

use super::found;

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

    a.toml:21:8: error[BH-P017]: `env=prod, env!=prod` matches nobody
    21 | from = "env=prod, env!=prod"
       |        ^^^^^^^^^^^^^^^^^^^^^
    help: write { labels = { … } } with exact labels

    a.toml:22:6: error[BH-P017]: `env=prod, !env` matches nobody
    22 | to = "env=prod, !env"
       |      ^^^^^^^^^^^^^^^^
    help: write { labels = { … } } with exact labels

    a.toml:23:9: error[BH-P012]: a test asks about single services: "tcp/1-2" is a range; name one port, for example tcp/443
    23 | deny = ["tcp/1-2"]
       |         ^^^^^^^^^
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
    a.toml:22:10: error[BH-P018]: test "t" does not hold: tcp/1 from {env=stage} to {env=stage} is denied; nearest is web: source identity-0 must match `env=prod`, has env=stage
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
    a.toml:3:9: warning[BH-P109]: label env is sealed, but this release does not enforce seals yet
    3 | [labels.env]
      |         ^^^

    a.toml:7:1: warning[BH-P101]: rule wide lets every identity reach every other
    7 | [[allow]]
      | ^^^^^^^^^

    a.toml:7:1: warning[BH-P102]: rule wide allows every service
    7 | [[allow]]
      | ^^^^^^^^^

    a.toml:15:8: warning[BH-P106]: unlike in Kubernetes, `env!=prod` does not match where env is missing
    15 | from = "env!=prod"
       |        ^^^^^^^^^^^
    help: write `env, env!=prod` to say so

    a.toml:16:6: warning[BH-P105]: "env=prod, env=stage" matches no identity
    16 | to = "env=prod, env=stage"
       |      ^^^^^^^^^^^^^^^^^^^^^

    a.toml:18:9: warning[BH-P103]: rule old held until 2020-01-01T00:00:00Z
    18 | until = 2020-01-01T00:00:00Z
       |         ^^^^^^^^^^^^^^^^^^^^
    help: remove the rule

    a.toml:19:13: warning[BH-P104]: the review of rule old is overdue
    19 | review_by = 2019-12-31
       |             ^^^^^^^^^^

    a.toml:23:8: warning[BH-P105]: "user:https://idp.acme.example#00u1" matches no identity
    23 | from = "user:https://idp.acme.example#00u1"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

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
    a.toml:9:1: warning[BH-P108]: rule conditional adds nothing: broad allows all of it
    9 | [[allow]]
      | ^^^^^^^^^

    a.toml:17:1: warning[BH-P107]: rule dead permits nothing: plc forbids all of it
    17 | [[allow]]
       | ^^^^^^^^^
    "#);
}
