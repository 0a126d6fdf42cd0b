//! The sentences of the policy language, one test each.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bulkhead_acl::{Checked, Decision, Service, Sources, Subject, check};
use bulkhead_identity::{Labels, NodeName, Timestamp};

/// 2026-12-01T12:00:00Z, a month before the example's `until`.
const WALL: Timestamp = Timestamp(1_796_126_400);

/// The example of the language's description, with its header.
const EXAMPLE: &str = r#"
version = 1

[labels.env]
values = ["prod", "stage", "ot"]

[labels.role]
values = ["web", "db", "historian", "plc", "prometheus"]

[groups]
web    = "env=prod, role=web"
db     = "env=prod, role=db"
ops    = "idp.group=sre"

[services]
postgres = ["tcp/5432"]
ssh      = ["tcp/22"]
modbus   = ["tcp/502"]

[[allow]]
id    = "web-to-db"
from  = "@web"
to    = "@db"
ports = ["postgres"]
owner = "payments@acme.example"
why   = "orders live in db"
review_by = 2027-06-30

[[allow]]
id    = "same-app-metrics"
from  = "role=prometheus"
to    = "*"
same  = ["env"]
ports = ["tcp/9100"]

[[allow]]
id    = "ops-ssh"
from  = "@ops"
to    = "env=prod"
ports = ["ssh"]
until = 2026-12-31T18:00:00Z

[[allow]]
id    = "plc"
from  = "env=ot"
to    = "role=plc"
ports = ["modbus"]

[[never]]
id    = "plc-only-from-historian"
from  = "role!=historian"
to    = "role=plc"

[[never]]
id     = "environments-apart"
from   = "*"
to     = "*"
differ = ["env"]
ports  = ["tcp/9100", "modbus"]

[[test]]
name  = "web reaches db on postgres only"
from  = "@web"
to    = "@db"
allow = ["tcp/5432"]
deny  = ["tcp/22", "icmp"]
at    = 2026-12-01T12:00:00Z

[[test]]
name  = "the same with exact labels"
from  = { labels = { env = "prod", role = "web" } }
to    = { labels = { env = "prod", role = "db" } }
allow = ["postgres"]
"#;

