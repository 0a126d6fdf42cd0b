//! Signed documents, certificates and proofs: what our keys did not sign is not believed, and what is believed is
//! within its limits.
//!
//! Documents are put in twice: as they come, where nobody but us can have signed them; and as a payload that we
//! sign, so that what lies behind the signature is reached too.

use bulkhead_identity::signed::{CONTEXT_REVOCATIONS, CONTEXT_TRUST};
use bulkhead_identity::{
    Certificate, CertificateRequest, Chain, Claims, Epoch, IdentityKey, LabelKey, LabelValue, Labels,
    NodeName, Revocations, Seal, SealedLabels, Signed, SpiffeId, Trust, TrustDocument, TrustDomain,
    TrustHash, range, verify,
};

use super::deployment::{ACME, WALL, certificate_request, challenge};

/// A trust document.
pub fn trust(data: &[u8]) -> bool {
    let held = &ACME.trust;
    if Trust::pinned(data, held.hash(), WALL).is_ok() {
        assert_eq!(data, held.bytes(), "two documents of one hash");
    }
    let untouched = Trust::stored(data, WALL);
    if untouched.is_ok() {
        assert_eq!(payload(data), payload(held.bytes()), "a document that no operator signed");
    }
    assert!(held.update(data, WALL).is_err() || data == held.bytes());

    let [one, other] = &ACME.operators;
    let signed = Signed::sign(CONTEXT_TRUST, data.to_vec(), &[one, other]).encode();
    let accepted = Trust::stored(&signed, WALL);
    if let Ok(next) = &accepted {
        assert_trust_survives(next, &signed);
    }
    if let Ok(next) = held.update(&signed, WALL) {
        let (old, new) = (held.document(), next.document());
        assert!(new.version > old.version || signed == held.bytes());
        assert_eq!(old.trust_domain, new.trust_domain);
    }
    // Two operators have to sign.
    for few in [&[one][..], &[other], &[one, one]] {
        let signed = Signed::sign(CONTEXT_TRUST, data.to_vec(), few).encode();
        assert!(held.update(&signed, WALL).is_err());
    }
    untouched.is_ok() || accepted.is_ok()
}

fn assert_trust_survives(trust: &Trust, signed: &[u8]) {
    let [one, other] = &ACME.operators;
    let document = trust.document();
    assert_eq!(document.sign(&[one, other]), signed, "two encodings of one document");
    assert_eq!((trust.bytes(), trust.hash()), (signed, TrustHash::of(signed)));
    assert!((1..=document.operator_keys.len()).contains(&usize::from(document.operator_threshold)));
    assert!((1..=document.policy_keys.len()).contains(&usize::from(document.policy_threshold)));
    assert!(!document.roots.is_empty() && trust.valid_at(WALL));
}

/// A revocation list, with the issuer that signed it.
pub fn revocations(data: &[u8]) -> bool {
    let (trust, held) = (&ACME.trust, &ACME.revocations);
    let untouched = Revocations::verify(data, trust, Epoch(0), WALL);
    if let Ok(list) = &untouched {
        assert_eq!(enveloped(data), enveloped(held.bytes()), "a list that was never signed");
        assert_eq!((list.epoch(), list.bytes()), (held.epoch(), data));
    }
    let issuer = Some(ACME.issuer.certificate());
    let speakers: [(&IdentityKey, _); 2] = [(ACME.issuer.key(), issuer), (&ACME.operators[0], None)];
    let mut accepted = false;
    for (key, issuer) in speakers {
        let Ok(list) = Revocations::verify(&envelope(data, key, issuer), trust, Epoch(0), WALL) else {
            continue;
        };
        accepted = true;
        if let Ok(next) = held.update(list.bytes(), trust, WALL) {
            assert!(next.epoch() > held.epoch() || list.bytes() == held.bytes(), "the epoch did not grow");
        }
        assert!(list.update(held.bytes(), trust, WALL).is_err() || held.epoch() >= list.epoch());
        assert!(
            Revocations::verify(list.bytes(), trust, Epoch(list.epoch().0.saturating_add(1)), WALL).is_err()
        );
    }
    for (key, issuer) in [(&ACME.policy_key, None), (&ACME.policy_key, issuer), (ACME.issuer.key(), None)] {
        assert!(Revocations::verify(&envelope(data, key, issuer), trust, Epoch(0), WALL).is_err());
    }
    untouched.is_ok() || accepted
}

/// A signed list as it travels (private to `identity::revocation`), to be made of any payload.
#[derive(minicbor::Encode, minicbor::Decode)]
struct Envelope {
    #[n(0)]
    signed: Signed,
    #[cbor(n(1), with = "minicbor::bytes")]
    issuer: Option<Vec<u8>>,
}

fn envelope(list: &[u8], key: &IdentityKey, issuer: Option<&[u8]>) -> Vec<u8> {
    let signed = Signed::sign(CONTEXT_REVOCATIONS, list.to_vec(), &[key]);
    minicbor::to_vec(Envelope { signed, issuer: issuer.map(<[u8]>::to_vec) }).unwrap()
}

pub(super) fn enveloped(bytes: &[u8]) -> Vec<u8> {
    minicbor::decode::<Envelope>(bytes).unwrap().signed.payload
}

