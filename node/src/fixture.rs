//! A deployment in memory, for tests: all keys in one hand.

#![allow(clippy::unwrap_used)]

use crate::state::Keys;
use bulkhead_acl::{Bundle, PortSet, Rule, RuleId, RuleSet, Selector, SignedBundle, Subject};
use bulkhead_identity::certificate::Serial;
use bulkhead_identity::issue::{IssuerLimits, default_ranges};
use bulkhead_identity::{
    Authority, Chain, Claims, Epoch, Generation, IdentityKey, Issuer, Labels, NodeName, OverlayAddrs,
    RevocationList, Revocations, Role, SpiffeId, Timestamp, Trust, TrustDocument, TrustDomain, TunnelKey,
    VerifiedIdentity, verify,
};
use bulkhead_protocol::control::{MapPeer, MapSequence, PeerMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use zeroize::Zeroizing;

/// When every test takes place.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
const BEGIN: Timestamp = Timestamp(NOW.0 - 3600);
const END: Timestamp = Timestamp(NOW.0 + 86_400);
const FAR: Timestamp = Timestamp(NOW.0 + 10 * 365 * 86_400);

/// All authorities of one deployment.
pub(crate) struct Domain {
    name: TrustDomain,
    root: Vec<u8>,
    pub(crate) issuer: Issuer,
    pub(crate) operator: IdentityKey,
    pub(crate) policy: IdentityKey,
}

/// One node and its keys.
pub(crate) struct Person {
    name: NodeName,
    number: u8,
}

pub(crate) fn key(seed: u8) -> IdentityKey {
    IdentityKey::from_seed(Zeroizing::new([seed; 32]))
}

impl Domain {
    pub(crate) fn new() -> Self {
        Self::new_with(200)
    }

    /// Another deployment of the same name, under other keys.
    pub(crate) fn new_with(seed: u8) -> Self {
        let name = TrustDomain::parse("acme.example").unwrap();
        let authority = Authority::create(key(seed), &name, Serial([1; 16]), BEGIN, FAR).unwrap();
        let (v6, v4) = default_ranges(&name);
        let limits = IssuerLimits { trust_domain: name.clone(), label_keys: None, v6, v4 };
        let issuer_key = key(seed.wrapping_add(1));
        let certificate =
            authority.sign_issuer(issuer_key.public(), &limits, Serial([2; 16]), BEGIN, FAR).unwrap();
        Self {
            name,
            root: authority.root_der().to_vec(),
            issuer: Issuer::load(issuer_key, certificate).unwrap(),
            operator: key(seed.wrapping_add(2)),
            policy: key(seed.wrapping_add(3)),
        }
    }

    fn document(&self, version: u64, policy_key: &IdentityKey) -> Vec<u8> {
        self.trust_document(version, policy_key).sign(&[&self.operator])
    }

    /// What operators sign.
    pub(crate) fn trust_document(&self, version: u64, policy_key: &IdentityKey) -> TrustDocument {
        let (overlay_v6, overlay_v4) = default_ranges(&self.name);
        TrustDocument {
            version: Epoch(version),
            trust_domain: self.name.clone(),
            roots: vec![self.root.clone()],
            operator_keys: vec![self.operator.public()],
            operator_threshold: 1,
            policy_keys: vec![policy_key.public()],
            policy_threshold: 1,
            sealed: Vec::new(),
            overlay_v6,
            overlay_v4,
            issued: BEGIN,
            expires: FAR,
        }
    }

    pub(crate) fn trust(&self, version: u64) -> Trust {
        Trust::stored(&self.document(version, &self.policy), NOW).unwrap()
    }

    pub(crate) fn trust_without_policy_key(&self, version: u64) -> Vec<u8> {
        self.document(version, &key(99))
    }

    /// `later` makes a second content for one generation.
    pub(crate) fn policy(&self, generation: u64, later: u64) -> Vec<u8> {
        let expires = Timestamp(FAR.0 + later);
        Bundle { expires, ..self.bundle(generation, RuleSet::default()) }.whole_slice(&[&self.policy])
    }

    /// A policy by whoever has these keys.
    pub(crate) fn policy_by(&self, generation: u64, keys: &[&IdentityKey]) -> Vec<u8> {
        self.bundle(generation, RuleSet::default()).whole_slice(keys)
    }

    /// What `subject` gets of a generation in which a rule lets each of `roles` talk to its like.
    pub(crate) fn slice(&self, generation: u64, roles: &[&str], subject: &Subject) -> Vec<u8> {
        let rule = |role: &&str| {
            let alike = Selector::parse(&format!("role={role}")).unwrap();
            Rule {
                id: RuleId((*role).into()),
                from: alike.clone(),
                to: alike,
                related: Vec::new(),
                ports: PortSet::parse("any").unwrap(),
                not_before: None,
                until: None,
                hours: Vec::new(),
                file: "main.toml".into(),
                line: 1,
            }
        };
        let rules = RuleSet::new(roles.iter().map(rule).collect(), Vec::new());
        let bytes = self.bundle(generation, rules).sign(&[&self.policy]);
        SignedBundle::verify(&bytes, &self.trust(1), Generation(0), NOW).unwrap().slice(subject)
    }

    fn bundle(&self, generation: u64, rules: RuleSet) -> Bundle {
        Bundle {
            trust_domain: self.name.clone(),
            generation: Generation(generation),
            not_before: BEGIN,
            expires: FAR,
            rules,
            seed: [7; 32],
        }
    }

    pub(crate) fn revocations(&self, epoch: u64, serials: &[Serial]) -> Vec<u8> {
        let list =
            RevocationList { epoch: Epoch(epoch), issued: NOW, serials: serials.to_vec(), keys: Vec::new() };
        list.sign(self.issuer.key(), Some(self.issuer.certificate()))
    }

    /// The node's certificate number `edition`; a later one begins later.
    pub(crate) fn chain(&self, person: &Person, edition: u8) -> Chain {
        self.chain_until(person, edition, END)
    }

    /// The same, with this end.
    pub(crate) fn chain_until(&self, person: &Person, edition: u8, not_after: Timestamp) -> Chain {
        let (v6, v4) = default_ranges(&self.name);
        let keys = person.keys();
        let host = 9 + u32::from(person.number);
        let claims = Claims {
            id: SpiffeId { trust_domain: self.name.clone(), role: Role::Node, name: person.name.clone() },
            identity_key: keys.identity.public(),
            tunnel_key: Some(keys.tunnel.public()),
            addresses: Some(OverlayAddrs {
                v6: Ipv6Addr::from(u128::from(v6.0) | u128::from(host)),
                v4: Ipv4Addr::from(u32::from(v4.0) | host),
            }),
            labels: Labels::default(),
            serial: person.serial(edition),
            not_before: Timestamp(BEGIN.0 + u64::from(edition)),
            not_after,
            seal: None,
            binding: None,
        };
        self.issuer.issue(&claims).unwrap()
    }

    pub(crate) fn verified(&self, person: &Person) -> VerifiedIdentity {
        verify(&self.chain(person, 1), &self.trust(1), &Revocations::default(), NOW).unwrap()
    }

    pub(crate) fn map(&self, sequence: u64, peers: &[&Person]) -> PeerMap {
        let entry = |person: &&Person| {
            let chain = self.chain(person, 1);
            (
                person.name.clone(),
                Arc::new(MapPeer { name: person.name.clone(), chain, endpoints: Vec::new() }),
            )
        };
        PeerMap { sequence: MapSequence(sequence), peers: peers.iter().map(entry).collect() }
    }
}

impl Person {
    pub(crate) fn new(name: &str, number: u8) -> Self {
        Self { name: NodeName::parse(name).unwrap(), number }
    }

    pub(crate) fn serial(&self, edition: u8) -> Serial {
        let mut serial = [0; 16];
        serial[0] = 1;
        serial[14] = self.number;
        serial[15] = edition;
        Serial(serial)
    }

    pub(crate) fn keys(&self) -> Keys {
        let tunnel = TunnelKey::from_bytes(Zeroizing::new([self.number; 32]));
        Keys { identity: key(self.number), tunnel }
    }
}
