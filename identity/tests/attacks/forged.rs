//! C8, D13: certificates made outside our own code by one who holds a signing key. The profile stands even
//! against an issuer that signs anything.

use crate::deployment::*;
use bulkhead_identity::certificate::ProfileError;
use bulkhead_identity::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

const LEAF_OID: &[u64] = &[1, 3, 6, 1, 4, 1, 58888, 1, 1];

fn pair(seed: u8) -> KeyPair {
    KeyPair::try_from(key(seed).to_pkcs8().as_slice()).unwrap()
}

/// Parameters of an honest leaf, taken apart; each test changes one thing.
fn leaf_params(acme: &Deployment) -> CertificateParams {
    let chain = acme.chain();
    let (_, honest) = x509_parser::parse_x509_certificate(chain.leaf()).unwrap();
    let own = x509_parser::asn1_rs::oid!(1.3.6.1.4.1.58888.1.1);
    let content = honest.get_extension_unique(&own).unwrap().unwrap().value.to_vec();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "web");
    params.serial_number = Some(SerialNumber::from_slice(&[0x10; 16]));
    params.not_before = ::time::OffsetDateTime::from_unix_timestamp(START.0 as i64).unwrap();
    params.not_after = ::time::OffsetDateTime::from_unix_timestamp(END.0 as i64).unwrap();
    params.subject_alt_names = vec![uri("spiffe://acme.example/node/web"), dns("web.acme.example")];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.custom_extensions = vec![CustomExtension::from_oid_content(LEAF_OID, content)];
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// Signs with `signer`'s key under the name of the certificate `authority`.
fn sign(params: &CertificateParams, subject: &KeyPair, signer: u8, authority: &[u8]) -> Vec<u8> {
    let (_, parsed) = x509_parser::parse_x509_certificate(authority).unwrap();
    let name = parsed.subject().iter_common_name().next().unwrap().as_str().unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = DistinguishedName::new();
    issuer.distinguished_name.push(DnType::CommonName, name);
    let issuer = rcgen::Issuer::new(issuer, pair(signer));
    params.signed_by(subject, &issuer).unwrap().der().to_vec()
}

fn signed_by_issuer(acme: &Deployment, change: impl Fn(&mut CertificateParams)) -> Vec<u8> {
    let mut params = leaf_params(acme);
    change(&mut params);
    sign(&params, &pair(NODE), ISSUER, acme.issuer.certificate())
}

#[test]
fn the_unchanged_leaf_verifies_so_the_refusals_below_have_their_own_reason() {
    let acme = deployment();
    let leaf = signed_by_issuer(&acme, |_| ());
    let chain = Chain::new(vec![leaf, acme.issuer.certificate().to_vec()]).unwrap();
    assert_eq!(*acme.verify(&chain).unwrap().claims(), acme.claims());
}

#[test]
fn c8_a_leaf_of_another_shape_is_refused_even_from_the_issuer() {
    let acme = deployment();
    let check = |why: &str, change: &dyn Fn(&mut CertificateParams)| {
        let leaf = signed_by_issuer(&acme, change);
        let error = acme.refuses(&[&leaf, acme.issuer.certificate()]);
        assert!(matches!(&error, VerifyError::Profile(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    };
    let own = |content: &[u8]| CustomExtension::from_oid_content(LEAF_OID, content.to_vec());
    check("leaf is a CA", &|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    check("no basic constraints", &|p| p.is_ca = IsCa::NoCa);
    check("key usage", &|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign));
    check("no key usage", &|p| p.key_usages.clear());
    check("no extended key usage", &|p| p.extended_key_usages.clear());
    check("extended key usage", &|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any));
    check("extended key usage", &|p| p.extended_key_usages.truncate(1));
    check("alternative names", &|p| p.subject_alt_names.push(dns("db.acme.example")));
    check("alternative names", &|p| p.subject_alt_names.push(uri("spiffe://acme.example/node/db")));
    check("alternative names", &|p| p.subject_alt_names.truncate(1));
    check("no alternative names", &|p| p.subject_alt_names.clear());
    check("alternative names", &|p| p.subject_alt_names.swap(0, 1));
    check("DNS name", &|p| p.subject_alt_names[1] = dns("db.acme.example"));
    check("DNS name", &|p| p.subject_alt_names[1] = dns("WEB.acme.example"));
    check("DNS name", &|p| p.subject_alt_names[0] = uri("spiffe://acme.example/node/db"));
    check("unknown role", &|p| p.subject_alt_names[0] = uri("spiffe://acme.example/admin/web"));
    check("SPIFFE ID", &|p| p.subject_alt_names[0] = uri("https://acme.example/node/web"));
    check("node name", &|p| p.subject_alt_names[0] = uri("spiffe://acme.example/node/..%2f"));
    check("must not have a tunnel key", &|p| {
        p.subject_alt_names[0] = uri("spiffe://acme.example/coordinator/web");
    });
    check("subject", &|p| p.distinguished_name = DistinguishedName::new());
    check("subject", &|p| p.distinguished_name.push(DnType::CommonName, "db"));
    check("subject", &|p| p.distinguished_name.push(DnType::OrganizationName, "Acme"));
    check("serial", &|p| p.serial_number = Some(SerialNumber::from_slice(&[0x10; 17])));
    check("serial", &|p| p.serial_number = Some(SerialNumber::from_slice(&[0xff; 16])));
    check("our extension is missing", &|p| p.custom_extensions.clear());
    check("octet string", &|p| p.custom_extensions = vec![own(&[0x05, 0x00])]);
    check("our extension", &|p| p.custom_extensions = vec![own(&[0x04, 0x01, 0x80])]);
    check("twice", &|p| {
        let again = p.custom_extensions[0].clone();
        p.custom_extensions.push(again);
    });
    check("unknown extension", &|p| {
        let other = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 58888, 9], vec![0x05, 0x00]);
        p.custom_extensions.push(other);
    });
    check("validity", &|p| p.not_after = p.not_before);
}

