//! Policies that are made to be expensive (L13, S9): each is refused by name, before it costs anything.
//!
//! The time is printed and not asserted: a busy machine is no bug. `cargo test --test bombs -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_acl::{Checked, Diagnostic, Sources, check, source::MAX_TOKENS};
use bulkhead_identity::Timestamp;

/// 2026-11-01T00:00:00Z.
const WALL: Timestamp = Timestamp(1_793_491_200);
/// Just below the limit of a policy's text.
const ALL: usize = 10 * 1024 * 1024 - 1024;

const ALLOW: &str = "[[allow]]\nid = \"r\"\nfrom = \"a\"\nto = \"b\"\nports = [\"tcp/1\"]\n";

fn timed(name: &str, text: String) -> Result<Checked, Vec<Diagnostic>> {
    let bytes = text.len();
    let sources = Sources(BTreeMap::from([("policy.toml".to_owned(), text)]));
    let start = cpu();
    let result = check(&sources, WALL);
    println!("{:>8.1?} for {bytes:>8} bytes: {name}", cpu() - start);
    result
}

/// Time that this thread has run, so that a busy machine does not count.
fn cpu() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// `text` is refused with `reason` in its first line or so, a limit's name or a code, in a bounded report.
fn refused(name: &str, reason: &str, text: String) {
    let errors = timed(name, text).unwrap_err();
    let said = errors.iter().any(|error| error.to_string().contains(reason));
    assert!(said, "{name}: {reason} is not in {}", errors[0]);
    assert!(errors.len() <= 1001, "{name}: {} findings", errors.len());
    let report: usize = errors.iter().map(|error| error.to_string().len()).sum();
    assert!(report < 1024 * 1024, "{name}: a report of {report} bytes");
}

/// `version = 1`, then `piece` as often as it fits.
fn full_of(piece: &str) -> String {
    format!("version = 1\n{}", piece.repeat(ALL / piece.len()))
}

/// As [`full_of`], but no more than the parser is given.
fn as_much_as_is_read(piece: &str) -> String {
    let tokens = piece.matches(['\n', '\r', '[', ']', '{', '}', '=', '.', ',']).count().max(1);
    let times = (ALL / piece.len()).min((MAX_TOKENS - 10) / tokens);
    format!("version = 1\n{}", piece.repeat(times))
}

#[test]
fn too_much_text_is_refused_before_it_is_read() {
    refused("a comment of more than all", "MAX_TEXT_BYTES", "#".repeat(10 * 1024 * 1024 + 1));
}

#[test]
fn ten_megabytes_of_what_is_not_toml() {
    let pieces = [
        "[", "{", "=", "a=", "a=\n", "\"", "'''", "\0", "x\n", "[[a]\n", "= 1\n", "\r", "a.", "a={", "#\0\n",
    ];
    for piece in pieces {
        refused(&format!("{piece:?} again and again"), "BH-P0", full_of(piece));
        refused(&format!("{piece:?} as often as is read"), "BH-P001", as_much_as_is_read(piece));
    }
    for (count, text) in [(40, &full_of("xyz abc\n")[..250 * 1024]), (4096, &full_of("xyz abc\n")[..2500])] {
        let files = (0..count).map(|file| (format!("{file}.toml"), text.to_owned()));
        let sources = Sources(files.collect());
        let start = cpu();
        assert!(check(&sources, WALL).is_err());
        println!("{:>8.1?} for {count} such files", cpu() - start);
    }
}

#[test]
fn nesting_far_beyond_sense() {
    let deep = 100_000;
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    refused("arrays in arrays", "BH-P001", format!("version = 1\na = {open}{close}\n"));
    let (open, close) = ("{a=".repeat(deep), "}".repeat(deep));
    refused("tables in tables", "BH-P001", format!("version = 1\na = {open}1{close}\n"));
    refused("a dotted key", "BH-P", format!("version = 1\n{}a = 1\n", "a.".repeat(deep)));
    refused("a dotted header", "BH-P", format!("version = 1\n[{}a]\n", "a.".repeat(deep)));
    refused(
        "as long a header as is read",
        "BH-P",
        format!("version = 1\n[{}a]\n", "a.".repeat(MAX_TOKENS - 10)),
    );
    let prefix = "a.".repeat(3_900);
    let lines = |line: &dyn Fn(usize) -> String| (0..1000).map(line).collect::<String>();
    let headers = lines(&|n| format!("[{prefix}n{n}]\n"));
    refused("a thousand dotted headers", "BH-P", format!("version = 1\n{headers}"));
    let keys = lines(&|n| format!("{prefix}n{n} = 1\n"));
    refused("a thousand dotted keys", "BH-P", format!("version = 1\n{keys}"));
}

