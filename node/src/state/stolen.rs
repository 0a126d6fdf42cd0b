//! A coordinator whose whole disk was copied, from where a node stands (C9, P2): policy and operators' keys are
//! elsewhere, and everything that the rest can sign is shown to what the node holds.
#![allow(clippy::unwrap_used)]

use crate::fixture::{Domain, NOW, Person, key};
use crate::state::held::{CertificateError, Held};
use bulkhead_identity::{Claims, Epoch, Generation, Labels, VerifyError};

/// The policy key that is not on the disk.
const OFFLINE: u8 = 99;

/// `env` is sealed, and a policy of the offline key is in force.
fn robbed(domain: &Domain) -> Held {
    let held = Held::enrolled(domain.trust(1), domain.verified(&Person::new("web", 1)));
    let held = held.with_policy(&domain.policy(1, 0), NOW).unwrap();
    let mut next = domain.trust_document(2, &key(OFFLINE));
    next.sealed = vec!["env".parse().unwrap()];
    let held = held.with_trust(&next.sign(&[&domain.operator]), NOW).unwrap();
    assert_eq!(held.policy.generation(), Generation(0), "its key is gone, and so is what it signed");
    held.with_policy(&domain.policy_by(2, &[&key(OFFLINE)]), NOW).unwrap()
}

#[test]
fn what_the_coordinators_keys_sign_changes_neither_policy_nor_trust() {
    let domain = Domain::new();
    let held = robbed(&domain);
    let (own, made) = (key(77), key(78));
    let loot = [domain.issuer.key(), &domain.policy, &own, &made];
    for keys in loot.iter().map(|key| vec![*key]).chain([loot.to_vec(), Vec::new()]) {
        for generation in [2, 3, u64::MAX] {
            assert!(held.with_policy(&domain.policy_by(generation, &keys), NOW).is_err());
        }
        let mut document = domain.trust_document(3, &domain.policy);
        document.operator_keys = vec![own.public()];
        assert!(held.with_trust(&document.sign(&keys), NOW).is_err());
    }
    let first = domain.trust(1);
    assert!(held.with_trust(first.bytes(), NOW).is_err(), "the document of before");
    assert_eq!((held.trust.document().version, held.policy.generation()), (Epoch(2), Generation(2)));
}

#[test]
fn several_documents_are_taken_in_order_only() {
    let domain = Domain::new();
    let held = Held::enrolled(domain.trust(1), domain.verified(&Person::new("web", 1)));
    let new = key(80);
    let mut second = domain.trust_document(2, &domain.policy);
    second.operator_keys = vec![new.public()];
    let mut third = second.clone();
    third.version = Epoch(3);
    let (second, third) = (second.sign(&[&domain.operator, &new]), third.sign(&[&new]));
    assert!(held.with_trust(&third, NOW).is_err());
    let held = held.with_trust(&second, NOW).and_then(|held| held.with_trust(&third, NOW)).unwrap();
    assert_eq!(held.trust.document().version, Epoch(3));
    assert!(held.with_trust(&second, NOW).is_err());
}

/// The node's own next certificate, as the stolen issuer makes it.
fn relabelled(domain: &Domain, held: &Held, labels: &str) -> Result<Held, CertificateError> {
    let claims = Claims { labels: Labels::parse(labels).unwrap(), ..held.me.claims().clone() };
    held.with_certificate(&domain.issuer.issue(&claims).unwrap(), NOW)
}

#[test]
fn labels_that_are_not_sealed_are_what_the_issuer_can_give_and_the_limit_of_it() {
    let domain = Domain::new();
    let held = robbed(&domain);
    assert!(relabelled(&domain, &held, "role=db").is_ok());
    assert!(matches!(
        relabelled(&domain, &held, "env=prod,role=db"),
        Err(CertificateError::Verify(VerifyError::Seal(..)))
    ));
}
