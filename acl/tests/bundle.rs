//! Signed bundles: what a node accepts as policy, and what it then permits whom (C2, C9).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bulkhead_acl::{
    Bundle, Direction, Permit, Policy, RuleId, RuleSet, Service, Sources, Verdict, bundle::MAX_BUNDLE_BYTES,
    check,
};
use bulkhead_identity::{
    Authority, Claims, Epoch, Generation, IdentityKey, Issuer, Labels, NodeName, OverlayAddrs, Revocations,
    Role, SpiffeId, Timestamp, Trust, TrustDocument, TrustDomain, TrustHash, TunnelKey, VerifiedIdentity,
    certificate::Serial,
    issue::{IssuerLimits, Seed, default_ranges},
    verify,
};

const START: Timestamp = Timestamp(1_795_000_000);
const NOW: Timestamp = Timestamp(START.0 + 3_600);
const END: Timestamp = Timestamp(START.0 + 24 * 3_600);
const FAR: Timestamp = Timestamp(START.0 + 10 * 365 * 24 * 3_600);

fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Seed::new([seed; 32]))
}

const POLICY_KEYS: [u8; 3] = [10, 11, 12];

/// A deployment whose policies need two of three keys.
struct Deployment {
    domain: TrustDomain,
    issuer: Issuer,
    trust: Trust,
}

fn deployment(name: &str) -> Deployment {
    let domain = TrustDomain::parse(name).unwrap();
    let authority = Authority::create(key(1), &domain, Serial([0x70; 16]), START, FAR).unwrap();
    let (v6, v4) = default_ranges(&domain);
    let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
    let issuer_der = authority.sign_issuer(key(2).public(), &limits, Serial([0x71; 16]), START, FAR).unwrap();
    let issuer = Issuer::load(key(2), issuer_der).unwrap();
    let document = TrustDocument {
        version: Epoch(1),
        trust_domain: domain.clone(),
        roots: vec![authority.root_der().to_vec()],
        operator_keys: vec![key(3).public()],
        operator_threshold: 1,
        policy_keys: POLICY_KEYS.map(|seed| key(seed).public()).to_vec(),
        policy_threshold: 2,
        overlay_v6: v6,
        overlay_v4: v4,
        issued: START,
        expires: FAR,
    };
    let bytes = document.sign(&[&key(3)]);
    let trust = Trust::pinned(&bytes, TrustHash::of(&bytes), NOW).unwrap();
    Deployment { domain, issuer, trust }
}

impl Deployment {
    fn identity(&self, number: u8, role: Role, name: &str, labels: &str) -> VerifiedIdentity {
        let in_overlay = role == Role::Node;
        let ((v6, _), _) = default_ranges(&self.domain);
        let mut octets = v6.octets();
        octets[15] = number;
        let addresses = OverlayAddrs { v6: Ipv6Addr::from(octets), v4: Ipv4Addr::new(100, 64, 0, number) };
        let claims = Claims {
            id: SpiffeId { trust_domain: self.domain.clone(), role, name: NodeName::parse(name).unwrap() },
            identity_key: key(100 + number).public(),
            tunnel_key: in_overlay.then(|| TunnelKey::from_bytes(Seed::new([100 + number; 32])).public()),
            addresses: in_overlay.then_some(addresses),
            labels: Labels::parse(labels).unwrap(),
            serial: Serial([number; 16]),
            not_before: START,
            not_after: END,
        };
        let chain = self.issuer.issue(&claims).unwrap();
        verify(&chain, &self.trust, &Revocations::default(), NOW).unwrap()
    }

    fn node(&self, number: u8, name: &str, labels: &str) -> VerifiedIdentity {
        self.identity(number, Role::Node, name, labels)
    }

    fn bundle(&self, generation: u64, text: &str) -> Bundle {
        Bundle {
            trust_domain: self.domain.clone(),
            generation: Generation(generation),
            not_before: START,
            expires: END,
            rules: rules(text),
        }
    }

