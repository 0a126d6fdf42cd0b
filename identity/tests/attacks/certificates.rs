//! C8 and C1: chains that an honest issuer made, shown where they do not belong.

use crate::deployment::*;
use bulkhead_identity::*;
use proptest::prelude::*;

#[test]
fn an_issued_certificate_verifies_and_states_its_claims() {
    let acme = deployment();
    let verified = acme.verify(&acme.chain()).unwrap();
    assert_eq!(*verified.claims(), acme.claims());
    assert_eq!(verified.name().as_str(), "web");
    assert_eq!(verified.role(), Role::Node);
    assert!(verified.valid_at(NOW) && !verified.valid_at(END));
}

#[test]
fn c8_a_node_is_not_a_coordinator() {
    let acme = deployment();
    let node = acme.verify(&acme.chain()).unwrap();
    assert_ne!(node.role(), Role::Coordinator);
    let coordinator = acme.verify(&acme.issuer.issue(&acme.coordinator_claims()).unwrap()).unwrap();
    assert_eq!(coordinator.role(), Role::Coordinator);
    assert_eq!(coordinator.claims().id.to_string(), "spiffe://acme.example/coordinator/web");
}

#[test]
fn c8_a_certificate_counts_from_its_first_to_before_its_last_second() {
    let acme = deployment();
    let chain = acme.chain();
    let at = |wall| verify(&chain, &acme.trust, &Revocations::default(), wall);
    assert!(matches!(at(Timestamp(START.0 - 1)), Err(VerifyError::NotYetValid(..))));
    assert!(at(START).is_ok());
    assert!(at(Timestamp(END.0 - 1)).is_ok());
    assert!(matches!(at(END), Err(VerifyError::Expired(..))));
    assert!(matches!(at(Timestamp(u64::MAX)), Err(VerifyError::TrustExpired(..))));
}

#[test]
fn c8_a_rogue_leaf_beside_an_honest_chain_is_refused() {
    let acme = deployment();
    let rogue = deployment_of("acme.example", 101, 102);
    let honest = acme.chain();
    let [honest_leaf, honest_issuer] = honest.certificates() else { panic!("two certificates") };
    let rogue_chain = rogue.chain();
    let [rogue_leaf, rogue_issuer] = rogue_chain.certificates() else { panic!("two certificates") };
    let check = |certificates: &[&[u8]]| {
        assert!(matches!(acme.refuses(certificates), VerifyError::Chain(_)));
    };
    check(&[rogue_leaf, rogue_issuer]);
    check(&[rogue_leaf, honest_issuer]);
    check(&[rogue_leaf, honest_leaf, honest_issuer]);
    check(&[rogue_leaf, rogue_issuer, honest_leaf, honest_issuer]);
    check(&[honest_leaf, rogue_issuer]);
    check(&[honest_leaf, honest_issuer, rogue_leaf]);
    check(&[honest_leaf]);
    check(&[honest_leaf, acme.authority.root_der()]);
}

#[test]
fn a_ca_is_nobody() {
    let acme = deployment();
    let issuer = acme.issuer.certificate();
    assert!(matches!(acme.refuses(&[issuer, issuer]), VerifyError::Profile(_)));
    let root = acme.authority.root_der();
    assert!(matches!(acme.refuses(&[issuer, root]), VerifyError::Profile(_)));
    assert!(matches!(acme.refuses(&[root, root]), VerifyError::Profile(_)));
}

#[test]
fn c8_a_leaf_does_not_issue() {
    let acme = deployment();
    let chain = acme.chain();
    assert!(Issuer::load(key(NODE), chain.leaf().to_vec()).is_err());
    assert!(Issuer::load(key(ROOT), acme.authority.root_der().to_vec()).is_err());
    assert!(Issuer::load(key(NODE), acme.issuer.certificate().to_vec()).is_err());
    assert!(Authority::load(key(ISSUER), acme.issuer.certificate().to_vec()).is_err());
}

#[test]
fn c8_another_trust_domain_under_the_same_root_is_refused() {
    let acme = deployment();
    let other = domain("evil.example");
    let issuer = issuer_with(&acme.authority, ISSUER, &limits(&other));
    let mut claims = acme.claims();
    claims.id.trust_domain = other.clone();
    claims.addresses = Some(Deployment { domain: other, ..deployment() }.addresses(10));
    let chain = issuer.issue(&claims).unwrap();
    assert!(matches!(acme.verify(&chain), Err(VerifyError::TrustDomain(_))));
}

/// The leaf that a wide certificate of one issuing key made, shown with a narrow certificate of that key.
fn outside_limits(narrow: impl Fn(&mut IssuerLimits)) -> Result<VerifiedIdentity, VerifyError> {
    let acme = deployment();
    let mut limits = limits(&acme.domain);
    narrow(&mut limits);
    let issuer = issuer_with(&acme.authority, ISSUER, &limits);
    assert!(issuer.issue(&acme.claims()).is_err(), "an honest issuer refuses by itself");
    let chain = Chain::new(vec![acme.chain().leaf().to_vec(), issuer.certificate().to_vec()]).unwrap();
    acme.verify(&chain)
}

