//! C2, D14, S5: revocation lists that are old, forged, or by one who has no say.

use crate::deployment::*;
use bulkhead_identity::*;
use proptest::prelude::*;

fn list(epoch: u64, serials: &[Serial], keys: &[IdentityPublicKey]) -> RevocationList {
    RevocationList { epoch: Epoch(epoch), issued: NOW, serials: serials.to_vec(), keys: keys.to_vec() }
}

impl Deployment {
    fn signed(&self, list: &RevocationList) -> Vec<u8> {
        list.sign(self.issuer.key(), Some(self.issuer.certificate()))
    }

    fn accept(&self, bytes: &[u8]) -> Result<Revocations, revocation::RevocationError> {
        Revocations::verify(bytes, &self.trust, Epoch(0), NOW)
    }
}

#[test]
fn revocation_is_by_serial_and_by_key() {
    let acme = deployment();
    let claims = acme.claims();
    let check = |list: &RevocationList, revoked: bool| {
        let revocations = acme.accept(&acme.signed(list)).unwrap();
        assert_eq!(revocations.revokes(&claims), revoked);
        let result = verify(&acme.chain(), &acme.trust, &revocations, NOW);
        assert_eq!(matches!(result, Err(VerifyError::Revoked(_))), revoked);
        assert_eq!(result.is_ok(), !revoked);
    };
    check(&list(1, &[], &[]), false);
    check(&list(1, &[serial(0x11)], &[key(77).public()]), false);
    check(&list(1, &[serial(0x11), claims.serial], &[]), true);
    check(&list(1, &[], &[key(77).public(), claims.identity_key]), true);
}

#[test]
fn d14_a_new_certificate_for_a_revoked_key_is_refused() {
    let acme = deployment();
    let revocations = acme.accept(&acme.signed(&list(1, &[], &[key(NODE).public()]))).unwrap();
    let renewed = Claims { serial: serial(0x12), ..acme.claims() };
    let chain = acme.issuer.issue(&renewed).unwrap();
    assert!(matches!(verify(&chain, &acme.trust, &revocations, NOW), Err(VerifyError::Revoked(_))));
}

#[test]
fn any_one_operator_may_revoke() {
    let acme = deployment();
    for operator in OPERATORS {
        let bytes = list(1, &[acme.claims().serial], &[]).sign(&key(operator), None);
        assert!(acme.accept(&bytes).unwrap().revokes(&acme.claims()));
    }
    for stranger in [NODE, POLICY, ROOT, ISSUER, 99] {
        assert!(acme.accept(&list(1, &[], &[]).sign(&key(stranger), None)).is_err());
    }
}

#[test]
fn a_list_by_a_ca_that_is_none_of_ours_is_refused() {
    let acme = deployment();
    let rogue = deployment_of("acme.example", 101, 102);
    let check = |seed: u8, certificate: &[u8]| {
        assert!(acme.accept(&list(1, &[], &[]).sign(&key(seed), Some(certificate))).is_err());
    };
    check(102, rogue.issuer.certificate());
    check(102, acme.issuer.certificate());
    check(ISSUER, rogue.issuer.certificate());
    check(NODE, acme.chain().leaf());
    check(ROOT, acme.authority.root_der());
    check(OPERATORS[0], acme.issuer.certificate());
    let other = issuer_with(&acme.authority, 103, &limits(&domain("other.example")));
    check(103, other.certificate());
}

#[test]
fn a_revoked_issuer_or_root_vouches_for_nobody() {
    let acme = deployment();
    for authority in [ISSUER, ROOT] {
        let bytes = list(1, &[], &[key(authority).public()]).sign(&key(OPERATORS[0]), None);
        let revocations = acme.accept(&bytes).unwrap();
        assert!(verify(&acme.chain(), &acme.trust, &revocations, NOW).is_err());
    }
    let bytes = list(1, &[serial(0x71)], &[]).sign(&key(OPERATORS[0]), None);
    let revocations = acme.accept(&bytes).unwrap();
    assert!(matches!(verify(&acme.chain(), &acme.trust, &revocations, NOW), Err(VerifyError::Revoked(_))));
}