    fn signed(&self, generation: u64, text: &str) -> Vec<u8> {
        self.bundle(generation, text).sign(&[&key(POLICY_KEYS[0]), &key(POLICY_KEYS[1])])
    }

    fn policy(&self, text: &str) -> Policy {
        Policy::verify(&self.signed(1, text), &self.trust, Generation(0), NOW).unwrap()
    }

    /// Why these bytes are refused at NOW by a node that has seen generation 5.
    fn refusal(&self, bytes: &[u8]) -> String {
        Policy::verify(bytes, &self.trust, Generation(5), NOW).unwrap_err().to_string()
    }
}

fn rules(text: &str) -> RuleSet {
    let text = format!("version = 1\n{text}");
    let checked = check(&Sources(BTreeMap::from([("policy.toml".to_owned(), text)])), NOW);
    checked.unwrap_or_else(|errors| panic!("{}", errors[0])).rules
}

const WEB_TO_DB: &str = r#"
[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432", "icmp"]

[[never]]
id = "no-ping"
from = "*"
to = "role=db"
ports = ["icmp"]
"#;

fn allowed(permit: &Permit, direction: Direction, service: Service, wall: Timestamp) -> bool {
    permit.verdict(direction, service, wall) != Verdict::Deny
}

#[test]
fn a_bundle_reads_back_as_it_was_signed() {
    let acme = deployment("acme.example");
    let bundle = acme.bundle(7, WEB_TO_DB);
    let bytes = bundle.sign(&[&key(10), &key(12)]);
    let policy = Policy::verify(&bytes, &acme.trust, Generation(7), NOW).unwrap();
    assert_eq!(policy.rules(), &bundle.rules);
    assert_eq!((policy.generation(), policy.expires()), (Generation(7), END));
    assert_eq!(policy.bytes(), bytes);
}

#[test]
fn a_policy_needs_enough_signatures_of_its_own_keys() {
    let acme = deployment("acme.example");
    let bundle = acme.bundle(7, WEB_TO_DB);
    let forged: [(&str, Vec<u8>); 5] = [
        ("no signature", bundle.sign(&[])),
        ("one signature", bundle.sign(&[&key(10)])),
        ("one signature twice", bundle.sign(&[&key(10), &key(10)])),
        ("an operator instead", bundle.sign(&[&key(10), &key(3)])),
        ("strangers", bundle.sign(&[&key(20), &key(21)])),
    ];
    for (what, bytes) in forged {
        assert!(Policy::verify(&bytes, &acme.trust, Generation(0), NOW).is_err(), "{what}");
    }
}

#[test]
fn a_removed_policy_key_signs_nothing_any_more() {
    let acme = deployment("acme.example");
    let old = acme.signed(7, WEB_TO_DB);
    let document = TrustDocument {
        version: Epoch(2),
        policy_keys: [11, 12].map(|seed| key(seed).public()).to_vec(),
        ..acme.trust.document().clone()
    };
    let trust = acme.trust.update(&document.sign(&[&key(3)]), NOW).unwrap();
    assert!(Policy::verify(&old, &trust, Generation(0), NOW).is_err());
}

#[test]
fn no_changed_byte_is_accepted() {
    let acme = deployment("acme.example");
    let bytes = acme.signed(7, WEB_TO_DB);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(policy) = Policy::verify(&changed, &acme.trust, Generation(0), NOW) {
            // Another encoding of the very same signed payload.
            assert_eq!(policy.rules(), &rules(WEB_TO_DB), "byte {at}");
            assert_eq!(policy.generation(), Generation(7), "byte {at}");
        }
    }
}