#[test]
fn c8_an_issuer_outside_its_limits_is_refused() {
    let check = |narrow: &dyn Fn(&mut IssuerLimits)| {
        assert!(matches!(outside_limits(narrow), Err(VerifyError::Issuer(_))));
    };
    check(&|limits| limits.trust_domain = domain("other.example"));
    check(&|limits| limits.label_keys = Some(vec![LabelKey::parse("env").unwrap()]));
    check(&|limits| limits.label_keys = Some(Vec::new()));
    check(&|limits| limits.v6 = ("fd00::".parse().unwrap(), 48));
    check(&|limits| limits.v4 = ("100.65.0.0".parse().unwrap(), 16));
}

#[test]
fn c8_labels_within_the_issuers_keys_are_accepted() {
    let acme = deployment();
    let keys = ["env", "role"].map(|key| LabelKey::parse(key).unwrap()).to_vec();
    let narrow = IssuerLimits { label_keys: Some(keys), ..limits(&acme.domain) };
    let issuer = issuer_with(&acme.authority, ISSUER, &narrow);
    assert_eq!(*issuer.limits(), narrow);
    acme.verify(&issuer.issue(&acme.claims()).unwrap()).unwrap();
}

#[test]
fn c6_addresses_outside_the_overlay_are_refused_whatever_the_issuer_may() {
    let acme = deployment();
    let everywhere = IssuerLimits {
        v6: ("::".parse().unwrap(), 0),
        v4: ("0.0.0.0".parse().unwrap(), 0),
        ..limits(&acme.domain)
    };
    let issuer = issuer_with(&acme.authority, ISSUER, &everywhere);
    for (v6, v4) in [("2001:db8::1", "100.64.0.1"), ("fd00::1", "127.0.0.1"), ("::1", "169.254.169.254")] {
        let addresses = OverlayAddrs { v6: v6.parse().unwrap(), v4: v4.parse().unwrap() };
        let chain = issuer.issue(&Claims { addresses: Some(addresses), ..acme.claims() }).unwrap();
        assert!(matches!(acme.verify(&chain), Err(VerifyError::Issuer(_))));
    }
}

#[test]
fn a_leaf_never_outlasts_its_issuer() {
    let acme = deployment();
    let outlasting = Claims { not_after: Timestamp(FAR.0 + 1), ..acme.claims() };
    assert!(acme.issuer.issue(&outlasting).is_err());
    // The same key's certificate that ends sooner, beside a leaf of the longer one.
    let soon = Timestamp(END.0 - 1);
    let der = acme
        .authority
        .sign_issuer(key(ISSUER).public(), &limits(&acme.domain), serial(0x72), START, soon)
        .unwrap();
    assert!(matches!(acme.refuses(&[acme.chain().leaf(), &der]), VerifyError::Issuer(_)));
}

#[test]
fn an_expired_issuer_or_root_vouches_for_nobody() {
    let acme = deployment();
    let chain = acme.chain();
    // Trust that outlasts the root it names.
    let mut document = document(&acme.domain, &acme.authority);
    document.expires = Timestamp(FAR.0 + 1_000);
    let bytes = document.sign(&OPERATORS.map(key).each_ref());
    let trust = Trust::stored(&bytes, FAR).unwrap();
    let late = Claims { not_before: Timestamp(FAR.0 - 10), not_after: FAR, ..acme.claims() };
    let late = acme.issuer.issue(&late).unwrap();
    let at = |chain, wall| verify(chain, &trust, &Revocations::default(), wall);
    assert!(at(&late, Timestamp(FAR.0 - 1)).is_ok());
    assert!(at(&late, FAR).is_err());
    assert!(at(&chain, NOW).is_ok());
}

#[test]
fn roles_and_their_keys_belong_together() {
    let acme = deployment();
    let refused = |claims: Claims| assert!(acme.issuer.issue(&claims).is_err());
    refused(Claims { tunnel_key: None, ..acme.claims() });
    refused(Claims { addresses: None, ..acme.claims() });
    refused(Claims { tunnel_key: acme.claims().tunnel_key, ..acme.coordinator_claims() });
    refused(Claims { addresses: acme.claims().addresses, ..acme.coordinator_claims() });
    refused(Claims { serial: Serial([0; 16]), ..acme.claims() });
    refused(Claims { serial: Serial([0x80; 16]), ..acme.claims() });
    refused(Claims { not_after: START, ..acme.claims() });
}