#[test]
fn ten_megabytes_of_one_thing() {
    assert!(timed("a comment", format!("version = 1\n#{}\n", "x".repeat(ALL - 100))).is_ok());
    assert!(timed("comments", as_much_as_is_read("#\n")).is_ok());
    assert!(timed("empty lines", as_much_as_is_read("\n")).is_ok());
    refused("empty lines", "MAX_TOKENS", full_of("\n"));
    assert!(timed("spaces", full_of(" ")).is_ok());
    let long = "x".repeat(ALL - 200);
    assert!(timed("a reason", format!("version = 1\n{ALLOW}why = \"{long}\"\n")).is_ok());
    let escaped = "\\u0061".repeat(ALL / 6 - 20);
    let digits = "9".repeat(ALL - 200);
    let cases = [
        ("a selector", "MAX_SELECTOR_BYTES", format!("[groups]\ng = \"{long}\"\n")),
        ("an escaped selector", "MAX_SELECTOR_BYTES", format!("[groups]\ng = \"{escaped}\"\n")),
        ("a port", "BH-P012", format!("[services]\ns = [\"{long}\"]\n")),
        ("hours", "MAX_HOURS_BYTES", format!("{ALLOW}hours = \"{long}\"\n")),
        ("an id", "BH-P014", ALLOW.replace("\"r\"", &format!("\"{long}\""))),
        ("a key", "BH-P003", format!("{long} = 1\n")),
        ("a label", "BH-P014", format!("[labels.{long}]\n")),
        ("a label's value", "BH-P014", format!("[labels.a]\nvalues = [\"{long}\"]\n")),
        ("a group's name", "BH-P014", format!("[groups]\n{long} = \"*\"\n")),
        ("a test's name", "BH-P005", format!("[[test]]\nname = \"{long}\"\n")),
        ("a number", "BH-P004", format!("{ALLOW}why = {digits}\n")),
        ("a date", "BH-P", format!("{ALLOW}until = 2026-12-31T18:00:00.{digits}Z\n")),
    ];
    for (name, reason, text) in cases {
        refused(name, reason, format!("version = 1\n{text}"));
    }
}

