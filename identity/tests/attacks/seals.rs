//! C8: labels that only operators confer. Whoever has the issuing CA cannot give, keep, change, split or move one.

use crate::deployment::*;
use bulkhead_identity::seal::{MAX_SEAL_BYTES, SealError};
use bulkhead_identity::trust::MAX_SEALED_KEYS;
use bulkhead_identity::*;

/// A deployment in which `env` and `zone` are sealed, by both operators.
fn sealing() -> Deployment {
    let acme = deployment();
    let sealed = ["env", "zone"].map(|key| LabelKey::parse(key).unwrap()).to_vec();
    let next = TrustDocument { version: Epoch(2), sealed, ..acme.trust.document().clone() };
    let trust = acme.trust.update(&next.sign(&[&key(OPERATORS[0]), &key(OPERATORS[1])]), NOW).unwrap();
    Deployment { trust, ..acme }
}

/// What the operators say about the node of [`Deployment::claims`]: `env=prod`.
fn statement(acme: &Deployment) -> SealedLabels {
    let claims = acme.claims();
    SealedLabels {
        trust_domain: acme.domain.clone(),
        name: claims.id.name,
        identity_key: claims.identity_key,
        labels: labels("env=prod"),
        not_after: END,
    }
}

fn by(statement: &SealedLabels, operators: &[u8]) -> Seal {
    let keys: Vec<_> = operators.iter().map(|seed| key(*seed)).collect();
    Seal::sign(statement, &keys.iter().collect::<Vec<_>>()).unwrap()
}

/// The node's word for its own tunnel key.
fn bound() -> Option<KeyBinding> {
    Some(binding(&key(NODE), &tunnel_key(NODE)))
}

/// What becomes of a certificate with these labels and this seal, from an issuer that signs anything.
fn judged(acme: &Deployment, labels: Labels, seal: Option<Seal>) -> Result<VerifiedIdentity, VerifyError> {
    let claims = Claims { labels, seal, binding: bound(), ..acme.claims() };
    acme.verify(&acme.issuer.issue(&claims).unwrap())
}

fn refused(acme: &Deployment, text: &str, seal: Option<Seal>, why: &str) {
    let error = judged(acme, labels(text), seal).unwrap_err();
    assert!(matches!(error, VerifyError::Seal(..)), "{error}");
    assert!(error.to_string().contains(why), "{why}: {error}");
}

#[test]
fn operators_confer_a_label() {
    let acme = sealing();
    let seal = by(&statement(&acme), &OPERATORS);
    let verified = judged(&acme, labels("env=prod,role=web"), Some(seal.clone())).unwrap();
    assert_eq!(verified.labels(), &labels("env=prod,role=web"));
    assert_eq!(verified.claims().seal.as_ref(), Some(&seal));
    assert!(judged(&acme, labels("role=web"), None).is_ok(), "nothing of it is sealed");
    assert!(judged(&acme, labels("role=web"), Some(seal)).is_ok(), "a seal that nothing needs says nothing");
}

#[test]
fn c8_the_issuer_alone_confers_no_sealed_label() {
    let acme = sealing();
    refused(&acme, "env=prod,role=web", None, "there is no seal");
    assert!(deployment().verify(&acme.chain()).is_ok(), "before it was sealed it could");
}

#[test]
fn c8_a_seal_is_for_one_node_with_one_key() {
    let acme = sealing();
    let check = |change: &dyn Fn(&mut SealedLabels)| {
        let mut statement = statement(&acme);
        change(&mut statement);
        refused(&acme, "env=prod,role=web", Some(by(&statement, &OPERATORS)), "another");
    };
    check(&|s| s.name = NodeName::parse("db").unwrap());
    check(&|s| s.identity_key = key(99).public());
    check(&|s| s.trust_domain = domain("other.example"));
}

