//! C2, C7: trust documents that are old, two of one version, pinned wrongly, or signed by too few.

use crate::deployment::*;
use bulkhead_identity::trust::{MAX_ROOTS, MAX_TRUST_BYTES};
use bulkhead_identity::*;

fn base() -> TrustDocument {
    let acme = deployment();
    document(&acme.domain, &acme.authority)
}

fn sign(document: &TrustDocument, operators: &[u8]) -> Vec<u8> {
    let keys: Vec<_> = operators.iter().map(|seed| key(*seed)).collect();
    document.sign(&keys.iter().collect::<Vec<_>>())
}

fn stored(document: &TrustDocument) -> Result<Trust, trust::TrustError> {
    Trust::stored(&sign(document, &OPERATORS), NOW)
}

#[test]
fn a_document_reads_as_it_was_signed() {
    let document = base();
    let trust = stored(&document).unwrap();
    assert_eq!(*trust.document(), document);
    assert_eq!(trust.hash(), TrustHash::of(trust.bytes()));
    assert_eq!(*Trust::pinned(trust.bytes(), trust.hash(), NOW).unwrap().document(), document);
}

#[test]
fn c1_a_document_other_than_the_pinned_one_is_refused() {
    let honest = sign(&base(), &OPERATORS);
    // The attacker makes a document of its own, correctly signed by operators of its own.
    let mut document = base();
    document.operator_keys = vec![key(90).public()];
    document.operator_threshold = 1;
    let rogue = sign(&document, &[90]);
    assert!(Trust::stored(&rogue, NOW).is_ok());
    assert!(Trust::pinned(&rogue, TrustHash::of(&honest), NOW).is_err());
    assert!(Trust::stored(&honest, NOW).unwrap().update(&rogue, NOW).is_err());
}

#[test]
fn c9_too_few_operators_are_refused() {
    let document = base();
    for operators in [&[][..], &[OPERATORS[0]], &[OPERATORS[0], OPERATORS[0]], &[OPERATORS[0], 90]] {
        assert!(Trust::stored(&sign(&document, operators), NOW).is_err());
    }
}

#[test]
fn c2_the_version_only_grows() {
    let mut document = base();
    document.version = Epoch(5);
    let held = stored(&document).unwrap();
    let update = |document: &TrustDocument| held.update(&sign(document, &OPERATORS), NOW);
    assert!(held.update(held.bytes(), NOW).is_ok(), "the same again");
    let mut older = document.clone();
    older.version = Epoch(4);
    assert!(update(&older).is_err());
    let mut second = document.clone();
    second.policy_keys = vec![key(91).public()];
    assert!(update(&second).is_err(), "two contents of one version");
    second.version = Epoch(6);
    assert_eq!(update(&second).unwrap().document().version, Epoch(6));
    second.trust_domain = domain("other.example");
    assert!(update(&second).is_err(), "another deployment");
}

#[test]
fn operators_are_replaced_only_by_those_before_and_those_after() {
    let held = stored(&base()).unwrap();
    let mut next = base();
    next.version = Epoch(2);
    next.operator_keys = vec![key(40).public(), key(41).public()];
    let update = |operators: &[u8]| held.update(&sign(&next, operators), NOW);
    assert!(update(&[40, 41]).is_err(), "the old ones did not agree");
    assert!(update(&OPERATORS).is_err(), "the new ones did not show their keys");
    assert!(update(&[OPERATORS[0], 40, 41]).is_err(), "too few of the old ones");
    let next = update(&[OPERATORS[0], OPERATORS[1], 40, 41]).unwrap();
    assert_eq!(next.document().operator_keys, vec![key(40).public(), key(41).public()]);
    let mut back = base();
    back.version = Epoch(3);
    assert!(next.update(&sign(&back, &OPERATORS), NOW).is_err(), "the old ones have no say any more");
}

#[test]
fn an_expired_document_is_worth_nothing() {
    let bytes = sign(&base(), &OPERATORS);
    assert!(Trust::stored(&bytes, Timestamp(FAR.0 - 1)).is_ok());
    assert!(Trust::stored(&bytes, FAR).is_err());
    assert!(Trust::pinned(&bytes, TrustHash::of(&bytes), FAR).is_err());
}