#[test]
fn an_extension_with_an_unknown_field_or_version_is_refused() {
    let acme = deployment();
    let honest = leaf_params(&acme).custom_extensions[0].content().to_vec();
    // OCTET STRING, one length byte, array of four, version.
    let header = honest.iter().position(|byte| *byte == 0x84).unwrap();
    let check = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = honest[header..].to_vec();
        change(&mut content);
        let mut der = vec![0x04, u8::try_from(content.len()).unwrap()];
        der.extend_from_slice(&content);
        let leaf = signed_by_issuer(&acme, |params| {
            params.custom_extensions = vec![CustomExtension::from_oid_content(LEAF_OID, der.clone())];
        });
        let error = acme.refuses(&[&leaf, acme.issuer.certificate()]);
        assert!(matches!(error, VerifyError::Profile(ProfileError(_))), "{error}");
    };
    assert_eq!(honest[header + 1], 1, "the version");
    check(&|content| content[1] = 2);
    check(&|content| {
        content[0] = 0x85;
        content.push(0xf6);
    });
    check(&|content| content.push(0));
}

#[test]
fn c8_a_leaf_signed_by_the_root_itself_is_refused() {
    let acme = deployment();
    let leaf = sign(&leaf_params(&acme), &pair(NODE), ROOT, acme.authority.root_der());
    assert!(matches!(acme.refuses(&[&leaf, acme.issuer.certificate()]), VerifyError::Chain(_)));
    assert!(matches!(acme.refuses(&[&leaf, acme.authority.root_der()]), VerifyError::Chain(_)));
}

#[test]
fn c8_a_leaf_signed_by_a_node_is_refused() {
    let acme = deployment();
    let node = acme.chain();
    let leaf = sign(&leaf_params(&acme), &pair(77), NODE, node.leaf());
    assert!(matches!(acme.refuses(&[&leaf, node.leaf()]), VerifyError::Chain(_)));
}

#[test]
fn c8_an_issuer_without_limits_is_refused() {
    let acme = deployment();
    let mut params = leaf_params(&acme);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "limitless");
    params.subject_alt_names.clear();
    params.extended_key_usages.clear();
    params.custom_extensions.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = sign(&params, &pair(ISSUER), ROOT, acme.authority.root_der());
    let leaf = sign(&leaf_params(&acme), &pair(NODE), ISSUER, &issuer);
    let error = acme.refuses(&[&leaf, &issuer]);
    assert!(error.to_string().contains("our extension is missing"), "{error}");
}

#[test]
fn a_weak_subject_key_is_refused() {
    let acme = deployment();
    // The neutral point: under it, anyone signs anything.
    let mut weak = [0; 32];
    weak[0] = 1;
    let honest = acme.chain().leaf().to_vec();
    let at = honest.windows(32).position(|window| window == key(NODE).public().as_bytes()).unwrap();
    let mut leaf = honest;
    leaf[at..at + 32].copy_from_slice(&weak);
    let error = acme.refuses(&[&leaf, acme.issuer.certificate()]);
    assert!(error.to_string().contains("low order"), "{error}");
}
