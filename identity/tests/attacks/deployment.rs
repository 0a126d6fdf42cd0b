//! One deployment with known keys: root, issuer, two operators, and whatever a test makes of them.

use bulkhead_identity::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use zeroize::Zeroizing;

pub(crate) const START: Timestamp = Timestamp(1_795_000_000);
pub(crate) const NOW: Timestamp = Timestamp(START.0 + 3_600);
pub(crate) const END: Timestamp = Timestamp(START.0 + 24 * 3_600);
/// Certificates of CAs and the trust document.
pub(crate) const FAR: Timestamp = Timestamp(START.0 + 10 * 365 * 24 * 3_600);

pub(crate) fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

pub(crate) fn tunnel_key(seed: u8) -> TunnelKey {
    TunnelKey::from_bytes(Zeroizing::new([seed; 32]))
}

/// What a node signs when it asks for a certificate.
pub(crate) fn binding(identity: &IdentityKey, tunnel: &TunnelKey) -> KeyBinding {
    let (challenge, challenge_key) = (Challenge([5; 32]), ChallengeKey(*tunnel_key(6).public().as_bytes()));
    let request = CertificateRequest::create(identity, tunnel, &challenge, &challenge_key);
    request.binding(&challenge, &challenge_key)
}

pub(crate) fn serial(number: u8) -> Serial {
    Serial([number; 16])
}

pub(crate) fn domain(text: &str) -> TrustDomain {
    TrustDomain::parse(text).unwrap()
}

pub(crate) fn labels(text: &str) -> Labels {
    Labels::parse(text).unwrap()
}

pub(crate) const ROOT: u8 = 1;
pub(crate) const ISSUER: u8 = 2;
pub(crate) const OPERATORS: [u8; 2] = [3, 4];
pub(crate) const POLICY: u8 = 5;
pub(crate) const NODE: u8 = 6;

/// Everything a test needs to make and judge certificates.
pub(crate) struct Deployment {
    pub(crate) domain: TrustDomain,
    pub(crate) authority: Authority,
    pub(crate) issuer: Issuer,
    pub(crate) trust: Trust,
}

pub(crate) fn deployment() -> Deployment {
    deployment_of("acme.example", ROOT, ISSUER)
}

pub(crate) fn deployment_of(name: &str, root: u8, issuer: u8) -> Deployment {
    let domain = domain(name);
    let authority = Authority::create(key(root), &domain, serial(0x70), START, FAR).unwrap();
    let issuer = issuer_with(&authority, issuer, &limits(&domain));
    let document = document(&domain, &authority);
    let bytes = document.sign(&[&key(OPERATORS[0]), &key(OPERATORS[1])]);
    let trust = Trust::pinned(&bytes, TrustHash::of(&bytes), NOW).unwrap();
    Deployment { domain, authority, issuer, trust }
}

pub(crate) fn document(domain: &TrustDomain, authority: &Authority) -> TrustDocument {
    let (overlay_v6, overlay_v4) = issue::default_ranges(domain);
    TrustDocument {
        version: Epoch(1),
        trust_domain: domain.clone(),
        roots: vec![authority.root_der().to_vec()],
        operator_keys: OPERATORS.map(|seed| key(seed).public()).to_vec(),
        operator_threshold: 2,
        policy_keys: vec![key(POLICY).public()],
        policy_threshold: 1,
        sealed: Vec::new(),
        overlay_v6,
        overlay_v4,
        issued: START,
        expires: FAR,
    }
}

pub(crate) fn limits(domain: &TrustDomain) -> IssuerLimits {
    let (v6, v4) = issue::default_ranges(domain);
    IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 }
}

pub(crate) fn issuer_with(authority: &Authority, seed: u8, limits: &IssuerLimits) -> Issuer {
    let der = authority.sign_issuer(key(seed).public(), limits, serial(0x71), START, FAR).unwrap();
    Issuer::load(key(seed), der).unwrap()
}

impl Deployment {
    /// A node's claims, `web` with two labels.
    pub(crate) fn claims(&self) -> Claims {
        Claims {
            id: SpiffeId {
                trust_domain: self.domain.clone(),
                role: Role::Node,
                name: NodeName::parse("web").unwrap(),
            },
            identity_key: key(NODE).public(),
            tunnel_key: Some(tunnel_key(NODE).public()),
            addresses: Some(self.addresses(10)),
            labels: labels("env=prod,role=web"),
            serial: serial(0x10),
            not_before: START,
            not_after: END,
            seal: None,
            binding: None,
        }
    }

    pub(crate) fn coordinator_claims(&self) -> Claims {
        let id = SpiffeId { role: Role::Coordinator, ..self.claims().id };
        Claims {
            id,
            tunnel_key: None,
            binding: None,
            addresses: None,
            labels: Labels::default(),
            ..self.claims()
        }
    }

    /// The overlay addresses of node number `index`.
    pub(crate) fn addresses(&self, index: u32) -> OverlayAddrs {
        let (v6, v4) = issue::default_ranges(&self.domain);
        OverlayAddrs {
            v6: Ipv6Addr::from(v6.0.to_bits() + u128::from(index)),
            v4: Ipv4Addr::from(v4.0.to_bits() + index),
        }
    }

    pub(crate) fn chain(&self) -> Chain {
        self.issuer.issue(&self.claims()).unwrap()
    }

    pub(crate) fn verify(&self, chain: &Chain) -> Result<VerifiedIdentity, VerifyError> {
        verify(chain, &self.trust, &Revocations::default(), NOW)
    }

    /// The chain that a rogue shows: this leaf, with these certificates beside it.
    pub(crate) fn refuses(&self, certificates: &[&[u8]]) -> VerifyError {
        let chain = Chain::new(certificates.iter().copied()).unwrap();
        self.verify(&chain).unwrap_err()
    }
}
