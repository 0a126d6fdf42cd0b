//! What names, labels and ports must be.

use super::found;

#[test]
fn an_unknown_group_is_an_error_with_a_suggestion() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[groups]
web = "env=prod"
edge = "@wbe, role=edge"

[[never]]
id = "n"
from = "env=prod, @nobody"
to = "*"
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:5:9: error[BH-P007]: no group "wbe" is defined
    5 | edge = "@wbe, role=edge"
      |         ^^^^
    help: did you mean "web"?

    a.toml:9:19: error[BH-P007]: no group "nobody" is defined
    9 | from = "env=prod, @nobody"
      |                   ^^^^^^^
    "#);
}

#[test]
fn groups_that_contain_each_other() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[groups]
a = "@b"
b = "env=prod, @c"
c = "@a"
self = "@self"
fine = "env=prod"
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:6:6: error[BH-P008]: groups contain each other: @a -> @b -> @c -> @a
    6 | c = "@a"
      |      ^^
    help: remove @a from c

    a.toml:7:9: error[BH-P008]: groups contain each other: @self -> @self
    7 | self = "@self"
      |         ^^^^^
    help: remove @self from self
    "#);
}

#[test]
fn a_label_that_the_schema_does_not_know() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod", "stage"]

[labels."app.tier"]

[groups]
web = "evn=prod, role=web, idp.group=sre, app.tier=one"

[[allow]]
id = "r"
from = "@web"
to = "env"
same = ["en"]
ports = ["tcp/1"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:9:8: error[BH-P010]: no label evn is declared
    9 | web = "evn=prod, role=web, idp.group=sre, app.tier=one"
      |        ^^^^^^^^
    help: did you mean "env"?

    a.toml:9:18: error[BH-P010]: no label role is declared
    9 | web = "evn=prod, role=web, idp.group=sre, app.tier=one"
      |                  ^^^^^^^^
    help: declare it: [labels.role]

    a.toml:15:9: error[BH-P010]: no label en is declared
    15 | same = ["en"]
       |         ^^^^
    help: did you mean "env"?
    "#);
}

#[test]
fn a_value_that_the_schema_does_not_list() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.env]
values = ["prod", "stage", "ot"]

[groups]
web = "env=prdo"
all = "env in (prod, elsewhere)"

[[test]]
name = "t"
from = { labels = { env = "stge" } }
to = { labels = { env = "PROD" } }
deny = ["icmp"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:7:8: error[BH-P011]: label env has no value prdo
    7 | web = "env=prdo"
      |        ^^^^^^^^
    help: did you mean "prod"?

    a.toml:8:8: error[BH-P011]: label env has no value elsewhere
    8 | all = "env in (prod, elsewhere)"
      |        ^^^^^^^^^^^^^^^^^^^^^^^^
    help: known are ot, prod, stage

    a.toml:12:27: error[BH-P011]: label env has no value stge
    12 | from = { labels = { env = "stge" } }
       |                           ^^^^^^
    help: did you mean "stage"?

    a.toml:13:25: error[BH-P014]: label value "PROD" has a character other than a-z, 0-9, dot, underscore and dash
    13 | to = { labels = { env = "PROD" } }
       |                         ^^^^^^
    help: write "prod"
    "#);
}

#[test]
fn a_port_that_cannot_be_read() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[services]
postgres = ["tcp/5432"]
high = ["tcp/65536"]