#[test]
fn a_revoked_issuer_cannot_take_its_revocation_back() {
    let acme = deployment();
    let bytes = list(1, &[], &[key(ISSUER).public()]).sign(&key(OPERATORS[0]), None);
    let held = acme.accept(&bytes).unwrap();
    let by_issuer = acme.signed(&list(2, &[], &[]));
    assert!(acme.accept(&by_issuer).is_ok(), "without the list that revokes it, nobody can know");
    assert!(held.update(&by_issuer, &acme.trust, NOW).is_err());
    let by_operator = list(2, &[], &[]).sign(&key(OPERATORS[1]), None);
    assert_eq!(held.update(&by_operator, &acme.trust, NOW).unwrap().epoch(), Epoch(2));
    assert!(acme.accept(&acme.signed(&list(1, &[], &[key(ISSUER).public()]))).is_err(), "revokes itself");
}

#[test]
fn c2_the_epoch_only_grows() {
    let acme = deployment();
    let bytes = acme.signed(&list(5, &[serial(1)], &[]));
    let verify_above = |floor| Revocations::verify(&bytes, &acme.trust, Epoch(floor), NOW);
    assert!(verify_above(4).is_ok() && verify_above(5).is_ok() && verify_above(6).is_err());
    let held = acme.accept(&bytes).unwrap();
    let update = |list: &RevocationList| held.update(&acme.signed(list), &acme.trust, NOW);
    assert!(held.update(&bytes, &acme.trust, NOW).is_ok(), "the same again");
    assert!(update(&list(4, &[serial(1)], &[])).is_err());
    assert!(update(&list(5, &[], &[])).is_err(), "two contents of one epoch");
    assert!(update(&list(6, &[], &[])).is_ok());
    let first = Revocations::default().update(&acme.signed(&list(0, &[], &[])), &acme.trust, NOW);
    assert!(first.is_ok());
}

#[test]
fn a_list_is_refused_when_its_issuer_or_the_trust_document_has_expired() {
    let acme = deployment();
    let bytes = acme.signed(&list(1, &[], &[]));
    assert!(Revocations::verify(&bytes, &acme.trust, Epoch(0), Timestamp(FAR.0 - 1)).is_ok());
    assert!(Revocations::verify(&bytes, &acme.trust, Epoch(0), FAR).is_err());
}

#[test]
fn every_flipped_bit_of_a_list_is_refused() {
    let acme = deployment();
    let serials = [serial(0x11), serial(0x12)];
    let revocations = list(3, &serials, &[key(77).public(), key(78).public()]);
    for honest in [acme.signed(&revocations), revocations.sign(&key(OPERATORS[0]), None)] {
        acme.accept(&honest).unwrap();
        for bit in 0..honest.len() * 8 {
            let mut changed = honest.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(acme.accept(&changed).is_err(), "bit {bit}");
        }
        for end in 0..honest.len() {
            assert!(acme.accept(&honest[..end]).is_err());
        }
        assert!(acme.accept(&[honest.as_slice(), &[0]].concat()).is_err());
    }
}

#[test]
fn lists_have_limits() {
    let acme = deployment();
    let numbered = |count: usize| (1..=count as u128).map(|n| Serial(n.to_be_bytes())).collect::<Vec<_>>();
    let full = numbered(revocation::MAX_REVOKED_SERIALS);
    let accepted = acme.accept(&acme.signed(&list(1, &full, &[]))).unwrap();
    assert!(accepted.bytes().len() < revocation::MAX_REVOCATION_BYTES);
    let over = numbered(revocation::MAX_REVOKED_SERIALS + 1);
    assert!(acme.accept(&acme.signed(&list(1, &over, &[]))).is_err());
    assert!(acme.accept(&vec![0; revocation::MAX_REVOCATION_BYTES + 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_list_revokes_exactly_what_is_on_it(
        serials in prop::collection::vec(1..60_u8, 0..20), keys in prop::collection::vec(1..60_u8, 0..20),
        asked_serial in 1..60_u8, asked_key in 1..60_u8,
    ) {
        let acme = deployment();
        let on_list = list(
            1,
            &serials.iter().copied().map(serial).collect::<Vec<_>>(),
            &keys.iter().map(|seed| key(*seed).public()).collect::<Vec<_>>(),
        );
        let bytes = on_list.sign(&key(OPERATORS[0]), None);
        let asked = Claims {
            serial: serial(asked_serial),
            identity_key: key(asked_key).public(),
            ..acme.claims()
        };
        let expected = serials.contains(&asked_serial) || keys.contains(&asked_key);
        prop_assert_eq!(acme.accept(&bytes).unwrap().revokes(&asked), expected);
    }
}