/// One leaf certificate in DER. Beside its issuer it is valid only as it was issued, byte for byte.
pub fn certificate(data: &[u8]) -> bool {
    let parsed = Certificate::parse(data);
    if let Ok(Certificate { claims }) = &parsed {
        assert!(claims.not_before < claims.not_after);
        assert_eq!(claims.tunnel_key.is_some(), claims.id.role.is_in_overlay());
        assert_eq!(SpiffeId::parse(&claims.id.to_string()).as_ref(), Ok(&claims.id));
        if let Ok(chain) = ACME.issuer.issue(claims) {
            assert_eq!(Certificate::parse(chain.leaf()).unwrap().claims, *claims);
        }
    }
    let chain = Chain::new(vec![data.to_vec(), ACME.issuer.certificate().to_vec()]);
    let verified = chain.is_ok_and(|chain| is_verified(&chain));
    assert!(!verified || ACME.chains().iter().any(|chain| chain.leaf() == data), "a forged certificate");
    parsed.is_ok()
}

/// A certificate chain in CBOR.
pub fn chain(data: &[u8]) -> bool {
    let Ok(chain) = Chain::decode(data) else { return false };
    assert_eq!(chain.encode(), data, "two encodings of one chain");
    assert_eq!(Chain::new(chain.certificates().to_vec()).as_ref(), Ok(&chain));
    let verified = is_verified(&chain);
    assert!(!verified || ACME.chains().contains(&&chain), "a forged chain");
    verified
}

fn is_verified(chain: &Chain) -> bool {
    let Ok(identity) = verify(chain, &ACME.trust, &ACME.revocations, WALL) else { return false };
    let claims = identity.claims();
    let document = ACME.trust.document();
    assert_eq!(claims.id.trust_domain, document.trust_domain);
    assert!(identity.valid_at(WALL) && !ACME.revocations.revokes(claims));
    assert!(claims.addresses.is_none_or(|own| {
        range::contains_v6(document.overlay_v6, own.v6) && range::contains_v4(document.overlay_v4, own.v4)
    }));
    true
}

/// Sealed labels: what two operators signed over exactly this, and nothing else.
pub fn seal(data: &[u8]) -> bool {
    let Ok(seal) = Seal::decode(data) else { return false };
    assert_eq!(Seal::decode(&seal.encode()).as_ref(), Ok(&seal));
    let sealed: Vec<LabelKey> = ["env", "role"].map(|key| LabelKey::parse(key).unwrap()).into();
    let trust = TrustDocument { sealed, ..ACME.trust.document().clone() };
    let untouched = seal.verify(&trust).is_ok();
    assert!(!untouched || *seal.statement() == honest_statement(), "a seal that no operator signed");
    let [one, other] = &ACME.operators;
    let statement = seal.statement();
    for (operators, enough) in
        [(&[one, other][..], true), (&[one], false), (&[one, one], false), (&[], false)]
    {
        let signed = Seal::sign(statement, operators).unwrap();
        assert_eq!(signed.statement(), statement);
        assert_eq!(signed.verify(&trust).is_ok(), enough && statement.trust_domain == ACME.domain);
        // It confers its labels on its node, and on nobody else.
        let web = ACME.web.claims();
        let claims = Claims { seal: Some(signed), ..web.clone() };
        let is_webs = statement.name == web.id.name && statement.identity_key == web.identity_key;
        let lasting = statement.not_after >= web.not_after;
        let exact = statement.labels == trust.sealed_among(&web.labels);
        let expected = enough && statement.trust_domain == ACME.domain && is_webs && lasting && exact;
        assert_eq!(claims.check_seal(&trust).is_ok(), expected);
    }
    untouched
}

/// What the corpus seals: both labels of `web`.
pub(super) fn honest_statement() -> SealedLabels {
    let web = ACME.web.claims();
    SealedLabels {
        trust_domain: ACME.domain.clone(),
        name: web.id.name.clone(),
        identity_key: web.identity_key,
        labels: web.labels.clone(),
        not_after: web.not_after,
    }
}

/// A certificate request: only the holder of both keys answers the challenge.
pub fn request(data: &[u8]) -> bool {
    let Ok(request) = minicbor::decode::<CertificateRequest>(data) else { return false };
    let encoded = minicbor::to_vec(&request).unwrap();
    assert_eq!(minicbor::decode::<CertificateRequest>(&encoded).unwrap(), request);
    let (challenge, secret) = challenge();
    let accepted = request.verify(&challenge, &secret).is_ok();
    assert!(!accepted || request == certificate_request(), "a forged request");
    accepted
}

/// Names, labels and SPIFFE IDs: exact text, one reading, nothing that a file, a terminal or DNS misreads.
pub fn name(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let printed = [
        TrustDomain::parse(&text).ok().map(|name| name.to_string()),
        NodeName::parse(&text).ok().map(|name| name.to_string()),
        LabelKey::parse(&text).ok().map(|name| name.to_string()),
        LabelValue::parse(&text).ok().map(|name| name.to_string()),
    ];
    for name in printed.iter().flatten() {
        assert_eq!(*name, text);
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        );
        assert!(!name.starts_with(['.', '-']));
    }
    let id = SpiffeId::parse(&text).ok();
    assert!(id.as_ref().is_none_or(|id| id.to_string() == text));
    let labels = Labels::parse(&text).ok();
    if let Some(labels) = &labels {
        assert_eq!(Labels::parse(&labels.to_string()).as_ref(), Ok(labels));
    }
    id.is_some() || labels.is_some() || printed.iter().any(Option::is_some)
}

fn payload(signed: &[u8]) -> Option<Vec<u8>> {
    Signed::decode(signed).ok().map(|signed| signed.payload)
}