[[allow]]
id = "r"
from = "env"
to = "env"
ports = ["postgers", "tcp/9-1", "ip/6", "tpc/1"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:5:9: error[BH-P012]: "65536" is not a port; ports are numbers up to 65535, ranges are written 5000-5100
    5 | high = ["tcp/65536"]
      |         ^^^^^^^^^^^

    a.toml:11:10: error[BH-P012]: "postgers" is neither a port like tcp/443, nor icmp, ip/47 or any, nor a known service
    11 | ports = ["postgers", "tcp/9-1", "ip/6", "tpc/1"]
       |          ^^^^^^^^^^
    help: did you mean "postgres"?

    a.toml:11:22: error[BH-P012]: the range "tcp/9-1" runs backwards
    11 | ports = ["postgers", "tcp/9-1", "ip/6", "tpc/1"]
       |                      ^^^^^^^^^

    a.toml:11:33: error[BH-P012]: ip/6 has a syntax of its own: write tcp/*
    11 | ports = ["postgers", "tcp/9-1", "ip/6", "tpc/1"]
       |                                 ^^^^^^

    a.toml:11:41: error[BH-P012]: unknown protocol "tpc"; known are tcp, udp, sctp, ip (by number) and icmp
    11 | ports = ["postgers", "tcp/9-1", "ip/6", "tpc/1"]
       |                                         ^^^^^^^
    "#);
}

#[test]
fn two_definitions_of_one_thing() {
    let shown = found(&[
        (
            "a.toml",
            r#"
version = 1
[labels.env]
values = ["prod", "prod"]
[groups]
web = "env=prod"
[services]
ssh = ["tcp/22"]
[[allow]]
id = "r"
from = "env"
to = "env"
ports = ["ssh"]
[[test]]
name = "t"
from = "env=prod"
to = "env=prod"
allow = ["ssh"]
"#,
        ),
        (
            "b.toml",
            r#"
version = 1
[labels.env]
values = ["prod"]
[groups]
web = "env=prod"
[services]
ssh = ["tcp/22"]
[[never]]
id = "r"
from = "env"
to = "env"
[[test]]
name = "t"
from = "env=prod"
to = "env=prod"
allow = ["ssh"]
"#,
        ),
    ]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:4:19: error[BH-P013]: value prod stands here twice
    4 | values = ["prod", "prod"]
      |                   ^^^^^^

    b.toml:3:9: error[BH-P013]: label "env" is defined twice; first at a.toml:3
    3 | [labels.env]
      |         ^^^

    b.toml:6:1: error[BH-P013]: group "web" is defined twice; first at a.toml:6
    6 | web = "env=prod"
      | ^^^

    b.toml:8:1: error[BH-P013]: service "ssh" is defined twice; first at a.toml:8
    8 | ssh = ["tcp/22"]
      | ^^^

    b.toml:10:6: error[BH-P013]: rule "r" is defined twice; first at a.toml:10
    10 | id = "r"
       |      ^^^

    b.toml:14:8: error[BH-P013]: test "t" is defined twice; first at a.toml:15
    14 | name = "t"
       |        ^^^
    "#);
}

#[test]
fn names_with_characters_that_they_may_not_have() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[labels.Env]
[labels.site]
values = ["Fab2"]
[groups]
"we b" = "*"
[services]
any = ["tcp/1"]
[[never]]
id = "a rule"
from = "*"
to = "*"
differ = ["-"]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:3:9: error[BH-P014]: label key "Env" has a character other than a-z, 0-9, dot, underscore and dash
    3 | [labels.Env]
      |         ^^^

    a.toml:5:11: error[BH-P014]: label value "Fab2" has a character other than a-z, 0-9, dot, underscore and dash
    5 | values = ["Fab2"]
      |           ^^^^^^
    help: write "fab2"

    a.toml:7:1: error[BH-P014]: "we b" cannot name a group: [A-Za-z0-9._-] only
    7 | "we b" = "*"
      | ^^^^^^

    a.toml:9:1: error[BH-P014]: "any" cannot name a service
    9 | any = ["tcp/1"]
      | ^^^

    a.toml:11:6: error[BH-P014]: "a rule" cannot be a rule's id: 1 to 128 of [A-Za-z0-9._-]
    11 | id = "a rule"
       |      ^^^^^^^^

    a.toml:14:11: error[BH-P014]: label key "-" does not start with a letter
    14 | differ = ["-"]
       |           ^^^
    "#);
}