#[test]
fn every_flipped_bit_of_a_chain_is_refused() {
    let acme = deployment();
    let honest = acme.chain();
    acme.verify(&honest).unwrap();
    for (at, certificate) in honest.certificates().iter().enumerate() {
        for bit in 0..certificate.len() * 8 {
            let mut ders = honest.certificates().iter().map(|der| der.to_vec()).collect::<Vec<_>>();
            ders[at][bit / 8] ^= 1 << (bit % 8);
            let changed = Chain::new(ders).unwrap();
            assert!(acme.verify(&changed).is_err(), "bit {bit} of certificate {at}");
        }
    }
}

#[test]
fn a_truncated_or_extended_certificate_is_refused() {
    let acme = deployment();
    let chain = acme.chain();
    let [leaf, issuer] = chain.certificates() else { panic!("two certificates") };
    for end in 0..leaf.len() {
        acme.refuses(&[&leaf[..end], issuer]);
    }
    acme.refuses(&[&[&leaf[..], &[0]].concat(), issuer]);
    acme.refuses(&[leaf, &[&issuer[..], &[0]].concat()]);
}

#[test]
fn a_chain_has_limits_and_one_encoding() {
    let chain = deployment().chain();
    assert_eq!(Chain::decode(&chain.encode()).unwrap(), chain);
    assert!(Chain::decode(&[chain.encode().as_slice(), &[0]].concat()).is_err());
    assert!(Chain::new(Vec::<Vec<u8>>::new()).is_err());
    assert!(Chain::new(vec![vec![0]; certificate::MAX_CHAIN + 1]).is_err());
    assert!(Chain::new(vec![vec![0; certificate::MAX_CERTIFICATE_BYTES + 1]]).is_err());
    assert!(Chain::decode(&[0x80]).is_err(), "an empty array is no chain");
}

#[test]
fn an_issued_leaf_and_its_pkcs8_key_serve_tls_in_both_directions() {
    let acme = deployment();
    let chain = acme.chain();
    let der = rustls_pki_types::CertificateDer::from(chain.leaf());
    let leaf = webpki::EndEntityCert::try_from(&der).unwrap();
    // As rustls does it: the private key by ring, the signature by webpki (RFC 8446, section 4.4.3).
    let pair = ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key(NODE).to_pkcs8()).unwrap();
    let transcript = [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
    let signature = pair.sign(&transcript);
    leaf.verify_signature(webpki::ring::ED25519, &transcript, signature.as_ref()).unwrap();
    let name = rustls_pki_types::ServerName::try_from("web.acme.example").unwrap();
    leaf.verify_is_valid_for_subject_name(&name).unwrap();
    let root = rustls_pki_types::CertificateDer::from(acme.authority.root_der());
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let intermediates = [rustls_pki_types::CertificateDer::from(acme.issuer.certificate())];
    let time = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.0));
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        leaf.verify_for_usage(&[webpki::ring::ED25519], &anchors, &intermediates, time, usage, None, None)
            .unwrap();
    }
}

fn any_claims() -> impl Strategy<Value = Claims> {
    let labels = prop::collection::btree_map("[a-z][a-z0-9._-]{0,62}", "[a-z0-9][a-z0-9._-]{0,62}", 0..=64);
    (
        prop_oneof![Just(Role::Node), Just(Role::Gateway), Just(Role::Relay), Just(Role::Coordinator)],
        "[a-z0-9]([a-z0-9]{0,61}[a-z0-9])?",
        labels,
        any::<[u8; 16]>().prop_filter_map("zero", Serial::from_entropy),
        (any::<u8>(), any::<u8>(), 0..4_000_000_u32),
        0..3_600_u64,
        1..1_000_000_u64,
    )
        .prop_map(|(role, name, labels, serial, (identity, tunnel, index), before, lifetime)| {
            let acme = domain("acme.example");
            let addresses = Deployment { domain: acme.clone(), ..deployment() }.addresses(index);
            let not_before = Timestamp(START.0 + before);
            let entries = labels
                .into_iter()
                .map(|(key, value)| (LabelKey::parse(&key).unwrap(), LabelValue::parse(&value).unwrap()));
            let in_overlay = role.is_in_overlay();
            Claims {
                id: SpiffeId { trust_domain: acme, role, name: NodeName::parse(&name).unwrap() },
                identity_key: key(identity).public(),
                tunnel_key: in_overlay.then(|| tunnel_key(tunnel).public()),
                addresses: in_overlay.then_some(addresses),
                labels: Labels::new(entries).unwrap(),
                serial,
                not_before,
                not_after: Timestamp(NOW.0 + lifetime),
                seal: None,
                binding: None,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn verify_after_issue_gives_the_same_claims(claims in any_claims()) {
        let acme = deployment();
        let chain = acme.issuer.issue(&claims).unwrap();
        let verified = acme.verify(&chain).unwrap();
        prop_assert_eq!(verified.claims(), &claims);
    }

    #[test]
    fn claims_read_as_they_were_written(claims in any_claims()) {
        let bytes = minicbor::to_vec(&claims).unwrap();
        prop_assert_eq!(minicbor::decode::<Claims>(&bytes).unwrap(), claims);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Certificate::parse(&bytes).is_err());
    }
}