#[test]
fn more_of_a_thing_than_its_limit() {
    let many = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<String>();
    let joined =
        |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");
    let listed = |count: usize, each: &dyn Fn(usize) -> String| joined(count, &|n| format!("{:?}", each(n)));
    let never = |n: usize| format!("[[never]]\nid = \"r{n}\"\nfrom = \"*\"\nto = \"*\"\n");
    let inline = |n: usize| format!("{{id=\"r{n}\",from=\"*\",to=\"a\",ports=[\"any\"]}},");
    let group = |n: usize| format!("g{n} = \"env\"\n");
    let asked = |n: usize| {
        format!("[[test]]\nname = \"t{n}\"\nfrom = \"node:a\"\nto = \"node:b\"\ndeny = [\"icmp\"]\n")
    };
    let values = joined(256, &|n| format!("v{n}"));
    let ports = listed(256, &|n| format!("tcp/{n}"));
    let pairs = |n: usize| {
        format!(
            "[[test]]\nname = \"t{n}\"\nfrom = \"a in ({values})\"\nto = \"a in ({values})\"\ndeny = [{ports}]\n"
        )
    };
    let labels = joined(65, &|n| format!("l{n} = \"x\""));
    let labelled = format!(
        "[[test]]\nname = \"t\"\nfrom = {{ labels = {{ {labels} }} }}\nto = {{ labels = {{}} }}\ndeny = [\"icmp\"]\n"
    );
    let port = |n: usize| format!("tcp/{}", n % 65536);
    let value = |n: usize| format!("v{n}");
    let missing = |n: usize| format!("g{n} = \"@missing{n}\"");
    let key = |n: usize| format!("k{n}=1\n");
    let cases = [
        ("rules", "MAX_RULES", many(100_001, &never)),
        ("inline rules", "MAX_RULES", format!("allow = [{}]\n", many(100_001, &inline))),
        ("groups", "MAX_GROUPS", format!("[groups]\n{}", many(10_001, &group))),
        ("half a million groups", "MAX_GROUPS", format!("[groups]\n{}", many(500_000, &group))),
        (
            "services",
            "MAX_SERVICES",
            format!("[services]\n{}", many(10_001, &|n| format!("s{n} = [\"any\"]\n"))),
        ),
        ("labels", "MAX_DECLARED_LABELS", many(500_000, &|n| format!("[labels.a{n}]\n"))),
        ("values", "MAX_LABEL_VALUES", format!("[labels.a]\nvalues = [{}]\n", listed(900_000, &value))),
        ("values in a selector", "MAX_VALUES", format!("[groups]\ng = \"k in ({})\"\n", joined(257, &value))),
        ("terms in a selector", "MAX_TERMS", format!("[groups]\ng = \"{}\"\n", joined(65, &value))),
        ("ports", "MAX_PORTS", format!("[services]\ns = [{}]\n", listed(800_000, &port))),
        ("ports in one text", "BH-P012", format!("[services]\ns = [\"{}\"]\n", joined(900_000, &port))),
        (
            "hours",
            "MAX_HOURS",
            format!("{ALLOW}hours = [{}]\n", listed(100_000, &|_| "Mon 06:00-07:00 UTC".to_owned())),
        ),
        ("related labels", "MAX_RELATED", format!("{ALLOW}same = [{}]\n", listed(100_000, &value))),
        ("labels on a node", "MAX_LABELS", labelled),
        ("tests", "MAX_TESTS", many(50_000, &asked)),
        ("pairs of all tests", "MAX_TEST_PAIRS", many(20, &pairs)),
        ("unknown keys", "BH-P003", many(1_000_000, &key)),
        ("unknown keys of a rule", "BH-P003", format!("{ALLOW}{}", many(900_000, &key))),
        ("mistakes on one line", "BH-P007", format!("groups = {{{}}}\n", joined(9_000, &missing))),
        ("empty rules on one line", "MAX_RULES", format!("allow = [{}]\n", "{},".repeat(1_300_000))),
    ];
    for (name, reason, text) in cases {
        refused(name, reason, format!("version = 1\n{text}"));
    }
}

#[test]
fn groups_that_grow_when_they_are_written_out() {
    let groups = |count: usize, each: &dyn Fn(usize) -> String| {
        let lines: String = (0..count).map(|n| format!("g{n} = \"{}\"\n", each(n))).collect();
        format!("version = 1\n[groups]\n{lines}")
    };
    let below = |n: usize| n.saturating_sub(1);
    // 2^15 terms if they were written out, and one when they are resolved.
    let twice = |n: usize| if n == 0 { "env".to_owned() } else { format!("@g{0}, @g{0}", below(n)) };
    assert!(timed("each names the one below twice", groups(16, &twice)).is_ok());
    refused("seventeen deep", "MAX_NESTING", groups(17, &twice));
    refused("ten thousand deep", "MAX_NESTING", groups(10_000, &twice));
    refused("a ring of ten thousand", "BH-P00", groups(10_000, &|n| format!("@g{}", (n + 1) % 10_000)));
    refused("each names itself", "BH-P008", groups(10_000, &|n| format!("@g{n}")));
    // Sixteen layers, each of whose groups names all groups of the layer below.
    let layered = |n: usize| match n / 64 {
        0 => format!("k{n}"),
        layer => (0..8).map(|other| format!("@g{}", (layer - 1) * 64 + other)).collect::<Vec<_>>().join(","),
    };
    assert!(timed("layers that name much of the layer below", groups(16 * 64, &layered)).is_ok());
    // Few words that mean much: of groups, of rules and of tests.
    let listed =
        |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(",");
    let ranges = |n: usize| {
        (0..1000).map(|port| format!("udp/{}", 2 * port)).collect::<Vec<_>>().join(",") + &format!(",tcp/{n}")
    };
    let services: String = (0..200).map(|n| format!("s{n} = [\"{}\"]\n", ranges(n))).collect();
    let ports = (0..8).map(|n| format!("\"s{n}\"")).collect::<Vec<_>>().join(",");
    let rule = |n| format!("[[allow]]\nid=\"r{n}\"\nfrom=\"a\"\nto=\"b\"\nports=[{ports}]\n");
    let rules_of_services: String = (0..4_000).map(rule).collect();
    let text = format!("version = 1\n[services]\n{services}{rules_of_services}");
    refused("rules of many ports", "MAX_BUNDLE_BYTES", text);
    let large = format!("version = 1\n[groups]\nv = \"k in ({})\"\n", listed("v", 250));
    let terms = format!("version = 1\n[groups]\nk = \"{}\"\n", listed("k", 64));
    let rules = |group: &str| -> String {
        let rule =
            |n| format!("[[allow]]\nid=\"r{n}\"\nfrom=\"@{group}\"\nto=\"@{group}\"\nports=[\"any\"]\n");
        (0..100_000).map(rule).collect()
    };
    refused("rules of many values", "MAX_BUNDLE_BYTES", large.clone() + &rules("v"));
    refused("rules of many terms", "MAX_BUNDLE_BYTES", terms.clone() + &rules("k"));
    let again =
        |count: usize, each: &str| (0..count).map(|n| format!("g{n} = \"{each}\"\n")).collect::<String>();
    assert!(timed("groups of many values", large.clone() + &again(9_999, "@v, @v")).is_ok());
    assert!(
        timed("groups of many terms", terms.clone() + &again(9_999, "@k, @k, @k, @k, @k, @k, @k")).is_ok()
    );
    refused(
        "a group of too many",
        "MAX_WRITTEN_OUT",
        terms.clone() + &again(9_999, "@k, @k, @k, @k, @k, @k, @k, @k, @k"),
    );
    let test = |n| format!("[[test]]\nname=\"t{n}\"\nfrom=\"@v,!k\"\nto=\"@v,@v\"\ndeny=[\"icmp\"]\n");
    let tests = (0..10_000).map(test).collect::<String>();
    refused("tests of many values", "BH-P017", large + &tests);
    let longer = |n: usize| if n == 0 { "k".to_owned() } else { format!("k{n}, @g{}", below(n)) };
    refused("terms that add up", "MAX_NESTING", groups(10_000, &longer));
}