#[test]
fn a_document_that_admits_too_much_is_refused_though_signed() {
    let check = |change: &dyn Fn(&mut TrustDocument)| {
        let mut document = base();
        change(&mut document);
        assert!(stored(&document).is_err());
    };
    check(&|d| d.operator_threshold = 0);
    check(&|d| d.operator_threshold = 3);
    check(&|d| d.operator_keys[1] = d.operator_keys[0]);
    check(&|d| d.policy_threshold = 0);
    check(&|d| d.policy_threshold = 2);
    check(&|d| d.policy_keys.clear());
    check(&|d| d.policy_keys = [key(5).public(); 2].to_vec());
    check(&|d| d.policy_keys = (0..33).map(|seed| key(seed).public()).collect());
    check(&|d| d.roots.clear());
    check(&|d| d.roots = vec![d.roots[0].clone(); MAX_ROOTS + 1]);
    check(&|d| d.roots[0].push(0));
    check(&|d| d.roots[0] = deployment().issuer.certificate().to_vec());
    check(&|d| d.roots[0] = vec![0; MAX_TRUST_BYTES]);
    check(&|d| d.expires = d.issued);
}

#[test]
fn c6_an_overlay_that_takes_foreign_addresses_is_refused() {
    let v6 = |text: &str, prefix| {
        let mut document = base();
        document.overlay_v6 = (text.parse().unwrap(), prefix);
        stored(&document).is_ok()
    };
    assert!(v6("fd12:3456:789a::", 48) && v6("fd12::", 16));
    assert!(!v6("::", 0) && !v6("2001:db8::", 32) && !v6("fe80::", 10) && !v6("::ffff:0:0", 96));
    assert!(!v6("fd12::1", 48) && !v6("fd12::", 129) && !v6("fc00::", 6) && !v6("::1", 128));
    let v4 = |text: &str, prefix| {
        let mut document = base();
        document.overlay_v4 = (text.parse().unwrap(), prefix);
        stored(&document).is_ok()
    };
    assert!(v4("100.64.0.0", 10) && v4("10.7.0.0", 16) && v4("192.168.0.0", 16) && v4("172.16.0.0", 12));
    assert!(!v4("0.0.0.0", 0) && !v4("127.0.0.0", 8) && !v4("169.254.0.0", 16) && !v4("224.0.0.0", 4));
    assert!(!v4("100.0.0.0", 8) && !v4("100.64.0.1", 10) && !v4("100.64.0.0", 33) && !v4("8.8.8.0", 24));
}

#[test]
fn every_flipped_bit_of_a_document_is_refused() {
    let honest = sign(&base(), &OPERATORS);
    let held = Trust::stored(&honest, NOW).unwrap();
    for bit in 0..honest.len() * 8 {
        let mut changed = honest.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Trust::stored(&changed, NOW).is_err(), "bit {bit} from disk");
        assert!(held.update(&changed, NOW).is_err(), "bit {bit} as update");
        assert!(Trust::pinned(&changed, held.hash(), NOW).is_err(), "bit {bit} at first contact");
    }
    for end in 0..honest.len() {
        assert!(Trust::stored(&honest[..end], NOW).is_err());
    }
    assert!(Trust::stored(&[honest.as_slice(), &[0]].concat(), NOW).is_err());
}

#[test]
fn the_default_ranges_are_those_of_the_trust_domain_alone() {
    let (v6, v4) = issue::default_ranges(&domain("acme.example"));
    assert_eq!(v4, ("100.64.0.0".parse().unwrap(), 10));
    assert_eq!(v6.1, 48);
    assert_eq!(v6.0.octets()[0], 0xfd);
    assert_eq!(v6.0.octets()[6..], [0; 10]);
    assert_ne!(issue::default_ranges(&domain("other.example")).0, v6);
    assert!(range::contains_v6(v6, v6.0) && !range::contains_v6(v6, "fd00::".parse().unwrap()));
    assert!(range::contains_v4(v4, "100.127.255.255".parse().unwrap()));
    assert!(!range::contains_v4(v4, "100.128.0.0".parse().unwrap()));
}