fn checked(text: &str) -> Checked {
    let sources = Sources(BTreeMap::from([("policy.toml".to_owned(), text.to_owned())]));
    check(&sources, WALL).unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// The codes and messages of a policy that is refused.
fn refused(text: &str) -> Vec<String> {
    let sources = Sources(BTreeMap::from([("policy.toml".to_owned(), text.to_owned())]));
    let errors = check(&sources, WALL).unwrap_err();
    errors.into_iter().map(|error| format!("{} {}", error.code, error.message)).collect()
}

fn subject(name: &str, labels: &str) -> Subject {
    Subject { name: NodeName::parse(name).unwrap(), labels: Labels::parse(labels).unwrap() }
}

fn decide_at(text: &str, from: &str, to: &str, service: &str, wall: Timestamp) -> Decision {
    let service = Service::parse(service).unwrap();
    checked(text).rules.decide(&subject("from", from), &subject("to", to), service, wall)
}

/// Which rule decides in the example: `+id`, `-id`, or `?nearest`.
fn check_example(from: &str, to: &str, service: &str, wall: Timestamp, expected: &str) {
    let shown = match decide_at(EXAMPLE, from, to, service, wall) {
        Decision::Allowed { rule, .. } => format!("+{rule}"),
        Decision::Forbidden { rule, .. } => format!("-{rule}"),
        Decision::NoRule { nearest, .. } => format!("?{}", nearest.unwrap()),
    };
    assert_eq!(shown, expected, "{from} -> {to} {service}");
}

#[test]
fn the_example_checks_without_a_finding_and_its_tests_hold() {
    let checked = checked(EXAMPLE);
    assert_eq!(checked.tests_passed, 4);
    assert!(checked.warnings.is_empty(), "{}", checked.warnings[0]);
}

#[test]
fn an_allow_names_who_whom_and_what() {
    check_example("env=prod,role=web", "env=prod,role=db", "tcp/5432", WALL, "+web-to-db");
    check_example("env=prod,role=web", "env=prod,role=db", "tcp/5433", WALL, "?web-to-db");
    check_example("env=prod,role=web", "env=prod,role=db", "udp/5432", WALL, "?web-to-db");
    check_example("env=stage,role=web", "env=prod,role=db", "tcp/5432", WALL, "?web-to-db");
}

#[test]
fn direction_is_client_to_server() {
    check_example("env=prod,role=db", "env=prod,role=web", "tcp/5432", WALL, "?web-to-db");
}

#[test]
fn same_needs_the_label_on_both_sides() {
    check_example("env=prod,role=prometheus", "env=prod", "tcp/9100", WALL, "+same-app-metrics");
    check_example("env=prod,role=prometheus", "env=stage", "tcp/9100", WALL, "-environments-apart");
    check_example("role=prometheus", "", "tcp/9100", WALL, "-environments-apart");
}

#[test]
fn no_allow_pierces_a_never() {
    check_example("env=ot,role=historian", "env=ot,role=plc", "tcp/502", WALL, "+plc");
    check_example("env=ot,role=web", "env=ot,role=plc", "tcp/502", WALL, "-plc-only-from-historian");
}

#[test]
fn an_unlabelled_node_escapes_no_guard_rail() {
    check_example("env=ot", "env=ot,role=plc", "tcp/502", WALL, "-plc-only-from-historian");
}

#[test]
fn until_ends_a_rule_to_the_second() {
    let end = 1_798_740_000;
    check_example("idp.group=sre", "env=prod", "tcp/22", Timestamp(end - 1), "+ops-ssh");
    check_example("idp.group=sre", "env=prod", "tcp/22", Timestamp(end), "?ops-ssh");
}

#[test]
fn default_deny_always() {
    for text in ["version = 1", "version = 1\n[groups]\nweb = \"env=prod\"\n"] {
        let found = decide_at(text, "env=prod", "env=prod", "tcp/443", WALL);
        assert_eq!(found, Decision::NoRule { nearest: None, missing: Vec::new() });
    }
    let nothing = check(&Sources::default(), WALL).unwrap();
    assert!(nothing.rules.allow.is_empty() && nothing.rules.never.is_empty());
    assert!(!nothing.rules.may_ever(&subject("a", ""), &subject("b", ""), WALL));
}

#[test]
fn no_implicit_same_group_may_talk() {
    check_example("env=prod,role=web", "env=prod,role=web", "tcp/5432", WALL, "?web-to-db");
}

#[test]
fn a_decision_names_the_smallest_id_and_all_of_them() {
    let text = r#"
        version = 1
        [[allow]]
        id = "b"
        from = "*"
        to = "env=prod"
        ports = ["tcp/*"]
        [[allow]]
        id = "a"
        from = "env"
        to = "*"
        ports = ["tcp/1"]
    "#;
    let Decision::Allowed { rule, all, file, line } = decide_at(text, "env=x", "env=prod", "tcp/1", WALL)
    else {
        panic!("allowed")
    };
    assert_eq!(&*rule.0, "a");
    assert_eq!(all.iter().map(|id| &*id.0).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((file.as_str(), line), ("policy.toml", 8));
}

#[test]
fn a_refusal_says_the_nearest_rule_and_what_is_missing() {
    let Decision::NoRule { nearest, missing } =
        decide_at(EXAMPLE, "env=stage,role=web", "role=db", "tcp/5432", WALL)
    else {
        panic!("no rule")
    };
    assert_eq!(&*nearest.unwrap().0, "web-to-db");
    assert_eq!(
        missing,
        [
            "source from must match `env=prod`, has env=stage",
            "destination to must match `env=prod`, has no label env"
        ]
    );
    let after = Timestamp(1_798_740_000);
    let Decision::NoRule { missing, .. } = decide_at(EXAMPLE, "idp.group=sre", "env=prod", "tcp/22", after)
    else {
        panic!("no rule")
    };
    assert_eq!(missing, ["it held until 2026-12-31T18:00:00Z"]);
}

#[test]
fn icmp_echo_obeys_policy_like_any_service() {
    let rule = |ports| {
        format!("version = 1\n[[allow]]\nid = \"r\"\nfrom = \"*\"\nto = \"*\"\nports = [\"{ports}\"]\n")
    };
    assert!(!decide_at(&rule("tcp/*"), "", "", "icmp", WALL).is_allowed());
    assert!(decide_at(&rule("icmp"), "", "", "icmp", WALL).is_allowed());
    assert!(!decide_at(&rule("icmp"), "", "", "tcp/1", WALL).is_allowed());
}

#[test]
fn an_unknown_protocol_matches_only_its_number_or_any() {
    let rule =
        |ports| format!("version = 1\n[[allow]]\nid = \"r\"\nfrom = \"*\"\nto = \"*\"\nports = [{ports}]\n");
    assert!(!decide_at(&rule(r#""tcp/*", "udp/*", "sctp/*", "icmp""#), "", "", "ip/47", WALL).is_allowed());
    assert!(decide_at(&rule(r#""ip/47""#), "", "", "ip/47", WALL).is_allowed());
    assert!(decide_at(&rule(r#""any""#), "", "", "ip/47", WALL).is_allowed());
}

#[test]
fn groups_may_name_groups_up_to_the_limit() {
    let chain = |depth: usize| {
        let mut text = "version = 1\n[groups]\ng1 = \"env=prod\"\n".to_owned();
        for level in 2..=depth {
            writeln!(text, "g{level} = \"@g{}\"", level - 1).unwrap();
        }
        text + &format!("[[allow]]\nid=\"r\"\nfrom=\"@g{depth}\"\nto=\"*\"\nports=[\"tcp/1\"]\n")
    };
    assert!(decide_at(&chain(16), "env=prod", "", "tcp/1", WALL).is_allowed());
    assert!(!decide_at(&chain(16), "env=stage", "", "tcp/1", WALL).is_allowed());
    let errors = refused(&chain(17));
    assert_eq!(errors, ["BH-P009 groups nest deeper than 16 (MAX_NESTING)"]);
}

#[test]
fn nesting_bombs_and_cycles_end_in_errors_not_in_the_stack() {
    let mut long = "version = 1\n[groups]\n".to_owned();
    for level in 0..10_000 {
        writeln!(long, "g{level:05} = \"@g{:05}\"", (level + 1) % 10_000).unwrap();
    }
    let errors = refused(&long);
    assert!(errors.iter().all(|error| error.starts_with("BH-P009")), "{errors:?}");

    // Each level names the one below twice: 2^16 terms if it were written out.
    let mut wide = "version = 1\n[groups]\ng0 = \"env=a\"\n".to_owned();
    for level in 1..16 {
        let below = level - 1;
        writeln!(wide, "g{level} = \"@g{below}, @g{below}\"").unwrap();
    }
    checked(&wide);
    let brackets = format!("version = {}", "[".repeat(100_000));
    assert!(refused(&brackets)[0].starts_with("BH-P001"));
}

#[test]
fn every_limit_is_named_in_its_error() {
    let rules = |count: usize| -> String {
        let rule = |n| format!("[[never]]\nid = \"r{n}\"\nfrom = \"*\"\nto = \"*\"\n");
        (0..count).map(rule).collect::<String>()
    };
    let cases = [
        ("MAX_TEXT_BYTES", "#".repeat(10 * 1024 * 1024 + 1)),
        ("MAX_RULES", rules(100_001)),
        ("MAX_GROUPS", {
            let groups: String = (0..10_001).map(|n| format!("g{n} = \"env\"\n")).collect();
            format!("[groups]\n{groups}")
        }),
        ("MAX_TERMS", {
            let terms: Vec<_> = (0..65).map(|n| format!("k{n}")).collect();
            format!("[groups]\nbig = \"{}\"\n", terms.join(","))
        }),
        ("MAX_VALUES", {
            let values: Vec<_> = (0..257).map(|n| format!("v{n}")).collect();
            format!("[groups]\nbig = \"k in ({})\"\n", values.join(","))
        }),
        ("MAX_SELECTOR_BYTES", format!("[groups]\nbig = \"{}\"\n", "a".repeat(4097))),
        ("MAX_PORTS", format!("[services]\nbig = {:?}\n", vec!["tcp/1"; 257])),
        ("MAX_RANGES", {
            // A thousand and some ports with gaps between them: in one text, and by way of services.
            let port = |n: usize| format!("tcp/{}", 2 * n);
            let ports: Vec<_> = (0..1025).map(port).collect();
            format!("[services]\nbig = [\"{}\"]\n", ports.join(", "))
        }),
        ("MAX_RANGES", {
            let service = |n: usize| {
                let ports: Vec<_> = (0..256).map(|port| format!("tcp/{}", 2 * (256 * n + port))).collect();
                format!("s{n} = {ports:?}\n")
            };
            let services: String = (0..5).map(service).collect();
            let rule = "[[allow]]\nid = \"r\"\nfrom = \"a\"\nto = \"b\"\nports = [\"s0\", \"s1\", \"s2\", \"s3\", \"s4\"]\n";
            format!("[services]\n{services}{rule}")
        }),
        ("MAX_IDENTITIES", {
            let values: Vec<_> = (0..200).map(|n| format!("v{n}")).collect();
            let side = format!("a in ({0}), b in ({0})", values.join(","));
            format!("[[test]]\nname = \"t\"\nfrom = \"{side}\"\nto = \"node:x\"\ndeny = [\"icmp\"]\n")
        }),
    ];
    for (limit, text) in cases {
        let errors = refused(&format!("version = 1\n{text}"));
        assert!(errors.iter().any(|error| error.contains(limit)), "{limit}: {:?}", errors.first());
    }
    assert_eq!(checked(&format!("version = 1\n{}", rules(10_000))).rules.never.len(), 10_000);
}

#[test]
fn as_many_ranges_as_a_bundle_carries_are_carried() {
    let ports: Vec<_> = (0..1024).map(|n| format!("tcp/{}", 2 * n)).collect();
    let rule = format!(
        "version = 1\n[[allow]]\nid = \"r\"\nfrom = \"a\"\nto = \"b\"\nports = [\"{}\"]\n",
        ports.join(",")
    );
    let rules = checked(&rule).rules;
    assert_eq!(minicbor::decode::<bulkhead_acl::RuleSet>(&minicbor::to_vec(&rules).unwrap()).unwrap(), rules);
}

#[test]
fn ten_megabytes_of_mistakes_make_a_bounded_report() {
    let text = "version = 1\n[groups]\n".to_owned()
        + &(0..9_000).map(|n| format!("g{n} = \"@missing{n}\"\n")).collect::<String>();
    let errors = refused(&text);
    assert_eq!(errors.len(), 1001);
    assert!(errors.last().unwrap().contains("8000 further findings"), "{:?}", errors.last());
}

#[test]
fn errors_of_all_files_come_at_once_and_in_order() {
    let file = |text: &str| format!("version = 1\n{text}");
    let sources = Sources(BTreeMap::from([
        ("b.toml".to_owned(), file("[groups]\nb = \"=\"\n")),
        ("a.toml".to_owned(), file("[services]\na = [\"x/1\", \"tcp/70000\"]\n")),
        ("c.toml".to_owned(), file("[groups\n")),
    ]));
    let errors = check(&sources, WALL).unwrap_err();
    let places: Vec<_> = errors.iter().map(|e| (e.file.as_str(), e.line, e.code.as_str())).collect();
    assert_eq!(
        places,
        [
            ("a.toml", 3, "BH-P012"),
            ("a.toml", 3, "BH-P012"),
            ("b.toml", 3, "BH-P006"),
            ("c.toml", 2, "BH-P001")
        ]
    );
}

#[test]
fn a_file_name_that_could_move_a_cursor_is_refused() {
    for name in ["", "a\nb.toml", "a\u{1b}[2J.toml", "\u{202e}lmot.a"] {
        let sources = Sources(BTreeMap::from([(name.to_owned(), "version = 1".to_owned())]));
        assert_eq!(check(&sources, WALL).unwrap_err()[0].code, "BH-P014", "{name:?}");
    }
}

#[test]
fn a_policy_whose_own_test_fails_is_refused() {
    let text = EXAMPLE.replace("deny  = [\"tcp/22\", \"icmp\"]", "deny  = [\"tcp/5432\"]");
    let errors = refused(&text);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("BH-P018") && errors[0].contains("web-to-db"), "{}", errors[0]);
}

#[test]
fn a_test_of_a_selector_asks_every_identity_that_it_names() {
    let text = |ports: &str| {
        format!(
            "version = 1\n[labels.env]\nvalues = [\"prod\", \"stage\"]\n\
             [[allow]]\nid = \"r\"\nfrom = \"env=prod\"\nto = \"node:db\"\nports = [\"tcp/1\"]\n\
             [[test]]\nname = \"t\"\nfrom = \"env\"\nto = \"node:db\"\n{ports}\n"
        )
    };
    assert!(refused(&text("allow = [\"tcp/1\"]"))[0].contains("env=stage"));
    assert!(refused(&text("deny = [\"tcp/1\"]"))[0].contains("env=prod"));
    assert_eq!(checked(&text("deny = [\"tcp/2\"]")).tests_passed, 1);
}

#[test]
fn a_node_rule_does_not_match_the_nameless_identity_of_a_test() {
    let text = "version = 1\n[[allow]]\nid = \"r\"\nfrom = \"node:identity-0\"\nto = \"*\"\nports = [\"tcp/1\"]\n\
                [[test]]\nname = \"t\"\nfrom = { labels = {} }\nto = { labels = {} }\ndeny = [\"tcp/1\"]\n";
    assert_eq!(checked(text).tests_passed, 1);
}
