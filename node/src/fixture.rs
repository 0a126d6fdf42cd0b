//! A deployment in memory, for tests: all keys in one hand.

#![allow(clippy::unwrap_used)]

use crate::state::Keys;
use bulkhead_acl::{Bundle, RuleSet};
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
    issuer: Issuer,
    operator: IdentityKey,
    policy: IdentityKey,
}

/// One node and its keys.
pub(crate) struct Person {
    name: NodeName,
    number: u8,
}

fn key(seed: u8) -> IdentityKey {
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
        let (overlay_v6, overlay_v4) = default_ranges(&self.name);
        let document = TrustDocument {
            version: Epoch(version),
            trust_domain: self.name.clone(),
            roots: vec![self.root.clone()],
            operator_keys: vec![self.operator.public()],
            operator_threshold: 1,
            policy_keys: vec![policy_key.public()],
            policy_threshold: 1,
            overlay_v6,
            overlay_v4,
            issued: BEGIN,
            expires: FAR,
        };
        document.sign(&[&self.operator])
    }

    pub(crate) fn trust(&self, version: u64) -> Trust {
        Trust::stored(&self.document(version, &self.policy), NOW).unwrap()
    }

    pub(crate) fn trust_without_policy_key(&self, version: u64) -> Vec<u8> {
        self.document(version, &key(99))
    }

    /// `later` makes a second content for one generation.
    pub(crate) fn policy(&self, generation: u64, later: u64) -> Vec<u8> {
        let bundle = Bundle {
            trust_domain: self.name.clone(),
            generation: Generation(generation),
            not_before: BEGIN,
            expires: Timestamp(FAR.0 + later),
            rules: RuleSet::default(),
        };
        bundle.sign(&[&self.policy])
    }

    pub(crate) fn revocations(&self, epoch: u64, serials: &[Serial]) -> Vec<u8> {
        let list =
            RevocationList { epoch: Epoch(epoch), issued: NOW, serials: serials.to_vec(), keys: Vec::new() };
        list.sign(self.issuer.key(), Some(self.issuer.certificate()))
    }

    /// The node's certificate number `edition`; a later one begins later.
    pub(crate) fn chain(&self, person: &Person, edition: u8) -> Chain {
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
            not_after: END,
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
