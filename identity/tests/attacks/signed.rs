//! C9: envelopes with too few, wrong, repeated or foreign signatures.

use crate::deployment::key;
use bulkhead_identity::IdentityPublicKey;
use bulkhead_identity::signed::*;
use proptest::prelude::*;

const PAYLOAD: &[u8] = b"who may talk to whom";

fn publics(seeds: &[u8]) -> Vec<IdentityPublicKey> {
    seeds.iter().map(|seed| key(*seed).public()).collect()
}

fn signed_by(seeds: &[u8]) -> Signed {
    let keys: Vec<_> = seeds.iter().map(|seed| key(*seed)).collect();
    Signed::sign(CONTEXT_POLICY, PAYLOAD.to_vec(), &keys.iter().collect::<Vec<_>>())
}

fn check(signed: &Signed, allowed: &[u8], threshold: usize) -> bool {
    signed.verify(CONTEXT_POLICY, &publics(allowed), threshold).is_ok_and(|payload| payload == PAYLOAD)
}

#[test]
fn c9_a_threshold_counts_distinct_allowed_keys() {
    assert!(check(&signed_by(&[1, 2]), &[1, 2, 3], 2));
    assert!(check(&signed_by(&[1, 2, 9]), &[1, 2, 3], 2), "a foreign signature changes nothing");
    assert!(!check(&signed_by(&[1]), &[1, 2, 3], 2));
    assert!(!check(&signed_by(&[1, 1]), &[1, 2, 3], 2));
    assert!(!check(&signed_by(&[1, 9]), &[1, 2, 3], 2));
    assert!(!check(&signed_by(&[1]), &[1, 1], 2), "an allowed key listed twice is one key");
    assert!(!check(&signed_by(&[]), &[1], 1));
    assert!(!check(&signed_by(&[1]), &[], 1));
    assert!(!check(&signed_by(&[1]), &[1], 0), "a threshold of nobody");
}

#[test]
fn c9_one_signature_under_two_entries_is_one() {
    let mut signed = signed_by(&[1]);
    signed.signatures.push(signed.signatures[0].clone());
    assert!(!check(&signed, &[1, 2], 2));
    assert!(Signed::decode(&signed.encode()).is_err());
}

#[test]
fn c9_a_wrong_signature_spoils_the_document_even_beyond_the_threshold() {
    let mut signed = signed_by(&[1, 2]);
    assert!(check(&signed, &[1, 2], 1));
    signed.signatures[1].signature[0] ^= 1;
    assert!(!check(&signed, &[1, 2], 1));
}

#[test]
fn a_signature_for_one_purpose_is_not_one_for_another() {
    let signed = signed_by(&[1]);
    for context in [CONTEXT_TRUST, CONTEXT_REVOCATIONS, CONTEXT_REQUEST, CONTEXT_RECEIPT, CONTEXT_SEAL, ""] {
        assert!(signed.verify(context, &publics(&[1]), 1).is_err());
    }
}

#[test]
fn envelopes_have_limits() {
    let seeds: Vec<u8> = (0..=MAX_SIGNATURES as u8).collect();
    assert!(Signed::decode(&signed_by(&seeds[1..]).encode()).is_ok());
    assert!(Signed::decode(&signed_by(&seeds).encode()).is_err());
    assert!(!check(&signed_by(&seeds), &[1], 1));
    let large = Signed::sign(CONTEXT_POLICY, vec![0; MAX_SIGNED_BYTES], &[]);
    assert!(Signed::decode(&large.encode()).is_err());
    assert!(Signed::decode(&[0x82, 0x40, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
}

proptest! {
    #[test]
    fn an_envelope_reads_as_it_was_written(payload: Vec<u8>, seeds in prop::collection::vec(0..5_u8, 0..5)) {
        let keys: Vec<_> = seeds.iter().map(|seed| key(*seed)).collect();
        let signed = Signed::sign(CONTEXT_POLICY, payload, &keys.iter().collect::<Vec<_>>());
        prop_assert_eq!(&Signed::decode(&signed.encode()).unwrap(), &signed);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(signed) = Signed::decode(&bytes) {
            prop_assert_eq!(signed.encode(), bytes);
        }
    }
}