#[test]
fn another_domain_an_old_generation_and_a_wrong_time_are_refused() {
    let acme = deployment("acme.example");
    let keys = [&key(10), &key(11)];
    let good = acme.bundle(7, WEB_TO_DB);
    let other = Bundle { trust_domain: TrustDomain::parse("evil.example").unwrap(), ..good.clone() };
    assert!(acme.refusal(&other.sign(&keys)).contains("evil.example"));
    assert!(acme.refusal(&acme.signed(4, WEB_TO_DB)).contains("generation 4 is older than 5"));
    assert!(acme.refusal(&acme.signed(0, WEB_TO_DB)).contains("generation 0"));
    let early = Bundle { not_before: Timestamp(NOW.0 + 1), ..good.clone() };
    assert!(acme.refusal(&early.sign(&keys)).contains("not valid before"));
    let late = Bundle { expires: NOW, ..good };
    assert!(acme.refusal(&late.sign(&keys)).contains("expired"));
    assert!(acme.refusal(&vec![0; MAX_BUNDLE_BYTES + 1]).contains("MAX_BUNDLE_BYTES"));
    assert!(Policy::verify(&acme.signed(5, WEB_TO_DB), &acme.trust, Generation(5), NOW).is_ok());
}

#[test]
fn generations_only_grow_and_one_generation_has_one_content() {
    let acme = deployment("acme.example");
    let held = Policy::nobody().replace(&acme.signed(5, WEB_TO_DB), &acme.trust, NOW).unwrap();
    assert!(held.replace(&acme.signed(6, ""), &acme.trust, NOW).is_ok());
    assert!(held.replace(&acme.signed(5, WEB_TO_DB), &acme.trust, NOW).is_ok());
    assert!(held.replace(&acme.signed(4, WEB_TO_DB), &acme.trust, NOW).is_err());
    let error = held.replace(&acme.signed(5, ""), &acme.trust, NOW).unwrap_err();
    assert!(error.to_string().contains("two contents for generation 5"), "{error}");
    let more_signatures = acme.bundle(5, WEB_TO_DB).sign(&[&key(10), &key(11), &key(12)]);
    assert!(held.replace(&more_signatures, &acme.trust, NOW).is_ok());
}

#[test]
fn nobody_permits_nobody() {
    let acme = deployment("acme.example");
    let (web, db) = (acme.node(10, "web", "role=web"), acme.node(11, "db", "role=db"));
    assert!(Policy::nobody().permit(&web, &db, NOW).is_none());
    assert!(acme.policy("").permit(&web, &db, NOW).is_none());
    assert_eq!(Policy::nobody().generation(), Generation(0));
}

#[test]
fn a_permit_holds_what_each_direction_may() {
    let acme = deployment("acme.example");
    let policy = acme.policy(WEB_TO_DB);
    let (web, db) = (acme.node(10, "web", "role=web"), acme.node(11, "db", "role=db"));
    let at_web = policy.permit(&web, &db, NOW).unwrap();
    let postgres = Service::Tcp(5432);
    let verdict = at_web.verdict(Direction::Outbound, postgres, NOW);
    assert_eq!(verdict, Verdict::Allow(RuleId("web-to-db".into())));
    assert!(!allowed(&at_web, Direction::Inbound, postgres, NOW));
    assert!(!allowed(&at_web, Direction::Outbound, Service::Echo, NOW), "forbidden by no-ping");
    assert!(!allowed(&at_web, Direction::Outbound, Service::Tcp(22), NOW));
    let at_db = policy.permit(&db, &web, NOW).unwrap();
    assert!(allowed(&at_db, Direction::Inbound, postgres, NOW));
    assert!(!allowed(&at_db, Direction::Outbound, postgres, NOW));
    assert_eq!((at_web.peer().name().as_str(), at_web.generation()), ("db", Generation(1)));
}

