//! What a file must look like.

use super::found;

#[test]
fn a_file_that_is_not_toml() {
    let shown = found(&[
        (
            "a.toml",
            r#"
version = 1
[groups]
web = "env=prod
"#,
        ),
        (
            "b.toml",
            r#"
version = 1
[[allow]]
id = "r"
from = "@web"
to = "*"
ports = ["tcp/1"]
nonsense = 1
"#,
        ),
    ]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:4:16: error[BH-P001]: not TOML: invalid basic string, expected `"`
    4 | web = "env=prod
      |                ^
    help: a text begins and ends with `"`, on one line

    b.toml:8:1: error[BH-P003]: allow rule has no key "nonsense"
    8 | nonsense = 1
      | ^^^^^^^^
    help: known are id, from, to, ports, not_before, until, hours, owner, why, review_by, same
    "#);
}

#[test]
fn every_file_says_its_version() {
    let shown = found(&[
        (
            "a.toml",
            r#"
[groups]
web = "*"
"#,
        ),
        (
            "b.toml",
            r"
version = 2
",
        ),
    ]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:1:1: error[BH-P002]: the file does not say its version
    help: begin each file with `version = 1`

    b.toml:2:11: error[BH-P002]: this release reads policy version 1 only
    2 | version = 2
      |           ^
    help: write `version = 1`
    "#);
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[[allow]]
id = "r"
from = "*"
to = "env"
ports = ["tcp/1"]
unitl = 2026-12-31T18:00:00Z
differ = ["env"]

[[alow]]
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:8:1: error[BH-P003]: allow rule has no key "unitl"
    8 | unitl = 2026-12-31T18:00:00Z
      | ^^^^^
    help: did you mean "until"?

    a.toml:9:1: error[BH-P003]: allow rule has no key "differ"
    9 | differ = ["env"]
      | ^^^^^^
    help: `same` belongs to allow, `differ` to never

    a.toml:11:3: error[BH-P003]: policy file has no key "alow"
    11 | [[alow]]
       |   ^^^^
    help: did you mean "allow"?
    "#);
}

#[test]
fn a_value_of_the_wrong_type() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
allow = 1
[groups]
web = 5
[[never]]
id = "n"
from = ["*"]
to = "*"
ports = "tcp/1"
until = "tomorrow"
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:3:9: error[BH-P004]: write [[allow]], once for each allow rule
    3 | allow = 1
      |         ^

    a.toml:5:7: error[BH-P004]: a group must be text in quotes, found integer
    5 | web = 5
      |       ^

    a.toml:8:8: error[BH-P004]: from must be text in quotes, found array
    8 | from = ["*"]
      |        ^^^^^
    help: write one text: terms joined by `,` must all hold; for either write a second rule

    a.toml:10:9: error[BH-P004]: ports must be a list of texts, found string
    10 | ports = "tcp/1"
       |         ^^^^^^^
    help: write ["tcp/1"]

    a.toml:11:9: error[BH-P004]: until must be a time without quotes, found string
    11 | until = "tomorrow"
       |         ^^^^^^^^^^
    help: write it like until = 2027-06-30T18:00:00Z
    "#);
}

#[test]
fn what_is_missing_is_said_all_at_once() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[[allow]]

[[never]]
id = "n"

[[test]]
name = "t"
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:3:1: error[BH-P005]: allow rule needs "id"
    3 | [[allow]]
      | ^^^^^^^^^

    a.toml:3:1: error[BH-P005]: allow rule needs "from"
    3 | [[allow]]
      | ^^^^^^^^^

    a.toml:3:1: error[BH-P005]: allow rule needs "to"
    3 | [[allow]]
      | ^^^^^^^^^

    a.toml:3:1: error[BH-P005]: allow rule needs "ports"
    3 | [[allow]]
      | ^^^^^^^^^

    a.toml:5:1: error[BH-P005]: never rule needs "from"
    5 | [[never]]
      | ^^^^^^^^^

    a.toml:5:1: error[BH-P005]: never rule needs "to"
    5 | [[never]]
      | ^^^^^^^^^

    a.toml:8:1: error[BH-P005]: test needs "from"
    8 | [[test]]
      | ^^^^^^^^

    a.toml:8:1: error[BH-P005]: test needs "to"
    8 | [[test]]
      | ^^^^^^^^

    a.toml:8:1: error[BH-P005]: test needs "allow" or "deny"
    8 | [[test]]
      | ^^^^^^^^
    "#);
}

#[test]
fn a_selector_that_cannot_be_read_has_its_own_caret() {
    let shown = found(&[(
        "a.toml",
        r#"
version = 1
[groups]
web = "env=prod, role in (web"
case = "env=Prod"
look = "env=pr\u043ed"
empty = ""
"#,
    )]);
    insta::assert_snapshot!(shown, @r#"
    a.toml:4:30: error[BH-P006]: expected `,` or `)`, but the selector ends here
    4 | web = "env=prod, role in (web"
      |                              ^
    help: write "env=prod, role in (web)"

    a.toml:5:13: error[BH-P006]: label value "Prod" has a character other than a-z, 0-9, dot, underscore and dash
    5 | case = "env=Prod"
      |             ^^^^
    help: write "prod"

    a.toml:6:8: error[BH-P006]: label value "prоd" has a character other than a-z, 0-9, dot, underscore and dash
    6 | look = "env=pr\u043ed"
      |        ^^^^^^^^^^^^^^^
    help: U+043E is not a plain letter

    a.toml:7:10: error[BH-P006]: expected a label, @group, node:NAME or `*`, but the selector ends here
    7 | empty = ""
      |          ^
    help: write `*` for every identity
    "#);
}
