//! C4, C5, L14, E6: what a hostile coordinator, file or person could give us for a name.

use bulkhead_identity::name::{MAX_LABELS, MAX_NAME_BYTES, MAX_TRUST_DOMAIN_BYTES};
use bulkhead_identity::*;
use proptest::prelude::*;

/// None of these is a name, a label's key or value, or a trust domain.
const HOSTILE: &[&str] = &[
    "",
    " ",
    "..",
    ".",
    "../etc/passwd",
    "a/b",
    "a\\b",
    "a b",
    "a\n",
    "\na",
    "a\0",
    "\u{1b}[31m",
    "a\u{202e}b",
    "a\u{200b}b",
    "\"a\"",
    "'a'",
    "a;b",
    "a,b",
    "a=b",
    "a%2fb",
    "$(a)",
    "-a",
    "-",
    "WEB",
    "Web",
    "wеb",
    "ｗeb",
    "münchen",
    "a:b",
    "a@b",
    "*",
    "*.example",
];

#[test]
fn c4_hostile_strings_are_refused_everywhere() {
    let long = "a".repeat(64 * 1024);
    for text in HOSTILE.iter().copied().chain([long.as_str()]) {
        assert!(NodeName::parse(text).is_err(), "{text:?}");
        assert!(LabelKey::parse(text).is_err(), "{text:?}");
        assert!(LabelValue::parse(text).is_err(), "{text:?}");
        assert!(TrustDomain::parse(text).is_err(), "{text:?}");
        assert!(SpiffeId::parse(&format!("spiffe://acme.example/node/{text}")).is_err(), "{text:?}");
        assert!(SpiffeId::parse(&format!("spiffe://{text}/node/web")).is_err(), "{text:?}");
        let bytes = minicbor::to_vec(text).unwrap();
        assert!(minicbor::decode::<NodeName>(&bytes).is_err());
        let json = serde_json::to_string(text).unwrap();
        assert!(serde_json::from_str::<NodeName>(&json).is_err());
        assert!(serde_json::from_str::<Labels>(&format!("{{{json}:\"a\"}}")).is_err());
        assert!(serde_json::from_str::<Labels>(&format!("{{\"a\":{json}}}")).is_err());
    }
}

#[test]
fn e6_an_error_repeats_hostile_text_only_escaped_and_in_part() {
    let error = NodeName::parse(&"\u{1b}[31m\n\u{202e}".repeat(10_000)).unwrap_err().to_string();
    assert!(error.len() < 1_000);
    assert!(error.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{error}");
}

#[test]
fn names_have_their_exact_limits() {
    assert!(NodeName::parse(&"a".repeat(MAX_NAME_BYTES)).is_ok());
    assert!(NodeName::parse(&"a".repeat(MAX_NAME_BYTES + 1)).is_err());
    assert!(LabelValue::parse(&"9".repeat(MAX_NAME_BYTES)).is_ok());
    let domain = ["a".repeat(63), "b".repeat(63), "c".repeat(61)].join(".");
    assert_eq!(domain.len(), MAX_TRUST_DOMAIN_BYTES);
    let domain_name = TrustDomain::parse(&domain).unwrap();
    assert!(TrustDomain::parse(&format!("{domain}c")).is_err());
    let name = NodeName::parse(&"n".repeat(MAX_NAME_BYTES)).unwrap();
    let id = SpiffeId { trust_domain: domain_name, role: Role::Node, name };
    assert_eq!(id.dns_name().len(), 253);
}

#[test]
fn c5_names_outside_the_one_form_are_refused() {
    let node = |text: &str| assert!(NodeName::parse(text).is_err(), "{text}");
    ["web.acme", "web-", "xn--wb-nia", "ab--c", "web_1"].into_iter().for_each(node);
    let domain = |text: &str| assert!(TrustDomain::parse(text).is_err(), "{text}");
    ["acme..example", ".acme", "acme.", "10.0.0.1", "acme.1", "a_b.example", "-a.example"]
        .into_iter()
        .for_each(domain);
    let id = |text: &str| assert!(SpiffeId::parse(text).is_err(), "{text}");
    [
        "spiffe://acme.example/node/web/",
        "spiffe://acme.example//node/web",
        "spiffe://acme.example/node",
        "spiffe://acme.example/Node/web",
        "SPIFFE://acme.example/node/web",
        "spiffe://user@acme.example/node/web",
        "spiffe://acme.example:8443/node/web",
        "spiffe://acme.example/node/web?x",
        "spiffe://acme.example/node/web#x",
        "spiffe:///node/web",
    ]
    .into_iter()
    .for_each(id);
    LabelKey::parse("1st").unwrap_err();
    LabelKey::parse("site.fab_2-b").unwrap();
    LabelValue::parse("1.2.3").unwrap();
}

#[test]
fn labels_are_bounded_and_each_key_comes_once() {
    let many = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert_eq!(Labels::parse(&many(MAX_LABELS)).unwrap().len(), MAX_LABELS);
    assert!(Labels::parse(&many(MAX_LABELS + 1)).is_err());
    for text in ["env=prod,env=dev", "env", "env=", "=prod", "env=prod,", ",", "env==prod", " env=prod"] {
        assert!(Labels::parse(text).is_err(), "{text:?}");
    }
    assert!(Labels::parse("").unwrap().is_empty());
    assert!(serde_json::from_str::<Labels>(r#"{"env":"prod","env":"dev"}"#).is_err());
    // A CBOR map with one key twice, and one that promises 2^63 entries.
    assert!(minicbor::decode::<Labels>(b"\xa2\x61a\x61b\x61a\x61c").is_err());
    assert!(minicbor::decode::<Labels>(b"\xbb\x80\0\0\0\0\0\0\0\x61a\x61b").is_err());
    assert_eq!(Labels::parse("a=b").unwrap().get("a").unwrap().as_str(), "b");
    assert_eq!(Labels::parse("a=b").unwrap().get("A"), None);
}

fn any_labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[a-z][a-z0-9._-]{0,20}", "[a-z0-9][a-z0-9._-]{0,20}", 0..10).prop_map(
        |map| {
            let parse = |(key, value): (String, String)| {
                (LabelKey::parse(&key).unwrap(), LabelValue::parse(&value).unwrap())
            };
            Labels::new(map.into_iter().map(parse)).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn labels_parse_after_print(labels in any_labels()) {
        prop_assert_eq!(&Labels::parse(&labels.to_string()).unwrap(), &labels);
        let json = serde_json::to_string(&labels).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Labels>(&json).unwrap(), &labels);
        let bytes = minicbor::to_vec(&labels).unwrap();
        prop_assert_eq!(&minicbor::decode::<Labels>(&bytes).unwrap(), &labels);
    }

    #[test]
    fn identities_parse_after_print(
        name in "[a-z0-9]{1,10}", domain in "[a-z0-9]{1,10}\\.[a-z]{2,5}", role in 0..4_usize,
    ) {
        let role = [Role::Node, Role::Gateway, Role::Coordinator, Role::Relay][role];
        let id = SpiffeId { trust_domain: domain.parse().unwrap(), role, name: name.parse().unwrap() };
        prop_assert_eq!(&SpiffeId::parse(&id.to_string()).unwrap(), &id);
    }

    #[test]
    fn what_parses_is_safe_in_a_file_name_a_terminal_and_dns(text in "\\PC{0,70}") {
        if let Ok(name) = NodeName::parse(&text) {
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert_eq!(name.as_str(), text);
        }
    }
}