#[test]
fn tests_that_weigh_many_rules() {
    let rules = |count: usize, side: &str| -> String {
        let rule = |n| format!("[[allow]]\nid=\"r{n}\"\nfrom=\"{side}\"\nto=\"*\"\nports=[\"tcp/{n}\"]\n");
        (0..count).map(rule).collect()
    };
    let each: String =
        (0..256).map(|n| format!("[[never]]\nid=\"n{n}\"\nfrom=\"a=v{n}\"\nto=\"a=v{n}\"\n")).collect();
    let values = (0..256).map(|n| format!("v{n}")).collect::<Vec<_>>().join(",");
    let test = |n: usize| {
        format!(
            "[[test]]\nname = \"t{n}\"\nfrom = \"a in ({values})\"\nto = \"a in ({values})\"\ndeny = [\"icmp\"]\n"
        )
    };
    let text = format!("version = 1\n{each}{}{}", rules(50_000, "*"), test(0));
    refused("every pair by every rule", "MAX_TEST_RULES", text);
    let small = |n: usize| {
        format!("[[test]]\nname = \"t{n}\"\nfrom = \"a=v{n}\"\nto = \"a=w{n}\"\ndeny = [\"icmp\"]\n")
    };
    let tests: String = (0..10_000).map(small).collect();
    let text = format!("version = 1\n{}{tests}", rules(50_000, "a!=x"));
    refused("every identity by every rule", "MAX_TEST_RULES", text);
}

#[test]
fn the_largest_policies_are_no_bombs() {
    let narrow = |n: usize| {
        let (from, to, port) = (n % 500, n / 500, n % 65536);
        format!("[[allow]]\nid=\"r{n}\"\nfrom=\"a=v{from}\"\nto=\"b=v{to}\"\nports=[\"tcp/{port}\"]\n")
    };
    for count in [2_000, 10_000, 100_000] {
        let rules: String = (0..count).map(narrow).collect();
        let checked = timed(&format!("{count} rules"), format!("version = 1\n{rules}")).unwrap();
        assert_eq!(checked.rules.allow.len(), count);
    }
    let wide = |n: usize| format!("[[never]]\nid=\"r{n}\"\nfrom=\"*\"\nto=\"a!=b\"\n");
    let rules: String = (0..100_000).map(wide).collect();
    assert!(timed("100000 guard rails", format!("version = 1\n{rules}")).is_ok());
}
