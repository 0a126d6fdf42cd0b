//! C9: documents on their way between operators, and requests to a root. What is collected is worth nothing before
//! it suffices, and nobody asks for another's key.

use crate::deployment::*;
use bulkhead_identity::issuer_request::MAX_ISSUER_REQUEST_BYTES;
use bulkhead_identity::*;

fn next() -> TrustDocument {
    TrustDocument { version: Epoch(2), ..deployment().trust.document().clone() }
}

#[test]
fn operators_sign_one_after_the_other_or_side_by_side() {
    let held = deployment().trust;
    let mut draft = Draft::new(&next()).unwrap();
    assert_eq!(draft.missing(held.document()), 2);
    assert!(held.update(&draft.bytes(), NOW).is_err());
    let mut other = draft.clone();
    draft.countersign(&key(OPERATORS[0])).unwrap();
    draft.countersign(&key(OPERATORS[0])).unwrap();
    assert_eq!((draft.missing(held.document()), draft.signers()), (1, vec![key(OPERATORS[0]).public()]));
    assert!(held.update(&draft.bytes(), NOW).is_err(), "one operator twice is one");
    other.countersign(&key(90)).unwrap();
    other.countersign(&key(OPERATORS[1])).unwrap();
    assert_eq!(other.missing(held.document()), 1, "a stranger's signature counts for nothing");
    draft.merge(&Draft::read(&other.bytes()).unwrap()).unwrap();
    assert_eq!(draft.missing(held.document()), 0);
    assert_eq!(held.update(&draft.bytes(), NOW).unwrap().document(), &next());
}

#[test]
fn copies_that_say_something_else_are_not_merged() {
    let mut draft = Draft::new(&next()).unwrap();
    let other = TrustDocument { policy_keys: vec![key(91).public()], ..next() };
    let other = Draft::read(&other.sign(&[&key(OPERATORS[0]), &key(OPERATORS[1])])).unwrap();
    assert!(draft.merge(&other).is_err());
    assert!(draft.signers().is_empty());
}

#[test]
fn c9_a_draft_that_nobody_would_take_is_not_made() {
    assert!(Draft::new(&TrustDocument { operator_threshold: 3, ..next() }).is_err());
    assert!(Draft::new(&TrustDocument { roots: Vec::new(), ..next() }).is_err());
    assert!(Draft::read(b"").is_err());
}

#[test]
fn a_node_far_behind_follows_step_by_step_and_no_other_way() {
    let held = deployment().trust;
    let old = OPERATORS.map(key);
    let new = [40, 41].map(key);
    let second = TrustDocument { operator_keys: new.iter().map(IdentityKey::public).collect(), ..next() };
    let both: Vec<_> = old.iter().chain(&new).collect();
    let second = second.sign(&both);
    let mut third = Draft::read(&second).unwrap().document().clone();
    third.version = Epoch(3);
    let third = third.sign(&[&new[0], &new[1]]);
    let reached = held.follow([held.bytes(), &second, &third], NOW).unwrap();
    assert_eq!(reached.document().version, Epoch(3));
    assert!(held.follow([third.as_slice()], NOW).is_err(), "a step was left out");
    assert!(held.follow([third.as_slice(), &second], NOW).is_err());
    assert!(reached.follow([second.as_slice()], NOW).is_err(), "and not back");
    assert_eq!(held.follow([], NOW).unwrap().hash(), held.hash());
}

#[test]
fn a_request_is_for_the_key_that_signed_it() {
    let acme = deployment();
    let request = IssuerRequest::create(&key(50), acme.issuer.limits());
    let read = IssuerRequest::read(&request).unwrap();
    assert_eq!((read.key, &read.limits), (key(50).public(), acme.issuer.limits()));
    // Another key's signature over the same words.
    let payload = Signed::decode(&request).unwrap().payload;
    let forged = Signed::sign(signed::CONTEXT_ISSUER_REQUEST, payload.clone(), &[&key(51)]).encode();
    assert!(IssuerRequest::read(&forged).is_err());
    let misused = Signed::sign(signed::CONTEXT_REQUEST, payload, &[&key(50)]).encode();
    assert!(IssuerRequest::read(&misused).is_err());
    for bit in 0..request.len() * 8 {
        let mut changed = request.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(IssuerRequest::read(&changed).is_err(), "bit {bit}");
    }
    assert!(IssuerRequest::read(&vec![0; MAX_ISSUER_REQUEST_BYTES + 1]).is_err());
}

#[test]
fn two_roots_vouch_until_one_is_removed() {
    let acme = deployment();
    let other = Authority::create(key(60), &acme.domain, serial(0x60), START, FAR).unwrap();
    let next_issuer = issuer_with(&other, 61, &limits(&acme.domain));
    let chain = next_issuer.issue(&acme.claims()).unwrap();
    assert!(acme.verify(&chain).is_err(), "before the overlap");

    let with = |roots: Vec<Vec<u8>>, version| {
        let document = TrustDocument { version: Epoch(version), roots, ..next() };
        document.sign(&[&key(OPERATORS[0]), &key(OPERATORS[1])])
    };
    let (old_root, new_root) = (acme.authority.root_der().to_vec(), other.root_der().to_vec());
    let overlap = acme.trust.update(&with(vec![old_root, new_root.clone()], 2), NOW).unwrap();
    let none = Revocations::default();
    let at = |trust: &Trust, chain: &Chain| verify(chain, trust, &none, NOW).is_ok();
    assert!(at(&overlap, &chain) && at(&overlap, &acme.chain()));
    assert_eq!(overlap.root_of(next_issuer.certificate(), &none, NOW), Some(1));
    assert!(overlap.check_issuer(acme.issuer.certificate(), &none, NOW).is_ok());

    // The list of the old issuer, and then that of the new one.
    let list = |issuer: &Issuer, epoch| {
        let list = RevocationList { epoch: Epoch(epoch), issued: NOW, ..RevocationList::default() };
        list.sign(issuer.key(), Some(issuer.certificate()))
    };
    let held = Revocations::verify(&list(&acme.issuer, 1), &overlap, Epoch(0), NOW).unwrap();
    let held = held.update(&list(&next_issuer, 2), &overlap, NOW).unwrap();
    assert_eq!(RevocationList::issuer_of(held.bytes()).as_deref(), Some(next_issuer.certificate()));

    let after = overlap.update(&with(vec![new_root], 3), NOW).unwrap();
    assert!(at(&after, &chain) && !at(&after, &acme.chain()));
    assert!(after.check_issuer(acme.issuer.certificate(), &none, NOW).is_err());
    assert!(held.update(&list(&acme.issuer, 3), &after, NOW).is_err(), "the old issuer has no say any more");
    assert!(Revocations::verify(held.bytes(), &after, Epoch(0), NOW).is_ok());
}