#[test]
fn c8_a_seal_is_over_exactly_the_sealed_labels() {
    let acme = sealing();
    let seal = || Some(by(&statement(&acme), &OPERATORS));
    refused(&acme, "env=dev,role=web", seal(), "another value");
    refused(&acme, "env=prod,role=web,zone=dmz", seal(), "label zone is sealed");
    // Half of a seal would let its holder escape the rule that forbids the other half.
    let mut both = statement(&acme);
    both.labels = labels("env=prod,zone=dmz");
    refused(&acme, "env=prod,role=web", Some(by(&both, &OPERATORS)), "over label zone too");
    refused(&acme, "env=prod,role=web,zone=lan", Some(by(&both, &OPERATORS)), "another value");
    assert!(judged(&acme, labels("env=prod,role=web,zone=dmz"), Some(by(&both, &OPERATORS))).is_ok());
}

#[test]
fn c8_a_certificate_does_not_outlast_its_seal() {
    let acme = sealing();
    let mut ends = statement(&acme);
    ends.not_after = Timestamp(END.0 - 1);
    refused(&acme, "env=prod,role=web", Some(by(&ends, &OPERATORS)), "outlasts its seal");
}

#[test]
fn c8_a_seal_takes_the_operators_threshold() {
    let acme = sealing();
    let check = |seeds: &[u8]| {
        refused(&acme, "env=prod,role=web", Some(by(&statement(&acme), seeds)), "not the operators'");
    };
    check(&[]);
    check(&[OPERATORS[0]]);
    check(&[OPERATORS[0], OPERATORS[0]]);
    // Everything else that a coordinator has: the issuer, a policy key, the node's own key, the root.
    check(&[OPERATORS[0], ISSUER]);
    check(&[ISSUER, POLICY, NODE, ROOT, 90]);
}

#[test]
fn c8_a_signature_for_another_purpose_seals_nothing() {
    let acme = sealing();
    let honest = by(&statement(&acme), &OPERATORS);
    let payload = Signed::decode(&honest.encode()).unwrap().payload;
    for context in [signed::CONTEXT_TRUST, signed::CONTEXT_POLICY, signed::CONTEXT_REVOCATIONS] {
        let keys = OPERATORS.map(key);
        let forged = Signed::sign(context, payload.clone(), &keys.iter().collect::<Vec<_>>());
        let seal = Seal::decode(&forged.encode()).unwrap();
        refused(&acme, "env=prod,role=web", Some(seal), "not the operators'");
    }
}

#[test]
fn c8_seals_of_removed_operators_end_with_them_unless_the_next_ones_signed_too() {
    let acme = sealing();
    let next = TrustDocument {
        version: Epoch(3),
        operator_keys: vec![key(40).public(), key(41).public()],
        ..acme.trust.document().clone()
    };
    let signers = [OPERATORS[0], OPERATORS[1], 40, 41].map(key);
    let trust = acme.trust.update(&next.sign(&signers.iter().collect::<Vec<_>>()), NOW).unwrap();
    let later = Deployment { trust, ..deployment() };
    let mut seal = by(&statement(&acme), &OPERATORS);
    refused(&later, "env=prod,role=web", Some(seal.clone()), "not the operators'");
    seal.countersign(&key(40)).unwrap();
    seal.merge(&by(&statement(&acme), &[41])).unwrap();
    assert!(judged(&acme, labels("env=prod,role=web"), Some(seal.clone())).is_ok());
    assert!(judged(&later, labels("env=prod,role=web"), Some(seal)).is_ok());
}

#[test]
fn every_flipped_bit_of_a_seal_is_refused() {
    let acme = sealing();
    let honest = by(&statement(&acme), &OPERATORS).encode();
    for bit in 0..honest.len() * 8 {
        let mut changed = honest.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(seal) = Seal::decode(&changed) else { continue };
        assert!(judged(&acme, labels("env=prod,role=web"), Some(seal)).is_err(), "bit {bit}");
    }
    for end in 0..honest.len() {
        assert!(Seal::decode(&honest[..end]).is_err());
    }
}

