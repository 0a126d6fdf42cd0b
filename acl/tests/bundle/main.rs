//! Signed bundles: what a node accepts as policy, and what it then permits whom (C2, C9).
#![allow(clippy::unwrap_used)]

mod deployment;
mod slices;

use bulkhead_acl::{Bundle, Direction, Policy, RuleId, Service, Verdict, slice::MAX_SLICE_BYTES};
use bulkhead_identity::{Epoch, Generation, Role, Timestamp, TrustDocument, TrustDomain};
use deployment::{END, NOW, WEB_TO_DB, allowed, deployment, key, rules};

#[test]
fn a_bundle_reads_back_as_it_was_signed() {
    let acme = deployment("acme.example");
    let bundle = acme.bundle(7, WEB_TO_DB);
    let bytes = bundle.whole_slice(&[&key(10), &key(12)]);
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
        ("no signature", bundle.whole_slice(&[])),
        ("one signature", bundle.whole_slice(&[&key(10)])),
        ("one signature twice", bundle.whole_slice(&[&key(10), &key(10)])),
        ("an operator instead", bundle.whole_slice(&[&key(10), &key(3)])),
        ("strangers", bundle.whole_slice(&[&key(20), &key(21)])),
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
    assert!(acme.refusal(&other.whole_slice(&keys)).contains("evil.example"));
    assert!(acme.refusal(&acme.signed(4, WEB_TO_DB)).contains("generation 4 is older than 5"));
    assert!(acme.refusal(&acme.signed(0, WEB_TO_DB)).contains("generation 0"));
    let early = Bundle { not_before: Timestamp(NOW.0 + 1), ..good.clone() };
    assert!(acme.refusal(&early.whole_slice(&keys)).contains("not valid before"));
    let late = Bundle { expires: NOW, ..good };
    assert!(acme.refusal(&late.whole_slice(&keys)).contains("expired"));
    assert!(acme.refusal(&vec![0; MAX_SLICE_BYTES + 1]).contains("MAX_SLICE_BYTES"));
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
    let more_signatures = acme.bundle(5, WEB_TO_DB).whole_slice(&[&key(10), &key(11), &key(12)]);
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