#[test]
fn strangers_coordinators_and_oneself_get_no_permit() {
    let (acme, evil) = (deployment("acme.example"), deployment("evil.example"));
    let everyone = "[[allow]]\nid = \"all\"\nfrom = \"*\"\nto = \"*\"\nports = [\"any\"]\n";
    let policy = acme.policy(everyone);
    let (web, db) = (acme.node(10, "web", ""), acme.node(11, "db", ""));
    assert!(policy.permit(&web, &db, NOW).is_some());
    assert!(policy.permit(&web, &web, NOW).is_none());
    assert!(policy.permit(&web, &evil.node(12, "eve", ""), NOW).is_none());
    let coordinator = acme.identity(13, Role::Coordinator, "main", "");
    assert!(policy.permit(&web, &coordinator, NOW).is_none());
    assert!(policy.permit(&coordinator, &web, NOW).is_none());
}

#[test]
fn a_pair_that_every_never_forbids_gets_no_permit() {
    let acme = deployment("acme.example");
    let (web, db) = (acme.node(10, "web", "role=web"), acme.node(11, "db", "role=db"));
    let text = WEB_TO_DB.to_owned() + "[[never]]\nid = \"all\"\nfrom = \"*\"\nto = \"*\"\n";
    assert!(acme.policy(&text).permit(&web, &db, NOW).is_none());
}

/// 2026-11-18T12:06:40Z is `NOW`.
fn timed(not_before: &str, until: &str) -> String {
    format!(
        "[[allow]]\nid = \"t\"\nfrom = \"role=web\"\nto = \"role=db\"\nports = [\"tcp/1\"]\n\
         not_before = {not_before}\nuntil = {until}\n"
    )
}

#[test]
fn windows_are_enforced_by_the_permit_alone() {
    let acme = deployment("acme.example");
    let (web, db) = (acme.node(10, "web", "role=web"), acme.node(11, "db", "role=db"));
    let policy = acme.policy(&timed("2026-11-18T13:00:00Z", "2026-11-18T14:00:00Z"));
    let (opens, closes) = (Timestamp(1_795_006_800), Timestamp(1_795_010_400));
    let permit = policy.permit(&web, &db, NOW).expect("it will be permitted");
    let service = Service::Tcp(1);
    assert!(!allowed(&permit, Direction::Outbound, service, NOW));
    assert_eq!(permit.next_change(NOW), Some(opens));
    assert!(allowed(&permit, Direction::Outbound, service, opens));
    assert_eq!(permit.next_change(opens), Some(closes));
    assert!(!allowed(&permit, Direction::Outbound, service, closes));
    assert!(policy.permit(&web, &db, closes).is_none());
}

#[test]
fn an_expired_bundle_permits_nothing() {
    let acme = deployment("acme.example");
    let (web, db) = (acme.node(10, "web", "role=web"), acme.node(11, "db", "role=db"));
    let policy = acme.policy(WEB_TO_DB);
    let permit = policy.permit(&web, &db, NOW).unwrap();
    assert_eq!(permit.next_change(NOW), Some(END));
    assert!(!allowed(&permit, Direction::Outbound, Service::Tcp(5432), END));
    assert!(policy.permit(&web, &db, END).is_none());
}

#[test]
fn the_same_rules_in_a_new_generation_are_the_same_grants() {
    let acme = deployment("acme.example");
    let (web, db) = (acme.node(10, "web", "role=web"), acme.node(11, "db", "role=db"));
    let permit = |generation, text: &str| {
        let bytes = acme.signed(generation, text);
        Policy::verify(&bytes, &acme.trust, Generation(0), NOW).unwrap().permit(&web, &db, NOW).unwrap()
    };
    let unrelated = "[[allow]]\nid = \"x\"\nfrom = \"role=x\"\nto = \"*\"\nports = [\"tcp/1\"]\n";
    let first = permit(1, WEB_TO_DB);
    assert!(first.same_grants(&permit(2, &(WEB_TO_DB.to_owned() + unrelated))));
    assert!(!first.same_grants(&permit(2, &WEB_TO_DB.replace("5432", "5433"))));
}