#[test]
fn seals_have_limits_and_the_largest_fits_into_a_certificate() {
    let value = LabelValue::parse(&"v".repeat(63)).unwrap();
    let all = |count: usize| {
        let keys = (0..count).map(|at| LabelKey::parse(&format!("k{at:062}")).unwrap());
        Labels::new(keys.map(|key| (key, value.clone()))).unwrap()
    };
    let acme = deployment();
    let most = all(MAX_SEALED_KEYS);
    let sealed = most.iter().map(|(key, _)| key.clone()).collect();
    let operator_keys = (100..132).map(|seed| key(seed).public()).collect();
    let next = TrustDocument {
        version: Epoch(2),
        sealed,
        operator_keys,
        operator_threshold: 32,
        ..acme.trust.document().clone()
    };
    let operators: Vec<_> = (100..132).map(key).collect();
    let signed = next.sign(&operators.iter().collect::<Vec<_>>());
    let trust = Trust::stored(&signed, NOW).unwrap();
    let acme = Deployment { trust, ..acme };
    let largest = SealedLabels { labels: most, ..statement(&acme) };
    let seal = Seal::sign(&largest, &operators.iter().collect::<Vec<_>>()).unwrap();
    assert!(seal.encode().len() <= MAX_SEAL_BYTES, "{}", seal.encode().len());
    let everything = all(name::MAX_LABELS);
    assert!(judged(&acme, everything, Some(seal)).is_ok());

    let more = SealedLabels { labels: all(MAX_SEALED_KEYS + 1), ..statement(&acme) };
    assert!(matches!(Seal::sign(&more, &[]), Err(SealError(_))));
    assert!(Seal::decode(&vec![0; MAX_SEAL_BYTES + 1]).is_err());
    let over = (0..=MAX_SEALED_KEYS).map(|at| LabelKey::parse(&format!("k{at}")).unwrap()).collect();
    let over = TrustDocument { sealed: over, ..acme.trust.document().clone() };
    assert!(Draft::new(&over).is_err());
    let twice = vec![LabelKey::parse("env").unwrap(); 2];
    assert!(Draft::new(&TrustDocument { sealed: twice, ..acme.trust.document().clone() }).is_err());
}

#[test]
fn c8_a_genuine_seal_makes_no_other_tunnel_key_the_node_s() {
    let acme = sealing();
    let seal = Some(by(&statement(&acme), &OPERATORS));
    let honest = Claims { labels: labels("env=prod"), seal, binding: bound(), ..acme.claims() };
    let judged = |claims: &Claims| acme.verify(&acme.issuer.issue(claims).unwrap());
    assert!(judged(&honest).is_ok());
    // Whoever has the issuing key takes the seal out of the node's certificate, which all its peers hold.
    let (thief, tunnel) = (key(77), tunnel_key(77));
    let theirs = Some(tunnel.public());
    for binding in [None, honest.binding, Some(binding(&thief, &tunnel))] {
        let error = judged(&Claims { tunnel_key: theirs, binding, ..honest.clone() }).unwrap_err();
        assert!(matches!(error, VerifyError::Seal(..)), "{error}");
        assert!(error.to_string().contains("tunnel key"), "{error}");
    }
    assert!(judged(&Claims { binding: None, ..honest }).is_err());
}

#[test]
fn a_seal_survives_json_and_cbor() {
    let acme = sealing();
    let claims = Claims { seal: Some(by(&statement(&acme), &OPERATORS)), ..acme.claims() };
    let json = serde_json::to_string(&claims).unwrap();
    assert_eq!(serde_json::from_str::<Claims>(&json).unwrap(), claims);
    let cbor = minicbor::to_vec(&claims).unwrap();
    assert_eq!(minicbor::decode::<Claims>(&cbor).unwrap(), claims);
}
