//! A deployment whose policies need two of three keys, and its nodes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bulkhead_acl::{Bundle, Direction, Permit, Policy, RuleSet, Service, Sources, Verdict, check};
use bulkhead_identity::{
    Authority, Claims, Epoch, Generation, IdentityKey, Issuer, Labels, NodeName, OverlayAddrs, Revocations,
    Role, SpiffeId, Timestamp, Trust, TrustDocument, TrustDomain, TrustHash, TunnelKey, VerifiedIdentity,
    certificate::Serial,
    issue::{IssuerLimits, Seed, default_ranges},
    verify,
};

pub(crate) const START: Timestamp = Timestamp(1_795_000_000);
pub(crate) const NOW: Timestamp = Timestamp(START.0 + 3_600);
pub(crate) const END: Timestamp = Timestamp(START.0 + 24 * 3_600);
pub(crate) const FAR: Timestamp = Timestamp(START.0 + 10 * 365 * 24 * 3_600);

pub(crate) fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Seed::new([seed; 32]))
}

pub(crate) const POLICY_KEYS: [u8; 3] = [10, 11, 12];

/// A deployment whose policies need two of three keys.
pub(crate) struct Deployment {
    pub(crate) domain: TrustDomain,
    pub(crate) issuer: Issuer,
    pub(crate) trust: Trust,
}

pub(crate) fn deployment(name: &str) -> Deployment {
    let domain = TrustDomain::parse(name).unwrap();
    let authority = Authority::create(key(1), &domain, Serial([0x70; 16]), START, FAR).unwrap();
    let (v6, v4) = default_ranges(&domain);
    let limits = IssuerLimits { trust_domain: domain.clone(), label_keys: None, v6, v4 };
    let issuer_der = authority.sign_issuer(key(2).public(), &limits, Serial([0x71; 16]), START, FAR).unwrap();
    let issuer = Issuer::load(key(2), issuer_der).unwrap();
    let document = TrustDocument {
        version: Epoch(1),
        trust_domain: domain.clone(),
        roots: vec![authority.root_der().to_vec()],
        operator_keys: vec![key(3).public()],
        operator_threshold: 1,
        policy_keys: POLICY_KEYS.map(|seed| key(seed).public()).to_vec(),
        policy_threshold: 2,
        sealed: Vec::new(),
        overlay_v6: v6,
        overlay_v4: v4,
        issued: START,
        expires: FAR,
    };
    let bytes = document.sign(&[&key(3)]);
    let trust = Trust::pinned(&bytes, TrustHash::of(&bytes), NOW).unwrap();
    Deployment { domain, issuer, trust }
}

impl Deployment {
    pub(crate) fn identity(&self, number: u8, role: Role, name: &str, labels: &str) -> VerifiedIdentity {
        let in_overlay = role == Role::Node;
        let ((v6, _), _) = default_ranges(&self.domain);
        let mut octets = v6.octets();
        octets[15] = number;
        let addresses = OverlayAddrs { v6: Ipv6Addr::from(octets), v4: Ipv4Addr::new(100, 64, 0, number) };
        let claims = Claims {
            id: SpiffeId { trust_domain: self.domain.clone(), role, name: NodeName::parse(name).unwrap() },
            identity_key: key(100 + number).public(),
            tunnel_key: in_overlay.then(|| TunnelKey::from_bytes(Seed::new([100 + number; 32])).public()),
            addresses: in_overlay.then_some(addresses),
            labels: Labels::parse(labels).unwrap(),
            serial: Serial([number; 16]),
            not_before: START,
            not_after: END,
            seal: None,
            binding: None,
        };
        let chain = self.issuer.issue(&claims).unwrap();
        verify(&chain, &self.trust, &Revocations::default(), NOW).unwrap()
    }

    pub(crate) fn node(&self, number: u8, name: &str, labels: &str) -> VerifiedIdentity {
        self.identity(number, Role::Node, name, labels)
    }

    pub(crate) fn bundle(&self, generation: u64, text: &str) -> Bundle {
        Bundle {
            trust_domain: self.domain.clone(),
            generation: Generation(generation),
            not_before: START,
            expires: END,
            rules: rules(text),
            seed: [5; 32],
        }
    }

    /// What a node gets that every rule concerns.
    pub(crate) fn signed(&self, generation: u64, text: &str) -> Vec<u8> {
        self.bundle(generation, text).whole_slice(&[&key(POLICY_KEYS[0]), &key(POLICY_KEYS[1])])
    }

    pub(crate) fn policy(&self, text: &str) -> Policy {
        Policy::verify(&self.signed(1, text), &self.trust, Generation(0), NOW).unwrap()
    }

    /// Why these bytes are refused at NOW by a node that has seen generation 5.
    pub(crate) fn refusal(&self, bytes: &[u8]) -> String {
        Policy::verify(bytes, &self.trust, Generation(5), NOW).unwrap_err().to_string()
    }
}

pub(crate) fn rules(text: &str) -> RuleSet {
    let text = format!("version = 1\n{text}");
    let checked = check(&Sources(BTreeMap::from([("policy.toml".to_owned(), text)])), NOW);
    checked.unwrap_or_else(|errors| panic!("{}", errors[0])).rules
}

pub(crate) const WEB_TO_DB: &str = r#"
[[allow]]
id = "web-to-db"
from = "role=web"
to = "role=db"
ports = ["tcp/5432", "icmp"]

[[never]]
id = "no-ping"
from = "*"
to = "role=db"
ports = ["icmp"]
"#;

pub(crate) fn allowed(permit: &Permit, direction: Direction, service: Service, wall: Timestamp) -> bool {
    permit.verdict(direction, service, wall) != Verdict::Deny
}
